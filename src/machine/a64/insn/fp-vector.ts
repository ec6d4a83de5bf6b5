// Owns: floating point in vectors, and in Advanced SIMD scalar forms: three operands.
// VM thread.
// @source Arm ARM C4.1, "Advanced SIMD three same", "by indexed element", scalar classes
import type { I64, V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { everySecond, splatLane, withLane, ZERO } from "../lanes.js";
import { FP_ADD, FP_DIV, FP_MUL, FP_MULX, FP_SUB } from "../lib/fp/arith.js";
import { FP_EQ, FP_GE, FP_GT, FP_MAX, FP_MAXNM, FP_MIN, FP_MINNM } from "../lib/fp/compare.js";
import { FP_MULADD, FP_RECPS, FP_RSQRTS } from "../lib/fp/fused.js";
import type { LibFunction, LibScope } from "../lib/function.js";
import { type Imm32, imm32, type VReg, vec } from "../operand.js";
import type { Fields } from "../pattern.js";
import { absolute, type FpSize, fpLane, negated } from "./fp-operands.js";

type ByWidth<T> = Readonly<Record<FpSize, T>>;
/** A lane of the result, of lanes of n, m and the old destination. */
type FpLane = (s: LibScope, width: FpSize, x: I64, y: I64, old: I64) => I64;

export const fpWidth = (sz: number): FpSize => (sz === 1 ? 64 : 32);
export const fpSize = (width: FpSize): 2 | 3 => (width === 64 ? 3 : 2);
/** Lanes of a vector: 2S, 4S, 2D. */
export const fpLanes = (width: FpSize, q: number): number => (q === 1 ? 128 : 64) / width;

const made = new Map<string, LibFunction<"v128">>();

/** The operation on whole vectors, as a library function; lanes beyond are zero. */
export function mapFp(
  name: string,
  width: FpSize,
  lanes: number,
  count: 1 | 2 | 3,
  lane: FpLane,
): LibFunction<"v128"> {
  const key = `fpv_${name}_${width}x${lanes}`;
  const known = made.get(key);
  if (known !== undefined) return known;
  const fn: LibFunction<"v128"> = {
    name: key,
    params: Array.from({ length: count }, () => "v128" as const),
    result: "v128",
    build: (s, args) => {
      let result: V128 = ZERO;
      for (let n = 0; n < lanes; n++) {
        const [x, y, z] = args.map((v) => s.c.keep(fpLane(v as V128, width, n))) as I64[];
        const value = lane(s, width, x!, y ?? x!, z ?? x!);
        result = s.c.keep(withLane(result, fpSize(width), n, value));
      }
      s.c.return(result);
    },
  };
  made.set(key, fn);
  return fn;
}

const call =
  (fn: ByWidth<LibFunction<"i64">>): FpLane =>
  (s, width, x, y) =>
    s.call(fn[width], x, y);
/** All ones where a comparison holds. */
const mask = (s: LibScope, holds: ReturnType<LibScope["fetch"]>): I64 => {
  return s.c.keep(holds.extendS().neg());
};
const compare =
  (fn: ByWidth<LibFunction<"i32">>): FpLane =>
  (s, width, x, y) =>
    mask(s, s.call(fn[width], x, y));
const compareAbsolute =
  (fn: ByWidth<LibFunction<"i32">>): FpLane =>
  (s, width, x, y) => {
    const [p, q] = [s.c.keep(absolute(x, width)), s.c.keep(absolute(y, width))];
    return mask(s, s.call(fn[width], p, q));
  };
const multiplyAdd =
  (subtracts: boolean): FpLane =>
  (s, width, x, y, old) =>
    s.call(FP_MULADD[width], old, subtracts ? s.c.keep(negated(x, width)) : x, y);
const absoluteDifference: FpLane = (s, width, x, y) => {
  return absolute(s.call(FP_SUB[width], x, y), width);
};

interface Row {
  readonly name: string;
  readonly u: 0 | 1;
  /** Bit 23: the half of the opcode that integers use for their size. */
  readonly a: 0 | 1;
  readonly opcode: string;
  readonly scalar?: true;
  readonly accumulates?: true;
  /** Lanes of n and m one after the other, two by two. */
  readonly pairs?: true;
  readonly lane: FpLane;
}

const ROWS: readonly Row[] = [
  { name: "FMAXNM", u: 0, a: 0, opcode: "11000", lane: call(FP_MAXNM) },
  { name: "FMLA", u: 0, a: 0, opcode: "11001", accumulates: true, lane: multiplyAdd(false) },
  { name: "FADD", u: 0, a: 0, opcode: "11010", lane: call(FP_ADD) },
  { name: "FMULX", u: 0, a: 0, opcode: "11011", scalar: true, lane: call(FP_MULX) },
  { name: "FCMEQ", u: 0, a: 0, opcode: "11100", scalar: true, lane: compare(FP_EQ) },
  { name: "FMAX", u: 0, a: 0, opcode: "11110", lane: call(FP_MAX) },
  { name: "FRECPS", u: 0, a: 0, opcode: "11111", scalar: true, lane: call(FP_RECPS) },
  { name: "FMINNM", u: 0, a: 1, opcode: "11000", lane: call(FP_MINNM) },
  { name: "FMLS", u: 0, a: 1, opcode: "11001", accumulates: true, lane: multiplyAdd(true) },
  { name: "FSUB", u: 0, a: 1, opcode: "11010", lane: call(FP_SUB) },
  { name: "FMIN", u: 0, a: 1, opcode: "11110", lane: call(FP_MIN) },
  { name: "FRSQRTS", u: 0, a: 1, opcode: "11111", scalar: true, lane: call(FP_RSQRTS) },
  { name: "FMAXNMP", u: 1, a: 0, opcode: "11000", pairs: true, lane: call(FP_MAXNM) },
  { name: "FADDP", u: 1, a: 0, opcode: "11010", pairs: true, lane: call(FP_ADD) },
  { name: "FMUL", u: 1, a: 0, opcode: "11011", lane: call(FP_MUL) },
  { name: "FCMGE", u: 1, a: 0, opcode: "11100", scalar: true, lane: compare(FP_GE) },
  { name: "FACGE", u: 1, a: 0, opcode: "11101", scalar: true, lane: compareAbsolute(FP_GE) },
  { name: "FMAXP", u: 1, a: 0, opcode: "11110", pairs: true, lane: call(FP_MAX) },
  { name: "FDIV", u: 1, a: 0, opcode: "11111", lane: call(FP_DIV) },
  { name: "FMINNMP", u: 1, a: 1, opcode: "11000", pairs: true, lane: call(FP_MINNM) },
  { name: "FABD", u: 1, a: 1, opcode: "11010", scalar: true, lane: absoluteDifference },
  { name: "FCMGT", u: 1, a: 1, opcode: "11100", scalar: true, lane: compare(FP_GT) },
  { name: "FACGT", u: 1, a: 1, opcode: "11101", scalar: true, lane: compareAbsolute(FP_GT) },
  { name: "FMINP", u: 1, a: 1, opcode: "11110", pairs: true, lane: call(FP_MIN) },
];

const ops = ({ Rm, Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!) });
/** One lane of 64 bits is no vector arrangement. */
export const isArrangement = ({ Q, sz }: Fields): boolean => Q === 1 || sz === 0;

