// Owns: scalar floating point: 1, 2 and 3 sources, compare, select, immediate.
// VM thread.
// @source Arm ARM C4.1, "Data Processing -- Scalar Floating-Point and Advanced SIMD"
import { const32, const64, type I64 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { fpImmediate } from "../fp-immediate.js";
import { type Insn, insn } from "../insn.js";
import { FP_ADD, FP_DIV, FP_MUL, FP_SQRT, FP_SUB } from "../lib/fp/arith.js";
import { FP_COMPARE, FP_MAX, FP_MAXNM, FP_MIN, FP_MINNM } from "../lib/fp/compare.js";
import { type Conversion, FP_CONVERT, FP_ROUND_INT } from "../lib/fp/convert.js";
import { ROUNDING } from "../lib/fp/format.js";
import { FP_MULADD } from "../lib/fp/fused.js";
import type { LibFunction } from "../lib/function.js";
import { imm32, imm64, vec } from "../operand.js";
import type { Fields } from "../pattern.js";
import { absolute, type FpSize, fpHalf, fpScalar, negated } from "./fp-operands.js";

type ByWidth<T> = Readonly<Record<FpSize, T>>;

/** Single and double; half precision converts only. */
const isFormat = ({ type }: Fields): boolean => type! < 2;
const widthOf = ({ type }: Fields): FpSize => (type === 1 ? 64 : 32);

const oneOps = ({ Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!) });
const twoOps = ({ Rm, Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!) });

function oneSource(
  name: string,
  opcode: string,
  sem: (a: Asm, x: I64, width: FpSize) => I64,
): Insn {
  return insn(`${name}_floatdp1`, `000 11110 type:2 1 ${opcode} 10000 Rn:5 Rd:5`, {
    split: ["type"],
    when: isFormat,
    ops: oneOps,
    sem: (a, { d, n }, f) => a.setScalar(d, sem(a, fpScalar(a, n, widthOf(f)), widthOf(f))),
  });
}

function round(name: string, opcode: string, mode: number, exact = 0): Insn {
  return oneSource(name, opcode, (a, x, width) => {
    return a.call(FP_ROUND_INT[width], x, const32(mode), const32(exact));
  });
}

/** FCVT by the type field of the source and the opc of the target: S, D, -, H. */
const WIDTHS = [32, 64, null, 16] as const;
const CONVERT: Insn = insn("FCVT_floatdp1", "000 11110 type:2 1 0001 opc:2 10000 Rn:5 Rd:5", {
  split: ["type", "opc"],
  when: ({ type, opc }) => type !== opc && WIDTHS[type!] !== null && WIDTHS[opc!] !== null,
  ops: oneOps,
  sem: (a, { d, n }, { type, opc }) => {
    const [from, to] = [WIDTHS[type!]!, WIDTHS[opc!]!];
    const x = from === 16 ? fpHalf(a, n) : fpScalar(a, n, from);
    a.setScalar(d, a.call(FP_CONVERT[`${from}>${to}` as Conversion], x));
  },
});

function twoSources(
  name: string,
  opcode: string,
  fn: ByWidth<LibFunction<"i64">>,
  negates = false,
): Insn {
  return insn(`${name}_floatdp2`, `000 11110 type:2 1 Rm:5 ${opcode} 10 Rn:5 Rd:5`, {
    split: ["type"],
    when: isFormat,
    ops: twoOps,
    sem: (a, { d, n, m }, f) => {
      const width = widthOf(f);
      const r = a.call(fn[width], fpScalar(a, n, width), fpScalar(a, m, width));
      // After rounding and NaNs: FNMUL of nothing valid is a negative NaN.
      a.setScalar(d, negates ? negated(r, width) : r);
    },
  });
}

/** FMADD, FMSUB, FNMADD, FNMSUB: signs are turned before NaNs are looked at. */
const MULTIPLY_ADD: Insn = insn(
  "FMADD_floatdp3",
  "000 11111 type:2 o1:1 Rm:5 o0:1 Ra:5 Rn:5 Rd:5",
  {
    split: ["type", "o1", "o0"],
    when: isFormat,
    ops: ({ Rm, Ra, Rn, Rd }) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!), addend: vec(Ra!) }),
    sem: (a, { d, n, m, addend }, f) => {
      const width = widthOf(f);
      const { o1, o0 } = f;
      const x = fpScalar(a, n, width);
      const sum = fpScalar(a, addend, width);
      const product = o0 === o1 ? x : negated(x, width);
      const r = a.call(
        FP_MULADD[width],
        o1 === 1 ? negated(sum, width) : sum,
        product,
        fpScalar(a, m, width),
      );
      a.setScalar(d, r);
    },
  },
);

