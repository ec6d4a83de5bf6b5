// Owns: floating point in vectors, and in Advanced SIMD scalar forms: one operand, across lanes.
// VM thread.
// @source Arm ARM C4.1, "Advanced SIMD two-register miscellaneous", "shift by immediate", "across"
import { const32, const64, type I64, type V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { joinHalves, withLane, ZERO } from "../lanes.js";
import { FP_ADD, FP_SQRT } from "../lib/fp/arith.js";
import { FP_EQ, FP_GE, FP_GT, FP_MAX, FP_MAXNM, FP_MIN, FP_MINNM } from "../lib/fp/compare.js";
import {
  type Conversion,
  FIXED_TO_FP,
  FP_CONVERT,
  FP_CVTXN,
  FP_ROUND_INT,
  FP_TO_FIXED,
} from "../lib/fp/convert.js";
import {
  FP_RECPE,
  FP_RECPX,
  FP_RSQRTE,
  UNSIGNED_RECPE,
  UNSIGNED_RSQRTE,
} from "../lib/fp/estimate.js";
import { ROUNDING } from "../lib/fp/format.js";
import type { LibFunction, LibScope } from "../lib/function.js";
import { imm32, vec } from "../operand.js";
import type { Fields } from "../pattern.js";
import { absoluteLanes, type FpSize, fpLane, negatedLanes } from "./fp-operands.js";
import { fpLanes, fpSize, fpWidth, isArrangement, mapFp } from "./fp-vector.js";

type ByWidth<T> = Readonly<Record<FpSize, T>>;
type Lane = (s: LibScope, width: FpSize, x: I64) => I64;

const ops = ({ Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!) });

const unary =
  (fn: ByWidth<LibFunction<"i64">>): Lane =>
  (s, width, x) =>
    s.call(fn[width], x);
const round =
  (mode: number, exact = 0): Lane =>
  (s, width, x) =>
    s.call(FP_ROUND_INT[width], x, const32(mode), const32(exact));
/** Against zero; `swapped`: zero is the first operand. */
const compare =
  (fn: ByWidth<LibFunction<"i32">>, swapped = false): Lane =>
  (s, width, x) => {
    const zero = const64(0);
    const holds = swapped ? s.call(fn[width], zero, x) : s.call(fn[width], x, zero);
    return s.c.keep(holds.extendS().neg());
  };
const toInteger =
  (mode: number, isUnsigned: number): Lane =>
  (s, width, x) => {
    const options = [0, isUnsigned, mode, width].map((n) => const32(n));
    return s.call(FP_TO_FIXED[width], x, ...options);
  };
const signedLane = (x: I64, width: FpSize, isUnsigned: number): I64 =>
  width === 32 && isUnsigned === 0 ? x.extend32S() : x;
const fromInteger =
  (isUnsigned: number): Lane =>
  (s, width, x) => {
    const value = s.c.keep(signedLane(x, width, isUnsigned));
    return s.call(FIXED_TO_FP[width], value, const32(0), const32(isUnsigned));
  };

interface Row {
  readonly name: string;
  readonly u: 0 | 1;
  readonly a: 0 | 1;
  readonly opcode: string;
  readonly vector?: false;
  readonly scalar?: true;
  readonly lane: Lane;
}

