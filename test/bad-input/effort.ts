// Owns: how long random tests run. Test process.
//   npm test      few runs of one seed, so that what passes once passes again
//   FUZZ_RUNS=n   n runs of another seed every time; FUZZ_SEED=s repeats one
const SEED = 20_261_120;

export interface Effort {
  readonly runs: number;
  /** For fc.assert. */
  readonly parameters: {
    readonly numRuns: number;
    readonly seed?: number;
    readonly endOnFailure: boolean;
  };
  /** Whether to print what was met. */
  readonly isTold: boolean;
}

/** @param usual runs of `npm test` */
export function effort(usual: number): Effort {
  const { FUZZ_RUNS, FUZZ_SEED, FUZZ_REPORT, FUZZ_QUICK } = process.env;
  const runs = Number(FUZZ_RUNS ?? usual);
  const seed =
    FUZZ_SEED === undefined ? (FUZZ_RUNS === undefined ? SEED : null) : Number(FUZZ_SEED);
  return {
    runs,
    parameters: {
      numRuns: runs,
      ...(seed === null ? {} : { seed }),
      // Shortening a counterexample takes many runs more.
      endOnFailure: FUZZ_QUICK !== undefined,
    },
    isTold: FUZZ_REPORT !== undefined,
  };
}
