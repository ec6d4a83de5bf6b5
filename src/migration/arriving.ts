// Owns: what an incoming session has taken in, told while it comes and once it is over. HTTP
// thread, or inline.
import type { Clock } from "../base/clock.js";
import type { MemoryMap } from "../runtime/index.js";
import { bytesOf } from "./dirty-pages.js";
import { PROGRESS_MS } from "./limits.js";
import type { Incoming, Journal } from "./ports.js";
import type { Progress, Traffic } from "./types.js";

interface Parts {
  readonly incoming: Incoming;
  readonly memory: MemoryMap;
  readonly clock: Clock;
  readonly journal: Journal;
}

/** Of post-copy: what the VM's thread knows once every page is here. */
export type Followed = Pick<Progress, "pagesRequested" | "pagesPushed" | "vcpuWaitMs">;

const MS_PER_S = 1000;

export class Arriving {
  readonly #parts: Parts;
  #cancelTimer: () => void = () => {};
  #toldMs: number;
  #toldBytes = 0;
  #bytesPerSecond = 0;
  #isWhole = false;
  #followed: Followed = { pagesRequested: 0, pagesPushed: 0 };

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#toldMs = parts.clock.monotonicMs();
  }

  /** Tells every PROGRESS_MS what has come since. */
  begin(): void {
    this.pause();
    this.#cancelTimer = this.#parts.clock.timer(PROGRESS_MS, () => {
      this.tell();
      this.begin();
    });
  }

  /** Whoever waits for the VM needn't wait for this. */
  pause(): void {
    this.#cancelTimer();
  }

  /** Every page is here. @param followed absent: none was missing when the VM began to run */
  complete(followed: Followed = this.#followed): void {
    this.pause();
    this.#isWhole = true;
    this.#followed = followed;
    this.#tell(this.#parts.incoming.received());
  }

  /** Where anything has come since. */
  tell(): void {
    const traffic = this.#parts.incoming.received();
    if (traffic.bytes !== this.#toldBytes) this.#tell(traffic);
  }

  #tell(traffic: Traffic): void {
    const { memory, clock, journal } = this.#parts;
    const now = clock.monotonicMs();
    const ms = now - this.#toldMs;
    const bytes = traffic.bytes - this.#toldBytes;
    if (bytes > 0 && ms > 0) this.#bytesPerSecond = Math.round((bytes * MS_PER_S) / ms);
    this.#toldMs = now;
    this.#toldBytes = traffic.bytes;
    const bytesTotal = bytesOf(memory);
    const { pagesSent, pagesZero, pagesDuplicate } = traffic;
    const { pageSize } = memory;
    const here = (pagesSent + pagesZero - pagesDuplicate) * pageSize;
    journal.progress({
      ...traffic,
      // What came twice counts twice, so only the end is known.
      ...{ bytesTotal, bytesRemaining: this.#isWhole ? 0 : Math.max(pageSize, bytesTotal - here) },
      // Rounds, and what they come to, are the source's.
      ...{ round: 0, bytesPerSecond: this.#bytesPerSecond, dirtyPagesPerSecond: 0 },
      ...{ throttlePercent: 0, predictedDowntimeMs: null },
      ...this.#followed,
    });
  }
}
