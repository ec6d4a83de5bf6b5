// Owns: how a VM's thread asks the data plane for pages: a ring in shared memory. One thread asks,
// one reads.
//
//   word 0 ─ requests written (notified) │ 1 ─ requests read │ 2 … ─ pairs of object and page
import { wordChange } from "./word-change.js";

const CAPACITY = 1024;
const WRITTEN = 0;
const READ = 1;
const FIRST = 2;

export class PageRequests {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;
  #isOver = false;

  constructor(shared?: SharedArrayBuffer) {
    this.shared = shared ?? new SharedArrayBuffer((FIRST + CAPACITY * 2) * 4);
    this.#words = new Int32Array(this.shared);
  }

  /** VM thread. @returns false when the ring is full: ask again later */
  ask(object: number, page: number): boolean {
    const words = this.#words;
    const written = Atomics.load(words, WRITTEN);
    if (((written - Atomics.load(words, READ)) | 0) >= CAPACITY) return false;
    const at = FIRST + (written & (CAPACITY - 1)) * 2;
    words[at] = object;
    words[at + 1] = page;
    Atomics.store(words, WRITTEN, (written + 1) | 0);
    Atomics.notify(words, WRITTEN);
    return true;
  }

  /** Data-plane thread: calls for each request until `end`. */
  async read(take: (object: number, page: number) => void): Promise<void> {
    const words = this.#words;
    while (!this.#isOver) {
      const written = Atomics.load(words, WRITTEN);
      for (let i = Atomics.load(words, READ); i !== written; i = (i + 1) | 0) {
        const at = FIRST + (i & (CAPACITY - 1)) * 2;
        take((words[at] as number) >>> 0, (words[at + 1] as number) >>> 0);
        Atomics.store(words, READ, (i + 1) | 0);
      }
      await wordChange(words, WRITTEN, written);
    }
  }

  end(): void {
    this.#isOver = true;
    Atomics.notify(this.#words, WRITTEN);
  }
}
