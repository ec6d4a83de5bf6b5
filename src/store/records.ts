// Owns: the durable records as plain data; no other room sees a database row. HTTP thread.
// u64 is bigint, times are RFC 3339 text in UTC.

/** A JSON document that the store keeps without reading it. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** "incoming": it moves here; "migrated": it went to another host. */
export type StoredVmState = "active" | "stopped" | "lost" | "failed" | "incoming" | "migrated";

export interface VmRecord {
  readonly id: string;
  /** Order of creation. */
  readonly seq: number;
  readonly uuid: string;
  readonly name: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly definition: JsonObject;
  readonly state: StoredVmState;
  readonly stateReason: string | null;
  /** One more with each change of this record. */
  readonly version: number;
  /** How often it was built. */
  readonly starts: number;
  /** Boot of the service that changed the state last. */
  readonly bootId: string;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** One successful KVM_ENABLE_CAP. */
export interface CapabilityRecord {
  /** Order in which parts of one kind were made; never reused while one is kept. */
  readonly ordinal: number;
  readonly cap: number;
  readonly flags: number;
  readonly args: readonly bigint[];
  /** From a replayed input log, which does not say whether KVM took it. */
  readonly tentative: boolean;
}

export interface MemoryObjectRecord {
  readonly ordinal: number;
  /** The VM's own number for it. */
  readonly objectId: number;
  readonly userspaceAddr: bigint;
  readonly size: bigint;
  readonly backing: "ram" | "unbacked" | "device";
  readonly hugePages: boolean;
}

export interface GuestMemfdRecord {
  readonly ordinal: number;
  /** The VM's own number for it; a closed one's may be in use again. */
  readonly memfdId: number;
  readonly size: bigint;
  readonly flags: bigint;
  /** The descriptor is closed, but a memslot still holds the file. */
  readonly closed: boolean;
}

export interface MemslotRecord {
  readonly slot: number;
  readonly flags: number;
  readonly guestPhysAddr: bigint;
  readonly memorySize: bigint;
  readonly userspaceAddr: bigint;
  /** Ordinal of the guest memfd, or null. */
  readonly guestMemfd: number | null;
  readonly guestMemfdOffset: bigint;
}

export interface VcpuRecord {
  /** Order of creation. */
  readonly ordinal: number;
  readonly vcpuId: number;
}

/** What a VM is made of beside its definition: enough to build it anew, never its content. */
export interface VmShape {
  readonly capabilities: readonly CapabilityRecord[];
  readonly memoryObjects: readonly MemoryObjectRecord[];
  readonly guestMemfds: readonly GuestMemfdRecord[];
  readonly memslots: readonly MemslotRecord[];
  readonly vcpus: readonly VcpuRecord[];
}

export const EMPTY_SHAPE: VmShape = {
  capabilities: [],
  memoryObjects: [],
  guestMemfds: [],
  memslots: [],
  vcpus: [],
};

export interface StoredVm {
  readonly vm: VmRecord;
  readonly shape: VmShape;
}

export interface EventRecord {
  readonly id: number;
  readonly type: string;
  readonly time: string;
  readonly subject: string;
  readonly data: JsonObject;
}

export interface IdempotencyRecord {
  readonly key: string;
  readonly fingerprint: string;
  /** Boot of the service that claimed the key. */
  readonly bootId: string;
  readonly createdAt: string;
  readonly expiresAt: string;
  /** null while the request runs. */
  readonly answer: null | {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string | null;
  };
}

/** One life of the service process. */
export interface BootRecord {
  readonly id: string;
  readonly seq: number;
  readonly version: string;
  readonly startedAt: string;
  /** null while it runs, and for ever when it crashed. */
  readonly endedAt: string | null;
}

/** An image that boards can load; its bytes are in a file of their own. */
export interface ImageRecord {
  readonly name: string;
  /** Lower-case hex. */
  readonly sha256: string;
  readonly size: number;
  readonly version: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

export type StoredExperimentState = "queued" | "running" | "done" | "failed" | "cancelled" | "lost";

export interface ExperimentRecord {
  readonly id: string;
  /** Order of creation. */
  readonly seq: number;
  readonly name: string;
  readonly state: StoredExperimentState;
  readonly stateReason: string | null;
  readonly spec: JsonObject;
  readonly version: number;
  readonly done: number;
  readonly total: number;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
}

/** One side's session of a VM that moves; its words are those of migration/types.ts. */
export interface MigrationRecord {
  readonly id: string;
  /** Order of creation. */
  readonly seq: number;
  readonly direction: "outgoing" | "incoming";
  readonly vmId: string;
  readonly vmUuid: string;
  readonly vmName: string | null;
  /** Name of the other host. */
  readonly peer: string;
  /** Id of its session there. */
  readonly peerSession: string | null;
  readonly state: string;
  readonly point: string;
  readonly cancelRequested: boolean;
  readonly parameters: JsonObject;
  readonly progress: JsonObject | null;
  readonly decision: JsonObject | null;
  readonly failure: JsonObject | null;
  /** What an operator settled by hand. */
  readonly resolution: JsonObject | null;
  readonly statistics: JsonObject | null;
  readonly version: number;
  /** Boot of the service that changed it last. */
  readonly bootId: string;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

export interface MigrationRoundRecord {
  readonly migrationId: string;
  readonly round: number;
  readonly startMs: number;
  readonly durationMs: number;
  readonly pagesDirty: number;
  readonly pagesSent: number;
  readonly pagesZero: number;
  readonly pagesDuplicate: number;
  readonly bytes: number;
  readonly dirtyPagesPerSecond: number;
  readonly bytesPerSecond: number;
  readonly throttlePercent: number;
  readonly dirtyLimitPagesPerSecond: number;
  readonly predictedDowntimeMs: number | null;
  readonly downtimeMs: number | null;
  readonly action: string;
  readonly why: string;
  readonly isConverging: boolean;
}

export type StoredSnapshotState = "creating" | "complete" | "failed" | "cancelled" | "broken";

/** A VM's memory and state at one moment; its bytes are in a file of their own. */
export interface SnapshotRecord {
  readonly id: string;
  /** Order of creation. */
  readonly seq: number;
  readonly name: string | null;
  readonly kind: "full" | "differential";
  readonly state: StoredSnapshotState;
  readonly stateReason: string | null;
  /** Code of the problem that it failed with. */
  readonly problem: string | null;
  readonly origin: "request" | "autosnapshot";
  readonly vmId: string;
  readonly vmUuid: string;
  readonly vmName: string | null;
  /** The snapshot that this one tells the differences to. */
  readonly parentId: string | null;
  /** The full snapshot that the chain begins with. */
  readonly chainId: string;
  readonly memoryBytes: number;
  /** null before it is complete. */
  readonly fileBytes: number | null;
  /** Lower-case hex. */
  readonly sha256: string | null;
  readonly pagesStored: number;
  readonly pagesZero: number;
  readonly rounds: number;
  readonly pauseMs: number | null;
  /** Hashes of the images that its board needs. */
  readonly images: readonly string[];
  readonly version: number;
  readonly createdAt: string;
  readonly finishedAt: string | null;
}

/** A VM that is snapshotted every so many seconds. */
export interface AutosnapshotRecord {
  readonly vmId: string;
  readonly everySeconds: number;
  /** Of the newest, so many stay. */
  readonly keep: number;
  readonly differential: boolean;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** One part of a VM's shape, set or removed. */
export type PartChange =
  | { readonly kind: "put-capability"; readonly value: CapabilityRecord }
  | { readonly kind: "delete-capability"; readonly ordinal: number }
  | { readonly kind: "put-memory-object"; readonly value: MemoryObjectRecord }
  | { readonly kind: "delete-memory-object"; readonly ordinal: number }
  | { readonly kind: "put-guest-memfd"; readonly value: GuestMemfdRecord }
  | { readonly kind: "delete-guest-memfd"; readonly ordinal: number }
  | { readonly kind: "put-memslot"; readonly value: MemslotRecord }
  | { readonly kind: "delete-memslot"; readonly slot: number }
  | { readonly kind: "put-vcpu"; readonly value: VcpuRecord };

/** Everything that can be written; a list of these is one transaction. */
export type Change =
  | { readonly kind: "put-vm"; readonly vm: VmRecord }
  | { readonly kind: "delete-vm"; readonly id: string }
  | { readonly kind: "put-part"; readonly vmId: string; readonly change: PartChange }
  /** Replaces every part at once. */
  | { readonly kind: "put-shape"; readonly vmId: string; readonly shape: VmShape }
  | { readonly kind: "add-events"; readonly events: readonly EventRecord[] }
  /** Keeps the newest `keep`. */
  | { readonly kind: "trim-events"; readonly keep: number }
  | { readonly kind: "put-idempotency"; readonly record: IdempotencyRecord }
  | { readonly kind: "delete-idempotency"; readonly key: string }
  /** Forgets what expired before `now` and all but the newest `keep`. */
  | { readonly kind: "trim-idempotency"; readonly now: string; readonly keep: number }
  | { readonly kind: "put-boot"; readonly boot: BootRecord }
  | { readonly kind: "trim-boots"; readonly keep: number }
  | { readonly kind: "put-image"; readonly image: ImageRecord }
  | { readonly kind: "delete-image"; readonly name: string }
  | { readonly kind: "put-experiment"; readonly experiment: ExperimentRecord }
  /** `document`: JSON text that the store never reads. */
  | { readonly kind: "put-experiment-result"; readonly id: string; readonly document: string }
  /** With its result. */
  | { readonly kind: "delete-experiment"; readonly id: string }
  | { readonly kind: "put-migration"; readonly migration: MigrationRecord }
  | { readonly kind: "put-migration-rounds"; readonly rounds: readonly MigrationRoundRecord[] }
  /** With its rounds. */
  | { readonly kind: "delete-migration"; readonly id: string }
  | { readonly kind: "put-snapshot"; readonly snapshot: SnapshotRecord }
  | { readonly kind: "delete-snapshot"; readonly id: string }
  | { readonly kind: "put-autosnapshot"; readonly autosnapshot: AutosnapshotRecord }
  | { readonly kind: "delete-autosnapshot"; readonly vmId: string };
