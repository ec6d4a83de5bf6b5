// Owns: the mapping between plain records and database rows, both ways. HTTP thread.
import type {
  Capability,
  Event,
  Experiment,
  GuestMemfd,
  IdempotencyKey,
  Image,
  MemoryObject,
  Memslot,
  Migration,
  MigrationRound,
  ServiceBoot,
  Snapshot,
  Vcpu,
  Vm,
} from "../generated/prisma/client.js";
import type {
  BootRecord,
  CapabilityRecord,
  EventRecord,
  ExperimentRecord,
  GuestMemfdRecord,
  IdempotencyRecord,
  ImageRecord,
  JsonObject,
  MemoryObjectRecord,
  MemslotRecord,
  MigrationRecord,
  MigrationRoundRecord,
  SnapshotRecord,
  StoredVmState,
  VcpuRecord,
  VmRecord,
} from "./records.js";

/** u64 as 16 hex digits: sorts as text, and SQLite's signed INTEGER can't cut it. */
function u64Text(value: bigint): string {
  return value.toString(16).padStart(16, "0");
}

function u64(text: string): bigint {
  return BigInt(`0x${text}`);
}

function readJson<T>(text: string): T {
  return JSON.parse(text) as T;
}

export function vmToRow(vm: VmRecord): Vm {
  return {
    ...vm,
    seq: BigInt(vm.seq),
    labels: JSON.stringify(vm.labels),
    definition: JSON.stringify(vm.definition),
  };
}

export function vmFromRow(row: Vm): VmRecord {
  return {
    ...row,
    seq: Number(row.seq),
    labels: readJson<Record<string, string>>(row.labels),
    definition: readJson<JsonObject>(row.definition),
    state: row.state as StoredVmState,
  };
}

export function capabilityToRow(vmId: string, record: CapabilityRecord): Capability {
  return {
    ...record,
    vmId,
    cap: BigInt(record.cap),
    flags: BigInt(record.flags),
    args: JSON.stringify(record.args.map(u64Text)),
  };
}

export function capabilityFromRow({ vmId: _, ...row }: Capability): CapabilityRecord {
  const args = readJson<string[]>(row.args).map(u64);
  return { ...row, cap: Number(row.cap), flags: Number(row.flags), args };
}

export function memoryObjectToRow(vmId: string, record: MemoryObjectRecord): MemoryObject {
  return {
    ...record,
    vmId,
    userspaceAddr: u64Text(record.userspaceAddr),
    size: u64Text(record.size),
  };
}

export function memoryObjectFromRow({ vmId: _, ...row }: MemoryObject): MemoryObjectRecord {
  return {
    ...row,
    userspaceAddr: u64(row.userspaceAddr),
    size: u64(row.size),
    backing: row.backing as MemoryObjectRecord["backing"],
  };
}

export function guestMemfdToRow(vmId: string, record: GuestMemfdRecord): GuestMemfd {
  return { ...record, vmId, size: u64Text(record.size), flags: u64Text(record.flags) };
}

export function guestMemfdFromRow({ vmId: _, ...row }: GuestMemfd): GuestMemfdRecord {
  return { ...row, size: u64(row.size), flags: u64(row.flags) };
}

export function memslotToRow(vmId: string, record: MemslotRecord): Memslot {
  return {
    vmId,
    slot: BigInt(record.slot),
    flags: BigInt(record.flags),
    guestPhysAddr: u64Text(record.guestPhysAddr),
    memorySize: u64Text(record.memorySize),
    userspaceAddr: u64Text(record.userspaceAddr),
    guestMemfd: record.guestMemfd,
    guestMemfdOffset: u64Text(record.guestMemfdOffset),
  };
}

export function memslotFromRow(row: Memslot): MemslotRecord {
  return {
    slot: Number(row.slot),
    flags: Number(row.flags),
    guestPhysAddr: u64(row.guestPhysAddr),
    memorySize: u64(row.memorySize),
    userspaceAddr: u64(row.userspaceAddr),
    guestMemfd: row.guestMemfd,
    guestMemfdOffset: u64(row.guestMemfdOffset),
  };
}

export function vcpuToRow(vmId: string, record: VcpuRecord): Vcpu {
  return { vmId, ordinal: record.ordinal, vcpuId: BigInt(record.vcpuId) };
}

export function vcpuFromRow(row: Vcpu): VcpuRecord {
  return { ordinal: row.ordinal, vcpuId: Number(row.vcpuId) };
}

export function eventToRow(record: EventRecord): Event {
  return { ...record, id: BigInt(record.id), data: JSON.stringify(record.data) };
}

export function eventFromRow(row: Event): EventRecord {
  return { ...row, id: Number(row.id), data: readJson<JsonObject>(row.data) };
}

