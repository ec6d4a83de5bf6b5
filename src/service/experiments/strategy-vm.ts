// Owns: the VM of one strategy, driven as any client drives one: by commands. HTTP thread.
import type { Clock } from "../../base/clock.js";
import { KvmError, ServiceError } from "../../base/errors.js";
import { parseU64 } from "../../base/hex.js";
import { giveBack } from "../../base/lent-bytes.js";
import type {
  CommandArgs,
  CommandName,
  CommandResult,
  RunResult,
  Runtime,
  VmDefinition,
  VmHandle,
} from "../../runtime/index.js";
import { addCounts, type Counts, countsBetween } from "./cost.js";
import { slotBytes } from "./spec.js";
import type { Strategy, Workload } from "./types.js";

const CAP = {
  manualProtect: 168,
  ring: 223,
  splitChunk: 228,
  hdbss: 502,
} as const;
const SLOT = 0;
const LOG_DIRTY_PAGES = 1;
/** T-01's place. */
const BASE = 0x4000_0000n;
const RING_ENTRY_BYTES = 16;
/** Entries of a ring read at once. */
const RING_PAGE = 65_536;
/** Runs of one round that may fail before the strategy is given up. */
const RUN_ERRORS_MAX = 8;
/** Times that vCPUs are entered again in one round: small rings leave often. */
const ENTRIES_MAX = 1_000_000;

/** What a measured stretch took. */
export interface Measured {
  counts: Counts;
  ms: number;
}

export interface RoundOutcome {
  readonly run: Measured;
  readonly ioctl: Measured;
  /** As a dirty log's: what was told in this round. */
  readonly reported: Uint32Array;
  readonly runErrors: number;
}

const nothing = (): Measured => ({ counts: {}, ms: 0 });

/** KVM's own settings, with what the strategy's two short words stand for. */
export function settingsOf({ tracking, clean, settings }: Strategy) {
  const use = clean === "software" ? "off" : tracking === "dbm" ? "with-dbm" : "with-hdbss";
  return { "hacdbs.use": use, ...settings };
}

/** CLEAR returns at once, and vCPUs clean as they run. */
function defers({ settings }: Strategy): boolean {
  return settings["clear.mode"] === "async-run";
}

export function definitionOf(workload: Workload, strategy: Strategy): VmDefinition {
  return {
    type: 0n,
    pageSize: workload.pageSize,
    hostCpus: workload.hostCpus,
    seed: seedOf(workload),
    // Between two rounds every vCPU stands still: a jump would end the wait of a deferred CLEAR.
    clock: { mode: "virtual", nsPerInstruction: 1, idle: defers(strategy) ? "paced" : "jump" },
    dirtyTracking: strategy.tracking === "dbm" ? "dbm" : "write-protect",
    dirty: { settings: settingsOf(strategy), seedBugs: strategy.seedBugs },
  };
}

function seedOf({ seed }: Workload): bigint {
  return parseU64(seed) ?? 1n;
}

/** A deferred CLEAR that no vCPU has told the end of. */
interface DeferredClear {
  readonly firstPage: number;
  readonly bits: Uint8Array;
}

export class StrategyVm {
  readonly #deferred: DeferredClear[] = [];
  readonly #handle: VmHandle;
  readonly #workload: Workload;
  readonly #strategy: Strategy;
  readonly #clock: Clock;
  readonly #vcpus: readonly bigint[];
  readonly pages: number;
  #userspaceAddr = 0n;

  private constructor(handle: VmHandle, workload: Workload, strategy: Strategy, clock: Clock) {
    this.#handle = handle;
    this.#workload = workload;
    this.#strategy = strategy;
    this.#clock = clock;
    this.#vcpus = Array.from({ length: workload.vcpus }, (_, at) => BigInt(at));
    this.pages = slotBytes(workload) / workload.pageSize;
  }

  /** @throws KvmError, ServiceError as the VM's creation and its set-up */
  static async create(
    runtime: Runtime,
    clock: Clock,
    workload: Workload,
    strategy: Strategy,
  ): Promise<StrategyVm> {
    const handle = await runtime.start(definitionOf(workload, strategy));
    const vm = new StrategyVm(handle, workload, strategy, clock);
    try {
      await vm.#setUp();
      return vm;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  get #hasRing(): boolean {
    return this.#strategy.tracking === "dirty-ring";
  }

  async #call<K extends CommandName>(name: K, args: CommandArgs<K>): Promise<CommandResult<K>> {
    return (await this.#handle.call(name, args)).value;
  }

  #enable(cap: number, ...args: readonly bigint[]): Promise<null> {
    return this.#call("enableCap", { cap, flags: 0, args });
  }

