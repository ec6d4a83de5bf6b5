// Owns: a whole conformance run: which files, in which order of work, and the report's text.
// Any thread. Shared by tools/conformance.ts and the test.
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { systemClock } from "../../src/base/clock.js";
import { Client } from "./client.js";
import { parseRecording, type Recording } from "./recording.js";
import { addTo, type Difference, type FileReport, replay, skippedByRule } from "./replayer.js";
import { SKIP_RULES, SKIP_SHARE_MAX } from "./skip-rules.table.js";
import type { Tracking } from "./tracking.table.js";

export interface SuiteOptions {
  readonly origin: string;
  readonly token: string | null;
  readonly directories: readonly string[];
  /** Files replayed at the same time; each has its own VMs. */
  readonly jobs: number;
  /** Only these subjects; null for all. */
  readonly subjects: readonly string[] | null;
  /** How every VM that is created notices stores; null leaves it to the service. */
  readonly tracking: Tracking | null;
  /** Called with each line of the report as soon as it is known, in the order of the files. */
  readonly print: (text: string) => void;
  /** Print every difference, not only the first of each file. */
  readonly verbose: boolean;
}

export interface SuiteResult {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Lines skipped by rule over unmarked lines, 0 to 1. */
  readonly ruleShare: number;
  readonly requests: number;
  readonly ok: boolean;
}

type FileOutcome =
  | { readonly kind: "replayed"; readonly report: FileReport }
  | {
      readonly kind: "left-out";
      readonly name: string;
      readonly why: string;
      readonly lines: number;
    }
  | { readonly kind: "other"; readonly name: string; readonly why: string };

/** Replays every recording directly in the directories. */
export async function runSuite(options: SuiteOptions): Promise<SuiteResult> {
  const paths: string[] = [];
  for (const directory of options.directories) {
    const names = (await readdir(directory)).filter((name) => name.endsWith(".jsonl")).sort();
    paths.push(...names.map((name) => join(directory, name)));
  }
  const begin = systemClock.monotonicMs();
  const outcomes: Promise<FileOutcome>[] = [];
  let requests = 0;
  let next = 0;
  const worker = async (): Promise<void> => {
    // One client per worker: its last request belongs to the line in work.
    const client = new Client(options.origin, options.token);
    while (next < paths.length) {
      const at = next++;
      const outcome = replayFile(paths[at]!, client, options);
      settle[at]!(outcome);
      await outcome.catch(() => {});
    }
    requests += client.requests;
    await client.close();
  };
  const settle: ((outcome: Promise<FileOutcome>) => void)[] = [];
  for (const _ of paths) outcomes.push(new Promise((resolve) => settle.push(resolve)));
  const workers = Array.from({ length: Math.max(1, options.jobs) }, worker);
  const done: FileOutcome[] = [];
  for (const outcome of outcomes) {
    const settled = await outcome;
    done.push(settled);
    printOutcome(settled, options);
  }
  await Promise.all(workers);
  options.print("");
  const seconds = (systemClock.monotonicMs() - begin) / 1000;
  options.print(`${requests} requests in ${seconds.toFixed(1)} s`);
  return summarise(done, requests, options);
}

async function replayFile(
  path: string,
  client: Client,
  options: SuiteOptions,
): Promise<FileOutcome> {
  const name = basename(path);
  const recording = parseRecording(await readFile(path, "utf8"));
  if (typeof recording === "string") return { kind: "other", name, why: recording };
  const { subject } = recording.header;
  if (options.subjects !== null && !options.subjects.includes(subject)) {
    const why = `subject ${subject} not asked for`;
    return { kind: "left-out", name, why, lines: count(recording) };
  }
  return { kind: "replayed", report: await replay(name, recording, client, options.tracking) };
}

function count(recording: Recording): number {
  return recording.scenarios.reduce((sum, scenario) => sum + scenario.lines.length, 0);
}

const NAME_WIDTH = 26;

function printOutcome(outcome: FileOutcome, { print, verbose }: SuiteOptions): void {
  if (outcome.kind === "other") {
    print(`${outcome.name.padEnd(NAME_WIDTH)} not replayed, another kind of file: ${outcome.why}`);
  } else if (outcome.kind === "left-out") {
    print(`${outcome.name.padEnd(NAME_WIDTH)} skipped ${outcome.lines}: ${outcome.why}`);
  } else {
    const { report } = outcome;
    const skipped = report.marked + skippedByRule(report);
    const counts = `passed ${report.passed} failed ${report.differences.length} skipped ${skipped}`;
    print(`${report.name.padEnd(NAME_WIDTH)} ${counts}`);
    const shown = verbose ? report.differences : report.differences.slice(0, 1);
    for (const [at, difference] of shown.entries()) {
      print(`  ${at === 0 ? "first" : "next"} difference at ${differenceText(difference)}`);
    }
  }
}

function differenceText({ i, op, on, expected, got, request }: Difference): string {
  return [
    i < 0 ? "no line" : `line ${i}: ${op} on ${on}`,
    `    expected ${cut(expected)}`,
    `    got      ${cut(got)}`,
    `    request  ${request}`,
  ].join("\n");
}

function cut(text: string): string {
  return text.length > 600 ? `${text.slice(0, 600)}…` : text;
}

/** Whether the tracking that was asked for has left its traces. */
function wasTracked(
  tracking: Tracking | null,
  counted: ReadonlyMap<string, number>,
  print: (text: string) => void,
): boolean {
  if (tracking === null) return true;
  const values = tracking.counts.map((name) => [name, counted.get(name) ?? 0] as const);
  const text = values.map(([name, value]) => `${name} ${value}`).join(", ");
  print(`tracking by ${tracking.name}: ${text}`);
  return values.every(([, value]) => value > 0);
}

function summarise(
  outcomes: readonly FileOutcome[],
  requests: number,
  { print, tracking, subjects }: SuiteOptions,
): SuiteResult {
  const byRule = new Map<string, number>();
  const counted = new Map<string, number>();
  let [passed, failed, marked, leftOut] = [0, 0, 0, 0];
  for (const outcome of outcomes) {
    if (outcome.kind === "left-out") leftOut += outcome.lines;
    if (outcome.kind !== "replayed") continue;
    passed += outcome.report.passed;
    failed += outcome.report.differences.length;
    marked += outcome.report.marked;
    addTo(byRule, outcome.report.byRule);
    addTo(counted, outcome.report.counted);
  }
  const ruled = [...byRule.values()].reduce((sum, lines) => sum + lines, 0);
  const unmarked = passed + failed + ruled;
  const ruleShare = unmarked === 0 ? 0 : ruled / unmarked;
  for (const { name, why } of SKIP_RULES) {
    const lines = byRule.get(name);
    if (lines !== undefined) print(`skipped by rule ${name}: ${lines} (${why})`);
  }
  print(`marked as another architecture's: ${marked}; in files not asked for: ${leftOut}`);
  const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
  print(
    `skipped by rule: ${ruled} of ${unmarked} unmarked lines, ${percent(ruleShare)}; ` +
      `at most ${percent(SKIP_SHARE_MAX)} allowed`,
  );
  const isTracked = wasTracked(tracking, counted, print) || subjects !== null;
  const ok = failed === 0 && ruleShare <= SKIP_SHARE_MAX && isTracked;
  if (!isTracked) print("FAILED: the tracking that was asked for wasn't used");
  if (ruleShare > SKIP_SHARE_MAX) print("FAILED: the rules skip more than they may");
  const skipped = ruled + marked + leftOut;
  print(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return { passed, failed, skipped, ruleShare, requests, ok };
}
