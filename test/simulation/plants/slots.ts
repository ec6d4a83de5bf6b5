// Planted defects of faults, slot changes, and of taking memory away.

import type { Op } from "../../../src/kvm/index.js";
import { POINT } from "../../../src/kvm/index.js";
import { LO } from "../../../src/machine/index.js";
import { type Planting, running } from "../plant.js";

const LOG_DIRTY_PAGES = 1;

/** Marks nothing when the fault's last change to the tables was of one kind. */
function unmarkedAfter(kind: "map" | "relax"): Planting {
  return ({ kvm: { log, vm } }) => {
    const { tables } = vm;
    const map = tables.map.bind(tables);
    const relax = tables.relax.bind(tables);
    const mark = log.mark.bind(log);
    // By gfn, because another vCPU's fault may come in between.
    const last = new Map<number, "map" | "relax">();
    tables.map = (page, span, pa, protection, flush) => {
      for (let at = page; at < page + span; at++) last.set(at, "map");
      return map(page, span, pa, protection, flush);
    };
    tables.relax = (page) => {
      last.set(page, "relax");
      return relax(page);
    };
    log.mark = (slot, page, ring) => {
      if (last.get(slot.baseGfn + page) !== kind) mark(slot, page, ring);
    };
  };
}

export const SLOT_PLANTS = {
  "dbm-unmap-drops": ({ kvm: { regions } }) => {
    regions.leafGone = () => {};
  },
  "dbm-map-takes-back": ({ kvm: { vm } }) => {
    const { tables } = vm;
    const map = tables.map.bind(tables);
    tables.map = (page, span, pa, protection, flush) => {
      const leaf = tables.leaf(page);
      const isDirty = leaf !== null && leaf.span === span && (leaf.lo & LO.S2AP_WRITE) !== 0;
      if (!isDirty || protection.writable) return map(page, span, pa, protection, flush);
      tables.protect(page, page + span, protection.dbm);
      flush(page, span);
      return "mapped";
    };
  },

  "mark-before-map": ({ kvm: { log, mmu, vm } }) => {
    const mark = log.mark.bind(log);
    const handle = mmu.handleAbort.bind(mmu);
    log.mark = () => {};
    mmu.handleAbort = function* (vcpu, fault): ReturnType<typeof mmu.handleAbort> {
      const gfn = Math.floor(fault.ipa / vm.pageSize);
      const slot = vm.slots.find(gfn);
      if (fault.isWrite && slot !== undefined && !slot.invalid) {
        mark(slot, gfn - slot.baseGfn, vcpu.ring);
        yield POINT["abort-taken"];
      }
      return yield* handle(vcpu, fault);
    };
  },
  "map-no-mark": unmarkedAfter("map"),
  "relax-no-mark": unmarkedAfter("relax"),
  "read-maps-writable": ({ kvm: { mmu } }) => {
    const protectionFor = mmu.protectionFor.bind(mmu);
    mmu.protectionFor = (slot) => protectionFor(slot, true);
  },
  "block-not-split": ({ kvm: { vm } }) => {
    const { tables } = vm;
    const map = tables.map.bind(tables);
    tables.map = (page, span, pa, protection, flush) => {
      const leaf = tables.leaf(page);
      if (leaf === null || leaf.span <= span || !protection.writable) {
        return map(page, span, pa, protection, flush);
      }
      tables.relax(page);
      return "mapped";
    };
  },
  "split-writable": ({ kvm: { vm } }) => {
    const { tables } = vm;
    const split = tables.splitBlock.bind(tables);
    tables.splitBlock = (page, flush) => {
      const leaf = tables.leaf(page);
      const done = split(page, flush);
      if (done !== "split" || leaf === null) return done;
      for (let at = leaf.first; at < leaf.first + leaf.span; at++) tables.relax(at);
      return done;
    };
  },

  "move-loses-bitmap": ({ kvm: { regions, vm } }) => {
    const set = regions.set.bind(regions);
    const bases = new Map<number, number>();
    regions.set = function* (region, isV1): ReturnType<typeof regions.set> {
      const base = Number(region.guestPhysAddr) / vm.pageSize;
      const result = yield* set(region, isV1);
      const bitmap = result.slot?.dirtyBitmap ?? null;
      if (bitmap === null || result.created) return result;
      const isMove = bases.get(region.slot) !== base;
      bases.set(region.slot, base);
      if (isMove) vm.host.memory.u8.fill(0, bitmap.pa, bitmap.pa + bitmap.bytes);
      return result;
    };
  },
  "initset-empty": ({ kvm: { log } }) => {
    log.setAll = () => {};
  },
  "initset-no-tail": ({ kvm: { log } }) => {
    const setAll = log.setAll.bind(log);
    log.setAll = (bitmap, npages) => setAll(bitmap, npages - (npages % 32));
  },
  "enable-no-protect": ({ kvm: { regions } }) => {
    regions.protectSlot = function* (): Op<void> {};
  },
  "enable-first-batch": ({ kvm: { regions } }) => {
    const protect = regions.protectSlot.bind(regions);
    regions.protectSlot = (slot) => protect({ ...slot, npages: Math.min(slot.npages, 512) });
  },
  "enable-protect-early": ({ kvm: { regions, vm } }) => {
    const protect = regions.protectSlot.bind(regions);
    const set = regions.set.bind(regions);
    regions.protectSlot = function* (): Op<void> {};
    regions.set = function* (region, isV1): ReturnType<typeof regions.set> {
      const old = vm.slots.get(region.slot);
      if (old !== undefined && (region.flags & LOG_DIRTY_PAGES) !== 0) yield* protect(old);
      return yield* set(region, isV1);
    };
  },
  "srcu-not-awaited": ({ kvm: { vm } }) => {
    vm.srcu.synchronize = function* (): Op<void> {};
  },
  "move-protects-again": ({ kvm: { regions, vm } }) => {
    const set = regions.set.bind(regions);
    regions.set = function* (region, isV1): ReturnType<typeof regions.set> {
      const before = vm.slots.get(region.slot)?.baseGfn;
      const result = yield* set(region, isV1);
      const { slot } = result;
      if (slot !== null && before !== undefined && slot.baseGfn !== before) {
        yield POINT["slot-activated"];
        yield* regions.protectSlot(slot);
      }
      return result;
    };
  },
  "munmap-stale-slot": (machine) => {
    const { srcu } = machine.kvm.vm;
    const lock = srcu.readLock.bind(srcu);
    const unlock = srcu.readUnlock.bind(srcu);
    srcu.readLock = () => (running(machine, "deleteMemoryObject") ? -1 : lock());
    srcu.readUnlock = (epoch) => {
      if (epoch >= 0) unlock(epoch);
    };
  },
  "munmap-no-sequence": ({ kvm: { vm } }) => {
    Object.defineProperty(vm, "invalidateSeq", { get: () => 0, set: () => {} });
    Object.defineProperty(vm, "invalidateInProgress", { get: () => 0, set: () => {} });
  },
} as const satisfies Record<string, Planting>;
