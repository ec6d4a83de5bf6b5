// Goal: a VM under a choice that loses pages says how many, and says none under one that is late.
// Method: the VM's shadow runs beside the oracle; both count at each rest, with slots that stay.
import { describe, expect, it } from "vitest";
import { modesNamed } from "./campaign.js";
import type { Pins } from "./hardware/draw.js";
import { plantByName } from "./plants/index.js";
import { type RunResult, runOne } from "./simulation.js";

const SEEDS = 40;

function runs(modeName: string, pins: Pins, plant: string | null): RunResult[] {
  const [mode] = modesNamed(modeName);
  return Array.from({ length: SEEDS }, (_, n) =>
    runOne({
      mode: mode!,
      seed: n + 1,
      pageSize: null,
      plant: plant === null ? null : (plantByName(plant) ?? null),
      pairs: null,
      isReplayed: false,
      isTold: true,
      row: { pins },
    }),
  );
}

const told = (result: RunResult) => result.events["lostPages"] ?? 0;

describe("a defect that loses pages", () => {
  it.each<[string, string, Pins]>([
    ["seed-B14", "hdbss-legacy-software", { faults: ["hdbss-append-abort"] }],
    ["seed-B5", "hdbss-legacy-software", { faults: [] }],
    ["seed-D5", "hdbss-legacy-poll", { faults: ["hacdbs-structf"] }],
  ])("%s in %s: the VM tells of every page that the oracle misses", (plant, mode, pins) => {
    const results = runs(mode, pins, plant);
    // The VM also counts at rests in between, where the oracle may find a page stored to again.
    for (const result of results) {
      expect(told(result)).toBeGreaterThanOrEqual(result.counts.lostPages);
    }
    expect(results.filter((result) => told(result) > 0).length).toBeGreaterThan(2);
  });
});

describe("a choice that is late or costs an errno", () => {
  it.each<[string, Record<string, string>]>([
    ["hdbss-legacy-software", { "hdbss.error": "efault" }],
    ["hdbss-legacy-poll", { "hdbss.sync": "request-nowait" }],
    ["hdbss-legacy-software", { "hdbss.stop": "kick-only" }],
  ])("%s with %o: nobody counts a lost page", (mode, settings) => {
    const results = runs(mode, { settings }, null);
    expect(results.map(({ failure }) => failure).filter((why) => why !== null)).toEqual([]);
    expect(results.map(told).filter((count) => count > 0)).toEqual([]);
  });
});
