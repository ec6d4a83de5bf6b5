// Owns: what an experiment is asked for and what it gives, as plain JSON-ready data. HTTP thread.
import type { PageSize } from "../../base/page.js";
import type { ImageRef } from "../../runtime/index.js";
import type { CostKey, CostModel } from "./cost-model.table.js";
import type {
  InterruptRequest,
  InterruptResult,
  InterruptSpec,
  InterruptWorkload,
} from "./interrupts/types.js";

export type { CostKey, CostRow } from "./cost-model.table.js";
export type * from "./interrupts/types.js";

export type Tracking = "write-protect" | "dbm" | "dirty-ring" | "hdbss";
type Pattern = "uniform" | "zipf" | "sequential" | "hot-set";
type SettingValue = string | number | boolean;

/** What any guest's tracking has. */
interface Tracked {
  readonly vcpus: number;
  readonly rounds: number;
  /** u64 as text. */
  readonly seed: string;
  readonly pageSize: PageSize;
  /** Argument of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. */
  readonly manualProtect: 0 | 1 | 3;
  /** Pages of one CLEAR; 0: the slot. */
  readonly clearPages: number;
  /** KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE; 0: left alone. */
  readonly splitChunk: number;
  /** 0: as many as vCPUs. */
  readonly hostCpus: number;
}

/** Stores by a pattern, by vCPUs without code. */
export interface SyntheticWorkload extends Tracked {
  readonly kind: "synthetic";
  /** Window of each vCPU, whole pages; one after the other unless shared. */
  readonly bytesPerVcpu: number;
  readonly sharedWindow: boolean;
  readonly pattern: Pattern;
  /** zipf exponent × 100, or hot-set share in percent. */
  readonly skew: number;
  /** Bytes between neighbouring stores of "sequential", round by round in turn; none: a page. */
  readonly strides: readonly number[];
  /** Of each vCPU; 0: one pass over its window. */
  readonly storesPerRound: number;
  readonly backing: "ram" | "unbacked";
  readonly hugePages: boolean;
  /** Every page is stored to once before logging begins. */
  readonly populate: boolean;
}

/** A guest image on a board. */
export interface ImageWorkload<I = ImageRef> extends Tracked {
  readonly kind: "image";
  readonly image: I;
  /** What a kernel unpacks first; absent: nothing. */
  readonly initrd?: I;
  /** Interrupt controller of the board; absent: none. */
  readonly gic?: 2 | 3 | 5;
  readonly cmdline: string;
  readonly memoryMiB: number;
  /** Of all vCPUs together; what they sleep counts as if they ran. */
  readonly instructionsPerRound: number;
  /** Before logging begins. */
  readonly warmUpInstructions: number;
}

/** Stores whose tracking is compared; the same for every strategy. */
export type Workload = SyntheticWorkload | ImageWorkload;

/** One way to track the same stores. */
export interface Strategy {
  readonly name: string;
  readonly tracking: Tracking;
  /** Order of each vCPU's buffer, for "hdbss". */
  readonly hdbssOrder: number;
  /** Entries of each vCPU's ring, for "dirty-ring". */
  readonly ringEntries: number;
  readonly clean: "software" | "hacdbs";
  /** null: the workload's. */
  readonly splitChunk: number | null;
  readonly settings: Readonly<Record<string, SettingValue>>;
  readonly seedBugs: readonly string[];
}

export interface TrackingSpec {
  readonly name: string;
  readonly workload: Workload;
  readonly strategies: readonly Strategy[];
  /** What differs from the table. */
  readonly costModel: Readonly<Partial<Record<CostKey, number>>>;
}

/** Ways to track stores, or interrupt controllers. */
export type ExperimentSpec = TrackingSpec | InterruptSpec;

interface OfInterrupts {
  readonly workload: { readonly kind: "interrupts" };
}

/** Of a request, a spec, or results. */
export function isInterrupts<S extends { readonly workload: { readonly kind?: string } }>(
  of: S,
): of is Extract<S, OfInterrupts> {
  return of.workload.kind === "interrupts";
}

