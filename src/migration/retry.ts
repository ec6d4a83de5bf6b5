// Owns: doing again what may go well a moment later. HTTP thread, or inline.
import type { Clock } from "../base/clock.js";
import { ATTEMPTS, RETRY_FIRST_MS, RETRY_LAST_MS } from "./limits.js";

interface Patience {
  /** Gives up after so many; Infinity: never. */
  readonly attempts: number;
  /** Gives up after so many milliseconds. */
  readonly forMs: number;
  readonly isWorth: (error: unknown) => boolean;
  /** Before the second attempt. */
  readonly firstMs: number;
}

/** Like a sleep, but keeps no process alive. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.timer(ms, resolve);
  });
}

/** @throws what the last attempt threw */
export async function retry<T>(
  clock: Clock,
  patience: Partial<Patience>,
  act: () => Promise<T>,
): Promise<T> {
  const { forMs = Number.POSITIVE_INFINITY, isWorth = () => true } = patience;
  const { attempts = Number.isFinite(forMs) ? Number.POSITIVE_INFINITY : ATTEMPTS } = patience;
  const start = clock.monotonicMs();
  let pauseMs = patience.firstMs ?? RETRY_FIRST_MS;
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      const isOver = attempt >= attempts || clock.monotonicMs() - start + pauseMs > forMs;
      if (isOver || !isWorth(error)) throw error;
    }
    await pause(clock, pauseMs);
    pauseMs = Math.min(pauseMs * 2, RETRY_LAST_MS);
  }
}

/** Repeats without end. */
export const FOR_EVER = { attempts: Number.POSITIVE_INFINITY } as const;