function vector(row: Row): Insn {
  const pattern = `0 Q:1 ${row.u} 01110 ${row.a} sz:1 1 Rm:5 ${row.opcode} 1 Rn:5 Rd:5`;
  return insn(`${row.name}_asimdsame_fp`, pattern, {
    split: ["Q", "sz"],
    when: isArrangement,
    ops,
    sem: (a, { d, n, m }, { Q, sz }) => {
      const width = fpWidth(sz!);
      const [x, y] = [a.v(n), a.v(m)];
      const fn = (count: 2 | 3) => mapFp(row.name, width, fpLanes(width, Q!), count, row.lane);
      if (row.pairs) {
        const even = a.keep(everySecond(x, y, fpSize(width), Q!, 0));
        const odd = a.keep(everySecond(x, y, fpSize(width), Q!, 1));
        a.setV(d, a.call(fn(2), even, odd));
      } else if (row.accumulates) a.setV(d, a.call(fn(3), x, y, a.v(d)));
      else a.setV(d, a.call(fn(2), x, y));
    },
  });
}

function scalar(row: Row): readonly Insn[] {
  if (!row.scalar) return [];
  const pattern = `01 ${row.u} 11110 ${row.a} sz:1 1 Rm:5 ${row.opcode} 1 Rn:5 Rd:5`;
  return [
    insn(`${row.name}_asisdsame_fp`, pattern, {
      split: ["sz"],
      ops,
      sem: (a, { d, n, m }, { sz }) => {
        const width = fpWidth(sz!);
        a.setV(d, a.call(mapFp(row.name, width, 1, 2, row.lane), a.v(n), a.v(m)));
      },
    }),
  ];
}

