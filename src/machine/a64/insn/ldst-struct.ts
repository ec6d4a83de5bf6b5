// Owns: loads and stores of structures: LD1-4, ST1-4, multiple, single, replicate.
// VM thread.
// @source Arm ARM C4.1, "Loads and Stores: Advanced SIMD structures"
import { constV, type I32, type I64, type V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, type InsnSpec, insn } from "../insn.js";
import {
  type Imm64,
  imm64,
  type Operands,
  sp,
  src,
  type VReg,
  vec,
  type XReg,
} from "../operand.js";
import type { Fields } from "../pattern.js";

const SHAPES = ["i8x16", "i16x8", "i32x4", "i64x2"] as const;
const LOADS = ["i64.load8_u", "i64.load16_u", "i64.load32_u", "i64.load"] as const;
const STORES = ["i64.store8", "i64.store16", "i64.store32", "i64.store"] as const;

/** Post-index: by a register, or by the bytes of the transfer where Rm is 31. */
interface Index {
  readonly name: string;
  /** Bits 24:16 after the leading ones: the index bit and Rm. */
  readonly bits: string;
  readonly post: boolean;
}
const NONE: Index = { name: "", bits: "0", post: false };
const POST: Index = { name: "p", bits: "1", post: true };

type StructOps = Operands & { readonly n: XReg; readonly m: XReg; readonly total: Imm64 };

function commonOps(f: Fields, index: Index, regs: number, bytes: number): StructOps {
  const registers = Array.from({ length: regs }, (_, i) => [`v${i}`, vec(f["Rt"]! + i)] as const);
  // Rm = 31 adds the bytes transferred; another one adds itself, and the immediate is 0.
  const byRegister = index.post && f["Rm"] !== 31;
  const total = index.post && !byRegister ? bytes : 0;
  const common = { n: sp(f["Rn"]!), m: src(byRegister ? f["Rm"]! : 31), total: imm64(total) };
  return { ...common, ...Object.fromEntries(registers) };
}

const registersOf = (o: Operands): readonly VReg[] => {
  return Object.values(o).filter((operand): operand is VReg => operand.kind === "v");
};

function writeBack(a: Asm, o: StructOps, index: Index, base: I64): void {
  if (index.post) a.setX(o.n, base.add(a.x(o.m)).add(a.imm64(o.total)));
}

/** One lane, zero-extended. */
function laneOf(value: V128, size: number, lane: number): I64 {
  if (size === 3) return value.lane64(lane);
  return value.lane32(SHAPES[size] as "i8x16", lane).extendU();
}

function withLane(value: V128, size: number, lane: number, element: I64): V128 {
  return value.replace(SHAPES[size]!, lane, size === 3 ? element : element.wrap());
}

// ── multiple structures ───────────────────────────────────────────────────────────────────────

/** opcode → registers of one structure (1: consecutive registers), and registers in all. */
const MULTIPLE: Readonly<Record<number, readonly [structure: number, registers: number]>> = {
  0: [4, 4],
  2: [1, 4],
  4: [3, 3],
  6: [1, 3],
  7: [1, 1],
  8: [2, 2],
  10: [1, 2],
};

function multiple(index: Index): Insn {
  const rm = index.post ? "Rm:5" : "00000";
  const spec: InsnSpec<StructOps> = {
    split: ["Q", "L", "opcode", "size"],
    // LD2 to LD4 have no 1D arrangement.
    when: ({ Q, opcode, size }) => {
      const row = MULTIPLE[opcode!];
      return row !== undefined && (row[0] === 1 || Q === 1 || size !== 3);
    },
    ops: (f) => {
      const registers = MULTIPLE[f["opcode"]!]?.[1] ?? 1;
      return commonOps(f, index, registers, registers * (f["Q"] === 1 ? 16 : 8));
    },
    sem: (a, o, { Q, L, opcode, size }) => {
      const [structure, count] = MULTIPLE[opcode!]!;
      const bytes = Q === 1 ? 16 : 8;
      const base = a.base(o.n);
      const element = 2 ** size!;
      const host = a.probe(base, count * bytes, { write: L === 0, element });
      const registers = registersOf(o);
      if (structure === 1) consecutive(a, registers, host, bytes, L === 1);
      else if (L === 1) deinterleave(a, registers, host, bytes, size!);
      else interleave(a, registers, host, bytes, size!);
      if (L === 0) a.stored(host);
      writeBack(a, o, index, base);
    },
  };
  const pattern = `0 Q:1 001100 ${index.bits} L:1 0 ${rm} opcode:4 size:2 Rn:5 Rt:5`;
  return insn(`LD_ST_asisdlse${index.name}`, pattern, spec);
}

function consecutive(a: Asm, registers: readonly VReg[], host: I32, bytes: number, loads: boolean) {
  for (const [i, register] of registers.entries()) {
    const at = i * bytes;
    if (loads) {
      a.setV(register, a.c.loadV(host, at, bytes === 16 ? "v128.load" : "v128.load64_zero"));
    } else if (bytes === 16) a.c.store("v128.store", host, at, a.v(register));
    else a.c.store("i64.store", host, at, a.v(register).lane64(0));
  }
}

