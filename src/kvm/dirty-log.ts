// Owns: KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG: bitmaps in host memory, and when pages lose
// write permission. VM thread.
//
//   GET (legacy)   sync ─ mmu_lock{ exchange words ─ protect }* ─ TLBI ─ copy out
//   GET (manual)   sync ─ copy out
//   CLEAR          sync ─ mmu_lock{ take user & dirty ─ protect }* ─ TLBI
// @source virt/kvm/kvm_main.c, arch/arm64/kvm/mmu.c by behaviour; dirty-tracking.md 7
import { popcount32 } from "../base/bits.js";
import { KvmError } from "../base/errors.js";
import { bitmapBytes, type DirtyBitmap, isReadOnly, type Memslot } from "./memslots.js";
import { POINT } from "./preemption.table.js";
import type { Op } from "./sched/scheduler.js";
import { KVM_USER_MEM_SLOTS } from "./uapi/flags.js";
import type { Vm } from "./vm.js";

/** Pages re-protected at most between two preemption points. */
export const BATCH_PAGES = 512;
/** 64-page words taken from the bitmap at most before they are protected. */
const BATCH_WORDS = 256;
/** Words of a CLEAR looked at at most between two preemption points. */
const FILL_WORDS = 65_536;
/** Bytes of a bitmap copied at most between two preemption points. */
const COPY_BYTES = 1 << 20;

/** Memory for so many bytes; every one of them gets written. */
type Room = (bytes: number) => Uint8Array;

function freshBytes(bytes: number): Uint8Array {
  return new Uint8Array(bytes);
}

/** Words taken from a bitmap, not yet protected: [relative page of bit 0, low, high]. */
interface Batch {
  readonly page: Float64Array;
  readonly lo: Uint32Array;
  readonly hi: Uint32Array;
  words: number;
  /** Pages to protect. */
  pages: number;
  /** Pages taken from the bitmap by CLEAR. */
  taken: number;
}

