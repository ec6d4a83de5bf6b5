// Owns: waiting, without standing still, for a word in shared memory to change. Any thread.

/** Part of ES2024 that the compiler's library doesn't know yet. */
interface WaitAsync {
  waitAsync(
    words: Int32Array,
    at: number,
    value: number,
  ): { readonly async: boolean; readonly value: Promise<string> | string };
}

/** Resolves once the word isn't, or is notified to be no longer, what was seen. */
export async function wordChange(words: Int32Array, at: number, seen: number): Promise<void> {
  const waiting = (Atomics as unknown as WaitAsync).waitAsync(words, at, seen);
  if (waiting.async) await waiting.value;
}
