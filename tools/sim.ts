// Owns: `npm run sim`: seeded interleavings of a VM and its clients under every tracking mode, and
// planted defects that must be caught. A process of its own, and a child for each further core.
import { fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { PageSize } from "../src/base/page.js";
import {
  addTotals,
  type Baseline,
  type Campaign,
  catchPlant,
  type Failure,
  type ModeTotals,
  modesNamed,
  newTotals,
  type PlantResult,
  plantsNamed,
  runCampaign,
} from "../test/simulation/campaign.js";
import { Pairs } from "../test/simulation/pairs.js";
import {
  GICV5_MODE,
  GICV5_SEEDS,
  type GicJob,
  type GicWork,
  gicWork,
  isGicPlant,
  printGicv5,
} from "./sim-gicv5.js";
import {
  isMigrationPlant,
  MIGRATION_MODE,
  type MigrationJob,
  type MigrationReport,
  migrationWork,
  printMigrations,
} from "./sim-migration.js";

const USAGE = `usage: npm run sim -- [options]
Runs seeded interleavings of stores, GET, CLEAR, kicks, slot changes, splits, log toggles, ring
harvests and resets, and compares what clients acquired with every store that committed.
  --seeds COUNT      interleavings over all modes (default 21000)
  --seed N           this seed only, once per mode; or the first one, with --seeds
  --mode NAME        one tracking mode (test/simulation/modes.table.ts), or dirty-hardware: all
                     with HDBSS and HACDBS; or migration: two hosts and a VM that moves (default
                     5000 seeds, and the nth fault of each kind for all n); or gicv5: resampling
                     irqfds by vgicV5.spiTracking (default 100000 of exact, 10000 of each other)
  --page-size N      4096, 16384 or 65536 instead of the seed's choice
  --faults N         modes with dirty hardware alone, until N injected faults have hit
  --plant NAME|all   plant defects (test/simulation/plants.table.ts); each must be caught
  --minutes N        begin nothing new after N minutes
  --jobs N           processes (default: cores, at most 4)
Exit status 1 when a rule was broken, a plant survived, or a listed pair of preemption points never
met in a full run; 2 on a wrong call.`;

/** From so many interleavings over all modes on, every listed pair must have met. */
const FULL_RUN = 5000;
/** Of a run that ends by its faults. */
const FAULTS_INTERLEAVINGS_MAX = 1_000_000;

/** What one process does. */
interface Job {
  readonly campaign: Omit<Campaign, "modes" | "nowMs"> & { readonly mode: string };
  readonly plant: string | null;
}

/** What one process tells when it is done. */
interface Report {
  readonly totals: readonly (readonly [string, ModeTotals])[];
  readonly failures: readonly Failure[];
  readonly pairs: readonly number[];
  readonly plants: readonly PlantResult[];
}

const nowMs = (): number => performance.timeOrigin + performance.now();

function work({ campaign, plant }: Job): Report {
  const modes = modesNamed(campaign.mode);
  const pairs = new Pairs();
  if (plant === null) {
    const { totals, failures } = runCampaign({ ...campaign, modes, nowMs }, pairs);
    return { totals: [...totals], failures, pairs: [...pairs.counts], plants: [] };
  }
  const plants: PlantResult[] = [];
  const baseline: Baseline = new Map();
  const rows = plantsNamed(plant);
  for (let n = campaign.part; n < rows.length && nowMs() < campaign.endMs; n += campaign.of) {
    const row = rows[n]!;
    const listed = modes.filter((mode) => campaign.mode !== "all" || row.modes.includes(mode.name));
    for (const mode of listed) plants.push(catchPlant(row, mode, baseline));
  }
  return { totals: [], failures: [], pairs: [...pairs.counts], plants };
}

/** Does a job in a child, which loads this file as this process did. */
function workInChild<T>(job: Job | MigrationJob | GicJob): Promise<T> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), ["--child"]);
    let report: T | null = null;
    child.once("message", (message) => {
      report = message as T;
    });
    child.once("exit", (status) => {
      if (report !== null) resolve(report);
      else reject(new Error(`a simulation process ended with status ${status}`));
    });
    child.send(job);
  });
}

function printTotals(totals: ReadonlyMap<string, ModeTotals>): ModeTotals {
  const all = newTotals();
  const columns = ["interleavings", "steps", "accesses", "stores", "acquired", "changed"] as const;
  const rest = ["comparisons", "falsePositives", "lostPages", "replays"] as const;
  const hardware = ["operations", "faults", "appends", "cleaned"] as const;
  const names = [...columns, ...rest, ...hardware];
  const row = (first: string, cells: readonly string[]) =>
    console.log(`  ${first.padEnd(18)}${cells.map((cell) => cell.padStart(15)).join("")}`);
  row("mode", names);
  for (const [mode, total] of totals) {
    addTotals(all, total);
    row(
      mode,
      names.map((name) => String(total[name])),
    );
  }
  row(
    "all",
    names.map((name) => String(all[name])),
  );
  return all;
}

