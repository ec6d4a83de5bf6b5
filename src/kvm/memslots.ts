// Owns: the slot table of a VM: who backs which gfn. VM thread.
// A Memslot is never changed once it is in the table; a change replaces it, so that a reader under
// SRCU keeps a consistent view.
import type { Saved } from "../base/saved.js";
import { KVM_MEM } from "./uapi/flags.js";

/** Bytes of a dirty bitmap in host memory; the second half is KVM's copy buffer. */
export interface DirtyBitmap {
  readonly pa: number;
  /** Bytes of one half: ceil(npages / 64) * 8. */
  readonly bytes: number;
  /** Frames taken for both halves. */
  readonly frames: number;
}

export interface GuestMemfdBinding {
  readonly memfdId: number;
  /** First page in the file. */
  readonly pageOffset: number;
}

export interface Memslot {
  readonly id: number;
  readonly baseGfn: number;
  readonly npages: number;
  readonly userspaceAddr: number;
  readonly flags: number;
  readonly dirtyBitmap: DirtyBitmap | null;
  readonly guestMemfd: GuestMemfdBinding | null;
  /** KVM_MEMSLOT_INVALID: being deleted or moved; faults take the MMIO way. */
  readonly invalid: boolean;
}

export function isLogging(slot: Memslot): boolean {
  return (slot.flags & KVM_MEM.LOG_DIRTY_PAGES) !== 0;
}

export function isReadOnly(slot: Memslot): boolean {
  return (slot.flags & KVM_MEM.READONLY) !== 0;
}

/** Pages of a bitmap's word. */
export const BITMAP_WORD_PAGES = 64;

/** Pages → bytes of one bitmap half. @source virt/kvm/api.rst: rounded up to 64 bits */
export function bitmapBytes(npages: number): number {
  return Math.ceil(npages / BITMAP_WORD_PAGES) * 8;
}

export class MemslotTable {
  readonly #byId = new Map<number, Memslot>();
  /** Sorted by baseGfn, never overlapping. */
  readonly #sorted: Memslot[] = [];
  #lastHit: Memslot | null = null;

  get size(): number {
    return this.#byId.size;
  }

  get(id: number): Memslot | undefined {
    return this.#byId.get(id);
  }

  /** By guest address, ascending. */
  list(): readonly Memslot[] {
    return this.#sorted;
  }

  /** Position of the first slot that ends above gfn. */
  #position(gfn: number): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const slot = this.#sorted[middle]!;
      if (slot.baseGfn + slot.npages <= gfn) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** gfn_to_memslot; an invalid slot is found too, as in KVM. */
  find(gfn: number): Memslot | undefined {
    const last = this.#lastHit;
    if (last !== null && gfn >= last.baseGfn && gfn < last.baseGfn + last.npages) return last;
    const slot = this.#sorted[this.#position(gfn)];
    if (slot === undefined || slot.baseGfn > gfn) return undefined;
    this.#lastHit = slot;
    return slot;
  }

  /** A slot other than `id` that overlaps [baseGfn, baseGfn + npages). */
  overlap(id: number, baseGfn: number, npages: number): Memslot | undefined {
    for (let at = this.#position(baseGfn); at < this.#sorted.length; at++) {
      const slot = this.#sorted[at]!;
      if (slot.baseGfn >= baseGfn + npages) return undefined;
      if (slot.id !== id) return slot;
    }
    return undefined;
  }

  /** Puts a slot in place of the one with its id, if any. */
  replace(slot: Memslot): void {
    this.remove(slot.id);
    this.#byId.set(slot.id, slot);
    this.#sorted.splice(this.#position(slot.baseGfn), 0, slot);
  }

  remove(id: number): void {
    const old = this.#byId.get(id);
    if (old === undefined) return;
    this.#lastHit = null;
    this.#byId.delete(id);
    this.#sorted.splice(this.#position(old.baseGfn), 1);
  }

  save(): Saved {
    const slots = this.#sorted.map((slot) => ({ ...slot }));
    return { kind: "memslots", version: 1, data: { slots } };
  }

  load(saved: Saved): void {
    this.#byId.clear();
    this.#sorted.length = 0;
    this.#lastHit = null;
    for (const slot of (saved.data as { slots: Memslot[] }).slots) this.replace({ ...slot });
  }
}
