// Owns: memory objects, memslots and guest_memfd as the wire shows them. HTTP thread.
import { hex } from "../../base/hex.js";
import type { ResultOf } from "../services.js";

type One<L> = L extends readonly (infer T)[] ? T : never;
type MemoryObject = One<ResultOf<"listMemoryObjects">>;
type GuestMemfd = One<ResultOf<"listGuestMemfds">>;
export type Memslot = One<ResultOf<"listMemslots">>;

export function memoryObjectView(object: MemoryObject) {
  return {
    id: object.id,
    userspaceAddr: hex(object.userspaceAddr),
    size: hex(object.size),
    backing: object.backing,
    hugePages: object.hugePages,
  };
}

export function guestMemfdView(memfd: GuestMemfd) {
  return {
    id: memfd.id,
    size: hex(memfd.size),
    flags: hex(memfd.flags),
    allocatedPages: memfd.allocatedPages,
  };
}

/** Bit → name. @source linux/kvm.h, flags of struct kvm_userspace_memory_region2 */
const MEM_FLAGS = ["KVM_MEM_LOG_DIRTY_PAGES", "KVM_MEM_READONLY", "KVM_MEM_GUEST_MEMFD"] as const;

/** @returns the flags word of names; unknown names never come past the schema. */
export function memFlagsOf(names: readonly string[]): number {
  return names.reduce((flags, name) => {
    const bit = MEM_FLAGS.indexOf(name as (typeof MEM_FLAGS)[number]);
    return bit < 0 ? flags : (flags | (1 << bit)) >>> 0;
  }, 0);
}

export function memslotView(slot: Memslot) {
  return {
    slot: slot.slot,
    flags: slot.flags,
    flagNames: MEM_FLAGS.filter((_name, bit) => ((slot.flags >>> bit) & 1) === 1),
    guestPhysAddr: hex(slot.guestPhysAddr),
    memorySize: hex(slot.memorySize),
    userspaceAddr: hex(slot.userspaceAddr),
    guestMemfdId: slot.guestMemfdId,
    guestMemfdOffset: hex(slot.guestMemfdOffset),
    npages: slot.npages,
  };
}
