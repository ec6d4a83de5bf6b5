// Owns: the phases of one strategy, in the order of the kernel's dirty_log_perf_test. CLI process.
import { systemClock } from "../../base/clock.js";
import type { PerfGuest } from "./guest.js";
import { type Costs, type Cycles, cyclesOf, type PhaseKind, secondsOf } from "./model.js";
import type { PerfOptions } from "./options.js";

export interface Phase {
  readonly name: string;
  /** From 1 on; null outside of the iterations. */
  readonly iteration: number | null;
  readonly realS: number;
  readonly modelledS: number;
  readonly cycles: Cycles;
  /** Pages that the log named; of "get dirty log". */
  readonly pages: number | null;
  /** Counters that moved. */
  readonly counters: Readonly<Record<string, number>>;
}

const MS_PER_S = 1000;

function moved(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  const pairs = Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]);
  return Object.fromEntries(pairs.filter(([, by]) => by !== 0)) as Record<string, number>;
}

/** @returns a promise that only ever fails: when the signal comes */
function abortOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
  });
}

/** @param signal ends it all; what is under way ends with the VM */
export async function measure(
  guest: PerfGuest,
  options: PerfOptions,
  costs: Costs,
  signal: AbortSignal,
): Promise<readonly Phase[]> {
  const phases: Phase[] = [];
  const aborted = abortOf(signal);
  // Nobody may be listening when it comes.
  aborted.catch(() => {});
  const { vcpus, iterations, manualProtect } = options;
  const { words, completion, quantumUs } = guest;
  const phase = async (
    kind: PhaseKind,
    name: string,
    iteration: number | null,
    work: () => Promise<number | null>,
  ): Promise<void> => {
    const before = await guest.counters();
    const start = systemClock.monotonicMs();
    const pages = await Promise.race([work(), aborted]);
    const realS = (systemClock.monotonicMs() - start) / MS_PER_S;
    const counters = moved(before, await guest.counters());
    const cycles = cyclesOf({ kind, counters, vcpus, words, completion, quantumUs }, costs);
    const modelledS = secondsOf(cycles, vcpus);
    phases.push({ name, iteration, realS, modelledS, cycles, pages, counters });
  };
  await guest.load(true);
  await phase("run", "populate memory", null, () => guest.run());
  await phase("ioctl", "enabling dirty logging", null, () => guest.setLogging(true));
  for (let iteration = 1; iteration <= iterations; iteration++) {
    await guest.load(false);
    await phase("run", "dirty memory", iteration, () => guest.run());
    await phase("ioctl", "get dirty log", iteration, () => guest.get());
    if (manualProtect > 0) await phase("ioctl", "clear dirty log", iteration, () => guest.clear());
  }
  await phase("ioctl", "disabling dirty logging", null, () => guest.setLogging(false));
  return phases;
}
