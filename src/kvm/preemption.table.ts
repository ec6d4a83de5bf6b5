// Owns: the named points where a KVM operation or a vCPU can be preempted (DESIGN 2). Data only.
// The simulation reports which pairs of points met, and fails if a pair listed here never did.

/** Point → what is true while a context stands there. */
export const PREEMPTION_POINTS = {
  "ioctl-start": "an ioctl was accepted, nothing done",
  "slots-lock-taken": "slots_lock held",
  "log-synced": "hardware dirty state folded into the bitmap; mmu_lock not taken",
  "word-exchanged": "mmu_lock held; dirty bits taken from the bitmap, pages still writable",
  "batch-protected": "mmu_lock held; at most 512 pages re-protected, TLBs still stale",
  "before-tlbi": "mmu_lock dropped; pages protected in the tables, TLBs still stale",
  "before-copy-out": "TLBs invalidated; the snapshot is not copied yet",
  "lock-dropped": "mmu_lock dropped between two batches of one pass",
  "scan-batch": "at most 512 leaves looked at for hardware dirty state",
  "slot-invalidated": "old slot marked invalid, readers may still use it",
  "slot-unmapped": "old slot's mappings gone, new slot not active",
  "memfd-batch": "at most 512 pages of a guest_memfd allocated, or unmapped and freed",
  "slot-activated": "new slot active; write-protect pass not begun",
  "ring-entry-reset": "harvested ring entries taken back, pages not re-armed",
  "ring-before-tlbi": "pages re-armed in the tables, TLBs still stale",
  "hacdbs-wait": "mmu_lock held, dirty bits in the array; HACDBS works on a borrowed CPU",
  "guest-slice": "a vCPU used up a slice; it is in the guest",
  "abort-taken": "a stage-2 abort left the guest; nothing looked up",
  "abort-slot-found": "slot looked up under SRCU, memory not",
  "abort-page-found": "host page looked up, mmu_lock not taken",
  "abort-mapped": "mmu_lock held for read; mapping made, page not marked dirty",
  "abort-marked": "page marked dirty, mmu_lock dropped; back to the guest next",
  "run-entry": "RUN entered or an exit handled; requests checked before the guest is entered",
  "hdbss-requested": "a sync has requested and kicked vCPUs, and read nothing yet",
  "hdbss-noticed": "a vCPU left the guest for a request; nothing drained",
  "hdbss-halting": "vCPUs were told to leave their CPUs; the mode is the old one",
  "hdbss-switched": "HDBSS was switched, and vCPUs may run again",
} as const;

export type PointName = keyof typeof PREEMPTION_POINTS;

export const POINT_NAMES = Object.keys(PREEMPTION_POINTS) as PointName[];

/** Point names as small integers, for yields. */
export const POINT: Readonly<Record<PointName, number>> = Object.fromEntries(
  POINT_NAMES.map((name, index) => [name, index]),
) as Record<PointName, number>;

/**
 * Pairs that must meet in the simulation: while one context stood at the first point, another
 * passed the second. Each is a race that a reviewer, a seed or a past kernel bug argued about.
 */
export const MEETING_PAIRS: readonly (readonly [PointName, PointName])[] = [
  ["word-exchanged", "guest-slice"],
  ["batch-protected", "guest-slice"],
  ["before-tlbi", "guest-slice"],
  ["before-tlbi", "abort-marked"],
  ["before-copy-out", "guest-slice"],
  ["before-copy-out", "abort-marked"],
  ["log-synced", "guest-slice"],
  ["log-synced", "abort-marked"],
  ["lock-dropped", "abort-mapped"],
  ["lock-dropped", "abort-marked"],
  ["scan-batch", "guest-slice"],
  ["slot-invalidated", "abort-taken"],
  ["slot-invalidated", "guest-slice"],
  ["slot-unmapped", "abort-taken"],
  ["slot-activated", "guest-slice"],
  ["slot-activated", "abort-marked"],
  ["ring-entry-reset", "guest-slice"],
  ["ring-entry-reset", "abort-marked"],
  ["ring-before-tlbi", "guest-slice"],
  ["abort-taken", "before-tlbi"],
  ["abort-slot-found", "slot-invalidated"],
  ["abort-page-found", "batch-protected"],
  ["abort-page-found", "before-tlbi"],
  ["abort-mapped", "abort-mapped"],
  ["abort-mapped", "guest-slice"],
  ["abort-marked", "before-tlbi"],
  ["slots-lock-taken", "abort-marked"],
  ["run-entry", "before-tlbi"],
  ["ioctl-start", "guest-slice"],
  ["hdbss-requested", "guest-slice"],
  ["hdbss-requested", "hdbss-noticed"],
  ["hdbss-noticed", "guest-slice"],
  ["hdbss-halting", "guest-slice"],
  ["hdbss-halting", "abort-mapped"],
  ["hdbss-switched", "guest-slice"],
];
