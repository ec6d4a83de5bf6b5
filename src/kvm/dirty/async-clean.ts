// Owns: clear.mode async-run: pages of a deferred CLEAR that vCPUs clean by HACDBS as they run.
// VM thread.
//
//   CLEAR DEFER ─ bits ─▶ job: waiting pages ─ vCPU enters ─▶ array, EN = 1, guest runs
//                              ▲                               └ exit: EN = 0, DSB, look at CONS
//                              └── unprocessed, put ◀──────────────┘ TLBI ─▶ job over ─▶ CLEANED
//
// Until its job is over a page counts as dirty. Jobs end in the order in which they came.
// @source dirty-tracking.md 6.5
import type { Saved } from "../../base/saved.js";
import { BR_EN, decodeCons, ERR_REASON, type HostCpu } from "../../machine/index.js";
import { BITMAP_WORD_PAGES, type Memslot } from "../memslots.js";
import { POINT } from "../preemption.table.js";
import { type Op, Waitable } from "../sched/scheduler.js";
import type { CleanedPages, Vcpu } from "../vcpu.js";
import type { Vm } from "../vm.js";
import type { HardwareClear } from "./clear.js";
import type { DeferredClean } from "./deferred.js";
import type { EntryArray } from "./entry-array.js";
import type { Hacdbs } from "./hacdbs.js";
import { BATCH_PAGES, type DirtyWords } from "./words.js";

const LAST_LEVEL = 3;
const NS_PER_US = 1000;

/** One CLEAR, or what is left of it. */
interface Job {
  readonly cleaned: CleanedPages;
  readonly baseGfn: number;
  /** Pages that nobody works on, counted from the slot's first. */
  waiting: number[];
  /** Pages that hardware refused. */
  refused: number[];
  /** Tick at which the caller's thread does what is left. */
  readonly deadline: bigint;
  /** Pages in arrays. */
  inHardware: number;
  /** Clean already, and dirty for userspace until the job is over: it was told of no copy yet. */
  done: number[];
}

interface Batch {
  readonly job: Job;
  readonly array: EntryArray;
}

export class AsyncClean implements DeferredClean {
  readonly #vm: Vm;
  readonly #log: DirtyWords;
  readonly #hardware: HardwareClear;
  readonly #hacdbs: Hacdbs;
  readonly #jobs: Job[] = [];
  /** null: the caller's thread's, while it drains. */
  readonly #batches = new Map<Vcpu | null, Batch>();
  /** What KVM_RUN is to tell of. */
  #notices: CleanedPages[] = [];
  /** Woken with each CLEAR that is over. */
  readonly over = new Waitable("clean-over");
  /** Told of each CLEAR that is over. */
  onCleaned: ((cleaned: CleanedPages) => void) | null = null;
  /** What the timer is armed for: the oldest job's; null while none is, or a drain has begun. */
  #deadline: bigint | null = null;
  #isDraining = false;
  readonly #timer: { readonly wait: Waitable };

  constructor(vm: Vm, log: DirtyWords & { readonly hardware: HardwareClear }, hacdbs: Hacdbs) {
    this.#vm = vm;
    this.#log = log;
    this.#hardware = log.hardware;
    this.#hacdbs = hacdbs;
    const wait = new Waitable("clean-deferred");
    wait.wake = () => this.#beginDrain();
    this.#timer = { wait };
  }

  get isPending(): boolean {
    return this.#jobs.length > 0;
  }

  /** Pages that are not clean yet, of all jobs. */
  get pendingPages(): number {
    return this.#jobs.reduce((sum, job) => sum + left(job), 0);
  }

