// Owns: snapshots as the HTTP face sees them. Types only. HTTP thread.
import type { Readable } from "node:stream";
import type { Change } from "../../store/index.js";

export type SnapshotKind = "full" | "differential";
export type SnapshotState = "creating" | "complete" | "failed" | "cancelled" | "broken";

/** memory: while the VM runs. held: state and the last dirty pages. sync: it runs again. */
export type SnapshotPhase = "queued" | "memory" | "held" | "sync" | "done";

export interface SnapshotResource {
  readonly id: string;
  readonly name: string | null;
  readonly kind: SnapshotKind;
  readonly state: SnapshotState;
  readonly stateReason: string | null;
  /** Code of the problem that it failed with. */
  readonly problem: string | null;
  readonly origin: "request" | "autosnapshot";
  readonly vmId: string;
  readonly vmUuid: string;
  readonly vmName: string | null;
  /** The snapshot that this one tells the differences to. */
  readonly parent: string | null;
  /** The full snapshot that the chain begins with. */
  readonly chain: string;
  /** A differential may follow it: the VM's stores are tracked since. */
  readonly isTracked: boolean;
  readonly progress: {
    readonly phase: SnapshotPhase;
    readonly pagesDone: number;
    readonly pagesTotal: number;
  };
  readonly memoryBytes: number;
  readonly fileBytes: number | null;
  readonly sha256: string | null;
  readonly pages: { readonly stored: number; readonly zero: number };
  /** Times that memory was looked at, the last one included. */
  readonly rounds: number;
  /** How long no vCPU ran; null: it is not complete. */
  readonly pauseMs: number | null;
  readonly version: number;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
  readonly finishedAt: string | null;
}

export interface SnapshotRequest {
  readonly name: string | null;
  readonly kind: SnapshotKind;
  /** Of a differential; null: the VM's newest that is tracked. */
  readonly parent: string | null;
  /** Of a full one: stores are tracked from then on. null: if that can be. */
  readonly track: boolean | null;
}

export interface RestoreRequest {
  readonly name: string | null;
  /** null: the snapshot's, if no VM has it. */
  readonly uuid: string | null;
  /** Its board waits for :resume. */
  readonly paused: boolean;
}

export interface AutosnapshotSpec {
  readonly everySeconds: number;
  readonly keep: number;
  readonly differential: boolean;
}

export interface AutosnapshotResource extends AutosnapshotSpec {
  readonly vmId: string;
  /** Its newest complete one. */
  readonly latest: string | null;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** Of a VM that moves: it stays what it was declared, wherever it is. */
export interface MovingAutosnapshots {
  /** null: the VM is not snapshotted by itself. */
  declared(vmId: string): AutosnapshotSpec | null;
  /** @returns what to write together with "it runs here", and to do once that is durable */
  arrived(
    vmId: string,
    spec: AutosnapshotSpec | null,
  ): { readonly changes: readonly Change[]; done(): void };
  /** What is left of the VM here is not taken: its declaration waits for it. */
  left(vmId: string): void;
  /** It is this host's again. */
  back(vmId: string): void;
  /** What was left of it is gone, from the store too. */
  forgotten(vmId: string): void;
}

export interface SnapshotFilter {
  readonly vmId: string | null;
  readonly limit: number;
  readonly cursor: string | null;
}

/** ServiceError "snapshot-not-found" for an unknown id in a path. */
export interface SnapshotServiceOf<Vm, Page> {
  /**
   * Begins one; durable before it resolves.
   * @throws ServiceError "snapshot-in-progress", "snapshot-parent", "snapshot-limit",
   * "dirty-log-owned"
   */
  create(vmId: string, request: SnapshotRequest): Promise<SnapshotResource>;
  get(id: string): Promise<SnapshotResource>;
  /** Waits for its end. @throws ServiceError it failed with */
  outcome(id: string, waitMs: number): Promise<SnapshotResource>;
  list(filter: SnapshotFilter): Promise<Page>;
  /** Idempotent; resolves when nothing of it goes on. */
  cancel(id: string): Promise<SnapshotResource>;
  /** ServiceError "snapshot-in-use" while another one needs it. */
  delete(id: string): Promise<void>;
  /** The file. ServiceError "snapshot-incomplete". */
  content(id: string): Promise<{ readonly bytes: number; readonly stream: Readable }>;
  /** A new VM. ServiceError "snapshot-incomplete", "snapshot-broken", "uuid-taken". */
  restore(id: string, request: RestoreRequest): Promise<Vm>;
  /** The same VM, as it was. @param id null: its newest one */
  restoreVm(vmId: string, id: string | null, paused: boolean): Promise<Vm>;
  /** ServiceError "autosnapshot-not-found". */
  autosnapshot(vmId: string): Promise<AutosnapshotResource>;
  setAutosnapshot(vmId: string, spec: AutosnapshotSpec): Promise<AutosnapshotResource>;
  clearAutosnapshot(vmId: string): Promise<void>;
  /** Counts and sizes for whoever watches the host. */
  usage(): {
    readonly count: number;
    readonly bytes: number;
    readonly creating: number;
    readonly failed: number;
    readonly lastPauseMs: number;
  };
}