const { nearest, plus, minus, zero, away, fpcr } = ROUNDING;
const ROWS: readonly Row[] = [
  { name: "FRINTN", u: 0, a: 0, opcode: "11000", lane: round(nearest) },
  { name: "FRINTM", u: 0, a: 0, opcode: "11001", lane: round(minus) },
  { name: "FCVTNS", u: 0, a: 0, opcode: "11010", scalar: true, lane: toInteger(nearest, 0) },
  { name: "FCVTMS", u: 0, a: 0, opcode: "11011", scalar: true, lane: toInteger(minus, 0) },
  { name: "FCVTAS", u: 0, a: 0, opcode: "11100", scalar: true, lane: toInteger(away, 0) },
  { name: "SCVTF", u: 0, a: 0, opcode: "11101", scalar: true, lane: fromInteger(0) },
  { name: "FCMGT_z", u: 0, a: 1, opcode: "01100", scalar: true, lane: compare(FP_GT) },
  { name: "FCMEQ_z", u: 0, a: 1, opcode: "01101", scalar: true, lane: compare(FP_EQ) },
  { name: "FCMLT_z", u: 0, a: 1, opcode: "01110", scalar: true, lane: compare(FP_GT, true) },
  { name: "FRINTP", u: 0, a: 1, opcode: "11000", lane: round(plus) },
  { name: "FRINTZ", u: 0, a: 1, opcode: "11001", lane: round(zero) },
  { name: "FCVTPS", u: 0, a: 1, opcode: "11010", scalar: true, lane: toInteger(plus, 0) },
  { name: "FCVTZS", u: 0, a: 1, opcode: "11011", scalar: true, lane: toInteger(zero, 0) },
  { name: "FRECPE", u: 0, a: 1, opcode: "11101", scalar: true, lane: unary(FP_RECPE) },
  {
    name: "FRECPX",
    u: 0,
    a: 1,
    opcode: "11111",
    vector: false,
    scalar: true,
    lane: unary(FP_RECPX),
  },
  { name: "FRINTA", u: 1, a: 0, opcode: "11000", lane: round(away) },
  { name: "FRINTX", u: 1, a: 0, opcode: "11001", lane: round(fpcr, 1) },
  { name: "FCVTNU", u: 1, a: 0, opcode: "11010", scalar: true, lane: toInteger(nearest, 1) },
  { name: "FCVTMU", u: 1, a: 0, opcode: "11011", scalar: true, lane: toInteger(minus, 1) },
  { name: "FCVTAU", u: 1, a: 0, opcode: "11100", scalar: true, lane: toInteger(away, 1) },
  { name: "UCVTF", u: 1, a: 0, opcode: "11101", scalar: true, lane: fromInteger(1) },
  { name: "FCMGE_z", u: 1, a: 1, opcode: "01100", scalar: true, lane: compare(FP_GE) },
  { name: "FCMLE_z", u: 1, a: 1, opcode: "01101", scalar: true, lane: compare(FP_GE, true) },
  { name: "FRINTI", u: 1, a: 1, opcode: "11001", lane: round(fpcr) },
  { name: "FCVTPU", u: 1, a: 1, opcode: "11010", scalar: true, lane: toInteger(plus, 1) },
  { name: "FCVTZU", u: 1, a: 1, opcode: "11011", scalar: true, lane: toInteger(zero, 1) },
  { name: "FRSQRTE", u: 1, a: 1, opcode: "11101", scalar: true, lane: unary(FP_RSQRTE) },
  { name: "FSQRT", u: 1, a: 1, opcode: "11111", lane: unary(FP_SQRT) },
];

const rows: readonly Insn[] = ROWS.flatMap((row) => {
  const tail = `${row.a} sz:1 10000 ${row.opcode} 10 Rn:5 Rd:5`;
  const forms: Insn[] = [];
  if (row.vector !== false) {
    forms.push(
      insn(`${row.name}_asimdmisc_fp`, `0 Q:1 ${row.u} 01110 ${tail}`, {
        split: ["Q", "sz"],
        when: isArrangement,
        ops,
        sem: (a, { d, n }, { Q, sz }) => {
          const width = fpWidth(sz!);
          a.setV(d, a.call(mapFp(row.name, width, fpLanes(width, Q!), 1, row.lane), a.v(n)));
        },
      }),
    );
  }
  if (row.scalar) {
    forms.push(
      insn(`${row.name}_asisdmisc_fp`, `01 ${row.u} 11110 ${tail}`, {
        split: ["sz"],
        ops,
        sem: (a, { d, n }, { sz }) => {
          a.setV(d, a.call(mapFp(row.name, fpWidth(sz!), 1, 1, row.lane), a.v(n)));
        },
      }),
    );
  }
  return forms;
});

/** FABS and FNEG touch the sign, and nothing else. */
function sign(name: string, u: 0 | 1, change: (v: V128, width: FpSize) => V128): Insn {
  return insn(`${name}_asimdmisc_fp`, `0 Q:1 ${u} 01110 1 sz:1 10000 01111 10 Rn:5 Rd:5`, {
    split: ["Q", "sz"],
    when: isArrangement,
    ops,
    sem: (a, { d, n }, { Q, sz }) => {
      const r = change(a.v(n), fpWidth(sz!));
      if (Q === 1) a.setV(d, r);
      else a.setScalar(d, r.lane64(0));
    },
  });
}

