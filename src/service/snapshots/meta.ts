// Owns: what a snapshot's file says of itself and of its VM, as one saved part. HTTP thread.
import { decodeSaved, encodeSaved } from "../../base/saved-codec.js";
import type { MovedEventfd } from "../../migration/index.js";
import type { MemoryMap, VmDefinition } from "../../runtime/index.js";
import type { VmShape } from "../../store/index.js";
import { broken } from "./format.js";

export interface SnapshotMeta {
  readonly id: string;
  readonly kind: "full" | "differential";
  readonly parent: string | null;
  readonly vm: {
    readonly id: string;
    readonly uuid: string;
    readonly name: string | null;
    readonly labels: Readonly<Record<string, string>>;
    readonly definition: VmDefinition;
    readonly shape: VmShape;
  };
  readonly memory: {
    readonly pageSize: number;
    readonly unbackedSeed: number;
    readonly blocks: readonly MetaBlock[];
  };
  /** What its irqfds and ioeventfds name, by the VM's own numbers. */
  readonly eventfds: readonly MetaEventfd[];
  /** RFC 3339, UTC. */
  readonly takenAt: string;
}

export interface MetaEventfd {
  readonly local: number;
  /** null: nobody outside of the VM had it open. */
  readonly id: string | null;
  readonly count: bigint;
  readonly isSemaphore: boolean;
}

/** A snapshot's file calls an eventfd's name its id. */
export function metaEventfds(moved: readonly MovedEventfd[]): readonly MetaEventfd[] {
  return moved.map(({ name, ...rest }) => ({ ...rest, id: name }));
}

export function movedOf(eventfds: readonly MetaEventfd[]): readonly MovedEventfd[] {
  return eventfds.map(({ id, ...rest }) => ({ ...rest, name: id }));
}

interface MetaBlock {
  readonly object: number;
  readonly bytes: number;
  readonly backing: "ram" | "unbacked";
}

const KIND = "snapshot";
const VERSION = 1;

/** Memory that a snapshot holds. */
export function blocksOf(memory: MemoryMap) {
  return memory.blocks.filter(({ backing }) => backing !== "device");
}

export function memoryMeta(memory: MemoryMap): SnapshotMeta["memory"] {
  const { pageSize, unbackedSeed } = memory;
  const blocks = blocksOf(memory).map(({ object, bytes, backing }) => ({
    object,
    bytes,
    backing: backing === "unbacked" ? ("unbacked" as const) : ("ram" as const),
  }));
  return { pageSize, unbackedSeed, blocks };
}

/** Hashes of what its board needs to be built. */
export function imagesOf({ board }: VmDefinition): readonly string[] {
  const { image, initrd, firmware, disk } = board ?? {};
  const refs = [image, initrd, firmware, disk].flatMap((ref) => ref?.sha256 ?? []);
  return [...new Set(refs)];
}

export function encodeMeta(meta: SnapshotMeta): Uint8Array {
  return encodeSaved([{ kind: KIND, version: VERSION, data: meta }]);
}

/** Nobody but encodeMeta writes it, and its checksum was right. @throws "snapshot-broken" */
export function decodeMeta(bytes: Uint8Array): SnapshotMeta {
  const [part, ...rest] = decodeSaved(bytes);
  if (part?.kind !== KIND || rest.length > 0) throw broken("it doesn't say what it is");
  if (part.version !== VERSION) {
    throw broken(`its version is ${part.version}, and this host knows ${VERSION}`);
  }
  return part.data as SnapshotMeta;
}
