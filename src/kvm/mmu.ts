// Owns: what KVM does with a guest's stage-2 abort: map, relax, or hand on as MMIO. VM thread.
//
//   abort ─ SRCU{ slot ─ host page ─ mmu_lock(read){ map | relax ─ mark dirty } } ─ guest
//              └ no slot, or a store to a READONLY one ─▶ MMIO
// @source arch/arm64/kvm/mmu.c (kvm_handle_guest_abort, user_mem_abort) by behaviour;
//   kvm-uapi.md 5.8, dirty-tracking.md 7.4
import { alignDown } from "../base/bits.js";
import { LO, type Stage2Fault } from "../machine/index.js";
import { carriesDbm, type Mapped } from "./dirty/leaf-policy.js";
import type { DirtyLog } from "./dirty-log.js";
import type { GuestMemfd } from "./guest-memfd.js";
import { isLogging, isReadOnly, type Memslot } from "./memslots.js";
import type { Protection } from "./pgtable.js";
import { POINT } from "./preemption.table.js";
import type { Op } from "./sched/scheduler.js";
import type { RunOutcome, Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/**
 * What becomes of an abort: back to the guest, userspace's turn, a page that hasn't come yet, or no
 * memory takes the access.
 */
export type AbortOutcome =
  | { readonly kind: "resume" }
  | { readonly kind: "mmio" }
  | { readonly kind: "absent"; readonly pa: number }
  | { readonly kind: "exit"; readonly outcome: RunOutcome };

const PAGE: Mapped = { span: 1 };
const RESUME: AbortOutcome = { kind: "resume" };
const MMIO: AbortOutcome = { kind: "mmio" };
const NO_TABLES: AbortOutcome = { kind: "exit", outcome: failed("ENOMEM") };

/** A host page that may back a guest page: where, and how much of it lies together. */
interface Backing {
  readonly pa: number;
  /** Pages of the largest leaf that may map it. */
  readonly span: number;
  /** The gfn that `pa` backs: the faulting page rounded down to span. */
  readonly gfn: number;
  readonly isDevice?: true;
}

export class Mmu {
  readonly #vm: Vm;
  readonly #log: DirtyLog;
  readonly #flush = (first: number, span: number) => this.#vm.flushRange(first, span);

  constructor(vm: Vm, log: DirtyLog) {
    this.#vm = vm;
    this.#log = log;
  }

  /**
   * kvm_handle_guest_abort with user_mem_abort, or gmem_abort for slots with a guest_memfd.
   * One function, because each level of delegation would be paid at every fault.
   * @param fault a copy: the CPU may be another's by the next step
   */
  *handleAbort(vcpu: Vcpu, fault: Stage2Fault): Op<AbortOutcome> {
    const vm = this.#vm;
    const { sched } = vm;
    if (sched.contended) yield POINT["abort-taken"];
    const epoch = vm.srcu.readLock();
    try {
      const gfn = Math.floor(fault.ipa / vm.pageSize);
      const slot = vm.slots.find(gfn);
      if (sched.contended) yield POINT["abort-slot-found"];
      // Addresses beyond the VM's IPA size get an external abort; a synthetic vCPU has no vectors,
      // so the access goes the MMIO way and userspace sees it.
      if (slot === undefined || slot.invalid || fault.kind === "address-size") return MMIO;
      if (fault.isWrite && isReadOnly(slot)) return MMIO;
      const seq = vm.invalidateSeq;
      const backing = this.#backing(slot, gfn);
      if (sched.contended) yield POINT["abort-page-found"];
      if (backing === null) return this.#noMemory(slot, fault);
      if (vm.missing?.lacks(backing.pa) === true) return { kind: "absent", pa: backing.pa };
      if (!vm.mmuLock.tryReadLock()) yield* vm.mmuLock.readLock();
      try {
        // Memory behind the address changed since it was looked up: start over.
        if (vm.invalidateSeq !== seq || vm.invalidateInProgress > 0) {
          vm.counters.values.s2Retries++;
          return RESUME;
        }
        const done = this.install(vcpu, fault, slot, gfn, backing);
        if (done !== "installed") return done === "nomem" ? NO_TABLES : RESUME;
        if (sched.contended) yield POINT["abort-mapped"];
        if (fault.isWrite) this.#mark(vcpu, slot, gfn, vcpu.ring);
        return RESUME;
      } finally {
        vm.mmuLock.readUnlock();
      }
    } finally {
      vm.srcu.readUnlock(epoch);
    }
  }

  /**
   * handleAbort for the commonest of aborts while nobody else is about: a store to a page that is
   * mapped and only protected. The guest needn't be left for it.
   * @returns false when nothing was done
   */
  relaxAtOnce(vcpu: Vcpu, fault: Stage2Fault): boolean {
    const vm = this.#vm;
    const { kind, hdbssf } = fault;
    if (vm.sched.contended || kind !== "permission" || hdbssf || vcpu.ring !== null) return false;
    const gfn = Math.floor(fault.ipa / vm.pageSize);
    const slot = vm.slots.find(gfn);
    if (slot === undefined || slot.invalid || isReadOnly(slot)) return false;
    const backing = this.#backing(slot, gfn);
    const leaf = vm.tables.leaf(gfn);
    if (backing === null || leaf === null || leaf.span !== backing.span) return false;
    if (this.install(vcpu, fault, slot, gfn, backing) === "installed") {
      this.#mark(vcpu, slot, gfn, null);
    }
    return true;
  }

  #mark(vcpu: Vcpu, slot: Memslot, gfn: number, ring: Vcpu["ring"]): void {
    if (isLogging(slot)) vcpu.dirtied++;
    this.#log.mark(slot, gfn - slot.baseGfn, ring, vcpu.id);
  }

  /** Maps the page or gives it write permission. "raced": another vCPU was faster, and marks it. */
  install(
    vcpu: Vcpu,
    fault: Stage2Fault,
    slot: Memslot,
    gfn: number,
    backing: Backing,
  ): "installed" | "raced" | "nomem" {
    const vm = this.#vm;
    const { values } = vm.counters;
    const leaf = vm.tables.leaf(gfn);
    const relaxes = fault.kind === "permission" && leaf !== null && leaf.span === backing.span;
    let done: "installed" | "raced" | "nomem";
    if (relaxes) {
      // A stale copy in this CPU's TLB faults too, although the leaf is writable by now.
      done = (leaf.lo & LO.S2AP_WRITE) !== 0 ? "raced" : "installed";
      if (done === "installed") {
        vm.tables.relax(gfn, carriesDbm(vm, slot, true, backing));
        values.s2WriteFaults++;
      }
    } else {
      done = this.#map(fault, slot, backing);
      if (done === "installed" && leaf !== null && leaf.span > backing.span) values.s2Splits++;
    }
    if (done === "raced") values.s2Retries++;
    // Scheduled out meanwhile: the next CPU may hold a stale copy, whose fault ends here again.
    if (done !== "nomem" && vcpu.cpu !== null) vm.flushLocal(vcpu.cpu, gfn);
    return done;
  }

  #map(fault: Stage2Fault, slot: Memslot, backing: Backing): "installed" | "raced" | "nomem" {
    const vm = this.#vm;
    const protection = this.protectionFor(slot, fault.isWrite, backing);
    const done = vm.tables.map(backing.gfn, backing.span, backing.pa, protection, this.#flush);
    if (done === "same") return "raced";
    if (done === "nomem") return "nomem";
    vm.counters.values.s2MapFaults++;
    return "installed";
  }

  #backing(slot: Memslot, gfn: number): Backing | null {
    return slot.guestMemfd === null ? this.#hostPage(slot, gfn) : this.#memfdPage(slot, gfn);
  }

  /** Write permission only where a store asks for it while the slot logs. */
  protectionFor(slot: Memslot, isWrite: boolean, backing: Mapped = PAGE): Protection {
    const writable = !isReadOnly(slot) && (isWrite || !isLogging(slot));
    const dbm = carriesDbm(this.#vm, slot, writable, backing);
    return backing.isDevice === true ? { writable, dbm, isDevice: true } : { writable, dbm };
  }

  /** The host page of a gfn and the largest leaf that may map it; null for a hole. */
  #hostPage(slot: Memslot, gfn: number): Backing | null {
    const vm = this.#vm;
    const { size, leafSizes } = vm.host.geometry;
    const hva = slot.userspaceAddr + (gfn - slot.baseGfn) * size;
    const object = vm.mm.find(hva);
    if (object === undefined) return null;
    const pa = object.pa + (hva - object.userspaceAddr);
    if (object.backing === "device") return { pa, span: 1, gfn, isDevice: true };
    // A block would map pages that haven't come.
    if (object.hugePages && !isLogging(slot) && vm.missing === null) {
      for (let at = leafSizes.length - 1; at > 0; at--) {
        const block = leafSizes[at]!;
        const span = block / size;
        const first = alignDown(gfn, span);
        const inSlot = first >= slot.baseGfn && first + span <= slot.baseGfn + slot.npages;
        const blockHva = hva - (gfn - first) * size;
        const inObject =
          blockHva >= object.userspaceAddr &&
          blockHva + block <= object.userspaceAddr + object.bytes;
        const blockPa = pa - (gfn - first) * size;
        if (inSlot && inObject && blockPa % block === 0) return { pa: blockPa, span, gfn: first };
      }
    }
    return { pa, span: 1, gfn };
  }

  #memfdPage(slot: Memslot, gfn: number): Backing | null {
    const file = this.#file(slot);
    if (file === undefined || slot.guestMemfd === null) return null;
    const index = slot.guestMemfd.pageOffset + (gfn - slot.baseGfn);
    const pa = this.#vm.memfds.page(file, index);
    return pa < 0 ? null : { pa, span: 1, gfn };
  }

  #file(slot: Memslot): GuestMemfd | undefined {
    return slot.guestMemfd === null ? undefined : this.#vm.memfds.open(slot.guestMemfd.memfdId);
  }

  #noMemory(slot: Memslot, fault: Stage2Fault): AbortOutcome {
    if (slot.guestMemfd === null) return { kind: "exit", outcome: failed("EFAULT") };
    const page = this.#vm.pageSize;
    const memoryFault = {
      flags: 0n,
      gpa: BigInt(alignDown(fault.ipa, page)),
      size: BigInt(page),
    };
    const errno = this.#file(slot) === undefined ? "EFAULT" : "ENOMEM";
    return {
      kind: "exit",
      outcome: { errno, exitReason: "KVM_EXIT_MEMORY_FAULT", memoryFault },
    };
  }
}

/** A run that failed without telling more than its errno. */
function failed(errno: "EFAULT" | "ENOMEM"): RunOutcome {
  return { errno, exitReason: "KVM_EXIT_UNKNOWN" };
}
