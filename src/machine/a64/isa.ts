// Owns: the whole instruction set: every group's rows, the decoder, tier 0's module. Any thread.
import { IMPLEMENTED } from "./features.table.js";
import { ATOMICS } from "./insn/atomics.js";
import { BRANCHES } from "./insn/branch.js";
import { CRYPTO } from "./insn/crypto.js";
import { DOT_PRODUCT } from "./insn/dot-product.js";
import { DP_IMMEDIATE } from "./insn/dp-imm.js";
import { DP_REGISTER } from "./insn/dp-reg.js";
import { EXCLUSIVES } from "./insn/exclusive.js";
import { FP_CONVERT } from "./insn/fp-convert.js";
import { FP_MISC } from "./insn/fp-misc.js";
import { FP_SCALAR } from "./insn/fp-scalar.js";
import { FP_VECTOR } from "./insn/fp-vector.js";
import { LOADS_STORES } from "./insn/ldst.js";
import { LOADS_STORES_SIMD } from "./insn/ldst-simd.js";
import { LOADS_STORES_STRUCT } from "./insn/ldst-struct.js";
import { SIMD_DIFFERENT } from "./insn/simd-diff.js";
import { SIMD_ELEMENT } from "./insn/simd-elem.js";
import { SIMD_MISC } from "./insn/simd-misc.js";
import { SIMD_PERMUTE } from "./insn/simd-permute.js";
import { SIMD_SAME } from "./insn/simd-same.js";
import { SIMD_SHIFT } from "./insn/simd-shift.js";
import { SYSTEM } from "./insn/system.js";
import type { Insn } from "./insn.js";
import { Decoder } from "./pattern.js";
import { type Tier0, Tier0Module } from "./tier0/module.js";

const GROUPS: readonly (readonly Insn[])[] = [
  DP_IMMEDIATE,
  BRANCHES,
  DP_REGISTER,
  SYSTEM,
  EXCLUSIVES,
  ATOMICS,
  LOADS_STORES,
  LOADS_STORES_SIMD,
  LOADS_STORES_STRUCT,
  SIMD_SAME,
  DOT_PRODUCT,
  SIMD_DIFFERENT,
  SIMD_ELEMENT,
  SIMD_MISC,
  SIMD_SHIFT,
  SIMD_PERMUTE,
  CRYPTO,
  FP_SCALAR,
  FP_CONVERT,
  FP_VECTOR,
  FP_MISC,
];

/** Rows that our PE has. */
export const INSTRUCTIONS: readonly Insn[] = GROUPS.flat().filter(
  ({ spec }) => spec.feature === undefined || IMPLEMENTED.has(spec.feature),
);

export function newDecoder(): Decoder<Insn> {
  return new Decoder(INSTRUCTIONS, ({ spec }, fields) => {
    return (spec.when?.(fields) ?? true) && (spec.valid?.(fields) ?? true);
  });
}

let built: Tier0 | null = null;

/** Tier 0, built at the first use in this thread. */
export function tier0(): Tier0 {
  built ??= new Tier0Module().build(INSTRUCTIONS);
  return built;
}
