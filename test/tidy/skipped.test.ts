// Goal: no test is skipped in silence: `npm test` names it and says why.
// Method: a run of Vitest over a file with one test that passes and one that skips itself.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SKIPPED_FILE } from "../../tools/skipped.mjs";
import { ROOT } from "./tree.js";

const TESTS = `
describe("guests", () => {
  it("run", () => {});
  it("are assembled", (context) => context.skip("no assembler"));
});`;

it("the reporter writes a skipped test's file, name and reason", () => {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-skipped-"));
  try {
    const list = join(folder, "skipped.txt");
    writeFileSync(join(folder, "some.test.mjs"), TESTS);
    const reporter = `--reporter=${join(ROOT, "tools/skipped.mjs")}`;
    const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
    const run = spawnSync(process.execPath, [vitest, "run", "--globals", reporter], {
      cwd: folder,
      env: { ...process.env, [SKIPPED_FILE]: list },
      encoding: "utf8",
    });
    expect(run.status, run.stderr).toBe(0);
    const lines = readFileSync(list, "utf8").split("\n");
    expect(lines).toEqual(["some.test.mjs > guests > are assembled: no assembler"]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
