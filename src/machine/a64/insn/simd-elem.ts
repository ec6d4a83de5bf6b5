// Owns: Advanced SIMD by indexed element, integer; vector and scalar.
// VM thread.
// @source Arm ARM C4.1, "Advanced SIMD vector x indexed element" and its scalar class
import type { V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, type InsnSpec, insn } from "../insn.js";
import { type LaneFunction, lanesOf, mapLanes, splatLane, whole } from "../lanes.js";
import { type Imm32, imm32, type VReg, vec } from "../operand.js";
import type { Fields } from "../pattern.js";
import { applyLong, LONG_MULTIPLY, type LongRow } from "./simd-diff.js";
import { doublingAccumulate, doublingHigh } from "./simd-same.js";

const HW = [1, 2];

/** Register and index of the element: H elements are in registers 0 to 15. */
export function elementOf({ size, L, M, H, Rm }: Fields): { m: number; index: number } {
  if (size === 1) return { m: Rm!, index: (H! << 2) | (L! << 1) | M! };
  return { m: (M! << 4) | Rm!, index: (H! << 1) | L! };
}

interface ElementOps {
  readonly [name: string]: VReg | Imm32;
  readonly d: VReg;
  readonly n: VReg;
  readonly m: VReg;
  readonly index: Imm32;
}

function ops(f: Fields): ElementOps {
  const { m, index } = elementOf(f);
  return { d: vec(f["Rd"]!), n: vec(f["Rn"]!), m: vec(m), index: imm32(index) };
}

function element(a: Asm, o: ElementOps, size: number): V128 {
  return a.keep(splatLane(a.v(o.m), size, a.imm32(o.index)));
}

const fields = (opcode: string): string => `size:2 L:1 M:1 Rm:4 ${opcode} H:1 0 Rn:5 Rd:5`;

interface Row {
  readonly name: string;
  readonly u: 0 | 1;
  readonly opcode: string;
  readonly scalar?: true;
  readonly rdm?: true;
  readonly accumulates?: true;
  readonly lane: LaneFunction;
}

const ROWS: readonly Row[] = [
  {
    name: "MLA",
    u: 1,
    opcode: "0000",
    accumulates: true,
    lane: (_, x, y, old) => old.add(x.mul(y)),
  },
  {
    name: "MLS",
    u: 1,
    opcode: "0100",
    accumulates: true,
    lane: (_, x, y, old) => old.sub(x.mul(y)),
  },
  { name: "MUL", u: 0, opcode: "1000", lane: (_, x, y) => x.mul(y) },
  { name: "SQDMULH", u: 0, opcode: "1100", scalar: true, lane: doublingHigh(false) },
  { name: "SQRDMULH", u: 0, opcode: "1101", scalar: true, lane: doublingHigh(true) },
  {
    name: "SQRDMLAH",
    u: 1,
    opcode: "1101",
    scalar: true,
    rdm: true,
    accumulates: true,
    lane: doublingAccumulate(false),
  },
  {
    name: "SQRDMLSH",
    u: 1,
    opcode: "1111",
    scalar: true,
    rdm: true,
    accumulates: true,
    lane: doublingAccumulate(true),
  },
];

function combine(a: Asm, row: Row, o: ElementOps, size: number, lanes: number): V128 {
  const input = { size, signed: true };
  const inputs = row.accumulates ? [input, input, input] : [input, input];
  const map = { name: `elem_${row.name}`, inputs, output: size, signed: true, lanes };
  const v = [a.v(o.n), element(a, o, size), ...(row.accumulates ? [a.v(o.d)] : [])];
  return a.call(mapLanes(map, row.lane), ...v);
}

function same(row: Row): readonly Insn[] {
  const feature = row.rdm ? ({ feature: "FEAT_RDM" } as const) : {};
  const vector: InsnSpec<ElementOps> = {
    split: ["Q", "size"],
    when: ({ size }) => HW.includes(size!),
    ...feature,
    ops,
    sem: (a, o, { Q, size }) => a.setV(o.d, combine(a, row, o, size!, lanesOf(size!, Q!))),
  };
  const scalar: InsnSpec<ElementOps> = {
    split: ["size"],
    when: ({ size }) => HW.includes(size!),
    ...feature,
    ops,
    sem: (a, o, { size }) => a.setV(o.d, combine(a, row, o, size!, 1)),
  };
  const name = `${row.name}_asimdelem_R`;
  const forms = [insn(name, `0 Q:1 ${row.u} 01111 ${fields(row.opcode)}`, vector)];
  if (!row.scalar) return forms;
  return [
    ...forms,
    insn(`${row.name}_asisdelem_R`, `01 ${row.u} 11111 ${fields(row.opcode)}`, scalar),
  ];
}

/** Opcodes of the long forms, which are numbered differently here. */
const LONG_OPCODES: Readonly<Record<string, string>> = {
  MLAL: "0010",
  SQDMLAL: "0011",
  MLSL: "0110",
  SQDMLSL: "0111",
  MULL: "1010",
  SQDMULL: "1011",
};

function long(row: LongRow): readonly Insn[] {
  const opcode = LONG_OPCODES[row.name]!;
  const u = row.u === undefined ? "U:1" : String(row.u);
  const vector: InsnSpec<ElementOps> = {
    split: row.u === undefined ? ["Q", "U", "size"] : ["Q", "size"],
    when: ({ size }) => HW.includes(size!),
    ops,
    sem: (a, o, { Q, U, size }) => {
      const lanes = lanesOf(size!, 0);
      const v = [a.v(o.n), element(a, o, size!), ...(row.accumulates ? [a.v(o.d)] : [])];
      a.setV(o.d, applyLong(a, row, size!, U !== 1, lanes, Q === 1 ? lanes : 0, v));
    },
  };
  const forms = [insn(`${row.name}_asimdelem_L`, `0 Q:1 ${u} 01111 ${fields(opcode)}`, vector)];
  if (row.scalar === undefined) return forms;
  const scalar: InsnSpec<ElementOps> = {
    split: ["size"],
    when: ({ size }) => HW.includes(size!),
    ops,
    sem: (a, o, { size }) => {
      const v = [a.v(o.n), element(a, o, size!), ...(row.accumulates ? [a.v(o.d)] : [])];
      a.setV(o.d, whole(0, applyLong(a, row, size!, true, 1, 0, v)));
    },
  };
  return [...forms, insn(`${row.name}_asisdelem_L`, `01 0 11111 ${fields(opcode)}`, scalar)];
}

export const SIMD_ELEMENT: readonly Insn[] = [
  ...ROWS.flatMap(same),
  ...LONG_MULTIPLY.flatMap(long),
];
