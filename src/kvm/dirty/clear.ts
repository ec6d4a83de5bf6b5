// Owns: dirty bits cleaned by HACDBS: kvm_arch_dirty_log_clear(). VM thread.
//
//   word ─ blocks? array drained, split ─ take bits ─┬ blocks, READONLY: software
//                                                    └ entries ─ batch ─┬ refused: software
//                                                                       └ shortfall: bits back,
//                                                                         software redoes all
// @source dirty-tracking.md 5.1 to 5.4
import { popcount32 } from "../../base/bits.js";
import type { HostCpu } from "../../machine/index.js";
import { BITMAP_WORD_PAGES, type DirtyBitmap, isReadOnly, type Memslot } from "../memslots.js";
import { POINT } from "../preemption.table.js";
import type { Op } from "../sched/scheduler.js";
import type { Vm } from "../vm.js";
import { EntryArray } from "./entry-array.js";
import type { Hacdbs } from "./hacdbs.js";
import { type DirtyWords, firstBit, lastBit } from "./words.js";

/** Words looked at at most between two preemption points. */
const LOOK_WORDS = 65_536;
const LAST_LEVEL = 3;

export interface ClearJob {
  readonly slot: Memslot;
  readonly bitmap: DirtyBitmap;
  /** Of the bitmap, and how many. */
  readonly firstWord: number;
  readonly words: number;
  /** Halves of the words that userspace gave; null: all bits, kept in the copy buffer too. */
  readonly user: Uint32Array | null;
  /** D1: pages by which every entry is off. */
  readonly skew: number;
  readonly splits: boolean;
}

export interface ClearOutcome {
  /** Why software has to do the same range again; null: nothing is left. */
  readonly errno: "ENXIO" | "EPERM" | "ENOMEM" | "EAGAIN" | null;
  /** Pages that went from dirty to clean. */
  readonly cleared: number;
  readonly needsFlush: boolean;
}

/** One run of the routine. */
interface Run {
  readonly job: ClearJob;
  readonly array: EntryArray;
  cleared: number;
  isStarted: boolean;
  /** D19: hardware got beyond its first entry, or software changed a leaf. */
  isAdvanced: boolean;
  isFailed: boolean;
  /** D4: what the last batch returned, and what it is compared with: 0 after a full array. */
  returned: number;
  index: number;
}

export class HardwareClear {
  readonly #vm: Vm;
  readonly #log: DirtyWords;
  readonly #hacdbs: Hacdbs;

  constructor(vm: Vm, log: DirtyWords, hacdbs: Hacdbs) {
    this.#vm = vm;
    this.#log = log;
    this.#hacdbs = hacdbs;
  }

  /** Takes mmu_lock itself. What it could not do has its bits in the bitmap again. */
  *clear(job: ClearJob): Op<ClearOutcome> {
    const vm = this.#vm;
    const { values } = vm.counters;
    const array = this.begin();
    if (typeof array === "string") return { errno: array, cleared: 0, needsFlush: false };
    const run: Run = {
      job,
      array,
      cleared: 0,
      isStarted: false,
      isAdvanced: false,
      isFailed: false,
      returned: 0,
      index: 0,
    };
    try {
      yield* vm.mmuLock.writeLock();
      try {
        yield* this.#words(run);
      } finally {
        vm.mmuLock.writeUnlock();
      }
    } finally {
      this.free(array);
    }
    const isSpurious = vm.seedBugs.has("D4") && run.returned !== run.index;
    const { cleared } = run;
    const needsFlush = vm.seedBugs.has("D19") ? run.isAdvanced : run.isStarted || cleared > 0;
    if (!run.isFailed && !isSpurious) return { errno: null, cleared, needsFlush };
    values.clearFallbacksEagain++;
    return { errno: "EAGAIN", cleared, needsFlush };
  }

  /** Whether vCPUs could clean while they run, wherever that is. */
  get canDefer(): boolean {
    return this.#vm.host.cpus.some((cpu) => this.canRunOn(cpu));
  }

  /** Whether the vCPU loaded here could. */
  canRunOn(cpu: HostCpu): boolean {
    return this.#hacdbs.isWanted && this.#hacdbs.isUsableOn(cpu);
  }

  /**
   * @param cpu where hardware is to run; null: where the caller's thread would
   * @returns an array to fill, or why software has to do the work
   */
  begin(cpu: HostCpu | null = null): EntryArray | "ENXIO" | "EPERM" | "ENOMEM" {
    const hacdbs = this.#hacdbs;
    if (!hacdbs.isWanted) return "ENXIO";
    const { values } = this.#vm.counters;
    if (cpu === null ? !hacdbs.isUsable : !hacdbs.isUsableOn(cpu)) {
      values.clearFallbacksEperm++;
      return "EPERM";
    }
    const array = this.#allocate();
    if (array !== null) return array;
    values.clearFallbacksEnomem++;
    return "ENOMEM";
  }

