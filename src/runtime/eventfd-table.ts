// Owns: eventfds as the service uses them, over the process-wide counters. HTTP thread.
import type { Clock } from "../base/clock.js";
import { KvmError } from "../base/errors.js";
import type { EventfdCounters } from "../base/eventfd-counters.js";
import type { EventfdOwners } from "./eventfd-owners.js";
import type { EventfdTable } from "./handle.js";

type WaitAsync = (
  words: Int32Array,
  at: number,
  seen: number,
) => { readonly async: false } | { readonly async: true; readonly value: Promise<string> };

// In Node since 16, but not in the ES2023 types.
const waitAsync = (Atomics as unknown as { readonly waitAsync: WaitAsync }).waitAsync;

export class SharedEventfdTable implements EventfdTable {
  readonly #counters: EventfdCounters;
  readonly #owners: EventfdOwners;
  readonly #clock: Clock;
  /** One wait per counter for all who ask: a wait ends only by a change, never by a timeout. */
  readonly #waits = new Map<number, Promise<void>>();

  constructor(counters: EventfdCounters, owners: EventfdOwners, clock: Clock) {
    this.#counters = counters;
    this.#owners = owners;
    this.#clock = clock;
  }

  create(initial: bigint, isSemaphore: boolean): number {
    return this.#counters.create(initial, isSemaphore);
  }

  async write(index: number, value: bigint, drain: boolean): Promise<void> {
    if (this.#counters.write(index, value) === "ok") return this.#owners.wake(index, drain);
    const why = "The counter would pass 2^64-2; read it first.";
    throw new KvmError("EAGAIN", "write", why, "eventfd-overflow");
  }

  peek(index: number): bigint {
    return this.#counters.peek(index);
  }

  take(index: number): bigint {
    return this.#counters.take(index);
  }

  withdraw(index: number, n: bigint): void {
    this.#counters.withdraw(index, n);
  }

  isClaimed(index: number): boolean {
    return this.#counters.claimOf(index) !== 0;
  }

  free(): number {
    return this.#counters.capacity - this.#counters.live();
  }

  async close(index: number, drain: boolean): Promise<void> {
    await this.#owners.hangUp(index, drain);
    this.#counters.close(index);
  }

  sequence(index: number): number {
    if (!this.#counters.isOpen(index)) return 0;
    const { words, at } = this.#counters.waitWord(index);
    return Atomics.load(words, at);
  }

  async changed(index: number, timeoutMs: number): Promise<void> {
    if (!this.#counters.isOpen(index)) return;
    const seen = this.sequence(index);
    if (this.#counters.peek(index) === 0n) await this.moved(index, seen, timeoutMs);
  }

  async moved(index: number, sequence: number, timeoutMs: number): Promise<void> {
    const change = this.#change(index, sequence);
    if (change === null) return;
    let cancel = (): void => {};
    const timeout = new Promise<void>((resolve) => {
      cancel = this.#clock.timer(timeoutMs, resolve);
    });
    await Promise.race([change, timeout]);
    cancel();
  }

  /** @returns null when there is nothing to wait for: the counter has moved, or is closed. */
  #change(index: number, seen: number): Promise<void> | null {
    if (!this.#counters.isOpen(index)) return null;
    const { words, at } = this.#counters.waitWord(index);
    if (Atomics.load(words, at) !== seen) return null;
    const known = this.#waits.get(index);
    if (known !== undefined) return known;
    const wait = waitAsync(words, at, seen);
    if (!wait.async) return null;
    const change = wait.value.then(() => {
      this.#waits.delete(index);
    });
    this.#waits.set(index, change);
    return change;
  }
}
