// Owns: what a numbered case of a specification is. Test process.

export interface SpecCase {
  /** As in a test's name: a letter, a dash if it likes, digits. */
  readonly number: string;
  readonly says: string;
}