  #allocate(): EntryArray | null {
    const { host, account } = this.#vm;
    const { size } = host.geometry;
    if (host.faults.hit("hacdbs-alloc", -1) !== null) return null;
    if (this.#hacdbs.slab !== 0) {
      const array = new EntryArray(host, this.#hacdbs.slab);
      this.#hacdbs.slab = 0;
      return array;
    }
    if (!account.charge(size)) return null;
    const pa = host.frames.allocate(1);
    if (pa >= 0) return new EntryArray(host, pa);
    account.release(size);
    return null;
  }

  free(array: EntryArray): void {
    const { host, account, seedBugs } = this.#vm;
    if (seedBugs.has("D20")) {
      this.#hacdbs.slab = array.pa;
      return;
    }
    host.frames.release(array.pa, 1);
    account.release(host.geometry.size);
  }

  *#words(run: Run): Op<void> {
    const vm = this.#vm;
    const { job } = run;
    let batches = vm.counters.values.hacdbsBatches;
    for (let i = 0; i < job.words && !run.isFailed; i++) {
      if (i % LOOK_WORDS === LOOK_WORDS - 1) yield POINT["word-exchanged"];
      if (!this.#hasBits(job, i)) continue;
      yield* this.#word(run, i);
      if (run.array.count > 0 || batches === vm.counters.values.hacdbsBatches) continue;
      // Nothing is in flight here: whoever waits for mmu_lock gets it.
      batches = vm.counters.values.hacdbsBatches;
      if (vm.sched.contended) yield* this.#breathe();
    }
    if (!run.isFailed && run.array.count > 0) yield* this.#batch(run);
  }

