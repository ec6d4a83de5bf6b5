// Owns: which exclusive load and store belong together. Data only.
import { EXCLUSIVES } from "../../src/machine/a64/insn/exclusive.js";
import type { Insn } from "../../src/machine/a64/insn.js";

const row = (prefix: string): Insn => EXCLUSIVES.find(({ name }) => name.startsWith(prefix))!;

export const EXCLUSIVE_ROWS = [
  { load: row("LDXR"), store: row("STXR") },
  { load: row("LDXP"), store: row("STXP") },
] as const;
