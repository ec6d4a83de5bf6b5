// Owns: who is told of dirty pages: one harvest of KVM's log, and what userspace wrote itself, goes
// to every consumer. While there is one the vmm owns the log (DESIGN 10). VM thread.
//
//   first consumer ─▶ settings borrowed ─ every slot logs ─▶ harvest ─┬▶ bitmap of a migration
//                                              own stores ─────────────┴▶ bitmap of a dirty rate
//   last one gone ─▶ no slot logs ─ settings given back
import { ServiceError } from "../../base/errors.js";
import type { Saved } from "../../base/saved.js";
import {
  isLogging,
  KVM_MEM,
  type Kvm,
  type MemoryRegion,
  type Memslot,
  Mutex,
  type Op,
  Waitable,
} from "../../kvm/index.js";
import type { DirtyPages, TrackingMethod, TrackingView } from "./commands.js";
import { Consumers, type SavedConsumer } from "./track-consumers.js";
import { harvestAll, harvestRings } from "./track-harvest.js";
import {
  bestMethod,
  borrow,
  canLog,
  giveBack,
  isInForce,
  type Lent,
  METHODS,
  unavailable,
  whyNotMethod,
} from "./track-methods.js";

/** In force, and what it borrowed. */
interface InForce {
  readonly method: TrackingMethod;
  readonly lent: Lent;
}

export class Tracking {
  readonly #kvm: Kvm;
  readonly #hasBoard: boolean;
  readonly #consumers: Consumers;
  #inForce: InForce | null = null;
  #isOwner = false;
  /** Held while the log is read, or slots or consumers change. */
  readonly #busy = new Mutex("dirty-tracking");
  /** Changes of slots that began while nobody tracked. */
  #changing = 0;
  readonly #changed = new Waitable("slots-changed");

  constructor(kvm: Kvm, hasBoard: boolean) {
    this.#kvm = kvm;
    this.#hasBoard = hasBoard;
    this.#consumers = new Consumers(kvm);
  }

  /** The vmm owns KVM's log: from before the first consumer is there until after the last. */
  get isOwner(): boolean {
    return this.#isOwner;
  }