// ── by indexed element ────────────────────────────────────────────────────────────────────────

interface Element {
  readonly name: string;
  readonly u: 0 | 1;
  readonly opcode: string;
  readonly accumulates?: true;
  readonly lane: FpLane;
}
const ELEMENTS: readonly Element[] = [
  { name: "FMLA", u: 0, opcode: "0001", accumulates: true, lane: multiplyAdd(false) },
  { name: "FMLS", u: 0, opcode: "0101", accumulates: true, lane: multiplyAdd(true) },
  { name: "FMUL", u: 0, opcode: "1001", lane: call(FP_MUL) },
  { name: "FMULX", u: 1, opcode: "1001", lane: call(FP_MULX) },
];

interface ElementOps {
  readonly [name: string]: VReg | Imm32;
  readonly d: VReg;
  readonly n: VReg;
  readonly m: VReg;
  readonly index: Imm32;
}
function elementOps({ sz, L, M, H, Rm, Rn, Rd }: Fields): ElementOps {
  const index = sz === 1 ? H! : (H! << 1) | L!;
  return { d: vec(Rd!), n: vec(Rn!), m: vec((M! << 4) | Rm!), index: imm32(index) };
}
/** A double has its index in H alone. */
const isIndex = ({ sz, L }: Fields): boolean => sz === 0 || L === 0;

function applyElement(a: Asm, row: Element, o: ElementOps, width: FpSize, lanes: number): V128 {
  const element = a.keep(splatLane(a.v(o.m), fpSize(width), a.imm32(o.index)));
  const count = row.accumulates ? 3 : 2;
  const v = [a.v(o.n), element, ...(row.accumulates ? [a.v(o.d)] : [])];
  return a.call(mapFp(row.name, width, lanes, count, row.lane), ...v);
}

const elements: readonly Insn[] = ELEMENTS.flatMap((row) => {
  const tail = `1 sz:1 L:1 M:1 Rm:4 ${row.opcode} H:1 0 Rn:5 Rd:5`;
  return [
    insn(`${row.name}_asimdelem_fp`, `0 Q:1 ${row.u} 01111 ${tail}`, {
      split: ["Q", "sz"],
      when: isArrangement,
      valid: isIndex,
      ops: elementOps,
      sem: (a, o, { Q, sz }) => {
        const width = fpWidth(sz!);
        a.setV(o.d, applyElement(a, row, o, width, fpLanes(width, Q!)));
      },
    }),
    insn(`${row.name}_asisdelem_fp`, `01 ${row.u} 11111 ${tail}`, {
      split: ["sz"],
      valid: isIndex,
      ops: elementOps,
      sem: (a, o, { sz }) => a.setV(o.d, applyElement(a, row, o, fpWidth(sz!), 1)),
    }),
  ];
});

export const FP_VECTOR: readonly Insn[] = [
  ...ROWS.map(vector),
  ...ROWS.flatMap(scalar),
  ...elements,
];
