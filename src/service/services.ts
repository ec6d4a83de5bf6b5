// Owns: the use cases that the HTTP face may call, as one interface. HTTP thread.
// api/ sees only this file's types (through service/index.ts); it never imports a lower room.

import type {
  BoardDefinition,
  CommandArgs,
  CommandName,
  CommandResult,
  DirtyView,
  ImageRef,
  RunResult,
  Stamped,
  TrackingMethod,
  VmDefinition,
} from "../runtime/index.js";
import type {
  CostKey,
  CostRow,
  ExperimentRequest,
  ExperimentResource,
  ExperimentResults,
} from "./experiments/types.js";
import type { IncomingService, MigrationService } from "./migration/types.js";
import type { Page } from "./page.js";

import type { SnapshotResource, SnapshotServiceOf } from "./snapshots/types.js";

export type { BoardDefinition, ImageRef } from "../runtime/index.js";
export type * from "./experiments/types.js";
export type * from "./migration/types.js";
export type { Page } from "./page.js";
export type * from "./snapshots/types.js";

/**
 * "active" has a thread; the others keep only their record. "incoming" is being moved here,
 * "migrated" went to another host.
 */
export type VmState = "active" | "stopped" | "lost" | "failed" | "incoming" | "migrated";

/** A VM as the service knows it; `version` is its ETag. */
export interface VmResource {
  readonly id: string;
  readonly uuid: string;
  readonly name: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly definition: VmDefinition;
  readonly state: VmState;
  /** One sentence: why it is in this state; for "lost" what was lost. */
  readonly stateReason: string | null;
  /** The session that moves it, or moved it last; null: none that is kept. */
  readonly migrationId: string | null;
  readonly version: number;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** A board as a client asks for it: images by name. */
export interface BoardSpec {
  /** null: the firmware finds what to start. */
  readonly image: string | null;
  readonly initrd: string | null;
  readonly firmware?: string;
  readonly disk?: string;
  readonly cmdline: string;
  readonly memoryMiB: number;
  readonly vcpus: number;
  /** Devices that were asked for; the others aren't there. */
  readonly devices?: BoardDevices;
}

export type BoardDevices = Pick<
  BoardDefinition,
  "gic" | "its" | "dirtyRingEntries" | "rtc" | "pci" | "virtio" | "rng" | "console"
>;

export interface VmSpec {
  readonly name: string | null;
  readonly uuid: string | null;
  readonly labels: Readonly<Record<string, string>>;
  /** Without a board, which the service completes from `board`. */
  readonly definition: VmDefinition;
  readonly board?: BoardSpec | null;
  /** An input log to replay (DESIGN 4), as downloaded. */
  readonly replay: unknown;
  readonly validateOnly: boolean;
}

export interface VmFilter {
  readonly state: VmState | null;
  /** Label selectors, all must match: [name, value]. */
  readonly labels: readonly (readonly [string, string])[];
  readonly limit: number;
  readonly cursor: string | null;
}

export interface VmService {
  /** Durable before it resolves. With validateOnly nothing is created and null comes back. */
  create(spec: VmSpec): Promise<VmResource | null>;
  get(id: string): Promise<VmResource>;
  list(filter: VmFilter): Promise<Page<VmResource>>;
  /** For metrics: how many are in each state that any is in. */
  counts(): ReadonlyMap<VmState, number>;
  /** Merge-patch of name and labels (null removes a label). */
  patch(
    id: string,
    change: { name?: string | null; labels?: Record<string, string | null> },
    ifMatch: number | null,
  ): Promise<VmResource>;
  delete(id: string, ifMatch: number | null): Promise<void>;
  /**
   * Builds a stopped, lost or failed VM anew from its records: empty memory, same shape. Switches
   * its board on, if it has one.
   */
  start(id: string): Promise<VmResource>;
  /** Ends the thread, keeps the record. */
  stop(id: string): Promise<VmResource>;
  /**
   * Sends one command to an active VM and records what must be durable before it resolves.
   * ServiceError "vm-not-found" (404), "vm-not-active" (409); KvmError as the ioctl.
   */
  command<K extends CommandName>(
    id: string,
    name: K,
    args: CommandArgs<K>,
  ): Promise<Stamped<CommandResult<K>>>;
  /**
   * Changes settings of dirty tracking, in the VM and in its definition: built anew, it has them.
   * ServiceError "setting-fixed", "validation".
   */
  changeDirty(id: string, change: CommandArgs<"changeDirty">): Promise<DirtyView>;
  /** Told when the VM's board changed its state or its console has more. @returns the end of it */
  onBoardNews(id: string, listener: () => void): () => void;
  /** The VM's input log as JSON-ready data (u64 as hex, bytes as base64). */
  inputLog(id: string): Promise<unknown>;
}

export interface ImageResource extends ImageRef {
  readonly version: number;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
  readonly updatedAt: string;
}

export interface ImageCondition {
  /** Versions that may be replaced; null for any, and for none. */
  readonly ifMatch: readonly number[] | null;
  /** Only if there is no image of that name. */
  readonly onlyNew: boolean;
}

/** What boards load. ServiceError "image-not-found" for an unknown name in a path. */
export interface ImageService {
  list(limit: number, cursor: string | null): Promise<Page<ImageResource>>;
  get(name: string): Promise<ImageResource>;
  content(name: string): Promise<Uint8Array>;
  /** Durable before it resolves. ServiceError "image-in-use" for other bytes of one in use. */
  put(
    name: string,
    bytes: Uint8Array,
    condition: ImageCondition,
  ): Promise<{ image: ImageResource; created: boolean }>;
  /** ServiceError "image-in-use" while a VM names it. */
  delete(name: string, ifMatch: readonly number[] | null): Promise<void>;
}

export interface CostModelRow extends CostRow {
  readonly key: CostKey;
}

/** Comparisons of ways to track dirty pages. ServiceError "experiment-not-found". */
export interface ExperimentService {
  /** Every event's default cost and where the figure comes from. */
  costModel(): readonly CostModelRow[];
  /** Durable before it resolves. ServiceError "validation", "experiment-limit", "draining". */
  create(request: ExperimentRequest): Promise<ExperimentResource>;
  get(id: string): Promise<ExperimentResource>;
  list(limit: number, cursor: string | null): Promise<Page<ExperimentResource>>;
  /** Of a running one, strategies so far. ServiceError "experiment-no-results". */
  results(id: string): Promise<ExperimentResults>;
  /** Idempotent; resolves when nothing of it goes on. */
  cancel(id: string): Promise<ExperimentResource>;
  delete(id: string): Promise<void>;
}

export type SnapshotService = SnapshotServiceOf<VmResource, Page<SnapshotResource>>;

export interface RunResource {
  readonly id: string;
  readonly vmId: string;
  readonly vcpu: number;
  readonly state: "running" | "exited";
  readonly result: RunResult | null;
  readonly kickRequested: boolean;
}

export interface RunService {
  /** One active run per vCPU: ServiceError "vcpu-running" (409) with the active run's id. */
  start(
    vmId: string,
    vcpu: number,
    options: {
      immediateExit: boolean;
      mmioData: Uint8Array | null;
      /** Kicked by the service after this time; null means never. */
      timeoutMs: number | null;
    },
  ): Promise<RunResource>;
  /** Waits up to waitMs for the exit; the last runs of a vCPU are kept, older ones are 410. */
  get(vmId: string, vcpu: number, runId: string, waitMs: number): Promise<RunResource>;
  list(vmId: string, vcpu: number): Promise<readonly RunResource[]>;
  /** Kick: idempotent. */
  kick(vmId: string, vcpu: number, runId: string | null): Promise<RunResource | null>;
}

export interface EventfdResource {
  readonly id: string;
  readonly count: bigint;
  readonly isSemaphore: boolean;
  readonly createdAt: string;
}

export interface EventfdService {
  create(initial: bigint, isSemaphore: boolean): Promise<EventfdResource>;
  list(limit: number, cursor: string | null): Promise<Page<EventfdResource>>;
  /** Peeks; waits up to waitMs for a non-zero count. */
  get(id: string, waitMs: number): Promise<EventfdResource>;
  /** @param drain whether work that this puts off in the VM that waits on it is done by then */
  write(id: string, value: bigint, drain: boolean): Promise<EventfdResource>;
  /**
   * Consumes the count, or 1 of a semaphore; kept until acknowledged.
   * @throws KvmError EAGAIN (409) when it is zero
   */
  read(
    id: string,
    consume: { key: string | null; after: string | null },
  ): Promise<{ id: string; value: bigint; repeated: boolean }>;
  delete(id: string, drain: boolean): Promise<void>;
  /**
   * Looks at the counter and waits for its next change.
   * @param seen what the last look gave, or null: the answer comes at once
   * @returns the eventfd, null once it is closed; `seen` for the next look
   */
  follow(
    id: string,
    seen: number | null,
    waitMs: number,
  ): Promise<{ eventfd: EventfdResource | null; seen: number }>;
  /** For bodies: index of an eventfd id; index -1 when there is none. */
  resolve(id: string | null): { index: number; isEventfd: boolean };
  /** The eventfd of an index; null: its descriptor is closed. */
  named(index: number | null): { readonly id: string; readonly isSemaphore: boolean } | null;
}

/** One line of the service's history; CloudEvents field names. */
export interface ServiceEvent {
  /** Counts up by one; the SSE id. */
  readonly id: number;
  readonly type: string;
  readonly time: string;
  /** "vms/vm_…" */
  readonly subject: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface EventService {
  list(after: number, limit: number): Promise<{ items: readonly ServiceEvent[]; gap: boolean }>;
  /** Oldest id still kept. */
  oldest(): number;
  newest(): number;
  subscribe(listener: (event: ServiceEvent) => void): () => void;
}

export interface HostFacts {
  readonly apiVersion: 12;
  readonly pageSizes: readonly number[];
  readonly vcpuMmapSize: number;
  readonly ipaLimitBits: number;
  readonly capacity: { readonly memoryBytes: number; readonly vms: number };
  readonly allocatable: { readonly memoryBytes: number; readonly vms: number };
}

export interface CapabilityFact {
  readonly name: string;
  readonly number: number;
  readonly value: number;
  readonly summary: string;
}

export interface HostService {
  facts(): HostFacts;
  /** Every capability of the table; system-level value. */
  capabilities(): readonly CapabilityFact[];
  /** KVM_CHECK_EXTENSION on the system descriptor, by number. KvmError where KVM refuses. */
  checkExtension(cap: number): number;
  /** Number of a name ("KVM_CAP_…") or of a numeral; null when the text is neither. */
  capabilityNumber(nameOrNumber: string): number | null;
  /** Rows of kvm/uapi/ioctl.table.ts for the document and coverage. */
  ioctls(): readonly {
    readonly name: string;
    readonly fd: string;
    readonly code: number;
    readonly state: "implemented" | "refused" | "501";
    readonly route: string | null;
    readonly summary: string;
  }[];
}

/** Idempotency-Key bookkeeping (IETF draft). */
export interface IdempotencyService {
  /**
   * Claims a key. "new": go on and call finish. "replay": answer as stored.
   * ServiceError "idempotency-mismatch" (422), "idempotency-running" (409),
   * "outcome-unknown" (409, the service died while it ran).
   */
  begin(
    key: string,
    fingerprint: string,
  ): Promise<
    { readonly outcome: "new" } | { readonly outcome: "replay"; readonly answer: StoredAnswer }
  >;
  finish(key: string, answer: StoredAnswer): Promise<void>;
  /** The request was refused before it had an effect: the key is free again. */
  abandon(key: string): Promise<void>;
}

/** A binary answer keeps its Location only (body null). */
export interface StoredAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
}

export interface Readiness {
  readonly ready: boolean;
  readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly detail: string }>>;
}

