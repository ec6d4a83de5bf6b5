// Owns: the bits of VMSAv8-64 stage-1 control registers and descriptors. Data only. Any thread.
// @source Arm ARM D8.2 (TCR_EL1), D8.3 (descriptors), D17.2 (SCTLR_EL1, MAIR_EL1)

/** SCTLR_EL1, low half. */
export const SCTLR = {
  M: 1 << 0,
  A: 1 << 1,
  C: 1 << 2,
  SA: 1 << 3,
  SA0: 1 << 4,
  I: 1 << 12, // tidy: a bit position
  WXN: 1 << 19,
} as const;

/** Low half of a descriptor. */
export const S1_LO = {
  VALID: 1 << 0,
  /** Levels 0 to 2: table. Level 3: page. */
  TYPE: 1 << 1,
  ATTR_SHIFT: 2,
  /** AP[1]: EL0 may. */
  AP_EL0: 1 << 6,
  /** AP[2]: read-only. Hardware clears it when it dirties (DBM). */
  AP_RO: 1 << 7,
  AF: 1 << 10,
} as const;

/** High half of a descriptor. */
export const S1_HI = {
  DBM: 1 << 19,
  CONTIGUOUS: 1 << 20,
  PXN: 1 << 21,
  UXN: 1 << 22,
  /** Of tables: limits on everything below. */
  PXN_TABLE: 1 << 27,
  UXN_TABLE: 1 << 28,
  AP_TABLE_EL0: 1 << 29,
  AP_TABLE_RO: 1 << 30,
} as const;

/** Granules: log2 of the page, and of the entries of a table. */
export interface Granule {
  readonly pageShift: number;
  readonly stride: number;
  /** Lowest level that may hold blocks. */
  readonly blockLevel: number;
  /** By level: entries that the contiguous bit joins. */
  readonly contiguous: readonly number[];
}
const GRANULE_4K: Granule = { pageShift: 12, stride: 9, blockLevel: 1, contiguous: [1, 16, 16, 16] }; // tidy: architected
const GRANULE_16K: Granule = { pageShift: 14, stride: 11, blockLevel: 2, contiguous: [1, 1, 32, 128] };
const GRANULE_64K: Granule = { pageShift: 16, stride: 13, blockLevel: 2, contiguous: [1, 1, 32, 32] };
/** TCR_EL1.TG0 and TG1 number the same granules differently; reserved values mean 4 KiB here. */
export const TG0: readonly Granule[] = [GRANULE_4K, GRANULE_64K, GRANULE_16K, GRANULE_4K];
export const TG1: readonly Granule[] = [GRANULE_4K, GRANULE_16K, GRANULE_4K, GRANULE_64K];

/** TCR_EL1.IPS: bits of an output address. */
export const IPS_BITS: readonly number[] = [32, 36, 40, 42, 44, 48, 48, 48];

/** Fault status codes; the level goes into the low bits where it has one. */
export const FSC = {
  addressSize: 0x00,
  translation: 0x04,
  accessFlag: 0x08,
  permission: 0x0c,
  external: 0x10,
  externalOnWalk: 0x14,
  alignment: 0x21,
  /** Granule protection fault on a walk, level 0; levels count from here. */
  granuleProtectionOnWalk: 0x24,
  debug: 0x22,
} as const;
