// Owns: how long random tests run. Test process.
//   npm test      few runs of one seed, so that what passes once passes again
//   FUZZ_RUNS=n   n runs of another seed every time; FUZZ_SEED=s repeats one
const SEED = 20_261_120;
const BEGIN_AND_END_MS = 60_000;

export interface Effort {
  readonly runs: number;
  /** For fc.assert. */
  readonly parameters: {
    readonly numRuns: number;
    readonly seed?: number;
    readonly endOnFailure: boolean;
    readonly interruptAfterTimeLimit: number;
    readonly markInterruptAsFailure: boolean;
  };
  /** What vitest may wait, ms. */
  readonly timeoutMs: number;
  /** Whether to print what was met. */
  readonly isTold: boolean;
}

/** Shortening a counterexample can go on for ever: at this part of the time it is told as it is. */
const TOLD_AT = 0.8;

/**
 * @param usual runs of `npm test`
 * @param msPerRun with everything else that a machine does beside it
 */
export function effort(usual: number, msPerRun: number): Effort {
  const { FUZZ_RUNS, FUZZ_SEED, FUZZ_REPORT, FUZZ_QUICK } = process.env;
  const runs = Number(FUZZ_RUNS ?? usual);
  const seed =
    FUZZ_SEED === undefined ? (FUZZ_RUNS === undefined ? SEED : null) : Number(FUZZ_SEED);
  const timeoutMs = runs * msPerRun + BEGIN_AND_END_MS;
  return {
    runs,
    timeoutMs,
    parameters: {
      numRuns: runs,
      ...(seed === null ? {} : { seed }),
      // Shortening a counterexample takes many runs more.
      endOnFailure: FUZZ_QUICK !== undefined,
      interruptAfterTimeLimit: TOLD_AT * timeoutMs,
      markInterruptAsFailure: true,
    },
    isTold: FUZZ_REPORT !== undefined,
  };
}
