// Owns: how long a target waits for those who send to it. Data-plane thread.

/** A connection on which nothing happens; its source connects again when it has something. */
export const IDLE_MS_MAX = 120_000;
/** A refused source gets this long to read why. */
export const LINGER_MS = 1_000;
