// Owns: Advanced SIMD two-register misc, across lanes, pairwise scalar; integer.
// VM thread.
// @source Arm ARM C4.1, "Advanced SIMD two-register miscellaneous", "across lanes", scalar classes
import type { OpName } from "../../../base/wasm/opcodes.table.js";
import { const64, constV, type I64, type V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import {
  bitsOf,
  joinHalves,
  type LaneFunction,
  laneOf,
  lanesOf,
  mapLanes,
  SHAPE,
  saturatingSub,
  whole,
  withLane,
  ZERO,
} from "../lanes.js";
import { vec } from "../operand.js";
import type { Fields } from "../pattern.js";

const ALL = [0, 1, 2, 3];
const SMALL = [0, 1, 2];
const ops = ({ Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!) });

interface Row {
  readonly name: string;
  readonly u: 0 | 1;
  readonly opcode: string;
  readonly sizes: readonly number[];
  readonly scalar?: readonly number[];
  readonly accumulates?: true;
  readonly signed?: false;
  readonly vector?: (n: V128, size: number) => V128;
  readonly lane?: LaneFunction;
}

/** Reverses the bytes of groups of 2^log bytes, in elements of 2^size. */
function reversed(log: number) {
  return (n: V128, size: number): V128 => {
    const lanes = Array.from({ length: 16 }, (_, at) => {
      const group = at >> log;
      const element = (at & ((1 << log) - 1)) >> size;
      const last = (1 << (log - size)) - 1;
      return (group << log) + ((last - element) << size) + (at & ((1 << size) - 1));
    });
    return n.shuffle(ZERO, lanes);
  };
}

const against =
  (name: string) =>
  (n: V128, size: number): V128 => {
    return n.binary(`${SHAPE[size]}.${name}` as OpName, ZERO);
  };
const native =
  (name: string) =>
  (n: V128, size: number): V128 => {
    return n.unary(`${SHAPE[size]}.${name}` as OpName);
  };

/** Leading zeros of a lane that is extended with zeros. */
const leadingZeros = (x: I64, bits: number): I64 => x.clz().sub(64 - bits);

/** SUQADD: a signed sum with an unsigned operand; USQADD the other way round. */
const signedPlusUnsigned: LaneFunction = (s, x, old) => {
  if (s.size < 3) {
    return s.clamp(old.add(x.and((1n << BigInt(s.bits)) - 1n)), true);
  }
  // What is left to the top, as an unsigned number: 0 to 2^64 - 1.
  const room = const64(2n ** 63n - 1n).sub(old);
  const over = s.c.keep(x.gtU(room));
  s.saturates(over);
  return over.select(const64(2n ** 63n - 1n), old.add(x));
};
const unsignedPlusSigned: LaneFunction = (s, x, old) => {
  if (s.size < 3) {
    const unsigned = old.and((1n << BigInt(s.bits)) - 1n);
    return s.clamp(unsigned.add(x), false);
  }
  const r = s.keep(old.add(x));
  const below = s.c.keep(x.ltS(0).and(r.gtU(old)));
  const above = s.c.keep(x.geS(0).and(r.ltU(old)));
  s.saturates(below.or(above));
  return below.select(const64(0), s.keep(above.select(const64(-1), r)));
};