  /**
   * Takes pages whose bits have just left the bitmap.
   * @returns pages that userspace has to wait for: these, and those it names that wait already
   */
  defer(slot: Memslot, cleaned: CleanedPages, pages: number[], named: Set<number>): number {
    let waitsAlready = 0;
    for (const job of this.#of(slot.id)) {
      for (const page of this.#pagesOf(job)) if (named.has(page)) waitsAlready++;
    }
    if (pages.length + waitsAlready === 0) return 0;
    const { baseGfn } = slot;
    const deadline = this.#vm.ticks() + BigInt(this.#vm.policies["clear.deferMaxUs"] * NS_PER_US);
    const rest = { refused: [], inHardware: 0, done: [] };
    this.#jobs.push({ cleaned, baseGfn, deadline, waiting: pages, ...rest });
    if (this.#deadline === null) this.#arm(deadline);
    return pages.length + waitsAlready;
  }

  #arm(deadline: bigint): void {
    const ticks = deadline - this.#vm.ticks();
    this.#deadline = deadline;
    this.#vm.timers.arm(this.#timer, ticks > 0n ? ticks : 0n);
  }

  #disarm(): void {
    this.#deadline = null;
    this.#vm.timers.disarm(this.#timer);
  }

  #of(slot: number | null): Job[] {
    return this.#jobs.filter((job) => slot === null || job.cleaned.slot === slot);
  }

  #pagesOf(job: Job): number[] {
    const pages = [...job.waiting, ...job.refused, ...job.done];
    for (const { job: its, array } of this.#batches.values()) {
      if (its === job) pages.push(...array.pages.subarray(0, array.count));
    }
    return pages;
  }

  /** Marks a slot's pages whose CLEAR is not over in a log that userspace gets. */
  markInto(slot: number, bitmap: Uint8Array): void {
    if (this.#jobs.length === 0) return;
    for (const job of this.#of(slot)) {
      for (const page of this.#pagesOf(job)) bitmap[page >>> 3]! |= 1 << (page & 7);
    }
  }

  /** A vCPU is about to enter the guest. */
  enter(vcpu: Vcpu, cpu: HostCpu): void {
    if (this.#batches.has(vcpu) || this.#isDraining) return;
    const job = this.#jobs.find(({ waiting }) => waiting.length > 0);
    if (job === undefined || !this.#hardware.canRunOn(cpu)) return;
    const array = this.#hardware.begin(cpu);
    if (typeof array === "string") return;
    this.#fill(array, job);
    array.terminate(false);
    this.#batches.set(vcpu, { job, array });
    this.#vm.counters.values.hacdbsBatches++;
    cpu.isb();
    cpu.msr("HACDBSCONS_EL2", 0n);
    cpu.msr("HACDBSBR_EL2", BigInt(array.pa) | BigInt(array.sz) | BR_EN);
  }

  /** The guest ran: so did hardware. */
  ran(vcpu: Vcpu, cpu: HostCpu): void {
    if (!this.#batches.has(vcpu)) return;
    const { cleaned, alreadyClean, entries, terminators } = cpu.hacdbs;
    const { values } = this.#vm.counters;
    cpu.hacdbs.process(this.#vm.host.model["hardware.hacdbsEntriesPerStep"]);
    values.hacdbsCleaned += cpu.hacdbs.cleaned - cleaned;
    values.hacdbsAlreadyClean += cpu.hacdbs.alreadyClean - alreadyClean;
    values.hacdbsEntries += cpu.hacdbs.entries - entries;
    values.hacdbsTerminators += cpu.hacdbs.terminators - terminators;
    if (!cpu.hacdbs.isRunning) this.#settle(vcpu, cpu);
  }

  /** vcpu_put with EN=1. */
  put(vcpu: Vcpu, cpu: HostCpu): void {
    if (this.#batches.has(vcpu)) this.#settle(vcpu, cpu);
  }

  /** EN = 0, DSB; what was processed is invalidated, the rest goes back. */
  #settle(vcpu: Vcpu, cpu: HostCpu): void {
    const batch = this.#batches.get(vcpu);
    if (batch === undefined) return;
    const { job, array } = batch;
    const { count, pages } = array;
    cpu.msr("HACDBSBR_EL2", 0n);
    cpu.dsb();
    const { index, err } = decodeCons(cpu.mrs("HACDBSCONS_EL2"));
    let done = Math.min(index, count);
    for (const page of pages.subarray(0, done)) job.done.push(page);
    // Lookahead may have cleaned beyond an error: the whole array's range is invalidated.
    this.#flush(job.baseGfn, pages.subarray(0, count));
    if (done < count && err !== ERR_REASON.NOF) {
      this.#countError(err);
      job.refused.push(pages[done]!);
      done++;
    }
    job.waiting.unshift(...pages.subarray(done, count));
    this.#giveUp(vcpu, array);
    this.#finishJobs();
  }

  #countError(err: number): void {
    const { values } = this.#vm.counters;
    if (err === ERR_REASON.STRUCTF) values.hacdbsErrStructf++;
    else if (err === ERR_REASON.IPAF) values.hacdbsErrIpaf++;
    else values.hacdbsErrIpahacf++;
  }

  /** In order: who waits for the second CLEAR may have named pages of the first. */
  #finishJobs(): void {
    for (let job = this.#jobs[0]; job !== undefined && left(job) === 0; job = this.#jobs[0]) {
      this.#jobs.shift();
      this.#notices.push(job.cleaned);
      this.onCleaned?.(job.cleaned);
      this.over.wake();
      for (const vcpu of this.#vm.vcpus) if (vcpu.running) vcpu.wait.wake();
    }
    const [oldest] = this.#jobs;
    if (oldest === undefined) this.#disarm();
    else if (this.#deadline !== null && oldest.deadline !== this.#deadline) {
      this.#arm(oldest.deadline);
    }
  }

  /** KVM_EXIT_CLEANED, once for each CLEAR. */
  takeNotice(): CleanedPages | null {
    return this.#notices.shift() ?? null;
  }

  /** Whether an exit has pages for software. */
  get hasRefused(): boolean {
    return this.#jobs.some(({ refused }) => refused.length > 0);
  }

  /** What hardware refused, cleaned at an exit. */
  *cleanRefused(): Op<void> {
    yield* this.#bySoftware((job) => job.refused.splice(0, BATCH_PAGES));
  }

  /**
   * Nothing is left when it returns, if anything of this slot is; slots_lock is held.
   * @param slot null: of any slot
   */
  *drain(slot: number | null): Op<void> {
    if (this.#of(slot).length === 0) return;
    this.#isDraining = true;
    try {
      for (const vcpu of [...this.#batches.keys()]) {
        if (vcpu !== null && vcpu.cpu !== null) this.#settle(vcpu, vcpu.cpu);
      }
      yield* this.#byCaller();
      yield* this.#bySoftware((job) =>
        job.refused.length > 0
          ? job.refused.splice(0, BATCH_PAGES)
          : job.waiting.splice(0, BATCH_PAGES),
      );
    } finally {
      this.#isDraining = false;
    }
  }

  /** HACDBS cleans what waits while the caller's thread waits for it. */
  *#byCaller(): Op<void> {
    for (const job of [...this.#jobs]) {
      while (job.waiting.length > 0) {
        const array = this.#hardware.begin();
        if (typeof array === "string") return;
        this.#fill(array, job);
        this.#batches.set(null, { job, array });
        yield* this.#vm.mmuLock.writeLock();
        try {
          const { done, refused } = yield* this.#hacdbs.batch(array);
          const pages = [...array.pages.subarray(0, array.count)];
          this.#flush(job.baseGfn, pages);
          const isRefused = new Set(refused);
          for (const [at, page] of pages.entries()) {
            if (at < done && !isRefused.has(at)) job.done.push(page);
            else job.refused.push(page);
          }
        } finally {
          this.#vm.mmuLock.writeUnlock();
          this.#giveUp(null, array);
        }
      }
    }
  }

  /** Moves pages that wait into an array. */
  #fill(array: EntryArray, job: Job): void {
    const pages = job.waiting.splice(0, array.capacity).sort((a, b) => a - b);
    for (const page of pages) array.add(job.baseGfn + page, page, LAST_LEVEL);
    job.inHardware += pages.length;
  }

  /** The pages of an array are elsewhere by now. */
  #giveUp(who: Vcpu | null, array: EntryArray): void {
    const batch = this.#batches.get(who);
    if (batch !== undefined) batch.job.inHardware -= array.count;
    this.#batches.delete(who);
    this.#hardware.free(array);
  }

  *#bySoftware(take: (job: Job) => number[]): Op<void> {
    const vm = this.#vm;
    if (!this.#jobs.some(({ waiting, refused }) => waiting.length + refused.length > 0)) {
      this.#finishJobs();
      return;
    }
    yield* vm.mmuLock.writeLock();
    try {
      for (const job of [...this.#jobs]) {
        const its = vm.slots.get(job.cleaned.slot);
        for (let pages = take(job); pages.length > 0; pages = take(job)) {
          if (its !== undefined) this.#protect(its, pages);
          job.done.push(...pages);
          yield POINT["batch-protected"];
        }
      }
    } finally {
      vm.mmuLock.writeUnlock();
    }
    this.#finishJobs();
  }

  /** Word by word, with one invalidation. @param pages at least one; sorted here */
  #protect(slot: Memslot, pages: number[]): void {
    pages.sort((a, b) => a - b);
    for (let at = 0; at < pages.length; ) {
      const first = pages[at]! - (pages[at]! % BITMAP_WORD_PAGES);
      let lo = 0;
      let hi = 0;
      for (; at < pages.length && pages[at]! < first + BITMAP_WORD_PAGES; at++) {
        const bit = pages[at]! - first;
        if (bit < 32) lo |= 1 << bit;
        else hi |= 1 << (bit - 32);
      }
      this.#log.protectMasked(slot, first, lo >>> 0, hi >>> 0);
    }
    this.#flush(slot.baseGfn, pages);
  }

  /** Invalidates from the first to the last of sorted pages. */
  #flush(baseGfn: number, pages: ArrayLike<number>): void {
    const first = pages[0]!;
    this.#vm.flushRange(baseGfn + first, pages[pages.length - 1]! - first + 1);
  }

  /** deferMaxUs are over, or every vCPU sleeps. */
  #beginDrain(): void {
    this.#disarm();
    this.#vm.sched.add("clean-deferred", false, this.drainAll(), () => {});
  }

  *drainAll(): Op<void> {
    if (!this.isPending) return;
    const { slotsLock } = this.#vm;
    yield* slotsLock.lock();
    try {
      yield* this.drain(null);
    } finally {
      slotsLock.unlock();
    }
  }

  hardwareWent(): void {
    if (this.isPending && this.#deadline !== null) this.#beginDrain();
  }

  save(): Saved {
    const jobs = this.#jobs.map((job) => ({
      cleaned: { ...job.cleaned },
      baseGfn: job.baseGfn,
      deadline: job.deadline,
      waiting: [...job.waiting],
      refused: [...job.refused],
      done: [...job.done],
    }));
    const notices = this.#notices.map((notice) => ({ ...notice }));
    return { kind: "async-clean", version: 1, data: { jobs, notices, deadline: this.#deadline } };
  }

  /** Only with every vCPU outside KVM_RUN: no array is with hardware. */
  load(saved: Saved): void {
    const data = saved.data as {
      jobs: Omit<Job, "inHardware">[];
      notices: CleanedPages[];
      deadline: bigint | null;
    };
    this.#disarm();
    this.#batches.clear();
    const jobs = data.jobs.map((job) => ({
      ...job,
      waiting: [...job.waiting],
      refused: [...job.refused],
      done: [...job.done],
      inHardware: 0,
    }));
    this.#jobs.splice(0, this.#jobs.length, ...jobs);
    this.#notices = [...data.notices];
    if (data.deadline !== null) this.#arm(data.deadline);
  }
}

/** Pages of a job that are not clean. */
function left({ waiting, refused, inHardware }: Job): number {
  return waiting.length + refused.length + inHardware;
}
