// Owns: who is woken by a counter that a VM's hook waits on, when the signal comes from outside of
// that VM: a client's write, another VM's ioeventfd or resample. HTTP thread, or inline.
//
//   write ──▶ count, claim? ── take ──▶ wakeEventfd, a logged command of the owner ──▶ answer
//   other VM's signal ──▶ message ──────────▲
//
// So an input log holds every wake-up that its VM did not cause itself.
import { ServiceError } from "../base/errors.js";
import type { EventfdCounters } from "../base/eventfd-counters.js";
import type { VmHandle } from "./handle.js";

/** Wake-ups of one counter: one under way, and one for all that came meanwhile. */
interface Wakes {
  readonly now: Promise<void>;
  next: Promise<void> | null;
  drain: boolean;
  /** Signals that `next` is for: each takes 1 of a semaphore. */
  signals: bigint;
}

export class EventfdOwners {
  readonly #counters: EventfdCounters;
  readonly #handles = new Map<number, VmHandle>();
  /** VMs whose hooks wait behind another VM's, first come first. */
  readonly #waiting = new Map<number, readonly number[]>();
  readonly #wakes = new Map<number, Wakes>();

  constructor(counters: EventfdCounters) {
    this.#counters = counters;
  }

  add(owner: number, handle: VmHandle): void {
    this.#handles.set(owner, handle);
  }

  /** Nothing of the VM runs any more. */
  remove(owner: number): void {
    this.#handles.delete(owner);
    for (const index of [...this.#waiting.keys()]) this.waits(owner, index, false);
  }

  waits(owner: number, index: number, isWaiting: boolean): void {
    const others = (this.#waiting.get(index) ?? []).filter((other) => other !== owner);
    const left = isWaiting ? [...others, owner] : others;
    if (left.length > 0) this.#waiting.set(index, left);
    else this.#waiting.delete(index);
    // It may have moved up since.
    if (!isWaiting) this.#counters.releaseExclusive(index, owner);
    this.released(index);
  }

  /**
   * The next in line moves up, and hears what was left for it. It goes on hearing of signals from
   * here, never in its thread.
   */
  released(index: number): void {
    const [next] = this.#waiting.get(index) ?? [];
    if (next === undefined || !this.#counters.claimExclusive(index, next)) return;
    if (this.#counters.peek(index) > 0n) void this.wake(index, true);
  }

  /**
   * After a counter was added to.
   * @param drain whether work that the wake-up puts off is done before it resolves
   * @param signals each takes 1 of a semaphore; any other counter is taken whole
   * @returns resolves when the owner's VM has taken it in, or there is no owner
   */
  wake(index: number, drain: boolean, signals = 1n): Promise<void> {
    const known = this.#wakes.get(index);
    if (known === undefined) return this.#begin(index, drain, signals);
    known.drain ||= drain;
    known.signals += signals;
    known.next ??= known.now.then(() => this.#begin(index, known.drain, known.signals));
    return known.next;
  }

  /** Before a descriptor is closed. */
  async hangUp(index: number, drain: boolean): Promise<void> {
    if (!this.#counters.isOpen(index)) return;
    const owners = new Set([this.#counters.claimOf(index), ...(this.#waiting.get(index) ?? [])]);
    const told = [...owners].flatMap((owner) => {
      const handle = this.#handles.get(owner);
      if (handle === undefined) return [];
      const args = { fd: { index, isEventfd: true }, drain };
      return handle.call("hangUpEventfd", args).catch(ignoreEnd);
    });
    await Promise.all(told);
  }

  #begin(index: number, drain: boolean, signals: bigint): Promise<void> {
    const now = this.#send(index, drain, signals);
    const wakes: Wakes = { now, next: null, drain: false, signals: 0n };
    this.#wakes.set(index, wakes);
    void wakes.now.then(() => {
      if (wakes.next === null && this.#wakes.get(index) === wakes) this.#wakes.delete(index);
    });
    return wakes.now;
  }

  async #send(index: number, drain: boolean, signals: bigint): Promise<void> {
    if (!this.#counters.isOpen(index)) return;
    const owner = this.#counters.claimOf(index);
    const handle = this.#handles.get(owner);
    if (handle === undefined) return;
    const taken = this.#counters.take(index, signals);
    const args = { fd: { index, isEventfd: true }, drain };
    const answer = await handle.call("wakeEventfd", args).catch(ignoreEnd);
    if (answer?.value.woken === true || taken === 0n || !this.#counters.isOpen(index)) return;
    const others = (this.#waiting.get(index) ?? []).filter((other) => other !== owner);
    // A VM that ends takes what its hooks were to hear with it, unless one waits behind them.
    if (answer === null && others.length === 0) return;
    // The hook had gone before it could hear: what was written waits for the next one.
    this.#counters.signal(index, taken);
    // That one may have moved up before there was anything to hear.
    const next = this.#counters.claimOf(index);
    if (next !== owner && this.#handles.has(next)) void this.wake(index, drain, taken);
  }
}

/** The VM has ended. */
function ignoreEnd(error: unknown): null {
  if (error instanceof ServiceError) return null;
  throw error;
}
