// Owns: an experiment from its spec to its rows: one strategy after the other, each in a VM of its
// own, round by round. HTTP thread.
//
//   create ─ populate ─ enable ─ { store ─ GET ─ CLEAR }* ─ final GET ─ close
import { popcount32 } from "../../base/bits.js";
import type { Clock } from "../../base/clock.js";
import { toRefusal } from "../../base/errors.js";
import type { Runtime } from "../../runtime/index.js";
import { type CostContext, countOf, cyclesOf, DRAINS } from "./cost.js";
import { type CostModel, costModel } from "./cost-model.table.js";
import { type FormulaInput, formulaTerms, type Terms, total } from "./formula.js";
import type { BoardImages } from "./image-load.js";
import { hasPopulate } from "./spec.js";
import { type Measured, type RoundOutcome, StrategyVm, settingsOf } from "./strategy-vm.js";
import type {
  Exits,
  FormulaCheck,
  Phase,
  Progress,
  ResultRow,
  Strategy,
  StrategyResult,
  TrackingSpec,
} from "./types.js";

/** Entries of the array that HACDBS is given: one page of it. */
const ENTRY_BYTES = 8;
/** HDBSS entries of order 0. */
const ENTRIES_OF_ORDER_0 = 512;

export interface RunControl {
  isCancelled(): boolean;
  progress(progress: Progress): void;
  /** Told of the VM that runs now, so that a cancel can end it; null when it is gone. */
  running(vm: { close(): Promise<void> } | null): void;
  /** A strategy came to its end. */
  result(result: StrategyResult): void;
}

interface Deps {
  readonly runtime: Runtime;
  readonly clock: Clock;
  /** The bytes of an image workload; null for others. */
  readonly images: BoardImages | null;
}

/** Rounds, populating, enabling, final look. */
function stepsOf(spec: TrackingSpec): number {
  return spec.workload.rounds + 2 + (hasPopulate(spec.workload) ? 1 : 0);
}

export function totalSteps(spec: TrackingSpec): number {
  return stepsOf(spec) * spec.strategies.length;
}

/** Runs every strategy; a strategy that fails stops no other. */
export async function runExperiment(
  spec: TrackingSpec,
  deps: Deps,
  control: RunControl,
): Promise<void> {
  const steps = stepsOf(spec);
  for (const [at, strategy] of spec.strategies.entries()) {
    if (control.isCancelled()) return;
    const runner = new StrategyRunner(spec, strategy, deps, control, at * steps);
    control.result(await runner.run());
  }
}

class StrategyRunner {
  readonly #spec: TrackingSpec;
  readonly #strategy: Strategy;
  readonly #deps: Deps;
  readonly #control: RunControl;
  readonly #model: CostModel;
  readonly #rows: ResultRow[] = [];
  #done: number;
  #bufferBytes = 0;
  /** An invalidation since the last stores: they miss in the TLB. */
  #invalidated = false;

  constructor(
    spec: TrackingSpec,
    strategy: Strategy,
    deps: Deps,
    control: RunControl,
    done: number,
  ) {
    this.#spec = spec;
    this.#strategy = strategy;
    this.#deps = deps;
    this.#control = control;
    this.#model = costModel(spec.costModel);
    this.#done = done;
  }

  async run(): Promise<StrategyResult> {
    let error: string | null = null;
    try {
      const vm = await StrategyVm.create(this.#spec.workload, this.#strategy, this.#deps);
      this.#control.running(vm);
      try {
        await this.#rounds(vm);
      } finally {
        this.#control.running(null);
        await vm.close();
      }
    } catch (caught) {
      error = toRefusal(caught).detail;
    }
    const isCancelled = this.#control.isCancelled();
    return {
      strategy: this.#strategy,
      state: isCancelled ? "cancelled" : error === null ? "done" : "failed",
      error: isCancelled ? null : error,
      bufferBytes: this.#bufferBytes,
      rows: this.#rows,
    };
  }

  async #rounds(vm: StrategyVm): Promise<void> {
    const { workload } = this.#spec;
    this.#tell();
    if (hasPopulate(workload)) {
      const run = await vm.populate();
      this.#add(vm, "populate", 0, { ...NOTHING, run }, null);
    }
    const ioctl = await vm.enable();
    this.#add(vm, "enable", 0, { ...NOTHING, ioctl }, null);
    for (let round = 1; round <= workload.rounds; round++) {
      if (this.#control.isCancelled()) return;
      const outcome = await vm.round(round);
      this.#add(vm, "round", round, outcome, await vm.stored());
    }
    const outcome = await vm.final();
    this.#add(vm, "final", 0, outcome, await vm.stored());
    this.#bufferBytes = await this.#buffers(vm);
  }

  async #buffers(vm: StrategyVm): Promise<number> {
    const { tracking, ringEntries } = this.#strategy;
    if (tracking === "dirty-ring") return ringEntries * 16 * this.#spec.workload.vcpus;
    return countOf(await vm.counts(), "bytesHdbssBuffers");
  }

  #tell(): void {
    const total = totalSteps(this.#spec);
    this.#control.progress({ done: this.#done, total, strategy: this.#strategy.name });
  }

