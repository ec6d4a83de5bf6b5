// Owns: Advanced SIMD three different; vector and scalar.
// VM thread.
// @source Arm ARM C4.1, "Advanced SIMD three different", "Advanced SIMD scalar three different"
import { const64, constV, type V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import {
  difference,
  joinHalves,
  type LaneFunction,
  type LaneScope,
  lanesOf,
  mapLanes,
  saturatingAdd,
  saturatingSub,
  whole,
} from "../lanes.js";
import { POLYNOMIAL_64 } from "../lib/polynomial.js";
import { vec } from "../operand.js";
import type { Fields } from "../pattern.js";

/** Operands of a row: both narrow, the first wide already, or both wide and the result narrow. */
type Kind = "long" | "wide" | "narrow";

export interface LongRow {
  readonly name: string;
  readonly opcode: string;
  readonly kind: Kind;
  /** U where it names the operation; else it is the sign. */
  readonly u?: 0 | 1;
  readonly sizes: readonly number[];
  readonly scalar?: readonly number[];
  readonly accumulates?: true;
  readonly lane: LaneFunction;
}

const SMALL = [0, 1, 2];
const HW = [1, 2];

/** 2xy of signed lanes, saturated in the lane of twice the width. */
export const doublingProduct: LaneFunction = (s, x, y) => {
  const product = s.keep(x.mul(y));
  return saturatingAdd(s, product, product);
};
const product: LaneFunction = (_, x, y) => x.mul(y);

/** The upper half of x + y or x - y, with the rounding bit or without it. */
function high(subtracts: boolean, rounds: boolean): LaneFunction {
  return (s: LaneScope, x, y) => {
    const sum = subtracts ? x.sub(y) : x.add(y);
    const rounded = rounds ? sum.add(1n << BigInt(s.bits - 1)) : sum;
    return rounded.shrU(s.bits);
  };
}

/** Carry-less product of bytes, 16 bits. */
const polynomial: LaneFunction = (s, x, y) => {
  let sum = const64(0);
  for (let bit = 0; bit < 8; bit++) {
    sum = s.keep(sum.xor(const64(0).sub(y.shrU(bit).and(1)).and(x.shl(bit))));
  }
  return sum;
};

/** The rows that exist by indexed element too. */
export const LONG_MULTIPLY: readonly LongRow[] = [
  {
    name: "MLAL",
    opcode: "1000",
    kind: "long",
    sizes: SMALL,
    accumulates: true,
    lane: (_, x, y, old) => old.add(x.mul(y)),
  },
  {
    name: "SQDMLAL",
    opcode: "1001",
    kind: "long",
    u: 0,
    sizes: HW,
    scalar: HW,
    accumulates: true,
    lane: (s, x, y, old) => saturatingAdd(s, old, s.keep(doublingProduct(s, x, y, old))),
  },
  {
    name: "MLSL",
    opcode: "1010",
    kind: "long",
    sizes: SMALL,
    accumulates: true,
    lane: (_, x, y, old) => old.sub(x.mul(y)),
  },
  {
    name: "SQDMLSL",
    opcode: "1011",
    kind: "long",
    u: 0,
    sizes: HW,
    scalar: HW,
    accumulates: true,
    lane: (s, x, y, old) => saturatingSub(s, old, s.keep(doublingProduct(s, x, y, old))),
  },
  { name: "MULL", opcode: "1100", kind: "long", sizes: SMALL, lane: product },
  {
    name: "SQDMULL",
    opcode: "1101",
    kind: "long",
    u: 0,
    sizes: HW,
    scalar: HW,
    lane: doublingProduct,
  },
];

const ROWS: readonly LongRow[] = [
  { name: "ADDL", opcode: "0000", kind: "long", sizes: SMALL, lane: (_, x, y) => x.add(y) },
  { name: "ADDW", opcode: "0001", kind: "wide", sizes: SMALL, lane: (_, x, y) => x.add(y) },
  { name: "SUBL", opcode: "0010", kind: "long", sizes: SMALL, lane: (_, x, y) => x.sub(y) },
  { name: "SUBW", opcode: "0011", kind: "wide", sizes: SMALL, lane: (_, x, y) => x.sub(y) },
  { name: "ADDHN", opcode: "0100", kind: "narrow", u: 0, sizes: SMALL, lane: high(false, false) },
  { name: "RADDHN", opcode: "0100", kind: "narrow", u: 1, sizes: SMALL, lane: high(false, true) },
  {
    name: "ABAL",
    opcode: "0101",
    kind: "long",
    sizes: SMALL,
    accumulates: true,
    lane: (s, x, y, old) => old.add(difference(s, x, y)),
  },
  { name: "SUBHN", opcode: "0110", kind: "narrow", u: 0, sizes: SMALL, lane: high(true, false) },
  { name: "RSUBHN", opcode: "0110", kind: "narrow", u: 1, sizes: SMALL, lane: high(true, true) },
  { name: "ABDL", opcode: "0111", kind: "long", sizes: SMALL, lane: difference },
  ...LONG_MULTIPLY,
  { name: "PMULL", opcode: "1110", kind: "long", u: 0, sizes: [0], lane: polynomial },
];

const ops = ({ Rm, Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!) });

