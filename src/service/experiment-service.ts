// Owns: experiments as jobs: queued, run one at a time, told of, kept. HTTP thread.
//
//   create ─▶ queued ─▶ running ─▶ done | failed        cancel, delete: from anywhere
//                          └─ the service ends ─▶ lost
import { type Clock, timestamp } from "../base/clock.js";
import { ServiceError, toRefusal } from "../base/errors.js";
import { newId } from "../base/ids.js";
import type { Log } from "../base/log.js";
import type { ImageRef, Runtime } from "../runtime/index.js";
import type { Change, ExperimentRecord, JsonObject, Store } from "../store/index.js";
import { cursorOf, readCursor } from "./cursor.js";
import type { EventLog } from "./event-log.js";
import { COST_KEYS, COST_MODEL, costModel } from "./experiments/cost-model.table.js";
import { boardOf } from "./experiments/image-load.js";
import { interruptSteps, runInterrupts } from "./experiments/interrupts/runner.js";
import { completeInterrupts } from "./experiments/interrupts/spec.js";
import { runExperiment, totalSteps } from "./experiments/runner.js";
import { completeSpec } from "./experiments/spec.js";
import {
  type ExperimentRequest,
  type ExperimentResource,
  type ExperimentResults,
  type ExperimentSpec,
  type InterruptResult,
  isInterrupts,
  type StrategyResult,
} from "./experiments/types.js";
import type { Images } from "./image-service.js";
import { EXPERIMENTS_KEPT, EXPERIMENTS_QUEUED_MAX } from "./limits.js";
import type { Recorder } from "./recorder.js";
import type { CostModelRow, ExperimentService, Page } from "./services.js";

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly runtime: Runtime;
  readonly events: EventLog;
  readonly images: Images;
  readonly clock: Clock;
  readonly log: Log;
}

interface Entry {
  record: ExperimentRecord;
  strategy: string | null;
  /** Of a queued or running one. */
  results: (StrategyResult | InterruptResult)[];
  cancelled: boolean;
  /** The VM that runs now. */
  vm: { close(): Promise<void> } | null;
  /** Resolves when nothing of it goes on. */
  ended: Promise<void>;
  /** Lets its image go. */
  release: () => void;
}

type RecordChange = Partial<
  Pick<ExperimentRecord, "state" | "stateReason" | "done" | "startedAt" | "finishedAt">
>;

const LOST = "The service ended before it was done; run it again.";

function isOver({ record: { state } }: Entry): boolean {
  return state !== "queued" && state !== "running";
}

export class Experiments implements ExperimentService {
  readonly #deps: Deps;
  readonly #byId = new Map<string, Entry>();
  #last: Promise<void> = Promise.resolve();
  #nextSeq = 1;
  #isClosing = false;

  private constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Reads the records; what the last life left unfinished is lost. */
  static async open(deps: Deps): Promise<Experiments> {
    const experiments = new Experiments(deps);
    for (const record of await deps.store.loadExperiments()) {
      const entry = newEntry(record);
      experiments.#byId.set(record.id, entry);
      experiments.#nextSeq = record.seq + 1;
      if (!isOver(entry)) {
        const finishedAt = timestamp(deps.clock);
        await experiments.#save(entry, { state: "lost", stateReason: LOST, finishedAt });
      }
    }
    return experiments;
  }

  costModel(): readonly CostModelRow[] {
    return COST_KEYS.map((key) => ({ key, ...COST_MODEL[key] }));
  }