function printFailures(failures: readonly Failure[]): void {
  for (const { mode, seed, pageSize, why } of failures.slice(0, 20)) {
    const size = pageSize === null ? "" : ` --page-size ${pageSize}`;
    console.log(`FAILED mode ${mode} seed ${seed}: ${why}`);
    console.log(`  again: npm run sim -- --mode ${mode} --seed ${seed}${size}`);
  }
}

/** @returns whether every plant was caught in every mode, and only by itself */
function printPlants(results: readonly PlantResult[], expected: number): boolean {
  const survivors = results.filter(({ seeds }) => seeds === null);
  const spoiled = results.filter(({ withoutPlant }) => withoutPlant !== null);
  const byName = new Map<string, PlantResult[]>();
  for (const result of results) {
    byName.set(result.name, [...(byName.get(result.name) ?? []), result]);
  }
  for (const [name, rows] of byName) {
    const modes = rows.map(({ mode, seeds }) => `${mode} ${seeds ?? "SURVIVED"}`);
    console.log(`  ${name.padEnd(24)} ${modes.join(", ")}`);
    console.log(`  ${"".padEnd(24)} ${rows[0]!.why.split("\n")[0]!.slice(0, 100)}`);
  }
  for (const { name, mode, withoutPlant } of spoiled) {
    console.log(`FAILED mode ${mode} without the plant ${name}: ${withoutPlant}`);
  }
  const caught = [...byName.values()].filter((rows) => rows.every(({ seeds }) => seeds !== null));
  console.log(
    `plants: ${caught.length} of ${expected} caught, in ${results.length - survivors.length} of ` +
      `${results.length} mode(s)`,
  );
  return survivors.length === 0 && spoiled.length === 0 && byName.size === expected;
}

/** What modes with seeds and plants of their own are asked. */
function asked(seeds: number, isPlant: (name: string) => boolean) {
  const { values } = parseArgs({
    options: {
      mode: { type: "string" },
      seeds: { type: "string" },
      seed: { type: "string" },
      plant: { type: "string" },
      jobs: { type: "string", default: String(Math.min(4, availableParallelism())) },
    },
  });
  const firstSeed = Number(values.seed ?? 1);
  const count = Number(values.seeds ?? (values.seed === undefined ? seeds : 1));
  const of = count === 1 ? 1 : Number(values.jobs);
  const plant = values.plant ?? null;
  const areNumbers = [firstSeed, count, of].every((n) => Number.isSafeInteger(n) && n > 0);
  if (areNumbers && (plant === null || isPlant(plant))) return { firstSeed, count, of, plant };
  console.log(USAGE);
  return null;
}

/** Does all parts of a job, in this process if it is one. */
function inParts<J extends MigrationJob | GicJob, R>(
  job: J,
  work: (job: J) => Promise<R> | R,
): Promise<readonly R[]> {
  const parts = Array.from({ length: job.of }, (_, part) => ({ ...job, part }));
  const doPart = async (one: J) => (job.of === 1 ? work(one) : workInChild<R>(one));
  return Promise.all(parts.map(doPart));
}

function over(isGood: boolean, start: number): number {
  console.log(`${isGood ? "passed" : "FAILED"} in ${((nowMs() - start) / 1000).toFixed(1)} s`);
  return isGood ? 0 : 1;
}

async function migrations(): Promise<number> {
  const options = asked(5_000, isMigrationPlant);
  if (options === null) return 2;
  const start = nowMs();
  const job: MigrationJob = { ...options, part: 0 };
  const reports = await inParts<MigrationJob, MigrationReport>(job, migrationWork);
  return over(await printMigrations(job, reports), start);
}

async function gicv5(): Promise<number> {
  const options = asked(GICV5_SEEDS, isGicPlant);
  if (options === null) return 2;
  const start = nowMs();
  const job: GicJob = { ...options, mode: GICV5_MODE, part: 0 };
  return over(printGicv5(job, await inParts<GicJob, GicWork>(job, gicWork)), start);
}

interface Options {
  readonly job: Omit<Job, "campaign"> & { readonly campaign: Omit<Job["campaign"], "part" | "of"> };
  readonly jobs: number;
}

