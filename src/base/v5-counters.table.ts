// Owns: what a GICv5's SPI tracking counts: names, a sentence for each. Data only. Any thread.
// @source interrupts.md 5.13

/** Name → one sentence for the document. */
export const V5_COUNTERS = {
  exits: "Times a vCPU left the guest.",
  exitsInspected: "Of those, times SPIs in flight were looked at.",
  earlyOuts: "Of those, times the list of SPIs in flight was found empty.",
  listLockAcquisitions: "Times the lock of that list was taken.",
  vdrcfgCalls: "GIC VDRCFG reads: what tracking asked the hardware.",
  vdrcfgSkippedNoNotifier: "Reads that were saved because nobody listens to the SPI.",
  deactivationTraps: "GIC CDDI of the guest that KVM did in its place.",
  acks: "SPIs reported as acknowledged.",
  acksWithoutNotifier: "Of those, reports that nobody listened to.",
  spuriousAcks: "Of those, reports although no level SPI had been deactivated.",
  lateAcks: "Of those, reports after the guest had gone on behind the deactivation.",
  ackDelayNs: "Nanoseconds of the VM between deactivations and their reports, in all.",
  completions: "Level SPIs with a notifier that the guest deactivated.",
  missedAcks: "Of those, deactivated once more before anybody was told.",
  stormsDetected: "Level SPIs deactivated 16 times while their line never fell.",
  allocFailures: "Reports put off because their memory couldn't be had.",
  maxListLen: "SPIs that were in flight at the same time, at most.",
  icsrFaults: "Reads that found the SPI unknown to the hardware.",
  doorbells: "Doorbells of vCPUs that weren't in the guest.",
  vdpendCalls: "GIC VDPEND: changes of a pending state that KVM made.",
} as const;

export type V5CounterName = keyof typeof V5_COUNTERS;
export type V5Counters = Record<V5CounterName, number>;
