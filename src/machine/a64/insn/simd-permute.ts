// Owns: Advanced SIMD modified immediate, table lookup, permute, extract, copy.
// VM thread.
// @source Arm ARM C4.1, "Data Processing -- Scalar Floating-Point and Advanced SIMD"
import { const32, type V128 } from "../../../base/wasm/value.js";
import { fpImmediate } from "../fp-immediate.js";
import { type Insn, type InsnSpec, insn } from "../insn.js";
import { laneOf, SHAPE, splatLane, whole, withLane, ZERO } from "../lanes.js";
import { dst, imm32, imm64, type Operands, src, type VReg, vec } from "../operand.js";
import type { Fields } from "../pattern.js";

// ── modified immediate ────────────────────────────────────────────────────────────────────────

const repeat = (value: bigint, bits: number): bigint => {
  let all = 0n;
  for (let at = 0; at < 64; at += bits) all |= value << BigInt(at);
  return all;
};

/** AdvSIMDExpandImm: the 64 bits that every half gets. */
function expand(op: number, cmode: number, imm8: number): bigint {
  const value = BigInt(imm8);
  const kind = cmode >>> 1;
  if (kind < 4) return repeat(value << BigInt(8 * kind), 32);
  if (kind < 6) return repeat(value << BigInt(8 * (kind & 1)), 16);
  if (kind === 6) {
    // Shifting in ones.
    const shifted = (cmode & 1) === 0 ? (value << 8n) | 0xffn : (value << 16n) | 0xffffn;
    return repeat(shifted, 32);
  }
  if (cmode === 14 && op === 0) return repeat(value, 8);
  if (cmode === 14) {
    let mask = 0n;
    for (let bit = 0; bit < 8; bit++)
      if ((imm8 & (1 << bit)) !== 0) mask |= 0xffn << BigInt(8 * bit);
    return mask;
  }
  return op === 0 ? repeat(fpImmediate(imm8, 32), 32) : fpImmediate(imm8, 64);
}

/** ORR and BIC are the odd cmodes below 12. */
const isLogic = (cmode: number): boolean => cmode < 12 && (cmode & 1) === 1;
/** MVNI: op inverts, but for 8-bit and 64-bit elements and FMOV. */
const inverts = (op: number, cmode: number): boolean => op === 1 && cmode < 14;

const MODIFIED_IMMEDIATE: Insn = insn(
  "MOVI_MVNI_ORR_BIC_FMOV_asimdimm",
  "0 Q:1 op:1 0111100000 abc:3 cmode:4 0 1 defgh:5 Rd:5",
  {
    split: ["Q", "op", "cmode"],
    // FMOV of doubles fills the whole register only.
    when: ({ Q, op, cmode }) => cmode !== 15 || op === 0 || Q === 1,
    ops: ({ op, cmode, abc, defgh, Rd }) => ({
      d: vec(Rd!),
      imm: imm64(expand(op!, cmode!, (abc! << 5) | defgh!)),
    }),
    sem: (a, { d, imm }, { Q, op, cmode }) => {
      const value = a.imm64(imm).splat();
      if (!isLogic(cmode!)) a.setV(d, whole(Q!, inverts(op!, cmode!) ? value.not() : value));
      else a.setV(d, whole(Q!, op === 0 ? a.v(d).or(value) : a.v(d).andNot(value)));
    },
  },
);

// ── table lookup ──────────────────────────────────────────────────────────────────────────────

