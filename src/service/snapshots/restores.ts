// Owns: snapshots becoming VMs: a new one, or the same one as it was. HTTP thread.
import { type Clock, timestamp } from "../../base/clock.js";
import { ServiceError } from "../../base/errors.js";
import { newUuid } from "../../base/ids.js";
import { definitionToJson } from "../definition.js";
import type { EventLog } from "../event-log.js";
import type { EventfdAttachments } from "../eventfd-attachments.js";
import type { ServiceLimits } from "../limits.js";
import type { Recorder } from "../recorder.js";
import type { VmResource, VmSpec } from "../services.js";
import { Shape } from "../shape.js";
import { VmEntry } from "../vm-entry.js";
import { firstRecord } from "../vm-history.js";
import type { VmParts } from "../vm-parts.js";
import type { VmRegistry } from "../vm-registry.js";
import type { Vms } from "../vm-service.js";
import { movingVm } from "./chains.js";
import { movedOf } from "./meta.js";
import { type RestoreDeps, type Restored, restoreChain, WHY_HELD } from "./restore.js";
import type { SnapshotBook } from "./snapshot-book.js";
import type { SnapshotIo } from "./snapshot-io.js";
import type { RestoreRequest } from "./types.js";

interface Deps {
  readonly book: SnapshotBook;
  readonly io: SnapshotIo;
  readonly registry: VmRegistry;
  readonly vms: Vms;
  readonly parts: VmParts;
  readonly recorder: Recorder;
  readonly events: EventLog;
  readonly attachments: EventfdAttachments;
  readonly clock: Clock;
  readonly limits: ServiceLimits;
  readonly bootId: string;
}

export class SnapshotRestores {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  async restore(id: string, { name, uuid, paused }: RestoreRequest): Promise<VmResource> {
    const { book, registry, limits } = this.#deps;
    const record = book.chainOf(book.require(id).record.id).at(-1);
    if (registry.count >= limits.vmRecords) {
      throw new ServiceError("vm-limit", `There are ${limits.vmRecords} VMs: delete some first.`);
    }
    const reserved = this.#reserve(uuid, record?.vmUuid ?? newUuid());
    let entry: VmEntry | null = null;
    try {
      const restored = await this.#build(id, paused, false);
      entry = await this.#register(restored, name ?? restored.meta.vm.name, reserved.uuid, id);
    } finally {
      reserved.release(entry !== null);
    }
    return entry.resource;
  }

  async restoreVm(vmId: string, asked: string | null, paused: boolean): Promise<VmResource> {
    const { book, registry } = this.#deps;
    const id = asked ?? book.newestOf(vmId)?.id;
    if (id === undefined) {
      throw new ServiceError("snapshot-unknown", "The VM has no complete snapshot.");
    }
    const found = book.find(id);
    if (found === undefined || found.record.vmId !== vmId) {
      const other = "POST /v1/snapshots/{id}:restore makes a new VM of another's";
      const why = `VM ${vmId} has no snapshot ${id}; ${other}.`;
      throw new ServiceError("snapshot-unknown", why);
    }
    const { changes } = registry.require(vmId);
    return changes.run(async () => {
      const entry = registry.require(vmId);
      entry.refuseElsewhere();
      entry.refuseWhileMoving();
      entry.refuseIfDebugged();
      await this.#replace(entry, await this.#build(id, paused, true), id);
      return entry.resource;
    });
  }

  /** @param isInPlace the VM that it was still has its irqfds */
  #build(id: string, paused: boolean, isInPlace: boolean): Promise<Restored> {
    const { book, io, vms, attachments } = this.#deps;
    const files = book.chainOf(id).map((record) => ({
      id: record.id,
      path: book.pathOf(record.id),
    }));
    const deps: RestoreDeps = {
      io,
      build: (definition) => vms.build(definition, null, true),
      // Those that are still open; in place of the others new ones, with what they counted.
      attach: (eventfds) =>
        attachments.attach(movedOf(eventfds), { by: "counters", mayWait: isInPlace }),
    };
    return restoreChain(deps, files, paused);
  }

  /** @throws ServiceError "uuid-taken" for one that was asked for */
  #reserve(asked: string | null, own: string) {
    const { registry } = this.#deps;
    if (asked !== null) {
      const uuid = asked.toLowerCase();
      return { uuid, release: registry.reserve(uuid) };
    }
    try {
      return { uuid: own, release: registry.reserve(own) };
    } catch {
      const uuid = newUuid();
      return { uuid, release: registry.reserve(uuid) };
    }
  }

  async #register(
    { handle, definition, shape, meta, eventfds }: Restored,
    name: string | null,
    uuid: string,
    snapshot: string,
  ): Promise<VmEntry> {
    const { registry, vms, clock, bootId } = this.#deps;
    const { labels } = meta.vm;
    const spec: VmSpec = { name, uuid, labels, definition, replay: null, validateOnly: false };
    const of = { seq: registry.nextSeq(), bootId, now: timestamp(clock) };
    const record = { ...firstRecord(spec, uuid, definition, of), version: 0 };
    const entry = new VmEntry(record, definition, new Shape(shape));
    vms.adopt(entry, handle);
    const parts = { kind: "put-shape", vmId: entry.id, shape } as const;
    try {
      await vms.save(entry, {}, "vm.created", [parts]);
    } catch (error) {
      entry.handle = null;
      entry.isDeleted = true;
      await handle.close();
      await eventfds.discard();
      throw error;
    }
    await eventfds.keep();
    registry.add(entry);
    await this.#letGo(entry, handle, snapshot);
    return entry;
  }

  async #replace(entry: VmEntry, restored: Restored, snapshot: string): Promise<void> {
    const { vms, recorder, parts } = this.#deps;
    const { handle, definition, shape, eventfds } = restored;
    const change = {
      ...({ state: "active", stateReason: null, starts: entry.record.starts + 1 } as const),
      definition: definitionToJson(definition),
    };
    const prepared = vms.prepare(entry, change, "vm.started");
    const shapeChange = { kind: "put-shape", vmId: entry.id, shape } as const;
    try {
      await recorder.commit([...prepared.changes, shapeChange]);
    } catch (error) {
      prepared.failed();
      await handle.close();
      await eventfds.discard();
      throw error;
    }
    prepared.done();
    await eventfds.keep();
    const old = entry.handle;
    entry.handle = null;
    entry.definition = definition;
    entry.shape.replace(shape);
    vms.adopt(entry, handle);
    await old?.close();
    // A command that the old one took meanwhile may have been recorded behind it.
    await parts.saveAll(entry);
    await this.#letGo(entry, handle, snapshot);
  }

  async #letGo(entry: VmEntry, handle: Restored["handle"], snapshot: string): Promise<void> {
    this.#deps.events.announce("vm.restored", `vms/${entry.id}`, { snapshot });
    await movingVm(handle).call("holdVm", { hold: false, why: WHY_HELD });
  }
}