/** What listens for a VM's debugger. */
export interface GdbResource {
  readonly vmId: string;
  /** Of a Unix socket; null on TCP. */
  readonly path: string | null;
  /** On 127.0.0.1; null on a Unix socket. */
  readonly port: number | null;
  readonly attached: boolean;
  readonly counts: {
    readonly connections: number;
    readonly refused: number;
    readonly packets: number;
    readonly damaged: number;
    readonly stops: number;
  };
}

/** How fast a VM's memory becomes dirty, as it was measured once. */
export interface DirtyRateResource {
  readonly vmId: string;
  /** How dirty pages were noticed. */
  readonly method: TrackingMethod;
  /** Real time between the first look and the last. */
  readonly durationMs: number;
  /** Pages that became dirty in that time; each counts once. */
  readonly pages: number;
  readonly pagesPerSecond: number;
  readonly mibPerSecond: number;
  /** A page that several vCPUs store to is the first one's. */
  readonly vcpus: readonly { readonly vcpu: number; readonly pagesPerSecond: number }[];
  /** RFC 3339, UTC. */
  readonly measuredAt: string;
}

export interface DirtyRateService {
  /**
   * Measures for so long. ServiceError "dirty-rate-running" (409), "dirty-log-owned",
   * "tracking-unavailable"; "vm-gone" when the VM ends meanwhile.
   */
  measure(vmId: string, periodMs: number): Promise<DirtyRateResource>;
  /** The last one. ServiceError "dirty-rate-not-found" (404). */
  get(vmId: string): Promise<DirtyRateResource>;
}