  *#breathe(): Op<void> {
    this.#vm.mmuLock.writeUnlock();
    yield POINT["lock-dropped"];
    yield* this.#vm.mmuLock.writeLock();
  }

  #at({ bitmap, firstWord }: ClearJob, i: number): number {
    return (bitmap.pa >>> 2) + (firstWord + i) * 2;
  }

  /** Halves of what userspace named for a word; D2 counts from the slot's first. */
  #named({ user, firstWord }: ClearJob, i: number): readonly [number, number] {
    if (user === null) return [-1, -1];
    const at = (this.#vm.seedBugs.has("D2") ? firstWord + i : i) * 2;
    return [user[at] ?? 0, user[at + 1] ?? 0];
  }

  #hasBits(job: ClearJob, i: number): boolean {
    const { u32 } = this.#vm.host.memory;
    const at = this.#at(job, i);
    if (u32[at] === 0 && u32[at + 1] === 0) return false;
    const [lo, hi] = this.#named(job, i);
    return (u32[at]! & lo) !== 0 || (u32[at + 1]! & hi) !== 0;
  }

  *#word(run: Run, i: number): Op<void> {
    const { job } = run;
    const isLate = this.#vm.seedBugs.has("D13");
    if (job.splits && !isLate && this.#hasBlock(job, i)) {
      // Splitting drops mmu_lock: until then no bit may be in the array.
      if (run.array.count > 0) yield* this.#batch(run);
      if (run.isFailed) return;
      yield* this.#split(job, i);
      if (!this.#hasBits(job, i)) return;
    }
    const [lo, hi] = this.#take(job, i);
    this.#hacdbs.inFlight += popcount32(lo) + popcount32(hi);
    if (job.splits && isLate) yield* this.#split(job, i, lo, hi);
    yield* this.#convert(run, (job.firstWord + i) * BITMAP_WORD_PAGES, lo, hi);
  }

  /** Most words have none once a log has been read: they just go on filling the array. */
  #hasBlock(job: ClearJob, i: number): boolean {
    const [first, end] = this.#spanOf(job, i);
    return this.#vm.tables.nextBlock(first, end) < end;
  }

  #split(job: ClearJob, i: number, takenLo = 0, takenHi = 0): Op<void> {
    const [first, end] = this.#spanOf(job, i, takenLo, takenHi);
    return this.#log.split(first, end);
  }

  /** Guest pages from a word's first bit to its last, of those to be cleaned. */
  #spanOf(job: ClearJob, i: number, takenLo = 0, takenHi = 0): readonly [number, number] {
    const { u32 } = this.#vm.host.memory;
    const [lo, hi] = this.#named(job, i);
    const at = this.#at(job, i);
    const low = ((u32[at]! & lo) | takenLo) >>> 0;
    const high = ((u32[at + 1]! & hi) | takenHi) >>> 0;
    const base = job.slot.baseGfn + (job.firstWord + i) * BITMAP_WORD_PAGES;
    return [base + firstBit(low, high), base + lastBit(low, high) + 1];
  }

  /** Takes a word's bits; a legacy GET keeps them for userspace. */
  #take(job: ClearJob, i: number): readonly [number, number] {
    const { u32 } = this.#vm.host.memory;
    const at = this.#at(job, i);
    const [namedLo, namedHi] = this.#named(job, i);
    const lo = (u32[at]! & namedLo) >>> 0;
    const hi = (u32[at + 1]! & namedHi) >>> 0;
    u32[at]! ^= lo;
    u32[at + 1]! ^= hi;
    if (job.user !== null) return [lo, hi];
    const copy = at + (job.bitmap.bytes >>> 2);
    u32[copy]! |= lo;
    u32[copy + 1]! |= hi;
    return [lo, hi];
  }

  /** @param page of bit 0, counted from the slot's first */
  *#convert(run: Run, page: number, lo: number, hi: number): Op<void> {
    const { slot, skew } = run.job;
    if (!this.#isCleanable(slot, page, lo, hi)) {
      this.#bySoftware(run, page, lo, hi);
      return;
    }
    const level = this.#level();
    let low = lo;
    let high = hi;
    while ((low | high) !== 0 && !run.isFailed) {
      const bit = firstBit(low, high);
      if (bit < 32) low &= low - 1;
      else high &= high - 1;
      run.array.add(slot.baseGfn + page + bit + skew, page + bit, level);
      if (run.array.isFull) yield* this.#batch(run);
    }
    // An unfinished batch: the rest of the word never got into the array.
    if (run.isFailed) this.#putBack(run.job, page, low, high);
  }

  /** Level of the descriptors: the last; D11 takes the split chunk's. */
  #level(): number {
    const { seedBugs, caps, host } = this.#vm;
    const chunk = Number(caps.eagerSplitChunkSize);
    if (!seedBugs.has("D11") || chunk === 0) return LAST_LEVEL;
    return host.geometry.levelSizes.indexOf(chunk);
  }

  /** Whether level 3 entries translate the word's pages, and hardware may manage them. */
  #isCleanable(slot: Memslot, page: number, lo: number, hi: number): boolean {
    const { tables, seedBugs } = this.#vm;
    if (isReadOnly(slot)) return false;
    const first = slot.baseGfn + page + firstBit(lo, hi);
    const end = slot.baseGfn + page + lastBit(lo, hi) + 1;
    if (tables.nextMapped(first, end) === end) return false;
    return seedBugs.has("D14") || tables.nextBlock(first, end) === end;
  }

  #bySoftware(run: Run, page: number, lo: number, hi: number): void {
    const { values } = this.#vm.counters;
    const before = values.pagesProtected;
    this.#log.protectMasked(run.job.slot, page, lo, hi);
    if (values.pagesProtected !== before) run.isAdvanced = true;
    this.#settle(run, popcount32(lo) + popcount32(hi));
  }

  #settle(run: Run, pages: number): void {
    run.cleared += pages;
    this.#hacdbs.inFlight -= pages;
  }

  #putBack({ bitmap }: ClearJob, page: number, lo: number, hi: number): void {
    const { u32 } = this.#vm.host.memory;
    const at = (bitmap.pa >>> 2) + (page / BITMAP_WORD_PAGES) * 2;
    u32[at]! |= lo;
    u32[at + 1]! |= hi;
    const pages = popcount32(lo) + popcount32(hi);
    this.#vm.counters.values.rollbackBits += pages;
    this.#hacdbs.inFlight -= pages;
  }

  *#batch(run: Run): Op<void> {
    const { array, job } = run;
    const { count } = array;
    const unwatch = this.#watch(run);
    const result = yield* this.#hacdbs.batch(array);
    unwatch();
    if (result.isStarted) run.isStarted = true;
    if (result.firstIndex > 0) run.isAdvanced = true;
    run.isFailed = result.done < count;
    run.returned = result.done;
    this.#settle(run, result.done - result.refused.length);
    for (const index of result.refused) {
      const page = array.pages[index]!;
      const [lo, hi] = bitOf(page);
      this.#bySoftware(run, page - (page % BITMAP_WORD_PAGES), lo, hi);
    }
    for (let index = result.done; index < count; index++) {
      const page = array.pages[index]!;
      const [lo, hi] = bitOf(page);
      this.#putBack(job, page - (page % BITMAP_WORD_PAGES), lo, hi);
    }
    run.index = array.isFull ? 0 : count;
    array.count = 0;
  }

  /** Tells the silicon which pages were asked for, while something may go wrong there. */
  #watch({ array, job }: Run): () => void {
    const { diagnostics, model, geometry } = this.#vm.host;
    if (this.#vm.seedBugs.size === 0 && model["hardware.lookahead"] === 0) return () => {};
    const { baseGfn } = job.slot;
    // Where a vCPU runs meanwhile, hardware cleans what another slot's CLEAR has deferred.
    diagnostics.isRequested = (ipa, vcpu) =>
      vcpu >= 0 || array.has(Math.floor(ipa / geometry.size) - baseGfn);
    return () => {
      diagnostics.isRequested = null;
    };
  }
}

/** Halves of a word with a page's bit. */
function bitOf(page: number): readonly [number, number] {
  const bit = page % BITMAP_WORD_PAGES;
  return bit < 32 ? [(1 << bit) >>> 0, 0] : [0, (1 << (bit - 32)) >>> 0];
}
