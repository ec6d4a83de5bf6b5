// Owns: the use cases of VMs: define, build, command, end. HTTP thread.
// Changes of one VM wait for each other; its commands never do, so a long run or a big CLEAR holds
// up nothing (DESIGN 1).
import { type Clock, timestamp } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import { newUuid } from "../base/ids.js";
import type { Log } from "../base/log.js";
import {
  type CommandArgs,
  type CommandName,
  type CommandResult,
  type DirtyView,
  decodeInputLog,
  encodeInputLog,
  type InputLog,
  type Runtime,
  type Stamped,
  type VmDefinition,
  type VmHandle,
} from "../runtime/index.js";
import { type Change, EMPTY_SHAPE, type VmRecord } from "../store/index.js";
import { pinBoard } from "./board-images.js";
import { definitionToJson } from "./definition.js";
import { DURABLE } from "./durable.table.js";
import type { EventLog } from "./event-log.js";
import type { Images } from "./image-service.js";
import type { ServiceLimits } from "./limits.js";
import { rebuild } from "./rebuild.js";
import type { Recorder } from "./recorder.js";
import { recordReplayed } from "./replayed.js";
import type { Page, VmFilter, VmResource, VmService, VmSpec, VmState } from "./services.js";
import { Shape } from "./shape.js";
import {
  isBoardStart,
  isSameLabels,
  mergeLabels,
  requireVersion,
  switchOn,
  withDirty,
} from "./vm-changes.js";
import { VmEntry } from "./vm-entry.js";
import { announceNews, diedReason, eventData, firstRecord, STOPPED } from "./vm-history.js";
import type { VmParts } from "./vm-parts.js";
import type { VmRegistry } from "./vm-registry.js";

export interface VmDeps {
  readonly registry: VmRegistry;
  readonly runtime: Runtime;
  readonly recorder: Recorder;
  readonly events: EventLog;
  readonly parts: VmParts;
  readonly images: Images;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: ServiceLimits;
  readonly bootId: string;
}

type RecordChange = Partial<
  Pick<VmRecord, "name" | "labels" | "definition" | "state" | "stateReason" | "starts">
>;

/** A change of a VM's record before it is written. */
export interface PreparedChange {
  readonly changes: readonly Change[];
  /** It is on disk. */
  done(): void;
  /** Nothing of it is. */
  failed(): void;
}

export class Vms implements VmService {
  readonly #deps: VmDeps;
  readonly #creating = new Set<Promise<unknown>>();
  #isDraining = false;

