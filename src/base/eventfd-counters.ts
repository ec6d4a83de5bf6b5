// Owns: the process-wide table of eventfd counters (DESIGN 11), one shared buffer. Any thread.
//
// An index names one counter for ever: generation * capacity + entry, exact below 2^53, so an
// index kept too long is seen as closed instead of reaching the counter that followed it.
//
//   state  [ generation 32 | open 1 | semaphore 1 | references 30 ]  one word, changed by CAS
//   count  u64, 0 to 2^64-2 by writes, 2^64-1 only by the kernel's own signals
//   wait   i32, moves with every change; what threads sleep on
//   claim  i32, 0 or the owner (a VM's number) whose exclusive waiter, an irqfd, holds it
//
//            create            close, others refer           last put
//   free ───────────▶ open ─────────────────────▶ closed ───────────────▶ free, generation + 1
//                       └──────────────── close, nobody refers ─────────▶
import { assert } from "./assert.js";
import { U64_MAX } from "./hex.js";
import { EVENTFDS_MAX } from "./limits.js";

/** What a write may leave at most; only a kernel's signal reaches one more. */
export const EVENTFD_COUNT_MAX = U64_MAX - 1n;

const OPEN = 1n << 31n;
const SEMAPHORE = 1n << 30n;
const REFERENCES = SEMAPHORE - 1n;
const GENERATION_SHIFT = 32n;

/** Who waits on a counter before everybody else: an irqfd, or what takes a resamplefd. */
export interface EventfdHook {
  /** The counter was signalled, and has been taken (of a semaphore: 1). */
  wake(): void;
  /** Its descriptor is about to be closed. */
  hungUp(): void;
}

/**
 * How a hook found its counter. "busy": another hook has it, and goes first.
 * "positive": there is a count that nobody was woken for.
 */
export const EVENTFD_FOUND = ["zero", "positive", "busy-zero", "busy-positive"] as const;
export type EventfdFound = (typeof EVENTFD_FOUND)[number];

/** Header words (i32). */
const HINT = 0;
const LIVE = 1;
const HEADER_BYTES = 8;

const ENTRY_BYTES = 8 + 8 + 4 + 4;

export class EventfdCounters {
  readonly shared: SharedArrayBuffer;
  readonly capacity: number;
  readonly #header: Int32Array;
  readonly #states: BigUint64Array;
  readonly #counts: BigUint64Array;
  readonly #waits: Int32Array;
  readonly #claims: Int32Array;
  /** Hooks of whoever shares this object, first come first. */
  readonly #hooks = new Map<number, EventfdHook[]>();

  static create(capacity = EVENTFDS_MAX): EventfdCounters {
    return new EventfdCounters(new SharedArrayBuffer(HEADER_BYTES + capacity * ENTRY_BYTES));
  }

  constructor(shared: SharedArrayBuffer) {
    const capacity = (shared.byteLength - HEADER_BYTES) / ENTRY_BYTES;
    this.shared = shared;
    this.capacity = capacity;
    this.#header = new Int32Array(shared, 0, 2);
    this.#states = new BigUint64Array(shared, HEADER_BYTES, capacity);
    this.#counts = new BigUint64Array(shared, HEADER_BYTES + capacity * 8, capacity);
    this.#waits = new Int32Array(shared, HEADER_BYTES + capacity * 16, capacity);
    this.#claims = new Int32Array(shared, HEADER_BYTES + capacity * 20, capacity);
  }

