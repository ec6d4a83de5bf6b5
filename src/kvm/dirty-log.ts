// Owns: KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG: bitmaps in host memory, and when pages lose
// write permission. VM thread.
//
//   GET (legacy)   sync ─ mmu_lock{ exchange words ─ protect }* ─ TLBI ─ copy out
//   GET (manual)   sync ─ copy out
//   CLEAR          sync ─ mmu_lock{ take user & dirty ─ protect }* ─ TLBI
// @source virt/kvm/kvm_main.c, arch/arm64/kvm/mmu.c by behaviour; dirty-tracking.md 7
import { KvmError } from "../base/errors.js";
import { AsyncClean } from "./dirty/async-clean.js";
import { type ClearJob, HardwareClear } from "./dirty/clear.js";
import type { Hacdbs } from "./dirty/hacdbs.js";
import { eagerSplitChunk } from "./dirty/leaf-policy.js";
import {
  BATCH_PAGES,
  type Batch,
  DirtyWords,
  isFull,
  newBatch,
  resetBatch,
} from "./dirty/words.js";
import { BITMAP_WORD_PAGES, type DirtyBitmap, type Memslot } from "./memslots.js";
import { POINT } from "./preemption.table.js";
import type { Op } from "./sched/scheduler.js";
import { KVM_USER_MEM_SLOTS } from "./uapi/flags.js";
import type { Vm } from "./vm.js";

/** Words of a CLEAR looked at at most between two preemption points. */
const FILL_WORDS = 65_536;
/** Bytes of a bitmap copied at most between two preemption points. */
const COPY_BYTES = 1 << 20;

/** Memory for so many bytes; every one of them gets written. */
type Room = (bytes: number) => Uint8Array;

function freshBytes(bytes: number): Uint8Array {
  return new Uint8Array(bytes);
}

type LoggedSlot = Memslot & { readonly dirtyBitmap: DirtyBitmap };

/** A CLEAR's window and its bits. */
interface ClearRange {
  readonly firstPage: number;
  readonly numPages: number;
  readonly bits: Uint8Array;
}

export class DirtyLog extends DirtyWords {
  readonly hardware: HardwareClear;
  readonly deferred: AsyncClean;

  constructor(vm: Vm, hacdbs: Hacdbs) {
    super(vm);
    this.hardware = new HardwareClear(vm, this, hacdbs);
    this.deferred = new AsyncClean(vm, this, hacdbs);
  }

  /** kvm_arch_sync_dirty_log: folds what hardware recorded into the bitmap. */
  *sync(slot: Memslot): Op<void> {
    const { vm } = this;
    if (vm.hdbss !== null) yield* vm.hdbss.sync();
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

  /** Copies one half out. */
  *#copyOut(bitmap: DirtyBitmap, half: 0 | 1, room: Room): Op<Uint8Array> {
    const out = room(bitmap.bytes);
    const from = bitmap.pa + half * bitmap.bytes;
    for (let at = 0; at < bitmap.bytes; at += COPY_BYTES) {
      yield POINT["before-copy-out"];
      const end = Math.min(bitmap.bytes, at + COPY_BYTES);
      out.set(this.vm.host.memory.u8.subarray(from + at, from + end), at);
    }
    return out;
  }

  // ── the ioctls ──────────────────────────────────────────────────────────────────────────────