  async create(request: ExperimentRequest): Promise<ExperimentResource> {
    if (this.#isClosing) throw new ServiceError("draining", "The service is ending.");
    const held = new HeldImages(this.#deps.images);
    try {
      const spec = isInterrupts(request)
        ? completeInterrupts(request)
        : completeSpec(request, (name) => held.hold(name));
      return await this.#queue(spec, () => held.release());
    } catch (error) {
      held.release();
      throw error;
    }
  }

  async #queue(spec: ExperimentSpec, release: () => void): Promise<ExperimentResource> {
    const waiting = [...this.#byId.values()].filter((entry) => !isOver(entry));
    if (waiting.length >= EXPERIMENTS_QUEUED_MAX) {
      const why = `${waiting.length} experiments wait already: let one end, or cancel it.`;
      throw new ServiceError("experiment-limit", why);
    }
    const entry = newEntry({
      id: newId("exp"),
      seq: this.#nextSeq++,
      name: spec.name,
      state: "queued",
      stateReason: null,
      spec: spec as unknown as JsonObject,
      version: 1,
      done: 0,
      total: isInterrupts(spec) ? interruptSteps(spec) : totalSteps(spec),
      createdAt: timestamp(this.#deps.clock),
      startedAt: null,
      finishedAt: null,
    });
    entry.release = release;
    const oldest = this.#surplus();
    await this.#deps.recorder.commit([
      { kind: "put-experiment", experiment: entry.record },
      ...oldest.map(({ record }): Change => ({ kind: "delete-experiment", id: record.id })),
    ]);
    for (const { record } of oldest) this.#byId.delete(record.id);
    this.#byId.set(entry.record.id, entry);
    this.#announce(entry, "created");
    entry.ended = this.#last.then(() => this.#run(entry, spec));
    this.#last = entry.ended;
    return resourceOf(entry);
  }

  /** Finished ones beyond what is kept, oldest first. */
  #surplus(): readonly Entry[] {
    const over = [...this.#byId.values()].filter(isOver);
    return over.slice(0, Math.max(0, this.#byId.size + 1 - EXPERIMENTS_KEPT));
  }

  async get(id: string): Promise<ExperimentResource> {
    return resourceOf(this.#require(id));
  }

  async list(limit: number, cursor: string | null): Promise<Page<ExperimentResource>> {
    const after = cursor === null ? 0 : readCursor(cursor);
    const rest = [...this.#byId.values()].filter(({ record }) => record.seq > after);
    const items = rest.slice(0, limit);
    const last = items.at(-1);
    const isLast = rest.length <= limit || last === undefined;
    return {
      items: items.map(resourceOf),
      nextCursor: isLast ? null : cursorOf(last.record.seq),
    };
  }

  async results(id: string): Promise<ExperimentResults> {
    const entry = this.#require(id);
    if (!isOver(entry)) return resultsOf(entry);
    const document = await this.#deps.store.readExperimentResult(id);
    if (document === null) {
      throw new ServiceError("experiment-no-results", `Experiment ${id} ended without results.`);
    }
    return JSON.parse(document) as ExperimentResults;
  }

  async cancel(id: string): Promise<ExperimentResource> {
    const entry = this.#require(id);
    if (!isOver(entry)) {
      entry.cancelled = true;
      await entry.vm?.close();
      // A queued one waits for others; nothing of it goes on, and it must not wait to say so.
      if (entry.record.state === "queued") await this.#finish(entry);
      else await entry.ended;
    }
    return resourceOf(entry);
  }

  async delete(id: string): Promise<void> {
    const entry = this.#require(id);
    await this.cancel(id);
    await this.#deps.recorder.commit([{ kind: "delete-experiment", id }]);
    this.#byId.delete(id);
    this.#announce(entry, "deleted");
  }

  /** Ends what runs; it is recorded as lost. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const left = [...this.#byId.values()].filter((entry) => !isOver(entry));
    for (const entry of left) entry.cancelled = true;
    for (const entry of left) await entry.vm?.close();
    await this.#last;
  }

  #require(id: string): Entry {
    const entry = this.#byId.get(id);
    if (entry !== undefined) return entry;
    throw new ServiceError("experiment-not-found", `There is no experiment ${id}.`);
  }

  async #run(entry: Entry, spec: ExperimentSpec): Promise<void> {
    const { clock, log } = this.#deps;
    if (isOver(entry)) return;
    let error: string | null = null;
    try {
      if (!entry.cancelled) {
        await this.#save(entry, { state: "running", startedAt: timestamp(clock) });
        this.#announce(entry, "started");
      }
      await this.#carryOut(entry, spec);
    } catch (caught) {
      error = toRefusal(caught).detail;
      log.error({ experiment: entry.record.id, err: caught }, "An experiment failed.");
    }
    try {
      await this.#finish(entry, error);
    } catch (caught) {
      log.error({ experiment: entry.record.id, err: caught }, "An experiment was not recorded.");
    }
  }

  async #carryOut(entry: Entry, spec: ExperimentSpec): Promise<void> {
    const { runtime, clock, images } = this.#deps;
    if (isInterrupts(spec)) return runInterrupts(spec, { runtime, clock }, controlOf(entry));
    const { workload } = spec;
    const bytes = workload.kind === "image" ? await images.of(boardOf(workload)) : null;
    await runExperiment(spec, { runtime, clock, images: bytes }, controlOf(entry));
  }

  async #finish(entry: Entry, error: string | null = null): Promise<void> {
    if (isOver(entry)) return;
    entry.release();
    const failed = entry.results.filter(({ state }) => state === "failed");
    const change: RecordChange = {
      ...this.#end(entry, error, failed.length),
      done: entry.record.done,
      finishedAt: timestamp(this.#deps.clock),
    };
    const { state, stateReason } = change;
    const document = JSON.stringify({ ...resultsOf(entry), state });
    const { id } = entry.record;
    await this.#save(entry, change, [{ kind: "put-experiment-result", id, document }]);
    entry.results = [];
    this.#announce(entry, "finished", { stateReason: stateReason ?? null });
  }

  #end(entry: Entry, error: string | null, failed: number): RecordChange {
    if (entry.cancelled && this.#isClosing) return { state: "lost", stateReason: LOST };
    if (entry.cancelled) return { state: "cancelled", stateReason: "It was cancelled." };
    if (error !== null) return { state: "failed", stateReason: error };
    if (failed === 0) return { state: "done", stateReason: null };
    const all = failed === entry.results.length;
    const stateReason = `${failed} of ${entry.results.length} strategies failed; see their errors.`;
    return { state: all ? "failed" : "done", stateReason };
  }

  async #save(entry: Entry, change: RecordChange, more: readonly Change[] = []): Promise<void> {
    const record = { ...entry.record, ...change, version: entry.record.version + 1 };
    await this.#deps.recorder.commit([{ kind: "put-experiment", experiment: record }, ...more]);
    entry.record = record;
  }

  #announce(entry: Entry, what: string, data: Readonly<Record<string, unknown>> = {}): void {
    const { id, name, state } = entry.record;
    this.#deps.events.announce(`experiment.${what}`, `experiments/${id}`, { name, state, ...data });
  }
}

function newEntry(record: ExperimentRecord): Entry {
  const idle = { strategy: null, results: [], cancelled: false, vm: null };
  return { record, ...idle, ended: Promise.resolve(), release: () => {} };
}

/** The images that an experiment refers to, from its creation to its end. */
class HeldImages {
  readonly #images: Images;
  readonly #releases: (() => void)[] = [];

  constructor(images: Images) {
    this.#images = images;
  }

  /** @throws ServiceError "image-unknown" */
  hold(name: string): ImageRef {
    const { ref, release } = this.#images.pin(name);
    this.#releases.push(release);
    return ref;
  }

  release(): void {
    for (const release of this.#releases.splice(0)) release();
  }
}

function controlOf(
  entry: Entry,
): Parameters<typeof runExperiment>[2] & Parameters<typeof runInterrupts>[2] {
  return {
    isCancelled: () => entry.cancelled,
    // Each round's progress is told, and kept with the next change: a crash loses it all anyway.
    progress: ({ done, strategy }) => {
      entry.record = { ...entry.record, done };
      entry.strategy = strategy;
    },
    running: (vm) => {
      entry.vm = vm;
      // It was being built while the cancel came.
      if (entry.cancelled) void vm?.close();
    },
    result: (result: StrategyResult | InterruptResult) => void entry.results.push(result),
  };
}

/** Records of older versions know no kind. */
function specOf({ record }: Entry): ExperimentSpec {
  const spec = record.spec as unknown as ExperimentSpec;
  if (isInterrupts(spec)) return spec;
  const { workload } = spec;
  if (workload.kind === "image") return spec;
  return { ...spec, workload: { ...workload, kind: "synthetic" } };
}

function resourceOf(entry: Entry): ExperimentResource {
  const { id, name, state, stateReason, version, done, total } = entry.record;
  const { createdAt, startedAt, finishedAt } = entry.record;
  const progress = { done, total, strategy: isOver(entry) ? null : entry.strategy };
  const times = { createdAt, startedAt, finishedAt };
  return { id, name, state, stateReason, progress, spec: specOf(entry), version, ...times };
}

function resultsOf(entry: Entry): ExperimentResults {
  const { id, name, state } = entry.record;
  const { workload, costModel: overrides } = specOf(entry);
  const model = costModel(overrides);
  const strategies = entry.results;
  return { id, name, state, workload, costModel: model, strategies } as ExperimentResults;
}
