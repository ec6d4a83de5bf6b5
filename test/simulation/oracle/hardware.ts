// What TLBs and tables may hold between ioctls, seen from the silicon only. Imports nothing of kvm.
//
//   INV-2: while a page is clean for userspace no TLB holds a writable copy of it, and no leaf over
//   it is writable: the next store can't pass unlogged.
//   And every copy and every leaf leads to the memory that the slots say, or to none.
import type { HostCpu } from "../../../src/machine/host-cpu.js";
import type { HostMemory } from "../../../src/machine/host-memory.js";
import {
  decodeRegime,
  emptyWalk,
  LO,
  outputAddress,
  walkStage2,
} from "../../../src/machine/index.js";
import { TLB_PERM } from "../../../src/machine/mmu/tlb.js";
import type { MemoryModel } from "./model.js";

export interface Hardware {
  readonly cpus: readonly HostCpu[];
  readonly memory: HostMemory;
  readonly vtcr: bigint;
  readonly vttbr: bigint;
  readonly vmid: number;
}

/** Whether a page of a logging slot is in no report that is still to come. */
export type IsClean = (slot: number, offset: number) => boolean;

/** @returns what is wrong with a translation of `gfn`, or null */
function faultOf(
  model: MemoryModel,
  gfn: number,
  paPage: number,
  isWritable: boolean,
  isClean: IsClean,
): string | null {
  const slot = model.slotAt(gfn);
  const place = slot?.current ?? null;
  if (slot === undefined || place === null) return "though no slot holds it";
  const offset = gfn - place.baseGfn;
  const expected = model.hostPage(place.hvaPage + offset);
  if (expected !== paPage) return `to host page ${paPage} instead of ${expected}`;
  if (!isWritable) return null;
  if (place.isReadOnly) return "writable in a read-only slot";
  if (place.isLogging && isClean(slot.id, offset)) {
    return `writable while page ${offset} of slot ${slot.id} is clean for userspace`;
  }
  return null;
}

/** @returns the first violation as a sentence, or null */
export function checkTlbs(hw: Hardware, model: MemoryModel, isClean: IsClean): string | null {
  const { pageSize } = model;
  for (const cpu of hw.cpus) {
    const { tlb } = cpu;
    if (tlb.count === 0) continue;
    for (let at = 0; at < tlb.tags.length; at++) {
      const gfn = tlb.tags[at]!;
      if (gfn < 0 || tlb.vmids[at] !== hw.vmid) continue;
      const isWritable = (tlb.perms[at]! & TLB_PERM.WRITE) !== 0;
      const why = faultOf(model, gfn, tlb.pages[at]! / pageSize, isWritable, isClean);
      if (why !== null) return `host CPU ${cpu.index} caches gfn 0x${gfn.toString(16)} ${why}`;
    }
  }
  return null;
}

/**
 * Looks at every leaf in guest pages [first, end).
 * @returns the first violation as a sentence, or null
 */
export function checkLeaves(
  hw: Hardware,
  model: MemoryModel,
  range: { readonly first: number; readonly end: number },
  isClean: IsClean,
): string | null {
  const { pageSize } = model;
  const regime = decodeRegime(hw.vtcr, hw.vttbr);
  const walk = emptyWalk();
  for (let gfn = range.first; gfn < range.end; ) {
    walkStage2(hw.memory, regime, gfn * pageSize, walk);
    const span = walk.size / pageSize;
    const start = gfn - (gfn % span);
    const end = Math.min(range.end, start + span);
    if (!walk.found) {
      gfn = end;
      continue;
    }
    const paPage = outputAddress(walk.lo, walk.hi, walk.size) / pageSize - start;
    const isWritable = (walk.lo & LO.S2AP_WRITE) !== 0;
    for (; gfn < end; gfn++) {
      const why = faultOf(model, gfn, paPage + gfn, isWritable, isClean);
      if (why !== null) return `level ${walk.level} leaf maps gfn 0x${gfn.toString(16)} ${why}`;
    }
  }
  return null;
}