/** TBL and TBX of one to four registers. */
function table(registers: number): Insn {
  const len = (registers - 1).toString(2).padStart(2, "0");
  const spec: InsnSpec<Operands & { readonly d: VReg; readonly m: VReg }> = {
    split: ["Q", "op"],
    ops: ({ Rm, Rn, Rd }) => {
      const tables = Array.from({ length: registers }, (_, i) => [`n${i}`, vec(Rn! + i)] as const);
      return { d: vec(Rd!), m: vec(Rm!), ...Object.fromEntries(tables) };
    },
    sem: (a, o, { Q, op }) => {
      const index = a.v(o.m);
      let found: V128 = ZERO;
      for (let i = 0; i < registers; i++) {
        // Outside its 16 bytes a swizzle gives 0, and indices below wrap around to large ones.
        const own = i === 0 ? index : index.binary("i8x16.sub", const32(16 * i).splat8());
        found = found.or(a.v(o[`n${i}`] as VReg).binary("i8x16.swizzle", own));
      }
      if (op === 1) {
        const inRange = index.binary("i8x16.lt_u", const32(16 * registers).splat8());
        a.setV(o.d, whole(Q!, inRange.bitselect(found, a.v(o.d))));
      } else a.setV(o.d, whole(Q!, found));
    },
  };
  return insn(
    `TBL_TBX_asimdtbl_L${registers}`,
    `0 Q:1 001110 000 Rm:5 0 ${len} op:1 00 Rn:5 Rd:5`,
    spec,
  );
}

// ── permute, extract ──────────────────────────────────────────────────────────────────────────

type Pick = (lane: number, half: number, second: boolean) => number;

/** Lane → element of n and m one after the other (half: elements of one operand). */
const PERMUTES: readonly (readonly [string, string, Pick])[] = [
  ["UZP", "01", (lane, _, second) => 2 * lane + (second ? 1 : 0)],
  ["TRN", "10", (lane, half, second) => (lane & ~1) + (second ? 1 : 0) + (lane & 1) * half],
  ["ZIP", "11", (lane, half, second) => (lane >>> 1) + (second ? half / 2 : 0) + (lane & 1) * half],
];

const permutes: readonly Insn[] = PERMUTES.map(([name, opcode, pick]) =>
  insn(`${name}_asimdperm_only`, `0 Q:1 001110 size:2 0 Rm:5 0 second:1 ${opcode} 10 Rn:5 Rd:5`, {
    split: ["Q", "size", "second"],
    when: ({ Q, size }) => size !== 3 || Q === 1,
    ops: ({ Rm, Rn, Rd }) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!) }),
    sem: (a, { d, n, m }, { Q, size, second }) => {
      const bytes = 1 << size!;
      const half = (Q === 1 ? 16 : 8) / bytes;
      const lanes = Array.from({ length: 16 }, (_, at) => {
        const lane = Math.floor(at / bytes);
        if (lane >= half) return 0;
        const from = pick(lane, half, second === 1);
        return (from < half ? 0 : 16) + (from % half) * bytes + (at % bytes);
      });
      a.setV(d, whole(Q!, a.v(n).shuffle(a.v(m), lanes)));
    },
  }),
);

const EXTRACT: Insn = insn("EXT_asimdext_only", "0 Q:1 101110 00 0 Rm:5 0 imm4:4 0 Rn:5 Rd:5", {
  split: ["Q", "imm4"],
  when: ({ Q, imm4 }) => Q === 1 || imm4! < 8,
  ops: ({ Rm, Rn, Rd }) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!) }),
  sem: (a, { d, n, m }, { Q, imm4 }) => {
    const half = Q === 1 ? 16 : 8;
    const lanes = Array.from({ length: 16 }, (_, i) => {
      const from = imm4! + (i % half);
      return from < half ? from : 16 + from - half;
    });
    a.setV(d, whole(Q!, a.v(n).shuffle(a.v(m), lanes)));
  },
});

// ── copy ──────────────────────────────────────────────────────────────────────────────────────

/** imm5 gives the element size by its lowest bit that is set, and above it the index. */
const IMM5 = ["idx:4 1", "idx:3 10", "idx:2 100", "idx:1 1000"] as const;

