// Owns: how patient the engine is, in milliseconds unless it says otherwise. Any thread.

/** Pages of a switchover are few and its state is small: what both cost beside the pages. */
export const STATE_MS = 10;

/** Fewer bytes than this, as the guest has them, tell the link's delay, not its bandwidth. */
export const BANDWIDTH_SAMPLE_BYTES = 1_048_576;

/**
 * A round is over once what is left of it is so much of what a switchover may have: the guest has
 * dirtied some of that again meanwhile, and pages that wait needn't be sent twice. QEMU takes all
 * of it, and then needs many short rounds to come below it.
 */
export const LEAVE_SHARE = 0.9;

/** Rounds that are slower than this share of the client's limit aren't held back by it. */
export const PACED_SHARE = 0.5;

/** A round that leaves this share of what it sent has gained nothing. */
export const STALLED_RATIO = 0.95;

/** QEMU throttles from here on: throttle-trigger-threshold is 50 %. */
export const THROTTLE_RATIO = 0.5;

/** Below it another round before the switchover gains nothing that a guest would see. */
export const SHORT_DOWNTIME_MS = 20;
/** Rounds that only shorten the downtime may take so much longer altogether. */
export const SHORTEN_SHARE = 0.3;
export const SHORTEN_MS = 50;

/** The same of the rest of a round that a client's limit holds back. */
export const FINISH_SHARE = 0.1;
/** Of what is left, what the guest may dirty while that goes, where it is worth a round. */
export const FINISH_DIRTY_SHARE = 0.25;

/** Least time between two notes of progress. */
export const PROGRESS_MS = 100;

/** Repeats of a call that nobody answered: the first pause, doubled up to the longest. */
export const RETRY_FIRST_MS = 50;
export const RETRY_LAST_MS = 5_000;
/** Calls before the switchover, and those that only tidy up, are tried so often. */
export const ATTEMPTS = 4;
/** While vCPUs are held: finish and its record are repeated for so long. */
export const FINISH_PATIENCE_MS = 3_000;

/** A target that hears nothing asks the source after this, and gives up after the other. */
export const SILENCE_MS = 30_000;
export const SILENCE_LAST_MS = 600_000;
