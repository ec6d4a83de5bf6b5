// Owns: texts of scalar floating point, and conversions to and from general registers. Any thread.
// @source Arm ARM C4.1, "Data Processing -- Scalar Floating-Point and Advanced SIMD"
import { condition, dec, floatImmediate, hex, reg, scalar } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";

/** Size of a scalar by `type`: single, double, none, half. */
const SIZES = [2, 3, -1, 1];

/** The register of this type. */
const fp = (type: number, n: number): string => scalar(SIZES[type] ?? -1, n);
const NO_TYPE = 2;

const ONE_SOURCE: Readonly<Record<number, string>> = {
  0: "fmov",
  1: "fabs",
  2: "fneg",
  3: "fsqrt",
  8: "frintn",
  9: "frintp",
  10: "frintm",
  11: "frintz",
  // tidy: opcodes
  12: "frinta",
  14: "frintx",
  15: "frinti",
  16: "frint32z",
  17: "frint32x",
  18: "frint64z",
  19: "frint64x",
};

function oneSource({ type, opcode, Rn, Rd }: DisFields): string | null {
  if (type === NO_TYPE) return null;
  if (opcode >> 2 === 1) {
    const to = opcode & 3;
    if (to === NO_TYPE) return type === 1 ? `bfcvt ${fp(3, Rd)}, ${fp(0, Rn)}` : null;
    return to === type ? null : `fcvt ${fp(to, Rd)}, ${fp(type, Rn)}`;
  }
  const name = ONE_SOURCE[opcode];
  if (name === undefined || (opcode >= 16 && type === 3)) return null;
  return `${name} ${fp(type, Rd)}, ${fp(type, Rn)}`;
}

const TWO_SOURCE = [
  ...["fmul", "fdiv", "fadd", "fsub", "fmax", "fmin", "fmaxnm", "fminnm", "fnmul"],
];

function twoSource({ type, opcode, Rm, Rn, Rd }: DisFields): string | null {
  const name = TWO_SOURCE[opcode];
  if (name === undefined || type === NO_TYPE) return null;
  return `${name} ${fp(type, Rd)}, ${fp(type, Rn)}, ${fp(type, Rm)}`;
}

const THREE_SOURCE = ["fmadd", "fmsub", "fnmadd", "fnmsub"];

function threeSource({ type, o1, o0, Rm, Ra, Rn, Rd }: DisFields): string | null {
  if (type === NO_TYPE) return null;
  const regs = [Rd, Rn, Rm, Ra].map((n) => fp(type, n)).join(", ");
  return `${THREE_SOURCE[2 * o1 + o0]} ${regs}`;
}

function compare({ type, Rm, Rn, E, Z }: DisFields): string | null {
  if (type === NO_TYPE) return null;
  return `fcmp${E === 1 ? "e" : ""} ${fp(type, Rn)}, ${Z === 1 ? "#0.0" : fp(type, Rm)}`;
}

const ROUNDINGS = ["n", "p", "m", "z"];
const DOUBLE_LOW = 1;

/** Between a general register and a floating-point one; `fixed` has a scale. */
function convert(f: DisFields): string | null {
  const { sf, type, rmode, opcode, Rn, Rd } = f;
  if (type === NO_TYPE) return null;
  const u = (opcode & 1) === 1 ? "u" : "s";
  if (opcode < 2) return `fcvt${ROUNDINGS[rmode]}${u} ${reg(sf, Rd)}, ${fp(type, Rn)}`;
  if (opcode < 4) return rmode === 0 ? `${u}cvtf ${fp(type, Rd)}, ${reg(sf, Rn)}` : null;
  if (opcode < 6) return rmode === 0 ? `fcvta${u} ${reg(sf, Rd)}, ${fp(type, Rn)}` : null;
  if (rmode === 3 && opcode === 6 && type === DOUBLE_LOW && sf === 0) {
    return `fjcvtzs ${reg(0, Rd)}, ${fp(type, Rn)}`;
  }
  if (rmode !== 0 || (type !== 3 && type !== sf)) return null;
  if (opcode === 6) return `fmov ${reg(sf, Rd)}, ${fp(type, Rn)}`;
  return `fmov ${fp(type, Rd)}, ${reg(sf, Rn)}`;
}

function fixed({ sf, type, rmode, opcode, scale, Rn, Rd }: DisFields): string | null {
  if (type === NO_TYPE || (sf === 0 && scale < 32)) return null;
  const u = (opcode & 1) === 1 ? "u" : "s";
  const bits = dec(64 - scale);
  if (rmode === 3 && opcode < 2) return `fcvtz${u} ${reg(sf, Rd)}, ${fp(type, Rn)}, ${bits}`;
  if (rmode !== 0 || opcode >> 1 !== 1) return null;
  return `${u}cvtf ${fp(type, Rd)}, ${reg(sf, Rn)}, ${bits}`;
}

export const FP: readonly Row[] = [
  row("00011110 type:2 1 opcode:6 10000 Rn:5 Rd:5", oneSource),
  row("00011110 type:2 1 Rm:5 opcode:4 10 Rn:5 Rd:5", twoSource),
  row("00011111 type:2 o1:1 Rm:5 o0:1 Ra:5 Rn:5 Rd:5", threeSource),
  row("00011110 type:2 1 Rm:5 001000 Rn:5 E:1 Z:1 000", compare),
  row("00011110 type:2 1 Rm:5 cond:4 01 Rn:5 E:1 nzcv:4", (f) => {
    const { type, Rm, cond, Rn, E, nzcv } = f;
    if (type === NO_TYPE) return null;
    const regs = `${fp(type, Rn)}, ${fp(type, Rm)}`;
    return `fccmp${E === 1 ? "e" : ""} ${regs}, ${hex(nzcv)}, ${condition(cond)}`;
  }),
  row("00011110 type:2 1 Rm:5 cond:4 11 Rn:5 Rd:5", ({ type, Rm, cond, Rn, Rd }) => {
    if (type === NO_TYPE) return null;
    return `fcsel ${fp(type, Rd)}, ${fp(type, Rn)}, ${fp(type, Rm)}, ${condition(cond)}`;
  }),
  row("00011110 type:2 1 imm8:8 100 00000 Rd:5", ({ type, imm8, Rd }) => {
    return type === NO_TYPE ? null : `fmov ${fp(type, Rd)}, ${floatImmediate(imm8)}`;
  }),
  row("sf:1 0011110 type:2 1 rmode:2 opcode:3 000000 Rn:5 Rd:5", convert),
  row("1 0011110 10 1 01 110 000000 Rn:5 Rd:5", ({ Rn, Rd }) => `fmov ${reg(1, Rd)}, v${Rn}.d[1]`),
  row("1 0011110 10 1 01 111 000000 Rn:5 Rd:5", ({ Rn, Rd }) => `fmov v${Rd}.d[1], ${reg(1, Rn)}`),
  row("sf:1 0011110 type:2 0 rmode:2 opcode:3 scale:6 Rn:5 Rd:5", fixed),
];
