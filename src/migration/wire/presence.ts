// Owns: which pages the target has, one bit each, in memory that the VM's thread shares: a vCPU
// that finds its page absent waits on the bit's word. Any thread.
import { popcount32 } from "../../base/bits.js";
import type { MemoryMap } from "../../runtime/index.js";

/** Bits of one word. */
const WORD = 32;
const ALL = 0xffff_ffff | 0;

/** Of each memory object by number: bit n of word w is page 32 * w + n. */
export type PresentWords = ReadonlyMap<number, Int32Array<SharedArrayBuffer>>;

function maskOf(from: number, end: number): number {
  const count = end - from;
  return count === WORD ? ALL : ((2 ** count - 1) << (from % WORD)) | 0;
}

export class Presence {
  readonly words: PresentWords;

  constructor(map: MemoryMap) {
    const words = map.blocks
      .filter(({ backing }) => backing !== "device")
      .map(({ object, bytes }) => {
        const count = Math.ceil(bytes / map.pageSize / WORD);
        return [object, new Int32Array(new SharedArrayBuffer(count * 4))] as const;
      });
    this.words = new Map(words);
  }

  has(object: number, page: number): boolean {
    const words = this.words.get(object);
    if (words === undefined) return false;
    return ((Atomics.load(words, Math.floor(page / WORD)) >>> (page % WORD)) & 1) === 1;
  }

  /**
   * The last step of a page's arrival: its bytes are in place. Wakes who waits for it.
   * @returns pages that were there before
   */
  set(object: number, first: number, count: number): number {
    let before = 0;
    this.#change(object, first, count, (words, at, mask) => {
      before += popcount32((Atomics.or(words, at, mask) & mask) >>> 0);
      Atomics.notify(words, at);
    });
    return before;
  }

  /** @returns pages that were there before */
  clear(object: number, first: number, count: number): number {
    let before = 0;
    this.#change(object, first, count, (words, at, mask) => {
      before += popcount32((Atomics.and(words, at, ~mask) & mask) >>> 0);
    });
    return before;
  }

  #change(
    object: number,
    first: number,
    count: number,
    change: (words: Int32Array, at: number, mask: number) => void,
  ): void {
    const words = this.words.get(object);
    if (words === undefined) return;
    const end = first + count;
    for (let page = first; page < end; ) {
      const next = Math.min(end, (Math.floor(page / WORD) + 1) * WORD);
      change(words, Math.floor(page / WORD), maskOf(page, next));
      page = next;
    }
  }
}
