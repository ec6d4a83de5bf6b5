// Owns: dirty pages of memory objects as bitmaps, one set for each consumer, and the way from a
// slot's pages to them. VM thread.
import { popcount32 } from "../../base/bits.js";
import type { Kvm, MemoryObject, Memslot } from "../../kvm/index.js";
import type { DirtyBlock, DirtyPages } from "./commands.js";

type AddressSpace = Kvm["vm"]["mm"];

const WORD_PAGES = 32;
/** Bitmaps have whole 64-bit words, as KVM's. */
const WHOLE_PAGES = 64;

function wordsFor(pages: number): number {
  return Math.ceil(pages / WHOLE_PAGES) * (WHOLE_PAGES / WORD_PAGES);
}

function add(words: Uint32Array, at: number, bits: number): void {
  words[at] = (words[at] ?? 0) | bits;
}

/** Bits [from, from + count) of one bitmap, or-ed into another from bit `at` on. */
export function orBits(
  into: Uint32Array,
  at: number,
  source: Uint32Array,
  from: number,
  count: number,
): void {
  for (let done = 0; done < count; ) {
    const bit = (from + done) % WORD_PAGES;
    const taken = Math.min(WORD_PAGES - bit, count - done);
    let bits = (source[Math.floor((from + done) / WORD_PAGES)] ?? 0) >>> bit;
    if (taken < WORD_PAGES) bits &= 2 ** taken - 1;
    if (bits !== 0) {
      const word = Math.floor((at + done) / WORD_PAGES);
      const shift = (at + done) % WORD_PAGES;
      add(into, word, bits << shift);
      if (shift + taken > WORD_PAGES) add(into, word + 1, bits >>> (WORD_PAGES - shift));
    }
    done += taken;
  }
}

/** Part of a slot over one memory object. */
export interface Stretch {
  readonly object: MemoryObject;
  /** First page of it in the slot, and in the object. */
  readonly slotPage: number;
  readonly objectPage: number;
  readonly pages: number;
}

/** What of a range of userspace addresses is memory; holes are left out. */
export function stretchesOf(
  mm: AddressSpace,
  { userspaceAddr, npages }: Pick<Memslot, "userspaceAddr" | "npages">,
  pageSize: number,
): readonly Stretch[] {
  const end = userspaceAddr + npages * pageSize;
  const stretches: Stretch[] = [];
  for (const object of mm.list()) {
    const from = Math.max(userspaceAddr, object.userspaceAddr);
    const to = Math.min(end, object.userspaceAddr + object.bytes);
    if (from >= to) continue;
    stretches.push({
      object,
      slotPage: (from - userspaceAddr) / pageSize,
      objectPage: (from - object.userspaceAddr) / pageSize,
      pages: (to - from) / pageSize,
    });
  }
  return stretches;
}

/** Dirty pages that one consumer has not taken yet, by memory object. */
export class PageSet {
  readonly #pageSize: number;
  readonly #blocks = new Map<number, Uint32Array>();

  constructor(pageSize: number) {
    this.#pageSize = pageSize;
  }

  /** Bytes of the bitmaps for so much memory. */
  static bytesFor(objects: readonly MemoryObject[], pageSize: number): number {
    const words = objects.map(({ bytes }) => wordsFor(bytes / pageSize));
    return words.reduce((sum, each) => sum + each, 0) * 4;
  }

  words(object: MemoryObject): Uint32Array {
    let words = this.#blocks.get(object.id);
    if (words === undefined) {
      words = new Uint32Array(wordsFor(object.bytes / this.#pageSize));
      this.#blocks.set(object.id, words);
    }
    return words;
  }

  addPage(object: MemoryObject, page: number): void {
    add(this.words(object), Math.floor(page / WORD_PAGES), 1 << (page % WORD_PAGES));
  }

  addPages(object: MemoryObject, first: number, count: number): void {
    const words = this.words(object);
    const end = first + count;
    for (let page = first; page < end; ) {
      const bit = page % WORD_PAGES;
      const taken = Math.min(WORD_PAGES - bit, end - page);
      const bits = taken === WORD_PAGES ? -1 : (2 ** taken - 1) << bit;
      add(words, Math.floor(page / WORD_PAGES), bits);
      page += taken;
    }
  }

  /** Gives back what was taken; pages of objects that are gone are nobody's. */
  addBlock(object: MemoryObject, { bitmap }: DirtyBlock): void {
    const pages = Math.min(object.bytes / this.#pageSize, bitmap.length * 8);
    const whole = new Uint8Array(Math.ceil(bitmap.length / 4) * 4);
    whole.set(bitmap);
    orBits(this.words(object), 0, new Uint32Array(whole.buffer), 0, pages);
  }

  get count(): number {
    let pages = 0;
    for (const words of this.#blocks.values()) pages += countOf(words);
    return pages;
  }

  /** A copy. @param takes the set is empty afterwards */
  read(mm: AddressSpace, takes: boolean): DirtyPages {
    const blocks: DirtyBlock[] = [];
    for (const [object, words] of [...this.#blocks].sort(([a], [b]) => a - b)) {
      if (mm.byId(object) === undefined) {
        if (takes) this.#blocks.delete(object);
        continue;
      }
      const pages = countOf(words);
      if (pages === 0) continue;
      blocks.push({ object, pages, bitmap: new Uint8Array(words.slice().buffer) });
      if (takes) words.fill(0);
    }
    return { blocks, pages: blocks.reduce((sum, block) => sum + block.pages, 0) };
  }

  /** Pairs of object and words, for saving. */
  entries(): [number, Uint32Array][] {
    return [...this.#blocks].map(([object, words]) => [object, words.slice()]);
  }

  restore(entries: readonly (readonly [number, Uint32Array])[]): void {
    this.#blocks.clear();
    for (const [object, words] of entries) this.#blocks.set(object, words.slice());
  }
}

function countOf(words: Uint32Array): number {
  let pages = 0;
  for (const word of words) if (word !== 0) pages += popcount32(word);
  return pages;
}
