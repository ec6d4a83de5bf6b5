// Owns: the door between the HTTP thread and a VM's thread, as an interface (DESIGN 1, 4).
// The worker door (vm-thread.ts) and the inline door (inline-vm.ts) both implement it.
import type {
  BoardNews,
  Command,
  CommandArgs,
  CommandName,
  CommandResult,
  FaultNews,
  Stamp,
  VmDefinition,
} from "../vmm/index.js";

/** A logged input: what entered the VM and when. */
export interface LoggedCommand {
  readonly stamp: Stamp;
  readonly command: Command;
}

/** Everything that replays a VM to the place where its log was taken. */
export interface InputLog {
  readonly version: 1;
  readonly definition: VmDefinition;
  readonly entries: readonly LoggedCommand[];
  /** Where the VM stood when the log was taken; a replay runs on to there. None: no further. */
  readonly end?: Stamp;
  /** True when the bounded log dropped entries; such a log can't be replayed. */
  readonly truncated: boolean;
  /** A sentence on why it can't be replayed, where that isn't for dropped entries. */
  readonly why?: string;
}

export interface Stamped<T> {
  readonly value: T;
  readonly stamp: Stamp;
}

/** News from a VM's thread. */
export type VmNews =
  | { readonly kind: "died"; readonly reason: string }
  | { readonly kind: "replay-finished"; readonly diverged: string | null }
  | BoardNews
  | FaultNews;

export interface VmHandle {
  /**
   * Sends one command; resolves with its result and stamp.
   * Large buffers in args move to the VM: the caller must not use them afterwards.
   * Rejects with KvmError; ServiceError "vm-gone" when the thread ends first, "overloaded" with
   * too many calls unanswered, "vm-replaying" for an input while a log is replayed.
   */
  call<K extends CommandName>(name: K, args: CommandArgs<K>): Promise<Stamped<CommandResult<K>>>;
  /** A copy of the VM's input log so far. */
  inputLog(): Promise<InputLog>;
  onNews(listener: (news: VmNews) => void): void;
  /** Ends the thread and returns its memory to the budget; idempotent. */
  close(): Promise<void>;
}

export interface RuntimeOptions {
  /** Process-wide memory budget in bytes (DESIGN 5). */
  readonly memoryBudgetBytes: number;
  /** Entries kept of each VM's input log. */
  readonly inputLogEntries: number;
  /** Translations of guest code wait for a random number of runs up to this; 0 if absent. */
  readonly translationDelay?: number;
  /** Threads at most, one per VM. */
  readonly maxVms: number;
  /** Threads that wait for a VM, beside those; 0 if absent. */
  readonly spareThreads?: number;
}

export interface RuntimeUsage {
  readonly vms: number;
  readonly maxVms: number;
  readonly memoryBudgetBytes: number;
  readonly memoryUsedBytes: number;
}

export interface EventfdTable {
  /**
   * @param isSemaphore EFD_SEMAPHORE
   * @returns index of a fresh counter, or -1 when the table is full
   */
  create(initial: bigint, isSemaphore: boolean): number;
  /**
   * Resolves when the VM that waits on the counter, if any, has taken it in.
   * @param drain whether work that this puts off in that VM is done by then
   * @throws KvmError EAGAIN ("eventfd-overflow") when the counter would pass 2^64-2.
   */
  write(index: number, value: bigint, drain: boolean): Promise<void>;
  peek(index: number): bigint;
  /** Takes the whole count, or 1 of a semaphore; 0n when there was none (EAGAIN). */
  take(index: number): bigint;
  /** Counts down by at most `n`, of a semaphore as well. */
  withdraw(index: number, n: bigint): void;
  /** Whether a VM's irqfd waits on it. */
  isClaimed(index: number): boolean;
  /** Counters that may still be created. */
  free(): number;
  /** Tells the VM that waits on it, and closes; the counter lives on while a VM refers to it. */
  close(index: number, drain: boolean): Promise<void>;
  /** Moves with every change of the counter. */
  sequence(index: number): number;
  /** Resolves when the counter has moved on from `sequence` or is closed, or after the timeout. */
  moved(index: number, sequence: number, timeoutMs: number): Promise<void>;
  /** Resolves when the counter can be read (not 0) or is closed, or after the timeout. */
  changed(index: number, timeoutMs: number): Promise<void>;
}

export interface Runtime {
  /**
   * Starts a VM's thread and builds its slice.
   * @throws KvmError EINVAL bad type; ENOMEM over budget; ServiceError "vm-limit", "draining",
   * "bad-input-log", "vm-start-failed"
   */
  start(definition: VmDefinition, replay?: InputLog): Promise<VmHandle>;
  readonly eventfds: EventfdTable;
  usage(): RuntimeUsage;
  close(): Promise<void>;
}
