// Owns: the packets about memory and what watches it: m, M, X, Z, z. HTTP thread.
import type { Breakpoints, WatchKind } from "./breakpoints.js";
import type { GuestAccess } from "./guest-access.js";
import { PACKET_BYTES_MAX } from "./limits.js";
import { ERROR } from "./packet.js";

/** Two digits a byte. */
const READ_MAX = PACKET_BYTES_MAX / 2;

const WATCHES: Readonly<Record<string, WatchKind>> = { "2": "watch", "3": "rwatch", "4": "awatch" };

async function read(
  access: GuestAccess,
  breakpoints: Breakpoints,
  vcpu: number,
  [address, length]: readonly [bigint, number],
): Promise<string> {
  const bytes = await access.readMemory(vcpu, address, Math.min(length, READ_MAX));
  if (bytes.length === 0 && length > 0) return ERROR.FAULT;
  breakpoints.hide(address, bytes);
  return Buffer.from(bytes).toString("hex");
}

async function write(
  access: GuestAccess,
  breakpoints: Breakpoints,
  vcpu: number,
  address: bigint,
  bytes: Uint8Array,
): Promise<string> {
  if (bytes.length === 0) return "OK";
  const written = await access.writeMemory(vcpu, address, breakpoints.covered(address, bytes));
  if (written) breakpoints.written(address, bytes);
  return written ? "OK" : ERROR.FAULT;
}

async function point(breakpoints: Breakpoints, vcpu: number, body: string): Promise<string> {
  const match = /^([Zz])([0-4]),([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,8})(?:;.*)?$/.exec(body);
  // Types that don't exist are answered like packets that don't.
  if (match === null) return /^[Zz][0-4]/.test(body) ? ERROR.INVALID : "";
  const [, letter, type = "", where, size] = match;
  const address = BigInt(`0x${where}`);
  const length = BigInt(`0x${size}`);
  const inserts = letter === "Z";
  const kind = WATCHES[type];
  let isDone = true;
  if (kind !== undefined) {
    if (inserts) isDone = breakpoints.insertWatch({ kind, address, length });
    else breakpoints.removeWatch({ kind, address, length });
  } else if (type === "1") {
    if (inserts) isDone = breakpoints.insertHardware(address);
    else breakpoints.removeHardware(address);
  } else if (inserts) isDone = await breakpoints.insertSoftware(vcpu, address);
  else await breakpoints.removeSoftware(address);
  return isDone ? "OK" : ERROR.FAULT;
}

/** An answer for one of the five packets. */
export async function memoryCommand(
  access: GuestAccess,
  breakpoints: Breakpoints,
  vcpu: number,
  body: string,
): Promise<string> {
  if (body[0] === "Z" || body[0] === "z") return point(breakpoints, vcpu, body);
  const match = /^([mMX])([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,8})(?::([\s\S]*))?$/.exec(body);
  if (match === null) return ERROR.INVALID;
  const [, letter, where, size = "0", data] = match;
  const address = BigInt(`0x${where}`);
  const length = parseInt(size, 16);
  if (letter === "m") return read(access, breakpoints, vcpu, [address, length]);
  if (data === undefined || length > PACKET_BYTES_MAX) return ERROR.INVALID;
  if (letter === "M" && !/^([0-9a-fA-F]{2})*$/.test(data)) return ERROR.INVALID;
  const bytes = Uint8Array.from(Buffer.from(data, letter === "M" ? "hex" : "latin1"));
  if (bytes.length !== length) return ERROR.INVALID;
  return write(access, breakpoints, vcpu, address, bytes);
}
