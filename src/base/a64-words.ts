// Owns: a few A64 instructions as words, for guests that the host itself writes: those of scenarios
// and of interrupt workloads. Any thread.
// @source Arm ARM C6.2; interrupts.md 5.2 for the instructions of a GICv5

const word = (value: number): number => value >>> 0;

export const RET = 0xd65f_03c0;
export const ERET = 0xd69f_03e0;
export const ISB = 0xd503_3fdf;
export const NOP = 0xd503_201f;
export const UNMASK_IRQ = 0xd503_42ff;
export const MASK_IRQ = 0xd503_42df;

export const ldr = (rt: number, rn: number, offset = 0): number =>
  word(0xf940_0000 | ((offset / 8) << 10) | (rn << 5) | rt);
export const str = (rt: number, rn: number, offset = 0): number =>
  word(0xf900_0000 | ((offset / 8) << 10) | (rn << 5) | rt);
export const ldrw = (rt: number, rn: number, offset = 0): number =>
  word(0xb940_0000 | ((offset / 4) << 10) | (rn << 5) | rt);
export const strw = (rt: number, rn: number, offset = 0): number =>
  word(0xb900_0000 | ((offset / 4) << 10) | (rn << 5) | rt);
export const strb = (rt: number, rn: number): number => word(0x3900_0000 | (rn << 5) | rt);
export const add = (rd: number, rn: number, by: number): number =>
  word(0x9100_0000 | (by << 10) | (rn << 5) | rd);
export const sub = (rd: number, rn: number, by: number): number =>
  word(0xd100_0000 | (by << 10) | (rn << 5) | rd);
export const subs = (rd: number, rn: number, by: number): number =>
  word(0xf100_0000 | (by << 10) | (rn << 5) | rd);
/** rd = rn + (rm << shift). */
export const addShifted = (rd: number, rn: number, rm: number, shift: number): number =>
  word(0x8b00_0000 | (rm << 16) | (shift << 10) | (rn << 5) | rd);
/** Sets flags by rn - rm. */
export const cmp = (rn: number, rm: number): number => word(0xeb00_001f | (rm << 16) | (rn << 5));
export const move = (rd: number, rm: number): number => word(0xaa00_03e0 | (rm << 16) | rd);
/** rd = bits [0, width) of rn. */
export const lowBits = (rd: number, rn: number, width: number): number =>
  word(0xd340_0000 | ((width - 1) << 10) | (rn << 5) | rd);
/** rd = rn >> by. */
export const lsr = (rd: number, rn: number, by: number): number =>
  word(0xd340_fc00 | (by << 16) | (rn << 5) | rd);
/** rd = rn << rm. */
export const lslv = (rd: number, rn: number, rm: number): number =>
  word(0x9ac0_2000 | (rm << 16) | (rn << 5) | rd);
export const blr = (rn: number): number => word(0xd63f_0000 | (rn << 5));
/** Branches by a number of instructions. */
export const b = (by: number): number => word(0x1400_0000 | (by & 0x3ff_ffff));
export const cbz = (rt: number, by: number): number =>
  word(0xb400_0000 | ((by & 0x7ffff) << 5) | rt);
const bIf = (condition: number) => (by: number) =>
  word(0x5400_0000 | ((by & 0x7ffff) << 5) | condition);
export const beq = bIf(0);
export const bne = bIf(1);
/** Unsigned: higher or same, lower. */
export const bhs = bIf(2);
export const blo = bIf(3);

/** MOVZ, MOVK: a constant of 32 bits. */
export const constant = (rd: number, value: number): number[] => [
  word(0xd280_0000 | ((value & 0xffff) << 5) | rd),
  word(0xf2a0_0000 | ((value >>> 16) << 5) | rd),
];
/** MOVK: bits 47:32 of what rd has in its lower half. */
export const upper = (rd: number, value: number): number =>
  word(0xf2c0_0000 | ((value & 0xffff) << 5) | rd);

const MRS = 0xd530_0000;
const MSR = 0xd510_0000;
const SYS = 0xd508_0000;
const SYSL = 0xd528_0000;
type Place = readonly [op1: number, crn: number, crm: number, op2: number];
const placed = (base: number, [op1, crn, crm, op2]: Place, rt: number): number =>
  word(base | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5) | rt); // tidy: bit positions
/** Registers of op0 = 3. */
const OP0_3 = 1 << 19;
export const mrs = (rt: number, place: Place): number => placed(MRS | OP0_3, place, rt);
export const msr = (place: Place, rt: number): number => placed(MSR | OP0_3, place, rt);

export const REGISTER = {
  CNTVCT_EL0: [3, 14, 0, 2],
  ICC_PMR_EL1: [0, 4, 6, 0],
  ICC_IAR1_EL1: [0, 12, 12, 0], // tidy: CRn and CRm
  ICC_EOIR1_EL1: [0, 12, 12, 1], // tidy: CRn and CRm
  ICC_IGRPEN1_EL1: [0, 12, 12, 7], // tidy: CRn and CRm
  ICC_CR0_EL1: [1, 12, 0, 1], // tidy: CRn
  ICC_PCR_EL1: [1, 12, 0, 2], // tidy: CRn
} as const satisfies Record<string, Place>;

/** CRn of all that is a GIC's. */
const CRN = 12; // tidy: an encoding
const gic = (crm: number, op2: number) => (rt: number) => placed(SYS, [0, CRN, crm, op2], rt);
export const gicCddis = gic(1, 0);
export const gicCden = gic(1, 1);
export const gicCdpri = gic(1, 2);
export const gicCdaff = gic(1, 3);
export const gicCdpend = gic(1, 4);
export const GIC_CDEOI = gic(1, 7)(31);
export const gicCddi = gic(2, 0);
export const GSB_SYS = gic(0, 0)(31);
export const GSB_ACK = gic(0, 1)(31);
export const gicrCdia = (rt: number): number => placed(SYSL, [0, CRN, 3, 0], rt);

/** Words as they lie in memory. */
export function bytesOfWords(code: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * code.length);
  const view = new DataView(bytes.buffer);
  for (const [at, one] of code.entries()) view.setUint32(4 * at, one, true);
  return bytes;
}
