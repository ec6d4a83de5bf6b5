// Goal: golden vectors of single instructions and blocks hold in both tiers.
// Method: our own few always, and every nth line of the recordings where these lie beside the
// project; `npm run vectors -- DIR…` runs all lines.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { report, runFile, TIERS, vectorFiles } from "./suite.js";

const OWN = fileURLToPath(new URL("./own", import.meta.url));
const RECORDED = fileURLToPath(new URL("../../../shared/oracle/a64", import.meta.url));
/** VECTORS_EVERY=1 runs every line. */
const EVERY = Number(process.env["VECTORS_EVERY"] ?? 10);

describe.each([
  ["own", OWN, 1],
  ["recorded", RECORDED, EVERY],
] as const)("%s", (_, directory, every) => {
  const files = existsSync(directory) ? vectorFiles([directory]) : [];
  // The recordings are no part of the project; where they are missing, the report says so.
  if (files.length === 0) {
    it(`has none at ${directory}`, (context) => context.skip("no recordings beside the project"));
    return;
  }
  it.each(files.map((file) => [file.split("/").at(-1)!, file]))("%s", async (_name, file) => {
    for (const tier of TIERS) {
      const result = await runFile(tier, file, { every });
      expect(result.failed, [tier, ...report(result)].join("\n")).toBe(0);
      expect(result.passed + result.skipped).toBeGreaterThan(0);
    }
  });
});