/** GDB's remote protocol, one stub per VM; gone with the VM's thread. */
export interface GdbService {
  /**
   * @param port null: a Unix socket; 0: a free port of 127.0.0.1
   * @throws ServiceError "gdb-off" (403), "gdb-open", "gdb-listen-failed", "vcpu-not-initialised"
   */
  open(vmId: string, port: number | null): Promise<GdbResource>;
  /** ServiceError "gdb-not-found". */
  get(vmId: string): Promise<GdbResource>;
  close(vmId: string): Promise<void>;
}

/** What listens for a VM's QMP clients. */
export interface QmpResource {
  readonly vmId: string;
  /** Of a Unix socket; null on TCP. */
  readonly path: string | null;
  /** On 127.0.0.1; null on a Unix socket. */
  readonly port: number | null;
  /** That are there now. */
  readonly clients: number;
  readonly counts: {
    readonly connections: number;
    readonly refused: number;
    readonly commands: number;
    readonly errors: number;
    readonly events: number;
    readonly cut: number;
  };
}

/** QEMU's machine protocol, one socket per VM; gone with the VM, but not when it moves away. */
export interface QmpService {
  /**
   * @param port null: a Unix socket; 0: a free port of 127.0.0.1
   * @throws ServiceError "qmp-off" (403), "qmp-open", "qmp-listen-failed", "vm-not-active"
   */
  open(vmId: string, port: number | null): Promise<QmpResource>;
  /** ServiceError "qmp-not-found". */
  get(vmId: string): Promise<QmpResource>;
  close(vmId: string): Promise<void>;
}

export interface Services {
  readonly vms: VmService;
  readonly images: ImageService;
  readonly experiments: ExperimentService;
  readonly migrations: MigrationService;
  readonly incoming: IncomingService;
  readonly snapshots: SnapshotService;
  readonly runs: RunService;
  readonly eventfds: EventfdService;
  readonly events: EventService;
  readonly gdb: GdbService;
  readonly dirtyRates: DirtyRateService;
  readonly qmp: QmpService;
  readonly host: HostService;
  readonly idempotency: IdempotencyService;
  readiness(): Readiness;
  /** readyz turns 503, new VMs are refused with "draining". */
  drain(): void;
  close(): Promise<void>;
}
