// Owns: events that a VM counted → cycles of the cost model, and who pays them. HTTP thread.
//
//   run phase    vCPUs store: everything stalls the guest
//   ioctl phase  GET, CLEAR, resets: the caller pays; a kicked vCPU pays its exit and its drain
// @source dirty-tracking.md 8.2, 6.2
import type { CostKey, CostModel } from "./cost-model.table.js";
import type { Cycles } from "./types.js";

/** Counters of a VM; one that this host doesn't have counts nothing. */
export type Counts = Readonly<Record<string, number>>;

export function countOf(counts: Counts, ...names: readonly string[]): number {
  return names.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
}

/** What happened between two looks at the counters. */
export function countsBetween(before: Counts, after: Counts): Counts {
  const entries = Object.keys(after).map((name) => [
    name,
    (after[name] ?? 0) - (before[name] ?? 0),
  ]);
  return Object.fromEntries(entries);
}

export function addCounts(a: Counts, b: Counts): Counts {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return Object.fromEntries([...names].map((name) => [name, countOf(a, name) + countOf(b, name)]));
}

export const DRAINS = [
  "hdbssDrainsPut",
  "hdbssDrainsRequest",
  "hdbssDrainsFault",
  "hdbssDrainsExit",
  "hdbssDrainsSync",
] as const;

export interface CostContext {
  readonly model: CostModel;
  readonly vcpus: number;
  readonly hostCpus: number;
  /** 64-page words of the slot. */
  readonly words: number;
  /** Pages that the guest misses in its TLB because of the last invalidation. */
  readonly refills: number;
  readonly completion: string;
  readonly quantumUs: number;
}

interface Charge {
  readonly key: CostKey;
  readonly payer: "guest" | "ioctl";
  readonly locked: boolean;
  readonly cycles: number;
}

/** A fault takes longer the more vCPUs fault at the same time. */
export function writeFaultCycles(model: CostModel, vcpus: number): number {
  return model.s2WpFault * (1 + model.s2WpFaultContention * (vcpus - 1));
}

function pay(
  payer: Charge["payer"],
  locked: boolean,
  costs: Readonly<Partial<Record<CostKey, number>>>,
): readonly Charge[] {
  return Object.entries(costs).map(([key, cycles]) => ({
    key: key as CostKey,
    payer,
    locked,
    cycles,
  }));
}

function invalidations(counts: Counts, { model, hostCpus }: CostContext) {
  return {
    tlbiVmid: countOf(counts, "tlbiVmid") * (model.tlbiVmid + model.tlbiVmidPerCpu * hostCpus),
    tlbiRange: countOf(counts, "tlbiRange") * (model.tlbiRange + model.tlbiRangePerCpu * hostCpus),
  };
}

function drains(counts: Counts, model: CostModel) {
  const entries = countOf(counts, "hdbssDrainedEntries");
  const faults = countOf(counts, "s2WriteFaults", "s2MapFaults");
  const blockPages = entries === 0 ? 0 : countOf(counts, "dirtyMarked") - faults - entries;
  return {
    drainFixed: countOf(counts, ...DRAINS) * model.drainFixed,
    drainPerEntry: entries * model.drainPerEntry,
    drainTtwlBlock: Math.max(0, blockPages) * model.drainTtwlBlock,
  };
}

function runCharges(counts: Counts, context: CostContext): readonly Charge[] {
  const { model, vcpus, refills } = context;
  return pay("guest", false, {
    s2WpFault: countOf(counts, "s2WriteFaults") * writeFaultCycles(model, vcpus),
    s2MapFault: countOf(counts, "s2MapFaults") * model.s2MapFault,
    hwDirty: countOf(counts, "hwDirtied") * model.hwDirty,
    hdbssAppend: countOf(counts, "hdbssAppends") * model.hdbssAppend,
    hdbssFullExit: countOf(counts, "hdbssFullFaults") * model.hdbssFullExit,
    ...drains(counts, model),
    exitEntry: countOf(counts, "dirtyRingExits", "clearCleanedExits") * model.exitEntry,
    kickExit: countOf(counts, "hacdbsIrqs") * model.kickExit,
    ringPush: countOf(counts, "ringPushed") * model.ringPush,
    splitBlock: countOf(counts, "s2Splits") * model.splitBlock,
    // HACDBS cleans beside the guest here: only starting a batch takes the guest's time.
    hacdbsStart: countOf(counts, "hacdbsBatches") * model.hacdbsStart,
    tlbRefill: refills * model.tlbRefill,
    ...invalidations(counts, context),
  });
}

