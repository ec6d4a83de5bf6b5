// Owns: Advanced SIMD three same, integer; vector and scalar.
// VM thread.
// @source Arm ARM C4.1, "Advanced SIMD three same", "Advanced SIMD scalar three same"

import type { OpName } from "../../../base/wasm/opcodes.table.js";
import { const64, type I32, type I64, type V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import {
  difference,
  everySecond,
  type LaneFunction,
  lanesOf,
  mapLanes,
  roundingShiftRight,
  SHAPE,
  saturatingAdd,
  saturatingShiftLeft,
  saturatingSub,
  shiftRight,
  whole,
} from "../lanes.js";
import { vec } from "../operand.js";
import type { Fields } from "../pattern.js";

interface Row {
  readonly name: string;
  readonly opcode: string;
  /** U as far as it selects the operation; otherwise it is the sign of the lanes. */
  readonly u?: 0 | 1;
  /** Element sizes of the vector form, and of the scalar one where there is one. */
  readonly sizes: readonly number[];
  readonly scalar?: readonly number[];
  /** A WebAssembly operator per size that does it, as its name without the shape. */
  readonly native?: (size: number, signed: boolean) => string | null;
  readonly lane?: LaneFunction;
  /** The old destination takes part, as third lane. */
  readonly accumulates?: true;
}

const ALL = [0, 1, 2, 3];
const SMALL = [0, 1, 2];
const HW = [1, 2];
const su = (signed: boolean): string => (signed ? "s" : "u");

/** All ones for 1. */
const truth = (holds: I32): I64 => holds.extendS().neg();

/** A shift by the signed low byte of y: left from 0 up, right below. */
function byRegister(left: LaneFunction, right: LaneFunction): LaneFunction {
  return (s, x, y, z) => {
    const by = s.keep(y.extend8S());
    const r = s.c.variable("i64");
    s.c.if(
      by.geS(0),
      () => r.set(left(s, x, by, z)),
      () => r.set(right(s, x, s.keep(by.neg()), z)),
    );
    return r.get();
  };
}
const plainLeft: LaneFunction = (_, x, by) => by.gtU(63).select(const64(0), x.shl(by));
const right: LaneFunction = (s, x, by) => shiftRight(s, x, by);
const roundingRight: LaneFunction = (s, x, by) => roundingShiftRight(s, x, by);
const saturatingLeft: LaneFunction = (s, x, by) => saturatingShiftLeft(s, x, by);

/** (2xy, rounded or not) >> bits, saturated: doubling before would need another bit. */
export function doublingHigh(rounds: boolean): LaneFunction {
  return (s, x, y) => {
    const product = x.mul(y);
    const sum = rounds ? product.add(1n << BigInt(s.bits - 2)) : product;
    return s.clamp(sum.shrS(s.bits - 1), true);
  };
}

/** SQRDMLAH and SQRDMLSH. */
export function doublingAccumulate(subtracts: boolean): LaneFunction {
  return (s, x, y, old) => {
    const product = x.mul(y);
    const high = old.shl(s.bits - 1);
    const sum = (subtracts ? high.sub(product) : high.add(product)).add(1n << BigInt(s.bits - 2));
    return s.clamp(sum.shrS(s.bits - 1), true);
  };
}

/** Carry-less product of two bytes, the low byte. */
const polynomial: LaneFunction = (s, x, y) => {
  let sum = s.keep(const64(0).sub(y.and(1)).and(x));
  for (let bit = 1; bit < 8; bit++) {
    sum = s.keep(sum.xor(const64(0).sub(y.shrU(bit).and(1)).and(x.shl(bit))));
  }
  return sum;
};

const compare = (signed: string, unsigned: string): NonNullable<Row["native"]> => {
  return (size, isSigned) => (isSigned ? signed : size === 3 ? null : unsigned);
};

const ROWS: readonly Row[] = [
  { name: "HADD", opcode: "00000", sizes: SMALL, lane: (_, x, y) => x.add(y).shrS(1) },
  { name: "QADD", opcode: "00001", sizes: ALL, scalar: ALL, lane: saturatingAdd },
  { name: "RHADD", opcode: "00010", sizes: SMALL, lane: (_, x, y) => x.add(y).add(1).shrS(1) },
  { name: "HSUB", opcode: "00100", sizes: SMALL, lane: (_, x, y) => x.sub(y).shrS(1) },
  { name: "QSUB", opcode: "00101", sizes: ALL, scalar: ALL, lane: saturatingSub },
  {
    name: "CMGT_CMHI",
    opcode: "00110",
    sizes: ALL,
    scalar: [3],
    native: compare("gt_s", "gt_u"),
    lane: (_, x, y) => truth(x.gtU(y)),
  },
  {
    name: "CMGE_CMHS",
    opcode: "00111",
    sizes: ALL,
    scalar: [3],
    native: compare("ge_s", "ge_u"),
    lane: (_, x, y) => truth(x.geU(y)),
  },
  { name: "SHL", opcode: "01000", sizes: ALL, scalar: [3], lane: byRegister(plainLeft, right) },
  {
    name: "QSHL",
    opcode: "01001",
    sizes: ALL,
    scalar: ALL,
    lane: byRegister(saturatingLeft, right),
  },
  {
    name: "RSHL",
    opcode: "01010",
    sizes: ALL,
    scalar: [3],
    lane: byRegister(plainLeft, roundingRight),
  },
  {
    name: "QRSHL",
    opcode: "01011",
    sizes: ALL,
    scalar: ALL,
    lane: byRegister(saturatingLeft, roundingRight),
  },
  { name: "MAX", opcode: "01100", sizes: SMALL, native: (_, signed) => `max_${su(signed)}` },
  { name: "MIN", opcode: "01101", sizes: SMALL, native: (_, signed) => `min_${su(signed)}` },
  { name: "ABD", opcode: "01110", sizes: SMALL, lane: difference },
  {
    name: "ABA",
    opcode: "01111",
    sizes: SMALL,
    accumulates: true,
    lane: (s, x, y, old) => old.add(difference(s, x, y)),
  },
  { name: "ADD", opcode: "10000", u: 0, sizes: ALL, scalar: [3], native: () => "add" },
  { name: "SUB", opcode: "10000", u: 1, sizes: ALL, scalar: [3], native: () => "sub" },
  { name: "CMEQ", opcode: "10001", u: 1, sizes: ALL, scalar: [3], native: () => "eq" },
  {
    name: "MLA",
    opcode: "10010",
    u: 0,
    sizes: SMALL,
    accumulates: true,
    lane: (_, x, y, old) => old.add(x.mul(y)),
  },
  {
    name: "MLS",
    opcode: "10010",
    u: 1,
    sizes: SMALL,
    accumulates: true,
    lane: (_, x, y, old) => old.sub(x.mul(y)),
  },
  {
    name: "MUL",
    opcode: "10011",
    u: 0,
    sizes: SMALL,
    native: (size) => (size === 0 ? null : "mul"),
    lane: (_, x, y) => x.mul(y),
  },
  { name: "PMUL", opcode: "10011", u: 1, sizes: [0], lane: polynomial },
  { name: "SQDMULH", opcode: "10110", u: 0, sizes: HW, scalar: HW, lane: doublingHigh(false) },
  { name: "SQRDMULH", opcode: "10110", u: 1, sizes: HW, scalar: HW, lane: doublingHigh(true) },
];

const ops = ({ Rm, Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!) });

