// Owns: which groups of instructions random blocks are made of, and how often. Data only.
import { IMPLEMENTED } from "../../src/machine/a64/features.table.js";
import { ATOMICS } from "../../src/machine/a64/insn/atomics.js";
import { CRYPTO } from "../../src/machine/a64/insn/crypto.js";
import { DOT_PRODUCT } from "../../src/machine/a64/insn/dot-product.js";
import { DP_IMMEDIATE } from "../../src/machine/a64/insn/dp-imm.js";
import { DP_REGISTER } from "../../src/machine/a64/insn/dp-reg.js";
import { EXCLUSIVES } from "../../src/machine/a64/insn/exclusive.js";
import { FP_CONVERT } from "../../src/machine/a64/insn/fp-convert.js";
import { FP_MISC } from "../../src/machine/a64/insn/fp-misc.js";
import { FP_SCALAR } from "../../src/machine/a64/insn/fp-scalar.js";
import { FP_VECTOR } from "../../src/machine/a64/insn/fp-vector.js";
import { LOADS_STORES } from "../../src/machine/a64/insn/ldst.js";
import { LOADS_STORES_SIMD } from "../../src/machine/a64/insn/ldst-simd.js";
import { LOADS_STORES_STRUCT } from "../../src/machine/a64/insn/ldst-struct.js";
import { SIMD_DIFFERENT } from "../../src/machine/a64/insn/simd-diff.js";
import { SIMD_ELEMENT } from "../../src/machine/a64/insn/simd-elem.js";
import { SIMD_MISC } from "../../src/machine/a64/insn/simd-misc.js";
import { SIMD_PERMUTE } from "../../src/machine/a64/insn/simd-permute.js";
import { SIMD_SAME } from "../../src/machine/a64/insn/simd-same.js";
import { SIMD_SHIFT } from "../../src/machine/a64/insn/simd-shift.js";
import { SYSTEM } from "../../src/machine/a64/insn/system.js";
import type { Insn } from "../../src/machine/a64/insn.js";

export interface Group {
  readonly name: string;
  readonly weight: number;
  readonly rows: readonly Insn[];
  /** Base registers are prepared before an instruction of this group. */
  readonly memory: boolean;
  /** Rt and Rt2 are vector registers. */
  readonly vectors: boolean;
}

function group(name: string, weight: number, rows: readonly Insn[], kind = ""): Group {
  return {
    name,
    weight,
    rows: rows.filter(({ spec }) => spec.feature === undefined || IMPLEMENTED.has(spec.feature)),
    memory: kind.includes("memory"),
    vectors: kind.includes("vectors"),
  };
}

/** System instructions that do something of their own; the others ask the system side. */
const own = SYSTEM.filter(({ spec, name }) => spec.flow !== "system" && name !== "DC_ZVA");
const asking = SYSTEM.filter(({ spec }) => spec.flow === "system");
const zva = SYSTEM.filter(({ name }) => name === "DC_ZVA");

/** Branches are no group: a block's structure makes them. */
export const GROUPS: readonly Group[] = [
  group("dp-imm", 14, DP_IMMEDIATE),
  group("dp-reg", 26, DP_REGISTER),
  group("system", 4, own),
  group("exclusive", 3, EXCLUSIVES, "memory"),
  group("atomics", 3, ATOMICS, "memory"),
  group("ldst", 14, LOADS_STORES, "memory"),
  group("ldst-simd", 5, LOADS_STORES_SIMD, "memory vectors"),
  group("ldst-struct", 3, LOADS_STORES_STRUCT, "memory vectors"),
  group("dc-zva", 0.3, zva, "memory"),
  group("simd-same", 4, SIMD_SAME),
  group("dot-product", 0.5, DOT_PRODUCT),
  group("simd-diff", 2, SIMD_DIFFERENT),
  group("simd-elem", 2, SIMD_ELEMENT),
  group("simd-misc", 4, SIMD_MISC),
  group("simd-shift", 3, SIMD_SHIFT),
  group("simd-permute", 3, SIMD_PERMUTE),
  group("crypto", 1, CRYPTO),
  group("fp-scalar", 4, FP_SCALAR),
  group("fp-convert", 3, FP_CONVERT),
  group("fp-vector", 4, FP_VECTOR),
  group("fp-misc", 4, FP_MISC),
];

/** What stops a run: left out where nobody could go on. */
export const STOPPING: Group = group("system-side", 0.4, asking);
