// Owns: a few A64 instructions as words, for guests of tests. Test process.
// @source Arm ARM C6.2

const u32 = (word: number): number => word >>> 0;

/** MOVZ and MOVK: a 64-bit constant. */
export function mov(rd: number, value: bigint): number[] {
  const words: number[] = [];
  for (let hw = 0; hw < 4; hw++) {
    const part = Number((value >> BigInt(16 * hw)) & 0xffffn);
    if (part === 0 && !(hw === 0 && value === 0n)) continue;
    const base = words.length === 0 ? 0xd280_0000 : 0xf280_0000;
    words.push(u32(base | (hw << 21) | (part << 5) | rd));
  }
  return words;
}
export const str = (rt: number, rn: number, offset = 0): number =>
  u32(0xf900_0000 | ((offset / 8) << 10) | (rn << 5) | rt);
export const strb = (rt: number, rn: number): number => u32(0x3900_0000 | (rn << 5) | rt);
export const ldrw = (rt: number, rn: number, offset = 0): number =>
  u32(0xb940_0000 | ((offset / 4) << 10) | (rn << 5) | rt);
export const ldrsb = (rt: number, rn: number): number => u32(0x3980_0000 | (rn << 5) | rt);
export const ldp = (rt: number, rt2: number, rn: number): number =>
  u32(0xa940_0000 | (rt2 << 10) | (rn << 5) | rt);
export const add = (rd: number, rn: number, imm: number): number =>
  u32(0x9100_0000 | (imm << 10) | (rn << 5) | rd);
export const subs = (rd: number, rn: number, imm: number): number =>
  u32(0xf100_0000 | (imm << 10) | (rn << 5) | rd);
/** Branches by a number of instructions. */
export const bne = (by: number): number => u32(0x5400_0001 | ((by & 0x7ffff) << 5));
export const b = (by: number): number => u32(0x1400_0000 | (by & 0x3ff_ffff));
const reg3 = (base: number, rd: number, rn: number, rm: number): number =>
  u32(base | (rm << 16) | (rn << 5) | rd);
export const addReg = (rd: number, rn: number, rm: number, shift = 0): number =>
  u32(reg3(0x8b00_0000, rd, rn, rm) | (shift << 10));
export const subReg = (rd: number, rn: number, rm: number): number => reg3(0xcb00_0000, rd, rn, rm);
export const subsReg = (rd: number, rn: number, rm: number): number =>
  reg3(0xeb00_0000, rd, rn, rm);
export const orrReg = (rd: number, rn: number, rm: number, shift = 0): number =>
  u32(reg3(0xaa00_0000, rd, rn, rm) | (shift << 10));
export const bicReg = (rd: number, rn: number, rm: number): number => reg3(0x8a20_0000, rd, rn, rm);
/** rd = ra + rn × rm. */
export const madd = (rd: number, rn: number, rm: number, ra: number): number =>
  u32(reg3(0x9b00_0000, rd, rn, rm) | (ra << 10));
/** rd = bits [from, from + width) of rn. */
export const ubfx = (rd: number, rn: number, from: number, width: number): number =>
  u32(0xd340_0000 | (from << 16) | ((from + width - 1) << 10) | (rn << 5) | rd);
export const lsr = (rd: number, rn: number, by: number): number => ubfx(rd, rn, by, 64 - by);
export const ldr = (rt: number, rn: number, offset = 0): number =>
  u32(0xf940_0000 | ((offset / 8) << 10) | (rn << 5) | rt);
export const strw = (rt: number, rn: number, offset = 0): number =>
  u32(0xb900_0000 | ((offset / 4) << 10) | (rn << 5) | rt);
/** STUR: 8 bytes at any byte from -256 to 255. */
export const stur = (rt: number, rn: number, offset: number): number =>
  u32(0xf800_0000 | ((offset & 0x1ff) << 12) | (rn << 5) | rt); // tidy: a bit position
export const stp = (rt: number, rt2: number, rn: number, offset = 0): number =>
  u32(0xa900_0000 | (((offset / 8) & 0x7f) << 15) | (rt2 << 10) | (rn << 5) | rt);
/** DUP Vd.2D, Xn. */
export const dup = (vd: number, rn: number): number => u32(0x4e08_0c00 | (rn << 5) | vd);
export const strq = (vt: number, rn: number): number => u32(0x3d80_0000 | (rn << 5) | vt);
export const stpq = (vt: number, vt2: number, rn: number, offset = 0): number =>
  u32(0xad00_0000 | (((offset / 16) & 0x7f) << 15) | (vt2 << 10) | (rn << 5) | vt);
export const ldxr = (rt: number, rn: number): number => u32(0xc85f_7c00 | (rn << 5) | rt);
/** Stores rt if nothing came between; status 0 in rs then. */
export const stxr = (rs: number, rt: number, rn: number): number =>
  u32(0xc800_7c00 | (rs << 16) | (rn << 5) | rt);
/** rt = the old value; rs is added to it. */
export const ldadd = (rs: number, rt: number, rn: number): number => reg3(0xf820_0000, rt, rn, rs);
export const dcZva = (rt: number): number => u32(0xd50b_7420 | rt);
export const dcCvau = (rt: number): number => u32(0xd50b_7b20 | rt);
export const icIvau = (rt: number): number => u32(0xd50b_7520 | rt);
export const cbnz = (rt: number, by: number): number =>
  u32(0xb500_0000 | ((by & 0x7ffff) << 5) | rt);
