// Owns: a row of the disassembler: an encoding and its text. Any thread.
//
// An alias is a row of its own with more fixed bits, or a choice within a text: the decoder looks
// at rows with more fixed bits first, and goes on where a text is null.
import { type Pattern, parsePattern } from "../pattern.js";

/** Names of the fields that the patterns of rows use; as in the Arm ARM. */
type FieldName =
  | ("sf" | "op" | "op0" | "op1" | "op2" | "opc" | "o0" | "o1" | "o2" | "o3" | "S" | "N" | "U")
  | ("Q" | "L" | "M" | "H" | "A" | "R" | "Z" | "a" | "sz" | "size" | "type" | "len")
  | ("Rd" | "Rn" | "Rm" | "Ra" | "Rt" | "Rt2" | "Rs" | "Rk" | "cond" | "nzcv" | "mask")
  | ("sh" | "shift" | "option" | "opcode" | "rmode" | "scale" | "rot" | "cmode" | "mode" | "b5")
  | ("b40" | "hw" | "immr" | "imms" | "immlo" | "immhi" | "immh" | "immb" | "imm2" | "imm3")
  | ("imm4" | "imm5" | "imm6" | "imm7" | "imm8" | "imm9" | "imm12" | "imm14" | "imm16" | "imm19")
  | ("imm26" | "abc" | "defgh" | "CRn" | "CRm" | "V" | "E" | "D");

/** Those of a row's pattern are there. */
export type DisFields = Readonly<Record<FieldName, number>>;

/** @returns null where the encoding is another one's, or nobody's */
export type Text = (f: DisFields, pc: bigint) => string | null;

export interface Row {
  readonly pattern: Pattern;
  readonly text: Text;
}

export function row(pattern: string, text: Text): Row {
  return { pattern: parsePattern(pattern), text };
}