/** URECPE, URSQRTE. */
function estimate(name: string, u: 0 | 1, fn: LibFunction<"i32">): Insn {
  const lane: Lane = (s, _, x) => s.c.keep(s.call(fn, x.wrap()).extendU());
  return insn(`${name}_asimdmisc_R`, `0 Q:1 ${u} 01110 10 10000 11100 10 Rn:5 Rd:5`, {
    split: ["Q"],
    ops,
    sem: (a, { d, n }, { Q }) =>
      a.setV(d, a.call(mapFp(name, 32, fpLanes(32, Q!), 1, lane), a.v(n))),
  });
}

// ── between formats ───────────────────────────────────────────────────────────────────────────

/** A lane of 16, 32 or 64 bits, extended with zeros. */
function laneBits(v: V128, bits: number, lane: number): I64 {
  return bits === 16 ? v.lane32("i16x8", lane).extendU() : fpLane(v, bits as FpSize, lane);
}
const SIZE_OF: Readonly<Record<number, number>> = { 16: 1, 32: 2, 64: 3 };

/** Converts `lanes` lanes of n from lane `first` on, into the lower lanes of the result. */
function converted(
  a: Asm,
  n: V128,
  from: number,
  to: number,
  first: number,
  lanes: number,
  fn: LibFunction<"i64">,
): V128 {
  let r: V128 = ZERO;
  for (let lane = 0; lane < lanes; lane++) {
    const x = a.keep(laneBits(n, from, first + lane));
    r = a.keep(withLane(r, SIZE_OF[to]!, lane, a.call(fn, x)));
  }
  return r;
}

const CONVERSIONS: readonly Insn[] = [
  insn("FCVTL_asimdmisc_L", "0 Q:1 0 01110 0 sz:1 10000 10111 10 Rn:5 Rd:5", {
    split: ["Q", "sz"],
    ops,
    sem: (a, { d, n }, { Q, sz }) => {
      const [from, to] = sz === 1 ? [32, 64] : [16, 32];
      const lanes = 128 / to!;
      const fn = FP_CONVERT[`${from}>${to}` as Conversion];
      a.setV(d, converted(a, a.v(n), from!, to!, Q === 1 ? lanes : 0, lanes, fn));
    },
  }),
  insn("FCVTN_asimdmisc_N", "0 Q:1 0 01110 0 sz:1 10000 10110 10 Rn:5 Rd:5", {
    split: ["Q", "sz"],
    ops,
    sem: (a, { d, n }, { Q, sz }) => {
      const [from, to] = sz === 1 ? [64, 32] : [32, 16];
      const fn = FP_CONVERT[`${from}>${to}` as Conversion];
      const r = converted(a, a.v(n), from!, to!, 0, 128 / from!, fn);
      a.setV(d, Q === 1 ? joinHalves(a.v(d), r) : r);
    },
  }),
  insn("FCVTXN_asimdmisc_N", "0 Q:1 1 01110 0 1 10000 10110 10 Rn:5 Rd:5", {
    split: ["Q"],
    ops,
    sem: (a, { d, n }, { Q }) => {
      const r = converted(a, a.v(n), 64, 32, 0, 2, FP_CVTXN);
      a.setV(d, Q === 1 ? joinHalves(a.v(d), r) : r);
    },
  }),
  insn("FCVTXN_asisdmisc_N", "01 1 11110 0 1 10000 10110 10 Rn:5 Rd:5", {
    ops,
    sem: (a, { d, n }) => a.setV(d, converted(a, a.v(n), 64, 32, 0, 1, FP_CVTXN)),
  }),
];

// ── fixed point ───────────────────────────────────────────────────────────────────────────────

/** immh:immb: 01 and five bits of singles, 1 and six of doubles; fraction bits are what is left. */
const IMMH: ByWidth<string> = { 32: "01 rest:5", 64: "1 rest:6" };

