// Owns: which loads and stores an abort's syndrome describes (ISS.ISV), and how. VM thread.
// @source Arm ARM D17.2.37 (ESR_ELx, ISS encoding for a Data Abort)

/** The instruction-specific part of a data abort's syndrome. */
export interface AccessSyndrome {
  readonly isWrite: boolean;
  /** log2 of the bytes: SAS. */
  readonly size: number;
  /** SSE: a load extends the sign. */
  readonly signed: boolean;
  /** SF: the register is 64 bits wide. */
  readonly is64: boolean;
  /** SRT. */
  readonly rt: number;
  /** AR: acquire or release. */
  readonly ordered: boolean;
}

const RT = 0x1f;

/** Single register, no write-back: the forms with a valid syndrome. */
interface Form {
  readonly mask: number;
  readonly value: number;
  readonly ordered: boolean;
}
const FORMS: readonly Form[] = [
  // Unsigned offset.
  { mask: 0x3f00_0000, value: 0x3900_0000, ordered: false },
  // Unscaled, unprivileged, register offset.
  { mask: 0x3f20_0c00, value: 0x3800_0000, ordered: false },
  { mask: 0x3f20_0c00, value: 0x3800_0800, ordered: false },
  { mask: 0x3f20_0c00, value: 0x3820_0800, ordered: false },
];
/** LDAR, STLR and the LORegion forms: bit 22 is the load. */
const ORDERED = { mask: 0x3fa0_0000, value: 0x0880_0000 } as const;
/** LDAPR. */
const RCPC = { mask: 0x3fff_fc00, value: 0x38bf_c000 } as const;
/** LDR (literal): opc in 31:30. */
const LITERAL = { mask: 0x3f00_0000, value: 0x1800_0000 } as const;

const matches = (word: number, { mask, value }: { mask: number; value: number }): boolean =>
  (word & mask) >>> 0 === value;

/** @returns null where ISV is 0: pairs, write-back, exclusives, atomics, vectors */
export function accessSyndrome(word: number): AccessSyndrome | null {
  const rt = word & RT;
  const size = word >>> 30;
  if (matches(word, LITERAL)) {
    const signed = size === 2;
    if (size === 3) return null;
    return {
      isWrite: false,
      size: size === 1 ? 3 : 2,
      signed,
      is64: size !== 0,
      rt,
      ordered: false,
    };
  }
  if (matches(word, ORDERED)) {
    const isWrite = (word & (1 << 22)) === 0;
    return { isWrite, size, signed: false, is64: size === 3, rt, ordered: true };
  }
  if (matches(word, RCPC)) {
    return { isWrite: false, size, signed: false, is64: size === 3, rt, ordered: true };
  }
  if (!FORMS.some((form) => matches(word, form))) return null;
  const opc = (word >>> 22) & 3;
  // PRFM never aborts, and sizes above the register's are unallocated.
  if (size === 3 && opc > 1) return null;
  const signed = opc > 1;
  const is64 = signed ? opc === 2 : size === 3;
  return { isWrite: opc === 0, size, signed, is64, rt, ordered: false };
}
