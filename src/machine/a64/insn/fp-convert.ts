// Owns: conversions between floating point and integer or fixed point in general registers.
// VM thread.
// @source Arm ARM C4.1, "Conversion between floating-point and integer", "… and fixed-point"
import { const32, type I32, type I64 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { FIXED_TO_FP, FP_TO_FIXED } from "../lib/fp/convert.js";
import { ROUNDING } from "../lib/fp/format.js";
import { dst, imm32, src, type VReg, vec, type XReg } from "../operand.js";
import type { Fields } from "../pattern.js";
import { type FpSize, fpScalar } from "./fp-operands.js";

const isFormat = ({ type }: Fields): boolean => type! < 2;
const widthOf = ({ type }: Fields): FpSize => (type === 1 ? 64 : 32);

function toInteger(
  a: Asm,
  d: XReg,
  n: VReg,
  f: Fields,
  fractionBits: I32,
  isUnsigned: number,
  rounding: number,
): void {
  const x = fpScalar(a, n, widthOf(f));
  const [unsigned, mode] = [const32(isUnsigned), const32(rounding)];
  const width = const32(f["sf"] === 1 ? 64 : 32);
  a.setX(d, a.call(FP_TO_FIXED[widthOf(f)], x, fractionBits, unsigned, mode, width));
}

function fromInteger(a: Asm, d: VReg, n: XReg, f: Fields, fraction: I32, isUnsigned: number): void {
  const x = a.x(n);
  const narrow = (): I64 => (isUnsigned === 1 ? x.and(0xffff_ffff) : x.extend32S());
  const value = f["sf"] === 1 ? x : a.keep(narrow());
  a.setScalar(d, a.call(FIXED_TO_FP[widthOf(f)], value, fraction, const32(isUnsigned)));
}

/** FCVTNS … FCVTZU by rmode, which numbers the modes as FPCR does, and FCVTAS, FCVTAU. */
const TO_INTEGER: readonly Insn[] = [
  insn("FCVT_float2int", "sf:1 00 11110 type:2 1 rmode:2 00 U:1 000000 Rn:5 Rd:5", {
    split: ["sf", "type", "rmode", "U"],
    when: isFormat,
    ops: ({ Rn, Rd }) => ({ d: dst(Rd!), n: vec(Rn!) }),
    sem: (a, { d, n }, f) => toInteger(a, d, n, f, const32(0), f["U"]!, f["rmode"]!),
  }),
  insn("FCVTA_float2int", "sf:1 00 11110 type:2 1 00 10 U:1 000000 Rn:5 Rd:5", {
    split: ["sf", "type", "U"],
    when: isFormat,
    ops: ({ Rn, Rd }) => ({ d: dst(Rd!), n: vec(Rn!) }),
    sem: (a, { d, n }, f) => toInteger(a, d, n, f, const32(0), f["U"]!, ROUNDING.away),
  }),
];

const FROM_INTEGER: Insn = insn(
  "SCVTF_UCVTF_float2int",
  "sf:1 00 11110 type:2 1 00 01 U:1 000000 Rn:5 Rd:5",
  {
    split: ["sf", "type", "U"],
    when: isFormat,
    ops: ({ Rn, Rd }) => ({ d: vec(Rd!), n: src(Rn!) }),
    sem: (a, { d, n }, f) => fromInteger(a, d, n, f, const32(0), f["U"]!),
  },
);

/** A W register has at most 32 fraction bits. */
const fits = ({ sf, scale }: Fields): boolean => sf === 1 || scale! >= 32;

const FIXED: readonly Insn[] = [
  insn("FCVTZ_float2fix", "sf:1 00 11110 type:2 0 11 00 U:1 scale:6 Rn:5 Rd:5", {
    split: ["sf", "type", "U"],
    when: isFormat,
    valid: fits,
    ops: ({ Rn, Rd, scale }) => ({ d: dst(Rd!), n: vec(Rn!), fraction: imm32(64 - scale!) }),
    sem: (a, { d, n, fraction }, f) => {
      toInteger(a, d, n, f, a.imm32(fraction), f["U"]!, ROUNDING.zero);
    },
  }),
  insn("SCVTF_UCVTF_float2fix", "sf:1 00 11110 type:2 0 00 01 U:1 scale:6 Rn:5 Rd:5", {
    split: ["sf", "type", "U"],
    when: isFormat,
    valid: fits,
    ops: ({ Rn, Rd, scale }) => ({ d: vec(Rd!), n: src(Rn!), fraction: imm32(64 - scale!) }),
    sem: (a, { d, n, fraction }, f) => fromInteger(a, d, n, f, a.imm32(fraction), f["U"]!),
  }),
];

const MOVES: readonly Insn[] = [
  insn("FMOV_32S_float2int", "0 00 11110 00 1 00 110 000000 Rn:5 Rd:5", {
    ops: ({ Rn, Rd }) => ({ d: dst(Rd!), n: vec(Rn!) }),
    sem: (a, { d, n }) => a.setX(d, fpScalar(a, n, 32)),
  }),
  insn("FMOV_64D_float2int", "1 00 11110 01 1 00 110 000000 Rn:5 Rd:5", {
    ops: ({ Rn, Rd }) => ({ d: dst(Rd!), n: vec(Rn!) }),
    sem: (a, { d, n }) => a.setX(d, fpScalar(a, n, 64)),
  }),
  insn("FMOV_S32_float2int", "0 00 11110 00 1 00 111 000000 Rn:5 Rd:5", {
    ops: ({ Rn, Rd }) => ({ d: vec(Rd!), n: src(Rn!) }),
    sem: (a, { d, n }) => a.setScalar(d, a.x(n).and(0xffff_ffff)),
  }),
  insn("FMOV_D64_float2int", "1 00 11110 01 1 00 111 000000 Rn:5 Rd:5", {
    ops: ({ Rn, Rd }) => ({ d: vec(Rd!), n: src(Rn!) }),
    sem: (a, { d, n }) => a.setScalar(d, a.x(n)),
  }),
  insn("FMOV_64VX_float2int", "1 00 11110 10 1 01 110 000000 Rn:5 Rd:5", {
    ops: ({ Rn, Rd }) => ({ d: dst(Rd!), n: vec(Rn!) }),
    sem: (a, { d, n }) => a.setX(d, a.v(n).lane64(1)),
  }),
  insn("FMOV_V64I_float2int", "1 00 11110 10 1 01 111 000000 Rn:5 Rd:5", {
    ops: ({ Rn, Rd }) => ({ d: vec(Rd!), n: src(Rn!) }),
    sem: (a, { d, n }) => a.setV(d, a.v(d).replace("i64x2", 1, a.x(n))),
  }),
];

export const FP_CONVERT: readonly Insn[] = [...TO_INTEGER, FROM_INTEGER, ...FIXED, ...MOVES];
