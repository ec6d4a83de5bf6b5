// Many interleavings, one after the other: over all modes and a range of seeds, or one plant after
// the other until each is caught.
import type { PageSize } from "../../src/base/page.js";
import { DIRTY_MODES, MODES, type Mode } from "./modes.table.js";
import type { OracleCounts } from "./oracle/oracle.js";
import type { Pairs } from "./pairs.js";
import { plantByName } from "./plants/index.js";
import { PLANT_SEEDS_MAX, PLANTS, type PlantRow } from "./plants.table.js";
import { runOne } from "./simulation.js";

/** Every n-th interleaving is run again from its recorded commands. */
const REPLAY_EVERY = 17;
/** The same with guest code, which is then translated at other moments. */
const REPLAY_GUESTS_EVERY = 7;

export interface Failure {
  readonly mode: string;
  readonly seed: number;
  readonly pageSize: PageSize | null;
  readonly why: string;
}

export interface ModeTotals extends OracleCounts {
  interleavings: number;
  replays: number;
  steps: number;
  accesses: number;
  milliseconds: number;
  /** Commands, store slices apart: what the client and its vCPUs asked for. */
  operations: number;
  /** Injected faults that hit. */
  faults: number;
  /** Entries that HDBSS appended, and leaves that HACDBS cleaned. */
  appends: number;
  cleaned: number;
  /** Pages of other bytes than the client's copy, when they were acquired. */
  changed: number;
}

export interface Campaign {
  readonly modes: readonly Mode[];
  readonly firstSeed: number;
  /** Interleavings over all modes. */
  readonly count: number;
  readonly pageSize: PageSize | null;
  /** This part of `of` does every of-th interleaving. */
  readonly part: number;
  readonly of: number;
  /** Nothing new begins after this moment, on the clock of `nowMs`. */
  readonly endMs: number;
  readonly nowMs: () => number;
  /** Ends when so many injected faults have hit; infinite where their number is all the same. */
  readonly faultsWanted: number;
}

export interface CampaignResult {
  readonly totals: Map<string, ModeTotals>;
  readonly failures: Failure[];
}

export function newTotals(): ModeTotals {
  return {
    interleavings: 0,
    replays: 0,
    steps: 0,
    accesses: 0,
    milliseconds: 0,
    operations: 0,
    faults: 0,
    appends: 0,
    cleaned: 0,
    changed: 0,
    stores: 0,
    acquired: 0,
    falsePositives: 0,
    lostPages: 0,
    ambiguous: 0,
    comparisons: 0,
  };
}

export function addTotals(to: ModeTotals, more: Partial<Record<keyof ModeTotals, number>>): void {
  for (const key of Object.keys(to) as (keyof ModeTotals)[]) to[key] += more[key] ?? 0;
}

/** @returns the modes of a name, all for "all"; none for a name that does not exist */
export function modesNamed(name: string): readonly Mode[] {
  if (name === "dirty-hardware") return DIRTY_MODES;
  return MODES.filter((mode) => name === "all" || mode.name === name);
}

export function runCampaign(campaign: Campaign, pairs: Pairs): CampaignResult {
  const { modes, firstSeed, count, pageSize, nowMs } = campaign;
  const totals = new Map<string, ModeTotals>();
  const failures: Failure[] = [];
  let hits = 0;
  for (let n = campaign.part; n < count && nowMs() < campaign.endMs; n += campaign.of) {
    const mode = modes[n % modes.length]!;
    const seed = firstSeed + Math.floor(n / modes.length);
    const isReplayed = n % (mode.hasGuests ? REPLAY_GUESTS_EVERY : REPLAY_EVERY) === 0;
    const start = nowMs();
    const result = runOne({ mode, seed, pageSize, plant: null, pairs, isReplayed });
    if (result.failure !== null) {
      failures.push({ mode: mode.name, seed, pageSize, why: result.failure });
    }
    let total = totals.get(mode.name);
    if (total === undefined) {
      total = newTotals();
      totals.set(mode.name, total);
    }
    const { steps, accesses, counts, commands: operations, faults, events } = result;
    const appends = events["hdbssAppends"] ?? 0;
    const cleaned = events["hacdbsCleaned"] ?? 0;
    const milliseconds = nowMs() - start;
    const replays = isReplayed ? 1 : 0;
    const hardware = { operations, faults, appends, cleaned };
    const run = { interleavings: 1, replays, steps, accesses, milliseconds };
    addTotals(total, { ...counts, ...hardware, ...run });
    hits += faults;
    if (hits >= campaign.faultsWanted) break;
  }
  return { totals, failures };
}

export interface PlantResult {
  readonly name: string;
  readonly mode: string;
  /** Seeds that it took; null for a survivor. */
  readonly seeds: number | null;
  readonly why: string;
  /** Set when the same seeds fail without the plant too: then the catch proves nothing. */
  readonly withoutPlant: string | null;
}

/** Passed seeds per mode and pins, so that a plant's seeds are not tried twice without it. */
export type Baseline = Map<string, number>;

/** Plants one defect in one mode, seed after seed, until it is caught. */
export function catchPlant(row: PlantRow, mode: Mode, baseline: Baseline): PlantResult {
  const plant = plantByName(row.name) ?? null;
  const run = (seed: number, isPlanted: boolean) =>
    runOne({
      mode,
      seed,
      pageSize: null,
      plant: isPlanted ? plant : null,
      row,
      pairs: null,
      isReplayed: false,
    }).failure;
  const result = { name: row.name, mode: mode.name };
  const key = JSON.stringify([mode.name, row.pins, row.watch]);
  for (let seed = 1; seed <= PLANT_SEEDS_MAX; seed++) {
    const why = run(seed, true);
    if (why === null) continue;
    for (let at = (baseline.get(key) ?? 0) + 1; at <= seed; at++) {
      const withoutPlant = run(at, false);
      if (withoutPlant !== null) return { ...result, seeds: seed, why, withoutPlant };
      baseline.set(key, at);
    }
    return { ...result, seeds: seed, why, withoutPlant: null };
  }
  return { ...result, seeds: null, why: "survived", withoutPlant: null };
}

export function plantsNamed(name: string): readonly PlantRow[] {
  return PLANTS.filter((plant) => name === "all" || plant.name === name);
}
