// Planted defects of TLB maintenance.
import { TLB_PERM } from "../../../src/machine/mmu/tlb.js";
import type { Machine } from "../../../src/vmm/machine.js";
import { type Planting, running } from "../plant.js";

/** The slot-wide flush does nothing within some commands. */
function withoutFlush(...commands: readonly string[]): Planting {
  return (machine) => {
    const { log } = machine.kvm;
    const flush = log.flush.bind(log);
    log.flush = (slot) => {
      if (!running(machine, ...commands)) flush(slot);
    };
  };
}

/** Leaves go, their TLB copies stay. */
function withoutFlushOfUnmap(machine: Machine, command: string): void {
  const { vm } = machine.kvm;
  const unmap = vm.tables.unmap.bind(vm.tables);
  const flushRange = vm.flushRange.bind(vm);
  let isDue = false;
  vm.tables.unmap = (first, end, gone) => {
    isDue = running(machine, command);
    return unmap(first, end, gone);
  };
  vm.flushRange = (first, count) => {
    if (!isDue) flushRange(first, count);
    isDue = false;
  };
}

export const TLB_PLANTS = {
  "get-no-tlbi": withoutFlush("harvestDirtyLog"),
  "clear-no-tlbi": withoutFlush("clearDirtyLog"),
  "enable-no-tlbi": withoutFlush("setUserMemoryRegion"),
  "reset-no-tlbi": ({ kvm }) => {
    kvm.rings.flush = () => {};
  },
  "move-no-tlbi": (machine) => withoutFlushOfUnmap(machine, "setUserMemoryRegion"),
  "munmap-no-tlbi": (machine) => withoutFlushOfUnmap(machine, "deleteMemoryObject"),
  "tlbi-local": (machine) => {
    const { log, vm } = machine.kvm;
    const flush = log.flush.bind(log);
    log.flush = (slot) => {
      if (running(machine, "setUserMemoryRegion")) flush(slot);
      else vm.host.cpus[0]?.tlb.invalidateRange(vm.vmid, slot.baseGfn, slot.npages);
    };
  },
  "tlbi-short": ({ kvm: { log } }) => {
    const flush = log.flush.bind(log);
    log.flush = (slot) => flush({ ...slot, npages: slot.npages - 1 });
  },
  "tlbi-misses-blocks": ({ kvm: { vm } }) => {
    for (const { tlb } of vm.host.cpus) {
      const invalidate = tlb.invalidateRange.bind(tlb);
      tlb.invalidateRange = (vmid, first, count) => {
        for (let at = 0; at < tlb.tags.length; at++) {
          const page = tlb.tags[at]!;
          const isHit = tlb.levels[at] === 3 && page >= first && page < first + count;
          if (isHit) invalidate(vmid, page, 1);
        }
      };
    }
  },
  "tlb-clean-writable": ({ kvm: { vm } }) => {
    for (const { tlb } of vm.host.cpus) {
      const fill = tlb.fill.bind(tlb);
      tlb.fill = (page, vmid, pa, perm, level) => {
        const isClean = (perm & TLB_PERM.CLEAN) !== 0;
        fill(page, vmid, pa, isClean ? perm | TLB_PERM.WRITE : perm, level);
      };
    }
  },
} as const satisfies Record<string, Planting>;
