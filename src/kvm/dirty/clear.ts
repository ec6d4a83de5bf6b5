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
  /** Halves of the word in hand: what is dirty, was named, and is in no entry yet. */
  lo: number;
  hi: number;
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
      lo: 0,
      hi: 0,
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
    const { job, array } = run;
    let batches = vm.counters.values.hacdbsBatches;
    for (let i = 0; i < job.words && !run.isFailed; i++) {
      if (i % LOOK_WORDS === LOOK_WORDS - 1) yield POINT["word-exchanged"];
      if (!this.#look(run, i)) continue;
      if (job.splits && this.#hasBlock(run, i)) yield* this.#splitAndTake(run, i);
      else this.#take(run, i);
      this.#convert(run, i);
      while (array.isFull && !run.isFailed) {
        yield* this.#batch(run);
        if (!run.isFailed) this.#fill(run, i);
      }
      // An unfinished batch: the rest of the word never got into the array.
      if (run.isFailed) this.#putBack(job, this.#pageOf(job, i), run.lo, run.hi);
      if (array.count > 0 || batches === vm.counters.values.hacdbsBatches) continue;
      // Nothing is in flight here: whoever waits for mmu_lock gets it.
      batches = vm.counters.values.hacdbsBatches;
      if (vm.sched.contended) yield* this.#breathe();
    }
    if (!run.isFailed && array.count > 0) yield* this.#batch(run);
  }

  *#breathe(): Op<void> {
    this.#vm.mmuLock.writeUnlock();
    yield POINT["lock-dropped"];
    yield* this.#vm.mmuLock.writeLock();
  }

  /** Page of a word's bit 0, counted from the slot's first. */
  #pageOf({ firstWord }: ClearJob, i: number): number {
    return (firstWord + i) * BITMAP_WORD_PAGES;
  }

  #at({ bitmap, firstWord }: ClearJob, i: number): number {
    return (bitmap.pa >>> 2) + (firstWord + i) * 2;
  }

  /** Reads what is dirty and named of a word; D2 counts from the slot's first. */
  #look(run: Run, i: number): boolean {
    const { job } = run;
    const { u32 } = this.#vm.host.memory;
    const at = this.#at(job, i);
    run.lo = u32[at]!;
    run.hi = u32[at + 1]!;
    if ((run.lo | run.hi) === 0) return false;
    if (job.user === null) return true;
    const named = (this.#vm.seedBugs.has("D2") ? job.firstWord + i : i) * 2;
    run.lo = (run.lo & (job.user[named] ?? 0)) >>> 0;
    run.hi = (run.hi & (job.user[named + 1] ?? 0)) >>> 0;
    return (run.lo | run.hi) !== 0;
  }

  /** Most words have none once a log has been read: they just go on filling the array. */
  #hasBlock(run: Run, i: number): boolean {
    const base = run.job.slot.baseGfn + this.#pageOf(run.job, i);
    const end = base + lastBit(run.lo, run.hi) + 1;
    return this.#vm.tables.nextBlock(base + firstBit(run.lo, run.hi), end) < end;
  }

  *#splitAndTake(run: Run, i: number): Op<void> {
    const isLate = this.#vm.seedBugs.has("D13");
    if (isLate) this.#take(run, i);
    else if (run.array.count > 0) {
      // Splitting drops mmu_lock: until then no bit may be in the array.
      yield* this.#batch(run);
      if (run.isFailed) return this.#letGo(run);
      // More of it may be dirty by now.
      this.#look(run, i);
    }
    const base = run.job.slot.baseGfn + this.#pageOf(run.job, i);
    yield* this.#log.split(base + firstBit(run.lo, run.hi), base + lastBit(run.lo, run.hi) + 1);
    if (!isLate && this.#look(run, i)) this.#take(run, i);
  }

  /** No bit of the word in hand becomes an entry. */
  #letGo(run: Run): void {
    run.lo = 0;
    run.hi = 0;
  }

  /** Takes the word in hand from the bitmap; a legacy GET keeps it for userspace. */
  #take(run: Run, i: number): void {
    const { job, lo, hi } = run;
    const { u32 } = this.#vm.host.memory;
    const at = this.#at(job, i);
    u32[at]! ^= lo;
    u32[at + 1]! ^= hi;
    this.#hacdbs.inFlight += popcount32(lo) + popcount32(hi);
    if (job.user === null) {
      const copy = at + (job.bitmap.bytes >>> 2);
      u32[copy]! |= lo;
      u32[copy + 1]! |= hi;
    }
  }

  /** The word in hand becomes entries, or software protects it at once. */
  #convert(run: Run, i: number): void {
    const { job, lo, hi } = run;
    if ((lo | hi) === 0) return;
    const page = this.#pageOf(job, i);
    if (this.#isCleanable(job.slot, page, lo, hi)) {
      this.#fill(run, i);
      return;
    }
    this.#letGo(run);
    this.#bySoftware(run, page, lo, hi);
  }

  /** Makes entries of the word in hand, as many as fit. */
  #fill(run: Run, i: number): void {
    const { job, array } = run;
    const level = this.#level();
    const page = this.#pageOf(job, i);
    const gfn = job.slot.baseGfn + page + job.skew;
    if (run.lo !== 0) run.lo = array.addBits(gfn, page, run.lo, level);
    if (run.hi !== 0) run.hi = array.addBits(gfn + 32, page + 32, run.hi, level);
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
    if (this.#isWatched) this.#watch(run);
    const result = yield* this.#hacdbs.batch(array);
    this.#vm.host.diagnostics.isRequested = null;
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

  /** Whether hardware may clean what nobody asked for. */
  get #isWatched(): boolean {
    const { seedBugs, host } = this.#vm;
    return seedBugs.size > 0 || host.model["hardware.lookahead"] > 0;
  }

  /** Tells the silicon which pages are asked for. */
  #watch({ array, job }: Run): void {
    const { diagnostics, geometry } = this.#vm.host;
    const { baseGfn } = job.slot;
    // Where a vCPU runs meanwhile, hardware cleans what another slot's CLEAR has deferred.
    diagnostics.isRequested = (ipa, vcpu) =>
      vcpu >= 0 || array.has(Math.floor(ipa / geometry.size) - baseGfn);
  }
}

/** Halves of a word with a page's bit. */
function bitOf(page: number): readonly [number, number] {
  const bit = page % BITMAP_WORD_PAGES;
  return bit < 32 ? [(1 << bit) >>> 0, 0] : [0, (1 << (bit - 32)) >>> 0];
}
