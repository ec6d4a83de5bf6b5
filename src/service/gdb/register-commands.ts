// Owns: the packets that read and write registers: g, G, p, P. HTTP thread.
import { type GuestAccess, littleEndian } from "./guest-access.js";
import { ERROR } from "./packet.js";
import { GENERAL, REGISTERS, type RegisterRow } from "./registers.table.js";

function hexOf(value: bigint, { bits }: RegisterRow): string {
  return Buffer.from(littleEndian(value, bits / 8)).toString("hex");
}

/** @returns null unless the text is exactly one value of the register */
function parseValue(text: string, { bits }: RegisterRow): bigint | null {
  if (text.length !== bits / 4 || !/^[0-9a-fA-F]+$/.test(text)) return null;
  return Buffer.from(text, "hex").reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

async function readAll(access: GuestAccess, vcpu: number): Promise<string> {
  let out = "";
  for (const [number, row] of GENERAL.entries()) {
    out += hexOf(await access.register(vcpu, number), row);
  }
  return out;
}

/** What differs is written; PSTATE first, since it says which stack pointer SP is. */
async function writeAll(access: GuestAccess, vcpu: number, text: string): Promise<string> {
  const values: { number: number; value: bigint; row: RegisterRow }[] = [];
  let at = 0;
  for (const [number, row] of GENERAL.entries()) {
    const value = parseValue(text.slice(at, at + row.bits / 4), row);
    if (value === null) return ERROR.INVALID;
    values.push({ number, value, row });
    at += row.bits / 4;
  }
  values.sort((a, b) => Number(b.row.name === "cpsr") - Number(a.row.name === "cpsr"));
  for (const { number, value } of values) {
    if ((await access.register(vcpu, number)) !== value) {
      await access.setRegister(vcpu, number, value);
    }
  }
  return "OK";
}

/** An answer for one of the four packets. */
export async function registerCommand(
  access: GuestAccess,
  vcpu: number,
  body: string,
): Promise<string> {
  const [, name = "", value = ""] = /^[pP]([0-9a-fA-F]{1,4})(?:=(.*))?$/.exec(body) ?? [];
  const number = parseInt(name, 16);
  const row = REGISTERS[number];
  if (body === "g") return readAll(access, vcpu);
  if (body[0] === "G") return writeAll(access, vcpu, body.slice(1));
  if (row === undefined) return ERROR.INVALID;
  if (body[0] === "p") return hexOf(await access.register(vcpu, number), row);
  const parsed = parseValue(value, row);
  if (parsed === null) return ERROR.INVALID;
  await access.setRegister(vcpu, number, parsed);
  return "OK";
}
