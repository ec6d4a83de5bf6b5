// Owns: what KVM keeps of a vCPU's HDBSS buffer, and of what it was asked to do. Data only.
// VM thread.

/** Requests to a vCPU, served before it enters the guest again; bits. */
export const VCPU_REQUEST = {
  /** KVM_REQ_FLUSH_HDBSS. */
  FLUSH: 1,
  /** Put and load again: VTCR_EL2 and the buffer's registers have changed. */
  RELOAD: 2,
  /** Leave the CPU: every vCPU is held outside of the guest. */
  HALT: 4,
  /** An entry was lost, and only a ring can tell: push whatever is writable-dirty. */
  RESCAN: 8,
  /** Too many entries were lost: the VM goes back to write protection. */
  FALL_BACK: 16,
} as const;

/** A slot as a drain finds it. */
interface SlotRange {
  readonly id: number;
  readonly baseGfn: number;
  readonly npages: number;
}

export interface HdbssBuffer {
  /** Physical address of the first entry, as KVM programs it. */
  pa: number;
  /** What was allocated: physical address, frames, and what was charged for them. */
  readonly allocated: { readonly pa: number; readonly frames: number; readonly bytes: number };
  /** HDBSSBR_EL2.SZ. */
  sz: number;
  /** Entries and error that wait in it while it isn't loaded. */
  index: number;
  fsc: number;
  /** Registers as they were at the last put; with policy raw-registers. */
  raw: { readonly br: bigint; readonly prod: bigint } | null;
  /** Its registers are those of the CPU that the vCPU is loaded on. */
  isLive: boolean;
  /** Whether the frames still belong to it: the model's own knowledge, not KVM's. */
  isHeld: boolean;
  /** Times that entries were lost. */
  errors: number;
  /** Slots as they were when it was loaded; for B16 alone. */
  staleSlots: readonly SlotRange[] | null;
}

/** @returns a copy for a saved state */
export function copyOf(buffer: HdbssBuffer): HdbssBuffer {
  const raw = buffer.raw === null ? null : { ...buffer.raw };
  return { ...buffer, allocated: { ...buffer.allocated }, raw, staleSlots: null };
}
