// Owns: KVM_SET_USER_MEMORY_REGION and REGION2: create, delete, move, change flags. VM thread.
//
//   DELETE, MOVE   old slot invalid ─ SRCU ─ unmap + TLBI ─ new table ─ free
//   FLAGS_ONLY     bitmap ─ new slot active ─ SRCU ─ write-protect pass, split pass
// @source virt/kvm/kvm_main.c (kvm_set_memory_region, kvm_set_memslot), arch/arm64/kvm/mmu.c
//   by behaviour; kvm-uapi.md 5.1, oracle README 4.1
import { KvmError } from "../base/errors.js";
import { U64_MAX } from "../base/hex.js";
import { HI, LO } from "../machine/index.js";
import { addsDbm, eagerSplitChunk } from "./dirty/leaf-policy.js";
import { BATCH_PAGES } from "./dirty/words.js";
import type { DirtyLog } from "./dirty-log.js";
import { isLogging, type Memslot } from "./memslots.js";
import { POINT } from "./preemption.table.js";
import type { Op } from "./sched/scheduler.js";
import {
  GUEST_MEMFD_FLAG,
  KVM_MEM,
  KVM_MEM_MAX_NR_PAGES,
  KVM_USER_MEM_SLOTS,
  TASK_SIZE,
} from "./uapi/flags.js";
import type { Vm } from "./vm.js";

/** struct kvm_userspace_memory_region2; REGION (v1) has no guest_memfd members. */
export interface MemoryRegion {
  readonly slot: number;
  readonly flags: number;
  readonly guestPhysAddr: bigint;
  readonly memorySize: bigint;
  readonly userspaceAddr: bigint;
  readonly guestMemfd: number;
  readonly guestMemfdOffset: bigint;
}

type Change = "create" | "delete" | "move" | "flags" | "none";

export class MemoryRegions {
  readonly #vm: Vm;
  readonly #log: DirtyLog;

  constructor(vm: Vm, log: DirtyLog) {
    this.#vm = vm;
    this.#log = log;
  }

  /**
   * @param isV1 the narrower ioctl: flags beyond LOG_DIRTY_PAGES and READONLY are unknown
   * @returns whether a slot was created, and the slot as it is now (null after a delete)
   * @throws KvmError EINVAL, EEXIST, EBADF, ENOMEM, EFAULT; then slot and log are untouched
   */
  *set(region: MemoryRegion, isV1: boolean): Op<{ created: boolean; slot: Memslot | null }> {
    const vm = this.#vm;
    const ioctl = isV1 ? "KVM_SET_USER_MEMORY_REGION" : "KVM_SET_USER_MEMORY_REGION2";
    yield POINT["ioctl-start"];
    yield* vm.slotsLock.lock();
    try {
      yield POINT["slots-lock-taken"];
      this.#checkMembers(region, isV1, ioctl);
      const old = vm.slots.get(region.slot);
      if (old !== undefined) yield* this.#log.deferred.drain(old.id);
      const change = this.#change(region, old, ioctl);
      if (change === "none") return { created: false, slot: old ?? null };
      if (change === "delete") {
        yield* this.#remove(old as Memslot);
        if (vm.hdbss !== null) yield* vm.hdbss.slotsChanged();
        return { created: false, slot: null };
      }
      const slot = this.#prepare(region, old, change, ioctl);
      if (isLogging(slot) && vm.hdbss !== null) yield* vm.hdbss.loggingStarts();
      if (change === "move") yield* this.#invalidate(old as Memslot);
      vm.slots.replace(slot);
      yield* vm.srcu.synchronize();
      yield POINT["slot-activated"];
      if (old?.dirtyBitmap && old.dirtyBitmap !== slot.dirtyBitmap) this.#log.free(old.dirtyBitmap);
      if (change === "flags") yield* this.#commit(slot);
      if (!isLogging(slot) && vm.hdbss !== null) yield* vm.hdbss.slotsChanged();
      return { created: change === "create", slot };
    } finally {
      vm.slotsLock.unlock();
    }
  }

  /** Checks that need no look at other slots, in KVM's order. */
  #checkMembers(region: MemoryRegion, isV1: boolean, ioctl: string): void {
    const einval = (why: string) => new KvmError("EINVAL", ioctl, why);
    const page = BigInt(this.#vm.pageSize);
    const { slot, flags, guestPhysAddr, memorySize, userspaceAddr } = region;
    const hasMemfd = (flags & KVM_MEM.GUEST_MEMFD) !== 0;
    let valid: number = KVM_MEM.LOG_DIRTY_PAGES | KVM_MEM.READONLY;
    if (!isV1 && hasMemfd) valid = KVM_MEM.GUEST_MEMFD;
    if ((flags & ~valid) !== 0) {
      throw einval("flags holds an unknown bit, or GUEST_MEMFD beside LOG_DIRTY_PAGES or READONLY");
    }
    if ((slot & 0xffff) >= KVM_USER_MEM_SLOTS) {
      throw einval(`slot must be below ${KVM_USER_MEM_SLOTS}`);
    }
    if (memorySize % page !== 0n) throw einval(`memorySize must be a multiple of ${page}`);
    if (guestPhysAddr % page !== 0n) throw einval(`guestPhysAddr must be a multiple of ${page}`);
    if (userspaceAddr % page !== 0n || !isUserRange(userspaceAddr, memorySize)) {
      throw einval(`userspaceAddr must be a multiple of ${page}, and the range end below 2^48`);
    }
    if (hasMemfd) {
      const offset = region.guestMemfdOffset;
      if (offset % page !== 0n || offset + memorySize > U64_MAX) {
        throw einval(`guestMemfdOffset must be a multiple of ${page} and not wrap around`);
      }
    }
    if (slot >>> 16 !== 0) throw einval("arm64 has one address space: slot bits 31:16 must be 0");
    if (guestPhysAddr + memorySize > U64_MAX) throw einval("the range wraps around");
    if (memorySize / page > BigInt(KVM_MEM_MAX_NR_PAGES)) {
      throw einval(`a slot holds at most ${KVM_MEM_MAX_NR_PAGES} pages`);
    }
  }