  /** Settings that the vmm has borrowed, as the client has them. */
  get lentSettings(): Partial<Kvm["vm"]["policies"]> {
    if (this.#inForce === null) return {};
    const { clearMode, hacdbsUse } = this.#inForce.lent;
    return { "clear.mode": clearMode, "hacdbs.use": hacdbsUse };
  }

  /** The same of what KVM_ENABLE_CAP has set. */
  get lentCaps(): { readonly manualDirtyLogProtect?: number } {
    return this.#inForce === null ? {} : { manualDirtyLogProtect: this.#inForce.lent.manual };
  }

  view(): TrackingView {
    const { slots } = this.#kvm.vm;
    const isClients = !this.#isOwner && slots.list().some(isLogging);
    return {
      owner: this.#isOwner ? "vmm" : isClients ? "client" : "none",
      method: this.#inForce?.method ?? null,
      methods: METHODS.map((method) => ({
        method,
        whyNot: whyNotMethod(this.#kvm, method, this.#hasBoard),
      })),
      consumers: this.#consumers.views(),
    };
  }

  // ── consumers come and go ───────────────────────────────────────────────────────────────────

  /**
   * @param method null: the one in force, or the best
   * @throws ServiceError "dirty-log-owned", "tracking-unavailable"; KvmError ENOMEM
   */
  *begin(consumer: string, method: TrackingMethod | null): Op<TrackingView> {
    yield* this.#busy.lock();
    try {
      yield* this.#begin(consumer, method);
      return this.view();
    } finally {
      this.#busy.unlock();
    }
  }

  *#begin(consumer: string, asked: TrackingMethod | null): Op<void> {
    const kvm = this.#kvm;
    while (this.#changing > 0) yield this.#changed;
    if (!this.#isOwner && kvm.vm.slots.list().some(isLogging)) {
      throw new ServiceError(
        "dirty-log-owned",
        "The client's own slots log dirty pages: it owns the log until none of them does.",
        { owner: "client" },
      );
    }
    const method = asked ?? this.#inForce?.method ?? bestMethod(kvm, this.#hasBoard);
    const why = whyNotMethod(kvm, method, this.#hasBoard);
    if (why !== null) throw unavailable(`by ${method}`, why);
    if (this.#inForce === null) {
      yield* this.#first(consumer, method);
      return;
    }
    yield* this.#switchTo(this.#inForce, method);
    if (this.#consumers.has(consumer)) return;
    // What was dirty before is no news to the new one.
    yield* harvestAll(kvm, method, this.#consumers);
    this.#consumers.add(consumer);
  }

  *#first(consumer: string, method: TrackingMethod): Op<void> {
    const kvm = this.#kvm;
    this.#consumers.add(consumer);
    this.#own(true);
    let lent: Lent | null = null;
    try {
      lent = yield* borrow(kvm, method);
      yield* this.#logAll(true);
      if (!isInForce(kvm, method)) throw unavailable(`by ${method}`, "KVM left HDBSS off");
      this.#inForce = { method, lent };
    } catch (error) {
      yield* this.#logAll(false);
      if (lent !== null) yield* giveBack(kvm, lent);
      this.#consumers.drop(consumer);
      this.#own(false);
      throw error;
    }
  }

  /** Slots go on logging: only how their log is read and cleared changes. */
  *#switchTo(from: InForce, method: TrackingMethod): Op<void> {
    if (from.method === method) return;
    yield* giveBack(this.#kvm, from.lent);
    try {
      this.#inForce = { method, lent: yield* borrow(this.#kvm, method) };
    } catch (error) {
      this.#inForce = { method: from.method, lent: yield* borrow(this.#kvm, from.method) };
      throw error;
    }
  }

  /** Idempotent: a consumer that isn't there has ended. */
  *end(consumer: string): Op<TrackingView> {
    yield* this.#busy.lock();
    try {
      if (this.#consumers.has(consumer)) {
        const isLast = this.#consumers.size === 1;
        if (isLast) yield* this.#last();
        this.#consumers.drop(consumer);
        if (isLast) this.#own(false);
      }
      return this.view();
    } finally {
      this.#busy.unlock();
    }
  }

  *#last(): Op<void> {
    const kvm = this.#kvm;
    yield* this.#logAll(false);
    if (this.#inForce !== null) yield* giveBack(kvm, this.#inForce.lent);
    // Entries that nobody takes any more would be in the way of who owns the rings next.
    if (kvm.vm.caps.dirtyRingBytes !== 0) yield* harvestRings(kvm, this.#consumers);
    this.#inForce = null;
  }

  #own(isOwner: boolean): void {
    const { vm } = this.#kvm;
    this.#isOwner = isOwner;
    const consumers = this.#consumers;
    vm.mm.onStore = isOwner ? (object, at, length) => consumers.stored(object, at, length) : null;
    const hasRings = vm.caps.dirtyRingBytes !== 0;
    vm.ringReaper = isOwner && hasRings ? () => this.#reap() : null;
  }

  /** KVM_MEM_LOG_DIRTY_PAGES of every slot that may have it. */
  *#logAll(on: boolean): Op<void> {
    const { vm, regions } = this.#kvm;
    for (const slot of [...vm.slots.list()]) {
      if (isLogging(slot) === on || !canLog(this.#kvm, slot)) continue;
      const region = regionOf(slot, slot.flags ^ KVM_MEM.LOG_DIRTY_PAGES, vm.pageSize);
      yield* regions.set(region, true);
    }
  }

  // ── pages ───────────────────────────────────────────────────────────────────────────────────

  /** @throws ServiceError "consumer-not-found" */
  *harvest(consumer: string, isLast = false): Op<DirtyPages> {
    yield* this.#busy.lock();
    try {
      const pages = this.#consumers.pagesOf(consumer);
      if (this.#inForce !== null) {
        yield* harvestAll(this.#kvm, this.#inForce.method, this.#consumers, isLast);
      }
      return pages.read(this.#kvm.vm.mm, true);
    } finally {
      this.#busy.unlock();
    }
  }

  /** @throws ServiceError "consumer-not-found" */
  peek(consumer: string): DirtyPages {
    return this.#consumers.pagesOf(consumer).read(this.#kvm.vm.mm, false);
  }

  /** @throws ServiceError "consumer-not-found" */
  giveBack(consumer: string, { blocks }: DirtyPages): void {
    const pages = this.#consumers.pagesOf(consumer);
    for (const block of blocks) {
      const object = this.#kvm.vm.mm.byId(block.object);
      if (object !== undefined) pages.addBlock(object, block);
    }
  }

  /** A vCPU's ring is full: it waits while the vmm takes the entries. */
  *#reap(): Op<void> {
    yield* this.#busy.lock();
    try {
      if (this.#isOwner) yield* harvestRings(this.#kvm, this.#consumers);
    } finally {
      this.#busy.unlock();
    }
  }

  // ── the memory map changes ──────────────────────────────────────────────────────────────────

  /**
   * KVM_SET_USER_MEMORY_REGION: while the vmm owns the log, slots begin logged.
   * @throws KvmError as MemoryRegions.set; ServiceError "dirty-log-owned"
   */
  *setRegion(region: MemoryRegion, isV1: boolean) {
    yield* this.#untilIdle();
    if (!this.#isOwner) return yield* this.#untracked(() => this.#kvm.regions.set(region, isV1));
    yield* this.#busy.lock();
    try {
      if (!this.#isOwner) return yield* this.#kvm.regions.set(region, isV1);
      return yield* this.#setTracked(region, isV1);
    } finally {
      this.#busy.unlock();
    }
  }

  /** Nobody begins to track, or ends. */
  *#untilIdle(): Op<void> {
    while (!this.#isOwner && this.#busy.held) yield this.#busy;
  }

  /** Nobody begins to track until it is over; KVM's own locks are all that it takes. */
  *#untracked<T>(op: () => Op<T>): Op<T> {
    this.#changing++;
    try {
      return yield* op();
    } finally {
      this.#changing--;
      this.#changed.wake();
    }
  }

  *#setTracked(region: MemoryRegion, isV1: boolean) {
    const { vm, regions } = this.#kvm;
    const { LOG_DIRTY_PAGES, GUEST_MEMFD } = KVM_MEM;
    if ((region.flags & (LOG_DIRTY_PAGES | GUEST_MEMFD)) !== 0) {
      const what = (region.flags & GUEST_MEMFD) !== 0 ? "a guest_memfd" : "a log of its own";
      throw this.refusal(`A slot with ${what} can't be had meanwhile`);
    }
    const old = vm.slots.get(region.slot);
    const npages = Number(region.memorySize) / vm.pageSize;
    const slot = { userspaceAddr: Number(region.userspaceAddr), npages, flags: region.flags };
    const logs = npages > 0 && Number.isInteger(npages) && canLog(this.#kvm, slot);
    const flags = logs ? region.flags | LOG_DIRTY_PAGES : region.flags;
    const done = yield* regions.set({ ...region, flags }, isV1);
    if (done.slot !== null || old === undefined || !isLogging(old)) return done;
    // Its log is gone with it, and vCPUs may have stored to the very last.
    this.#consumers.allOf(old);
    // Entries of a slot that is gone would name pages of the next one with its number.
    if (vm.caps.dirtyRingBytes !== 0) yield* harvestRings(this.#kvm, this.#consumers);
    return done;
  }

  /** A board's own switch of its RAM's log. @throws ServiceError "dirty-log-owned" */
  *unlessOwned<T>(op: () => Op<T>): Op<T> {
    yield* this.#untilIdle();
    if (this.#isOwner) throw this.refusal("The log of its slots can't be switched meanwhile");
    return yield* this.#untracked(op);
  }

  /** Consumers are named after the resources that they are of, below /v1. */
  refusal(what: string): ServiceError {
    const { names } = this.#consumers;
    return new ServiceError(
      "dirty-log-owned",
      `${what}: the host tracks this VM's dirty pages for ${names.join(", ") || "a consumer"}.`,
      {
        owner: "vmm",
        consumers: names,
        links: names.filter((name) => name.includes("/")).map((name) => `/v1/${name}`),
      },
    );
  }

  save(): Saved {
    const data = {
      consumers: this.#consumers.save(),
      inForce: this.#inForce,
      isOwner: this.#isOwner,
    };
    return { kind: "tracking", version: 1, data };
  }

  /** Only between operations; slots and settings come back by themselves. */
  load(saved: Saved): void {
    const data = saved.data as {
      consumers: SavedConsumer[];
      inForce: InForce | null;
      isOwner: boolean;
    };
    this.#consumers.restore(data.consumers);
    this.#inForce = data.inForce;
    this.#own(data.isOwner);
  }
}

function regionOf(slot: Memslot, flags: number, pageSize: number): MemoryRegion {
  return {
    slot: slot.id,
    flags,
    guestPhysAddr: BigInt(slot.baseGfn) * BigInt(pageSize),
    memorySize: BigInt(slot.npages) * BigInt(pageSize),
    userspaceAddr: BigInt(slot.userspaceAddr),
    guestMemfd: 0,
    guestMemfdOffset: 0n,
  };
}
