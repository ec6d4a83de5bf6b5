// Owns: one page of a list. Types only. HTTP thread.

export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor: string | null;
}
