// Owns: the few instructions that a block's structure is made of, as words. Test process.
// @source Arm ARM C6.2

const u32 = (word: number): number => word >>> 0;
const signed = (by: number, width: number): number => by & (2 ** width - 1);

/** MOVZ, MOVN: a 16-bit constant or its complement. */
export const movz = (rd: number, imm: number): number => u32(0xd280_0000 | (imm << 5) | rd);
export const movn = (rd: number, imm: number): number => u32(0x9280_0000 | (imm << 5) | rd);
/** MOV Wd: a 32-bit constant, in two instructions. */
export const movw = (rd: number, value: number): number[] => [
  u32(0x5280_0000 | ((value & 0xffff) << 5) | rd),
  u32(0x72a0_0000 | ((value >>> 16) << 5) | rd),
];
export const addImm = (rd: number, rn: number, imm: number): number =>
  u32(0x9100_0000 | (imm << 10) | (rn << 5) | rd);
export const subImm = (rd: number, rn: number, imm: number): number =>
  u32(0xd100_0000 | (imm << 10) | (rn << 5) | rd);
export const subsImm = (rd: number, rn: number, imm: number): number =>
  u32(0xf100_0000 | (imm << 10) | (rn << 5) | rd);
/** EOR Wd, Wd, Wm. */
export const eorw = (rd: number, rm: number): number =>
  u32(0x4a00_0000 | (rm << 16) | (rd << 5) | rd);
/** AND Xd, Xn, #FPCR's bits that every implementation has: DN, FZ, RMode. */
export const andFpcr = (rd: number, rn: number): number => u32(0x926a_0c00 | (rn << 5) | rd);
export const msrFpcr = (rt: number): number => u32(0xd51b_4400 | rt);
export const ldrw = (rt: number, rn: number): number => u32(0xb940_0000 | (rn << 5) | rt);
export const strw = (rt: number, rn: number): number => u32(0xb900_0000 | (rn << 5) | rt);

/** Branches by a number of instructions. */
export const b = (by: number): number => u32(0x1400_0000 | signed(by, 26));
export const bl = (by: number): number => u32(0x9400_0000 | signed(by, 26));
export const bCond = (cond: number, by: number): number =>
  u32(0x5400_0000 | (signed(by, 19) << 5) | cond);
/** CBZ and CBNZ, of 64 or 32 bits. */
export const cb = (sf: number, op: number, rt: number, by: number): number =>
  u32(0x3400_0000 | (sf << 31) | (op << 24) | (signed(by, 19) << 5) | rt);
/** TBZ and TBNZ. */
export const tb = (bit: number, op: number, rt: number, by: number): number => {
  const place = ((bit >>> 5) << 31) | ((bit & 31) << 19);
  return u32(0x3600_0000 | place | (op << 24) | (signed(by, 14) << 5) | rt);
};
export const br = (rn: number): number => u32(0xd61f_0000 | (rn << 5));
export const blr = (rn: number): number => u32(0xd63f_0000 | (rn << 5));
export const ret = (rn: number): number => u32(0xd65f_0000 | (rn << 5));

export const NOP = 0xd503_201f;
/** What makes a store to code seen: DC CVAU, DSB ISH, IC IVAU, DSB ISH, ISB. */
export const maintain = (rt: number): number[] => [
  u32(0xd50b_7b20 | rt),
  0xd503_3b9f,
  u32(0xd50b_7520 | rt),
  0xd503_3b9f,
  0xd503_3fdf,
];