function fixed(name: string, opcode: string, width: FpSize): readonly Insn[] {
  const convert = (
    a: Asm,
    v: V128,
    lanes: number,
    fraction: ReturnType<Asm["imm32"]>,
    u: number,
  ) => {
    let r: V128 = ZERO;
    for (let lane = 0; lane < lanes; lane++) {
      const x = a.keep(fpLane(v, width, lane));
      const value =
        name === "FCVTZ"
          ? a.call(FP_TO_FIXED[width], x, fraction, const32(u), const32(zero), const32(width))
          : a.call(FIXED_TO_FP[width], a.keep(signedLane(x, width, u)), fraction, const32(u));
      r = a.keep(withLane(r, fpSize(width), lane, value));
    }
    return r;
  };
  const fixedOps = ({ rest, Rn, Rd }: Fields) => ({
    d: vec(Rd!),
    n: vec(Rn!),
    fraction: imm32(width - rest!),
  });
  const tail = `${IMMH[width]} ${opcode} 1 Rn:5 Rd:5`;
  return [
    insn(`${name}_asimdshf_${width}`, `0 Q:1 U:1 011110 ${tail}`, {
      split: ["Q", "U"],
      when: ({ Q }) => width === 32 || Q === 1,
      ops: fixedOps,
      sem: (a, { d, n, fraction }, { Q, U }) => {
        a.setV(d, convert(a, a.v(n), fpLanes(width, Q!), a.imm32(fraction), U!));
      },
    }),
    insn(`${name}_asisdshf_${width}`, `01 U:1 111110 ${tail}`, {
      split: ["U"],
      ops: fixedOps,
      sem: (a, { d, n, fraction }, { U }) =>
        a.setV(d, convert(a, a.v(n), 1, a.imm32(fraction), U!)),
    }),
  ];
}

// ── across lanes, pairwise scalar ─────────────────────────────────────────────────────────────

/** FMAXV and its kin: of four singles, pair by pair. */
function across(name: string, a23: 0 | 1, opcode: string, fn: LibFunction<"i64">): Insn {
  return insn(`${name}_asimdall_fp`, `0 1 1 01110 ${a23} 0 11000 ${opcode} 10 Rn:5 Rd:5`, {
    ops,
    sem: (a, { d, n }) => {
      const lanes = [0, 1, 2, 3].map((lane) => a.keep(fpLane(a.v(n), 32, lane)));
      const low = a.call(fn, lanes[0]!, lanes[1]!);
      const high = a.call(fn, lanes[2]!, lanes[3]!);
      a.setScalar(d, a.call(fn, low, high));
    },
  });
}

function pair(name: string, a23: 0 | 1, opcode: string, fn: ByWidth<LibFunction<"i64">>): Insn {
  return insn(`${name}_asisdpair_fp`, `01 1 11110 ${a23} sz:1 11000 ${opcode} 10 Rn:5 Rd:5`, {
    split: ["sz"],
    ops,
    sem: (a, { d, n }, { sz }) => {
      const width = fpWidth(sz!);
      const v = a.v(n);
      const [x, y] = [a.keep(fpLane(v, width, 0)), a.keep(fpLane(v, width, 1))];
      a.setScalar(d, a.call(fn[width], x, y));
    },
  });
}

export const FP_MISC: readonly Insn[] = [
  ...rows,
  sign("FABS", 0, absoluteLanes),
  sign("FNEG", 1, negatedLanes),
  estimate("URECPE", 0, UNSIGNED_RECPE),
  estimate("URSQRTE", 1, UNSIGNED_RSQRTE),
  ...CONVERSIONS,
  ...([32, 64] as const).flatMap((width) => fixed("CVTF", "11100", width)),
  ...([32, 64] as const).flatMap((width) => fixed("FCVTZ", "11111", width)),
  across("FMAXNMV", 0, "01100", FP_MAXNM[32]),
  across("FMAXV", 0, "01111", FP_MAX[32]),
  across("FMINNMV", 1, "01100", FP_MINNM[32]),
  across("FMINV", 1, "01111", FP_MIN[32]),
  pair("FMAXNMP", 0, "01100", FP_MAXNM),
  pair("FADDP", 0, "01101", FP_ADD),
  pair("FMAXP", 0, "01111", FP_MAX),
  pair("FMINNMP", 1, "01100", FP_MINNM),
  pair("FMINP", 1, "01111", FP_MIN),
];
