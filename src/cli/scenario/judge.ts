// Owns: what came of a restart, from what was seen of it, and whether that is what is told.
// CLI process.
import type { Expected, Outcome } from "./variants.table.js";

export interface Observed {
  /** Interrupts that the second guest took: the level of the device's line at each. */
  readonly taken: readonly boolean[];
  readonly acks: number;
  readonly early: number;
  /** How often the host took the device's interrupt for the second VM, and unmasked it. */
  readonly interrupts: number;
  readonly unmasks: number;
  readonly isHigh: boolean;
  readonly isMasked: boolean;
  readonly isPending: boolean;
  /** Whether the device's next interrupt was served; null: the guest wants none. */
  readonly servesNext: boolean | null;
}

export function outcomeOf(seen: Observed): Outcome {
  const { taken, isHigh, isMasked, isPending, servesNext } = seen;
  if (taken.length === 0) {
    if (isPending && servesNext !== false) return "waiting";
    return isHigh && isMasked && !isPending ? "lost" : "stuck";
  }
  if (isHigh || isMasked || isPending || servesNext !== true) return "stuck";
  if (!taken.includes(true)) return "for nothing";
  return taken.length === 1 ? "recovered" : "served twice";
}

/** What differs from what is told, a sentence each. */
export function differences(seen: Observed, expected: Expected): readonly string[] {
  const found = { outcome: outcomeOf(seen), taken: seen.taken.length };
  const is: Expected = { ...found, acks: seen.acks, early: seen.early };
  const names = ["outcome", "taken", "acks", "early"] as const;
  return names
    .filter((name) => is[name] !== expected[name])
    .map((name) => `${name}: ${is[name]}, but told is ${expected[name]}`);
}
