// Owns: what a row of the instruction tables says: encoding, operands, meaning. VM thread.
//
//   word ──pattern──▶ fields ──ops──▶ operands ──sem──▶ WebAssembly
//
// `ops` runs when a word is decoded; `sem` is asked when code is made: by tier 0 once for each
// value of the `split` fields, with the other operands read from the record; by tier 1 for each
// instruction, with all of them known. A meaning therefore never looks at an operand's value.
import { assert } from "../../base/assert.js";
import type { Asm } from "./asm.js";
import type { Feature } from "./features.table.js";
import type { Operand, Operands } from "./operand.js";
import { type Fields, type Pattern, parsePattern } from "./pattern.js";

/**
 * jump, branch: to the operand `to`, always or perhaps; call: the same, and back behind it;
 * indirect: to an address in a register; indirect-call: the same, and back behind it;
 * system: the system side decides.
 */
export type Flow = "jump" | "branch" | "call" | "indirect" | "indirect-call" | "system";

/** What a table says of one encoding. */
export interface InsnSpec<O extends Operands> {
  /** Fields whose value makes a handler of its own in tier 0; `sem` and `when` see only these. */
  readonly split?: readonly string[];
  /** Whether these values of the split fields are allocated; all are by default. */
  readonly when?: (f: Fields) => boolean;
  /** Whether the other fields are allocated too, asked when a word is decoded. */
  readonly valid?: (f: Fields) => boolean;
  /** Without this feature the encoding is UNDEFINED. */
  readonly feature?: Feature;
  /** Traps when FP is off, as every row with vector operands does. */
  readonly fp?: true;
  /** Where control goes, when it isn't just to the next instruction. */
  readonly flow?: Flow;
  /** Operands from the fields. Must not throw for fields that are 0 beside the split ones. */
  readonly ops: (f: Fields) => O;
  /** The meaning: writes code for one instruction. */
  readonly sem: (a: Asm, o: O, f: Fields) => void;
}

/** One encoding of the Arm ARM. */
export interface Insn {
  /** The Arm ARM's name of the encoding, or of the class where one row covers it. */
  readonly name: string;
  readonly pattern: Pattern;
  readonly split: readonly string[];
  readonly spec: InsnSpec<Operands>;
}

export function insn<O extends Operands>(name: string, pattern: string, spec: InsnSpec<O>): Insn {
  const parsed = parsePattern(pattern);
  const { split = [] } = spec;
  for (const field of split) {
    const exists = parsed.fields.some((place) => place.name === field);
    assert(exists, `${name}: ${field} is no field of the pattern`);
  }
  return { name, pattern: parsed, split, spec: spec as unknown as InsnSpec<Operands> };
}

/** Every allocated combination of the split fields. */
export function variantsOf({ pattern, split, spec }: Insn): readonly Fields[] {
  let variants: Fields[] = [{}];
  for (const name of split) {
    const { width } = pattern.fields.find((place) => place.name === name)!;
    variants = variants.flatMap((fields) =>
      Array.from({ length: 2 ** width }, (_, value) => ({ ...fields, [name]: value })),
    );
  }
  const { when } = spec;
  return when === undefined ? variants : variants.filter(when);
}

/** The split fields of a decoded word. */
export function splitOf({ split }: Insn, fields: Fields): Fields {
  return Object.fromEntries(split.map((name) => [name, fields[name]!]));
}

/** Whether an instruction of this row traps while FP is off. */
export function usesFp({ spec }: Insn, operands: Operands): boolean {
  return spec.fp === true || Object.values(operands).some(({ kind }) => kind === "v");
}

/** Operands with the place each has in a record, in the order of the names. */
export function placesOf(operands: Operands): ReadonlyMap<Operand, number> {
  const places = new Map<Operand, number>();
  let regs = 0;
  for (const operand of Object.values(operands)) {
    const isReg = operand.kind === "x" || operand.kind === "v";
    places.set(operand, isReg ? regs++ : 0);
  }
  return places;
}
