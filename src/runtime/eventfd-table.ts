// Owns: eventfds as the service uses them, over the process-wide counters. HTTP thread.
import type { Clock } from "../base/clock.js";
import { KvmError } from "../base/errors.js";
import type { EventfdCounters } from "../base/eventfd-counters.js";
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
  readonly #clock: Clock;
  /** One wait per counter for all who ask: a wait ends only by a change, never by a timeout. */
  readonly #waits = new Map<number, Promise<void>>();

  constructor(counters: EventfdCounters, clock: Clock) {
    this.#counters = counters;
    this.#clock = clock;
  }

  create(initial: bigint): number {
    return this.#counters.create(initial);
  }

  write(index: number, value: bigint): void {
    if (this.#counters.write(index, value) === "ok") return;
    const why = "The counter would pass 2^64-2; read it first.";
    throw new KvmError("EAGAIN", "write", why, "eventfd-overflow");
  }

  peek(index: number): bigint {
    return this.#counters.peek(index);
  }

  take(index: number): bigint {
    return this.#counters.take(index);
  }

  close(index: number): void {
    this.#counters.close(index);
  }

  async changed(index: number, timeoutMs: number): Promise<void> {
    const change = this.#change(index);
    if (change === null) return;
    let cancel = (): void => {};
    const timeout = new Promise<void>((resolve) => {
      cancel = this.#clock.timer(timeoutMs, resolve);
    });
    await Promise.race([change, timeout]);
    cancel();
  }

  /** @returns null when there is nothing to wait for: the counter can be read, or is closed. */
  #change(index: number): Promise<void> | null {
    if (!this.#counters.isOpen(index)) return null;
    const { words, at } = this.#counters.waitWord(index);
    const seen = Atomics.load(words, at);
    if (this.#counters.peek(index) !== 0n) return null;
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
