// Owns: userspace's own reads and writes of guest memory; they never dirty anything. VM thread.
import { ServiceError } from "../base/errors.js";
import type { Kvm, MemoryObject } from "../kvm/index.js";

/** Bytes of one read at most: a length must not decide what this thread allocates. */
const READ_BYTES_MAX = 64 * 2 ** 20;

/** Finds an object by id. @throws ServiceError "memory-object-not-found" */
export function memoryObject(kvm: Kvm, id: number): MemoryObject {
  const object = kvm.vm.mm.byId(id);
  if (object === undefined) {
    throw new ServiceError("memory-object-not-found", `the VM has no memory object ${id}`);
  }
  return object;
}

/** @throws ServiceError "out-of-range" when the range leaves the object */
export function readObject(kvm: Kvm, id: number, offset: bigint, length: number): Uint8Array {
  const object = memoryObject(kvm, id);
  checkRange(object, offset, length);
  checkLength(length);
  const out = new Uint8Array(length);
  kvm.vm.host.readPhysical(object.pa + Number(offset), out);
  return out;
}

/** @throws ServiceError "out-of-range"; "memory-unbacked": that object keeps no bytes */
export function writeObject(kvm: Kvm, id: number, offset: bigint, bytes: Uint8Array): void {
  const object = memoryObject(kvm, id);
  checkRange(object, offset, bytes.length);
  if (object.backing === "unbacked") {
    throw new ServiceError(
      "memory-unbacked",
      `object ${id} is unbacked: its content is computed, and changes only by guest stores`,
    );
  }
  kvm.vm.mm.store(object, Number(offset), bytes);
}

function checkRange(object: MemoryObject, offset: bigint, length: number): void {
  if (offset + BigInt(length) > BigInt(object.bytes)) {
    throw new ServiceError(
      "out-of-range",
      `offset + length must be at most the object's size, ${object.bytes} bytes`,
    );
  }
}

function checkLength(length: number): void {
  if (length <= READ_BYTES_MAX) return;
  throw new ServiceError("out-of-range", `length must be at most ${READ_BYTES_MAX} bytes`);
}

/** The memory at a guest-physical address below 2^48, or null where a slot has none of its own. */
export function pieceAt(
  kvm: Kvm,
  address: number,
): { readonly object: MemoryObject; readonly offset: number } | null {
  const { vm } = kvm;
  if (address >= 2 ** vm.ipaBits) return null;
  const gfn = Math.floor(address / vm.pageSize);
  const slot = vm.slots.find(gfn);
  if (slot === undefined || slot.guestMemfd !== null) return null;
  const hva = slot.userspaceAddr + (address - slot.baseGfn * vm.pageSize);
  const object = vm.mm.find(hva);
  return object === undefined ? null : { object, offset: hva - object.userspaceAddr };
}

/** Runs `use` for each physically contiguous piece of a guest-physical range. */
function forPieces(
  kvm: Kvm,
  gpa: bigint,
  length: number,
  use: (object: MemoryObject, objectOffset: number, at: number, bytes: number) => void,
): void {
  const { vm } = kvm;
  const size = vm.pageSize;
  if (gpa + BigInt(length) > 2n ** BigInt(vm.ipaBits)) throw unmapped(gpa);
  let at = 0;
  while (at < length) {
    const address = Number(gpa) + at;
    const piece = pieceAt(kvm, address);
    if (piece === null) throw unmapped(gpa + BigInt(at));
    const bytes = Math.min(length - at, size - (address % size));
    use(piece.object, piece.offset, at, bytes);
    at += bytes;
  }
}

function unmapped(gpa: bigint): ServiceError {
  return new ServiceError(
    "gpa-not-mapped",
    `no slot with memory of its own covers guest-physical address 0x${gpa.toString(16)}`,
  );
}

/** @throws ServiceError "gpa-not-mapped", "out-of-range" when longer than 64 MiB */
export function readGuest(kvm: Kvm, gpa: bigint, length: number): Uint8Array {
  checkLength(length);
  const out = new Uint8Array(length);
  forPieces(kvm, gpa, length, (object, offset, at, bytes) => {
    kvm.vm.host.readPhysical(object.pa + offset, out.subarray(at, at + bytes));
  });
  return out;
}

/** All or nothing. @throws ServiceError "gpa-not-mapped", "memory-unbacked" */
export function writeGuest(kvm: Kvm, gpa: bigint, bytes: Uint8Array): void {
  forPieces(kvm, gpa, bytes.length, (object) => {
    if (object.backing === "ram") return;
    throw new ServiceError("memory-unbacked", "part of the range is unbacked memory");
  });
  forPieces(kvm, gpa, bytes.length, (object, offset, at, count) => {
    kvm.vm.mm.store(object, offset, bytes.subarray(at, at + count));
  });
}
