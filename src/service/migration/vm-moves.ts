// Owns: what becomes of a VM that moves: built for a peer, arrived, gone, given up. HTTP thread.
// Which side may run it is decided by records alone, so each step is a change to be written
// together with the session's point.
import { timestamp } from "../../base/clock.js";
import type { Passport } from "../../migration/index.js";
import type { VmHandle } from "../../runtime/index.js";
import type { Change, VmRecord } from "../../store/index.js";
import { definitionToJson } from "../definition.js";
import type { Images } from "../image-service.js";
import { rebuild } from "../rebuild.js";
import { Shape } from "../shape.js";
import type { AutosnapshotSpec, MovingAutosnapshots } from "../snapshots/types.js";
import { VmEntry } from "../vm-entry.js";
import type { VmRegistry } from "../vm-registry.js";
import type { Vms } from "../vm-service.js";
import type { PointEffect } from "./journal.js";
import { definitionOf, shapeOf } from "./passport.js";
import type { Session, SessionBook } from "./session-book.js";

interface Deps {
  readonly book: SessionBook;
  readonly registry: VmRegistry;
  readonly vms: Vms;
  readonly images: Images;
  readonly autosnapshots: MovingAutosnapshots;
}

const NEVER_RAN =
  "It moved away, but never ran at its target, and this host's copy is gone too. Its definition " +
  "and parts are kept: start it to build it anew.";
const WHY_HELD = "It is being moved here.";

export class VmMoves {
  readonly #deps: Deps;
  /** Arriving ones whose parts are on disk. */
  readonly #kept = new WeakSet<VmEntry>();
  /** Of arriving ones: what their sources say that they were declared. */
  readonly #declared = new WeakMap<VmEntry, AutosnapshotSpec>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /**
   * Builds a peer's VM, held, known to this host alone; nothing of it is durable yet.
   * @throws KvmError, ServiceError: why this host can't have it
   */
  async receive(
    session: Session,
    passport: Passport,
    onDeath: (reason: string) => void,
  ): Promise<{ readonly entry: VmEntry; readonly handle: VmHandle }> {
    const { registry, vms, images, book } = this.#deps;
    const definition = definitionOf(passport, (hash, name) => images.nameOf(hash) ?? name);
    const shape = new Shape(shapeOf(passport));
    const handle = await vms.build(definition, null, true);
    try {
      shape.renumber(await rebuild(handle, shape.records(), true));
      await handle.call("holdVm", { hold: true, why: WHY_HELD });
    } catch (error) {
      await handle.close();
      throw error;
    }
    const now = timestamp(book.deps.clock);
    const record: VmRecord = {
      id: session.record.vmId,
      seq: registry.nextSeq(),
      uuid: passport.vm.uuid,
      name: passport.vm.name,
      labels: passport.vm.labels,
      definition: definitionToJson(definition),
      state: "incoming",
      stateReason: `It is being moved here from ${session.record.peer}.`,
      version: 0,
      starts: 1,
      bootId: book.deps.bootId,
      createdAt: now,
      updatedAt: now,
    };
    const entry = new VmEntry(record, definition, shape);
    entry.migrationId = session.id;
    entry.isMoving = true;
    entry.onDeath = onDeath;
    const { autosnapshot } = passport.vm;
    if (autosnapshot !== undefined) this.#declared.set(entry, autosnapshot);
    vms.adopt(entry, handle);
    registry.add(entry);
    return { entry, handle };
  }

  /** How a VM that leaves is snapshotted by itself; null: it isn't. */
  declared(entry: VmEntry): AutosnapshotSpec | null {
    return this.#deps.autosnapshots.declared(entry.id);
  }