function options(): Options | "help" | "wrong" {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      seed: { type: "string" },
      mode: { type: "string", default: "all" },
      "page-size": { type: "string" },
      plant: { type: "string" },
      faults: { type: "string" },
      minutes: { type: "string", default: "600" },
      jobs: { type: "string", default: String(Math.min(4, availableParallelism())) },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return "help";
  const faults = values.faults === undefined ? null : Number(values.faults);
  const mode = faults === null ? values.mode : "dirty-hardware";
  const modes = modesNamed(mode).length;
  const many = faults === null ? 21_000 : FAULTS_INTERLEAVINGS_MAX;
  const count = Number(values.seeds ?? (values.seed === undefined ? many : modes));
  const faultsWanted = faults ?? Number.MAX_SAFE_INTEGER;
  const firstSeed = Number(values.seed ?? 1);
  const pageSize = values["page-size"] === undefined ? null : Number(values["page-size"]);
  const jobs = Number(values.jobs);
  const minutes = Number(values.minutes);
  const plant = values.plant ?? null;
  const isSize = pageSize === null || [4096, 16384, 65536].includes(pageSize);
  const areNumbers = [count, firstSeed, jobs, faultsWanted].every(
    (n) => Number.isSafeInteger(n) && n >= 0,
  );
  if (modes === 0 || !isSize || !areNumbers || jobs < 1 || !(minutes > 0)) return "wrong";
  if (plant !== null && plantsNamed(plant).length === 0) return "wrong";
  const endMs = nowMs() + minutes * 60_000;
  const size = pageSize as PageSize | null;
  const campaign = { mode, firstSeed, count, pageSize: size, endMs, faultsWanted };
  return { job: { campaign, plant }, jobs };
}

const isMode = (mode: string): boolean =>
  process.argv.some((arg) => arg === mode || arg === `--mode=${mode}`);

async function main(): Promise<number> {
  if (isMode(MIGRATION_MODE)) return migrations();
  if (isMode(GICV5_MODE)) return gicv5();
  const given = options();
  if (typeof given === "string") {
    console.log(USAGE);
    return given === "help" ? 0 : 2;
  }
  const { job, jobs } = given;
  const { campaign, plant } = job;
  const start = nowMs();
  const parts = Math.max(1, Math.min(jobs, plant === null ? campaign.count : 64));
  const faultsWanted = Math.ceil(campaign.faultsWanted / parts);
  const share = { ...campaign, faultsWanted, of: parts };
  const jobOf = (part: number): Job => ({ ...job, campaign: { ...share, part } });
  const all = Array.from({ length: parts }, (_, part) => jobOf(part));
  const reports =
    parts === 1 ? [work(jobOf(0))] : await Promise.all(all.map((one) => workInChild<Report>(one)));
  const seconds = () => ((nowMs() - start) / 1000).toFixed(1);
  if (plant !== null) {
    const results = reports.flatMap((report) => report.plants);
    const isGood = printPlants(results, plantsNamed(plant).length);
    console.log(`${isGood ? "passed" : "FAILED"} in ${seconds()} s`);
    return isGood ? 0 : 1;
  }
  return finish(reports, campaign, seconds);
}

function finish(
  reports: readonly Report[],
  campaign: Options["job"]["campaign"],
  seconds: () => string,
): number {
  const pairs = new Pairs();
  const totals = new Map<string, ModeTotals>(
    modesNamed(campaign.mode).map((mode) => [mode.name, newTotals()]),
  );
  for (const report of reports) {
    pairs.add(report.pairs);
    for (const [mode, total] of report.totals) addTotals(totals.get(mode)!, total);
  }
  const all = printTotals(totals);
  console.log(`\n${pairs.table()}\n`);
  const failures = reports.flatMap((report) => report.failures);
  printFailures(failures);
  const isFull = campaign.mode === "all" && all.interleavings >= FULL_RUN;
  const never = isFull ? pairs.never() : [];
  for (const pair of never) console.log(`FAILED pair never met: ${pair}`);
  if (all.interleavings < campaign.count && all.faults < campaign.faultsWanted) {
    console.log(`stopped by --minutes after ${all.interleavings} of ${campaign.count}`);
  }
  console.log(
    `${all.interleavings} interleavings, ${failures.length} failed, ` +
      `${all.lostPages} lost pages, ${all.replays} replayed, ${all.operations} operations, ` +
      `${all.faults} faults, in ${seconds()} s`,
  );
  return failures.length === 0 && never.length === 0 ? 0 : 1;
}

if (process.argv.includes("--child")) {
  process.once("message", (job: Job | MigrationJob | GicJob) => {
    const report =
      "campaign" in job ? work(job) : "mode" in job ? gicWork(job) : migrationWork(job);
    void Promise.resolve(report).then((done) => process.send!(done, () => process.disconnect()));
  });
} else {
  main().then(
    (status) => {
      process.exitCode = status;
    },
    (error: unknown) => {
      console.error(error instanceof Error ? error.message : error);
      process.exitCode = 2;
    },
  );
}