function newBatch(): Batch {
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
function firstBit(lo: number, hi: number): number {
  return lo !== 0 ? 31 - Math.clz32(lo & -lo) : 63 - Math.clz32(hi & -hi);
}

function lastBit(lo: number, hi: number): number {
  return hi !== 0 ? 63 - Math.clz32(hi) : 31 - Math.clz32(lo);
}

/** Bits first to last, both inclusive, of a 32-bit half; both may lie outside of it. */
function span(first: number, last: number): number {
  if (last < 0 || first > 31) return 0;
  const from = first <= 0 ? -1 : -1 << first;
  return last >= 31 ? from : from & ((2 << last) - 1);
}

function isFull({ pages, words }: Batch): boolean {
  return pages >= BATCH_PAGES - 63 || words === BATCH_WORDS;
}

function reset(batch: Batch): void {
  batch.words = 0;
  batch.pages = 0;
  batch.taken = 0;
}

export class DirtyLog {
  readonly #vm: Vm;
  /** Entries to protect, collected over the words of a batch; empty between two steps. */
  readonly #entries = new Uint32Array(BATCH_PAGES);
  #collected = 0;
  #isBatch = false;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  // ── the bitmap itself ───────────────────────────────────────────────────────────────────────

  /** Allocates both halves, zeroed. @returns null when memory is used up */
  allocate(npages: number): DirtyBitmap | null {
    const bytes = bitmapBytes(npages);
    const { host, account } = this.#vm;
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
    const { host, account } = this.#vm;
    host.frames.release(bitmap.pa, bitmap.frames);
    account.release(bitmap.frames * host.geometry.size);
  }

  /** Sets every page's bit: KVM_DIRTY_LOG_INITIALLY_SET. */
  setAll(bitmap: DirtyBitmap, npages: number): void {
    const { u8, u32 } = this.#vm.host.memory;
    const words = Math.floor(npages / 32);
    u8.fill(0xff, bitmap.pa, bitmap.pa + words * 4);
    const rest = npages % 32;
    if (rest > 0) u32[(bitmap.pa >>> 2) + words] = 2 ** rest - 1;
  }

  /** Marks one page, relative to the slot. */
  setBit(bitmap: DirtyBitmap, page: number): void {
    this.#vm.host.memory.u32[(bitmap.pa >>> 2) + Math.floor(page / 32)]! |= 1 << (page & 31);
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
    if (this.#vm.caps.dirtyRingBytes !== 0 && ring !== null) {
      ring.push(slot.id, page);
      this.#vm.counters.values.ringPushed++;
      const { trace } = this.#vm;
      if (trace.isOn) trace.add("kvm_dirty_ring_push", vcpu, { slot: slot.id, offset: page });
    } else if (slot.dirtyBitmap !== null) {
      this.setBit(slot.dirtyBitmap, page);
      this.#vm.counters.values.dirtyMarked++;
    }
  }

  // ── steps that the operations are made of ───────────────────────────────────────────────────

  /** kvm_arch_sync_dirty_log: folds what hardware recorded into the bitmap. */
  *sync(slot: Memslot): Op<void> {
    const vm = this.#vm;
    const bitmap = slot.dirtyBitmap;
    if (!vm.isDbm || bitmap === null) return;
    const base = slot.baseGfn;
    const end = base + slot.npages;
    for (let page = vm.tables.nextMapped(base, end); page < end; ) {
      const stop = Math.min(end, page + BATCH_PAGES);
      vm.tables.scanDirty(page, stop, (dirty) => this.setBit(bitmap, dirty - base));
      vm.counters.values.pagesScanned += stop - page;
      yield POINT["scan-batch"];
      page = vm.tables.nextMapped(stop, end);
    }
  }

  /** Takes a word's bits out of the bitmap and keeps them in the copy buffer and the batch. */
  exchangeWord(bitmap: DirtyBitmap, word: number, batch: Batch): void {
    const u32 = this.#vm.host.memory.u32;
    const at = (bitmap.pa >>> 2) + word * 2;
    const lo = u32[at]!;
    const hi = u32[at + 1]!;
    u32[at] = 0;
    u32[at + 1] = 0;
    const copy = at + (bitmap.bytes >>> 2);
    u32[copy] = lo;
    u32[copy + 1] = hi;
    this.#enter(batch, word, lo, hi, lo, hi);
  }

  /** Takes the bits that the user names and the bitmap holds. @returns pages taken */
  takeUserBits(bitmap: DirtyBitmap, word: number, lo: number, hi: number, batch: Batch): number {
    const u32 = this.#vm.host.memory.u32;
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
    const { isDbm, caps } = this.#vm;
    const hasRings = caps.dirtyRingBytes !== 0;
    let lo = takenLo;
    let hi = takenHi;
    if (hasRings || (!isDbm && (takenLo !== heldLo || takenHi !== heldHi))) {
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
    const vm = this.#vm;
    const { values } = vm.counters;
    const base = slot.baseGfn + page;
    const managed = vm.isDbm && !isReadOnly(slot);
    if ((lo & hi) === -1 || vm.caps.dirtyRingBytes !== 0) {
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

  /** A word whose pages have no table in common: run by run. */
  #protectRuns(base: number, lo: number, hi: number, managed: boolean): number {
    const isSet = (bit: number) => ((bit < 32 ? lo >>> bit : hi >>> (bit - 32)) & 1) !== 0;
    let changed = 0;
    for (let bit = firstBit(lo, hi); bit < 64; bit++) {
      if (!isSet(bit)) continue;
      const first = bit;
      while (bit < 63 && isSet(bit + 1)) bit++;
      changed += this.#vm.tables.protect(base + first, base + bit + 1, managed);
    }
    return changed;
  }

  #protectCollected(managed: boolean): void {
    const { tables, counters } = this.#vm;
    const changed = tables.protectEntries(this.#entries, this.#collected, managed);
    counters.values.pagesProtected += changed;
    this.#collected = 0;
  }

  #protectBatch(slot: Memslot, batch: Batch): void {
    this.#isBatch = true;
    for (let i = 0; i < batch.words; i++) {
      this.protectMasked(slot, batch.page[i]!, batch.lo[i]!, batch.hi[i]!);
    }
    this.#isBatch = false;
    this.#protectCollected(this.#vm.isDbm && !isReadOnly(slot));
  }

  /** With manual protect and INITIALLY_SET, CLEAR also splits the blocks it has protected. */
  *#splitWords(slot: Memslot, batch: Batch): Op<void> {
    for (let i = 0; i < batch.words; i++) {
      const start = slot.baseGfn + batch.page[i]!;
      yield* this.split(start, Math.min(slot.baseGfn + slot.npages, start + 64));
    }
  }

  /**
   * Splits every block that touches [first, end); mmu_lock is held for writing and dropped between
   * blocks, as KVM does to refill its cache of table pages.
   */
  *split(first: number, end: number): Op<void> {
    const vm = this.#vm;
    const { tables } = vm;
    for (let page = tables.nextBlock(first, end); page < end; page = tables.nextBlock(page, end)) {
      const done = tables.splitBlock(page, (at, span) => vm.flushRange(at, span));
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
    this.#vm.flushRange(slot.baseGfn, slot.npages);
  }

  /** Copies one half out. */
  *#copyOut(bitmap: DirtyBitmap, half: 0 | 1, room: Room): Op<Uint8Array> {
    const out = room(bitmap.bytes);
    const from = bitmap.pa + half * bitmap.bytes;
    for (let at = 0; at < bitmap.bytes; at += COPY_BYTES) {
      yield POINT["before-copy-out"];
      const end = Math.min(bitmap.bytes, at + COPY_BYTES);
      out.set(this.#vm.host.memory.u8.subarray(from + at, from + end), at);
    }
    return out;
  }

  // ── the ioctls ──────────────────────────────────────────────────────────────────────────────

  /** Checks shared by both, in KVM's order. */
  #slot(
    ioctl: string,
    slotArg: number,
    afterId?: () => void,
  ): Memslot & { dirtyBitmap: DirtyBitmap } {
    const vm = this.#vm;
    if (!vm.usesDirtyBitmap) {
      throw new KvmError("ENXIO", ioctl, "the VM records in dirty rings without a bitmap");
    }
    if (slotArg >>> 16 !== 0 || (slotArg & 0xffff) >= KVM_USER_MEM_SLOTS) {
      throw new KvmError(
        "EINVAL",
        ioctl,
        `slot must be below ${KVM_USER_MEM_SLOTS}, in address space 0`,
      );
    }
    afterId?.();
    const slot = vm.slots.get(slotArg & 0xffff);
    if (slot === undefined || slot.dirtyBitmap === null) {
      const why = slot === undefined ? "does not exist" : "does not log dirty pages";
      throw new KvmError("ENOENT", ioctl, `slot ${slotArg} ${why}`);
    }
    return slot as Memslot & { dirtyBitmap: DirtyBitmap };
  }

  /** KVM's refusals for a GET of this slot, without doing it. */
  checkGet(slotArg: number): void {
    this.#slot("KVM_GET_DIRTY_LOG", slotArg);
  }

  /**
   * KVM_GET_DIRTY_LOG.
   * @param room where the result goes; memory of its own by default
   * @returns shape [ceil(npages / 64) * 8] bytes; in legacy mode the bits are cleared by then
   * @throws KvmError ENXIO, EINVAL, ENOENT
   */
  *get(slotArg: number, room: Room = freshBytes): Op<{ npages: number; bitmap: Uint8Array }> {
    const vm = this.#vm;
    yield POINT["ioctl-start"];
    yield* vm.slotsLock.lock();
    try {
      yield POINT["slots-lock-taken"];
      const slot = this.#slot("KVM_GET_DIRTY_LOG", slotArg);
      yield* this.sync(slot);
      yield POINT["log-synced"];
      let bitmap: Uint8Array;
      if (vm.manualProtect) {
        bitmap = yield* this.#copyOut(slot.dirtyBitmap, 0, room);
      } else {
        yield* this.#takeAll(slot, slot.dirtyBitmap);
        bitmap = yield* this.#copyOut(slot.dirtyBitmap, 1, room);
      }
      vm.counters.values.getDirtyLog++;
      return { npages: slot.npages, bitmap };
    } finally {
      vm.slotsLock.unlock();
    }
  }

  /** Legacy GET: snapshot and clear, re-protecting what was dirty. */
  *#takeAll(slot: Memslot, bitmap: DirtyBitmap): Op<void> {
    const vm = this.#vm;
    const words = bitmap.bytes / 8;
    const batch = newBatch();
    let any = false;
    vm.host.memory.u8.fill(0, bitmap.pa + bitmap.bytes, bitmap.pa + 2 * bitmap.bytes);
    yield* vm.mmuLock.writeLock();
    try {
      for (let word = 0; word < words; word++) {
        const at = (bitmap.pa >>> 2) + word * 2;
        const u32 = vm.host.memory.u32;
        if (u32[at] !== 0 || u32[at + 1] !== 0) {
          this.exchangeWord(bitmap, word, batch);
          any = true;
        }
        if (batch.words === 0) continue;
        if (!isFull(batch) && word < words - 1) continue;
        yield POINT["word-exchanged"];
        this.#protectBatch(slot, batch);
        reset(batch);
        yield POINT["batch-protected"];
      }
    } finally {
      vm.mmuLock.writeUnlock();
    }
    if (!any) return;
    yield POINT["before-tlbi"];
    this.flush(slot);
  }

  /**
   * KVM_CLEAR_DIRTY_LOG.
   * @param bits shape [ceil(numPages / 64) * 8] bytes; bit k is page firstPage + k
   * @returns pages that went from dirty to clean
   * @throws KvmError ENXIO, EINVAL (slot id, then alignment), ENOENT, EINVAL (range), in this order
   */
  *clear(slotArg: number, firstPage: bigint, numPages: number, bits: Uint8Array): Op<number> {
    const vm = this.#vm;
    const ioctl = "KVM_CLEAR_DIRTY_LOG";
    const einval = (why: string) => new KvmError("EINVAL", ioctl, why);
    yield POINT["ioctl-start"];
    yield* vm.slotsLock.lock();
    try {
      yield POINT["slots-lock-taken"];
      const slot = this.#slot(ioctl, slotArg, () => {
        if (firstPage % 64n !== 0n) throw einval("firstPage must be a multiple of 64");
      });
      const npages = BigInt(slot.npages);
      const end = firstPage + BigInt(numPages);
      if (firstPage > npages || end > npages || (numPages % 64 !== 0 && end !== npages)) {
        throw einval(
          "the range must lie in the slot, and numPages be a multiple of 64 unless it ends there",
        );
      }
      yield* this.sync(slot);
      yield POINT["log-synced"];
      const cleared = yield* this.#clearRange(slot, slot.dirtyBitmap, {
        firstWord: Number(firstPage) / 64,
        numPages,
        bits,
      });
      vm.counters.values.clearDirtyLog++;
      return cleared;
    } finally {
      vm.slotsLock.unlock();
    }
  }

  /**
   * Takes the user's bits from a word on, until the batch is full or enough was looked at.
   * @param user shape [words * 2], halves of the words from `firstWord` of the bitmap on
   * @returns the word to go on with
   */
  #fill(
    bitmap: DirtyBitmap,
    user: Uint32Array,
    from: number,
    firstWord: number,
    batch: Batch,
  ): number {
    const end = Math.min(user.length / 2, from + FILL_WORDS);
    let word = from;
    for (; word < end && !isFull(batch); word++) {
      const lo = user[word * 2]!;
      const hi = user[word * 2 + 1]!;
      if (lo === 0 && hi === 0) continue;
      batch.taken += this.takeUserBits(bitmap, firstWord + word, lo, hi, batch);
    }
    return word;
  }

  *#clearRange(
    slot: Memslot,
    bitmap: DirtyBitmap,
    range: { firstWord: number; numPages: number; bits: Uint8Array },
  ): Op<number> {
    const vm = this.#vm;
    const words = Math.ceil(range.numPages / 64);
    const user = new Uint32Array(words * 2);
    new Uint8Array(user.buffer).set(range.bits.subarray(0, words * 8));
    const batch = newBatch();
    const splits = vm.manualProtectAndInitSet && vm.caps.eagerSplitChunkSize !== 0n;
    let cleared = 0;
    yield* vm.mmuLock.writeLock();
    try {
      for (let word = 0; word < words; ) {
        word = this.#fill(bitmap, user, word, range.firstWord, batch);
        cleared += batch.taken;
        yield POINT["word-exchanged"];
        this.#protectBatch(slot, batch);
        if (splits) yield* this.#splitWords(slot, batch);
        reset(batch);
        yield POINT["batch-protected"];
      }
    } finally {
      vm.mmuLock.writeUnlock();
    }
    if (cleared > 0) {
      yield POINT["before-tlbi"];
      this.flush(slot);
    }
    return cleared;
  }
}