  /** While its pages come, so that less is left for the guest's pause. */
  keepParts(entry: VmEntry): void {
    const changes: readonly Change[] = [{ kind: "put-vm", vm: entry.record }, partsOf(entry)];
    this.#deps.book.deps.recorder.commit(changes).then(
      () => void this.#kept.add(entry),
      // They go with "ready" then.
      () => {},
    );
  }

  /** The record of a VM that has all of its memory and state, and waits. */
  ready(entry: VmEntry): PointEffect {
    const stateReason = "It is here, and waits for its source to let go of it.";
    const effect = this.#deps.vms.prepare(entry, { stateReason }, "vm.arrived");
    if (this.#kept.has(entry)) return effect;
    return { ...effect, changes: [...effect.changes, partsOf(entry)] };
  }

  /** From now on it is this host's. What it left behind here when it went away goes. */
  running(entry: VmEntry, session: Session): PointEffect {
    const { registry, vms, autosnapshots } = this.#deps;
    const { peer } = session.record;
    const change = { state: "active", stateReason: null } as const;
    const effect = vms.prepare(entry, change, "vm.started");
    const old = registry.all().filter((one) => isTombstone(one, entry) && peer !== "local");
    const declared = autosnapshots.arrived(entry.id, this.#declared.get(entry) ?? null);
    return {
      changes: [
        ...effect.changes,
        ...declared.changes,
        ...old.flatMap(({ id }): readonly Change[] => [
          { kind: "delete-vm", id },
          { kind: "delete-autosnapshot", vmId: id },
        ]),
      ],
      failed: effect.failed,
      done: () => {
        effect.done();
        // Pages that follow are the session's affair until the last one is here.
        if (!session.state.startsWith("postcopy")) this.isWhole(entry);
        for (const one of old) {
          forget(registry, one);
          autosnapshots.forgotten(one.id);
        }
        declared.done();
        registry.moved(entry);
      },
    };
  }

  /** Nothing of it is anywhere else: it is a VM like any other. */
  isWhole(entry: VmEntry): void {
    entry.onDeath = null;
    entry.isMoving = false;
  }

  /** It has run here, and pages that it lacks never come. */
  async lost(entry: VmEntry, why: string): Promise<void> {
    const { handle } = entry;
    this.isWhole(entry);
    entry.handle = null;
    await handle?.close();
    const change = { state: "lost", stateReason: why } as const;
    await entry.changes.run(() => this.#deps.vms.save(entry, change, "vm.lost"));
  }

  /** It went to another host: here it never runs again. */
  released(entry: VmEntry, session: Session): PointEffect {
    const { registry, vms, autosnapshots } = this.#deps;
    const stateReason = `It moved to ${session.record.peer}: see /v1/migrations/${session.id}.`;
    const effect = vms.prepare(entry, { state: "migrated", stateReason }, "vm.migrated");
    return {
      ...effect,
      done: () => {
        effect.done();
        autosnapshots.left(entry.id);
        registry.moved(entry);
      },
    };
  }

  /** It was released, but never ran at the target: it is this host's again, if it is still here. */
  backHere(entry: VmEntry): PointEffect {
    const { registry, vms, autosnapshots } = this.#deps;
    const isHere = entry.handle !== null;
    const effect = isHere
      ? vms.prepare(entry, { state: "active", stateReason: null }, "vm.started")
      : vms.prepare(entry, { state: "lost", stateReason: NEVER_RAN }, "vm.lost");
    return {
      ...effect,
      done: () => {
        effect.done();
        autosnapshots.back(entry.id);
        registry.moved(entry);
      },
    };
  }

  /** It is given up; its source has it. */
  discarded(entry: VmEntry): PointEffect {
    const { registry } = this.#deps;
    return {
      changes: [{ kind: "delete-vm", id: entry.id }],
      failed: () => {},
      done: () => forget(registry, entry),
    };
  }
}

function partsOf(entry: VmEntry): Change {
  return { kind: "put-shape", vmId: entry.id, shape: entry.shape.records() };
}

function isTombstone(one: VmEntry, arrived: VmEntry): boolean {
  const { uuid, state } = one.record;
  return one !== arrived && uuid === arrived.record.uuid && state === "migrated";
}

/** Ends what is left of a VM; it is no longer in the list. */
function forget(registry: VmRegistry, entry: VmEntry): void {
  const { handle } = entry;
  entry.isDeleted = true;
  entry.onDeath = null;
  registry.remove(entry);
  entry.handle = null;
  void handle?.close();
}
