// Owns: `npm run bench:guest`: guest code on Tidemark against QEMU's TCG, interleaved; a table.
//   --only PHASE,…  only these phases
//   --rounds N      rounds of both sides, 5
//   --repeat N      repetitions of a phase in a round after the first one, 3
//   --virtual       virtual clock here, -icount there; times are the host's in both
//   --tier0         the interpreter alone
//   --no-log        without the page writes under a dirty log
//   --ours          without QEMU: times of our side alone
//   --json FILE     the rows as JSON
//   --strict        exit 1 when a bar is missed
//   --build         builds the guest image anew with the cross compiler, records what QEMU's guest
//                   finds with it, and ends
// Ratio: QEMU's time over ours, so more than 1 is faster than QEMU. "first": the first repetition
// of each round, translation included.
import { writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { missing, programVersion } from "../../tools/debian.mjs";
import {
  PHASES,
  type Phase,
  RECORDED_SHIFT,
  replaceImage,
  replaceRecord,
  type Work,
} from "./support/image.js";
import { QEMU, runOnQemu } from "./support/qemu.js";
import {
  checkSums,
  logRowOf,
  meanLines,
  means,
  missed,
  type Round,
  type Row,
  rowOf,
  tableOf,
} from "./support/rows.js";
import { type DirtyTracking, runOnTidemark } from "./support/tidemark.js";
import type { Sample } from "./support/transcript.js";

const { values: options } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "5" },
    repeat: { type: "string", default: "3" },
    virtual: { type: "boolean", default: false },
    tier0: { type: "boolean", default: false },
    "no-log": { type: "boolean", default: false },
    ours: { type: "boolean", default: false },
    json: { type: "string" },
    strict: { type: "boolean", default: false },
    build: { type: "boolean", default: false },
  },
});

function chosen(): readonly Phase[] {
  if (options.only === undefined) return PHASES;
  const names = options.only.split(",");
  const unknown = names.find((name) => !(PHASES as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`no phase "${unknown}": ${PHASES.join(", ")}`);
  return PHASES.filter((phase) => names.includes(phase));
}

const rounds = Number(options.rounds);
const { tier0 } = options;
const clock = options.virtual ? "virtual" : "wall";
const hostTime = (sample: Sample) => sample.hostMs;
// Under -icount the guest's counter is instructions, and ours is never trusted to judge itself.
const times = {
  ours: hostTime,
  qemu: options.virtual ? hostTime : (sample: Sample) => sample.guestMs,
};
/** Of our side, per round. */
const codeBytes: number[] = [];
let translated: Readonly<Record<string, number>> = {};

/** One round, the order turned each time. */
async function round(
  at: number,
  work: Work,
  log: { readonly logFrom?: number; readonly dirtyTracking?: DirtyTracking } = {},
): Promise<Round> {
  const { logFrom } = log;
  const here = () => {
    const run = runOnTidemark(work, { clock, tier0, ...log });
    if (logFrom === undefined) {
      codeBytes.push(run.codeBytes);
      translated = run.translated;
    }
    return run.samples;
  };
  if (options.ours) {
    const ours = here();
    return { ours, qemu: ours.map((sample) => ({ ...sample, guestMs: Number.NaN })) };
  }
  const there = () =>
    runOnQemu(work, { icount: options.virtual, ...(logFrom === undefined ? {} : { logFrom }) });
  const found =
    at % 2 === 0 ? { ours: here(), qemu: await there() } : { qemu: await there(), ours: here() };
  checkSums(found);
  return found;
}

/**
 * Page writes with a dirty log on. The bar is for the host with hardware dirty state: a write to a
 * clean page leaves nothing to do for KVM. Beside it are write protection, and pages that this
 * machine's kernel has yet to supply, which it does for QEMU in huge ones.
 */
async function logRows(): Promise<readonly Row[]> {
  const work = (repetitions: number): Work => ({
    phases: ["touch"],
    waiting: ["touch"],
    repetitions,
  });
  const logs = [
    { name: "clean pages, log on, dbm", from: 1, dirtyTracking: "dbm", bar: 2 },
    { name: "clean pages, log on, wp", from: 1, dirtyTracking: "write-protect", bar: null },
    { name: "new pages, log on, wp", from: 0, dirtyTracking: "write-protect", bar: null },
  ] as const;
  const found = logs.map((): Round[] => []);
  for (let at = 0; at < rounds; at++) {
    console.error(`bench:guest: page writes under a dirty log, round ${at + 1} of ${rounds}`);
    for (const [n, { from, dirtyTracking }] of logs.entries()) {
      found[n]!.push(await round(at, work(from + 1), { logFrom: from, dirtyTracking }));
    }
  }
  return logs.map(({ name, from, bar }, n) =>
    logRowOf(name, from, found[n]!, { times, tier0, bar: tier0 ? null : bar }),
  );
}

async function main(): Promise<void> {
  const version = options.ours ? "no QEMU" : programVersion(QEMU);
  if (version === null) {
    throw new Error(`${missing(QEMU)}; --ours measures without it`);
  }
  const phases = chosen();
  console.error(`bench:guest: ${version}; clock ${clock}; load ${loadavg()[0]?.toFixed(1)}`);
  const found: Round[] = [];
  const work = { phases, repetitions: Number(options.repeat) + 1 };
  for (let at = 0; at < rounds; at++) {
    console.error(`bench:guest: round ${at + 1} of ${rounds}`);
    found.push(await round(at, work));
  }
  const withLog = !options["no-log"] && phases.includes("touch");
  const rows = [
    ...phases.map((phase) => rowOf(phase, found, { times, tier0 })),
    ...(withLog ? await logRows() : []),
  ];
  const averages = means(rows, tier0);
  const code = { bytes: Math.max(...codeBytes), translated };
  const extra = rows.reduce((sum, row) => sum + Math.max(0, row.firstExtraMs || 0), 0);
  console.log(tableOf(rows));
  console.log(meanLines(averages));
  console.log(`first repetitions took ${extra.toFixed(0)} ms more than later ones, all phases`);
  console.log(`code that V8 holds for it: ${(code.bytes / 2 ** 20).toFixed(1)} MiB`);
  const counts = Object.entries(translated).map(([name, value]) => `${value} ${name}`);
  console.log(`translated in the last round: ${counts.join(", ") || "nothing"}`);
  if (options.json !== undefined) {
    const machine = { cpus: availableParallelism(), node: process.version, qemu: version };
    const result = { machine, clock, tier0, rounds, rows, means: averages, code };
    writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`);
  }
  if (options.strict && missed(rows, averages) > 0) process.exitCode = 1;
}

async function build(): Promise<void> {
  const made = replaceImage();
  const samples = await runOnQemu({ phases: PHASES, repetitions: 1, shift: RECORDED_SHIFT });
  const sums = Object.fromEntries(samples.map(({ phase, sum }) => [phase, sum]));
  replaceRecord({ ...made, sums });
  console.log(`${made.compiler}: ${made.image}`);
}

if (options.build) await build();
else await main();
