// Owns: what an HDBSS entry and the four registers look like. Any thread.
//
//   63:56  55:12             11     10:4  3:1   0
//  | 0   | IPA of the leaf | NSIPA | 0  | TTWL | VALID |
//
// @source Arm ARM D8.5 (table of HDBSS fields), D24.2 (HDBSSBR, HDBSSPROD, HACDBSBR, HACDBSCONS);
//   dirty-tracking.md 2.1, 2.2, 3.1

export const ENTRY_BYTES = 8;
export const ENTRY_VALID = 1;
const TTWL_SHIFT = 1;
const TTWL_MASK = 7;
const IPA_LOW_MASK = 0xffff_f000;
const IPA_HIGH_MASK = 0x00ff_ffff;

/** Reserved TTWL codes, 0b100 and 0b101: levels that no table has. */
const isReserved = (ttwl: number): boolean => ttwl >> 1 === 0b10;
/** An entry that ends an array early: VALID with TTWL of level -4. */
export const TERMINATOR_LOW = ENTRY_VALID | (0b100 << TTWL_SHIFT);

/** SZ codes 0 to 9; 10 to 15 are reserved. */
export const SZ_MAX = 9;
const ENTRIES_OF_SZ_0 = 512;
/** Bytes of SZ 0: the architecture's unit, whatever the host's page size is. */
export const SZ_UNIT_BYTES = ENTRIES_OF_SZ_0 * ENTRY_BYTES;

/** @returns entries of a buffer; 0 for a reserved code, so that the mistake shows */
export function entriesOf(sz: number): number {
  return sz > SZ_MAX ? 0 : ENTRIES_OF_SZ_0 * 2 ** sz;
}

export const FSC = { NONE: 0, EXTERNAL_ABORT: 0x10, GPF: 0x28 } as const;
export const ERR_REASON = { NOF: 0, STRUCTF: 1, IPAF: 2, IPAHACF: 3 } as const;

const BR_SZ_MASK = 0xfn;
/** HACDBSBR_EL2.EN. */
export const BR_EN = 1n << 11n;
/** Bits 55:48 are RES0: the host has 48 bits of physical address. */
const BR_BADDR_MASK = 0xffff_ffff_f000n;
const INDEX_MASK = 0x7_ffffn;
const FSC_SHIFT = 26n;
const FSC_MASK = 0x3fn;
const ERR_SHIFT = 62n;

export interface DecodedEntry {
  readonly valid: boolean;
  /** Level of the descriptor, -2 to 3; null for a reserved code. */
  readonly level: number | null;
  readonly ttwl: number;
  readonly ipa: number;
  readonly nsIpa: boolean;
}

/** Low half of an entry. @param ipa aligned to the leaf's size */
export function entryLow(ipa: number, level: number): number {
  return ((ipa & IPA_LOW_MASK) | ((level & TTWL_MASK) << TTWL_SHIFT) | ENTRY_VALID) >>> 0;
}

export function entryHigh(ipa: number): number {
  return Math.floor(ipa / 2 ** 32) & IPA_HIGH_MASK;
}

/** IPA that the halves of an entry name. */
export function ipaOf(lo: number, hi: number): number {
  return (hi & IPA_HIGH_MASK) * 2 ** 32 + ((lo & IPA_LOW_MASK) >>> 0);
}

/** The same as a page's number. @param shift log2 of the page size */
export function pageOf(lo: number, hi: number, shift: number): number {
  return (hi & IPA_HIGH_MASK) * (1 << (32 - shift)) + (lo >>> shift);
}

/** Level that the low half of an entry names, -2 to 3; null for a reserved code. */
export function levelOf(lo: number): number | null {
  const ttwl = (lo >>> TTWL_SHIFT) & TTWL_MASK;
  return isReserved(ttwl) ? null : (ttwl << 29) >> 29;
}

export function decodeEntry(lo: number, hi: number): DecodedEntry {
  return {
    valid: (lo & ENTRY_VALID) !== 0,
    level: levelOf(lo),
    ttwl: (lo >>> TTWL_SHIFT) & TTWL_MASK,
    ipa: ipaOf(lo, hi),
    nsIpa: (lo & (1 << 11)) !== 0,
  };
}

/** What MSR keeps of a value: BADDR, SZ, and HACDBSBR_EL2's EN. */
export function writtenBase(br: bigint, hasEn: boolean): bigint {
  return br & (BR_BADDR_MASK | BR_SZ_MASK | (hasEn ? BR_EN : 0n));
}

/** BADDR and SZ of either base register; the base is aligned down to the size, as hardware does. */
export function decodeBase(br: bigint): {
  readonly base: number;
  readonly sz: number;
  /** Whether BADDR is a multiple of the size. */
  readonly isAligned: boolean;
} {
  const sz = Number(br & BR_SZ_MASK);
  const low = BigInt(SZ_UNIT_BYTES) * 2n ** BigInt(Math.min(sz, SZ_MAX)) - 1n;
  const base = br & BR_BADDR_MASK;
  return { base: Number(base & ~low), sz, isAligned: (base & low) === 0n };
}

export function decodeProd(prod: bigint): { readonly index: number; readonly fsc: number } {
  return {
    index: Number(prod & INDEX_MASK),
    fsc: Number((prod >> FSC_SHIFT) & FSC_MASK),
  };
}

export function encodeProd(index: number, fsc: number): bigint {
  return BigInt(index) | (BigInt(fsc) << FSC_SHIFT);
}

export function decodeCons(cons: bigint): { readonly index: number; readonly err: number } {
  return { index: Number(cons & INDEX_MASK), err: Number((cons >> ERR_SHIFT) & 3n) };
}

export function encodeCons(index: number, err: number): bigint {
  return BigInt(index) | (BigInt(err) << ERR_SHIFT);
}
