// Owns: dirty bitmaps in host memory, their words taken out, and the pages of a word protected by
// software. DirtyLog puts the ioctls together from this. VM thread.
// @source virt/kvm/kvm_main.c, arch/arm64/kvm/mmu.c by behaviour; dirty-tracking.md 7
import { popcount32 } from "../../base/bits.js";
import { bitmapBytes, type DirtyBitmap, type Memslot } from "../memslots.js";
import { POINT } from "../preemption.table.js";
import type { Op } from "../sched/scheduler.js";
import type { Vm } from "../vm.js";
import { VCPU_REQUEST } from "./hdbss-buffer.js";
import { addsDbm } from "./leaf-policy.js";

/** Pages re-protected at most between two preemption points. */
export const BATCH_PAGES = 512;
/** 64-page words taken from the bitmap at most before they are protected. */
const BATCH_WORDS = 256;

/** Words taken from a bitmap, not yet protected: [relative page of bit 0, low, high]. */
export interface Batch {
  readonly page: Float64Array;
  readonly lo: Uint32Array;
  readonly hi: Uint32Array;
  words: number;
  /** Pages to protect. */
  pages: number;
  /** Pages taken from the bitmap by CLEAR. */
  taken: number;
}

export function newBatch(): Batch {
  return {
    page: new Float64Array(BATCH_WORDS),
    lo: new Uint32Array(BATCH_WORDS),
    hi: new Uint32Array(BATCH_WORDS),
    words: 0,
    pages: 0,
    taken: 0,
  };
}

/** First and last set bit of a 64-bit word given in halves; not both zero. */
export function firstBit(lo: number, hi: number): number {
  return lo !== 0 ? 31 - Math.clz32(lo & -lo) : 63 - Math.clz32(hi & -hi);
}

export function lastBit(lo: number, hi: number): number {
  return hi !== 0 ? 63 - Math.clz32(hi) : 31 - Math.clz32(lo);
}

/** Bits first to last, both inclusive, of a 32-bit half; both may lie outside of it. */
function span(first: number, last: number): number {
  if (last < 0 || first > 31) return 0;
  const from = first <= 0 ? -1 : -1 << first;
  return last >= 31 ? from : from & ((2 << last) - 1);
}

export function isFull({ pages, words }: Batch): boolean {
  return pages >= BATCH_PAGES - 63 || words === BATCH_WORDS;
}

export function resetBatch(batch: Batch): void {
  batch.words = 0;
  batch.pages = 0;
  batch.taken = 0;
}

export class DirtyWords {
  protected readonly vm: Vm;
  /** Entries to protect, collected over the words of a batch; empty between two steps. */
  readonly #entries = new Uint32Array(BATCH_PAGES);
  #collected = 0;
  #isBatch = false;

  constructor(vm: Vm) {
    this.vm = vm;
  }

  // ── the bitmap itself ───────────────────────────────────────────────────────────────────────

  /** Allocates both halves, zeroed. @returns null when memory is used up */
  allocate(npages: number): DirtyBitmap | null {
    const bytes = bitmapBytes(npages);
    const { host, account } = this.vm;
    const frames = Math.ceil((bytes * 2) / host.geometry.size);
    if (!account.charge(frames * host.geometry.size)) return null;
    const pa = host.frames.allocate(frames);
    if (pa < 0) {
      account.release(frames * host.geometry.size);
      return null;
    }
    return { pa, bytes, frames };
  }

  free(bitmap: DirtyBitmap): void {
    const { host, account } = this.vm;
    host.frames.release(bitmap.pa, bitmap.frames);
    account.release(bitmap.frames * host.geometry.size);
  }

  /** Sets every page's bit: KVM_DIRTY_LOG_INITIALLY_SET. */
  setAll(bitmap: DirtyBitmap, npages: number): void {
    const { u8, u32 } = this.vm.host.memory;
    const words = Math.floor(npages / 32);
    u8.fill(0xff, bitmap.pa, bitmap.pa + words * 4);
    const rest = npages % 32;
    if (rest > 0) u32[(bitmap.pa >>> 2) + words] = 2 ** rest - 1;
  }