function copies(size: number): readonly Insn[] {
  const imm5 = IMM5[size]!;
  const shape = SHAPE[size]!;
  const isWide = size === 3;
  const dupGeneral = insn(
    `DUP_asimdins_DR_R_${shape}`,
    `0 Q:1 0 01110000 ${imm5} 0 0001 1 Rn:5 Rd:5`,
    {
      split: ["Q"],
      when: ({ Q }) => !isWide || Q === 1,
      ops: ({ Rn, Rd }) => ({ d: vec(Rd!), n: src(Rn!) }),
      sem: (a, { d, n }, { Q }) => {
        const value = isWide ? a.x(n).splat() : null;
        const w = a.w(n);
        const narrow = size === 0 ? w.splat8() : size === 1 ? w.splat16() : w.splat32();
        a.setV(d, whole(Q!, value ?? narrow));
      },
    },
  );
  const element = ({ idx, Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!), index: imm32(idx!) });
  const dupElement = insn(
    `DUP_asimdins_DV_v_${shape}`,
    `0 Q:1 0 01110000 ${imm5} 0 0000 1 Rn:5 Rd:5`,
    {
      split: ["Q"],
      when: ({ Q }) => !isWide || Q === 1,
      ops: element,
      sem: (a, { d, n, index }, { Q }) => {
        a.setV(d, whole(Q!, splatLane(a.v(n), size, a.imm32(index))));
      },
    },
  );
  const dupScalar = insn(`DUP_asisdone_only_${shape}`, `01 0 11110000 ${imm5} 0 0000 1 Rn:5 Rd:5`, {
    ops: element,
    sem: (a, { d, n, index }) => {
      const low = laneOf(splatLane(a.v(n), size, a.imm32(index)), size, 0, false);
      a.setScalar(d, low);
    },
  });
  const insGeneral = insn(
    `INS_asimdins_IR_r_${shape}`,
    `0 1 0 01110000 ${imm5} 0 0011 1 Rn:5 Rd:5`,
    {
      split: ["idx"],
      ops: ({ Rn, Rd }) => ({ d: vec(Rd!), n: src(Rn!) }),
      sem: (a, { d, n }, { idx }) => a.setV(d, withLane(a.v(d), size, idx!, a.x(n))),
    },
  );
  const insElement = insn(
    `INS_asimdins_IV_v_${shape}`,
    `0 1 1 01110000 ${imm5} 0 imm4:4 1 Rn:5 Rd:5`,
    {
      split: ["idx"],
      ops: ({ Rn, Rd, imm4 }) => ({ d: vec(Rd!), n: vec(Rn!), index: imm32(imm4! >>> size) }),
      sem: (a, { d, n, index }, { idx }) => {
        const value = laneOf(splatLane(a.v(n), size, a.imm32(index)), size, 0, false);
        a.setV(d, withLane(a.v(d), size, idx!, value));
      },
    },
  );
  /** SMOV goes to registers wider than the element, UMOV to the one that it fits. */
  const move = (name: string, q: string, opcode: string, signed: boolean, toW: boolean): Insn =>
    insn(`${name}_${shape}`, `0 ${q} 0 01110000 ${imm5} 0 ${opcode} 1 Rn:5 Rd:5`, {
      ops: ({ Rn, Rd, idx }) => ({ d: dst(Rd!), n: vec(Rn!), index: imm32(idx!) }),
      sem: (a, { d, n, index }) => {
        const value = laneOf(splatLane(a.v(n), size, a.imm32(index)), size, 0, signed);
        if (toW) a.setW(d, value.wrap());
        else a.setX(d, value);
      },
    });
  const moves = [
    ...(size < 2 ? [move("SMOV_asimdins_W_w", "0", "0101", true, true)] : []),
    ...(size < 3 ? [move("SMOV_asimdins_X_x", "1", "0101", true, false)] : []),
    ...(size < 3 ? [move("UMOV_asimdins_W_w", "0", "0111", false, true)] : []),
    ...(size === 3 ? [move("UMOV_asimdins_X_x", "1", "0111", false, false)] : []),
  ];
  return [dupGeneral, dupElement, dupScalar, insGeneral, insElement, ...moves];
}

export const SIMD_PERMUTE: readonly Insn[] = [
  MODIFIED_IMMEDIATE,
  ...[1, 2, 3, 4].map(table),
  ...permutes,
  EXTRACT,
  ...[0, 1, 2, 3].flatMap(copies),
];
