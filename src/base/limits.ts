// Owns: every bound of the service that is not configuration: one constant, unit and reason each.
// Runs on any thread. A bound that a deployment may change is in config.ts.

/** Counters. Eventfds open or referred to in the process; 24 bytes each, so 1.5 MiB of table. */
export const EVENTFDS_MAX = 65_536;

/** Accounts. One for each VM thread that can exist or is ending, and the process's own. */
export const MEMORY_ACCOUNTS_MAX = 4_096;

/** Threads. One VM thread is about 47 memory maps of Linux's default 65,530, then V8 aborts. */
export const VM_THREADS_MAX = 1_000;

/** Threads starting at the same time; more only fight for the CPUs and delay the first answer. */
export const VM_STARTS_MAX = 4;

/** Calls to one VM that are not answered yet; each holds its arguments in memory. */
export const PENDING_CALLS_MAX = 4_096;

/** Bytes of one VM's input log; arguments with memory contents are what makes it grow. */
export const INPUT_LOG_BYTES_MAX = 64 * 1024 * 1024;

/** Bytes. Smaller buffers are cheaper to copy between threads than to move. */
export const TRANSFER_BYTES_MIN = 16_384;

/** MiB of JavaScript heap of one VM thread; beyond it that VM dies, not the process. */
export const VM_HEAP_MIB_MAX = 1_024;

/** Milliseconds that a VM's thread gets to end by itself before it is terminated. */
export const VM_END_GRACE_MS = 250;

/** Scheduler steps between two looks at reads, which do not interrupt; a step is up to 1 ms. */
export const STEPS_PER_TURN = 1;

/** Events that a VM's trace keeps; older ones give way. */
export const TRACE_EVENTS_MAX = 32_768;