  async #setUp(): Promise<void> {
    const { manualProtect, backing, hugePages, splitChunk } = this.#workload;
    const chunk = this.#strategy.splitChunk ?? splitChunk;
    if (manualProtect !== 0) await this.#enable(CAP.manualProtect, BigInt(manualProtect));
    if (this.#hasRing) {
      await this.#enable(CAP.ring, BigInt(this.#strategy.ringEntries * RING_ENTRY_BYTES));
    }
    if (chunk !== 0) await this.#enable(CAP.splitChunk, BigInt(chunk));
    const size = BigInt(slotBytes(this.#workload));
    const object = { size, userspaceAddr: null, backing, hugePages };
    this.#userspaceAddr = (await this.#call("createMemoryObject", object)).userspaceAddr;
    await this.#setSlot(0);
    for (const vcpu of this.#vcpus) await this.#call("createVcpu", { id: Number(vcpu) });
  }

  #setSlot(flags: number) {
    return this.#call("setUserMemoryRegion", {
      slot: SLOT,
      flags,
      guestPhysAddr: BASE,
      memorySize: BigInt(slotBytes(this.#workload)),
      userspaceAddr: this.#userspaceAddr,
    });
  }

  async counts(): Promise<Counts> {
    return this.#call("counters", {});
  }

  /** Adds what a step counts and takes to a stretch. */
  async #measure<T>(into: Measured, step: () => Promise<T>): Promise<T> {
    const before = await this.counts();
    const begin = this.#clock.monotonicMs();
    const value = await step();
    into.ms += this.#clock.monotonicMs() - begin;
    into.counts = addCounts(into.counts, countsBetween(before, await this.counts()));
    return value;
  }

  /** Every page is stored to once, in order, before logging. */
  async populate(): Promise<Measured> {
    const { pageSize, bytesPerVcpu, vcpus, sharedWindow } = this.#workload;
    const share = bytesPerVcpu / pageSize;
    for (const vcpu of this.#vcpus) {
      const isIdle = sharedWindow && vcpu > 0n;
      await this.#setProgram(vcpu, isIdle ? 0 : share, "sequential", pageSize, 0n);
    }
    const measured = nothing();
    const who = sharedWindow ? this.#vcpus.slice(0, 1) : this.#vcpus.slice(0, vcpus);
    await this.#measure(measured, () => this.#call("runVcpus", { vcpus: who }));
    return measured;
  }