  /** Checks shared by both, in KVM's order. */
  #slot(ioctl: string, slotArg: number, afterId?: () => void): LoggedSlot {
    const vm = this.vm;
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
    return slot as LoggedSlot;
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
    const vm = this.vm;
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
        this.deferred.markInto(slot.id, bitmap);
      } else {
        yield* this.deferred.drain(slot.id);
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
    const vm = this.vm;
    const words = bitmap.bytes / 8;
    const zeroCopy = () =>
      vm.host.memory.u8.fill(0, bitmap.pa + bitmap.bytes, bitmap.pa + 2 * bitmap.bytes);
    zeroCopy();
    const job = { slot, bitmap, firstWord: 0, words, user: null, skew: 0, splits: false };
    const { errno, needsFlush } = yield* this.hardware.clear(job);
    let flushes = needsFlush;
    if (errno !== null) {
      if (vm.seedBugs.has("D5")) zeroCopy();
      const any = yield* this.#takeBySoftware(slot, bitmap);
      flushes ||= any;
    }
    if (!flushes) return;
    yield POINT["before-tlbi"];
    this.flush(slot);
  }

  /** @returns whether any page was dirty */
  *#takeBySoftware(slot: Memslot, bitmap: DirtyBitmap): Op<boolean> {
    const vm = this.vm;
    const words = bitmap.bytes / 8;
    const batch = newBatch();
    let any = false;
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
        this.protectBatch(slot, batch);
        resetBatch(batch);
        yield POINT["batch-protected"];
      }
    } finally {
      vm.mmuLock.writeUnlock();
    }
    return any;
  }

  /**
   * KVM_CLEAR_DIRTY_LOG.
   * @param bits shape [ceil(numPages / 64) * 8] bytes; bit k is page firstPage + k
   * @returns pages that went from dirty to clean
   * @throws KvmError ENXIO, EINVAL (slot id, then alignment), ENOENT, EINVAL (range), in this order
   */
  *clear(slotArg: number, firstPage: bigint, numPages: number, bits: Uint8Array): Op<number> {
    return yield* this.#checked(slotArg, firstPage, numPages, (slot) =>
      this.#clearNow(slot, { firstPage: Number(firstPage), numPages, bits }),
    );
  }

  /**
   * The same, but vCPUs clean while they run; until KVM_EXIT_CLEANED the pages count as dirty.
   * Without HACDBS it clears at once.
   * @throws KvmError as clear(); EINVAL without clear.mode async-run
   */
  *deferClear(
    slotArg: number,
    firstPage: bigint,
    numPages: number,
    bits: Uint8Array,
  ): Op<{ cleared: number; deferred: number }> {
    const { vm } = this;
    if (vm.policies["clear.mode"] !== "async-run") {
      throw new KvmError("EINVAL", "KVM_CLEAR_DIRTY_LOG", "DEFER needs clear.mode async-run");
    }
    const range = { firstPage: Number(firstPage), numPages, bits };
    return yield* this.#checked(slotArg, firstPage, numPages, (slot) => this.#defer(slot, range));
  }

  /** CLEAR's refusals and locks around what it does. */
  *#checked<T>(
    slotArg: number,
    firstPage: bigint,
    numPages: number,
    act: (slot: LoggedSlot) => Op<T>,
  ): Op<T> {
    const vm = this.vm;
    const ioctl = "KVM_CLEAR_DIRTY_LOG";
    const einval = (why: string) => new KvmError("EINVAL", ioctl, why);
    yield POINT["ioctl-start"];
    yield* vm.slotsLock.lock();
    try {
      yield POINT["slots-lock-taken"];
      const slot = this.#slot(ioctl, slotArg, () => {
        const isAligned = firstPage % 64n === 0n || vm.seedBugs.has("D1");
        if (!isAligned) throw einval("firstPage must be a multiple of 64");
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
      const done = yield* act(slot);
      vm.counters.values.clearDirtyLog++;
      return done;
    } finally {
      vm.slotsLock.unlock();
    }
  }

  *#clearNow(slot: LoggedSlot, range: ClearRange): Op<number> {
    yield* this.deferred.drain(slot.id);
    return yield* this.#clearRange(slot, slot.dirtyBitmap, range);
  }

  *#defer(slot: LoggedSlot, range: ClearRange): Op<{ cleared: number; deferred: number }> {
    if (!this.hardware.canDefer) {
      return { cleared: yield* this.#clearNow(slot, range), deferred: 0 };
    }
    const { u32 } = this.vm.host.memory;
    const pages: number[] = [];
    const named = new Set<number>();
    for (let n = 0; n < range.numPages; n++) {
      if (((range.bits[n >>> 3] ?? 0) & (1 << (n & 7))) === 0) continue;
      const page = range.firstPage + n;
      named.add(page);
      const at = (slot.dirtyBitmap.pa >>> 2) + Math.floor(page / 32);
      if ((u32[at]! & (1 << (page & 31))) === 0) continue;
      u32[at]! ^= 1 << (page & 31);
      pages.push(page);
    }
    const { firstPage, numPages } = range;
    const cleaned = { slot: slot.id, firstPage, numPages };
    return { cleared: 0, deferred: this.deferred.defer(slot, cleaned, pages, named) };
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

  *#clearRange(slot: Memslot, bitmap: DirtyBitmap, range: ClearRange): Op<number> {
    const vm = this.vm;
    const words = Math.ceil(range.numPages / BITMAP_WORD_PAGES);
    const user = new Uint32Array(words * 2);
    new Uint8Array(user.buffer).set(range.bits.subarray(0, words * 8));
    const job: ClearJob = {
      slot,
      bitmap,
      firstWord: Math.floor(range.firstPage / BITMAP_WORD_PAGES),
      words,
      user,
      skew: range.firstPage % BITMAP_WORD_PAGES,
      splits: vm.manualProtectAndInitSet && eagerSplitChunk(vm) !== 0n,
    };
    const { errno, cleared, needsFlush } = yield* this.hardware.clear(job);
    const bySoftware = errno === null ? 0 : yield* this.#clearBySoftware(job, user);
    if (needsFlush || bySoftware > 0) {
      yield POINT["before-tlbi"];
      this.flush(slot);
    }
    return cleared + bySoftware;
  }

  *#clearBySoftware(job: ClearJob, user: Uint32Array): Op<number> {
    const vm = this.vm;
    const { slot, bitmap, words, firstWord, splits } = job;
    const batch = newBatch();
    let cleared = 0;
    yield* vm.mmuLock.writeLock();
    try {
      for (let word = 0; word < words; ) {
        word = this.#fill(bitmap, user, word, firstWord, batch);
        cleared += batch.taken;
        yield POINT["word-exchanged"];
        this.protectBatch(slot, batch);
        if (splits) yield* this.splitWords(slot, batch);
        resetBatch(batch);
        yield POINT["batch-protected"];
      }
    } finally {
      vm.mmuLock.writeUnlock();
    }
    return cleared;
  }
}