const ROWS: readonly Row[] = [
  { name: "REV64", u: 0, opcode: "00000", sizes: SMALL, vector: reversed(3) },
  { name: "REV16", u: 0, opcode: "00001", sizes: [0], vector: reversed(1) },
  { name: "REV32", u: 1, opcode: "00000", sizes: [0, 1], vector: reversed(2) },
  {
    name: "SUQADD",
    u: 0,
    opcode: "00011",
    sizes: ALL,
    scalar: ALL,
    accumulates: true,
    lane: signedPlusUnsigned,
  },
  {
    name: "USQADD",
    u: 1,
    opcode: "00011",
    sizes: ALL,
    scalar: ALL,
    accumulates: true,
    lane: unsignedPlusSigned,
  },
  {
    name: "CLS",
    u: 0,
    opcode: "00100",
    sizes: SMALL,
    lane: (s, x) => leadingZeros(x.xor(x.shrS(1)).and((1n << BigInt(s.bits)) - 1n), s.bits).sub(1),
  },
  {
    name: "CLZ",
    u: 1,
    opcode: "00100",
    sizes: SMALL,
    signed: false,
    lane: (s, x) => leadingZeros(x, s.bits),
  },
  { name: "CNT", u: 0, opcode: "00101", sizes: [0], vector: native("popcnt") },
  {
    name: "SQABS",
    u: 0,
    opcode: "00111",
    sizes: ALL,
    scalar: ALL,
    lane: (s, x) => x.ltS(0).select(s.keep(saturatingSub(s, const64(0), x)), x),
  },
  {
    name: "SQNEG",
    u: 1,
    opcode: "00111",
    sizes: ALL,
    scalar: ALL,
    lane: (s, x) => saturatingSub(s, const64(0), x),
  },
  { name: "CMGT_z", u: 0, opcode: "01000", sizes: ALL, scalar: [3], vector: against("gt_s") },
  { name: "CMGE_z", u: 1, opcode: "01000", sizes: ALL, scalar: [3], vector: against("ge_s") },
  { name: "CMEQ_z", u: 0, opcode: "01001", sizes: ALL, scalar: [3], vector: against("eq") },
  { name: "CMLE_z", u: 1, opcode: "01001", sizes: ALL, scalar: [3], vector: against("le_s") },
  { name: "CMLT_z", u: 0, opcode: "01010", sizes: ALL, scalar: [3], vector: against("lt_s") },
  { name: "ABS", u: 0, opcode: "01011", sizes: ALL, scalar: [3], vector: native("abs") },
  { name: "NEG", u: 1, opcode: "01011", sizes: ALL, scalar: [3], vector: native("neg") },
];

function apply(a: Asm, row: Row, size: number, lanes: number, v: readonly V128[]): V128 {
  if (row.vector !== undefined) return row.vector(v[0]!, size);
  const signed = row.signed ?? true;
  const input = { size, signed };
  const inputs = row.accumulates ? [input, input] : [input];
  const map = { name: `misc_${row.name}`, inputs, output: size, signed, lanes };
  return a.call(mapLanes(map, row.lane!), ...v.slice(0, inputs.length));
}

function vector(row: Row): Insn {
  const pattern = `0 Q:1 ${row.u} 01110 size:2 10000 ${row.opcode} 10 Rn:5 Rd:5`;
  return insn(`${row.name}_asimdmisc_R`, pattern, {
    split: ["Q", "size"],
    when: ({ Q, size }) => row.sizes.includes(size!) && (size !== 3 || Q === 1),
    ops,
    sem: (a, { d, n }, { Q, size }) => {
      const v = row.accumulates ? [a.v(n), a.v(d)] : [a.v(n)];
      a.setV(d, whole(Q!, apply(a, row, size!, lanesOf(size!, Q!), v)));
    },
  });
}

function scalar(row: Row): readonly Insn[] {
  const { scalar: sizes } = row;
  if (sizes === undefined) return [];
  return [
    insn(`${row.name}_asisdmisc_R`, `01 ${row.u} 11110 size:2 10000 ${row.opcode} 10 Rn:5 Rd:5`, {
      split: ["size"],
      when: ({ size }) => sizes.includes(size!),
      ops,
      sem: (a, { d, n }, { size }) => {
        const v = row.accumulates ? [a.v(n), a.v(d)] : [a.v(n)];
        // A scalar of a size is the first lane: what is above is cleared.
        const r = apply(a, row, size!, 1, v);
        a.setV(d, row.vector === undefined ? r : whole(0, r));
      },
    }),
  ];
}

// ── NOT, RBIT ─────────────────────────────────────────────────────────────────────────────────

/** Reverses the bits of each byte. */
function reverseBits(a: Asm, n: V128): V128 {
  let v = n;
  const steps: readonly (readonly [number, bigint])[] = [
    [1, 0x5555_5555_5555_5555n],
    [2, 0x3333_3333_3333_3333n],
    [4, 0x0f0f_0f0f_0f0f_0f0fn],
  ];
  for (const [by, mask] of steps) {
    const m = constV(mask, mask);
    const up = v.and(m).shift("i8x16.shl", by);
    v = a.keep(v.shift("i8x16.shr_u", by).and(m).or(up));
  }
  return v;
}

