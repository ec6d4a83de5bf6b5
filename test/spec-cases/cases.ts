// Owns: which specifications have numbered cases, where their tests are, what a test's name says of
// its case. Test process.
import { SEED_BUGS } from "../../src/kvm/dirty/seed-bug.table.js";
import { DIRTY_CASES } from "./dirty.table.js";
import { IRQ_CASES, IRQ_DEFECTS } from "./irq.table.js";
import type { SpecCase } from "./spec-case.js";

export interface Specification {
  readonly name: string;
  /** Its tests are here. */
  readonly folder: string;
  readonly cases: readonly SpecCase[];
  /** What has to break a case, beside its plain run. */
  defectsOf(number: string): readonly string[];
}

function seedBugsOf(number: string): readonly string[] {
  return Object.entries(SEED_BUGS)
    .filter(([, { test }]) => test?.split(", ").includes(number))
    .map(([bug]) => bug);
}

export const SPECIFICATIONS: readonly Specification[] = [
  { name: "dirty", folder: "test/dirty", cases: DIRTY_CASES, defectsOf: seedBugsOf },
  {
    name: "irq",
    folder: "test/irq",
    cases: IRQ_CASES,
    defectsOf: (number) => IRQ_DEFECTS[number] ?? [],
  },
];

/** @returns the case, and the defect it runs with; null for a test without a number */
export function caseOf(
  name: string,
): { readonly number: string; readonly bug: string | null } | null {
  const match = /^([A-Z]-?\d+)(?: with ([^:]+))?: \S/.exec(name);
  return match === null ? null : { number: match[1]!, bug: match[2] ?? null };
}

/** Numbers in a file's test names, as its text tells: `it("T-01: …"` or `twice("T-01", …`. */
export function numbersIn(source: string): readonly string[] {
  const names = source.matchAll(
    /["'`]([A-Z]-?\d+)(?:: | with )|\btwice\(\s*["'`]([A-Z]-?\d+)["'`]/g,
  );
  return [...new Set([...names].map((match) => (match[1] ?? match[2])!))];
}
