// Owns: defects that are planted in tier 1 alone, each of which the comparison must find.
// Test process.
import type { Insn } from "../../src/machine/a64/insn.js";
import { INSTRUCTIONS } from "../../src/machine/a64/isa.js";
import { Decoder } from "../../src/machine/a64/pattern.js";

/** A row that gets the meaning of another one with the same operands. */
interface Plant {
  readonly name: string;
  readonly row: string;
  readonly meaning: string;
}

export const PLANTS: readonly Plant[] = [
  { name: "and-is-eor", row: "AND_log_imm", meaning: "EOR_log_imm" },
  { name: "movz-is-movk", row: "MOVK_movewide", meaning: "MOVZ_movewide" },
  { name: "signed-field", row: "UBFM_bitfield", meaning: "SBFM_bitfield" },
  { name: "no-link", row: "BLR_64_branch_reg", meaning: "BR_64_branch_reg" },
  { name: "no-flags", row: "ADDS_SUBS_addsub_imm", meaning: "ADD_SUB_addsub_imm" },
  { name: "pre-is-post", row: "STR_LDR_ldst_immpre", meaning: "STR_LDR_ldst_immpost" },
  { name: "lost-pair", row: "STP_LDP_ldstpair_pre", meaning: "STP_LDP_ldstpair_off" },
];

function rowNamed(name: string): Insn {
  const row = INSTRUCTIONS.find((one) => one.name === name);
  if (row === undefined) throw new Error(`there is no row ${name}`);
  return row;
}

/** What tier 1 takes instructions for with a defect in it. */
export function plantedDecoder({ row, meaning }: Plant): Decoder<Insn> {
  const [wrong, other] = [rowNamed(row), rowNamed(meaning)];
  const rows = INSTRUCTIONS.map((one): Insn => {
    return one === wrong ? { ...one, spec: { ...one.spec, sem: other.spec.sem } } : one;
  });
  return new Decoder(rows, ({ spec }, fields) => {
    return (spec.when?.(fields) ?? true) && (spec.valid?.(fields) ?? true);
  });
}
