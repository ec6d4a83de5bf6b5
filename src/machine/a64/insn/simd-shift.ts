// Owns: Advanced SIMD shift by immediate, integer; vector and scalar.
// VM thread.
// @source Arm ARM C4.1, "Advanced SIMD shift by immediate" and its scalar class
import type { OpName } from "../../../base/wasm/opcodes.table.js";
import { const64, type V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import {
  bitsOf,
  joinHalves,
  type LaneFunction,
  lanesOf,
  mapLanes,
  roundingShiftRight,
  SHAPE,
  saturatingShiftLeft,
  shiftRight,
  whole,
} from "../lanes.js";
import { type Imm64, imm64, type VReg, vec } from "../operand.js";
import type { Fields } from "../pattern.js";

/** immh:immb gives the size by its highest bit that is set; the rest tells the amount. */
const IMMH = ["0001 rest:3", "001 rest:4", "01 rest:5", "1 rest:6"] as const;

/** Amounts go left by what is above the size's bit, or right by what is missing to twice it. */
type Direction = "left" | "right";

function amount(direction: Direction, size: number, rest: number): number {
  return direction === "left" ? rest : bitsOf(size) - rest;
}

interface Row {
  readonly name: string;
  readonly opcode: string;
  readonly u?: 0 | 1;
  readonly direction: Direction;
  readonly kind: "same" | "narrow";
  readonly sizes: readonly number[];
  readonly scalar?: readonly number[];
  readonly accumulates?: true;
  /** Lanes are signed, unsigned, or as U says. */
  readonly lanes?: "signed" | "unsigned";
  readonly lane: LaneFunction;
  /** A WebAssembly shift of whole vectors that does it. */
  readonly native?: (signed: boolean) => string;
}

const ALL = [0, 1, 2, 3];
const SMALL = [0, 1, 2];

const right: LaneFunction = (s, x, by) => shiftRight(s, x, by);
const rounding: LaneFunction = (s, x, by) => roundingShiftRight(s, x, by);
/** The wide lane moved right, then clamped to a narrow one of either kind. */
const narrowing = (move: LaneFunction, toSigned: (signed: boolean) => boolean): LaneFunction => {
  return (s, x, by, z) => {
    const moved = move(s, x, by, z);
    if (s.signed) return s.clamp(moved, toSigned(s.signed));
    // Rounding can give 2^63, which looks negative to the signed comparison of clamp().
    const r = s.keep(moved);
    const max = const64(2n ** BigInt(s.bits) - 1n);
    const over = s.c.keep(r.gtU(max));
    s.saturates(over);
    return over.select(max, r);
  };
};
const same = (signed: boolean): boolean => signed;
const toUnsigned = (): boolean => false;

/** Keeps of the old lane what the shift doesn't reach. */
const insertRight: LaneFunction = (s, x, old, by) => {
  const all = s.bits === 64 ? const64(-1) : const64((1n << BigInt(s.bits)) - 1n);
  const isAll = by.eq(64);
  const mask = s.keep(isAll.select(const64(0), s.keep(all.shrU(by))));
  return old.and(mask.not()).or(shiftRight(s, x, by));
};
const insertLeft: LaneFunction = (s, x, old, by) => {
  const mask = s.keep(const64(-1).shl(by));
  return old.and(mask.not()).or(x.shl(by));
};

const ROWS: readonly Row[] = [
  {
    name: "SHR",
    opcode: "00000",
    direction: "right",
    kind: "same",
    sizes: ALL,
    scalar: [3],
    lane: right,
  },
  {
    name: "SRA",
    opcode: "00010",
    direction: "right",
    kind: "same",
    sizes: ALL,
    scalar: [3],
    accumulates: true,
    lane: (s, x, old, by) => old.add(shiftRight(s, x, by)),
  },
  {
    name: "RSHR",
    opcode: "00100",
    direction: "right",
    kind: "same",
    sizes: ALL,
    scalar: [3],
    lane: rounding,
  },
  {
    name: "RSRA",
    opcode: "00110",
    direction: "right",
    kind: "same",
    sizes: ALL,
    scalar: [3],
    accumulates: true,
    lane: (s, x, old, by) => old.add(roundingShiftRight(s, x, by)),
  },
  {
    name: "SRI",
    opcode: "01000",
    u: 1,
    direction: "right",
    kind: "same",
    sizes: ALL,
    scalar: [3],
    accumulates: true,
    lanes: "unsigned",
    lane: insertRight,
  },
  {
    name: "SHL",
    opcode: "01010",
    u: 0,
    direction: "left",
    kind: "same",
    sizes: ALL,
    scalar: [3],
    native: () => "shl",
    lane: (_, x, by) => x.shl(by),
  },
  {
    name: "SLI",
    opcode: "01010",
    u: 1,
    direction: "left",
    kind: "same",
    sizes: ALL,
    scalar: [3],
    accumulates: true,
    lane: insertLeft,
  },
  {
    name: "SQSHLU",
    opcode: "01100",
    u: 1,
    direction: "left",
    kind: "same",
    sizes: ALL,
    scalar: ALL,
    lanes: "signed",
    lane: (s, x, by) => saturatingShiftLeft(s, x, by, false),
  },
  {
    name: "QSHL",
    opcode: "01110",
    direction: "left",
    kind: "same",
    sizes: ALL,
    scalar: ALL,
    lane: (s, x, by) => saturatingShiftLeft(s, x, by),
  },
  {
    name: "SHRN",
    opcode: "10000",
    u: 0,
    direction: "right",
    kind: "narrow",
    sizes: SMALL,
    lane: right,
  },
  {
    name: "SQSHRUN",
    opcode: "10000",
    u: 1,
    direction: "right",
    kind: "narrow",
    sizes: SMALL,
    scalar: SMALL,
    lanes: "signed",
    lane: narrowing(right, toUnsigned),
  },
  {
    name: "RSHRN",
    opcode: "10001",
    u: 0,
    direction: "right",
    kind: "narrow",
    sizes: SMALL,
    lane: rounding,
  },
  {
    name: "SQRSHRUN",
    opcode: "10001",
    u: 1,
    direction: "right",
    kind: "narrow",
    sizes: SMALL,
    scalar: SMALL,
    lanes: "signed",
    lane: narrowing(rounding, toUnsigned),
  },
  {
    name: "QSHRN",
    opcode: "10010",
    direction: "right",
    kind: "narrow",
    sizes: SMALL,
    scalar: SMALL,
    lane: narrowing(right, same),
  },
  {
    name: "QRSHRN",
    opcode: "10011",
    direction: "right",
    kind: "narrow",
    sizes: SMALL,
    scalar: SMALL,
    lane: narrowing(rounding, same),
  },
];

interface Ops {
  readonly [name: string]: VReg | Imm64;
  readonly d: VReg;
  readonly n: VReg;
  readonly by: Imm64;
}

function apply(a: Asm, row: Row, size: number, signed: boolean, lanes: number, o: Ops): V128 {
  const native = row.native?.(signed);
  if (native !== undefined) {
    return a.v(o.n).shift(`${SHAPE[size]}.${native}` as OpName, a.imm64(o.by).wrap());
  }
  const isSigned = row.lanes === undefined ? signed : row.lanes === "signed";
  const wide = row.kind === "narrow" ? size + 1 : size;
  const input = { size: wide, signed: isSigned };
  const inputs = row.accumulates ? [input, { size, signed: isSigned }] : [input];
  const map = {
    name: `shift_${row.name}`,
    inputs,
    output: size,
    signed: isSigned,
    lanes,
    scalar: true,
  } as const;
  const v = row.accumulates ? [a.v(o.n), a.v(o.d)] : [a.v(o.n)];
  return a.call(mapLanes(map, row.lane), ...v, a.imm64(o.by));
}

function ops(row: Row, size: number) {
  return ({ rest, Rn, Rd }: Fields): Ops => ({
    d: vec(Rd!),
    n: vec(Rn!),
    by: imm64(amount(row.direction, size, rest!)),
  });
}

function vector(row: Row, size: number): Insn {
  const u = row.u === undefined ? "U:1" : String(row.u);
  const pattern = `0 Q:1 ${u} 011110 ${IMMH[size]} ${row.opcode} 1 Rn:5 Rd:5`;
  return insn(`${row.name}_asimdshf_${SHAPE[size]}`, pattern, {
    split: row.u === undefined ? ["Q", "U"] : ["Q"],
    when: ({ Q }) => size !== 3 || Q === 1,
    ops: ops(row, size),
    sem: (a, o, { Q, U }) => {
      if (row.kind === "same") {
        a.setV(o.d, whole(Q!, apply(a, row, size, U !== 1, lanesOf(size, Q!), o)));
        return;
      }
      const narrow = apply(a, row, size, U !== 1, lanesOf(size, 0), o);
      a.setV(o.d, Q === 1 ? joinHalves(a.v(o.d), narrow) : narrow);
    },
  });
}

function scalar(row: Row, size: number): Insn {
  const u = row.u === undefined ? "U:1" : String(row.u);
  const pattern = `01 ${u} 111110 ${IMMH[size]} ${row.opcode} 1 Rn:5 Rd:5`;
  return insn(`${row.name}_asisdshf_${SHAPE[size]}`, pattern, {
    split: row.u === undefined ? ["U"] : [],
    ops: ops(row, size),
    sem: (a, o, { U }) => a.setV(o.d, whole(0, apply(a, row, size, U !== 1, 1, o))),
  });
}

/** SSHLL and USHLL: wider by two, then left. */
function long(size: number): Insn {
  const pattern = `0 Q:1 U:1 011110 ${IMMH[size]} 10100 1 Rn:5 Rd:5`;
  return insn(`SSHLL_USHLL_asimdshf_L_${SHAPE[size]}`, pattern, {
    split: ["Q", "U"],
    ops: ({ rest, Rn, Rd }) => ({ d: vec(Rd!), n: vec(Rn!), by: imm64(rest!) }),
    sem: (a, { d, n, by }, { Q, U }) => {
      const sign = U === 1 ? "u" : "s";
      const half = Q === 1 ? "high" : "low";
      const wide = a
        .v(n)
        .unary(`${SHAPE[size + 1]}.extend_${half}_${SHAPE[size]}_${sign}` as OpName);
      a.setV(d, wide.shift(`${SHAPE[size + 1]}.shl` as OpName, a.imm64(by).wrap()));
    },
  });
}

export const SIMD_SHIFT: readonly Insn[] = [
  ...ROWS.flatMap((row) => row.sizes.map((size) => vector(row, size))),
  ...ROWS.flatMap((row) => (row.scalar ?? []).map((size) => scalar(row, size))),
  ...SMALL.map(long),
];
