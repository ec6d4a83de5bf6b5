// Owns: the array that HACDBS reads: entries as bytes in host memory, and their pages. VM thread.
import {
  ENTRY_BYTES,
  entryHigh,
  entryLow,
  type Host,
  SZ_UNIT_BYTES,
  TERMINATOR_LOW,
} from "../../machine/index.js";

/** Pages of half a word. */
const HALF_PAGES = 32;

export class EntryArray {
  readonly pa: number;
  /** PAGE_SIZE / 8. */
  readonly capacity: number;
  /** SZ of HACDBSBR_EL2. */
  readonly sz: number;
  /** Page of each entry, counted from the slot's first; ascending. */
  readonly pages: Uint32Array;
  count = 0;
  readonly #host: Host;

  /** @param pa a frame of its own */
  constructor(host: Host, pa: number) {
    const { size } = host.geometry;
    this.#host = host;
    this.pa = pa;
    this.capacity = size / ENTRY_BYTES;
    this.sz = Math.log2(size / SZ_UNIT_BYTES);
    this.pages = new Uint32Array(this.capacity);
  }

  get isFull(): boolean {
    return this.count === this.capacity;
  }

  /** @param gfn what hardware is to clean @param page the same page as the log counts it */
  add(gfn: number, page: number, level: number): void {
    const ipa = gfn * this.#host.geometry.size;
    this.#write(this.count, entryLow(ipa, level), entryHigh(ipa));
    this.pages[this.count++] = page;
  }

  /**
   * Adds the pages of a word's half, as many as fit.
   * @param gfn of bit 0 @param page the same page as the log counts it
   * @returns the bits that did not fit
   */
  addBits(gfn: number, page: number, bits: number, level: number): number {
    const { geometry, memory } = this.#host;
    const { size } = geometry;
    const { u32 } = memory;
    const { pages, capacity } = this;
    const base = gfn * size;
    const high = entryHigh(base);
    // Only a slot whose first page isn't on a boundary has a word that crosses 4 GiB.
    const isOneHigh = entryHigh(base + HALF_PAGES * size) === high;
    const low = entryLow(base, level);
    let { count } = this;
    let at = this.pa / 4 + count * 2;
    let rest = bits | 0;
    for (; rest !== 0 && count < capacity; rest &= rest - 1, at += 2) {
      const bit = 31 - Math.clz32(rest & -rest);
      u32[at] = low + bit * size;
      u32[at + 1] = isOneHigh ? high : entryHigh(base + bit * size);
      pages[count++] = page + bit;
    }
    this.count = count;
    return rest;
  }

  /** Ends an array that isn't full. @param isTailKept slots behind it hold what they held */
  terminate(isTailKept: boolean): void {
    if (this.isFull) return;
    this.#write(this.count, TERMINATOR_LOW, 0);
    const from = this.pa + (this.count + 1) * ENTRY_BYTES;
    const end = this.pa + this.capacity * ENTRY_BYTES;
    if (!isTailKept) this.#host.memory.u8.fill(0, from, end);
  }

  /** Whether an entry names this page. */
  has(page: number): boolean {
    let from = 0;
    let end = this.count;
    while (from < end) {
      const middle = (from + end) >>> 1;
      if (this.pages[middle]! < page) from = middle + 1;
      else end = middle;
    }
    return from < this.count && this.pages[from] === page;
  }

  #write(index: number, lo: number, hi: number): void {
    const { u32 } = this.#host.memory;
    const at = (this.pa + index * ENTRY_BYTES) / 4;
    u32[at] = lo;
    u32[at + 1] = hi;
  }
}
