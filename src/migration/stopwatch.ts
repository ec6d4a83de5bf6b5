// Owns: where a session's time goes. HTTP thread, or inline.
import type { Clock } from "../base/clock.js";
import type { Statistics } from "./types.js";

type Step = Exclude<keyof Statistics, "totalMs" | "downtimeMs" | "stateBytes">;

export class Stopwatch {
  readonly beganMs: number;
  readonly #clock: Clock;
  readonly #steps = new Map<Step, number>();
  #downtimeMs: number | null = null;
  #stateBytes: number | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.beganMs = clock.monotonicMs();
  }

  /** Takes the time of a step, however it ends. */
  async time<T>(step: Step, act: () => Promise<T>): Promise<T> {
    const end = this.start(step);
    try {
      return await act();
    } finally {
      end();
    }
  }

  /** @returns call it when the step is over */
  start(step: Step): () => void {
    const start = this.#clock.monotonicMs();
    return () => {
      this.#steps.set(step, this.#clock.monotonicMs() - start);
    };
  }

  set stateBytes(bytes: number) {
    this.#stateBytes = bytes;
  }

  /** @param heldMs when the first vCPU was held; it runs again now */
  runsAgain(heldMs: number | null): void {
    if (heldMs !== null) this.#downtimeMs = this.#clock.monotonicMs() - heldMs;
  }

  get statistics(): Statistics {
    const of = (step: Step): number | null => this.#steps.get(step) ?? null;
    return {
      setupMs: of("setupMs"),
      totalMs: this.#clock.monotonicMs() - this.beganMs,
      downtimeMs: this.#downtimeMs,
      holdMs: of("holdMs"),
      saveMs: of("saveMs"),
      lastRoundMs: of("lastRoundMs"),
      finishMs: of("finishMs"),
      releaseMs: of("releaseMs"),
      commitMs: of("commitMs"),
      stateBytes: this.#stateBytes,
    };
  }
}