/** Lane l of register r lies at element l * registers + r. */
function deinterleave(a: Asm, registers: readonly VReg[], host: I32, bytes: number, size: number) {
  const element = 2 ** size;
  for (const [r, register] of registers.entries()) {
    let value: V128 = constV(0n, 0n);
    for (let lane = 0; lane < bytes / element; lane++) {
      const at = (lane * registers.length + r) * element;
      value = withLane(value, size, lane, a.c.load64(host, at, LOADS[size]!));
    }
    a.setV(register, value);
  }
}

function interleave(a: Asm, registers: readonly VReg[], host: I32, bytes: number, size: number) {
  const element = 2 ** size;
  for (const [r, register] of registers.entries()) {
    const value = a.v(register);
    for (let lane = 0; lane < bytes / element; lane++) {
      const at = (lane * registers.length + r) * element;
      a.c.store(STORES[size]!, host, at, laneOf(value, size, lane));
    }
  }
}

// ── single structure ──────────────────────────────────────────────────────────────────────────

/** Element size and lane of a single structure; null for a reserved combination. */
function laneSpec({ Q, S, opcode, size }: Fields): { size: number; lane: number } | null {
  const [q, s, sz] = [Q!, S!, size!];
  switch (opcode! >>> 1) {
    case 0:
      return { size: 0, lane: (q << 3) | (s << 2) | sz };
    case 1:
      return (sz & 1) === 0 ? { size: 1, lane: (q << 2) | (s << 1) | (sz >>> 1) } : null;
    case 2:
      if (sz === 0) return { size: 2, lane: (q << 1) | s };
      return sz === 1 && s === 0 ? { size: 3, lane: q } : null;
    default:
      return null;
  }
}

/** LD1-4 and ST1-4 of one lane; the structure's registers are 1 + R + 2 * (opcode bit 0). */
function lanes(index: Index): Insn {
  const rm = index.post ? "Rm:5" : "00000";
  const countOf = ({ R, opcode }: Fields): number => 1 + R! + 2 * (opcode! & 1);
  const spec: InsnSpec<StructOps> = {
    split: ["Q", "L", "R", "opcode", "S", "size"],
    when: (f) => laneSpec(f) !== null,
    ops: (f) => {
      const { size } = laneSpec(f) ?? { size: 0 };
      return commonOps(f, index, countOf(f), countOf(f) * 2 ** size);
    },
    sem: (a, o, f) => {
      const { size, lane } = laneSpec(f)!;
      const element = 2 ** size;
      const base = a.base(o.n);
      const registers = registersOf(o);
      const isStore = f["L"] === 0;
      const host = a.probe(base, registers.length * element, { write: isStore, element });
      for (const [r, register] of registers.entries()) {
        const at = r * element;
        const value = a.v(register);
        if (isStore) a.c.store(STORES[size]!, host, at, laneOf(value, size, lane));
        else a.setV(register, withLane(value, size, lane, a.c.load64(host, at, LOADS[size]!)));
      }
      if (isStore) a.stored(host);
      writeBack(a, o, index, base);
    },
  };
  const pattern = `0 Q:1 001101 ${index.bits} L:1 R:1 ${rm} opcode:3 S:1 size:2 Rn:5 Rt:5`;
  return insn(`LD_ST_asisdlso${index.name}`, pattern, spec);
}

const SPLATS = ["i8x16.splat", "i16x8.splat", "i32x4.splat"] as const;

function splat(a: Asm, host: I32, at: number, size: number): V128 {
  const element = a.c.load64(host, at, LOADS[size]!);
  if (size === 3) return element.splat();
  const low = element.wrap();
  const name = SPLATS[size];
  return name === "i8x16.splat"
    ? low.splat8()
    : name === "i16x8.splat"
      ? low.splat16()
      : low.splat32();
}

/** LD1R to LD4R. */
function replicate(index: Index): Insn {
  const rm = index.post ? "Rm:5" : "00000";
  const countOf = ({ R, pairs }: Fields): number => 1 + R! + 2 * pairs!;
  const spec: InsnSpec<StructOps> = {
    split: ["Q", "R", "pairs", "size"],
    ops: (f) => commonOps(f, index, countOf(f), countOf(f) * 2 ** f["size"]!),
    sem: (a, o, { Q, size }) => {
      const element = 2 ** size!;
      const base = a.base(o.n);
      const registers = registersOf(o);
      const host = a.probe(base, registers.length * element, { write: false, element });
      for (const [r, register] of registers.entries()) {
        const value = splat(a, host, r * element, size!);
        a.setV(register, Q === 1 ? value : value.and(constV(~0n, 0n)));
      }
      writeBack(a, o, index, base);
    },
  };
  const pattern = `0 Q:1 001101 ${index.bits} 1 R:1 ${rm} 11 pairs:1 0 size:2 Rn:5 Rt:5`;
  return insn(`LDR_asisdlso${index.name}`, pattern, spec);
}

export const LOADS_STORES_STRUCT: readonly Insn[] = [NONE, POST].flatMap((index) => [
  multiple(index),
  lanes(index),
  replicate(index),
]);
