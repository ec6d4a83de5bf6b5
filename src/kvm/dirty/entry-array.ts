// Owns: the array that HACDBS reads: entries as bytes in host memory, and their pages. VM thread.
import {
  ENTRY_BYTES,
  entryHigh,
  entryLow,
  type Host,
  SZ_UNIT_BYTES,
  TERMINATOR_LOW,
} from "../../machine/index.js";

export class EntryArray {
  readonly pa: number;
  /** PAGE_SIZE / 8. */
  readonly capacity: number;
  /** SZ of HACDBSBR_EL2. */
  readonly sz: number;
  /** Page of each entry, counted from the slot's first; ascending. */
  readonly pages: Float64Array;
  count = 0;
  readonly #host: Host;

  /** @param pa a frame of its own */
  constructor(host: Host, pa: number) {
    const { size } = host.geometry;
    this.#host = host;
    this.pa = pa;
    this.capacity = size / ENTRY_BYTES;
    this.sz = Math.log2(size / SZ_UNIT_BYTES);
    this.pages = new Float64Array(this.capacity);
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
