// Goal: random blocks do the same in both tiers, however they are sliced and translated.
// Method: a short form of `npm run differential`, a new seed for each row; and defects planted in
// tier 1 alone, each of which the same comparison must find.
import { describe, expect, it } from "vitest";
import { runCampaign } from "./campaign.js";
import { GROUPS } from "./groups.table.js";
import { PLANTS, plantedDecoder } from "./plants.table.js";
import { failureLines } from "./report.js";

const INSTRUCTIONS = 30_000;

describe("random blocks", () => {
  it("agree in both tiers", () => {
    const seed = 20_261n;
    const totals = runCampaign({ seed, instructions: INSTRUCTIONS }, () => {});
    const { failure } = totals;
    expect(failure, failure === null ? "" : failureLines(failure, seed).join("\n")).toBe(null);
    expect(totals.instructions).toBeGreaterThanOrEqual(INSTRUCTIONS);
    expect(totals.inTier1).toBeGreaterThan(INSTRUCTIONS / 5);
    expect(totals.events).toBeGreaterThan(10);
    expect([...totals.groups.keys()]).toEqual(
      expect.arrayContaining(["branch", "dp-imm", "dp-reg", "ldst", "simd-same", "fp-scalar"]),
    );
    expect([...totals.groups.keys()].length).toBeGreaterThan(GROUPS.length / 2);
  });

  it("are the same for a seed", () => {
    const run = () => runCampaign({ seed: 7n, instructions: 2000 }, () => {});
    const [first, second] = [run(), run()];
    expect(second.instructions).toBe(first.instructions);
    expect(second.inTier1).toBe(first.inTier1);
    expect(second.groups).toEqual(first.groups);
  });
});

describe("a planted defect", () => {
  it.each(PLANTS.map((plant) => [plant.name, plant] as const))("%s is found", (_, plant) => {
    const decoder = plantedDecoder(plant);
    const { failure } = runCampaign({ seed: 1n, instructions: 60_000, decoder }, () => {});
    expect(failure).not.toBe(null);
    expect(failure?.differences.length).toBeGreaterThan(0);
    expect(failure?.smallDifferences.length).toBeGreaterThan(0);
  });
});