const BITS: readonly Insn[] = [
  insn("NOT_asimdmisc_R", "0 Q:1 1 01110 00 10000 00101 10 Rn:5 Rd:5", {
    split: ["Q"],
    ops,
    sem: (a, { d, n }, { Q }) => a.setV(d, whole(Q!, a.v(n).not())),
  }),
  insn("RBIT_asimdmisc_R", "0 Q:1 1 01110 01 10000 00101 10 Rn:5 Rd:5", {
    split: ["Q"],
    ops,
    sem: (a, { d, n }, { Q }) => a.setV(d, whole(Q!, reverseBits(a, a.v(n)))),
  }),
];

// ── longer and shorter ────────────────────────────────────────────────────────────────────────

/** SADDLP, SADALP: neighbours added in a lane of twice the width. */
function pairLong(name: string, opcode: string, accumulates: boolean): Insn {
  return insn(`${name}_asimdmisc_P`, `0 Q:1 U:1 01110 size:2 10000 ${opcode} 10 Rn:5 Rd:5`, {
    split: ["Q", "U", "size"],
    when: ({ size }) => size !== 3,
    ops,
    sem: (a, { d, n }, { Q, U, size }) => {
      const sums = pairSums(a, a.v(n), size!, U === 1 ? "u" : "s");
      const add = `${SHAPE[size! + 1]}.add` as OpName;
      a.setV(d, whole(Q!, accumulates ? a.v(d).binary(add, sums) : sums));
    },
  });
}

