// Owns: many interleavings of each policy, and plants until each is caught. Test process.
import { POLICIES, type Policy, TOTALS, type Total } from "./oracle.js";
import type { GicPlant } from "./plants.js";
import { COUNTED, FLAVOURS, type SeedResult, simulateGicv5 } from "./simulate.js";
import { GicWorld } from "./world.js";

/** A world is made anew after so many: what one seed leaves behind can't hide for long. */
const SEEDS_OF_A_WORLD = 500;
const FAILURES_MAX = 20;

export interface PolicyTotals {
  interleavings: number;
  steps: number;
  items: number;
  /** Of the oracle. */
  readonly oracle: Record<Total, number>;
  /** Of the VM's own counters. */
  readonly counters: Record<string, number>;
}

interface GicFailure {
  readonly policy: Policy;
  readonly seed: number;
  readonly flavour: string;
  readonly why: string;
}

export interface GicReport {
  readonly totals: Readonly<Record<Policy, PolicyTotals>>;
  readonly failures: readonly GicFailure[];
}

function noTotals(): PolicyTotals {
  const zeros = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, 0]));
  const oracle = zeros(Object.keys(TOTALS)) as Record<Total, number>;
  return { interleavings: 0, steps: 0, items: 0, oracle, counters: zeros(COUNTED) };
}

export function noReport(): GicReport {
  const totals = Object.fromEntries(POLICIES.map((policy) => [policy, noTotals()]));
  return { totals: totals as Record<Policy, PolicyTotals>, failures: [] };
}

function add(totals: PolicyTotals, result: SeedResult): void {
  totals.interleavings++;
  totals.steps += result.steps;
  totals.items += result.items;
  for (const name of Object.keys(TOTALS) as Total[]) totals.oracle[name] += result.totals[name];
  for (const name of COUNTED) {
    totals.counters[name] = (totals.counters[name] ?? 0) + (result.counters[name] ?? 0);
  }
}

export function addReports(reports: readonly GicReport[]): GicReport {
  const all = noReport();
  for (const { totals } of reports) {
    for (const policy of POLICIES) {
      const [into, from] = [all.totals[policy], totals[policy]];
      for (const key of ["interleavings", "steps", "items"] as const) into[key] += from[key];
      for (const name of Object.keys(TOTALS) as Total[]) into.oracle[name] += from.oracle[name];
      for (const name of COUNTED) {
        into.counters[name] = (into.counters[name] ?? 0) + (from.counters[name] ?? 0);
      }
    }
  }
  return { ...all, failures: reports.flatMap(({ failures }) => failures) };
}

export interface Seeds {
  readonly first: number;
  readonly count: number;
  /** Every so many of them: others have the rest. */
  readonly step: number;
}

/** Every seed under a policy; the flavours take turns. */
export function runPolicy(
  policy: Policy,
  { first, count, step }: Seeds,
  plant: GicPlant | null = null,
): GicReport {
  const report = noReport();
  const failures: GicFailure[] = [];
  let world: GicWorld | null = null;
  let left = 0;
  for (let n = 0; n < count && failures.length < FAILURES_MAX; n += step) {
    const seed = first + n;
    if (world === null || left-- === 0) {
      world?.close();
      world = new GicWorld(policy);
      plant?.apply(world);
      left = SEEDS_OF_A_WORLD;
    }
    const result = simulateGicv5(world, seed, FLAVOURS[seed % FLAVOURS.length]!);
    add(report.totals[policy], result);
    const { why, flavour } = result;
    if (why === null) continue;
    failures.push({ policy, seed, flavour, why });
    // What broke may lie about.
    left = 0;
  }
  world?.close();
  return { ...report, failures };
}

export interface GicPlantCaught {
  readonly name: string;
  readonly policy: Policy;
  /** null: it survived. */
  readonly seed: number | null;
  readonly why: string;
  /** What the same seeds say without it; null: nothing. */
  readonly withoutPlant: string | null;
}

/** Seeds that a plant has to show in. */
const PLANT_SEEDS = 600;

export function catchGicPlant(plant: GicPlant): readonly GicPlantCaught[] {
  return plant.policies.map((policy) => {
    const seeds = { first: 1, count: PLANT_SEEDS, step: 1 };
    let found: GicFailure | undefined;
    for (let first = 1; first <= seeds.count && found === undefined; first += 50) {
      found = runPolicy(policy, { first, count: 50, step: 1 }, plant).failures[0];
    }
    const seed = found?.seed ?? null;
    const control = { first: 1, count: seed ?? 0, step: 1 };
    const [without] = runPolicy(policy, control).failures;
    const why = found?.why ?? "";
    return { name: plant.name, policy, seed, why, withoutPlant: without?.why ?? null };
  });
}
