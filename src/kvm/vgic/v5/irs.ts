// Owns: what the registers of KVM's virtual IRS mean: ID registers, IRSEN, and the guest's table of
// LPIs. The guest's table itself is never read: the hardware works on one of KVM's. VM thread.
// @source interrupts.md 5.6; gicv5-observed.md 2, 3.2
import type { V5Context } from "./context.js";
import type { V5State } from "./state.js";

/** Bits of an LPI's ID that the host's tables have, and those that a guest may have. */
export const LPI_ID_BITS = { min: 14, max: 16 } as const;
/** Bits of a priority, less one. */
const PRIORITY_BITS = 4;

export const IRS = { CR0_IRSEN: 1, CR0_IDLE: 2 } as const;

export const IDR0 = {
  DOMAIN: 3,
  NON_SECURE: 1,
  PA_RANGE_SHIFT: 2,
  /** VIRT, ONE_N, VIRT_ONE_N, SETLPI, MEC, MPAM, SWE: what no guest has. */
  FEATURES: 0x3fc0,
} as const;
export const IDR1 = {
  IAFFID_BITS_SHIFT: 16,
  IAFFID_BITS: 15,
  PRIORITY_BITS_SHIFT: 20,
  PRIORITY_BITS: 7,
} as const;
export const IDR2 = {
  ID_BITS: 0x1f,
  LPI: 1 << 5,
  MIN_SHIFT: 6,
  MIN: 15,
  LEVELS: 1 << 10,
  ISTMD: 1 << 14,
  ISTMD_SZ: 0x1f << 15,
} as const;

/** IPA bits → PA_RANGE, as in ID_AA64MMFR0_EL1. */
const PA_RANGES: readonly (readonly [bits: number, code: number])[] = [
  [32, 0],
  [36, 1],
  [40, 2],
  [42, 3],
  [44, 4],
  [48, 5],
];

export function idr0Of({ idr0 }: V5State, ipaBits: number): number {
  if (idr0 >= 0) return idr0;
  const code = PA_RANGES.find(([bits]) => ipaBits <= bits)?.[1] ?? 6;
  return IDR0.NON_SECURE | (code << IDR0.PA_RANGE_SHIFT);
}

/** Without PE_CNT. */
export function idr1Of(state: V5State): number {
  const priority = state.idr1Priority >= 0 ? state.idr1Priority : PRIORITY_BITS;
  const iaffid = state.iaffidBits - 1;
  return (iaffid << IDR1.IAFFID_BITS_SHIFT) | (priority << IDR1.PRIORITY_BITS_SHIFT);
}

export function idr2Of({ idr2 }: V5State): number {
  if (idr2 >= 0) return idr2;
  return LPI_ID_BITS.max | IDR2.LPI | (LPI_ID_BITS.min << IDR2.MIN_SHIFT);
}

/** The guest's IRS_CR0. */
export function writeCr0(v5: V5Context, value: number): void {
  const enabled = (value & IRS.CR0_IRSEN) !== 0;
  if (v5.state.enabled === enabled) return;
  v5.state.enabled = enabled;
  v5.reload();
}

// ── IST_CFGR, IST_BASER ───────────────────────────────────────────────────────────────────────

const CFGR = {
  LPI_ID_BITS: 0x1f,
  ISTSZ: 3 << 7,
  STRUCTURE: 1 << 16,
  /** LPI_ID_BITS, L2SZ, ISTSZ, STRUCTURE. */
  ALL: 0x1_01ff,
} as const;
const BASER_VALID = 1n;
const BASER_ADDR = 0x00ff_ffff_ffff_ffc0n;

export const istBaserOf = ({ istValid, istAddress }: V5State): bigint =>
  istAddress | (istValid ? BASER_VALID : 0n);
export const lpiIdBitsOf = ({ istCfgr }: V5State): number => istCfgr & CFGR.LPI_ID_BITS;

/** Linear, of four-byte entries, and of a size that the VM has. */
function isCfgrValid(state: V5State): boolean {
  const bits = lpiIdBitsOf(state);
  const idr2 = idr2Of(state);
  const min = (idr2 >>> IDR2.MIN_SHIFT) & IDR2.MIN;
  const isPlain = (state.istCfgr & (CFGR.ISTSZ | CFGR.STRUCTURE)) === 0;
  return isPlain && bits >= min && bits <= (idr2 & IDR2.ID_BITS);
}

export function setIstCfgr(state: V5State, value: number): void {
  state.istCfgr = value & CFGR.ALL;
}

export function setIstBaser(state: V5State, value: bigint): void {
  state.istValid = (value & BASER_VALID) !== 0n;
  state.istAddress = value & BASER_ADDR;
}

/** Of the guest. */
export function writeIstCfgr({ state }: V5Context, value: number): void {
  if (!state.istValid) setIstCfgr(state, value);
}

/** Of the guest: what can't be is ignored, so that it reads VALID 0. */
export function writeIstBaser({ state, tables }: V5Context, value: bigint): void {
  const isValid = (value & BASER_VALID) !== 0n;
  if (state.istValid && isValid) return;
  if (state.istValid) tables.freeLpis();
  else if (isValid && !(isCfgrValid(state) && tables.allocateLpis(lpiIdBitsOf(state)))) return;
  setIstBaser(state, value);
}

export const cfgrOf = (value: bigint): number => Number(value) & CFGR.ALL;
export const baserOf = (value: bigint): bigint => value & (BASER_ADDR | BASER_VALID);
export { isCfgrValid };
