// Owns: the bandwidth limit of a session, shared by its channels. Data-plane thread, or inline.
import type { Clock } from "../../base/clock.js";
import { Signal } from "./signal.js";

const MS_PER_SECOND = 1000;
/**
 * Time in which nobody sent is worth so much at most. A late timer and the gap between two rounds
 * (the target's word, the harvest, the decision) are shorter, so they cost no bandwidth; QEMU
 * accounts in windows of the same length, so a link sees no longer bursts than from there.
 */
export const CREDIT_MS = 100;

/**
 * A frame may go when the ones before it are paid for; its own bytes are paid afterwards, so it is
 * never split. Over any time of `t` seconds at most `limit * (t + CREDIT_MS)` bytes go, and a frame
 * for each channel; and no fewer than `limit * t` while somebody has something to send.
 */
export class TokenBucket {
  readonly #clock: Clock;
  readonly #changed = new Signal();
  #bytesPerSecond: number;
  /** Bytes that may go at `#atMs`; below 0: sent and not paid for. */
  #credit = 0;
  #atMs: number;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#atMs = clock.monotonicMs();
  }

  /** 0: no limit. Who waits now waits by the new rate. */
  limit(bytesPerSecond: number): void {
    this.#earn();
    this.#bytesPerSecond = bytesPerSecond;
    this.#cap();
    this.#changed.fire();
  }

  async take(bytes: number): Promise<void> {
    for (;;) {
      if (this.#bytesPerSecond === 0) return;
      this.#earn();
      if (this.#credit >= 0) break;
      const ms = (-this.#credit / this.#bytesPerSecond) * MS_PER_SECOND;
      const cancel = this.#clock.timer(Math.ceil(ms), () => this.#changed.fire());
      await this.#changed.wait();
      cancel();
    }
    this.#credit -= bytes;
  }

  /** Of a frame that goes at once; whoever takes next waits for it. */
  spend(bytes: number): void {
    if (this.#bytesPerSecond === 0) return;
    this.#earn();
    this.#credit -= bytes;
  }

  #earn(): void {
    const now = this.#clock.monotonicMs();
    this.#credit += ((now - this.#atMs) / MS_PER_SECOND) * this.#bytesPerSecond;
    this.#atMs = now;
    this.#cap();
  }

  /** Without a limit nothing is owed, and nothing is saved for one that comes later. */
  #cap(): void {
    const most = (this.#bytesPerSecond * CREDIT_MS) / MS_PER_SECOND;
    this.#credit = most === 0 ? 0 : Math.min(this.#credit, most);
  }
}
