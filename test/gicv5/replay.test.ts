// Goal: our GICv5 answers as a live one did, step by step.
// Method: by functions called, and by instructions that a PE decodes; a few recordings that are
// committed here always, and all of them where they lie beside the project; `npm run gicv5 -- DIR…`
// replays others. What a recording says isn't to be compared is counted, and little.
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { recordings, replay } from "./replay.js";

const COMMITTED = fileURLToPath(new URL("./recordings", import.meta.url));
const BESIDE = fileURLToPath(new URL("../../../shared/oracle/gicv5", import.meta.url));
/** Steps of all recordings that may go uncompared, in percent. */
const SKIPPED_MAX = 10;

describe.each([
  ["committed", COMMITTED],
  ["beside the project", BESIDE],
] as const)("%s", (_, directory) => {
  const files = existsSync(directory) ? recordings([directory]) : [];
  // Those beside the project are no part of it; where they are missing, the report says so.
  if (files.length === 0) {
    it(`has none at ${directory}`, (context) => context.skip("no recordings beside the project"));
    return;
  }
  it.each(files.map((file) => [basename(file), file]))("%s", (_name, file) => {
    for (const way of ["calls", "instructions"] as const) {
      const { compared, failures, skipped } = replay(file, way);
      const left = Object.values(skipped).reduce((sum, count) => sum + count, 0);
      expect(failures, way).toEqual([]);
      expect(compared).toBeGreaterThan(0);
      expect((100 * left) / (left + compared)).toBeLessThan(SKIPPED_MAX);
    }
  });
});

describe("the replay", () => {
  it("sees an answer that differs", () => {
    const file = recordings([COMMITTED]).find((name) => name.includes("probe-spi-level"))!;
    const changed = replay(file, "calls", (line) => line.replace('"0x4036"', '"0x4037"'));
    expect(changed.failures.length).toBeGreaterThan(0);
  });
});
