// Owns: an interrupt state table (IST): where an interrupt's entry lies and what is in it.
// VM thread.
//
//   linear     base + ID × size
//   two-level  L1[ID >> k]: VALID b0, ADDR[55:12] ─▶ L2 page + (ID mod 2^k) × size
// @source gicv5-observed.md 3.1 to 3.3
import type { Saved } from "../../../base/saved.js";
import { ISTE } from "./intid.js";

/** Memory that tables lie in: words by physical address. */
export interface TableMemory {
  /** @returns -1 where there is no memory */
  read32(pa: number): number;
  /** Nothing happens where there is no memory. */
  write32(pa: number, word: number): void;
}

/** Where a table is. */
export interface IstLayout {
  /** Host PA. */
  readonly base: number;
  readonly idBits: number;
  /** Entries that exist, at most 2^idBits. */
  readonly count: number;
  readonly entryBytes: 4 | 8 | 16;
  readonly isTwoLevel: boolean;
  /** Bytes of a level-2 table; of no meaning for a linear one. */
  readonly level2Bytes: number;
}

export const L1E_VALID = 1;
const L1E_BYTES = 8;
/** ADDR[55:12] of a level-1 entry, in its halves. */
const L1E_ADDR_LOW = 0xffff_f000;
const L1E_ADDR_HIGH = 0x00ff_ffff;

/** What an interrupt domain needs of a table. */
export interface StateTable {
  /** @returns the entry's first word; -1 when it can't be reached */
  read(id: number): number;
  /** Only for an entry that can be reached. */
  write(id: number, word: number): void;
  mapLevel2(id: number): void;
  /** IDs of entries that are pending in memory. */
  pending(): Iterable<number>;
}

export class Ist implements StateTable {
  readonly layout: IstLayout;
  readonly #memory: TableMemory;
  /** Entries of a level-2 table. */
  readonly #perLevel2: number;

  constructor(memory: TableMemory, layout: IstLayout) {
    this.#memory = memory;
    this.layout = layout;
    this.#perLevel2 = layout.isTwoLevel ? layout.level2Bytes / layout.entryBytes : layout.count;
  }

  read(id: number): number {
    const pa = this.#address(id);
    return pa < 0 ? -1 : this.#memory.read32(pa);
  }

  write(id: number, word: number): void {
    const pa = this.#address(id);
    if (pa >= 0) this.#memory.write32(pa, word);
  }

  #address(id: number): number {
    const { base, count, entryBytes, isTwoLevel } = this.layout;
    if (id >= count) return -1;
    if (!isTwoLevel) return base + id * entryBytes;
    const table = this.#level2(id);
    return table < 0 ? -1 : table + (id % this.#perLevel2) * entryBytes;
  }

  #level1(id: number): number {
    return this.layout.base + Math.floor(id / this.#perLevel2) * L1E_BYTES;
  }

  /** Address of the level-2 table with this ID; -1 for none. */
  #level2(id: number): number {
    const at = this.#level1(id);
    const low = this.#memory.read32(at);
    if (low < 0 || (low & L1E_VALID) === 0) return -1;
    const high = this.#memory.read32(at + 4);
    return (high & L1E_ADDR_HIGH) * 2 ** 32 + ((low & L1E_ADDR_LOW) >>> 0);
  }

  mapLevel2(id: number): void {
    if (!this.layout.isTwoLevel || id >= this.layout.count) return;
    const at = this.#level1(id);
    const low = this.#memory.read32(at);
    if (low >= 0) this.#memory.write32(at, low | L1E_VALID);
  }

  *pending(): Iterable<number> {
    const { count } = this.layout;
    for (let first = 0; first < count; first += this.#perLevel2) {
      if (this.layout.isTwoLevel && this.#level2(first) < 0) continue;
      const end = Math.min(count, first + this.#perLevel2);
      for (let id = first; id < end; id++) {
        const word = this.read(id);
        if (word >= 0 && (word & ISTE.PENDING) !== 0) yield id;
      }
    }
  }
}

/**
 * An IST whose pending entries the IRS keeps to itself: memory sees them when Pending goes away or
 * the table is made invalid, and a store of software to one isn't seen before. A policy that the
 * architecture allows, and the one that was observed on hardware-like tables.
 * @source gicv5-observed.md 3.1
 */
export class HeldIst implements StateTable {
  readonly #table: Ist;
  readonly #held = new Map<number, number>();

  constructor(table: Ist) {
    this.#table = table;
  }

  read(id: number): number {
    const held = this.#held.get(id);
    if (held !== undefined) return held;
    const word = this.#table.read(id);
    if (word >= 0 && (word & ISTE.PENDING) !== 0) this.#held.set(id, word);
    return word;
  }

  write(id: number, word: number): void {
    if ((word & ISTE.PENDING) !== 0) {
      this.#held.set(id, word);
      return;
    }
    this.#held.delete(id);
    this.#table.write(id, word);
  }

  mapLevel2(id: number): void {
    this.#table.mapLevel2(id);
  }

  pending(): Iterable<number> {
    return [];
  }

  /** Everything goes back to memory. */
  flush(): void {
    for (const [id, word] of this.#held) this.#table.write(id, word);
    this.#held.clear();
  }

  save(): Saved {
    const held = [...this.#held].sort(([a], [b]) => a - b);
    return { kind: "held-ist", version: 1, data: { held } };
  }

  load(saved: Saved): void {
    const { held } = saved.data as { held: [number, number][] };
    this.#held.clear();
    for (const [id, word] of held) this.#held.set(id, word);
  }
}
