// Owns: the name of a handler: its row and the values of its split fields. Any thread.
import type { Insn } from "../insn.js";
import type { Fields } from "../pattern.js";

export type HandlerKey = string;

/** @param fields at least the split fields of the row */
export function handlerKey(row: Insn, fields: Fields): HandlerKey {
  let key = row.name;
  for (const name of row.split) key += `,${fields[name]}`;
  return key;
}
