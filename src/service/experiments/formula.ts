// Owns: the closed formulas of a round: what D pages cost each way of tracking. HTTP thread.
// @source dirty-tracking.md 8.3
import { writeFaultCycles } from "./cost.js";
import type { CostKey, CostModel } from "./cost-model.table.js";

export interface FormulaInput {
  readonly model: CostModel;
  readonly tracking: "write-protect" | "dbm" | "hdbss";
  readonly clean: "software" | "hacdbs";
  /** D: pages dirtied once. */
  readonly pages: number;
  /** V. */
  readonly vcpus: number;
  readonly hostCpus: number;
  /** E: entries of a buffer. */
  readonly entries: number;
  /** Ec: entries of the array that HACDBS is given. */
  readonly arrayEntries: number;
  readonly slotPages: number;
  /** Cycles that a caller waits per batch beyond the hardware's own. */
  readonly completion: number;
  /** First round of hdbss.dbm=on-write-fault-while-logging: every page still takes its fault. */
  readonly faultsFirst: boolean;
  /** vCPUs were in the guest when the log was read. */
  readonly running: boolean;
}

export type Terms = Readonly<Partial<Record<CostKey, number>>>;

function runTerms(input: FormulaInput): Terms {
  const { model, tracking, pages, vcpus, entries, slotPages, running } = input;
  const faults = { s2WpFault: pages * writeFaultCycles(model, vcpus) };
  if (tracking === "write-protect") return faults;
  const dirty = { hwDirty: pages * model.hwDirty };
  if (tracking === "dbm") return { ...dirty, scanLeaf: slotPages * model.scanLeaf };
  // The fault marks the page itself, and leaves it dirty: nothing is left to log in that round.
  if (input.faultsFirst) return faults;
  const full = Math.ceil(pages / entries);
  return {
    ...dirty,
    hdbssAppend: pages * model.hdbssAppend,
    hdbssFullExit: full * model.hdbssFullExit,
    drainFixed: full * model.drainFixed,
    drainPerEntry: pages * model.drainPerEntry,
    ...(running ? { kickIpi: vcpus * model.kickIpi, kickExit: vcpus * model.kickExit } : {}),
  };
}

function clearTerms(input: FormulaInput): Terms {
  const { model, clean, pages, slotPages, arrayEntries, completion } = input;
  if (clean === "software") {
    return {
      swWpPage: pages * model.swWpPage,
      swWalkPerWord: Math.ceil(slotPages / 64) * model.swWalkPerWord,
    };
  }
  const batches = Math.ceil(pages / arrayEntries);
  return {
    hacdbsStart: batches * model.hacdbsStart,
    convertBit: pages * model.convertBit,
    hacdbsPerEntry: pages * model.hacdbsPerEntry,
    pollQuantum: batches * completion,
  };
}

/** The formula's terms by event. */
export function formulaTerms(input: FormulaInput): Terms {
  const { model, hostCpus } = input;
  return {
    ...runTerms(input),
    ...clearTerms(input),
    tlbiRange: model.tlbiRange + model.tlbiRangePerCpu * hostCpus,
  };
}

export function total(terms: Terms): number {
  return Object.values(terms).reduce((sum, cycles) => sum + cycles, 0);
}
