// Owns: what a target builds a VM from: making a passport of a VM, and reading a peer's. Pure.
// HTTP thread.
import { hex } from "../../base/hex.js";
import { type Passport, type PassportEventfd, STREAM_VERSIONS } from "../../migration/index.js";
import {
  type ImageRef,
  type MemoryMap,
  STATE_VERSIONS,
  type VmDefinition,
  type VmHandle,
} from "../../runtime/index.js";
import type { VmShape } from "../../store/index.js";
import { definitionFromJson, definitionToJson } from "../definition.js";
import type { EventfdAttachments } from "../eventfd-attachments.js";
import type { AutosnapshotSpec } from "../snapshots/types.js";
import type { VmEntry } from "../vm-entry.js";

type Wire<T> = {
  readonly [K in keyof T]: T[K] extends bigint
    ? string
    : T[K] extends readonly bigint[]
      ? readonly string[]
      : T[K];
};

/** VmShape with u64 as "0x…". */
type ShapeJson = {
  readonly [K in keyof VmShape]: readonly Wire<VmShape[K][number]>[];
};

function shapeToJson(shape: VmShape): ShapeJson {
  return {
    capabilities: shape.capabilities.map((cap) => ({ ...cap, args: cap.args.map(hex) })),
    memoryObjects: shape.memoryObjects.map((object) => ({
      ...object,
      userspaceAddr: hex(object.userspaceAddr),
      size: hex(object.size),
    })),
    guestMemfds: shape.guestMemfds.map((memfd) => ({
      ...memfd,
      size: hex(memfd.size),
      flags: hex(memfd.flags),
    })),
    memslots: shape.memslots.map((slot) => ({
      ...slot,
      guestPhysAddr: hex(slot.guestPhysAddr),
      memorySize: hex(slot.memorySize),
      userspaceAddr: hex(slot.userspaceAddr),
      guestMemfdOffset: hex(slot.guestMemfdOffset),
    })),
    vcpus: shape.vcpus,
  };
}

/** Of a passport whose form the HTTP face has checked. */
export function shapeOf(passport: Passport): VmShape {
  const json = passport.vm.shape as ShapeJson;
  return {
    capabilities: json.capabilities.map((cap) => ({ ...cap, args: cap.args.map(BigInt) })),
    memoryObjects: json.memoryObjects.map((object) => ({
      ...object,
      userspaceAddr: BigInt(object.userspaceAddr),
      size: BigInt(object.size),
    })),
    guestMemfds: json.guestMemfds.map((memfd) => ({
      ...memfd,
      size: BigInt(memfd.size),
      flags: BigInt(memfd.flags),
    })),
    memslots: json.memslots.map((slot) => ({
      ...slot,
      guestPhysAddr: BigInt(slot.guestPhysAddr),
      memorySize: BigInt(slot.memorySize),
      userspaceAddr: BigInt(slot.userspaceAddr),
      guestMemfdOffset: BigInt(slot.guestMemfdOffset),
    })),
    vcpus: json.vcpus,
  };
}

/** @param nameOf this host's name of the image with a hash */
export function definitionOf(
  passport: Passport,
  nameOf: (sha256: string, otherwise: string) => string,
): VmDefinition {
  const definition = definitionFromJson(
    passport.vm.definition as Parameters<typeof definitionFromJson>[0],
  );
  const { board } = definition;
  if (board === undefined) return definition;
  const own = <T extends ImageRef | null | undefined>(ref: T): T =>
    ref === null || ref === undefined ? ref : { ...ref, name: nameOf(ref.sha256, ref.name) };
  const { firmware, disk } = board;
  return {
    ...definition,
    board: {
      ...board,
      image: own(board.image),
      initrd: own(board.initrd),
      ...(firmware === undefined ? {} : { firmware: own(firmware) }),
      ...(disk === undefined ? {} : { disk: own(disk) }),
    },
  };
}

function imagesOf({ board }: VmDefinition): readonly ImageRef[] {
  const { image, initrd, firmware, disk } = board ?? {};
  const refs = [image, initrd, firmware, disk].filter((ref) => ref !== null && ref !== undefined);
  return refs.filter((ref, at) => refs.findIndex(({ sha256 }) => sha256 === ref.sha256) === at);
}

/** Who sends: how the target finds back. */
export interface Sender {
  readonly instance: string;
  readonly session: string;
  readonly url: string;
}

/** What the VM's irqfds and ioeventfds name now; more may come until it moves. */
export async function passportEventfds(
  handle: VmHandle,
  attachments: EventfdAttachments,
): Promise<readonly PassportEventfd[]> {
  const { value: irqfds } = await handle.call("listIrqfds", {});
  const { value: ioeventfds } = await handle.call("listIoeventfds", {});
  const triggers = irqfds.map(({ eventfd, index }) => ({ local: eventfd, index }));
  const others = [
    ...irqfds.flatMap(({ resamplefd: local, resampleIndex: index }) =>
      local === null ? [] : { local, index },
    ),
    ...ioeventfds.map(({ eventfd: local, index }) => ({ local, index })),
  ];
  const isTrigger = new Set(triggers.map(({ local }) => local));
  const byLocal = new Map([...others, ...triggers].map((one) => [one.local, one]));
  const named = attachments.named([...byLocal.values()].map((one) => ({ ...one, count: 0n })));
  return named.map(({ local, name }) => ({ name, isTrigger: isTrigger.has(local) }));
}

export interface PassportParts {
  readonly memory: MemoryMap | null;
  readonly eventfds: readonly PassportEventfd[];
  readonly source: Sender;
  /** null: it isn't snapshotted by itself. */
  readonly autosnapshot: AutosnapshotSpec | null;
}

export function passportOf(
  entry: VmEntry,
  { memory, eventfds, source, autosnapshot }: PassportParts,
): Passport {
  const { uuid, name, labels } = entry.record;
  const { definition } = entry;
  const blocks = (memory?.blocks ?? []).filter(({ backing }) => backing !== "device");
  return {
    version: 1,
    streams: STREAM_VERSIONS,
    source,
    vm: {
      uuid,
      name,
      labels,
      definition: definitionToJson(definition),
      shape: shapeToJson(entry.shape.records()),
      images: imagesOf(definition).map(({ sha256, size }) => ({ sha256, size })),
      ...(autosnapshot === null ? {} : { autosnapshot }),
    },
    parts: Object.entries(STATE_VERSIONS).map(([kind, version]) => ({ kind, version })),
    // A target of before eventfds moved takes only a VM without any.
    ...(eventfds.length === 0 ? {} : { eventfds }),
    memory: blocks.map(({ object, bytes, contentPage }) => ({ object, bytes, contentPage })),
  };
}

const MIB = 1024 * 1024;

/** Bytes that the VM's memory really takes; unbacked memory takes next to none. */
export function ramBytes(passport: Passport): number {
  const { memoryObjects } = shapeOf(passport);
  const objects = memoryObjects.filter(({ backing }) => backing === "ram");
  const { board } = passport.vm.definition as Partial<VmDefinition>;
  const sum = objects.reduce((total, { size }) => total + size, 0n);
  return Number(sum) + (board?.memoryMiB ?? 0) * MIB;
}

/** The newest version of the page stream that both sides know; null: none. */
export function streamOf(passport: Passport): number | null {
  const both = STREAM_VERSIONS.filter((version) => passport.streams.includes(version));
  return both.length === 0 ? null : Math.max(...both);
}
