// Owns: `npm run bench:migrate`: live migrations of a Linux guest between two of our hosts, beside
// QEMU's between two of its processes, with the guest, working sets, rates and bandwidths of the
// baselines; interleaved rounds, a table of medians. One guest of ours goes back and forth for the
// rounds of its row, paused while QEMU moves one that it boots each time; what QEMU doesn't end in
// its first round it isn't asked again.
//   --rounds N     5
//   --cases TEXT   only the one of that name, or those whose names contain it; several by commas
//   --ours         without QEMU
//   --limit S      of one migration, 30
//   --json FILE    the figures as JSON
//   --strict       exit 1 when a bar is missed
// Our total is from the request on. In "setup" of it the target builds its VM, which QEMU's has
// done before; "moving" is the rest. Blackout: with QEMU from its STOP to the target's RESUME; ours
// from the first vCPU held to the target's word, heard at the source, that it runs: never less than
// what the guest misses.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { TwoHosts } from "../../test/support/two-hosts.js";
import { missing, programVersion } from "../../tools/debian.mjs";
import { initramfs, kernelFile, missingLinux, TUNED } from "../../tools/linux/initramfs.js";
import { OurGuest, type OurMove, ROUNDS_MAX } from "./ours.js";
import { type Guest, migrateOnQemu, QEMU } from "./qemu.js";
import { CASES, type MigrationCase, type Moved } from "./rows.table.js";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    cases: { type: "string", default: "" },
    ours: { type: "boolean", default: false },
    limit: { type: "string", default: "30" },
    json: { type: "string" },
    strict: { type: "boolean", default: false },
  },
});

interface Row {
  readonly of: MigrationCase;
  readonly ours: OurMove[];
  readonly qemu: Moved[];
}

/** What ours may take longer. */
const BLACKOUT_MORE_MS = 10;
const TOTAL_RATIO = 1.1;
const LIMIT_MS = Number(options.limit) * 1000;
const ROUNDS = Number(options.rounds);
const SETTLE_MS = 1500;
const PAGES_PER_MIB = 256;

const wordsOf = ({ dirty }: MigrationCase): string =>
  dirty === null ? "g.idle=600" : `g.dirty=${dirty.mib},${dirty.pagesPerSecond},0`;

/** The whole working set has been written once by then. */
function warmMsOf({ dirty }: MigrationCase): number {
  if (dirty === null || dirty.pagesPerSecond === 0) return SETTLE_MS;
  return ((dirty.mib * PAGES_PER_MIB) / dirty.pagesPerSecond) * 1000 + SETTLE_MS;
}

