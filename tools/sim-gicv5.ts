// Owns: `npm run sim -- --mode gicv5`: a resampling irqfd on SPIs of a GICv5 under each setting of
// vgicV5.spiTracking. Runs in the process of sim.ts and in its children.
import {
  addReports,
  catchGicPlant,
  type GicPlantCaught,
  type GicReport,
  runPolicy,
} from "../test/simulation/gicv5/campaign.js";
import { POLICIES, type Policy, TOTALS, type Total } from "../test/simulation/gicv5/oracle.js";
import { GIC_PLANTS } from "../test/simulation/gicv5/plants.js";
import { COUNTED } from "../test/simulation/gicv5/simulate.js";

export const GICV5_MODE = "gicv5";
/** Of `exact`; the others have a tenth of it. */
export const GICV5_SEEDS = 100_000;
const SHARE_OF_OTHERS = 10;

export interface GicJob {
  readonly mode: typeof GICV5_MODE;
  readonly firstSeed: number;
  readonly count: number;
  readonly part: number;
  readonly of: number;
  /** null: none; "all" or a name. */
  readonly plant: string | null;
}

export interface GicWork {
  readonly report: GicReport;
  readonly plants: readonly GicPlantCaught[];
}

function plantsNamed(name: string | null): typeof GIC_PLANTS {
  return GIC_PLANTS.filter((row) => name === "all" || row.name === name);
}

export function isGicPlant(name: string): boolean {
  return plantsNamed(name).length > 0;
}

function countOf(policy: Policy, count: number): number {
  return policy === "exact" ? count : Math.ceil(count / SHARE_OF_OTHERS);
}

export function gicWork({ firstSeed, count, part, of, plant }: GicJob): GicWork {
  if (plant !== null) {
    const rows = plantsNamed(plant).filter((_, n) => n % of === part);
    return { report: addReports([]), plants: rows.flatMap(catchGicPlant) };
  }
  const reports = POLICIES.map((policy) => {
    const seeds = { first: firstSeed + part, count: countOf(policy, count) - part, step: of };
    return runPolicy(policy, seeds);
  });
  return { report: addReports(reports), plants: [] };
}

function printPlants(works: readonly GicWork[], expected: number): boolean {
  const caught = works.flatMap(({ plants }) => plants);
  for (const { name, policy, seed, why, withoutPlant } of caught) {
    console.log(`  ${name.padEnd(24)} ${policy.padEnd(22)} ${seed ?? "SURVIVED"}: ${why}`);
    if (withoutPlant !== null) console.log(`FAILED without the plant too: ${withoutPlant}`);
  }
  const bad = caught.filter(({ seed, withoutPlant }) => seed === null || withoutPlant !== null);
  const names = new Set(caught.map(({ name }) => name));
  console.log(`plants: ${names.size} of ${expected} planted, ${bad.length} not caught`);
  return bad.length === 0 && names.size === expected;
}

function printTotals({ totals }: GicReport): void {
  const row = (name: string, of: (policy: Policy) => number) =>
    console.log(
      `  ${name.padEnd(26)}${POLICIES.map((policy) => String(of(policy)).padStart(23)).join("")}`,
    );
  console.log(`  ${"".padEnd(26)}${POLICIES.map((policy) => policy.padStart(23)).join("")}`);
  for (const key of ["interleavings", "steps", "items"] as const) {
    row(key, (policy) => totals[policy][key]);
  }
  for (const name of Object.keys(TOTALS) as Total[]) {
    row(name, (policy) => totals[policy].oracle[name]);
  }
  console.log("  the VM's own counters:");
  for (const name of COUNTED) row(name, (policy) => totals[policy].counters[name] ?? 0);
}

/** @returns whether all is well */
export function printGicv5(job: GicJob, works: readonly GicWork[]): boolean {
  if (job.plant !== null) return printPlants(works, plantsNamed(job.plant).length);
  const all = addReports(works.map(({ report }) => report));
  printTotals(all);
  for (const { policy, seed, flavour, why } of all.failures.slice(0, 20)) {
    console.log(`FAILED ${policy}, seed ${seed} (${flavour}): ${why}`);
    console.log(`  again: npm run sim -- --mode ${GICV5_MODE} --seed ${seed}`);
  }
  const count = POLICIES.reduce((sum, policy) => sum + all.totals[policy].interleavings, 0);
  console.log(`${count} interleavings, ${all.failures.length} failed`);
  return all.failures.length === 0;
}
