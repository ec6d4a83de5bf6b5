// Owns: news at the target that pages have come which its VM waits for. HTTP thread, or inline.
import { wordChange } from "../../base/word-change.js";

export class Arrivals {
  /** IncomingSpec.wake: counted up and notified with each piece of news. */
  readonly word: Int32Array<SharedArrayBuffer>;
  #seen: number;

  /** @param word where others look for it, too */
  constructor(word = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))) {
    this.word = word;
    this.#seen = Atomics.load(word, 0);
  }

  /** Resolves when there is news since the last call. */
  async next(): Promise<void> {
    for (;;) {
      const now = Atomics.load(this.word, 0);
      if (now !== this.#seen) {
        this.#seen = now;
        return;
      }
      await wordChange(this.word, 0, now);
    }
  }

  /** Nobody brings any more: whoever waits is let go. */
  end(): void {
    Atomics.add(this.word, 0, 1);
    Atomics.notify(this.word, 0);
  }
}
