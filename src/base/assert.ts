// Owns: the assertion for our own bugs (DESIGN 16). Runs on any thread.

/** One of Tidemark's own invariants does not hold. Ends the VM it happens in, never the service. */
export class AssertionFailed extends Error {
  override readonly name = "AssertionFailed";
}

/**
 * Checks an invariant of our own code; always on.
 * @throws AssertionFailed with the sentence
 */
export function assert(condition: unknown, sentence: string): asserts condition {
  if (!condition) throw new AssertionFailed(sentence);
}