export function idempotencyToRow(record: IdempotencyRecord): IdempotencyKey {
  const { answer, ...rest } = record;
  return {
    ...rest,
    state: answer === null ? "running" : "done",
    status: answer?.status ?? null,
    headers: answer === null ? null : JSON.stringify(answer.headers),
    body: answer?.body ?? null,
  };
}

export function idempotencyFromRow(row: IdempotencyKey): IdempotencyRecord {
  const { state, status, headers, body, ...rest } = row;
  if (state === "running" || status === null) return { ...rest, answer: null };
  const stored = readJson<Record<string, string>>(headers ?? "{}");
  return { ...rest, answer: { status, headers: stored, body } };
}

export function bootToRow(record: BootRecord): ServiceBoot {
  return { ...record, seq: BigInt(record.seq) };
}

export function bootFromRow(row: ServiceBoot): BootRecord {
  return { ...row, seq: Number(row.seq) };
}

export function imageToRow(image: ImageRecord): Image {
  return { ...image, size: BigInt(image.size) };
}

export function imageFromRow(row: Image): ImageRecord {
  return { ...row, size: Number(row.size) };
}

export function experimentToRow(experiment: ExperimentRecord): Experiment {
  const { seq, spec } = experiment;
  return { ...experiment, seq: BigInt(seq), spec: JSON.stringify(spec) };
}

export function experimentFromRow(row: Experiment): ExperimentRecord {
  return {
    ...row,
    seq: Number(row.seq),
    state: row.state as ExperimentRecord["state"],
    spec: JSON.parse(row.spec) as ExperimentRecord["spec"],
  };
}

const jsonOrNull = (value: JsonObject | null): string | null =>
  value === null ? null : JSON.stringify(value);
const fromJson = (text: string | null): JsonObject | null =>
  text === null ? null : readJson<JsonObject>(text);

export function migrationToRow(record: MigrationRecord): Migration {
  return {
    ...record,
    seq: BigInt(record.seq),
    parameters: JSON.stringify(record.parameters),
    progress: jsonOrNull(record.progress),
    decision: jsonOrNull(record.decision),
    failure: jsonOrNull(record.failure),
    resolution: jsonOrNull(record.resolution),
    statistics: jsonOrNull(record.statistics),
  };
}

export function migrationFromRow(row: Migration): MigrationRecord {
  return {
    ...row,
    seq: Number(row.seq),
    direction: row.direction as MigrationRecord["direction"],
    parameters: readJson<JsonObject>(row.parameters),
    progress: fromJson(row.progress),
    decision: fromJson(row.decision),
    failure: fromJson(row.failure),
    resolution: fromJson(row.resolution),
    statistics: fromJson(row.statistics),
  };
}

export function roundToRow(record: MigrationRoundRecord): MigrationRound {
  return {
    ...record,
    pagesDirty: BigInt(record.pagesDirty),
    pagesSent: BigInt(record.pagesSent),
    pagesZero: BigInt(record.pagesZero),
    pagesDuplicate: BigInt(record.pagesDuplicate),
    bytes: BigInt(record.bytes),
    dirtyLimitPagesPerSecond: BigInt(record.dirtyLimitPagesPerSecond),
  };
}

export function roundFromRow(row: MigrationRound): MigrationRoundRecord {
  return {
    ...row,
    pagesDirty: Number(row.pagesDirty),
    pagesSent: Number(row.pagesSent),
    pagesZero: Number(row.pagesZero),
    pagesDuplicate: Number(row.pagesDuplicate),
    bytes: Number(row.bytes),
    dirtyLimitPagesPerSecond: Number(row.dirtyLimitPagesPerSecond),
  };
}

export function snapshotToRow(record: SnapshotRecord): Snapshot {
  const { seq, memoryBytes, fileBytes, pagesStored, pagesZero, images } = record;
  return {
    ...record,
    seq: BigInt(seq),
    memoryBytes: BigInt(memoryBytes),
    fileBytes: fileBytes === null ? null : BigInt(fileBytes),
    pagesStored: BigInt(pagesStored),
    pagesZero: BigInt(pagesZero),
    images: JSON.stringify(images),
  };
}

export function snapshotFromRow(row: Snapshot): SnapshotRecord {
  return {
    ...row,
    seq: Number(row.seq),
    kind: row.kind as SnapshotRecord["kind"],
    state: row.state as SnapshotRecord["state"],
    origin: row.origin as SnapshotRecord["origin"],
    memoryBytes: Number(row.memoryBytes),
    fileBytes: row.fileBytes === null ? null : Number(row.fileBytes),
    pagesStored: Number(row.pagesStored),
    pagesZero: Number(row.pagesZero),
    images: readJson<string[]>(row.images),
  };
}