  /** HDBSS as a VMM turns it on when migration begins, then KVM_MEM_LOG_DIRTY_PAGES. */
  async enable(): Promise<Measured> {
    const measured = nothing();
    await this.#call("shadowStart", {});
    await this.#measure(measured, async () => {
      const args = this.#hdbssArgs();
      if (args !== null) await this.#enable(CAP.hdbss, ...args);
      await this.#setSlot(LOG_DIRTY_PAGES);
    });
    return measured;
  }

  /** null where KVM turns it on by itself. */
  #hdbssArgs(): readonly bigint[] | null {
    const { tracking, settings, hdbssOrder } = this.#strategy;
    const by = settings["hdbss.enableBy"] ?? "ioctl-v3";
    if (tracking !== "hdbss") return null;
    const order = BigInt(hdbssOrder);
    // tidy: HDBSS counts its buffers in units of 4 KiB, whatever the page size
    const size = settings["hdbss.sizeUnit"] === "bytes" ? 4096n << order : order;
    if (by === "ioctl-v3") return [size, 1n];
    return by === "ioctl-v2" ? [size] : null;
  }

  #setProgram(
    vcpu: bigint,
    count: number,
    pattern: Workload["pattern"],
    stride: number,
    seed: bigint,
  ) {
    const { bytesPerVcpu, sharedWindow, skew } = this.#workload;
    const base = BASE + (sharedWindow ? 0n : vcpu * BigInt(bytesPerVcpu));
    return this.#call("setProgram", {
      vcpu: Number(vcpu),
      program: {
        kind: "pattern",
        pattern,
        base,
        bytes: BigInt(bytesPerVcpu),
        count,
        writePercent: 100,
        // A window of whole strides is stored to once before anything is stored to twice.
        length: 1,
        stride,
        skew,
        seed,
      },
    });
  }

  /** One round: every vCPU stores, then userspace reads the log and clears it. */
  async round(round: number): Promise<RoundOutcome> {
    const { storesPerRound, pattern, strides, pageSize, bytesPerVcpu } = this.#workload;
    const stride = strides[(round - 1) % Math.max(1, strides.length)] ?? pageSize;
    const count = storesPerRound === 0 ? Math.ceil(bytesPerVcpu / stride) : storesPerRound;
    for (const vcpu of this.#vcpus) {
      const seed = seedOf(this.#workload) + BigInt(round) * 65_537n + vcpu;
      await this.#setProgram(vcpu, count, pattern, stride, BigInt.asUintN(64, seed));
    }
    return this.#round(this.#vcpus);
  }

  /** The last look, with nobody storing: what deferred work left is told here. */
  final(): Promise<RoundOutcome> {
    return this.#round([]);
  }

  async #round(vcpus: readonly bigint[]): Promise<RoundOutcome> {
    const run = nothing();
    const ioctl = nothing();
    const reported = new Uint32Array(Math.ceil(this.pages / 64) * 2);
    const runErrors = await this.#runAll(vcpus, run, ioctl, reported);
    // vCPUs whose stores are done would be in KVM_RUN all the same, and tell of CLEARs that ended.
    if (this.#deferred.length > 0)
      await this.#runAll(this.#vcpus.slice(0, 1), run, ioctl, reported);
    await this.#measure(ioctl, () =>
      this.#hasRing ? this.#reap(reported) : this.#getAndClear(reported),
    );
    return { run, ioctl, reported, runErrors };
  }

  /** Runs vCPUs to the end of their programs, emptying rings as they fill. @returns failed runs */
  async #runAll(
    vcpus: readonly bigint[],
    run: Measured,
    ioctl: Measured,
    reported: Uint32Array,
  ): Promise<number> {
    let left = vcpus;
    let errors = 0;
    for (let entries = 0; left.length > 0; entries++) {
      const results = await this.#measure(run, () => this.#call("runVcpus", { vcpus: left }));
      errors += results.filter(({ errno }) => errno !== null).length;
      if (errors > RUN_ERRORS_MAX || entries > ENTRIES_MAX) throw gaveUp(results);
      for (const { cleaned } of results) {
        if (cleaned !== undefined) this.#copyCleaned(Number(cleaned.firstPage), reported);
      }
      if (this.#hasRing && results.some(isRingFull)) {
        await this.#measure(ioctl, () => this.#reap(reported));
      }
      left = left.filter((_, at) => results[at]?.exitReason !== "KVM_EXIT_HLT");
    }
    return errors;
  }

  /** KVM_EXIT_CLEANED: userspace copies the pages of that CLEAR now. */
  #copyCleaned(firstPage: number, reported: Uint32Array): void {
    const at = this.#deferred.findIndex((one) => one.firstPage === firstPage);
    const [one] = at < 0 ? [] : this.#deferred.splice(at, 1);
    if (one !== undefined) merge(reported, one.bits, firstPage / 32);
  }

  async #getAndClear(reported: Uint32Array): Promise<void> {
    const { manualProtect, clearPages } = this.#workload;
    if (manualProtect === 0) {
      const harvest = await this.#call("harvestDirtyLog", { slot: SLOT, key: null, after: null });
      merge(reported, harvest.bitmap);
      await this.#call("acknowledgeHarvest", { slot: SLOT, id: harvest.id });
      return;
    }
    const { bitmap } = await this.#call("getDirtyLog", { slot: SLOT });
    const own = bitmap.slice();
    giveBack(bitmap);
    merge(reported, own);
    const step = clearPages === 0 ? this.pages : clearPages;
    for (let page = 0; page < this.pages; page += step) {
      const numPages = Math.min(step, this.pages - page);
      const bits = own.slice(page / 8, page / 8 + Math.ceil(numPages / 64) * 8);
      const args = { slot: SLOT, firstPage: BigInt(page), numPages, bitmap: bits };
      if (!defers(this.#strategy)) {
        await this.#call("clearDirtyLog", args);
        continue;
      }
      const { deferred } = await this.#call("deferDirtyLogClear", args);
      if (deferred > 0) this.#deferred.push({ firstPage: page, bits });
    }
  }

  /** As QEMU's reaper: collect every ring, then one reset. */
  async #reap(reported: Uint32Array): Promise<void> {
    for (const id of this.#vcpus) {
      const vcpu = Number(id);
      const { dirtyRing } = await this.#call("describeVcpu", { vcpu });
      if (dirtyRing === null) continue;
      const { dirtyIndex } = dirtyRing;
      for (let from = dirtyRing.harvestIndex; from < dirtyIndex; ) {
        const limit = Math.min(RING_PAGE, dirtyIndex - from);
        const { entries } = await this.#call("readDirtyRing", { vcpu, from, limit });
        for (const { offset } of entries) setBit(reported, Number(offset));
        from += entries.length;
        await this.#call("harvestDirtyRing", { vcpu, upTo: from });
      }
    }
    await this.#call("resetDirtyRings", {});
  }

  /** Ground truth since the last call, as words. */
  async stored(): Promise<Uint32Array> {
    const { bitmap } = await this.#call("shadowTake", { slot: SLOT });
    return wordsOf(bitmap);
  }
}

function isRingFull({ exitReason }: RunResult): boolean {
  return exitReason === "KVM_EXIT_DIRTY_RING_FULL";
}

function gaveUp(results: readonly RunResult[]): Error {
  const failed = results.find(({ errno }) => errno !== null);
  if (failed?.errno != null) {
    return new KvmError(failed.errno, "KVM_RUN", `runs fail again and again: ${failed.exitReason}`);
  }
  return new ServiceError("internal", "the vCPUs never come to the end of their programs");
}

export function wordsOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.slice().buffer);
}

function merge(into: Uint32Array, bytes: Uint8Array, from = 0): void {
  for (const [at, word] of wordsOf(bytes).entries()) {
    into[from + at] = (into[from + at] ?? 0) | word;
  }
}

function setBit(words: Uint32Array, page: number): void {
  words[page >>> 5] = (words[page >>> 5] ?? 0) | (1 << (page & 31));
}
