// Owns: the text of one instruction word, as the Arm ARM writes it, aliases preferred. Any thread.
// It knows what the architecture has, whatever of it our PE implements.
import { Decoder } from "../pattern.js";
import { BRANCH } from "./branch.js";
import { DP_IMM } from "./dp-imm.js";
import { DP_REG } from "./dp-reg.js";
import { EXCLUSIVE } from "./exclusive.js";
import { FP } from "./fp.js";
import { LDST } from "./ldst.js";
import { LDST_STRUCT } from "./ldst-struct.js";
import type { DisFields, Row } from "./row.js";
import { SIMD_IMM } from "./simd-imm.js";
import { SIMD_MISC } from "./simd-misc.js";
import { SIMD_PERMUTE } from "./simd-permute.js";
import { SIMD_SAME } from "./simd-same.js";
import { SYSTEM } from "./system.js";
import { TAGGING } from "./tagging.js";

const ROWS: readonly Row[] = [
  ...DP_IMM,
  ...DP_REG,
  ...BRANCH,
  ...SYSTEM,
  ...LDST,
  ...LDST_STRUCT,
  ...EXCLUSIVE,
  ...TAGGING,
  ...FP,
  ...SIMD_SAME,
  ...SIMD_MISC,
  ...SIMD_IMM,
  ...SIMD_PERMUTE,
];

let decoder: Decoder<Row> | null = null;

function decoderOf(): Decoder<Row> {
  decoder ??= new Decoder(ROWS, (row, fields) => row.text(fields as DisFields, 0n) !== null);
  return decoder;
}

/**
 * @param word the instruction, unsigned
 * @param pc where it stands: addresses in it are relative to that
 * @returns ".word 0x…" for what is no instruction
 */
export function disassemble(word: number, pc: bigint): string {
  const found = decoderOf().find(word);
  const text = found?.row.text(found.fields as DisFields, pc);
  return text ?? `.word 0x${word.toString(16).padStart(8, "0")}`;
}
