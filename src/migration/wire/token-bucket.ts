// Owns: the bandwidth limit of a session, shared by its channels. Data-plane thread, or inline.
import type { Clock } from "../../base/clock.js";
import { Signal } from "./signal.js";

const MS_PER_SECOND = 1000;

/**
 * A frame may go when the ones before it are paid for; its own bytes are paid afterwards. So a
 * frame is never split, and over any time the rate is right to within one frame per channel.
 */
export class TokenBucket {
  readonly #clock: Clock;
  readonly #changed = new Signal();
  #bytesPerSecond: number;
  /** Bytes not paid for at `#atMs`. */
  #debt = 0;
  #atMs: number;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#atMs = clock.monotonicMs();
  }

  /** 0: no limit. Who waits now waits by the new rate. */
  limit(bytesPerSecond: number): void {
    this.#pay();
    this.#bytesPerSecond = bytesPerSecond;
    this.#changed.fire();
  }

  async take(bytes: number): Promise<void> {
    for (;;) {
      if (this.#bytesPerSecond === 0) return;
      this.#pay();
      if (this.#debt <= 0) break;
      const ms = (this.#debt / this.#bytesPerSecond) * MS_PER_SECOND;
      const cancel = this.#clock.timer(Math.ceil(ms), () => this.#changed.fire());
      await this.#changed.wait();
      cancel();
    }
    this.#debt += bytes;
  }

  #pay(): void {
    const now = this.#clock.monotonicMs();
    const paid = ((now - this.#atMs) / MS_PER_SECOND) * this.#bytesPerSecond;
    this.#debt = this.#bytesPerSecond === 0 ? 0 : Math.max(0, this.#debt - paid);
    this.#atMs = now;
  }
}