  /**
   * Opens a fresh counter; its descriptor holds the first reference.
   * @param initial 0 to 2^64-2
   * @param isSemaphore EFD_SEMAPHORE: who takes gets 1, and the rest stays
   * @returns its index, or -1 when the table is full (ENFILE)
   */
  create(initial: bigint, isSemaphore = false): number {
    assert(initial >= 0n && initial <= EVENTFD_COUNT_MAX, `eventfd starts at ${initial}`);
    if (Atomics.load(this.#header, LIVE) >= this.capacity) return -1;
    const start = Atomics.load(this.#header, HINT);
    for (let i = 0; i < this.capacity; i++) {
      const entry = (start + i) % this.capacity;
      const state = Atomics.load(this.#states, entry);
      if ((state & REFERENCES) !== 0n) continue;
      const opened = state | OPEN | (isSemaphore ? SEMAPHORE : 0n) | 1n;
      if (Atomics.compareExchange(this.#states, entry, state, opened) !== state) continue;
      Atomics.store(this.#header, HINT, (entry + 1) % this.capacity);
      Atomics.add(this.#header, LIVE, 1);
      Atomics.store(this.#counts, entry, initial);
      Atomics.store(this.#claims, entry, 0);
      return Number(state >> GENERATION_SHIFT) * this.capacity + entry;
    }
    return -1;
  }

  /** @returns how many counters are open or still referred to. */
  live(): number {
    return Atomics.load(this.#header, LIVE);
  }

  /** @returns whether the descriptor is open; false after close and for an index out of use. */
  isOpen(index: number): boolean {
    const state = this.#stateOf(index);
    return state !== null && (state & OPEN) !== 0n;
  }

  /**
   * Takes a reference, so that the counter outlives its descriptor.
   * @returns false when the descriptor is not open (EBADF)
   */
  get(index: number): boolean {
    const entry = index % this.capacity;
    for (;;) {
      const state = this.#stateOf(index);
      if (state === null || (state & OPEN) === 0n) return false;
      if (Atomics.compareExchange(this.#states, entry, state, state + 1n) === state) return true;
    }
  }

  /** Drops a reference; the last one frees the counter. */
  put(index: number): void {
    const entry = index % this.capacity;
    for (;;) {
      const state = this.#live(index);
      const last = (state & REFERENCES) === 1n;
      // A freed entry keeps only its next generation.
      const generation = BigInt.asUintN(32, (state >> GENERATION_SHIFT) + 1n);
      const next = last ? generation << GENERATION_SHIFT : state - 1n;
      assert(!last || (state & OPEN) === 0n, `eventfd ${index} is open without a reference`);
      if (Atomics.compareExchange(this.#states, entry, state, next) !== state) continue;
      if (last) Atomics.sub(this.#header, LIVE, 1);
      return;
    }
  }

  /** Closes the descriptor and drops its reference. Waiters wake. Does nothing when closed. */
  close(index: number): void {
    const entry = index % this.capacity;
    if (this.#hooks.size > 0 && this.isOpen(index)) this.hangUp(index);
    for (;;) {
      const state = this.#stateOf(index);
      if (state === null || (state & OPEN) === 0n) return;
      if (Atomics.compareExchange(this.#states, entry, state, state & ~OPEN) === state) break;
    }
    this.#wake(entry);
    this.put(index);
  }

  /**
   * Waits on a counter ahead of its readers: each signal wakes the hook, which has then taken the
   * count. It is claimed first and looked at second: a write in between sees the claim, one before
   * it is seen here. In the other order a write between the two would wake nobody.
   * @param mayQueue whether it stays, behind the hook that is there already
   */
  hook(index: number, hook: EventfdHook, mayQueue: boolean): EventfdFound {
    const isFirst = this.claimExclusive(index);
    if (isFirst || mayQueue) {
      this.#hooks.set(index, [...(this.#hooks.get(index) ?? []), hook]);
    }
    return foundOf(isFirst, this.peek(index) !== 0n);
  }

  /**
   * Takes the hook off, and whatever was counted since with it.
   * @param leaves what was counted stays, for whoever comes next
   */
  unhook(index: number, hook: EventfdHook, leaves = false): void {
    const left = (this.#hooks.get(index) ?? []).filter((other) => other !== hook);
    if (!leaves) this.#take(index % this.capacity);
    if (left.length > 0) {
      this.#hooks.set(index, left);
      return;
    }
    this.#hooks.delete(index);
    this.releaseExclusive(index);
  }

  /** Tells the hook that is first. @returns whether there is one */
  wake(index: number): boolean {
    const [first] = this.#hooks.get(index) ?? [];
    first?.wake();
    return first !== undefined;
  }

  /** Tells every hook that the descriptor closes. */
  hangUp(index: number): void {
    for (const hook of [...(this.#hooks.get(index) ?? [])]) hook.hungUp();
  }

  /**
   * write(2) on the descriptor.
   * @param value 0 to 2^64-2; 2^64-1 is the caller's EINVAL
   * @returns "would-block" (EAGAIN), unchanged, when the count would pass 2^64-2
   */
  write(index: number, value: bigint): "ok" | "would-block" {
    assert(value >= 0n && value <= EVENTFD_COUNT_MAX, `eventfd write of ${value}`);
    const entry = this.#entryOf(index);
    for (;;) {
      const count = Atomics.load(this.#counts, entry);
      if (U64_MAX - count <= value) return "would-block";
      if (Atomics.compareExchange(this.#counts, entry, count, count + value) === count) break;
    }
    this.#wake(entry);
    this.#tell(index, entry);
    return "ok";
  }

  /**
   * The kernel's eventfd_signal: never refuses, stops at 2^64-1.
   * @source Linux fs/eventfd.c
   */
  signal(index: number, n = 1n): void {
    const entry = this.#entryOf(index);
    for (;;) {
      const count = Atomics.load(this.#counts, entry);
      const room = U64_MAX - count;
      const next = count + (n < room ? n : room);
      if (Atomics.compareExchange(this.#counts, entry, count, next) === count) break;
    }
    this.#wake(entry);
    this.#tell(index, entry);
  }

  /** @returns the process-wide index of what a VM knows by this one; null: there is no counter */
  outside(index: number): number | null {
    return index;
  }

  /** @returns the count, unchanged. */
  peek(index: number): bigint {
    return Atomics.load(this.#counts, this.#entryOf(index));
  }

  /**
   * read(2): takes the whole count, or 1 of a semaphore; 0n means there was none (EAGAIN).
   * @param times for as many readers, one after the other
   */
  take(index: number, times = 1n): bigint {
    return this.#take(this.#entryOf(index), times);
  }

  /** Counts down by at most `n`: so much of it is counted elsewhere now. */
  withdraw(index: number, n: bigint): void {
    const entry = this.#entryOf(index);
    for (;;) {
      const count = Atomics.load(this.#counts, entry);
      const left = count > n ? count - n : 0n;
      if (left === count) return;
      if (Atomics.compareExchange(this.#counts, entry, count, left) === count) break;
    }
    this.#wake(entry);
  }

  /** A signal that a hook takes at once, so that no other reader sees it. */
  protected signalTaken(index: number, n: bigint): void {
    const entry = this.#entryOf(index);
    for (;;) {
      const count = Atomics.load(this.#counts, entry);
      const room = U64_MAX - count;
      const signalled = count + (n < room ? n : room);
      const left = this.#isSemaphore(entry) && signalled > 0n ? signalled - 1n : 0n;
      if (Atomics.compareExchange(this.#counts, entry, count, left) !== count) continue;
      if (left !== count) this.#wake(entry);
      return;
    }
  }

  /**
   * The word that moves with every change and is notified: read it, look at the count, then wait
   * on it with the value read, and no change is missed.
   */
  waitWord(index: number): { readonly words: Int32Array; readonly at: number } {
    return { words: this.#waits, at: this.#entryOf(index) };
  }

  /**
   * Makes the owner the counter's one exclusive waiter.
   * @param owner not 0; a VM's number, so that a VM that is gone can be unclaimed for it
   * @returns false when the counter has one already (EBUSY)
   */
  claimExclusive(index: number, owner = 1): boolean {
    return Atomics.compareExchange(this.#claims, this.#entryOf(index), 0, owner) === 0;
  }

  /** Ends the owner's claim; does nothing when the owner has none. */
  releaseExclusive(index: number, owner = 1): void {
    Atomics.compareExchange(this.#claims, this.#entryOf(index), owner, 0);
  }

  /** @returns the exclusive waiter's number, or 0 */
  claimOf(index: number): number {
    return Atomics.load(this.#claims, this.#entryOf(index));
  }

  #take(entry: number, times = 1n): bigint {
    const isSemaphore = this.#isSemaphore(entry);
    for (;;) {
      const count = Atomics.load(this.#counts, entry);
      const taken = isSemaphore && count > times ? times : count;
      if (Atomics.compareExchange(this.#counts, entry, count, count - taken) !== count) continue;
      if (taken !== 0n) this.#wake(entry);
      return taken;
    }
  }

  #isSemaphore(entry: number): boolean {
    return (Atomics.load(this.#states, entry) & SEMAPHORE) !== 0n;
  }

  #tell(index: number, entry: number): void {
    if (this.#hooks.size === 0 || !this.#hooks.has(index)) return;
    this.#take(entry);
    this.wake(index);
  }

  #wake(entry: number): void {
    Atomics.add(this.#waits, entry, 1);
    Atomics.notify(this.#waits, entry);
  }

  /** @returns the state word, or null when the index names no counter in use. */
  #stateOf(index: number): bigint | null {
    if (!Number.isSafeInteger(index) || index < 0) return null;
    const state = Atomics.load(this.#states, index % this.capacity);
    const generation = BigInt(Math.floor(index / this.capacity));
    if (state >> GENERATION_SHIFT !== generation) return null;
    return (state & REFERENCES) === 0n ? null : state;
  }

  #live(index: number): bigint {
    const state = this.#stateOf(index);
    assert(state !== null, `eventfd index ${index} is not in use`);
    return state;
  }

  #entryOf(index: number): number {
    this.#live(index);
    return index % this.capacity;
  }
}

export function foundOf(isFirst: boolean, isPositive: boolean): EventfdFound {
  if (isFirst) return isPositive ? "positive" : "zero";
  return isPositive ? "busy-positive" : "busy-zero";
}
