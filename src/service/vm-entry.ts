// Owns: one VM as the service holds it. HTTP thread.
//
//            create                 stop, or the service ends
//   (none) ─────────▶ active ────────────────────────────────▶ stopped
//                     ▲  │  │                                     │
//                     │  │  └─ its thread dies ──▶ failed ──┐     │
//                     │  └──── the service crashes ▶ lost ──┤     │
//                     └──────────────── start ──────────────┴─────┘
//
//   it moves here ─▶ incoming ── the source let go ─▶ active ── it moves away ─▶ migrated
//
// `handle` is the fact, `record.state` its durable form: for the moment between a thread's death
// and the record of it, handle is null while the state still says active.
import { ServiceError } from "../base/errors.js";
import type { VmDefinition, VmHandle } from "../runtime/index.js";
import type { VmRecord } from "../store/index.js";
import { ChangeQueue } from "./change-queue.js";
import type { GdbServer } from "./gdb/gdb-server.js";
import type { QmpServer } from "./qmp/qmp-server.js";
import type { VmResource } from "./services.js";
import type { Shape } from "./shape.js";
import type { VcpuRuns } from "./vcpu-runs.js";

export class VmEntry {
  readonly id: string;
  /** Replaced when settings of dirty tracking change. */
  definition: VmDefinition;
  readonly shape: Shape;
  /** Serialises create, start, stop, delete and changes of the record; never commands. */
  readonly changes = new ChangeQueue();
  readonly runs = new Map<number, VcpuRuns>();
  /** Told when the board changed its state or has more output. */
  readonly boardListeners = new Set<() => void>();
  record: VmRecord;
  isDeleted = false;
  /** What listens for a debugger; null when nothing does. */
  debugger: GdbServer | null = null;
  /** What listens for QMP's clients; null when nothing does. */
  qmp: QmpServer | null = null;
  /** The session that moves it or moved it last; null: none is known. */
  migrationId: string | null = null;
  /** That session is under way at this side. */
  isMoving = false;
  /** Told of the thread's death in place of the record, while it moves here. */
  onDeath: ((reason: string) => void) | null = null;
  #handle: VmHandle | null = null;

  constructor(record: VmRecord, definition: VmDefinition, shape: Shape) {
    this.id = record.id;
    this.record = record;
    this.definition = definition;
    this.shape = shape;
  }

  get handle(): VmHandle | null {
    return this.#handle;
  }

  set handle(handle: VmHandle | null) {
    this.#handle = handle;
    if (handle !== null) return;
    // A debugger is attached to this life of the VM.
    void this.debugger?.close();
    this.debugger = null;
    // Clients of QMP may still ask what became of a VM that went to another host.
    if (this.record.state !== "migrated" || this.isDeleted) this.endQmp();
  }

  endQmp(): void {
    this.qmp?.vmEnded();
    this.qmp = null;
  }

  /** @throws ServiceError "owned-by-debugger" while one is attached: it runs the vCPUs */
  refuseIfDebugged(): void {
    if (this.debugger?.isAttached !== true) return;
    const why = "A debugger is attached, and it says when vCPUs run: detach it first.";
    throw new ServiceError("owned-by-debugger", why);
  }

  get resource(): VmResource {
    const { id, uuid, name, labels, state, stateReason, version, createdAt, updatedAt } =
      this.record;
    return {
      id,
      uuid,
      name,
      labels,
      definition: this.definition,
      state,
      stateReason,
      migrationId: this.migrationId,
      version,
      createdAt,
      updatedAt,
    };
  }

  /** @throws ServiceError "vm-migrated", "vm-incoming": it isn't this host's, or not yet */
  refuseElsewhere(): void {
    const { state } = this.record;
    if (state !== "migrated" && state !== "incoming") return;
    const migration = this.migrationId === null ? null : `/v1/migrations/${this.migrationId}`;
    const at = migration === null ? "" : ` See ${migration}.`;
    if (state === "migrated") {
      const why = `The VM ${this.id} runs on another host now.${at}`;
      throw new ServiceError("vm-migrated", why, { migration });
    }
    const why = `The VM ${this.id} is being moved here and can't be changed before it runs.${at}`;
    throw new ServiceError("vm-incoming", why, { migration });
  }

  /** @throws ServiceError "migration-in-progress": what moves must stay as its passport says */
  refuseWhileMoving(): void {
    if (!this.isMoving) return;
    const migration = `/v1/migrations/${this.migrationId}`;
    const why = `The VM is being moved: let ${migration} end, cancel or resolve it.`;
    throw new ServiceError("migration-in-progress", why, { migration });
  }

  /** @throws ServiceError "vm-not-active", "vm-migrated", "vm-incoming" */
  requireHandle(): VmHandle {
    this.refuseElsewhere();
    if (this.handle !== null) return this.handle;
    const { state } = this.record;
    const said = state === "active" ? "ending" : state;
    throw new ServiceError(
      "vm-not-active",
      `The VM is ${said}: start it first with POST /v1/vms/${this.id}:start.`,
      { state: said },
    );
  }
}
