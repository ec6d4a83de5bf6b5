// Owns: what counted events would cost on silicon, by the host's cost model. CLI process.
//   run    vCPUs store: what they wait for is theirs
//   ioctl  the caller waits; a vCPU that is kicked pays for its exit and its drain
// @source dirty-tracking.md 8.2, 8.3
import { Failure } from "../failure.js";

/** Event → cycles. */
export type Costs = Readonly<Record<string, number>>;
export type PhaseKind = "run" | "ioctl";

export interface Cycles {
  /** Cycles that vCPUs stood still, all together. */
  readonly guest: number;
  /** Cycles in ioctls. */
  readonly ioctl: number;
}

/** What a phase is computed from. */
export interface Counted {
  readonly kind: PhaseKind;
  /** Counter → how far it went. */
  readonly counters: Readonly<Record<string, number>>;
  readonly vcpus: number;
  /** 64-page words of the slot. */
  readonly words: number;
  /** hacdbs.completion and hacdbs.quantumUs. */
  readonly completion: string;
  readonly quantumUs: number;
}

/** The model's clock. */
const CYCLES_PER_S = 3e9;
/** pollQuantum is the cost of this long. */
const MODEL_QUANTUM_US = 10;

/** @throws Failure when an override names no cost */
export function costsWith(overrides: Costs, defaults: Costs): Costs {
  for (const key of Object.keys(overrides)) {
    if (Object.hasOwn(defaults, key)) continue;
    const known = Object.keys(defaults).join(", ");
    throw new Failure(`The cost model has no ${key}; it has ${known}.`);
  }
  return { ...defaults, ...overrides };
}

type Lookup = (name: string) => number;

function drains(n: Lookup, cost: Lookup): number {
  const names = ["Put", "Request", "Fault", "Exit", "Sync"].map((when) => `hdbssDrains${when}`);
  const all = names.reduce((sum, name) => sum + n(name), 0);
  const entries = n("hdbssDrainedEntries");
  // What was marked beyond faults and entries are the other pages of blocks.
  const others = n("dirtyMarked") - n("s2WriteFaults") - n("s2MapFaults") - entries;
  const blockPages = entries === 0 ? 0 : Math.max(0, others);
  return (
    all * cost("drainFixed") + entries * cost("drainPerEntry") + blockPages * cost("drainTtwlBlock")
  );
}

function invalidations(n: Lookup, cost: Lookup, cpus: number): number {
  return (
    n("tlbiVmid") * (cost("tlbiVmid") + cpus * cost("tlbiVmidPerCpu")) +
    n("tlbiRange") * (cost("tlbiRange") + cpus * cost("tlbiRangePerCpu"))
  );
}

/** Cycles that a caller waits for batches beyond what the hardware needs. */
function waiting(n: Lookup, cost: Lookup, { completion, quantumUs }: Counted): number {
  const batches = n("hacdbsBatches");
  if (batches === 0 || completion === "poll-tight") return 0;
  if (completion !== "poll-quantum") return (n("hacdbsIrqs") || batches) * cost("irqEntryExit");
  const busy =
    n("hacdbsEntries") * cost("hacdbsPerEntry") + n("hacdbsInvalidSkipped") * cost("hacdbsSkip");
  const quantum = (cost("pollQuantum") * quantumUs) / MODEL_QUANTUM_US;
  return Math.max(0, batches * Math.ceil(busy / batches / quantum) * quantum - busy);
}

function runCycles(n: Lookup, cost: Lookup, vcpus: number): number {
  // A fault takes longer the more vCPUs fault at the same time.
  const contended = cost("s2WpFault") * (1 + cost("s2WpFaultContention") * (vcpus - 1));
  return (
    n("s2MapFaults") * cost("s2MapFault") +
    n("s2WriteFaults") * contended +
    n("hwDirtied") * cost("hwDirty") +
    n("hdbssAppends") * cost("hdbssAppend") +
    n("hdbssFullFaults") * cost("hdbssFullExit") +
    drains(n, cost) +
    (n("dirtyRingExits") + n("clearCleanedExits")) * cost("exitEntry") +
    n("ringPushed") * cost("ringPush") +
    n("s2Splits") * cost("splitBlock") +
    // Batches that run beside the guest: starting one and its interrupt take the guest's time.
    n("hacdbsBatches") * cost("hacdbsStart") +
    n("hacdbsIrqs") * cost("kickExit") +
    invalidations(n, cost, vcpus)
  );
}

function ioctlCycles(n: Lookup, cost: Lookup, counted: Counted): number {
  // A reset of a ring protects pages too; ringReset stands for both.
  const pages = Math.max(0, n("pagesProtected") - n("ringReset"));
  const bits = Math.max(0, n("hacdbsEntries") - n("hacdbsTerminators"));
  // Where HACDBS did all of a CLEAR, making entries of bits was the walk.
  const words = pages === 0 ? 0 : counted.words;
  return (
    pages * cost("swWpPage") +
    words * cost("swWalkPerWord") +
    n("s2Splits") * cost("splitBlock") +
    n("pagesScanned") * cost("scanLeaf") +
    n("ringReset") * cost("ringReset") +
    n("kicks") * cost("kickIpi") +
    n("hacdbsBatches") * cost("hacdbsStart") +
    n("hacdbsEntries") * cost("hacdbsPerEntry") +
    n("hacdbsInvalidSkipped") * cost("hacdbsSkip") +
    bits * cost("convertBit") +
    n("rollbackBits") * cost("rollbackEntry") +
    waiting(n, cost, counted) +
    invalidations(n, cost, counted.vcpus)
  );
}

export function cyclesOf(counted: Counted, costs: Costs): Cycles {
  const n: Lookup = (counter) => counted.counters[counter] ?? 0;
  const cost: Lookup = (key) => costs[key] ?? 0;
  if (counted.kind === "run") {
    return { guest: Math.round(runCycles(n, cost, counted.vcpus)), ioctl: 0 };
  }
  return {
    guest: Math.round(n("kicks") * cost("kickExit") + drains(n, cost)),
    ioctl: Math.round(ioctlCycles(n, cost, counted)),
  };
}

/** Seconds that a phase would take: vCPUs stand still side by side, ioctls one after the other. */
export function secondsOf({ guest, ioctl }: Cycles, vcpus: number): number {
  return (guest / vcpus + ioctl) / CYCLES_PER_S;
}
