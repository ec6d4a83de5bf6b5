// Goal: exactly one copy of a VM runs, and no page is forgotten, whatever goes wrong on its way.
// Method: a short `npm run sim -- --mode migration`: two hosts in this thread, faults by seed and
// at every place that there is, and defects that must be seen.
import { describe, expect, it } from "vitest";
import {
  catchMigrationPlant,
  noMigrations,
  runEveryNth,
  runSeeds,
  WAYS,
} from "./migration/campaign.js";
import { FAULT_KINDS } from "./migration/faults.table.js";
import { MIGRATION_PLANTS } from "./migration/plants.js";

const SEEDS = 200;
const BOARDS = 20;
const STREAMS = 30;
/** Found by few seeds, so that it costs little; `npm run sim` plants all. */
const QUICK = [
  "commit-not-repeated",
  "cut-forgets-pages",
  "death-unnoticed",
  "demanded-page-forgotten",
  "hold-left",
  "impatient-target",
  "last-harvest-dropped",
  "newer-page-overwritten",
  "postcopy-ends-early",
  "postcopy-released-early",
  "push-skips-a-page",
  "restart-forgets-ready",
  "round-forgotten",
  "stale-pages-kept",
  "tables-dropped",
  "tables-late",
  "undecided-is-released",
];

describe("two hosts and a migration between them", () => {
  it("end with one running copy, for any seed", { timeout: 120_000 }, async () => {
    const totals = noMigrations();
    await runSeeds(totals, { first: 1, count: SEEDS, step: 1 });
    expect(totals.failures).toEqual([]);
    expect(totals.runs).toBe(SEEDS);
    // A simulation in which nothing happens would pass too.
    expect(totals.moved).toBeGreaterThan(SEEDS / 3);
    expect(totals.stayed).toBeGreaterThan(SEEDS / 10);
    expect(totals.lost).toBeGreaterThan(0);
    expect(totals.rounds).toBeGreaterThan(SEEDS * 2);
    expect(totals.steps).toBeGreaterThan(SEEDS * 100);
  });

  it("end with one running board, whose guest misses no stamp", { timeout: 240_000 }, async () => {
    const totals = noMigrations();
    await runSeeds(totals, { first: 1, count: BOARDS, step: 1 }, "board");
    expect(totals.failures).toEqual([]);
    expect(totals.moved).toBeGreaterThan(BOARDS / 4);
    // The second migration of each comes on top.
    expect(totals.handOvers).toBeGreaterThan(BOARDS);
  });

  it("end with one running copy, over the real page stream", { timeout: 120_000 }, async () => {
    const totals = noMigrations();
    await runSeeds(totals, { first: 1, count: STREAMS, step: 1 }, "stream");
    expect(totals.failures).toEqual([]);
    expect(totals.moved).toBeGreaterThan(STREAMS / 4);
    expect(totals.stayed).toBeGreaterThan(0);
  });

  it.each(WAYS)(
    "end with one running copy wherever a fault strikes: $name",
    { timeout: 120_000 },
    async (way) => {
      const totals = noMigrations();
      await runEveryNth(totals, way);
      expect(totals.failures).toEqual([]);
      expect(Object.keys(totals.byKind).sort()).toEqual([...FAULT_KINDS].sort());
      expect(totals.runs).toBeGreaterThan(100);
    },
  );
});

describe("a defect planted into a migration", () => {
  it("has a name of its own", () => {
    const names = MIGRATION_PLANTS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(QUICK.filter((name) => !names.includes(name))).toEqual([]);
  });

  it.each(QUICK)("is caught: %s", { timeout: 120_000 }, async (name) => {
    const plant = MIGRATION_PLANTS.find((row) => row.name === name);
    if (plant === undefined) throw new Error(`no plant ${name}`);
    const { seed, withoutPlant } = await catchMigrationPlant(plant);
    expect(seed).not.toBeNull();
    expect(withoutPlant).toBeNull();
  });
});
