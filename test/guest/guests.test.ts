// Goal: the guests' binaries are what their sources say.
// Method: where an A64 assembler is installed, assembles each source again and compares.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { missing, program, programVersion } from "../../tools/debian.mjs";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));
const PREFIX = "aarch64-linux-gnu-";
const endingWith = (suffix: string) =>
  [...readdirSync(FOLDER), ...readdirSync(join(FOLDER, "linux")).map((file) => join("linux", file))]
    .filter((file) => file.endsWith(suffix))
    .sort();
const sources = endingWith(".S");

describe("guests", () => {
  it("have a source and a binary each", () => {
    expect(endingWith(".bin").map((file) => file.replace(".bin", ".S"))).toEqual(sources);
    expect(sources.length).toBeGreaterThan(0);
  });

  const assembler = `${PREFIX}as`;
  if (programVersion(assembler) === null) {
    it("are not assembled", (context) => context.skip(missing(assembler)));
    return;
  }
  it.each(sources)("%s is assembled into its binary", (source) => {
    const work = mkdtempSync(join(tmpdir(), "tidemark-guest-"));
    try {
      const object = join(work, "guest.o");
      const flat = join(work, "guest.bin");
      const steps = [
        ["as", "-o", object, join(FOLDER, source)],
        ["objcopy", "-O", "binary", object, flat],
      ] as const;
      for (const [tool, ...args] of steps) {
        const { status, stderr } = spawnSync(program(`${PREFIX}${tool}`), args);
        expect([status, stderr.toString()]).toEqual([0, ""]);
      }
      const wanted = readFileSync(join(FOLDER, source.replace(".S", ".bin")));
      expect(readFileSync(flat).equals(wanted)).toBe(true);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
});
