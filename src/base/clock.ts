// Owns: the only access to wall-clock time and timers. Any thread; each thread has its own.

export const NS_PER_MS = 1_000_000;

/** Time as a dependency, so that simulation can replace it. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  nowMs(): number;
  /** Milliseconds from an arbitrary start, never going back; fractions allowed. */
  monotonicMs(): number;
  sleep(ms: number): Promise<void>;
  /** Calls once after ms; @returns a cancel function. Never keeps the process alive. */
  timer(ms: number, fire: () => void): () => void;
  /** Lets the event loop serve sockets; a loop of awaited database calls starves it otherwise. */
  yieldToLoop(): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  timer: (ms, fire) => {
    const handle = setTimeout(fire, ms);
    handle.unref();
    return () => clearTimeout(handle);
  },
  yieldToLoop: () => new Promise((resolve) => setImmediate(resolve)),
};

/** RFC 3339 text of a clock's present, UTC. */
export function timestamp(clock: Clock): string {
  return new Date(clock.nowMs()).toISOString();
}

/** A clock that moves only when told; timers fire in order of their due time. */
export class ManualClock implements Clock {
  #now: number;
  #timers: { due: number; fire: () => void }[] = [];

  constructor(startMs = 0) {
    this.#now = startMs;
  }

  nowMs(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.timer(ms, resolve);
    });
  }

  timer(ms: number, fire: () => void): () => void {
    const entry = { due: this.#now + ms, fire };
    this.#timers.push(entry);
    return () => {
      this.#timers = this.#timers.filter((t) => t !== entry);
    };
  }

  yieldToLoop(): Promise<void> {
    return Promise.resolve();
  }

  /** Moves the present forward and fires what became due, earliest first. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter((t) => t.due <= end).sort((a, b) => a.due - b.due)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((t) => t !== next);
      this.#now = Math.max(this.#now, next.due);
      next.fire();
    }
    this.#now = end;
  }
}
