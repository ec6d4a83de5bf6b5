// Owns: the VM of one strategy, driven as any client drives one: by commands. HTTP thread.
import { assert } from "../../base/assert.js";
import type { Clock } from "../../base/clock.js";
import { ServiceError } from "../../base/errors.js";
import { parseU64 } from "../../base/hex.js";
import { giveBack } from "../../base/lent-bytes.js";
import type { Runtime, VmDefinition, VmHandle } from "../../runtime/index.js";
import { addCounts, type Counts, countsBetween } from "./cost.js";
import { type BoardImages, boardOf, ImageLoad } from "./image-load.js";
import { type Call, type Load, SLOT } from "./load.js";
import { slotBytes } from "./spec.js";
import { SyntheticLoad } from "./synthetic-load.js";
import type { Strategy, Workload } from "./types.js";

const CAP = {
  manualProtect: 168,
  ring: 223,
  splitChunk: 228,
  hdbss: 502,
} as const;
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
    seed: parseU64(workload.seed) ?? 1n,
    // Between two rounds every vCPU stands still: a jump would end the wait of a deferred CLEAR.
    clock: { mode: "virtual", nsPerInstruction: 1, idle: defers(strategy) ? "paced" : "jump" },
    dirtyTracking: strategy.tracking === "dbm" ? "dbm" : "write-protect",
    dirty: { settings: settingsOf(strategy), seedBugs: strategy.seedBugs },
    ...(workload.kind === "image" ? { board: boardOf(workload) } : {}),
  };
}

/** @param images the bytes of an image workload */
function loadOf(workload: Workload, call: Call, images: BoardImages | null): Load {
  if (workload.kind === "synthetic") return new SyntheticLoad(call, workload);
  assert(images !== null, "an image workload comes with its images");
  return new ImageLoad(call, workload, images);
}

interface Deps {
  readonly runtime: Runtime;
  readonly clock: Clock;
  /** Of an image workload. */
  readonly images: BoardImages | null;
}

/** A deferred CLEAR that no vCPU has told the end of. */
interface DeferredClear {
  readonly firstPage: number;
  readonly bits: Uint8Array;
}

export class StrategyVm {
  readonly #deferred: DeferredClear[] = [];
  readonly #handle: VmHandle;
  readonly #call: Call;
  readonly #load: Load;
  readonly #workload: Workload;
  readonly #strategy: Strategy;
  readonly #clock: Clock;
  readonly pages: number;

  private constructor(handle: VmHandle, workload: Workload, strategy: Strategy, deps: Deps) {
    this.#handle = handle;
    this.#workload = workload;
    this.#strategy = strategy;
    this.#clock = deps.clock;
    this.#call = async (name, args) => (await handle.call(name, args)).value;
    this.#load = loadOf(workload, this.#call, deps.images);
    this.pages = slotBytes(workload) / workload.pageSize;
  }

  /** @throws KvmError, ServiceError as the VM's creation and its set-up */
  static async create(workload: Workload, strategy: Strategy, deps: Deps): Promise<StrategyVm> {
    const handle = await deps.runtime.start(definitionOf(workload, strategy));
    const vm = new StrategyVm(handle, workload, strategy, deps);
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

  #enable(cap: number, ...args: readonly bigint[]): Promise<null> {
    return this.#call("enableCap", { cap, flags: 0, args });
  }

  async #setUp(): Promise<void> {
    const { manualProtect, splitChunk } = this.#workload;
    const chunk = this.#strategy.splitChunk ?? splitChunk;
    if (manualProtect !== 0) await this.#enable(CAP.manualProtect, BigInt(manualProtect));
    if (this.#hasRing) {
      await this.#enable(CAP.ring, BigInt(this.#strategy.ringEntries * RING_ENTRY_BYTES));
    }
    if (chunk !== 0) await this.#enable(CAP.splitChunk, BigInt(chunk));
    await this.#load.build();
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

  /** What the guest does before logging. */
  async populate(): Promise<Measured> {
    const measured = nothing();
    await this.#load.begin(0);
    await this.#measure(measured, () => this.#load.run());
    return measured;
  }

  /** HDBSS as a VMM turns it on when migration begins, then KVM_MEM_LOG_DIRTY_PAGES. */
  async enable(): Promise<Measured> {
    const measured = nothing();
    await this.#call("shadowStart", {});
    await this.#measure(measured, async () => {
      const args = this.#hdbssArgs();
      if (args !== null) await this.#enable(CAP.hdbss, ...args);
      await this.#load.startLogging();
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

  /** One round: the guest runs, then userspace reads the log and clears it. */
  async round(round: number): Promise<RoundOutcome> {
    const run = nothing();
    const ioctl = nothing();
    const reported = this.#noPages();
    await this.#load.begin(round);
    const runErrors = await this.#runAll(run, ioctl, reported);
    return this.#told({ run, ioctl, reported, runErrors });
  }

  /** The last look, with nobody storing: what deferred work left is told here. */
  final(): Promise<RoundOutcome> {
    const outcome = { run: nothing(), ioctl: nothing(), reported: this.#noPages(), runErrors: 0 };
    return this.#told(outcome);
  }

  #noPages(): Uint32Array {
    return new Uint32Array(Math.ceil(this.pages / 64) * 2);
  }

  async #told(outcome: RoundOutcome): Promise<RoundOutcome> {
    const { run, ioctl, reported } = outcome;
    // vCPUs would be in KVM_RUN all the same, and tell of CLEARs that ended.
    if (this.#deferred.length > 0) {
      await this.#load.enter();
      await this.#runAll(run, ioctl, reported);
    }
    await this.#measure(ioctl, () =>
      this.#hasRing ? this.#reap(reported) : this.#getAndClear(reported),
    );
    return outcome;
  }

  /** Runs to the end of a round, emptying rings as they fill. @returns failed runs */
  async #runAll(run: Measured, ioctl: Measured, reported: Uint32Array): Promise<number> {
    let errors = 0;
    for (let entries = 0; ; entries++) {
      const stretch = await this.#measure(run, () => this.#load.run());
      errors += stretch.errors;
      if (errors > RUN_ERRORS_MAX || entries > ENTRIES_MAX) throw stretch.error ?? neverEnds();
      for (const firstPage of stretch.cleaned) this.#copyCleaned(firstPage, reported);
      if (this.#hasRing && stretch.ringFull) {
        await this.#measure(ioctl, () => this.#reap(reported));
      }
      if (stretch.isOver) return errors;
    }
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
    for (let vcpu = 0; vcpu < this.#workload.vcpus; vcpu++) {
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

function neverEnds(): Error {
  return new ServiceError("internal", "the vCPUs never come to the end of their programs");
}

function wordsOf(bytes: Uint8Array): Uint32Array {
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
