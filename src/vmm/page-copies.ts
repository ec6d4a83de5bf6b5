// Owns: a copy of a slot's memory, and which of its pages have changed since they were copied last.
// VM thread.
import type { MemoryObject } from "../kvm/index.js";
import type { Host } from "../machine/index.js";

export class PageCopies {
  readonly #memory: Host["memory"];
  /** Index of the slot's first word in the host's memory. */
  readonly #first: number;
  readonly #pageWords: number;
  readonly #copy: Uint32Array;

  /** @param object holds all of the slot, from `offset` on */
  constructor(host: Host, object: MemoryObject, offset: number, npages: number, pageSize: number) {
    this.#memory = host.memory;
    this.#first = (object.pa + offset) >>> 2;
    this.#pageWords = pageSize >>> 2;
    const end = this.#first + npages * this.#pageWords;
    this.#copy = this.#memory.u32.slice(this.#first, end);
  }

  /** Whether a page's bytes differ from its copy, which is made anew if so. */
  refresh(page: number): boolean {
    const words = this.#memory.u32;
    const copy = this.#copy;
    const from = page * this.#pageWords;
    const end = from + this.#pageWords;
    for (let at = from; at < end; at++) {
      if (words[this.#first + at] === copy[at]) continue;
      copy.set(words.subarray(this.#first + at, this.#first + end), at);
      return true;
    }
    return false;
  }
}