/**
 * A long, wide or narrow operation on `lanes` lanes from lane `from` of the narrow operands on.
 * @param size of the narrow elements
 */
export function applyLong(
  a: Asm,
  row: LongRow,
  size: number,
  signed: boolean,
  lanes: number,
  from: number,
  v: readonly V128[],
): V128 {
  const isSigned = row.u === undefined ? signed : row.name.startsWith("SQ");
  const narrow = { size, signed: isSigned, from };
  const wide = { size: size + 1, signed: isSigned };
  const shapes = { long: [narrow, narrow], wide: [wide, narrow], narrow: [wide, wide] };
  const inputs = row.accumulates ? [...shapes[row.kind], wide] : shapes[row.kind];
  const output = row.kind === "narrow" ? size : size + 1;
  const map = { name: `diff_${row.name}`, inputs, output, signed: isSigned, lanes };
  return a.call(mapLanes(map, row.lane), ...v.slice(0, inputs.length));
}

function vector(row: LongRow): Insn {
  const u = row.u === undefined ? "U:1" : String(row.u);
  return insn(
    `${row.name}_asimddiff`,
    `0 Q:1 ${u} 01110 size:2 1 Rm:5 ${row.opcode} 00 Rn:5 Rd:5`,
    {
      split: row.u === undefined ? ["Q", "U", "size"] : ["Q", "size"],
      when: ({ size }) => row.sizes.includes(size!),
      ops,
      sem: (a, { d, n, m }, { Q, U, size }) => {
        const lanes = lanesOf(size!, 0);
        // The …2 forms take the upper halves of narrow operands, or write that of a narrow result.
        const from = row.kind !== "narrow" && Q === 1 ? lanes : 0;
        const v = row.accumulates ? [a.v(n), a.v(m), a.v(d)] : [a.v(n), a.v(m)];
        const r = applyLong(a, row, size!, U !== 1, lanes, from, v);
        a.setV(d, row.kind === "narrow" && Q === 1 ? joinHalves(a.v(d), r) : r);
      },
    },
  );
}

function scalar(row: LongRow): readonly Insn[] {
  const { scalar: sizes } = row;
  if (sizes === undefined) return [];
  return [
    insn(`${row.name}_asisddiff_only`, `01 0 11110 size:2 1 Rm:5 ${row.opcode} 00 Rn:5 Rd:5`, {
      split: ["size"],
      when: ({ size }) => sizes.includes(size!),
      ops,
      sem: (a, { d, n, m }, { size }) => {
        const v = row.accumulates ? [a.v(n), a.v(m), a.v(d)] : [a.v(n), a.v(m)];
        a.setV(d, whole(0, applyLong(a, row, size!, true, 1, 0, v)));
      },
    }),
  ];
}

/** PMULL and PMULL2 of 64 bits, a product of 128. */
const PMULL_64: Insn = insn("PMULL_64_asimddiff_L", "0 Q:1 0 01110 11 1 Rm:5 1110 00 Rn:5 Rd:5", {
  split: ["Q"],
  feature: "FEAT_PMULL",
  ops,
  sem: (a, { d, n, m }, { Q }) => {
    const [x, y] = [a.keep(a.v(n).lane64(Q!)), a.keep(a.v(m).lane64(Q!))];
    const low = a.call(POLYNOMIAL_64.low, x, y);
    const result = constV(0n, 0n).replace("i64x2", 0, low);
    a.setV(d, result.replace("i64x2", 1, a.call(POLYNOMIAL_64.high, x, y)));
  },
});

export const SIMD_DIFFERENT: readonly Insn[] = [
  ...ROWS.map(vector),
  ...ROWS.flatMap(scalar),
  PMULL_64,
];