/** @param lanes in all; 1 for a scalar, whose register above is cleared */
function apply(a: Asm, row: Row, size: number, signed: boolean, lanes: number, v: readonly V128[]) {
  const native = row.native?.(size, signed) ?? null;
  if (native !== null) return v[0]!.binary(`${SHAPE[size]}.${native}` as OpName, v[1]!);
  // Which sign a lane has decides nothing where U names the operation; SQDMULH and its kin do.
  const isSigned = row.u === undefined ? signed : row.name.startsWith("SQ");
  const input = { size, signed: isSigned };
  const inputs = row.accumulates ? [input, input, input] : [input, input];
  const map = { name: `same_${row.name}`, inputs, output: size, signed: isSigned, lanes };
  return a.call(mapLanes(map, row.lane!), ...v.slice(0, inputs.length));
}

function vector(row: Row): Insn {
  const u = row.u === undefined ? "U:1" : String(row.u);
  const pattern = `0 Q:1 ${u} 01110 size:2 1 Rm:5 ${row.opcode} 1 Rn:5 Rd:5`;
  return insn(`${row.name}_asimdsame_only`, pattern, {
    split: row.u === undefined ? ["Q", "U", "size"] : ["Q", "size"],
    // A vector of one 64-bit lane is the scalar form's.
    when: ({ Q, size }) => row.sizes.includes(size!) && (size !== 3 || Q === 1),
    ops,
    sem: (a, { d, n, m }, { Q, U, size }) => {
      const v = row.accumulates ? [a.v(n), a.v(m), a.v(d)] : [a.v(n), a.v(m)];
      a.setV(d, whole(Q!, apply(a, row, size!, U !== 1, lanesOf(size!, Q!), v)));
    },
  });
}

function scalar(row: Row): readonly Insn[] {
  const { scalar: sizes } = row;
  if (sizes === undefined) return [];
  const u = row.u === undefined ? "U:1" : String(row.u);
  const pattern = `01 ${u} 11110 size:2 1 Rm:5 ${row.opcode} 1 Rn:5 Rd:5`;
  return [
    insn(`${row.name}_asisdsame_only`, pattern, {
      split: row.u === undefined ? ["U", "size"] : ["size"],
      when: ({ size }) => sizes.includes(size!),
      ops,
      sem: (a, { d, n, m }, { U, size }) => {
        const r = apply(a, row, size!, U !== 1, 1, [a.v(n), a.v(m)]);
        a.setV(d, whole(0, r));
      },
    }),
  ];
}

