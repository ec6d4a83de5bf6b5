// Owns: the bounds of QMP sockets, with unit and reason. HTTP thread.

/** Bytes of one command. QEMU's longest, device trees aside, are a few hundred. */
export const COMMAND_BYTES_MAX = 262_144;

/** Arrays and objects in each other, as in QEMU. */
export const NESTING_MAX = 1024;

/** Clients of one VM at once. */
export const CLIENTS_MAX = 16;

/**
 * Bytes that wait for a client which doesn't read; beyond, its connection is cut. Replies alone
 * can't get there: no command is read while one waits, and the longest is a tenth of this.
 */
export const UNREAD_BYTES_MAX = 1_048_576;

/** Milliseconds between two harvests while a dirty limit is in force. */
export const DIRTY_LIMIT_PERIOD_MS = 1_000;

/** Seconds that calc-dirty-rate may take, as in QEMU. */
export const DIRTY_RATE_SECONDS_MAX = 60;

/** Milliseconds that a client gets to read its last answer when the VM has ended. */
export const GOODBYE_MS = 2_000;
