// Owns: the use cases of snapshots as the HTTP face calls them. HTTP thread.
import { createReadStream } from "node:fs";
import { ServiceError } from "../../base/errors.js";
import type { SnapshotRecord } from "../../store/index.js";
import { cursorOf, readCursor } from "../cursor.js";
import type { Page, SnapshotService, VmResource } from "../services.js";
import type { VmRegistry } from "../vm-registry.js";
import type { Autosnapshots } from "./autosnapshots.js";
import type { SnapshotRestores } from "./restores.js";
import type { SnapshotBook } from "./snapshot-book.js";
import type { SnapshotIo } from "./snapshot-io.js";
import type { SnapshotJobs } from "./snapshot-jobs.js";
import type {
  AutosnapshotResource,
  AutosnapshotSpec,
  MovingAutosnapshots,
  RestoreRequest,
  SnapshotFilter,
  SnapshotRequest,
  SnapshotResource,
} from "./types.js";

interface Deps {
  readonly book: SnapshotBook;
  readonly io: SnapshotIo;
  readonly registry: VmRegistry;
  readonly jobs: SnapshotJobs;
  readonly restores: SnapshotRestores;
  readonly autosnapshots: Autosnapshots;
}

export class Snapshots implements SnapshotService {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** For those who move VMs. */
  get moving(): MovingAutosnapshots {
    return this.#deps.autosnapshots;
  }

  create(vmId: string, request: SnapshotRequest): Promise<SnapshotResource> {
    return this.#deps.jobs.create(vmId, request);
  }

  async get(id: string): Promise<SnapshotResource> {
    return this.#deps.jobs.resourceOf(this.#deps.book.require(id));
  }

  outcome(id: string, waitMs: number): Promise<SnapshotResource> {
    return this.#deps.jobs.outcome(id, waitMs);
  }

  async list({ vmId, limit, cursor }: SnapshotFilter): Promise<Page<SnapshotResource>> {
    const { book, jobs } = this.#deps;
    const after = cursor === null ? 0 : readCursor(cursor);
    const rest = book
      .all()
      .filter(({ record }) => record.seq > after && (vmId === null || record.vmId === vmId));
    const items = rest.slice(0, limit);
    const last = items.at(-1);
    const isLast = rest.length <= limit || last === undefined;
    const nextCursor = isLast ? null : cursorOf(last.record.seq);
    return { items: items.map((entry) => jobs.resourceOf(entry)), nextCursor };
  }

  cancel(id: string): Promise<SnapshotResource> {
    return this.#deps.jobs.cancel(id);
  }

  delete(id: string): Promise<void> {
    return this.#deps.jobs.delete(id);
  }

  async content(id: string) {
    const { book } = this.#deps;
    const { record } = book.require(id);
    if (record.state !== "complete" || record.fileBytes === null) {
      const why = `Snapshot ${id} is ${record.state}: it has no content.`;
      throw new ServiceError("snapshot-incomplete", why, { state: record.state });
    }
    return { bytes: record.fileBytes, stream: createReadStream(book.pathOf(id)) };
  }

  restore(id: string, request: RestoreRequest): Promise<VmResource> {
    return this.#deps.restores.restore(id, request);
  }

  async restoreVm(vmId: string, id: string | null, paused: boolean): Promise<VmResource> {
    const { registry, jobs, restores } = this.#deps;
    registry.require(vmId);
    jobs.refuseBusy(vmId);
    return restores.restoreVm(vmId, id, paused);
  }

  async autosnapshot(vmId: string): Promise<AutosnapshotResource> {
    return this.#deps.autosnapshots.get(vmId);
  }

  setAutosnapshot(vmId: string, spec: AutosnapshotSpec): Promise<AutosnapshotResource> {
    return this.#deps.autosnapshots.set(vmId, spec);
  }

  clearAutosnapshot(vmId: string): Promise<void> {
    return this.#deps.autosnapshots.clear(vmId);
  }

  usage() {
    const { book, jobs } = this.#deps;
    const all = book.all();
    const count = (state: SnapshotRecord["state"]) =>
      all.filter(({ record }) => record.state === state).length;
    const [creating, failed] = [count("creating"), count("failed")];
    const { bytes } = book;
    return { count: all.length, bytes, creating, failed, lastPauseMs: jobs.lastPauseMs };
  }

  /** Ends what goes on; it is recorded as failed. */
  async close(): Promise<void> {
    const { autosnapshots, jobs, io } = this.#deps;
    autosnapshots.close();
    await jobs.close();
    await io.close();
  }
}
