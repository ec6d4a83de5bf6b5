// Many simulated migrations: by seed, with the nth fault of each kind for all n, with each plant
// until it is caught.
import type { MigrationParameters } from "../../../src/migration/index.js";
import { FAULT_KINDS, type FaultKind } from "./faults.table.js";
import { KINDS, type Kind } from "./kinds.table.js";
import type { MigrationPlant } from "./plant.js";
import { type MigrationResult, simulateMigration } from "./simulate.js";

export interface MigrationFailure {
  readonly seed: number;
  readonly nth: string | null;
  readonly why: string;
  readonly faults: readonly string[];
}

export interface MigrationTotals {
  runs: number;
  moved: number;
  stayed: number;
  lost: number;
  faults: number;
  rounds: number;
  steps: number;
  handOvers: number;
  /** Faults that hit, by kind. */
  readonly byKind: Record<string, number>;
  readonly failures: MigrationFailure[];
}

export function noMigrations(): MigrationTotals {
  const counts = { runs: 0, moved: 0, stayed: 0, lost: 0, faults: 0, rounds: 0, steps: 0 };
  return { ...counts, handOvers: 0, byKind: {}, failures: [] };
}

function add(
  totals: MigrationTotals,
  result: MigrationResult,
  seed: number,
  nth: string | null,
): void {
  totals.runs += 1;
  totals[result.outcome] += 1;
  totals.faults += result.faults.length;
  totals.rounds += result.rounds;
  totals.steps += result.steps;
  totals.handOvers += result.handOvers;
  for (const fault of result.faults) {
    const kind = fault.slice(0, fault.indexOf(" "));
    totals.byKind[kind] = (totals.byKind[kind] ?? 0) + 1;
  }
  const { failure: why, faults } = result;
  if (why !== null) totals.failures.push({ seed, nth, why, faults });
}

export async function runSeeds(
  totals: MigrationTotals,
  seeds: { readonly first: number; readonly count: number; readonly step: number },
  kind: Kind = "toy",
): Promise<void> {
  const { said, is } = KINDS[kind];
  for (let n = 0; n < seeds.count; n += seeds.step) {
    const seed = seeds.first + n;
    add(totals, await simulateMigration({ seed, ...is }), seed, said);
  }
}

const BASE: Partial<MigrationParameters> = {
  bandwidthBytesPerSecond: 0,
  downtimeMs: 40,
  timeoutMs: 0,
  autoConverge: false,
  dirtyLimitPagesPerSecond: 0,
  pauseBeforeSwitchover: false,
  verify: false,
};
/** Ways through the engine, each met by every fault at every place. */
export const WAYS: readonly { readonly name: string; readonly is: Partial<MigrationParameters> }[] =
  [
    { name: "stop-and-copy", is: { ...BASE, strategy: "stop-and-copy" } },
    { name: "pre-copy", is: { ...BASE, strategy: "pre-copy" } },
    {
      name: "pre-copy, paused and verified",
      is: { ...BASE, strategy: "pre-copy", pauseBeforeSwitchover: true, verify: true },
    },
    {
      name: "pre-copy, throttled and forced",
      is: {
        ...BASE,
        strategy: "pre-copy",
        bandwidthBytesPerSecond: 100_000,
        downtimeMs: 11,
        autoConverge: true,
        timeoutMs: 60,
        onTimeout: "force",
      },
    },
    { name: "post-copy", is: { ...BASE, strategy: "post-copy" } },
    {
      name: "pre-copy, then post-copy",
      is: {
        ...BASE,
        strategy: "hybrid",
        bandwidthBytesPerSecond: 100_000,
        downtimeMs: 11,
        timeoutMs: 20,
        onTimeout: "postcopy",
      },
    },
  ];

/** @param kinds of faults; each strikes the first time that it could, the second, and so on */
export async function runEveryNth(
  totals: MigrationTotals,
  way: (typeof WAYS)[number],
  kinds: readonly FaultKind[] = FAULT_KINDS,
): Promise<void> {
  const seed = 1;
  for (const kind of kinds) {
    for (let n = 1; ; n++) {
      const common = { seed, parameters: way.is, isSmall: true };
      const result = await simulateMigration({ ...common, nth: { kind, n } });
      if (result.faults.length === 0) break;
      add(totals, result, seed, `${kind} ${n}, ${way.name}`);
    }
  }
}

export interface PlantCaught {
  readonly name: string;
  /** Null for a survivor. */
  readonly seed: number | null;
  readonly why: string;
  /** Set when the same seeds fail without the plant too. */
  readonly withoutPlant: string | null;
}

const PLANT_SEEDS_MAX = 4_000;
const PLANT_FAULTS_MAX = 12;

/** Seed after seed, until it is caught. */
export async function catchMigrationPlant(plant: MigrationPlant): Promise<PlantCaught> {
  const { name, faults, parameters, kind = "toy" } = plant;
  const given = parameters === undefined ? {} : { parameters };
  for (let seed = 1; seed <= PLANT_SEEDS_MAX; seed++) {
    const common = { seed, faults, most: PLANT_FAULTS_MAX, ...given, ...KINDS[kind].is };
    const { failure: why } = await simulateMigration({ ...common, plant });
    if (why === null) continue;
    const { failure } = await simulateMigration(common);
    return { name, seed, why, withoutPlant: failure };
  }
  return { name, seed: null, why: "survived", withoutPlant: null };
}