/** As a client sends it: what isn't named by Pick has a default. */
type SyntheticRequest = Partial<SyntheticWorkload> &
  Pick<SyntheticWorkload, "vcpus" | "bytesPerVcpu" | "storesPerRound" | "rounds">;
/** Images by their names. */
export type ImageRequest = Partial<Omit<ImageWorkload<string>, "kind" | "image">> &
  Pick<ImageWorkload<string>, "kind" | "image" | "instructionsPerRound" | "rounds">;

export type ExperimentRequest = TrackingRequest | InterruptRequest;

export interface TrackingRequest {
  readonly name?: string;
  readonly workload: SyntheticRequest | ImageRequest;
  readonly strategies: readonly (Partial<Strategy> & Pick<Strategy, "tracking">)[];
  readonly costModel?: Readonly<Partial<Record<CostKey, number>>>;
}

export type ExperimentState = "queued" | "running" | "done" | "failed" | "cancelled" | "lost";

export interface Progress {
  /** Rounds of all strategies, populating and enabling counted too. */
  readonly done: number;
  readonly total: number;
  readonly strategy: string | null;
}

export interface ExperimentResource {
  readonly id: string;
  readonly name: string;
  readonly state: ExperimentState;
  /** Why it failed, was lost or cancelled. */
  readonly stateReason: string | null;
  readonly progress: Progress;
  readonly spec: ExperimentSpec;
  readonly version: number;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
}

export type Phase = "populate" | "enable" | "round" | "final";

export interface Exits {
  readonly mapFault: number;
  readonly writeFault: number;
  readonly hdbssFull: number;
  readonly ringFull: number;
  readonly kick: number;
  readonly other: number;
}

export interface Cycles {
  /** All vCPUs together: what tracking took from the guest. */
  readonly guestStall: number;
  /** Of the thread that asks for the log. */
  readonly ioctl: number;
  /** Of these, with mmu_lock held for writing. */
  readonly lockHeld: number;
  /** By key of the model; only what occurred. */
  readonly byEvent: Readonly<Partial<Record<CostKey, number>>>;
}

/** What the formulas of dirty-tracking.md 8.3 expect of a round, beside what was counted. */
export interface FormulaCheck {
  readonly expected: number;
  /** The same events as they occurred. */
  readonly counted: number;
}

export interface ResultRow {
  readonly phase: Phase;
  /** From 1; 0 for other phases. */
  readonly round: number;
  /** Pages that were truly stored to. */
  readonly dirtied: number;
  readonly reported: number;
  readonly falsePositives: number;
  /** Stored to and told by no log, with every vCPU stopped. */
  readonly lost: number;
  /** Stored to, not told in this round, and not lost. */
  readonly late: number;
  readonly exits: Exits;
  readonly drains: number;
  readonly drainedEntries: number;
  readonly fullFaults: number;
  readonly batches: number;
  readonly fallbacks: number;
  readonly tlbis: number;
  readonly splits: number;
  readonly pagesProtected: number;
  readonly runErrors: number;
  readonly cycles: Cycles;
  /** null where no formula fits. */
  readonly formula: FormulaCheck | null;
  /** Real milliseconds here, the way to the VM's thread included. */
  readonly runMs: number;
  readonly ioctlMs: number;
}

export interface StrategyResult {
  readonly strategy: Strategy;
  readonly state: "done" | "failed" | "cancelled";
  readonly error: string | null;
  /** Of HDBSS buffers, or of rings. */
  readonly bufferBytes: number;
  readonly rows: readonly ResultRow[];
}

interface ResultsOf<W, R> {
  readonly id: string;
  readonly name: string;
  readonly state: ExperimentState;
  readonly workload: W;
  readonly costModel: CostModel;
  readonly strategies: readonly R[];
}
export type TrackingResults = ResultsOf<Workload, StrategyResult>;
export type InterruptResults = ResultsOf<InterruptWorkload, InterruptResult>;
export type ExperimentResults = TrackingResults | InterruptResults;
