// Owns: the bits of a VMSAv8-64 stage-2 descriptor, as two u32 halves. Any thread.
//
//   58:55  54:53   52   51   47:12           10  9:8  7      6      5:2      1     0
//  | SW  |  XN  | Cont | DBM | output address | AF | SH | S2AP1 | S2AP0 | MemAttr | type | valid |
//
// @source Arm ARM D8.3 (VMSAv8-64 descriptors), dirty-tracking.md 1.1

/** Bits in the low half (31:0). */
export const LO = {
  VALID: 1 << 0,
  /** Levels 0 to 2: table. Level 3: must be set for a page. */
  TYPE: 1 << 1,
  MEMATTR_NORMAL: 0xf << 2,
  /** Device-nGnRE. */
  MEMATTR_DEVICE: 1 << 2,
  S2AP_READ: 1 << 6,
  /** Write permission; the bit that hardware sets when it dirties and KVM takes away. */
  S2AP_WRITE: 1 << 7,
  SH_INNER: 3 << 8,
  AF: 1 << 10,
} as const;

/** Bits in the high half (63:32). */
export const HI = {
  /** Bit 51: opts the descriptor into hardware dirty management. */
  DBM: 1 << 19,
  /** Bit 52. KVM never sets it. */
  CONTIGUOUS: 1 << 20,
  /** Bits 54:53. */
  XN_SHIFT: 21,
  /** Bits 58:55. */
  SOFTWARE_SHIFT: 23,
} as const;

/** Output address bits 47:32 in the high half. */
const HI_OA = 0xffff;

export type LeafState = "read-only" | "writable-clean" | "writable-dirty" | "writable-unmanaged";

/** @returns the state of dirty-tracking.md 1.3. */
export function leafState(lo: number, hi: number): LeafState {
  const writable = (lo & LO.S2AP_WRITE) !== 0;
  if ((hi & HI.DBM) !== 0) return writable ? "writable-dirty" : "writable-clean";
  return writable ? "writable-unmanaged" : "read-only";
}

/** Output address of a leaf or table; `size`: bytes the leaf translates, a page for a table. */
export function outputAddress(lo: number, hi: number, size: number): number {
  // Sizes are powers of two; those from 2^32 up never occur below level 0.
  return (hi & HI_OA) * 0x1_0000_0000 + ((lo & -size) >>> 0);
}

/** Low half of a descriptor for an output address. */
export function addressLo(pa: number): number {
  return pa >>> 0;
}

/** High half of a descriptor for an output address. */
export function addressHi(pa: number): number {
  return Math.floor(pa / 0x1_0000_0000) & HI_OA;
}
