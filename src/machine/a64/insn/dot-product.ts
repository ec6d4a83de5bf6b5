// Owns: FEAT_DotProd: SDOT and UDOT, vector and by element.
// VM thread.
// @source Arm ARM C4.1, "Advanced SIMD three same extra", "Advanced SIMD vector x indexed element"
import type { OpName } from "../../../base/wasm/opcodes.table.js";
import type { V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { splatLane, whole } from "../lanes.js";
import { imm32, vec } from "../operand.js";

/** Bytes of the even or odd ones of eight 32-bit lanes. */
const words = (first: 0 | 1): readonly number[] =>
  [0, 2, 4, 6].flatMap((lane) => [0, 1, 2, 3].map((i) => (lane + first) * 4 + i));

/** Sums of four products of bytes, in 32-bit lanes, added to `old`. */
function dot(a: Asm, n: V128, m: V128, old: V128, signed: boolean): V128 {
  const s = signed ? "s" : "u";
  const half = (which: "low" | "high"): V128 => {
    const products = n.binary(`i16x8.extmul_${which}_i8x16_${s}` as OpName, m);
    return a.keep(products.unary(`i32x4.extadd_pairwise_i16x8_${s}` as OpName));
  };
  const [low, high] = [half("low"), half("high")];
  const sums = low.shuffle(high, words(0)).binary("i32x4.add", low.shuffle(high, words(1)));
  return old.binary("i32x4.add", sums);
}

export const DOT_PRODUCT: readonly Insn[] = [
  insn("SDOT_UDOT_asimdsame2_D", "0 Q:1 U:1 01110 10 0 Rm:5 1 0010 1 Rn:5 Rd:5", {
    split: ["Q", "U"],
    feature: "FEAT_DotProd",
    ops: ({ Rm, Rn, Rd }) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!) }),
    sem: (a, { d, n, m }, { Q, U }) => {
      a.setV(d, whole(Q!, dot(a, a.v(n), a.v(m), a.v(d), U === 0)));
    },
  }),
  insn("SDOT_UDOT_asimdelem_D", "0 Q:1 U:1 01111 10 L:1 M:1 Rm:4 1110 H:1 0 Rn:5 Rd:5", {
    split: ["Q", "U"],
    feature: "FEAT_DotProd",
    ops: ({ Rm, Rn, Rd, L, M, H }) => ({
      d: vec(Rd!),
      n: vec(Rn!),
      m: vec((M! << 4) | Rm!),
      index: imm32((H! << 1) | L!),
    }),
    sem: (a, { d, n, m, index }, { Q, U }) => {
      const element = a.keep(splatLane(a.v(m), 2, a.imm32(index)));
      a.setV(d, whole(Q!, dot(a, a.v(n), element, a.v(d), U === 0)));
    },
  }),
];
