// Owns: the arithmetic of measuring: medians, quantiles, rounds. Bench process.

/** @returns the q-quantile (0 to 1) of samples in any order, nearest rank. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1));
  return sorted[at] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle] ?? Number.NaN;
  return ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

/** Milliseconds that `act` takes. */
export function timed(act: () => void): number {
  const start = performance.now();
  act();
  return performance.now() - start;
}

export async function timedAsync(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await act();
  return performance.now() - start;
}

export interface Compared {
  /** Median over the rounds of each side's own figure. */
  readonly ours: number;
  readonly theirs: number;
  /** Median over the rounds of ours / theirs in the same round. */
  readonly ratio: number;
}

/**
 * Runs both sides in every round, the order turned each time, so that what else the machine does
 * meets both alike.
 * @param rounds how many; each gives one figure per side
 */
export async function compare(
  rounds: number,
  ours: () => Promise<number> | number,
  theirs: () => Promise<number> | number,
): Promise<Compared> {
  const a: number[] = [];
  const b: number[] = [];
  for (let round = 0; round < rounds; round++) {
    if (round % 2 === 0) {
      a.push(await ours());
      b.push(await theirs());
    } else {
      b.push(await theirs());
      a.push(await ours());
    }
  }
  const ratio = median(a.map((figure, at) => figure / (b[at] ?? Number.NaN)));
  return { ours: median(a), theirs: median(b), ratio };
}
