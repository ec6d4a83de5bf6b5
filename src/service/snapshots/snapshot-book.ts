// Owns: the records of snapshots in memory and in the store, their order and what they refer to.
// HTTP thread.
import { join } from "node:path";
import { type Clock, timestamp } from "../../base/clock.js";
import { ServiceError } from "../../base/errors.js";
import type { Change, SnapshotRecord, Store } from "../../store/index.js";
import type { EventLog } from "../event-log.js";
import { SNAPSHOT_FAILURES_KEPT } from "../limits.js";
import type { Recorder } from "../recorder.js";
import { sweepFolder } from "./snapshot-io.js";
import type { SnapshotPhase } from "./types.js";

export interface Job {
  phase: SnapshotPhase;
  pagesDone: number;
  pagesTotal: number;
  cancelled: boolean;
  /** Resolves when nothing of it goes on. */
  ended: Promise<void>;
}

export interface SnapshotEntry {
  record: SnapshotRecord;
  /** null: it is over. */
  job: Job | null;
}

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly events: EventLog;
  readonly clock: Clock;
}

const EXTENSION = ".tmsnap";
const CUT = "The service ended before it was complete.";

type SnapshotChange = Partial<Omit<SnapshotRecord, "id" | "seq" | "version" | "createdAt">>;

export class SnapshotBook {
  readonly #deps: Deps;
  readonly #byId = new Map<string, SnapshotEntry>();
  #nextSeq = 1;

  private constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Reads the records; files without one go, records without their file are broken. */
  static async open(deps: Deps): Promise<SnapshotBook> {
    const book = new SnapshotBook(deps);
    for (const record of await deps.store.loadSnapshots()) {
      book.#byId.set(record.id, { record, job: null });
      book.#nextSeq = record.seq + 1;
    }
    await book.#reconcile();
    return book;
  }

  nextSeq(): number {
    return this.#nextSeq++;
  }

  pathOf(id: string): string {
    return join(this.#deps.store.snapshotFolder, `${id}${EXTENSION}`);
  }

  all(): readonly SnapshotEntry[] {
    return [...this.#byId.values()];
  }

  find(id: string): SnapshotEntry | undefined {
    return this.#byId.get(id);
  }

  /** @throws ServiceError "snapshot-not-found" */
  require(id: string): SnapshotEntry {
    const entry = this.#byId.get(id);
    if (entry !== undefined) return entry;
    throw new ServiceError("snapshot-not-found", `There is no snapshot ${id}.`);
  }

  /** The newest of a VM that it can be restored from. */
  newestOf(vmId: string): SnapshotRecord | null {
    const own = this.all().filter(({ record }) => record.vmId === vmId);
    return own.findLast(({ record }) => record.state === "complete")?.record ?? null;
  }

  /** How a VM that is lost can be brought back, as a sentence; null: it can't. */
  wayBack(vmId: string): string | null {
    const newest = this.newestOf(vmId);
    if (newest === null) return null;
    const how = `POST /v1/vms/${vmId}:restore goes on from there`;
    return `Snapshot ${newest.id} has it as of ${newest.createdAt}: ${how}.`;
  }

  childrenOf(id: string): readonly SnapshotEntry[] {
    return this.all().filter(({ record: { parentId, state } }) => {
      return parentId === id && state !== "failed" && state !== "cancelled";
    });
  }

  /**
   * From the full one to this.
   * @throws ServiceError "snapshot-incomplete", "snapshot-broken"
   */
  chainOf(id: string): readonly SnapshotRecord[] {
    const chain: SnapshotRecord[] = [];
    for (let at: string | null = id; at !== null; ) {
      const { record }: SnapshotEntry = this.require(at);
      if (record.state === "broken") {
        const why = `Snapshot ${record.id} is broken: ${record.stateReason ?? ""}`;
        throw new ServiceError("snapshot-broken", why);
      }
      if (record.state !== "complete") {
        const why = `Snapshot ${record.id} is ${record.state}: only a complete one can be used.`;
        throw new ServiceError("snapshot-incomplete", why, { state: record.state });
      }
      chain.unshift(record);
      at = record.parentId;
    }
    return chain;
  }

  /** Bytes of all files. */
  get bytes(): number {
    return this.all().reduce((sum, { record }) => sum + (record.fileBytes ?? 0), 0);
  }

  /** Durable when it resolves; the oldest failed ones give way. */
  async add(entry: SnapshotEntry): Promise<void> {
    const failed = this.all().filter(({ record: { state } }) => {
      return state === "failed" || state === "cancelled";
    });
    const old = failed.slice(0, Math.max(0, failed.length - SNAPSHOT_FAILURES_KEPT));
    await this.#deps.recorder.commit([
      { kind: "put-snapshot", snapshot: entry.record },
      ...old.map(({ record: { id } }): Change => ({ kind: "delete-snapshot", id })),
    ]);
    for (const { record } of old) this.#byId.delete(record.id);
    this.#byId.set(entry.record.id, entry);
    this.announce(entry.record, "created");
  }

  /** Durable when it resolves. */
  async save(entry: SnapshotEntry, change: SnapshotChange): Promise<void> {
    const record = { ...entry.record, ...change, version: entry.record.version + 1 };
    await this.#deps.recorder.commit([{ kind: "put-snapshot", snapshot: record }]);
    entry.record = record;
  }

  async delete(entry: SnapshotEntry): Promise<void> {
    const { id } = entry.record;
    await this.#deps.recorder.commit([{ kind: "delete-snapshot", id }]);
    this.#byId.delete(id);
    this.announce(entry.record, "deleted");
  }

  announce(record: SnapshotRecord, what: string): void {
    const { id, name, kind, state, stateReason, vmId, parentId, fileBytes, pauseMs } = record;
    const data = { name, kind, state, stateReason, vmId, parent: parentId, fileBytes, pauseMs };
    this.#deps.events.announce(`snapshot.${what}`, `snapshots/${id}`, data);
  }

  async #reconcile(): Promise<void> {
    const whole = this.all().filter(({ record }) => record.state === "complete");
    const names = whole.map(({ record }) => `${record.id}${EXTENSION}`);
    const sizes = await sweepFolder(this.#deps.store.snapshotFolder, names);
    const finishedAt = timestamp(this.#deps.clock);
    for (const entry of this.all()) {
      const { id, state, parentId, fileBytes } = entry.record;
      const size = sizes.get(`${id}${EXTENSION}`) ?? null;
      const parent = parentId === null ? undefined : this.#byId.get(parentId)?.record;
      if (state === "creating") {
        await this.save(entry, { state: "failed", stateReason: CUT, finishedAt });
      } else if (state === "complete" && size !== fileBytes) {
        const how = size === null ? "is missing" : `has ${size} bytes, not ${fileBytes}`;
        const stateReason = `Its file ${how}.`;
        await this.save(entry, { state: "broken", stateReason });
      } else if (state === "complete" && parentId !== null && parent?.state !== "complete") {
        const stateReason = `Snapshot ${parentId}, which it follows, can't be used.`;
        await this.save(entry, { state: "broken", stateReason });
      }
    }
  }
}
