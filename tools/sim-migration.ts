// Owns: `npm run sim -- --mode migration`: two hosts and a migration between them, with faults.
// Runs in the process of sim.ts and in its children.
import {
  catchMigrationPlant,
  type MigrationTotals,
  noMigrations,
  type PlantCaught,
  runEveryNth,
  runSeeds,
  WAYS,
} from "../test/simulation/migration/campaign.js";
import { KINDS } from "../test/simulation/migration/kinds.table.js";
import { MIGRATION_PLANTS } from "../test/simulation/migration/plants.js";
import { simulateMigration } from "../test/simulation/migration/simulate.js";

export const MIGRATION_MODE = "migration";

/** Toys for each board: one costs as much as a hundred of them. */
const BOARD_COST = 50;
/** Toys for each large one. */
const STREAM_COST = 10;

export interface MigrationJob {
  readonly firstSeed: number;
  readonly count: number;
  readonly part: number;
  readonly of: number;
  /** null: none; "all" or a name. */
  readonly plant: string | null;
}

export interface MigrationReport {
  readonly totals: MigrationTotals;
  readonly plants: readonly PlantCaught[];
}

function plantsNamed(name: string | null): typeof MIGRATION_PLANTS {
  return MIGRATION_PLANTS.filter((row) => name === "all" || row.name === name);
}

/** Seeds, then the nth fault for all n in every way; or plants. */
export async function migrationWork(job: MigrationJob): Promise<MigrationReport> {
  const { firstSeed, count, part, of, plant } = job;
  const totals = noMigrations();
  const plants: PlantCaught[] = [];
  const isMine = (_: unknown, n: number) => n % of === part;
  if (plant !== null) {
    for (const row of plantsNamed(plant).filter(isMine)) {
      plants.push(await catchMigrationPlant(row));
    }
    return { totals, plants };
  }
  const first = firstSeed + part;
  await runSeeds(totals, { first, count: count - part, step: of });
  const some = (cost: number) => Math.max(Math.floor(count / cost), 1) - part;
  await runSeeds(totals, { first, count: some(STREAM_COST), step: of }, "stream");
  await runSeeds(totals, { first, count: some(BOARD_COST), step: of }, "board");
  if (count > 1) for (const way of WAYS.filter(isMine)) await runEveryNth(totals, way);
  return { totals, plants };
}

/** One seed, told. */
async function tell(seed: number): Promise<void> {
  for (const { said, is } of Object.values(KINDS)) {
    const { story } = await simulateMigration({ seed, ...is });
    console.log(said === null ? "  a toy:" : `  ${said}, over the real page stream:`);
    for (const line of story) console.log(`  ${line}`);
  }
}

function sum(reports: readonly MigrationReport[]): MigrationTotals {
  const all = noMigrations();
  for (const { totals } of reports) {
    for (const key of ["runs", "moved", "stayed", "lost", "faults"] as const)
      all[key] += totals[key];
    for (const key of ["rounds", "steps", "handOvers"] as const) all[key] += totals[key];
    for (const [kind, count] of Object.entries(totals.byKind)) {
      all.byKind[kind] = (all.byKind[kind] ?? 0) + count;
    }
    all.failures.push(...totals.failures);
  }
  return all;
}

function printPlants(reports: readonly MigrationReport[], expected: number): boolean {
  const caught = reports.flatMap(({ plants }) => plants);
  for (const { name, seed, why, withoutPlant } of caught) {
    console.log(`  ${name.padEnd(26)} ${seed ?? "SURVIVED"}: ${why}`);
    if (withoutPlant !== null) console.log(`FAILED without the plant too: ${withoutPlant}`);
  }
  const good = caught.filter(({ seed, withoutPlant }) => seed !== null && withoutPlant === null);
  console.log(`plants: ${good.length} of ${expected} caught`);
  return good.length === expected;
}

/** @returns whether all is well */
export async function printMigrations(
  job: MigrationJob,
  reports: readonly MigrationReport[],
): Promise<boolean> {
  if (job.plant !== null) return printPlants(reports, plantsNamed(job.plant).length);
  const all = sum(reports);
  for (const [kind, count] of Object.entries(all.byKind).sort()) {
    console.log(`  ${kind.padEnd(20)} ${String(count).padStart(7)}`);
  }
  for (const { seed, nth, why, faults } of all.failures.slice(0, 20)) {
    console.log(`FAILED seed ${seed}${nth === null ? "" : `, ${nth}`}: ${why}`);
    console.log(`  ${faults.join("; ")}`);
    console.log(`  again: npm run sim -- --mode ${MIGRATION_MODE} --seed ${seed}`);
  }
  if (job.count === 1) await tell(job.firstSeed);
  console.log(
    `${all.runs} migrations, ${all.failures.length} failed: ${all.moved} moved, ` +
      `${all.stayed} stayed, ${all.lost} lost with their only copy; ${all.faults} faults, ` +
      `${all.rounds} rounds, ${all.handOvers} hand-overs, ${all.steps} steps of guests`,
  );
  return all.failures.length === 0;
}

/** @returns whether a name is a plant of this mode, or "all" */
export function isMigrationPlant(name: string): boolean {
  return plantsNamed(name).length > 0;
}