function pairSums(a: Asm, n: V128, size: number, sign: "s" | "u"): V128 {
  if (size < 2) {
    return n.unary(`${SHAPE[size + 1]}.extadd_pairwise_${SHAPE[size]}_${sign}` as OpName);
  }
  const extend = (half: string): V128 =>
    a.keep(n.unary(`i64x2.extend_${half}_i32x4_${sign}` as OpName));
  const [low, high] = [extend("low"), extend("high")];
  const even = low.shuffle(high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
  const odd = low.shuffle(high, [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31]);
  return even.binary("i64x2.add", odd);
}

interface Narrow {
  readonly name: string;
  readonly u: 0 | 1;
  readonly opcode: string;
  readonly scalar: boolean;
  readonly signed: boolean;
  readonly lane: LaneFunction;
}
const NARROW: readonly Narrow[] = [
  { name: "XTN", u: 0, opcode: "10010", scalar: false, signed: false, lane: (_, x) => x },
  {
    name: "SQXTUN",
    u: 1,
    opcode: "10010",
    scalar: true,
    signed: true,
    lane: (s, x) => s.clamp(x, false),
  },
  {
    name: "SQXTN",
    u: 0,
    opcode: "10100",
    scalar: true,
    signed: true,
    lane: (s, x) => s.clamp(x, true),
  },
  {
    name: "UQXTN",
    u: 1,
    opcode: "10100",
    scalar: true,
    signed: false,
    lane: (s, x) => {
      // An unsigned lane of 64 bits looks negative to a signed comparison.
      if (s.size < 2) return s.clamp(x, false);
      const over = s.c.keep(x.gtU(0xffff_ffff));
      s.saturates(over);
      return over.select(const64(0xffff_ffff), x);
    },
  },
];

function narrowed(a: Asm, row: Narrow, n: V128, size: number, lanes: number): V128 {
  const inputs = [{ size: size + 1, signed: row.signed }];
  const map = { name: `misc_${row.name}`, inputs, output: size, signed: row.signed, lanes };
  return a.call(mapLanes(map, row.lane), n);
}

const narrowing: readonly Insn[] = NARROW.flatMap((row) => {
  const tail = `size:2 10000 ${row.opcode} 10 Rn:5 Rd:5`;
  const vectorForm = insn(`${row.name}_asimdmisc_N`, `0 Q:1 ${row.u} 01110 ${tail}`, {
    split: ["Q", "size"],
    when: ({ size }) => size !== 3,
    ops,
    sem: (a, { d, n }, { Q, size }) => {
      const r = narrowed(a, row, a.v(n), size!, lanesOf(size!, 0));
      a.setV(d, Q === 1 ? joinHalves(a.v(d), r) : r);
    },
  });
  if (!row.scalar) return [vectorForm];
  const scalarForm = insn(`${row.name}_asisdmisc_N`, `01 ${row.u} 11110 ${tail}`, {
    split: ["size"],
    when: ({ size }) => size !== 3,
    ops,
    sem: (a, { d, n }, { size }) => a.setV(d, narrowed(a, row, a.v(n), size!, 1)),
  });
  return [vectorForm, scalarForm];
});

const SHLL: Insn = insn("SHLL_asimdmisc_S", "0 Q:1 1 01110 size:2 10000 10011 10 Rn:5 Rd:5", {
  split: ["Q", "size"],
  when: ({ size }) => size !== 3,
  ops,
  sem: (a, { d, n }, { Q, size }) => {
    const half = Q === 1 ? "high" : "low";
    const wide = a.v(n).unary(`${SHAPE[size! + 1]}.extend_${half}_${SHAPE[size!]}_u` as OpName);
    a.setV(d, wide.shift(`${SHAPE[size! + 1]}.shl` as OpName, bitsOf(size!)));
  },
});

// ── across lanes, pairwise scalar ─────────────────────────────────────────────────────────────

interface Across {
  readonly name: string;
  readonly fields: string;
  /** The result is a lane of twice the width. */
  readonly long?: true;
  readonly combine: (x: I64, y: I64, signed: boolean) => I64;
}
const ACROSS: readonly Across[] = [
  {
    name: "ADDLV",
    fields: "U:1 01110 size:2 11000 00011",
    long: true,
    combine: (x, y) => x.add(y),
  },
  {
    name: "MAXV",
    fields: "U:1 01110 size:2 11000 01010",
    combine: (x, y, signed) => (signed ? x.gtS(y) : x.gtU(y)).select(x, y),
  },
  {
    name: "MINV",
    fields: "U:1 01110 size:2 11000 11010",
    combine: (x, y, signed) => (signed ? x.ltS(y) : x.ltU(y)).select(x, y),
  },
  { name: "ADDV", fields: "0 01110 size:2 11000 11011", combine: (x, y) => x.add(y) },
];

const across: readonly Insn[] = ACROSS.map((row) =>
  insn(`${row.name}_asimdall_only`, `0 Q:1 ${row.fields} 10 Rn:5 Rd:5`, {
    split: row.fields.startsWith("U") ? ["Q", "U", "size"] : ["Q", "size"],
    when: ({ Q, size }) => size! < 2 || (size === 2 && Q === 1),
    ops,
    sem: (a, { d, n }, { Q, U, size }) => {
      const signed = U !== 1;
      const v = a.v(n);
      let sum = a.keep(laneOf(v, size!, 0, signed));
      for (let lane = 1; lane < lanesOf(size!, Q!); lane++) {
        sum = a.keep(row.combine(sum, a.keep(laneOf(v, size!, lane, signed)), signed));
      }
      a.setV(d, withLane(ZERO, row.long ? size! + 1 : size!, 0, sum));
    },
  }),
);

const ADDP_SCALAR: Insn = insn("ADDP_asisdpair_only", "01 0 11110 11 11000 11011 10 Rn:5 Rd:5", {
  ops,
  sem: (a, { d, n }) => {
    const v = a.v(n);
    a.setScalar(d, v.lane64(0).add(v.lane64(1)));
  },
});

export const SIMD_MISC: readonly Insn[] = [
  ...ROWS.map(vector),
  ...ROWS.flatMap(scalar),
  ...BITS,
  pairLong("SADDLP_UADDLP", "00010", false),
  pairLong("SADALP_UADALP", "00110", true),
  ...narrowing,
  SHLL,
  ...across,
  ADDP_SCALAR,
];