  /** Marks one page, relative to the slot. */
  setBit(bitmap: DirtyBitmap, page: number): void {
    this.vm.host.memory.u32[(bitmap.pa >>> 2) + Math.floor(page / 32)]! |= 1 << (page & 31);
  }

  /**
   * mark_page_dirty_in_slot: to the running vCPU's ring, else to the bitmap.
   * @param ring of the vCPU that stored, or null when none runs
   */
  mark(
    slot: Memslot,
    page: number,
    ring: { push(slot: number, offset: number): void } | null,
    vcpu: number | null = null,
  ): void {
    if ((slot.flags & 1) === 0) return;
    if (this.vm.caps.dirtyRingBytes !== 0 && ring !== null) {
      ring.push(slot.id, page);
      this.vm.counters.values.ringPushed++;
      const { trace } = this.vm;
      if (trace.isOn) trace.add("kvm_dirty_ring_push", vcpu, { slot: slot.id, offset: page });
    } else if (slot.dirtyBitmap !== null) {
      this.setBit(slot.dirtyBitmap, page);
      this.vm.counters.values.dirtyMarked++;
    } else {
      // KVM's own writes have no vCPU to name: only the bitmap beside the rings takes them.
      this.vm.host.diagnostics.report("dirty-outside-ring", `slot ${slot.id}, page ${page}`);
    }
  }

  /** Takes a word's bits out of the bitmap and keeps them in the copy buffer and the batch. */
  exchangeWord(bitmap: DirtyBitmap, word: number, batch: Batch): void {
    const u32 = this.vm.host.memory.u32;
    const at = (bitmap.pa >>> 2) + word * 2;
    const lo = u32[at]!;
    const hi = u32[at + 1]!;
    u32[at] = 0;
    u32[at + 1] = 0;
    const copy = at + (bitmap.bytes >>> 2);
    // Or: what HACDBS cleaned before software took over stays.
    u32[copy]! |= lo;
    u32[copy + 1]! |= hi;
    this.#enter(batch, word, lo, hi, lo, hi);
  }

  /** Takes the bits that the user names and the bitmap holds. @returns pages taken */
  takeUserBits(bitmap: DirtyBitmap, word: number, lo: number, hi: number, batch: Batch): number {
    const u32 = this.vm.host.memory.u32;
    const at = (bitmap.pa >>> 2) + word * 2;
    const heldLo = u32[at]!;
    const heldHi = u32[at + 1]!;
    const takenLo = (heldLo & lo) >>> 0;
    const takenHi = (heldHi & hi) >>> 0;
    if (takenLo === 0 && takenHi === 0) return 0;
    u32[at] = heldLo ^ takenLo;
    u32[at + 1] = heldHi ^ takenHi;
    this.#enter(batch, word, takenLo, takenHi, heldLo, heldHi);
    return popcount32(takenLo) + popcount32(takenHi);
  }