export const beq = (by: number): number => u32(0x5400_0000 | ((by & 0x7ffff) << 5));
/** Unsigned: higher or same. */
export const bhs = (by: number): number => u32(0x5400_0002 | ((by & 0x7ffff) << 5));
/** Address of the instruction `by` further on. */
export const adr = (rd: number, by: number): number =>
  u32(0x1000_0000 | ((by & 0x7ffff) << 5) | rd);
export const br = (rn: number): number => u32(0xd61f_0000 | (rn << 5));
export const blr = (rn: number): number => u32(0xd63f_0000 | (rn << 5));
export const RET = 0xd65f_03c0;
export const DSB = 0xd503_3b9f;
/** TLBI VMALLE1IS. */
export const TLBI_ALL = 0xd508_831f;
export const brk = (imm: number): number => u32(0xd420_0000 | (imm << 5));
export const svc = (imm: number): number => u32(0xd400_0001 | (imm << 5));
export const HVC = 0xd400_0002;
export const ERET = 0xd69f_03e0;
export const WFI = 0xd503_207f;
export const WFE = 0xd503_205f;
export const SEV = 0xd503_209f;
export const NOP = 0xd503_201f;
export const daifclr = (bits: number): number => u32(0xd503_40ff | (bits << 8));
export const ISB = 0xd503_3fdf;

/** op0, op1, CRn, CRm, op2 of system registers that guests here use. */
export const SYSREG = {
  SCTLR_EL1: [3, 0, 1, 0, 0],
  TTBR0_EL1: [3, 0, 2, 0, 0],
  TTBR1_EL1: [3, 0, 2, 0, 1],
  TCR_EL1: [3, 0, 2, 0, 2],
  MAIR_EL1: [3, 0, 10, 2, 0],
  VBAR_EL1: [3, 0, 12, 0, 0],
  ESR_EL1: [3, 0, 5, 2, 0],
  FAR_EL1: [3, 0, 6, 0, 0],
  ELR_EL1: [3, 0, 4, 0, 1],
  SPSR_EL1: [3, 0, 4, 0, 0],
  CPACR_EL1: [3, 0, 1, 0, 2],
  MPIDR_EL1: [3, 0, 0, 0, 5],
  CNTVCT_EL0: [3, 3, 14, 0, 2],
  CNTPCT_EL0: [3, 3, 14, 0, 1],
  CNTKCTL_EL1: [3, 0, 14, 1, 0],
  CNTP_TVAL_EL0: [3, 3, 14, 2, 0],
  CNTP_CTL_EL0: [3, 3, 14, 2, 1],
  CNTP_CVAL_EL0: [3, 3, 14, 2, 2],
  CNTV_TVAL_EL0: [3, 3, 14, 3, 0],
  CNTV_CTL_EL0: [3, 3, 14, 3, 1],
  CNTV_CVAL_EL0: [3, 3, 14, 3, 2],
  ISR_EL1: [3, 0, 12, 1, 0],
  ID_AA64DFR0_EL1: [3, 0, 0, 5, 0],
  PMINTENSET_EL1: [3, 0, 9, 14, 1],
  PMCR_EL0: [3, 3, 9, 12, 0],
  PMCNTENSET_EL0: [3, 3, 9, 12, 1],
  PMCNTENCLR_EL0: [3, 3, 9, 12, 2],
  PMOVSCLR_EL0: [3, 3, 9, 12, 3],
  PMSWINC_EL0: [3, 3, 9, 12, 4],
  PMSELR_EL0: [3, 3, 9, 12, 5],
  PMCEID0_EL0: [3, 3, 9, 12, 6],
  PMCCNTR_EL0: [3, 3, 9, 13, 0],
  PMXEVTYPER_EL0: [3, 3, 9, 13, 1],
  PMXEVCNTR_EL0: [3, 3, 9, 13, 2],
  PMUSERENR_EL0: [3, 3, 9, 14, 0],
  PMOVSSET_EL0: [3, 3, 9, 14, 3],
  PMEVCNTR0_EL0: [3, 3, 14, 8, 0],
  PMEVCNTR1_EL0: [3, 3, 14, 8, 1],
  PMEVCNTR5_EL0: [3, 3, 14, 8, 5],
  PMEVCNTR6_EL0: [3, 3, 14, 8, 6],
  PMEVTYPER0_EL0: [3, 3, 14, 12, 0],
  PMEVTYPER1_EL0: [3, 3, 14, 12, 1],
  PMCCFILTR_EL0: [3, 3, 14, 15, 7],
  CurrentEL: [3, 0, 4, 2, 2],
} as const;
export type SysregName = keyof typeof SYSREG;

function sysreg(name: SysregName): number {
  const [op0, op1, crn, crm, op2] = SYSREG[name];
  return ((op0 & 1) << 19) | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5); // tidy: bits
}
export const mrs = (rt: number, name: SysregName): number => u32(0xd530_0000 | sysreg(name) | rt);
export const msr = (name: SysregName, rt: number): number => u32(0xd510_0000 | sysreg(name) | rt);

/** Words as bytes in memory. */
export function bytesOf(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of words.entries()) view.setUint32(4 * i, word, true);
  return bytes;
}

/** PSCI SYSTEM_OFF by HVC. */
export const powerOff = (): number[] => [...mov(0, 0x8400_0008n), HVC];
