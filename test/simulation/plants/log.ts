// Planted defects of GET, CLEAR and of folding hardware dirty state into the bitmap.

import type { Op } from "../../../src/kvm/index.js";
import { POINT } from "../../../src/kvm/index.js";
import { type Planting, running } from "../plant.js";

const GET = "harvestDirtyLog";
const CLEAR = "clearDirtyLog";
const BATCH_PAGES = 512;

/** Changes the word of the snapshot after the bitmap's word was taken. */
function snapshotWithout(maskLo: number, maskHi: number): Planting {
  return ({ kvm: { log, vm } }) => {
    const exchange = log.exchangeWord.bind(log);
    log.exchangeWord = (bitmap, word, batch) => {
      exchange(bitmap, word, batch);
      const { u32 } = vm.host.memory;
      const copy = ((bitmap.pa + bitmap.bytes) >>> 2) + word * 2;
      u32[copy]! &= ~maskLo;
      u32[copy + 1]! &= ~maskHi;
    };
  };
}

export const LOG_PLANTS = {
  "get-drops-bit-63": snapshotWithout(0, 0x8000_0000),
  "get-drops-bit-31": snapshotWithout(0x8000_0000, 0),
  "get-no-copy": snapshotWithout(0xffff_ffff, 0xffff_ffff),
  "get-forgets-tail": (machine) => {
    const { log } = machine.kvm;
    const protect = log.protectMasked.bind(log);
    log.protectMasked = (slot, page, lo, hi) => {
      const isTail = page + 64 >= slot.npages;
      if (!isTail || !running(machine, GET)) protect(slot, page, lo, hi);
    };
  },
  "protect-shifted": ({ kvm: { log } }) => {
    const protect = log.protectMasked.bind(log);
    log.protectMasked = (slot, page, lo, hi) => protect(slot, page + 1, lo, hi);
  },
  "protect-drops-bit-32": ({ kvm: { log } }) => {
    const protect = log.protectMasked.bind(log);
    log.protectMasked = (slot, page, lo, hi) => {
      const rest = (hi & ~1) >>> 0;
      if (lo !== 0 || rest !== 0) protect(slot, page, lo, rest);
    };
  },
  "protect-nothing": ({ kvm: { log } }) => {
    log.protectMasked = () => {};
  },
  "protect-then-exchange": (machine) => {
    const { log, vm } = machine.kvm;
    const protect = log.protectMasked.bind(log);
    const sync = log.sync.bind(log);
    log.protectMasked = (slot, page, lo, hi) => {
      if (!running(machine, GET)) protect(slot, page, lo, hi);
    };
    log.sync = function* (slot): Op<void> {
      yield* sync(slot);
      const bitmap = slot.dirtyBitmap;
      if (bitmap === null || !running(machine, GET)) return;
      yield* vm.mmuLock.writeLock();
      const { u32 } = vm.host.memory;
      for (let at = 0; at < bitmap.bytes; at += 8) {
        const lo = u32[(bitmap.pa + at) >>> 2]!;
        const hi = u32[((bitmap.pa + at) >>> 2) + 1]!;
        if (lo !== 0 || hi !== 0) protect(slot, at * 8, lo, hi);
      }
      vm.mmuLock.writeUnlock();
      yield POINT["lock-dropped"];
    };
  },
  "clear-takes-unnamed": ({ kvm: { log } }) => {
    const take = log.takeUserBits.bind(log);
    log.takeUserBits = (bitmap, word, _lo, _hi, batch) =>
      take(bitmap, word, 0xffff_ffff, 0xffff_ffff, batch);
  },
  "clear-wrong-word": (machine) => {
    const { log } = machine.kvm;
    const protect = log.protectMasked.bind(log);
    log.protectMasked = (slot, page, lo, hi) => {
      const isShifted = running(machine, CLEAR) && page >= 64;
      protect(slot, isShifted ? page - 64 : page, lo, hi);
    };
  },

  "get-no-sync": ({ kvm: { log } }) => {
    log.sync = function* (): Op<void> {};
  },
  "sync-after-exchange": ({ kvm: { log, vm } }) => {
    const sync = log.sync.bind(log);
    const get = log.get.bind(log);
    log.sync = function* (): Op<void> {};
    log.get = function* (id): ReturnType<typeof log.get> {
      const result = yield* get(id);
      const slot = vm.slots.get(id);
      if (slot !== undefined) yield* sync(slot);
      return result;
    };
  },
  "sync-misses-last-page": ({ kvm: { vm } }) => {
    const scan = vm.tables.scanDirty.bind(vm.tables);
    vm.tables.scanDirty = (first, end, found) => scan(first, end - 1, found);
  },
  "sync-misses-last-batch": ({ kvm: { log, vm } }) => {
    const scan = vm.tables.scanDirty.bind(vm.tables);
    const sync = log.sync.bind(log);
    let first = 0;
    log.sync = function* (slot): Op<void> {
      first = slot.baseGfn;
      yield* sync(slot);
    };
    vm.tables.scanDirty = (from, end, found) => {
      if (from < first + BATCH_PAGES) scan(from, Math.min(end, first + BATCH_PAGES), found);
    };
  },
  "dbm-span-clean": ({ kvm: { log, vm } }) => {
    log.protectMasked = (slot, page, lo, hi) => {
      const bits = (BigInt(hi) << 32n) | BigInt(lo);
      const last = bits.toString(2).length;
      const first = last - bits.toString(2).lastIndexOf("1") - 1;
      const base = slot.baseGfn + page;
      vm.tables.protect(base + first, base + last, true);
    };
  },
} as const satisfies Record<string, Planting>;
