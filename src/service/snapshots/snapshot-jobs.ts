// Owns: snapshots as jobs: begun, cancelled, recorded, deleted. HTTP thread.
//
//   create ─▶ creating ─▶ complete ─▶ (its file is gone or changed) broken
//                 └─▶ failed | cancelled
import { type Clock, timestamp } from "../../base/clock.js";
import { ServiceError, toRefusal } from "../../base/errors.js";
import { newId } from "../../base/ids.js";
import type { Log } from "../../base/log.js";
import type { VmHandle } from "../../runtime/index.js";
import type { SnapshotRecord } from "../../store/index.js";
import type { EventfdAttachments } from "../eventfd-attachments.js";
import { type ServiceLimits, SNAPSHOT_CHAINS_MAX, SNAPSHOTS_MAX } from "../limits.js";
import type { VmEntry } from "../vm-entry.js";
import type { VmRegistry } from "../vm-registry.js";
import { Capture, type CaptureControl, type Captured, type StateEventfds } from "./capture.js";
import { Chains, consumerOf, movingVm, track, untrack } from "./chains.js";
import { imagesOf, metaEventfds, type SnapshotMeta } from "./meta.js";
import type { Job, SnapshotBook, SnapshotEntry } from "./snapshot-book.js";
import type { SnapshotIo } from "./snapshot-io.js";
import type { SnapshotRequest, SnapshotResource } from "./types.js";

interface Deps {
  readonly book: SnapshotBook;
  readonly io: SnapshotIo;
  readonly registry: VmRegistry;
  readonly attachments: EventfdAttachments;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: ServiceLimits;
}

/** One snapshot under way. */
interface Taking {
  readonly entry: SnapshotEntry;
  readonly vm: VmEntry;
  readonly handle: VmHandle;
  readonly job: Job;
  /** Whether the VM tells of dirty pages meanwhile. */
  readonly isTracked: boolean;
  /** Whether a differential may follow. */
  readonly keepsTracking: boolean;
}

type Blocks = ReadonlyMap<number, number>;

