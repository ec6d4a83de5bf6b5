// Owns: one VM as the service holds it. HTTP thread.
//
//            create                 stop, or the service ends
//   (none) ─────────▶ active ────────────────────────────────▶ stopped
//                     ▲  │  │                                     │
//                     │  │  └─ its thread dies ──▶ failed ──┐     │
//                     │  └──── the service crashes ▶ lost ──┤     │
//                     └──────────────── start ──────────────┴─────┘
//
// `handle` is the fact, `record.state` its durable form: for the moment between a thread's death
// and the record of it, handle is null while the state still says active.
import { ServiceError } from "../base/errors.js";
import type { VmDefinition, VmHandle } from "../runtime/index.js";
import type { VmRecord } from "../store/index.js";
import { ChangeQueue } from "./change-queue.js";
import type { GdbServer } from "./gdb/gdb-server.js";
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
      version,
      createdAt,
      updatedAt,
    };
  }

  /** @throws ServiceError "vm-not-active" */
  requireHandle(): VmHandle {
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
