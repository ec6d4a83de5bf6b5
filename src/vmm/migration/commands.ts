// Owns: the commands by which a VM is watched and moved, as types: memory as another thread reaches
// it, dirty pages per consumer, holding vCPUs, state, throttle. Any thread.
import type { Saved } from "../../base/saved.js";
import type { MissingPagesView } from "../../kvm/index.js";
import type { EventfdRef } from "../eventfd-ref.js";

/** One memory object; `pa` is where its bytes begin in the VM's memory, or above 4 GiB. */
export interface RamBlock {
  readonly object: number;
  readonly bytes: number;
  /** "unbacked": no bytes, content by (seed, page, write sequence). "device": never migrated. */
  readonly backing: "ram" | "unbacked" | "device";
  readonly pa: number;
  /**
   * Number of the page that the first one's content is computed as (fillUnbackedPage); page n's is
   * n more. Moved VMs keep the source's. 0 for other backings.
   */
  readonly contentPage: number;
}

/** A VM's memory as the data plane reads and writes it, beside the VM's thread. */
export interface MemoryMap {
  readonly pageSize: number;
  /** Shared; read `.buffer` anew after it may have grown. */
  readonly memory: WebAssembly.Memory;
  /** In order of object numbers. */
  readonly blocks: readonly RamBlock[];
  /** What content of unbacked pages is computed with. */
  readonly unbackedSeed: number;
}

/**
 * How dirty pages are noticed while the vmm owns the log. "bitmap": KVM_GET_DIRTY_LOG clears and
 * protects. "manual-protect": GET, then CLEAR in pieces. "ring": dirty rings. "hdbss": hardware
 * records. "hdbss+hacdbs": and hardware cleans. "async-run": CLEARs are deferred.
 */
export type TrackingMethod =
  | "bitmap"
  | "manual-protect"
  | "ring"
  | "hdbss"
  | "hdbss+hacdbs"
  | "async-run";

export interface TrackingView {
  /** Who may read and clear KVM's log; "none": no slot logs. */
  readonly owner: "client" | "vmm" | "none";
  /** In force while the vmm is the owner. */
  readonly method: TrackingMethod | null;
  /** What this VM can do, and why it can't what it can't. */
  readonly methods: readonly { readonly method: TrackingMethod; readonly whyNot: string | null }[];
  readonly consumers: readonly { readonly name: string; readonly pages: number }[];
}

/** Dirty pages of one block. Bit i of the bitmap is page i of the object; little-endian words. */
export interface DirtyBlock {
  readonly object: number;
  /** Dirty ones. */
  readonly pages: number;
  /** Whole 64-bit words. */
  readonly bitmap: Uint8Array;
}

export interface DirtyPages {
  /** Blocks with any dirty page. */
  readonly blocks: readonly DirtyBlock[];
  readonly pages: number;
}

export interface ThrottleView {
  /** Share of its time that a vCPU is kept from running, 0 to 99. */
  readonly percent: number;
  /** New dirty pages that each vCPU may make a second; 0: as many as it wants. */
  readonly dirtyLimit: number;
  /** In the vCPU's life: pages that it made dirty while they logged, time that it was held. */
  readonly vcpus?: readonly {
    readonly vcpu: number;
    readonly dirtied: number;
    readonly throttledNs: number;
  }[];
}

