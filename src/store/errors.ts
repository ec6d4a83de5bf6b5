// Owns: why a store can't be opened. HTTP thread, at start.

export type StoreErrorCode =
  | "database-in-use"
  | "database-foreign"
  | "database-newer"
  | "migration-edited"
  | "migration-unfinished"
  | "migration-refused";

/** The store refuses to open; the sentence says what the operator can do. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;

  constructor(code: StoreErrorCode, sentence: string, cause?: unknown) {
    super(sentence, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