  constructor(deps: VmDeps) {
    this.#deps = deps;
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  drain(): void {
    this.#isDraining = true;
  }

  create(spec: VmSpec): Promise<VmResource | null> {
    const creating = this.#create(spec);
    this.#creating.add(creating);
    const forget = () => this.#creating.delete(creating);
    creating.then(forget, forget);
    return creating;
  }

  async #create(spec: VmSpec): Promise<VmResource | null> {
    this.#refuseWhileDraining();
    const { registry, limits } = this.#deps;
    if (registry.count >= limits.vmRecords) {
      throw new ServiceError("vm-limit", `There are ${limits.vmRecords} VMs: delete some first.`);
    }
    const replay = spec.replay === null || spec.replay === undefined ? null : spec.replay;
    // A log replays only on the definition that it was recorded with.
    const log = replay === null ? null : decodeInputLog(replay);
    const pinned = log === null ? pinBoard(this.#deps.images, spec.board ?? null) : null;
    let entry: VmEntry | null = null;
    let release: (isAdded: boolean) => void = () => {};
    try {
      const own = { ...spec.definition, ...(pinned === null ? {} : { board: pinned.board }) };
      const definition = log?.definition ?? own;
      const uuid = spec.uuid?.toLowerCase() ?? newUuid();
      release = registry.reserve(uuid);
      const handle = await this.build(definition, log);
      if (spec.validateOnly) await handle.close();
      else entry = await this.#register(spec, uuid, definition, handle, log);
    } finally {
      release(entry !== null);
      pinned?.release();
    }
    return entry?.resource ?? null;
  }

  async get(id: string): Promise<VmResource> {
    return this.#deps.registry.require(id).resource;
  }

  async list(filter: VmFilter): Promise<Page<VmResource>> {
    return this.#deps.registry.list(filter);
  }

  counts(): ReadonlyMap<VmState, number> {
    return this.#deps.registry.counts();
  }

  async patch(
    id: string,
    change: { name?: string | null; labels?: Record<string, string | null> },
    ifMatch: number | null,
  ): Promise<VmResource> {
    return this.#change(id, async (entry) => {
      entry.refuseElsewhere();
      requireVersion(entry, ifMatch);
      const { name, labels } = entry.record;
      const merged = mergeLabels(labels, change.labels ?? {});
      const next = { name: change.name === undefined ? name : change.name, labels: merged };
      if (next.name !== name || !isSameLabels(labels, merged)) {
        await this.save(entry, next, "vm.updated");
      }
      return entry.resource;
    });
  }

  async delete(id: string, ifMatch: number | null): Promise<void> {
    await this.#change(id, async (entry) => {
      entry.refuseWhileMoving();
      requireVersion(entry, ifMatch);
      const handle = entry.handle;
      const event = this.#reserve(entry.record, "vm.deleted");
      entry.isDeleted = true;
      try {
        await this.#deps.recorder.commit([
          { kind: "delete-vm", id },
          { kind: "add-events", events: [event.event] },
        ]);
      } catch (error) {
        entry.isDeleted = false;
        event.void();
        // Commands that ended meanwhile took it for deleted and were not recorded.
        await this.#deps.parts.saveAll(entry).catch(() => {});
        throw error;
      }
      event.publish();
      this.#deps.registry.remove(entry);
      entry.handle = null;
      await handle?.close();
      this.#deps.log.info({ vmId: id }, "VM deleted.");
    });
  }

  async start(id: string): Promise<VmResource> {
    this.#refuseWhileDraining();
    return this.#change(id, async (entry) => {
      entry.refuseElsewhere();
      if (entry.handle !== null) {
        if (entry.definition.board !== undefined) entry.refuseIfDebugged();
        await switchOn(entry.definition, entry.handle);
        return entry.resource;
      }
      entry.refuseWhileMoving();
      const handle = await this.build(entry.definition, null);
      try {
        entry.shape.renumber(await rebuild(handle, entry.shape.records()));
        this.adopt(entry, handle);
        const starts = entry.record.starts + 1;
        const parts: Change = { kind: "put-shape", vmId: id, shape: entry.shape.records() };
        const change: RecordChange = { state: "active", stateReason: null, starts };
        await this.save(entry, change, "vm.started", [parts]);
        await switchOn(entry.definition, handle);
      } catch (error) {
        entry.handle = null;
        await handle.close();
        throw error;
      }
      return entry.resource;
    });
  }

  async stop(id: string): Promise<VmResource> {
    return this.#change(id, async (entry) => {
      entry.refuseElsewhere();
      entry.refuseWhileMoving();
      const handle = entry.handle;
      if (handle === null) return entry.resource;
      entry.handle = null;
      await handle.close();
      await this.save(entry, { state: "stopped", stateReason: STOPPED }, "vm.stopped");
      return entry.resource;
    });
  }

  async command<K extends CommandName>(
    id: string,
    name: K,
    args: CommandArgs<K>,
  ): Promise<Stamped<CommandResult<K>>> {
    const entry = this.#deps.registry.require(id);
    if (isBoardStart(name, args)) entry.refuseIfDebugged();
    if (DURABLE[name] !== undefined) entry.refuseWhileMoving();
    const stamped = await entry.requireHandle().call(name, args);
    await this.#deps.parts.record(entry, name, args, stamped.value);
    return stamped;
  }

  async changeDirty(id: string, change: CommandArgs<"changeDirty">): Promise<DirtyView> {
    return this.#change(id, async (entry) => {
      entry.refuseWhileMoving();
      const { value } = await entry.requireHandle().call("changeDirty", change);
      await this.#redefine(entry, value);
      return value;
    });
  }

  onBoardNews(id: string, listener: () => void): () => void {
    const { boardListeners } = this.#deps.registry.require(id);
    boardListeners.add(listener);
    return () => boardListeners.delete(listener);
  }

  async inputLog(id: string): Promise<unknown> {
    const entry = this.#deps.registry.require(id);
    return encodeInputLog(await entry.requireHandle().inputLog());
  }

  /** Ends every thread and records it: the process goes away with a goodbye. */
  async stopAll(): Promise<void> {
    await Promise.allSettled(this.#creating);
    const stopping = this.#deps.registry.all().map((entry) =>
      entry.changes.run(async () => {
        const handle = entry.handle;
        if (handle === null) return;
        entry.handle = null;
        await handle.close();
        // Its record says already where it is.
        if (entry.record.state !== "active") return;
        const reason = `The service was stopped. ${STOPPED}`;
        await this.save(entry, { state: "stopped", stateReason: reason }, "vm.stopped");
      }),
    );
    const ends = await Promise.allSettled(stopping);
    for (const end of ends) {
      if (end.status === "rejected") {
        this.#deps.log.error({ err: end.reason }, "A VM's end was not recorded.");
      }
    }
  }

  /** A thread with the VM of a definition, its board loaded. For sessions that move VMs, too. */
  async build(definition: VmDefinition, log: InputLog | null, leaveRam = false): Promise<VmHandle> {
    const { runtime, images } = this.#deps;
    const handle = await (log === null
      ? runtime.start(definition)
      : runtime.start(definition, log));
    // Draining may have begun meanwhile, and then nobody would end this thread.
    if (this.#isDraining) {
      await handle.close();
      this.#refuseWhileDraining();
    }
    const { board } = definition;
    if (board === undefined || log !== null) return handle;
    try {
      await handle.call("loadBoard", { ...(await images.of(board)), leaveRam });
    } catch (error) {
      await handle.close();
      throw error;
    }
    return handle;
  }

  async #register(
    spec: VmSpec,
    uuid: string,
    definition: VmDefinition,
    handle: VmHandle,
    log: InputLog | null,
  ): Promise<VmEntry> {
    const { registry, recorder, clock, bootId } = this.#deps;
    const of = { seq: registry.nextSeq(), bootId, now: timestamp(clock) };
    const record = firstRecord(spec, uuid, definition, of);
    const entry = new VmEntry(record, definition, new Shape(EMPTY_SHAPE));
    this.adopt(entry, handle, log);
    const event = this.#reserve(record, "vm.created");
    try {
      await recorder.commit([
        { kind: "put-vm", vm: record },
        { kind: "add-events", events: [event.event] },
      ]);
    } catch (error) {
      event.void();
      entry.handle = null;
      entry.isDeleted = true;
      await handle.close();
      throw error;
    }
    registry.add(entry);
    event.publish();
    this.#deps.log.info({ vmId: record.id }, "VM created.");
    return entry;
  }

  /** Makes the handle the VM's own and listens to what its thread tells. */
  adopt(entry: VmEntry, handle: VmHandle, log: InputLog | null = null): void {
    entry.handle = handle;
    handle.onNews((news) => {
      if (entry.handle !== handle) return;
      if (news.kind === "died") {
        if (entry.onDeath === null) this.#died(entry, handle, news.reason);
        else entry.onDeath(news.reason);
      } else if (news.kind === "replay-finished") {
        void this.#replayed(entry, handle, log, news.diverged);
      } else {
        announceNews(this.#deps.events, entry.id, news);
        if (news.kind === "fault-injected") return;
        for (const listener of entry.boardListeners) listener();
      }
    });
  }

  #died(entry: VmEntry, handle: VmHandle, reason: string): void {
    entry.handle = null;
    this.#deps.log.error({ vmId: entry.id, reason }, "A VM's thread died.");
    void entry.changes
      .run(async () => {
        await handle.close();
        if (entry.isDeleted || entry.handle !== null) return;
        const stateReason = diedReason(reason);
        await this.save(entry, { state: "failed", stateReason }, "vm.failed");
      })
      .catch((error: unknown) => {
        this.#deps.log.error({ vmId: entry.id, err: error }, "A VM's death was not recorded.");
      });
  }

  async #replayed(
    entry: VmEntry,
    handle: VmHandle,
    log: InputLog | null,
    diverged: string | null,
  ): Promise<void> {
    try {
      await recordReplayed(entry, handle, log);
      await this.#deps.parts.saveAll(entry);
      const { value } = await handle.call("describeDirty", {});
      await entry.changes.run(() => this.#redefine(entry, value));
      const subject = `vms/${entry.id}`;
      this.#deps.events.announce("vm.replayed", subject, { diverged });
    } catch (error) {
      this.#deps.log.warn({ vmId: entry.id, err: error }, "A replayed VM was not recorded.");
    }
  }

  /** Takes the settings of dirty tracking over into what the VM is made from. */
  async #redefine(entry: VmEntry, view: DirtyView): Promise<void> {
    const definition = withDirty(entry.definition, view);
    if (definition === entry.definition) return;
    // First in memory: a refused record is written again with the next change.
    entry.definition = definition;
    await this.save(entry, { definition: definitionToJson(definition) }, "vm.updated");
  }

  /** Runs a change of a VM when all earlier ones have ended. */
  #change<T>(id: string, step: (entry: VmEntry) => Promise<T>): Promise<T> {
    const entry = this.#deps.registry.require(id);
    return entry.changes.run(() => step(this.#deps.registry.require(id)));
  }

  /** Durable when it resolves. */
  async save(
    entry: VmEntry,
    change: RecordChange,
    eventType: string,
    more: readonly Change[] = [],
  ): Promise<void> {
    const prepared = this.prepare(entry, change, eventType);
    try {
      await this.#deps.recorder.commit([...prepared.changes, ...more]);
    } catch (error) {
      prepared.failed();
      throw error;
    }
    prepared.done();
  }

  /** A change of the record that its caller writes together with others. */
  prepare(entry: VmEntry, change: RecordChange, eventType: string): PreparedChange {
    const record: VmRecord = {
      ...entry.record,
      ...change,
      version: entry.record.version + 1,
      bootId: this.#deps.bootId,
      updatedAt: timestamp(this.#deps.clock),
    };
    const event = this.#reserve(record, eventType);
    return {
      changes: [
        { kind: "put-vm", vm: record },
        { kind: "add-events", events: [event.event] },
      ],
      failed: () => event.void(),
      done: () => {
        entry.record = record;
        event.publish();
      },
    };
  }

  #reserve(record: VmRecord, type: string) {
    return this.#deps.events.reserve(type, `vms/${record.id}`, eventData(record));
  }

  #refuseWhileDraining(): void {
    if (!this.#isDraining) return;
    throw new ServiceError("draining", "The service is ending: it starts no more VMs.");
  }
}