function median(values: readonly number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

const completedIn = (moves: readonly Moved[]) => moves.filter(({ completed }) => completed);

/** Of a guest that QEMU moves: as fast; of one that it doesn't: seen early, ended, unharmed. */
function verdictOf({ of, ours, qemu }: Row): string {
  if (ours.some(({ bad }) => bad !== null && bad > 0)) return "BAD STAMPS";
  if (of.dirty !== null && ours.some(({ bad }) => bad === null)) return "GUEST SILENT";
  const ended = completedIn(ours);
  if (ended.length < ours.length) return `MISSED: ${ours.length - ended.length} not completed`;
  const theirs = completedIn(qemu);
  if (of.endless === true) {
    const seen = ours.every((move) => (move.notConverging ?? ROUNDS_MAX + 1) <= ROUNDS_MAX);
    return seen ? "met" : "MISSED: not seen in time";
  }
  if (theirs.length === 0) return "";
  const blackout = median(ended.map(({ blackoutMs }) => blackoutMs));
  const allowed = median(theirs.map(({ blackoutMs }) => blackoutMs)) + BLACKOUT_MORE_MS;
  const total = median(ended.map(({ totalMs }) => totalMs));
  const ratio = total / median(theirs.map(({ totalMs }) => totalMs));
  const faults = [
    ...(blackout > allowed ? ["blackout"] : []),
    ...(ratio > TOTAL_RATIO ? ["total"] : []),
  ];
  return faults.length === 0 ? "met" : `MISSED: ${faults.join(", ")}`;
}

type Column = readonly [name: string, of: (move: Moved) => number];

const COLUMNS: readonly Column[] = [
  ["ms", ({ totalMs }) => totalMs],
  ["blackout", ({ blackoutMs }) => blackoutMs],
  ["rounds", ({ rounds }) => rounds],
  ["MB", ({ megabytes }) => megabytes],
];
const OUR_COLUMNS: readonly Column[] = [
  ["setup", (move) => (move as OurMove).setupMs],
  ["moving", (move) => move.totalMs - (move as OurMove).setupMs],
];

function cells(moves: readonly Moved[], columns: readonly Column[]): readonly string[] {
  const ended = completedIn(moves);
  if (ended.length === 0) return columns.map((_, at) => (at === 0 && moves[0] ? "no end" : ""));
  const bad = moves.map((move) => move.bad).find((one) => one !== 0);
  return columns.map(([name, of]) => {
    const silent = name === "MB" && bad === null ? " silent" : "";
    return `${median(ended.map(of)).toFixed(0)}${silent}`;
  });
}

function print(rows: readonly Row[]): void {
  const ours = [...COLUMNS.slice(0, 1), ...OUR_COLUMNS, ...COLUMNS.slice(1)];
  const names = [...ours.map(([name]) => name), ...COLUMNS.map(([name]) => `QEMU ${name}`)];
  const table = rows.map((row) => [
    row.of.name,
    ...cells(row.ours, ours),
    ...cells(row.qemu, COLUMNS),
    verdictOf(row),
  ]);
  const head = ["case", ...names, "bar"];
  const widths = head.map((name, at) =>
    Math.max(name.length, ...table.map((line) => line[at]?.length ?? 0)),
  );
  for (const line of [head, ...table]) {
    console.log(line.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  "));
  }
}

function chosenBy(text: string): readonly MigrationCase[] {
  const parts = text.split(",");
  const isMeant = (name: string) => (part: string) =>
    CASES.some((of) => of.name === part) ? name === part : name.includes(part);
  return CASES.filter(({ name }) => parts.some(isMeant(name)));
}

/** All rounds of a row. */
async function runRow(hosts: TwoHosts, guest: Guest, { of, ours, qemu }: Row): Promise<void> {
  const [words, warmMs] = [wordsOf(of), warmMsOf(of)];
  let here = await OurGuest.boot(hosts, of, words, warmMs);
  const turnHere = async () => {
    const move = await here.move(LIMIT_MS);
    ours.push(move);
    if (!options.ours) await here.rest();
  };
  const turnThere = async () => {
    if (options.ours || (of.endless === true && qemu.length > 0)) return;
    const cmdline = `${guest.cmdline} ${words}`;
    qemu.push(await migrateOnQemu({ ...guest, cmdline }, of, warmMs, LIMIT_MS));
  };
  if (!options.ours) await here.rest();
  for (let round = 0; round < ROUNDS; round++) {
    console.error(`bench:migrate: ${of.name}, round ${round + 1} of ${ROUNDS}`);
    for (const turn of round % 2 === 0 ? [turnHere, turnThere] : [turnThere, turnHere]) {
      await turn();
    }
    // A guest that was slowed down to a crawl has too much to catch up.
    const wasSlowed = of.endless === true || of.kind === "auto-converge";
    if (wasSlowed && round + 1 < ROUNDS) {
      await here.end();
      here = await OurGuest.boot(hosts, of, words, warmMs);
      if (!options.ours) await here.rest();
    }
  }
  await here.end();
}

function keep(rows: readonly Row[]): void {
  if (options.json === undefined) return;
  const machine = { cpus: availableParallelism(), node: process.version };
  writeFileSync(options.json, `${JSON.stringify({ machine, rows }, null, 2)}\n`);
}

async function main(): Promise<void> {
  const lacksQemu = !options.ours && programVersion(QEMU) === null;
  const why = missingLinux("6.1") ?? (lacksQemu ? missing(QEMU) : null);
  if (why !== null) throw new Error(why);
  const chosen = chosenBy(options.cases);
  const directory = mkdtempSync(join(tmpdir(), "tidemark-bench-"));
  const initrd = join(directory, "initrd");
  writeFileSync(initrd, initramfs("6.1"));
  const guest = { kernel: kernelFile("6.1") ?? "", initrd, cmdline: TUNED };
  const rows: Row[] = chosen.map((of) => ({ of, ours: [], qemu: [] }));
  const hosts = await TwoHosts.start("bench");
  console.error(`bench:migrate: ${programVersion(QEMU)}; load ${loadavg()[0]?.toFixed(1)}`);
  try {
    for (const row of rows) {
      await runRow(hosts, guest, row);
      // What was measured is there, whatever ends a long run.
      keep(rows);
    }
  } finally {
    await hosts.stop();
    rmSync(directory, { recursive: true, force: true });
  }
  print(rows);
  const missed = rows.some((row) => /MISSED|BAD|SILENT/.test(verdictOf(row)));
  if (options.strict && missed) process.exitCode = 1;
}

await main();