/** FCMP and FCMPE, with a register or with zero. */
const COMPARE: Insn = insn("FCMP_floatcmp", "000 11110 type:2 1 Rm:5 00 1000 Rn:5 E:1 zero:1 000", {
  split: ["type", "E", "zero"],
  when: isFormat,
  ops: ({ Rm, Rn }) => ({ n: vec(Rn!), m: vec(Rm!) }),
  sem: (a, { n, m }, f) => {
    const width = widthOf(f);
    const y = f["zero"] === 1 ? const64(0) : fpScalar(a, m, width);
    a.setNzcv(a.call(FP_COMPARE[width], fpScalar(a, n, width), y, const32(f["E"]!)));
  },
});

const CONDITIONAL_COMPARE: Insn = insn(
  "FCCMP_floatccmp",
  "000 11110 type:2 1 Rm:5 cond:4 01 Rn:5 E:1 nzcv:4",
  {
    split: ["type", "cond", "E"],
    when: isFormat,
    ops: ({ Rm, Rn, nzcv }) => ({ n: vec(Rn!), m: vec(Rm!), flags: imm32(nzcv!) }),
    sem: (a, { n, m, flags }, f) => {
      const width = widthOf(f);
      const [x, y] = [fpScalar(a, n, width), fpScalar(a, m, width)];
      const nzcv = a.c.variable("i32");
      nzcv.set(a.imm32(flags));
      // Only a comparison that happens may raise a flag of FPSR.
      a.c.if(a.holds(f["cond"]!), () => {
        nzcv.set(a.call(FP_COMPARE[width], x, y, const32(f["E"]!)));
      });
      a.setNzcv(nzcv.get());
    },
  },
);

const SELECT: Insn = insn("FCSEL_floatsel", "000 11110 type:2 1 Rm:5 cond:4 11 Rn:5 Rd:5", {
  split: ["type", "cond"],
  when: isFormat,
  ops: twoOps,
  sem: (a, { d, n, m }, f) => {
    const width = widthOf(f);
    const [x, y] = [fpScalar(a, n, width), fpScalar(a, m, width)];
    a.setScalar(d, a.holds(f["cond"]!).select(x, y));
  },
});

const IMMEDIATE: Insn = insn("FMOV_floatimm", "000 11110 type:2 1 imm8:8 100 00000 Rd:5", {
  split: ["type"],
  when: isFormat,
  ops: (f) => ({ d: vec(f["Rd"]!), imm: imm64(fpImmediate(f["imm8"]!, widthOf(f))) }),
  sem: (a, { d, imm }) => a.setScalar(d, a.imm64(imm)),
});

const { nearest, plus, minus, zero, away, fpcr } = ROUNDING;

export const FP_SCALAR: readonly Insn[] = [
  oneSource("FMOV", "000000", (_, x) => x),
  oneSource("FABS", "000001", (_, x, width) => absolute(x, width)),
  oneSource("FNEG", "000010", (_, x, width) => negated(x, width)),
  oneSource("FSQRT", "000011", (a, x, width) => a.call(FP_SQRT[width], x)),
  CONVERT,
  round("FRINTN", "001000", nearest),
  round("FRINTP", "001001", plus),
  round("FRINTM", "001010", minus),
  round("FRINTZ", "001011", zero),
  round("FRINTA", "001100", away),
  round("FRINTX", "001110", fpcr, 1),
  round("FRINTI", "001111", fpcr),
  twoSources("FMUL", "0000", FP_MUL),
  twoSources("FDIV", "0001", FP_DIV),
  twoSources("FADD", "0010", FP_ADD),
  twoSources("FSUB", "0011", FP_SUB),
  twoSources("FMAX", "0100", FP_MAX),
  twoSources("FMIN", "0101", FP_MIN),
  twoSources("FMAXNM", "0110", FP_MAXNM),
  twoSources("FMINNM", "0111", FP_MINNM),
  twoSources("FNMUL", "1000", FP_MUL, true),
  MULTIPLY_ADD,
  COMPARE,
  CONDITIONAL_COMPARE,
  SELECT,
  IMMEDIATE,
];