  #add(
    vm: StrategyVm,
    phase: Phase,
    round: number,
    outcome: RoundOutcome,
    stored: Uint32Array | null,
  ): void {
    const { run, ioctl, reported } = outcome;
    const both = [run.counts, ioctl.counts] as const;
    const count = (...names: readonly string[]) =>
      both.reduce((sum, counts) => sum + countOf(counts, ...names), 0);
    const dirtied = stored === null ? 0 : population(stored);
    const lost = count("lostPages");
    const missing = stored === null ? 0 : difference(stored, reported);
    const context = this.#context(vm, this.#invalidated ? dirtied : 0);
    const cycles = cyclesOf(run.counts, ioctl.counts, context);
    const formula = phase === "round" ? this.#check(vm, round, dirtied, cycles.byEvent) : null;
    this.#rows.push({
      phase,
      round,
      dirtied,
      reported: population(reported),
      falsePositives: count("falsePositives"),
      lost,
      late: Math.max(0, missing - lost),
      exits: exitsOf(count),
      drains: count(...DRAINS),
      drainedEntries: count("hdbssDrainedEntries"),
      fullFaults: count("hdbssFullFaults"),
      batches: count("hacdbsBatches"),
      fallbacks: count("clearFallbacksEperm", "clearFallbacksEnomem", "clearFallbacksEagain"),
      tlbis: count("tlbiVmid", "tlbiRange"),
      splits: count("s2Splits"),
      pagesProtected: count("pagesProtected"),
      runErrors: outcome.runErrors,
      cycles,
      formula,
      runMs: run.ms,
      ioctlMs: ioctl.ms,
    });
    this.#invalidated = countOf(ioctl.counts, "tlbiVmid", "tlbiRange") > 0;
    this.#done += 1;
    this.#tell();
  }

  #settings(): Readonly<Record<string, string | number | boolean>> {
    return settingsOf(this.#strategy);
  }

  #context(vm: StrategyVm, refills: number): CostContext {
    const { vcpus, hostCpus } = this.#spec.workload;
    const settings = this.#settings();
    return {
      model: this.#model,
      vcpus,
      hostCpus: hostCpus === 0 ? vcpus : hostCpus,
      words: Math.ceil(vm.pages / 64),
      refills,
      completion: String(settings["hacdbs.completion"] ?? "poll-quantum"),
      quantumUs: Number(settings["hacdbs.quantumUs"] ?? 10),
    };
  }

  /** The formula beside the same events as counted. */
  #check(vm: StrategyVm, round: number, pages: number, byEvent: Terms): FormulaCheck | null {
    const { tracking, clean, hdbssOrder } = this.#strategy;
    const { workload } = this.#spec;
    // The formulas know a pattern's stores.
    if (tracking === "dirty-ring" || workload.kind === "image") return null;
    const settings = this.#settings();
    const dbm = settings["hdbss.dbm"] ?? "on-write-fault-while-logging";
    const { pollQuantum, hacdbsPerEntry } = this.#model;
    const arrayEntries = workload.pageSize / ENTRY_BYTES;
    const busy = Math.min(pages, arrayEntries) * hacdbsPerEntry;
    const quantum = (pollQuantum * Number(settings["hacdbs.quantumUs"] ?? 10)) / 10;
    const isPolled = (settings["hacdbs.completion"] ?? "poll-quantum") === "poll-quantum";
    const input: FormulaInput = {
      model: this.#model,
      tracking,
      clean,
      pages,
      vcpus: workload.vcpus,
      hostCpus: workload.hostCpus === 0 ? workload.vcpus : workload.hostCpus,
      entries: ENTRIES_OF_ORDER_0 * 2 ** hdbssOrder,
      arrayEntries,
      slotPages: vm.pages,
      completion: isPolled ? Math.ceil(busy / quantum) * quantum - busy : 0,
      faultsFirst: tracking === "hdbss" && round === 1 && dbm === "on-write-fault-while-logging",
      running: false,
    };
    const terms = formulaTerms(input);
    const keys = Object.keys(terms) as (keyof Terms)[];
    const counted = keys.reduce((sum, key) => sum + (byEvent[key] ?? 0), 0);
    return { expected: total(terms), counted };
  }
}

const EMPTY: Measured = { counts: {}, ms: 0 };
const NOTHING: RoundOutcome = {
  run: EMPTY,
  ioctl: EMPTY,
  reported: new Uint32Array(0),
  runErrors: 0,
};

function exitsOf(count: (...names: readonly string[]) => number): Exits {
  const named = {
    mapFault: count("s2MapFaults"),
    writeFault: count("s2WriteFaults"),
    hdbssFull: count("hdbssFullFaults"),
    ringFull: count("dirtyRingExits"),
    kick: count("signalExits"),
  };
  // A full ring and a kick are seen before the guest is entered: KVM counts no exit for them.
  const told = named.mapFault + named.writeFault + named.hdbssFull;
  return { ...named, other: Math.max(0, count("exits") - told) };
}

function population(words: Uint32Array): number {
  return words.reduce((sum, word) => sum + popcount32(word), 0);
}

/** Bits of `a` that `b` lacks. */
function difference(a: Uint32Array, b: Uint32Array): number {
  return a.reduce((sum, word, at) => sum + popcount32((word & ~(b[at] ?? 0)) >>> 0), 0);
}
