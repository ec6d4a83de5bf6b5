// Owns: what a VM counts of itself; names as in dirty-tracking.md 9 where that has them. VM thread.
import type { Saved } from "../base/saved.js";

/** Name → one sentence for the document. */
export const COUNTERS = {
  exits: "Times a vCPU left the guest.",
  mmioExitUser: "MMIO accesses that went to userspace.",
  mmioExitKernel: "MMIO stores that an ioeventfd or a coalesced zone took.",
  signalExits: "Runs ended by a kick.",
  dirtyRingExits: "Runs ended by a full dirty ring.",
  s2MapFaults: "Stage-2 translation faults resolved by a new mapping.",
  s2WriteFaults: "Stage-2 permission faults resolved by giving write permission.",
  s2Retries: "Faults that found another vCPU had been faster, or memory had changed.",
  s2Splits: "Blocks split into the next level, eagerly or by a fault.",
  hwDirtied: "Clean-to-dirty updates done by the MMU.",
  pagesProtected: "Leaves that lost write permission.",
  pagesScanned: "Pages looked at for hardware dirty state.",
  tlbiVmid: "Whole-VMID TLB invalidations.",
  tlbiRange: "TLB invalidations by range.",
  tlbiLocal: "Single-page invalidations on one CPU.",
  dirtyMarked: "Pages marked in a bitmap.",
  ringPushed: "Entries pushed to dirty rings.",
  ringReset: "Entries taken back by KVM_RESET_DIRTY_RINGS.",
  getDirtyLog: "KVM_GET_DIRTY_LOG calls that succeeded.",
  clearDirtyLog: "KVM_CLEAR_DIRTY_LOG calls that succeeded.",
  kicks: "Kicks asked for.",
} as const;

export type CounterName = keyof typeof COUNTERS;

export class Counters {
  readonly values: Record<CounterName, number>;

  constructor() {
    const names = Object.keys(COUNTERS) as CounterName[];
    this.values = Object.fromEntries(names.map((name) => [name, 0])) as Record<CounterName, number>;
  }

  save(): Saved {
    return { kind: "counters", version: 1, data: { ...this.values } };
  }

  load(saved: Saved): void {
    Object.assign(this.values, saved.data);
  }
}