/** Time that a caller waits for batches beyond what the hardware needs. */
function completion(counts: Counts, context: CostContext) {
  const { model, completion: mode, quantumUs } = context;
  const batches = countOf(counts, "hacdbsBatches");
  const busy =
    countOf(counts, "hacdbsEntries") * model.hacdbsPerEntry +
    countOf(counts, "hacdbsInvalidSkipped") * model.hacdbsSkip;
  if (mode === "poll-tight" || batches === 0) return {};
  if (mode !== "poll-quantum") {
    const irqs = countOf(counts, "hacdbsIrqs");
    return { irqEntryExit: (irqs === 0 ? batches : irqs) * model.irqEntryExit };
  }
  const quantum = (model.pollQuantum * quantumUs) / 10;
  const waited = batches * Math.ceil(busy / batches / quantum) * quantum;
  return { pollQuantum: Math.max(0, waited - busy) };
}

function ioctlCharges(counts: Counts, context: CostContext): readonly Charge[] {
  const { model, words } = context;
  const kicks = countOf(counts, "kicks");
  // A reset protects pages too; ringReset stands for both.
  const resets = countOf(counts, "ringReset");
  const pages = Math.max(0, countOf(counts, "pagesProtected") - resets);
  const bits = countOf(counts, "hacdbsEntries") - countOf(counts, "hacdbsTerminators");
  return [
    ...pay("ioctl", true, {
      swWpPage: pages * model.swWpPage,
      // A CLEAR that HACDBS did all of has no walk of software's.
      swWalkPerWord: pages === 0 ? 0 : words * model.swWalkPerWord,
      splitBlock: countOf(counts, "s2Splits") * model.splitBlock,
      hacdbsStart: countOf(counts, "hacdbsBatches") * model.hacdbsStart,
      hacdbsPerEntry: countOf(counts, "hacdbsEntries") * model.hacdbsPerEntry,
      hacdbsSkip: countOf(counts, "hacdbsInvalidSkipped") * model.hacdbsSkip,
      convertBit: Math.max(0, bits) * model.convertBit,
      rollbackEntry: countOf(counts, "rollbackBits") * model.rollbackEntry,
      ringReset: resets * model.ringReset,
      ...completion(counts, context),
    }),
    ...pay("ioctl", false, {
      scanLeaf: countOf(counts, "pagesScanned") * model.scanLeaf,
      kickIpi: kicks * model.kickIpi,
      ...invalidations(counts, context),
    }),
    ...pay("guest", false, { kickExit: kicks * model.kickExit, ...drains(counts, model) }),
  ];
}

function sum(charges: readonly Charge[]): number {
  return charges.reduce((total, { cycles }) => total + cycles, 0);
}

/** What a phase costs by the model. */
export function cyclesOf(run: Counts, ioctl: Counts, context: CostContext): Cycles {
  const charges = [...runCharges(run, context), ...ioctlCharges(ioctl, context)];
  const byEvent: Partial<Record<CostKey, number>> = {};
  for (const { key, cycles } of charges) {
    if (cycles !== 0) byEvent[key] = (byEvent[key] ?? 0) + cycles;
  }
  return {
    guestStall: sum(charges.filter(({ payer }) => payer === "guest")),
    ioctl: sum(charges.filter(({ payer }) => payer === "ioctl")),
    lockHeld: sum(charges.filter(({ locked }) => locked)),
    byEvent,
  };
}
