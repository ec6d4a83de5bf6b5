// What a run's counters must not say under settings that a plant pins: defects that lose no page
// and cost time instead.
import type { Machine } from "../../../src/vmm/machine.js";

type Values = Machine["kvm"]["vm"]["counters"]["values"];

/** A wait in modelled microseconds that covers any quantum drawn here. */
const QUANTUM_US = 1000;

export const DETECTORS = {
  /** Hardware did all that it was asked for, and software did it again. */
  "spurious-eagain": (v: Values): boolean =>
    v.clearFallbacksEagain > v.hacdbsErrStructf + v.hacdbsTimeouts,
  /** Longer than every entry in a step of its own, and a quantum for each look. */
  "slow-wait": (v: Values): boolean => {
    const looks = v.hacdbsBatches + v.hacdbsErrIpaf + v.hacdbsErrIpahacf + v.hacdbsErrStructf;
    return v.hacdbsWaitUs > v.hacdbsEntries + looks * (1 + QUANTUM_US);
  },
  "timed-out": (v: Values): boolean => v.hacdbsTimeouts > 0,
  /** Hardware was given what it can't clean, although every leaf lets it. */
  "refused-leaf": (v: Values): boolean => v.hacdbsErrIpahacf > 0,
} as const;

export type WatchName = keyof typeof DETECTORS;

/** @returns what is wrong, or null */
export function detect(name: WatchName, { kvm }: Machine): string | null {
  const { values } = kvm.vm.counters;
  if (!DETECTORS[name](values)) return null;
  const counts = Object.entries(values).filter(([key]) => /^hacdbs|^clear/.test(key));
  return `${name}: ${counts.map(([key, count]) => `${key} ${count}`).join(", ")}`;
}
