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
  hacdbsBatches: "Arrays given to HACDBS.",
  hacdbsEntries: "Entries that HACDBS looked at.",
  hacdbsCleaned: "Descriptors that HACDBS made writable-clean.",
  hacdbsAlreadyClean: "Entries whose descriptor was writable-clean before.",
  hacdbsInvalidSkipped: "Entries without VALID that HACDBS skipped.",
  hacdbsErrStructf: "Runs of HACDBS that ended with STRUCTF: the entry could not be read.",
  hacdbsErrIpaf: "Entries that HACDBS refused with IPAF: nothing is mapped there.",
  hacdbsErrIpahacf: "Entries refused with IPAHACF: no descriptor that could be cleaned.",
  hacdbsTerminators: "Entries that end an array early.",
  hacdbsIrqs: "Times the handler of HACDBSIRQ ran.",
  hacdbsTimeouts: "Batches that the watchdog ended.",
  hacdbsWaitUs: "Modelled microseconds that callers waited for HACDBS.",
  hacdbsLowPowerUs: "Of those, microseconds asleep in WFI, WFIT or __delay().",
  clearFallbacksEperm: "Clears done by software because HACDBS may not be used here.",
  clearFallbacksEnomem: "Clears done by software because there was no memory for the array.",
  clearFallbacksEagain: "Clears that software had to finish.",
  rollbackBits: "Dirty bits put back into a bitmap because HACDBS did not get to them.",
  throttledUs: "Microseconds that vCPUs were kept from running by a throttle or a dirty limit.",
  kicks: "Kicks asked for.",
  ipis: "IPIs that KVM sent to vCPUs in the guest.",
  hdbssAppends: "Entries that HDBSS appended.",
  hdbssFullFaults: "Stores that found their vCPU's HDBSS buffer full.",
  hdbssErrorsAbort: "Times that HDBSS lost entries to an external abort.",
  hdbssErrorsGpf: "Times that HDBSS lost entries to a granule protection fault.",
  hdbssDrainsPut: "HDBSS buffers drained as their vCPU left its CPU.",
  hdbssDrainsRequest: "HDBSS buffers drained on request.",
  hdbssDrainsFault: "HDBSS buffers drained because they were full or had an error.",
  hdbssDrainsExit: "HDBSS buffers drained at an exit.",
  hdbssDrainsSync: "HDBSS buffers of idle vCPUs drained for GET or CLEAR.",
  hdbssDrainedEntries: "HDBSS entries put into a log.",
  hdbssInvalidSlots: "HDBSS entries that a drain found invalid.",
  hdbssConservativeMarks: "Pages marked because an HDBSS entry was lost.",
  bytesHdbssBuffers: "Bytes of HDBSS buffers, now.",
  falsePositives: "Pages reported dirty that nobody had stored to; counted while the shadow is on.",
  lostPages: "Pages stored to that no log tells of with every vCPU stopped; needs the shadow too.",
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