/** Name → [arguments, result]: who is told of dirty pages, and how vCPUs are slowed down. */
export interface TrackingCommands {
  describeTracking: [Record<string, never>, TrackingView];
  /**
   * A consumer begins to be told of dirty pages, or ends. The first makes the vmm the log's owner
   * with the method (null: the best there is), the last gives it back. A method that is named
   * later is in force for all from then on. To begin or to end twice changes nothing. A consumer is
   * named after its resource below /v1, as "migrations/ID", so that a refusal can link there.
   * @throws ServiceError "dirty-log-owned" while the client's slots log, "tracking-unavailable"
   */
  trackDirty: [{ consumer: string; on: boolean; method: string | null }, TrackingView];
  /**
   * What became dirty since the consumer was told last; ServiceError "consumer-not-found". `last`:
   * of a held VM, whose pages nobody needs to notice any more, so that they aren't cleaned.
   */
  harvestDirty: [{ consumer: string; last?: boolean }, DirtyPages];
  /** The same, without taking it: what has been harvested for this consumer so far. */
  peekDirty: [{ consumer: string }, DirtyPages];
  /** Gives back what a consumer took and could not use. */
  returnDirty: [{ consumer: string; pages: DirtyPages }, null];
  setThrottle: [{ percent: number; dirtyLimit: number }, ThrottleView];
  describeThrottle: [Record<string, never>, ThrottleView];
}

/** An eventfd that a VM's irqfds and ioeventfds name. */
export interface StateEventfd {
  /** The VM's own number of it. */
  readonly local: number;
  /** Process-wide index; null: nobody outside of the VM knows it. */
  readonly index: number | null;
  /** What it counted and nobody has read. */
  readonly count: bigint;
}

/** What an eventfd of a state is on this host. */
export interface LoadedEventfd {
  /** The VM's own number of it, in the state. */
  readonly local: number;
  readonly fd: EventfdRef;
  /** An irqfd of the VM that this one was may have it until that VM ends. */
  readonly mayWait?: boolean;
}

/** Name → [arguments, result]: memory, vCPUs held, state. */
export interface StateCommands {
  describeMemory: [Record<string, never>, MemoryMap];
  /**
   * No vCPU runs until it is let go; whoever runs one meanwhile gets 409 "vm-held". A board keeps
   * what it was: one that was paused stays paused after `hold: false`. Several may hold it, each
   * with a `why` of its own: it goes on when the last has let go.
   */
  holdVm: [{ hold: boolean; why: string }, { wasRunning: boolean }];
  /**
   * All state but memory, of a held VM. Writes ITS and pending tables into guest memory. `pack`: as
   * one part of bytes, which loadState takes as well.
   * @throws ServiceError "vm-not-held", "vm-not-movable"; KvmError EFAULT, EINVAL
   */
  saveState: [
    { readonly pack?: boolean },
    { parts: readonly Saved[]; eventfds: readonly StateEventfd[] },
  ];
  /**
   * Into a VM that was built alike, is held, and has its memory already. Takes bits out of pending
   * tables in guest memory: compare digests before. A VM whose loading failed is to be deleted.
   * `eventfds`: what the VM's numbers in the state stand for here; the same numbers without. What
   * those of irqfds have counted is heard of when the VM is let go.
   * @throws ServiceError "state-leftover" for a part nobody takes, "state-mismatch", "vm-not-held"
   */
  loadState: [
    {
      parts: readonly Saved[];
      eventfds?: readonly LoadedEventfd[];
    },
    null,
  ];
  /**
   * Post-copy: from now on the VM may run while pages are absent. Of a held VM that has never run.
   * Bit n of word w is page 32 * w + n of an object; `requests` is a ring (base/page-requests.ts).
   * @param fetch brings a page at once; for a VM in the caller's own thread
   * @throws ServiceError "vm-not-held"
   */
  awaitPages: [
    {
      present: ReadonlyMap<number, Int32Array<SharedArrayBuffer>>;
      requests: SharedArrayBuffer;
      fetch?: (object: number, page: number) => void;
    },
    null,
  ];
  /** Pages that were asked for are here. */
  pagesArrived: [Record<string, never>, MissingPagesView];
  /** No page is absent any more. */
  allPagesHere: [Record<string, never>, MissingPagesView];
  /** Write sequences of an unbacked object's pages [first, first + count). */
  readSequences: [{ object: number; first: number; count: number }, Uint32Array];
  /** Only sequences that are not 0 need to be written. */
  writeSequences: [{ object: number; pages: Uint32Array; sequences: Uint32Array }, null];
}
