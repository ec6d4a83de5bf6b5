// Owns: what `dirty-log-perf` prints: phases of each strategy, then strategies side by side.
// CLI process.
import type { Phase } from "./measure.js";
import type { PerfOptions } from "./options.js";

export interface Measured {
  readonly strategy: string;
  readonly phases: readonly Phase[];
}

const LABEL_WIDTH = 38;
const WIDTHS = [16, 13, 13] as const;

const sum = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);
const seconds = (value: number): string => `${value.toFixed(6)}s`;
const capital = (text: string): string => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
const cyclesIn = ({ cycles }: Phase): number => cycles.guest + cycles.ioctl;

function line(label: string, ...cells: readonly string[]): string {
  const padded = cells.map((cell, at) => cell.padStart(WIDTHS[at] ?? 0));
  return `${label.padEnd(LABEL_WIDTH)}${padded.join("")}`.trimEnd();
}

function row(label: string, phases: readonly Phase[]): string {
  return line(
    label,
    String(sum(phases.map(cyclesIn))),
    seconds(sum(phases.map(({ modelledS }) => modelledS))),
    seconds(sum(phases.map(({ realS }) => realS))),
  );
}

function labelOf({ name, iteration, pages }: Phase): string {
  const label = iteration === null ? name : `iteration ${iteration} ${name}`;
  const text = `${capital(label)} time:`;
  return pages === null ? text : `${text} ${pages}`;
}

/** Sizes as they were asked for. */
function sizeText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  let value = bytes;
  for (; value % 1024 === 0 && at < units.length - 1; at++) value /= 1024;
  return `${value} ${units[at]}`;
}

function headOf(options: PerfOptions): readonly string[] {
  const { vcpus, bytesPerVcpu, pageSize, iterations, pagesPerVcpu, manualProtect } = options;
  const log =
    manualProtect === 0 ? "cleared by GET" : manualProtect === 1 ? "clean" : "initially set";
  return [
    `Test iterations: ${iterations}`,
    `vCPUs: ${vcpus}, each with ${sizeText(bytesPerVcpu)} of ${sizeText(pageSize)} pages`,
    `Pages written per vCPU and iteration: ${pagesPerVcpu}; log: ${log}`,
  ];
}

function section({ strategy, phases }: Measured): readonly string[] {
  const lines = [`Strategy: ${strategy}`, line("", "modelled cycles", "modelled", "real")];
  for (const phase of phases) lines.push(row(labelOf(phase), [phase]));
  for (const name of ["get dirty log", "clear dirty log"]) {
    const mine = phases.filter((phase) => phase.name === name);
    if (mine.length === 0) continue;
    const total = sum(mine.map(({ modelledS }) => modelledS));
    lines.push(
      `${capital(name)} over ${mine.length} iterations took ${seconds(total)} modelled. ` +
        `(Avg ${seconds(total / mine.length)}/iteration)`,
    );
  }
  return lines;
}

/** The first pass finds every page clean; the strategies differ most there. */
function comparison(all: readonly Measured[], iterations: number): readonly string[] {
  const lines = [line(`Last iteration (${iterations})`, "modelled cycles", "modelled", "real")];
  for (const { strategy, phases } of all) {
    lines.push(
      row(
        `  ${strategy}`,
        phases.filter((phase) => phase.iteration === iterations),
      ),
    );
  }
  return lines;
}

export function textOf(options: PerfOptions, all: readonly Measured[]): string {
  const blocks = [headOf(options), ...all.map(section), comparison(all, options.iterations)];
  return `${blocks.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}