/** CMTST: any common bit. */
const test = (size: number, n: V128, m: V128): V128 => {
  return n.and(m).binary(`${SHAPE[size]}.ne` as OpName, n.xor(n));
};
const CMTST: readonly Insn[] = [
  insn("CMTST_asimdsame_only", "0 Q:1 0 01110 size:2 1 Rm:5 10001 1 Rn:5 Rd:5", {
    split: ["Q", "size"],
    when: ({ Q, size }) => size !== 3 || Q === 1,
    ops,
    sem: (a, { d, n, m }, { Q, size }) => a.setV(d, whole(Q!, test(size!, a.v(n), a.v(m)))),
  }),
  insn("CMTST_asisdsame_only", "01 0 11110 11 1 Rm:5 10001 1 Rn:5 Rd:5", {
    ops,
    sem: (a, { d, n, m }) => a.setV(d, whole(0, test(3, a.v(n), a.v(m)))),
  }),
];

// ── logic ─────────────────────────────────────────────────────────────────────────────────────

/** U:size → what is done with n, m and the old destination. */
const LOGIC: readonly (readonly [string, (n: V128, m: V128, d: V128) => V128])[] = [
  ["AND", (n, m) => n.and(m)],
  ["BIC", (n, m) => n.andNot(m)],
  ["ORR", (n, m) => n.or(m)],
  ["ORN", (n, m) => n.or(m.not())],
  ["EOR", (n, m) => n.xor(m)],
  ["BSL", (n, m, d) => d.bitselect(n, m)],
  ["BIT", (n, m, d) => m.bitselect(n, d)],
  ["BIF", (n, m, d) => m.bitselect(d, n)],
];
const logic: readonly Insn[] = LOGIC.map(([name, combine], code) => {
  const [u, size] = [code >>> 2, (code & 3).toString(2).padStart(2, "0")];
  return insn(`${name}_asimdsame_only`, `0 Q:1 ${u} 01110 ${size} 1 Rm:5 00011 1 Rn:5 Rd:5`, {
    split: ["Q"],
    ops,
    sem: (a, { d, n, m }, { Q }) => a.setV(d, whole(Q!, combine(a.v(n), a.v(m), a.v(d)))),
  });
});

// ── pairs of neighbours ───────────────────────────────────────────────────────────────────────

function pairwise(
  name: string,
  fields: string,
  sizes: readonly number[],
  operator: (f: Fields) => string,
): Insn {
  const hasU = fields.includes("U:1");
  return insn(`${name}_asimdsame_only`, `0 Q:1 ${fields} Rn:5 Rd:5`, {
    split: hasU ? ["Q", "U", "size"] : ["Q", "size"],
    when: ({ Q, size }) => sizes.includes(size!) && (size !== 3 || Q === 1),
    ops,
    sem: (a, { d, n, m }, f) => {
      const [x, y, size, q] = [a.v(n), a.v(m), f["size"]!, f["Q"]!];
      const even = everySecond(x, y, size, q, 0);
      const odd = everySecond(x, y, size, q, 1);
      const name_ = `${SHAPE[size]}.${operator(f)}` as OpName;
      a.setV(d, whole(q, even.binary(name_, odd)));
    },
  });
}

// ── rounding doubling multiply accumulate ─────────────────────────────────────────────────────

function rdm(name: string, opcode: string, subtracts: boolean): readonly Insn[] {
  const lane = doublingAccumulate(subtracts);
  const combine = (a: Asm, size: number, lanes: number, v: readonly V128[]): V128 => {
    const input = { size, signed: true };
    const map = { name, inputs: [input, input, input], output: size, signed: true, lanes };
    return a.call(mapLanes(map, lane), ...v);
  };
  return [
    insn(`${name}_asimdsame2_only`, `0 Q:1 1 01110 size:2 0 Rm:5 ${opcode} 1 Rn:5 Rd:5`, {
      split: ["Q", "size"],
      when: ({ size }) => HW.includes(size!),
      feature: "FEAT_RDM",
      ops,
      sem: (a, { d, n, m }, { Q, size }) => {
        a.setV(d, combine(a, size!, lanesOf(size!, Q!), [a.v(n), a.v(m), a.v(d)]));
      },
    }),
    insn(`${name}_asisdsame2_only`, `01 1 11110 size:2 0 Rm:5 ${opcode} 1 Rn:5 Rd:5`, {
      split: ["size"],
      when: ({ size }) => HW.includes(size!),
      feature: "FEAT_RDM",
      ops,
      sem: (a, { d, n, m }, { size }) => a.setV(d, combine(a, size!, 1, [a.v(n), a.v(m), a.v(d)])),
    }),
  ];
}

export const SIMD_SAME: readonly Insn[] = [
  ...ROWS.map(vector),
  ...ROWS.flatMap(scalar),
  ...CMTST,
  ...logic,
  pairwise("MAXP", "U:1 01110 size:2 1 Rm:5 10100 1", SMALL, ({ U }) => `max_${su(U === 0)}`),
  pairwise("MINP", "U:1 01110 size:2 1 Rm:5 10101 1", SMALL, ({ U }) => `min_${su(U === 0)}`),
  pairwise("ADDP", "0 01110 size:2 1 Rm:5 10111 1", ALL, () => "add"),
  ...rdm("SQRDMLAH", "10000", false),
  ...rdm("SQRDMLSH", "10001", true),
];