  /** What the call means for the slot as it is. */
  #change(region: MemoryRegion, old: Memslot | undefined, ioctl: string): Change {
    const einval = (why: string) => new KvmError("EINVAL", ioctl, why);
    if (region.memorySize === 0n) {
      if (old === undefined) throw einval(`slot ${region.slot} does not exist, nothing to delete`);
      return "delete";
    }
    const baseGfn = Number(region.guestPhysAddr) / this.#vm.pageSize;
    const npages = Number(region.memorySize) / this.#vm.pageSize;
    if (old === undefined) {
      this.#checkOverlap(region.slot, baseGfn, npages, ioctl);
      return "create";
    }
    const fixed = KVM_MEM.READONLY | KVM_MEM.GUEST_MEMFD;
    if ((region.flags & KVM_MEM.GUEST_MEMFD) !== 0) {
      throw einval("a slot with a guest_memfd can't be changed: delete it first");
    }
    if (BigInt(old.userspaceAddr) !== region.userspaceAddr || old.npages !== npages) {
      throw einval("size and userspaceAddr of a slot are fixed: delete it first");
    }
    if (((old.flags ^ region.flags) & fixed) !== 0) {
      throw einval("READONLY and GUEST_MEMFD of a slot are fixed: delete it first");
    }
    if (old.baseGfn !== baseGfn) {
      this.#checkOverlap(region.slot, baseGfn, npages, ioctl);
      return "move";
    }
    return old.flags === region.flags ? "none" : "flags";
  }

  #checkOverlap(id: number, baseGfn: number, npages: number, ioctl: string): void {
    const other = this.#vm.slots.overlap(id, baseGfn, npages);
    if (other !== undefined) {
      throw new KvmError("EEXIST", ioctl, `the range overlaps slot ${other.id}`);
    }
  }

  /** Builds the new slot: bitmap, guest_memfd binding, then the architecture's own check. */
  #prepare(region: MemoryRegion, old: Memslot | undefined, change: Change, ioctl: string): Memslot {
    const vm = this.#vm;
    const npages = Number(region.memorySize) / vm.pageSize;
    const hasMemfd = change === "create" && (region.flags & KVM_MEM.GUEST_MEMFD) !== 0;
    const { guestMemfd, guestMemfdOffset, memorySize } = region;
    const file = hasMemfd
      ? vm.memfds.checkBinding(guestMemfd, guestMemfdOffset, memorySize, vm.slots.list())
      : null;
    if (region.guestPhysAddr + region.memorySize > 2n ** BigInt(vm.ipaBits)) {
      throw new KvmError(
        "EFAULT",
        ioctl,
        `the range ends beyond the VM's ${vm.ipaBits}-bit guest-physical space`,
      );
    }
    if (file !== null && (file.flags & GUEST_MEMFD_FLAG.MMAP) === 0n) {
      throw new KvmError("EINVAL", ioctl, "on arm64 only a file created with MMAP can back a slot");
    }
    if ((region.flags & KVM_MEM.LOG_DIRTY_PAGES) !== 0 && this.#touchesDevice(region)) {
      throw new KvmError("EINVAL", ioctl, "a device's pages can't be logged");
    }
    let bitmap = old?.dirtyBitmap ?? null;
    if ((region.flags & KVM_MEM.LOG_DIRTY_PAGES) === 0) bitmap = null;
    else if (bitmap === null && vm.usesDirtyBitmap) {
      bitmap = this.#log.allocate(npages);
      if (bitmap === null) {
        throw new KvmError("ENOMEM", ioctl, "the dirty bitmap does not fit the memory budget");
      }
      if (vm.manualProtectAndInitSet) this.#log.setAll(bitmap, npages);
    }
    return {
      id: region.slot,
      baseGfn: Number(region.guestPhysAddr) / vm.pageSize,
      npages,
      userspaceAddr: Number(region.userspaceAddr),
      flags: region.flags,
      dirtyBitmap: bitmap,
      guestMemfd: hasMemfd
        ? {
            memfdId: region.guestMemfd,
            pageOffset: Number(region.guestMemfdOffset) / vm.pageSize,
          }
        : (old?.guestMemfd ?? null),
      invalid: false,
    };
  }

  /** kvm_arch_prepare_memory_region: whether any of it is VM_PFNMAP. */
  #touchesDevice({ userspaceAddr, memorySize }: MemoryRegion): boolean {
    const first = Number(userspaceAddr);
    const end = first + Number(memorySize);
    const overlaps = (at: number, bytes: number): boolean => at < end && first < at + bytes;
    return this.#vm.mm
      .list()
      .some((o) => o.backing === "device" && overlaps(o.userspaceAddr, o.bytes));
  }

  /** Makes the old slot invalid, waits for its readers, and tears its mappings down. */
  *#invalidate(old: Memslot): Op<void> {
    const vm = this.#vm;
    vm.slots.replace({ ...old, invalid: true });
    yield POINT["slot-invalidated"];
    yield* vm.srcu.synchronize();
    const unmap = (): Op<void> => this.unmapRange(old, old.baseGfn, old.baseGfn + old.npages);
    // Entries name addresses: they are told apart only as long as the slot is where it was; and
    // where one was lost, the descriptors are all that is left.
    const isHeld = isLogging(old) && vm.isHdbssOn && !vm.seedBugs.has("B16");
    if (isHeld && vm.hdbss !== null) yield* vm.hdbss.whileHeld(unmap);
    else yield* unmap();
    yield POINT["slot-unmapped"];
  }

  *#remove(old: Memslot): Op<void> {
    const vm = this.#vm;
    yield* this.#invalidate(old);
    vm.slots.remove(old.id);
    yield* vm.srcu.synchronize();
    if (old.dirtyBitmap !== null) this.#log.free(old.dirtyBitmap);
  }

  /**
   * Tears down stage-2 mappings of guest pages [first, end) of a slot, batch by batch, TLBs with
   * them. Hardware dirty state goes into the slot's bitmap first: a move keeps that bitmap.
   */
  *unmapRange(slot: Memslot, first: number, end: number): Op<void> {
    const vm = this.#vm;
    const { tables } = vm;
    yield* vm.mmuLock.writeLock();
    try {
      let page = tables.nextMapped(first, end);
      while (page < end) {
        const leaf = tables.leaf(page);
        const span = Math.max(BATCH_PAGES, leaf?.span ?? 0);
        const stop = Math.min(end, page + span);
        tables.unmap(page, stop, (at, _span, lo, hi) => this.leafGone(slot, at, lo, hi));
        vm.flushRange(page, stop - page);
        tables.freeDetached();
        page = tables.nextMapped(stop, end);
        vm.mmuLock.writeUnlock();
        yield POINT["lock-dropped"];
        yield* vm.mmuLock.writeLock();
      }
    } finally {
      vm.mmuLock.writeUnlock();
    }
  }

  /** Keeps what a vanishing leaf knew: a writable-dirty page is marked in the log. */
  leafGone(slot: Memslot, page: number, lo: number, hi: number): void {
    const dirty = (lo & LO.S2AP_WRITE) !== 0 && (hi & HI.DBM) !== 0;
    if (dirty && slot.dirtyBitmap !== null) this.#log.setBit(slot.dirtyBitmap, page - slot.baseGfn);
  }

  /**
   * kvm_arch_commit_memory_region of a slot whose log was turned on. After a create or a move every
   * mapping is younger than the slot and logs already: to protect it would wipe hardware's record.
   */
  *#commit(slot: Memslot): Op<void> {
    const vm = this.#vm;
    if (!isLogging(slot) || vm.manualProtectAndInitSet) return;
    yield* this.protectSlot(slot);
    if (eagerSplitChunk(vm) === 0n) return;
    yield* vm.mmuLock.writeLock();
    try {
      yield* this.#log.split(slot.baseGfn, slot.baseGfn + slot.npages, addsDbm(vm, slot));
    } finally {
      vm.mmuLock.writeUnlock();
    }
  }

  /** kvm_mmu_wp_memory_region: takes write permission from the whole slot, then one TLBI. */
  *protectSlot(slot: Memslot): Op<void> {
    const vm = this.#vm;
    const end = slot.baseGfn + slot.npages;
    const managed = addsDbm(vm, slot);
    yield* vm.mmuLock.writeLock();
    try {
      for (let page = vm.tables.nextMapped(slot.baseGfn, end); page < end; ) {
        const stop = Math.min(end, page + BATCH_PAGES);
        vm.counters.values.pagesProtected += vm.tables.protect(page, stop, managed);
        page = vm.tables.nextMapped(stop, end);
        vm.mmuLock.writeUnlock();
        yield POINT["lock-dropped"];
        yield* vm.mmuLock.writeLock();
      }
    } finally {
      vm.mmuLock.writeUnlock();
    }
    yield POINT["before-tlbi"];
    this.#log.flush(slot);
  }
}

/** access_ok plus the rule that a tagged pointer is refused. */
function isUserRange(addr: bigint, size: bigint): boolean {
  return size <= TASK_SIZE && addr <= TASK_SIZE - size;
}
