// Owns: building a VM from a snapshot's files: shape, memory of the full one and then of each
// differential, state. HTTP thread. Nothing that exists is touched before all of it is right.

import type { ServiceError } from "../../base/errors.js";
import { decodeSaved } from "../../base/saved-codec.js";
import type { MemoryMap, VmDefinition, VmHandle } from "../../runtime/index.js";
import type { VmShape } from "../../store/index.js";
import type { Attachment } from "../eventfd-attachments.js";
import { rebuild } from "../rebuild.js";
import type { SnapshotVm } from "./capture.js";
import { broken } from "./format.js";
import { blocksOf, decodeMeta, type SnapshotMeta } from "./meta.js";
import type { Opened, PageTarget, SnapshotIo } from "./snapshot-io.js";

export const WHY_HELD = "It is being restored from a snapshot.";

export interface Restored {
  readonly handle: VmHandle;
  readonly definition: VmDefinition;
  /** With the numbers of the new VM. */
  readonly shape: VmShape;
  readonly meta: SnapshotMeta;
  /** To be kept, or discarded. */
  readonly eventfds: Attachment;
}

export interface ChainFile {
  readonly id: string;
  readonly path: string;
}

export interface RestoreDeps {
  /** What eventfds are here that the VM had there. */
  readonly attach: (eventfds: SnapshotMeta["eventfds"]) => Promise<Attachment>;
  readonly io: SnapshotIo;
  /** A thread with the VM of a definition, its board loaded. */
  readonly build: (definition: VmDefinition) => Promise<VmHandle>;
}

/**
 * @param files of the chain, the full one first
 * @returns a VM that is held
 * @throws ServiceError "snapshot-broken", "snapshot-file", "state-mismatch"; KvmError as its parts
 */
export async function restoreChain(
  deps: RestoreDeps,
  files: readonly ChainFile[],
  paused: boolean,
): Promise<Restored> {
  const opened: Opened[] = [];
  try {
    for (const { path } of files) opened.push(await deps.io.open(path));
    const metas = opened.map(({ meta }) => decodeMeta(meta));
    requireChain(files, metas);
    const last = opened.at(-1);
    const meta = metas.at(-1);
    if (last === undefined || meta === undefined) throw broken("its chain is empty");
    return await buildFrom(deps, opened, meta, last.state, paused);
  } finally {
    for (const { job } of opened) await deps.io.leave(job);
  }
}

async function buildFrom(
  deps: RestoreDeps,
  opened: readonly Opened[],
  meta: SnapshotMeta,
  state: Uint8Array,
  paused: boolean,
): Promise<Restored> {
  const { definition, shape } = meta.vm;
  const handle = await deps.build(definition);
  let attached: Attachment | null = null;
  try {
    const built = await rebuild(handle, shape, true);
    const vm: SnapshotVm = handle;
    await vm.call("holdVm", { hold: true, why: WHY_HELD });
    const { value: memory } = await vm.call("describeMemory", {});
    const target = targetOf(meta, shape, built, memory);
    for (const { job } of opened) await loadFile(deps.io, vm, job, target);
    const parts = decodeSaved(state);
    attached = await deps.attach(meta.eventfds);
    const { eventfds } = attached;
    const all = paused ? parts.map(pausedPart) : parts;
    await vm.call("loadState", { parts: all, eventfds });
    return { handle, definition, shape: built, meta, eventfds: attached };
  } catch (error) {
    await handle.close();
    await attached?.discard();
    throw error;
  }
}

/** A board's part says whether its vCPUs go on when it is let go. */
function pausedPart<T extends { readonly kind: string; readonly data: unknown }>(part: T): T {
  const { data } = part;
  if (part.kind !== "board" || typeof data !== "object" || data === null) return part;
  return { ...part, data: { ...data, runs: false } };
}

/** Objects by the numbers that they have in the files. */
interface Target extends PageTarget {
  readonly numbers: ReadonlyMap<number, number>;
}

/** @throws ServiceError "snapshot-broken" where the new VM's memory is another */
function targetOf(meta: SnapshotMeta, shape: VmShape, built: VmShape, memory: MemoryMap): Target {
  const numbers = new Map<number, number>();
  for (const [at, { objectId }] of shape.memoryObjects.entries()) {
    numbers.set(objectId, built.memoryObjects[at]?.objectId ?? objectId);
  }
  const { pageSize } = memory;
  if (pageSize !== meta.memory.pageSize) throw different("pages of another size");
  const own = blocksOf(memory);
  const found = meta.memory.blocks.map(({ object, bytes, backing }) => {
    const number = numbers.get(object) ?? object;
    numbers.set(object, number);
    const block = own.find((one) => one.object === number);
    if (block?.bytes !== bytes || block.backing !== backing) {
      throw different(`no memory object ${object} of ${bytes} bytes`);
    }
    return { object, pa: block.pa, pages: bytes / pageSize };
  });
  return { memory: memory.memory, pageSize, blocks: found, numbers };
}

function different(what: string): ServiceError {
  return broken(`the VM that was built from it has ${what}`);
}

async function loadFile(
  io: SnapshotIo,
  vm: SnapshotVm,
  job: number,
  target: Target,
): Promise<void> {
  const { numbers, ...pages } = target;
  for (;;) {
    const step = await io.next(job, pages);
    if (step.kind === "end") return;
    if (step.kind !== "sequences") continue;
    // An object that was deleted since is in the parent's file alone.
    const block = pages.blocks.find(({ object }) => object === step.object);
    if (block === undefined) continue;
    const { first } = step;
    if (first + step.sequences.length > block.pages) throw broken("a page lies outside");
    const marked = [...step.sequences.keys()].filter((at) => step.sequences[at] !== 0);
    await vm.call("writeSequences", {
      object: numbers.get(step.object) ?? step.object,
      pages: Uint32Array.from(marked, (at) => first + at),
      sequences: Uint32Array.from(marked, (at) => step.sequences[at] ?? 0),
    });
  }
}

/** Each file must be the one that its record and its successor mean. */
function requireChain(files: readonly ChainFile[], metas: readonly SnapshotMeta[]): void {
  for (const [at, { id }] of files.entries()) {
    const meta = metas[at];
    if (meta?.id !== id) throw broken(`it is the file of ${meta?.id ?? "nothing"}`);
    const parent = metas[at - 1]?.id ?? null;
    if (meta.parent !== parent) throw broken(`it follows ${meta.parent ?? "nothing"}`);
  }
}
