// Owns: from samples of both sides to rows with ratios and bars, and the table. Bench process.
import { median } from "../../support/measure.js";
import type { Phase } from "./image.js";
import type { Sample } from "./transcript.js";

/** One round: the same work on both sides, one right after the other. */
export interface Round {
  readonly ours: readonly Sample[];
  readonly qemu: readonly Sample[];
}

export interface Row {
  readonly phase: string;
  /** Millions of guest instructions. */
  readonly millions: number;
  readonly qemuMs: number;
  readonly oursMs: number;
  /** QEMU's time over ours, median over the rounds: more than 1 is faster than QEMU. */
  readonly ratio: number;
  /** The same of each round's first repetition, where translation is paid. */
  readonly firstRatio: number;
  /** What the first repetition took longer than the others. */
  readonly firstExtraMs: number;
  readonly bar: number | null;
}

export type TimeOf = (sample: Sample) => number;

/** Rows of integer code: their geometric mean has a bar of its own, dhrystone left out. */
export const INTEGER: readonly Phase[] = [
  "alu",
  "dhrystone",
  "calls",
  "indirect",
  "sum",
  "memcpy",
  "sha256",
];
export const FLOATING: readonly Phase[] = ["matrix", "vectoradd", "memchr"];
const BARS = { integer: 0.7, floating: 0.3, tier0: 0.2, mean: 1 } as const;

function barOf(phase: Phase, tier0: boolean): number | null {
  if (tier0) return INTEGER.includes(phase) ? BARS.tier0 : null;
  if (INTEGER.includes(phase)) return BARS.integer;
  return FLOATING.includes(phase) ? BARS.floating : null;
}

/** @throws Error when the two sides computed different things */
export function checkSums({ ours, qemu }: Round): void {
  const text = (samples: readonly Sample[]) =>
    samples.map(({ phase, repetition, sum }) => `${phase} ${repetition} ${sum}`);
  const theirs = text(qemu);
  for (const [at, line] of text(ours).entries()) {
    if (line !== theirs[at]) throw new Error(`checksums differ: ${line}, QEMU ${theirs[at]}`);
  }
  if (theirs.length !== ours.length) throw new Error("QEMU ran more phases");
}

export interface RowOptions {
  readonly tier0: boolean;
  readonly times: { readonly ours: TimeOf; readonly qemu: TimeOf };
}

/** Times of one side in one round: the first repetition, and the median of the others. */
function split(samples: readonly Sample[], phase: string, time: TimeOf) {
  const [first = Number.NaN, ...later] = samples.filter((s) => s.phase === phase).map(time);
  return { first, steady: later.length === 0 ? first : median(later) };
}

export function rowOf(phase: Phase, rounds: readonly Round[], options: RowOptions): Row {
  const { times, tier0 } = options;
  const ours = rounds.map((round) => split(round.ours, phase, times.ours));
  const qemu = rounds.map((round) => split(round.qemu, phase, times.qemu));
  const sample = rounds[0]?.ours.findLast((s) => s.phase === phase);
  return {
    phase,
    millions: (sample?.instructions ?? Number.NaN) / 1e6,
    qemuMs: median(qemu.map(({ steady }) => steady)),
    oursMs: median(ours.map(({ steady }) => steady)),
    ratio: median(qemu.map(({ steady }, at) => steady / (ours[at]?.steady ?? Number.NaN))),
    firstRatio: median(qemu.map(({ first }, at) => first / (ours[at]?.first ?? Number.NaN))),
    firstExtraMs: median(ours.map(({ first, steady }) => first - steady)),
    bar: barOf(phase, tier0),
  };
}

/** A row of a phase's one repetition that counts, with the dirty log on in it. */
export function logRowOf(
  name: string,
  repetition: number,
  rounds: readonly Round[],
  options: RowOptions & { readonly bar: number | null },
): Row {
  const { times, bar } = options;
  const at = (samples: readonly Sample[], time: TimeOf) => {
    const sample = samples.find((s) => s.repetition === repetition);
    return sample === undefined ? Number.NaN : time(sample);
  };
  const ours = rounds.map((round) => at(round.ours, times.ours));
  const qemu = rounds.map((round) => at(round.qemu, times.qemu));
  const ratio = median(qemu.map((ms, n) => ms / (ours[n] ?? Number.NaN)));
  const sample = rounds[0]?.ours.find((s) => s.repetition === repetition);
  return {
    phase: name,
    millions: (sample?.instructions ?? Number.NaN) / 1e6,
    qemuMs: median(qemu),
    oursMs: median(ours),
    ratio,
    firstRatio: ratio,
    firstExtraMs: Number.NaN,
    bar,
  };
}

export function geometricMean(ratios: readonly number[]): number {
  return Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
}

export interface Mean {
  readonly what: string;
  readonly ratio: number;
  readonly bar: number | null;
}

/** Means over the rows that were measured; a mean of a part of its rows has no bar. */
export function means(rows: readonly Row[], tier0: boolean): readonly Mean[] {
  const ratios = (phases: readonly Phase[]) =>
    rows.filter(({ phase }) => phases.includes(phase as Phase)).map(({ ratio }) => ratio);
  const noDhrystone = INTEGER.filter((phase) => phase !== "dhrystone");
  const without = ratios(noDhrystone);
  const whole = without.length === noDhrystone.length && !tier0;
  return [
    {
      what: "geometric mean, integer without dhrystone",
      ratio: geometricMean(without),
      bar: whole ? BARS.mean : null,
    },
    { what: "geometric mean, integer", ratio: geometricMean(ratios(INTEGER)), bar: null },
    { what: "geometric mean, FP and SIMD", ratio: geometricMean(ratios(FLOATING)), bar: null },
  ].filter(({ ratio }) => !Number.isNaN(ratio));
}

const number = (value: number, digits: number): string =>
  Number.isNaN(value) ? "" : value.toFixed(digits);

function verdict(ratio: number, bar: number | null): string {
  if (bar === null) return "";
  return `>= ${bar.toFixed(1)} ${ratio >= bar ? "met" : "MISSED"}`;
}

const HEAD = [
  "phase",
  "Minsn",
  "QEMU ms",
  "ours ms",
  "ratio",
  "QEMU MIPS",
  "our MIPS",
  "first",
  "first +ms",
  "bar",
];

export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.phase,
    number(row.millions, 1),
    number(row.qemuMs, 1),
    number(row.oursMs, 1),
    number(row.ratio, 2),
    number((row.millions / row.qemuMs) * 1000, 0),
    number((row.millions / row.oursMs) * 1000, 0),
    number(row.firstRatio, 2),
    number(row.firstExtraMs, 1),
    verdict(row.ratio, row.bar),
  ]);
  const lines = [HEAD, ...cells];
  const widths = HEAD.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  const flush = (text: string, at: number) => {
    const left = at === 0 || at === HEAD.length - 1;
    return left ? text.padEnd(widths[at] ?? 0) : text.padStart(widths[at] ?? 0);
  };
  return lines.map((line) => line.map(flush).join("  ").trimEnd()).join("\n");
}

export function meanLines(found: readonly Mean[]): string {
  return found
    .map(({ what, ratio, bar }) => `${what}: ${ratio.toFixed(2)} ${verdict(ratio, bar)}`.trimEnd())
    .join("\n");
}

export function missed(rows: readonly Row[], found: readonly Mean[]): number {
  return [...rows, ...found].filter(({ ratio, bar }) => bar !== null && !(ratio >= bar)).length;
}
