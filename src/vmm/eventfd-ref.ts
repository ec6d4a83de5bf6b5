// Owns: how commands name an eventfd. Any thread.

export interface EventfdRef {
  /** Index into the shared counters; -1 for a descriptor that does not exist. */
  readonly index: number;
  /** False for a descriptor that is open but no eventfd. */
  readonly isEventfd: boolean;
}
