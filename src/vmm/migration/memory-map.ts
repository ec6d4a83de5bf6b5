// Owns: a VM's memory as another thread reads and writes it, and what it can't reach there: write
// sequences of unbacked pages. VM thread.
import { ServiceError } from "../../base/errors.js";
import type { MemoryObject } from "../../kvm/index.js";
import type { Machine } from "../machine.js";
import { memoryObject } from "../memory-access.js";
import type { MemoryMap } from "./commands.js";

/** Memory objects in the order of their numbers. */
export function objectsOf({ kvm }: Machine): readonly MemoryObject[] {
  return [...kvm.vm.mm.list()].sort((a, b) => a.id - b.id);
}

export function describeMemory(m: Machine): MemoryMap {
  const { host, pageSize } = m.kvm.vm;
  return {
    pageSize,
    memory: host.memory.memory,
    unbackedSeed: host.unbacked.seed,
    blocks: objectsOf(m).map(({ id, bytes, backing, pa }) => ({
      object: id,
      bytes,
      backing,
      pa,
      contentPage: backing === "unbacked" ? host.unbacked.contentPage(pa) : 0,
    })),
  };
}

function unbackedObject(m: Machine, id: number): MemoryObject {
  const object = memoryObject(m.kvm, id);
  if (object.backing === "unbacked") return object;
  throw new ServiceError("out-of-range", `object ${id} has bytes, and no write sequences`);
}

function checkPages(m: Machine, object: MemoryObject, end: number): void {
  const pages = object.bytes / m.kvm.vm.pageSize;
  if (end <= pages) return;
  throw new ServiceError("out-of-range", `object ${object.id} has ${pages} pages, not ${end}`);
}

/** @throws ServiceError "memory-object-not-found", "out-of-range" */
export function readSequences(m: Machine, id: number, first: number, count: number): Uint32Array {
  const object = unbackedObject(m, id);
  checkPages(m, object, first + count);
  const { host, pageSize } = m.kvm.vm;
  return host.unbacked.sequences(object.pa + first * pageSize, count);
}

/** @throws ServiceError "memory-object-not-found", "out-of-range" */
export function writeSequences(
  m: Machine,
  id: number,
  pages: Uint32Array,
  sequences: Uint32Array,
): void {
  const object = unbackedObject(m, id);
  if (pages.length !== sequences.length) {
    throw new ServiceError("out-of-range", "there are as many sequences as pages");
  }
  const { host, pageSize } = m.kvm.vm;
  checkPages(m, object, pages.reduce((most, page) => Math.max(most, page), -1) + 1);
  const { missing } = m.kvm.vm;
  for (const [at, page] of pages.entries()) {
    const pa = object.pa + page * pageSize;
    // One that came before is the guest's by now: what comes again is old.
    if (missing !== null && !missing.lacks(pa)) continue;
    host.unbacked.setSequence(pa, sequences[at] ?? 0);
  }
}
