// Owns: which loads and stores an abort's syndrome describes (ISS.ISV), and how. VM thread.
// @source Arm ARM D17.2.37 (ESR_ELx, ISS encoding for a Data Abort)

import type { FaultKind } from "../../host-cpu.js";
import { EC, esrOf } from "./exception.js";
import { FSC } from "./stage1.table.js";

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

const STAGE2_FSC = {
  "address-size": FSC.addressSize,
  translation: FSC.translation,
  "access-flag": FSC.accessFlag,
  permission: FSC.permission,
  // HDBSS's own write of an entry failed: as on the walk that wanted it.
  "external-abort": FSC.externalOnWalk,
  gpf: FSC.granuleProtectionOnWalk,
} as const;
const ISS = { WNR: 1 << 6, S1PTW: 1 << 7, AR: 1 << 14, SF: 1 << 15, SSE: 1 << 21 } as const;
/** ISS2.HDBSSF. */
const ESR_HDBSSF = 1n << 43n;
const ISV = 1 << 24;
const SRT_SHIFT = 16;
const SAS_SHIFT = 22;

/** An abort that goes to EL2, and what is known of its access. */
export interface AbortToEl2 {
  readonly isFetch: boolean;
  readonly isWrite: boolean;
  readonly walkLevel: number | null;
  /** Nothing answered at the address. */
  readonly isExternal: boolean;
  readonly syndrome: AccessSyndrome | null;
  readonly faultKind: FaultKind;
  readonly level: number;
  /** HDBSS could not append. */
  readonly hdbssf: boolean;
}

/** @returns ESR_EL2 of an abort; a fetch's and a walk's tell nothing of the instruction */
export function abortEsr(abort: AbortToEl2): bigint {
  const { isFetch, isWrite, walkLevel, isExternal, syndrome, faultKind, level } = abort;
  let iss = STAGE2_FSC[faultKind] | level;
  if (isExternal) iss = walkLevel === null ? FSC.external : FSC.externalOnWalk | walkLevel;
  if (walkLevel !== null) iss |= ISS.S1PTW;
  if (isFetch) return esrOf(EC.instructionAbortLower, iss);
  const iss2 = abort.hdbssf ? ESR_HDBSSF : 0n;
  if (isWrite) iss |= ISS.WNR;
  if (syndrome !== null && !isExternal) {
    const { size, rt, signed, is64, ordered } = syndrome;
    iss |= ISV | (size << SAS_SHIFT) | (rt << SRT_SHIFT);
    iss |= (signed ? ISS.SSE : 0) | (is64 ? ISS.SF : 0) | (ordered ? ISS.AR : 0);
  }
  return esrOf(EC.dataAbortLower, iss) | iss2;
}
