// Owns: a register's value taken apart into its fields. HTTP thread.
import { hex } from "../../base/hex.js";
import type { Field, NamedRegister } from "./register.table.js";

function fieldView([name, low, width, meanings]: Field, value: bigint) {
  const bits = (value >> BigInt(low)) & ((1n << BigInt(width)) - 1n);
  const meaning = meanings?.[Number(bits)];
  const range = width === 1 ? `${low}` : `${low + width - 1}:${low}`;
  return { name, bits: range, value: hex(bits), ...(meaning === undefined ? {} : { meaning }) };
}

export function decodedView({ name, id, fields }: NamedRegister, value: bigint) {
  return { name, id: hex(id), value: hex(value), fields: fields.map((f) => fieldView(f, value)) };
}