  /**
   * Adds to the batch what a word's taken bits make KVM protect. arm64 protects the whole span from
   * the lowest to the highest of them; of the pages in between only those can be writable whose bit
   * the bitmap held, or, with rings, any. With hardware dirty state that would wipe their record,
   * so there exactly the taken ones are protected.
   */
  #enter(
    batch: Batch,
    word: number,
    takenLo: number,
    takenHi: number,
    heldLo: number,
    heldHi: number,
  ): void {
    const { isManaged } = this.vm;
    const hasRings = this.#protectsSpans;
    let lo = takenLo;
    let hi = takenHi;
    if (hasRings || (!isManaged && (takenLo !== heldLo || takenHi !== heldHi))) {
      const first = firstBit(takenLo, takenHi);
      const last = lastBit(takenLo, takenHi);
      lo = span(first, last) & (hasRings ? -1 : heldLo);
      hi = span(first - 32, last - 32) & (hasRings ? -1 : heldHi);
    }
    const at = batch.words++;
    batch.page[at] = word * 64;
    batch.lo[at] = lo;
    batch.hi[at] = hi;
    batch.pages += popcount32(lo) + popcount32(hi);
  }

  /**
   * kvm_arch_mmu_enable_log_dirty_pt_masked: makes the pages of a word's bits trap or log again.
   * With rings the span is made here, since ring entries name pages one by one; see #enter.
   */
  protectMasked(slot: Memslot, page: number, lo: number, hi: number): void {
    const vm = this.vm;
    const { values } = vm.counters;
    const base = slot.baseGfn + page;
    const managed = addsDbm(vm, slot);
    if ((lo & hi) === -1 || this.#protectsSpans) {
      const first = base + firstBit(lo, hi);
      values.pagesProtected += vm.tables.protect(first, base + lastBit(lo, hi) + 1, managed);
      return;
    }
    const entries = this.#entries;
    const count = vm.tables.entriesOf(base, lo, hi, entries, this.#collected);
    if (count < 0) values.pagesProtected += this.#protectRuns(base, lo, hi, managed);
    else this.#collected = count;
    if (!this.#isBatch || this.#collected > BATCH_PAGES - 64) this.#protectCollected(managed);
  }

  /**
   * With rings the whole span. Not while HDBSS logs or a lost entry is looked for: descriptors in
   * between may be the only record of a page then.
   */
  get #protectsSpans(): boolean {
    const { caps, isHdbssOn, vcpus } = this.vm;
    if (caps.dirtyRingBytes === 0 || isHdbssOn) return false;
    return vcpus.every(({ requests }) => (requests & VCPU_REQUEST.RESCAN) === 0);
  }

  /** A word whose pages have no table in common: run by run. */
  #protectRuns(base: number, lo: number, hi: number, managed: boolean): number {
    const isSet = (bit: number) => ((bit < 32 ? lo >>> bit : hi >>> (bit - 32)) & 1) !== 0;
    let changed = 0;
    for (let bit = firstBit(lo, hi); bit < 64; bit++) {
      if (!isSet(bit)) continue;
      const first = bit;
      while (bit < 63 && isSet(bit + 1)) bit++;
      changed += this.vm.tables.protect(base + first, base + bit + 1, managed);
    }
    return changed;
  }

  #protectCollected(managed: boolean): void {
    const { tables, counters } = this.vm;
    const changed = tables.protectEntries(this.#entries, this.#collected, managed);
    counters.values.pagesProtected += changed;
    this.#collected = 0;
  }

  protectBatch(slot: Memslot, batch: Batch): void {
    this.#isBatch = true;
    for (let i = 0; i < batch.words; i++) {
      this.protectMasked(slot, batch.page[i]!, batch.lo[i]!, batch.hi[i]!);
    }
    this.#isBatch = false;
    this.#protectCollected(addsDbm(this.vm, slot));
  }

  /** With manual protect and INITIALLY_SET, CLEAR also splits the blocks it has protected. */
  *splitWords(slot: Memslot, batch: Batch): Op<void> {
    for (let i = 0; i < batch.words; i++) {
      const start = slot.baseGfn + batch.page[i]!;
      yield* this.split(start, Math.min(slot.baseGfn + slot.npages, start + 64));
    }
  }

  /**
   * Splits every block that touches [first, end); mmu_lock is held for writing and dropped between
   * blocks, as KVM does to refill its cache of table pages.
   * @param dbm the pages that come of it are managed by hardware
   */
  *split(first: number, end: number, dbm = false): Op<void> {
    const vm = this.vm;
    const { tables } = vm;
    for (let page = tables.nextBlock(first, end); page < end; page = tables.nextBlock(page, end)) {
      if (vm.host.faults.hit("split-alloc", -1) !== null) return;
      const done = tables.splitBlock(page, (at, span) => vm.flushRange(at, span), dbm);
      // Without memory for a table the block stays: a store to it faults and splits then.
      if (done === "nomem") return;
      vm.counters.values.s2Splits++;
      vm.mmuLock.writeUnlock();
      yield POINT["lock-dropped"];
      yield* vm.mmuLock.writeLock();
    }
  }

  /** kvm_flush_remote_tlbs_memslot. */
  flush(slot: Memslot): void {
    this.vm.flushRange(slot.baseGfn, slot.npages);
  }
}