export class SnapshotJobs {
  readonly #deps: Deps;
  readonly #chains = new Chains();
  /** The snapshot that each VM is being taken of. */
  readonly #running = new Map<string, SnapshotEntry>();
  /** Memory objects of tips, by snapshot. */
  readonly #blocks = new Map<string, Blocks>();
  /** Of the newest that is complete. */
  lastPauseMs = 0;
  #isClosing = false;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  async create(
    vmId: string,
    request: SnapshotRequest,
    origin: SnapshotRecord["origin"] = "request",
  ): Promise<SnapshotResource> {
    if (this.#isClosing) throw new ServiceError("draining", "The service is ending.");
    const { book, registry } = this.#deps;
    const vm = registry.require(vmId);
    const handle = vm.requireHandle();
    this.refuseBusy(vmId);
    if (book.all().length >= SNAPSHOTS_MAX) {
      const why = `There are ${SNAPSHOTS_MAX} snapshots: delete some first.`;
      throw new ServiceError("snapshot-limit", why);
    }
    const parent = request.kind === "full" ? null : this.#parentOf(vm, handle, request.parent);
    const job: Job = {
      ...{ phase: "queued", pagesDone: 0, pagesTotal: 0, cancelled: false },
      ended: Promise.resolve(),
    };
    const entry = { record: this.#recordOf(vm, request, parent, origin), job };
    this.#running.set(vmId, entry);
    try {
      const isTracked = parent !== null || (await this.#track(handle, entry, request.track));
      const keepsTracking = isTracked && request.track !== false;
      await this.#add(entry, handle, isTracked && parent === null);
      job.ended = this.#run({ entry, vm, handle, job, isTracked, keepsTracking });
    } catch (error) {
      this.#running.delete(vmId);
      throw error;
    }
    return this.resourceOf(entry);
  }

  async outcome(id: string, waitMs: number): Promise<SnapshotResource> {
    const { book, clock } = this.#deps;
    const entry = book.require(id);
    if (entry.job !== null) {
      let cancel = () => {};
      const timeout = new Promise<void>((resolve) => {
        cancel = clock.timer(waitMs, resolve);
      });
      await Promise.race([entry.job.ended, timeout]);
      cancel();
    }
    const { state, stateReason, problem } = entry.record;
    if (state === "failed") throw new ServiceError(problem ?? "snapshot-file", stateReason ?? "");
    return this.resourceOf(entry);
  }

  async cancel(id: string): Promise<SnapshotResource> {
    const entry = this.#deps.book.require(id);
    if (entry.job !== null) {
      entry.job.cancelled = true;
      await entry.job.ended;
    }
    return this.resourceOf(entry);
  }

  async delete(id: string): Promise<void> {
    const { book, io, registry } = this.#deps;
    const entry = book.require(id);
    await this.cancel(id);
    const children = book.childrenOf(id).map(({ record }) => record.id);
    if (children.length > 0) {
      const why = `Snapshot ${children.join(", ")} needs it: delete that first.`;
      throw new ServiceError("snapshot-in-use", why, { children });
    }
    const { vmId, chainId } = entry.record;
    await book.delete(entry);
    this.#blocks.delete(id);
    await io.remove(book.pathOf(id));
    const handle = registry.has(vmId) ? registry.require(vmId).handle : null;
    if (handle !== null && this.#chains.isTip(handle, chainId, id)) {
      await this.#chains.end(handle, chainId);
    }
  }

  /** Whether the VM is being taken; a differential would wait for it. */
  isBusy(vmId: string): boolean {
    return this.#running.has(vmId);
  }

  /** The newest of a VM's tracked chains, among those that `isWanted` names. */
  tipOf(vm: VmEntry, isWanted: (record: SnapshotRecord) => boolean): SnapshotRecord | null {
    if (vm.handle === null) return null;
    const tips = [...this.#chains.of(vm.handle).values()];
    const records = tips.flatMap((id) => this.#deps.book.find(id)?.record ?? []);
    return (
      records
        .filter(isWanted)
        .sort((a, b) => a.seq - b.seq)
        .at(-1) ?? null
    );
  }

  /** Ends what goes on; it is recorded as failed. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const left = [...this.#running.values()];
    for (const { job } of left) if (job !== null) job.cancelled = true;
    for (const { job } of left) await job?.ended;
  }

  /** @throws ServiceError "snapshot-in-progress" */
  refuseBusy(vmId: string): void {
    const busy = this.#running.get(vmId);
    if (busy === undefined) return;
    const snapshot = `/v1/snapshots/${busy.record.id}`;
    const why = `A snapshot of the VM is being taken: ${snapshot}. Let it end, or cancel it.`;
    throw new ServiceError("snapshot-in-progress", why, { snapshot });
  }

  /** @throws ServiceError "snapshot-parent" */
  #parentOf(vm: VmEntry, handle: VmHandle, asked: string | null): SnapshotRecord {
    if (asked === null) {
      const tip = this.tipOf(vm, () => true);
      if (tip !== null) return tip;
      const why = "No snapshot of this VM is tracked since: take a full one with `track` first.";
      throw new ServiceError("snapshot-parent", why);
    }
    const found = this.#deps.book.find(asked)?.record;
    if (found === undefined || found.vmId !== vm.id) {
      const why = `The VM has no snapshot ${asked}.`;
      throw new ServiceError("snapshot-unknown", why);
    }
    if (this.#chains.isTip(handle, found.chainId, asked)) return found;
    const tip = this.#chains.of(handle).get(found.chainId);
    const why =
      tip === undefined
        ? `Stores are not tracked since snapshot ${asked}: take a full one with \`track\` first.`
        : `Stores are tracked since snapshot ${tip} of its chain: only that one can be the parent.`;
    throw new ServiceError("snapshot-parent", why, { tip: tip ?? null });
  }

  #recordOf(
    vm: VmEntry,
    { name, kind }: SnapshotRequest,
    parent: SnapshotRecord | null,
    origin: SnapshotRecord["origin"],
  ): SnapshotRecord {
    const id = newId("snap");
    return {
      ...{ id, seq: this.#deps.book.nextSeq(), name, kind, origin, version: 1 },
      ...{ state: "creating", stateReason: null, problem: null },
      ...{ vmId: vm.id, vmUuid: vm.record.uuid, vmName: vm.record.name },
      parentId: parent?.id ?? null,
      chainId: parent?.chainId ?? id,
      ...{ memoryBytes: 0, fileBytes: null, sha256: null, pagesStored: 0, pagesZero: 0 },
      ...{ rounds: 0, pauseMs: null, images: imagesOf(vm.definition) },
      createdAt: timestamp(this.#deps.clock),
      finishedAt: null,
    };
  }

  /** @param wanted null: if it can be @returns whether the VM tells of dirty pages */
  async #track(
    handle: VmHandle,
    { record }: SnapshotEntry,
    wanted: boolean | null,
  ): Promise<boolean> {
    const isFull = this.#chains.of(handle).size >= SNAPSHOT_CHAINS_MAX;
    if (isFull && wanted === true) {
      const why = `The VM tracks stores for ${SNAPSHOT_CHAINS_MAX} chains of snapshots already.`;
      throw new ServiceError("snapshot-chains", why);
    }
    if (isFull && wanted === null) return false;
    try {
      await track(handle, record.chainId);
      return true;
    } catch (error) {
      // Without it all of memory is written while the VM is held.
      if (error instanceof ServiceError && error.code !== "vm-gone" && wanted !== true)
        return false;
      throw error;
    }
  }

  async #add(entry: SnapshotEntry, handle: VmHandle, tracksNew: boolean): Promise<void> {
    try {
      await this.#deps.book.add(entry);
    } catch (error) {
      if (tracksNew) await untrack(handle, entry.record.chainId);
      throw error;
    }
  }

  async #run(taking: Taking): Promise<void> {
    const { entry, vm, handle, job } = taking;
    const { book, io, clock } = this.#deps;
    const { id, chainId } = entry.record;
    const capture = new Capture(
      movingVm(handle),
      { io, clock },
      this.#planOf(taking),
      controlOf(job, () => vm.handle === handle),
    );
    try {
      await this.#complete(taking, await capture.run());
    } catch (error) {
      await capture.undo().catch((why: unknown) => {
        this.#deps.log.warn({ snapshot: id, err: why }, "A snapshot was not undone in full.");
      });
      if (taking.isTracked && entry.record.parentId === null) await untrack(handle, chainId);
      await this.#failed(taking, error);
    } finally {
      this.#running.delete(vm.id);
      entry.job = null;
    }
    if (entry.record.state === "complete") book.announce(entry.record, "completed");
  }

  #planOf({ entry, vm, isTracked }: Taking) {
    const { book, limits } = this.#deps;
    const { id, kind, parentId, chainId, createdAt } = entry.record;
    return {
      path: book.pathOf(id),
      limitBytes: Math.max(0, limits.snapshotBytes - book.bytes),
      consumer: isTracked ? consumerOf(chainId) : null,
      parentBlocks: parentId === null ? null : (this.#blocks.get(parentId) ?? new Map()),
      meta: (memory: SnapshotMeta["memory"], eventfds: StateEventfds): SnapshotMeta => ({
        ...{ id, kind, parent: parentId, memory, takenAt: createdAt },
        eventfds: metaEventfds(this.#deps.attachments.named(eventfds)),
        vm: {
          id: vm.id,
          uuid: vm.record.uuid,
          name: vm.record.name,
          labels: vm.record.labels,
          definition: vm.definition,
          shape: vm.shape.records(),
        },
      }),
    };
  }

  async #complete(
    { entry, handle, isTracked, keepsTracking }: Taking,
    captured: Captured,
  ): Promise<void> {
    const { book, clock } = this.#deps;
    const { bytes, sha256, stored, zero, rounds, pauseMs, meta } = captured;
    const { blocks } = meta.memory;
    await book.save(entry, {
      ...{ state: "complete", fileBytes: bytes, sha256, rounds, pauseMs },
      ...{ pagesStored: stored, pagesZero: zero, finishedAt: timestamp(clock) },
      memoryBytes: blocks.reduce((sum, block) => sum + block.bytes, 0),
    });
    this.lastPauseMs = pauseMs;
    const { id, chainId, parentId } = entry.record;
    if (keepsTracking) {
      this.#chains.of(handle).set(chainId, id);
      this.#blocks.set(id, new Map(blocks.map((block) => [block.object, block.bytes])));
      if (parentId !== null) this.#blocks.delete(parentId);
    } else if (isTracked) {
      await this.#chains.end(handle, chainId);
    }
  }

  async #failed({ entry, job }: Taking, error: unknown): Promise<void> {
    const { book, clock, log } = this.#deps;
    const { detail, code, kind } = toRefusal(error);
    const { id } = entry.record;
    if (kind === "bug") log.error({ snapshot: id, err: error }, "A snapshot failed.");
    const isCancelled = job.cancelled && !this.#isClosing && code === CANCELLED;
    const why = this.#isClosing && code === CANCELLED ? "The service ended." : detail;
    const change = {
      state: isCancelled ? ("cancelled" as const) : ("failed" as const),
      stateReason: isCancelled ? "It was cancelled." : (why.split("\n")[0] ?? why),
      problem: isCancelled ? null : code,
      finishedAt: timestamp(clock),
    };
    try {
      await book.save(entry, change);
    } catch (refused) {
      log.error({ snapshot: id, err: refused }, "A snapshot's end was not recorded.");
      // In memory it is over; the next start of the service says so as well.
      entry.record = { ...entry.record, ...change };
    }
    book.announce(entry.record, change.state);
  }

  resourceOf({ record, job }: SnapshotEntry): SnapshotResource {
    const { registry } = this.#deps;
    const { id, chainId, parentId, vmId, pagesStored, pagesZero, seq: _, ...rest } = record;
    const { images: _images, ...shown } = rest;
    const handle = registry.has(vmId) ? registry.require(vmId).handle : null;
    const phase = job?.phase ?? "done";
    const progress = { phase, pagesDone: job?.pagesDone ?? 0, pagesTotal: job?.pagesTotal ?? 0 };
    return {
      ...{ ...shown, id, vmId, parent: parentId, chain: chainId, progress },
      isTracked: this.#chains.isTip(handle, chainId, id),
      pages: { stored: pagesStored, zero: pagesZero },
    };
  }
}

const CANCELLED = "snapshot-cancelled";

function controlOf(job: Job, isAlive: () => boolean): CaptureControl {
  return {
    check: () => {
      if (job.cancelled) throw new ServiceError(CANCELLED, "It was cancelled.");
      if (!isAlive()) throw new ServiceError("vm-gone", "The VM ended meanwhile.");
    },
    phase: (phase) => {
      job.phase = phase;
    },
    total: (pages) => {
      job.pagesTotal = pages;
    },
    done: (pages) => {
      job.pagesDone += pages;
    },
  };
}
