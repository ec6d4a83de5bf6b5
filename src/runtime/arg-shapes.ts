// Owns: how each shape of command argument is written as JSON and read back, strictly. HTTP thread.
// u64 is "0x…" and bytes are base64, as everywhere in the API (DESIGN 9).
import { EVENTFD_FOUND } from "../base/eventfd-counters.js";
import { hex, parseU64 } from "../base/hex.js";
import type { SettingValue } from "../base/settings.js";
import type {
  Access,
  BoardAction,
  DirtyPages,
  EventfdRef,
  PatternKind,
  Program,
  RegisterWrite,
  RoutingEntry,
} from "../vmm/index.js";

export type ArgShape =
  | "u32"
  | "u32?"
  | "int"
  | "u64"
  | "u64?"
  | "u64s"
  | "count"
  | "count?"
  | "flag"
  | "text"
  | "text?"
  | "bytes"
  | "bytes?"
  /** The argument may be left out. */
  | "bytes-if-given"
  | "flag-if-given"
  | "backing"
  | "board-action"
  | "eventfd"
  /** Numbers that eventfds are to have in the VM; may be left out. */
  | "eventfd-numbers"
  /** Of a command that no log keeps. */
  | "unlogged"
  | "found?"
  | "program"
  | "settings"
  | "texts?"
  | "dirty-pages"
  | "register-writes"
  | "routes";

/** A value that is not of its shape; whoever knows the place adds it. */
export class BadShape extends Error {
  override readonly name = "BadShape";
}

export function fail(why: string): never {
  throw new BadShape(why);
}

export type Json = { readonly [name: string]: unknown };

/** @returns the object if it has exactly these fields. */
export function exactObject(data: unknown, fields: readonly string[]): Json {
  if (typeof data !== "object" || data === null || Array.isArray(data)) fail("is not an object");
  const names = Object.keys(data);
  const unknown = names.find((name) => !fields.includes(name));
  if (unknown !== undefined) fail(`has the unknown field ${JSON.stringify(unknown)}`);
  const missing = fields.find((name) => !names.includes(name));
  if (missing !== undefined) fail(`lacks the field ${missing}`);
  return data as Json;
}

export function exactList(data: unknown): readonly unknown[] {
  return Array.isArray(data) ? data : fail("is not a list");
}

export function integer(data: unknown, min: number, max: number): number {
  const fits = typeof data === "number" && Number.isInteger(data) && data >= min && data <= max;
  return fits ? data : fail(`is not an integer from ${min} to ${max}`);
}

export function count(data: unknown): number {
  return integer(data, 0, Number.MAX_SAFE_INTEGER);
}

export function u32(data: unknown): number {
  return integer(data, 0, 0xffff_ffff);
}

export function u64(data: unknown): bigint {
  const value = typeof data === "string" ? parseU64(data) : undefined;
  return value ?? fail('is not a u64 as "0x…" text');
}

export function flag(data: unknown): boolean {
  return typeof data === "boolean" ? data : fail("is neither true nor false");
}

export function oneOf<T extends string | number>(data: unknown, values: readonly T[]): T {
  const found = values.find((value) => value === data);
  return found ?? fail(`is not one of ${values.join(", ")}`);
}

export function text(data: unknown): string {
  return typeof data === "string" ? data : fail("is not a text");
}

function bytes(data: unknown): Uint8Array {
  if (typeof data !== "string") fail("is not base64 text");
  const read = Buffer.from(data, "base64");
  // Node skips what is not base64; a text that does not come back was not ours.
  if (read.toString("base64") !== data) fail("is not base64 text");
  return new Uint8Array(read);
}

function base64(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64");
}

function orNull<T>(read: (data: unknown) => T): (data: unknown) => T | null {
  return (data) => (data === null ? null : read(data));
}

function eventfd(data: unknown): EventfdRef {
  const fields = exactObject(data, ["index", "isEventfd"]);
  return {
    index: integer(fields["index"], -1, Number.MAX_SAFE_INTEGER),
    isEventfd: flag(fields["isEventfd"]),
  };
}

const ROUTE_FIELDS = [
  "gsi",
  "type",
  "flags",
  "irqchip",
  "pin",
  "addressLo",
  "addressHi",
  "data",
  "devid",
] as const;

function route(data: unknown): RoutingEntry {
  const fields = exactObject(data, ROUTE_FIELDS);
  const read = ROUTE_FIELDS.map((name) => [name, u32(fields[name])]);
  return Object.fromEntries(read) as unknown as RoutingEntry;
}

const BOARD_ACTIONS: readonly BoardAction[] = ["start", "pause", "resume", "reset", "power-off"];
const PATTERNS: readonly PatternKind[] = ["uniform", "zipf", "sequential", "hot-set"];
const PATTERN_FIELDS = [
  "kind",
  "pattern",
  "base",
  "bytes",
  "count",
  "writePercent",
  "length",
  "stride",
  "skew",
  "seed",
] as const;

function access(data: unknown): Access {
  const hasValue = typeof data === "object" && data !== null && "value" in data;
  const names = ["op", "address", "length", ...(hasValue ? ["value"] : [])];
  const fields = exactObject(data, names);
  const common = {
    op: oneOf(fields["op"], ["read", "write"] as const),
    address: u64(fields["address"]),
    length: integer(fields["length"], 1, 8),
  };
  return hasValue ? { ...common, value: u64(fields["value"]) } : common;
}

function program(data: unknown): Program {
  const kind = (data as { kind?: unknown } | null)?.kind;
  if (kind === "accesses") {
    const fields = exactObject(data, ["kind", "accesses"]);
    return { kind, accesses: exactList(fields["accesses"]).map(access) };
  }
  if (kind !== "pattern") fail('has neither kind "accesses" nor "pattern"');
  const fields = exactObject(data, PATTERN_FIELDS);
  return {
    kind,
    pattern: oneOf(fields["pattern"], PATTERNS),
    base: u64(fields["base"]),
    bytes: u64(fields["bytes"]),
    count: count(fields["count"]),
    writePercent: integer(fields["writePercent"], 0, 100),
    length: oneOf(fields["length"], [1, 2, 4, 8] as const),
    stride: count(fields["stride"]),
    skew: count(fields["skew"]),
    seed: u64(fields["seed"]),
  };
}

/** Names are checked by whoever knows the table. */
export function settings(data: unknown): Readonly<Record<string, SettingValue>> {
  if (typeof data !== "object" || data === null || Array.isArray(data)) fail("is not an object");
  for (const [key, value] of Object.entries(data)) {
    const isValue = ["string", "boolean"].includes(typeof value) || Number.isInteger(value);
    if (!isValue) fail(`has no setting's value at ${JSON.stringify(key)}`);
  }
  return data as Record<string, SettingValue>;
}

export function texts(data: unknown): readonly string[] {
  return exactList(data).map(text);
}

function dirtyPages(data: unknown): DirtyPages {
  const fields = exactObject(data, ["blocks", "pages"]);
  const blocks = exactList(fields["blocks"]).map((item) => {
    const block = exactObject(item, ["object", "pages", "bitmap"]);
    return {
      object: count(block["object"]),
      pages: count(block["pages"]),
      bitmap: bytes(block["bitmap"]),
    };
  });
  return { blocks, pages: count(fields["pages"]) };
}

function registerWrite(data: unknown): RegisterWrite {
  const fields = exactObject(data, ["reg", "value"]);
  return { reg: u64(fields["reg"]), value: bytes(fields["value"]) };
}

const READERS: { readonly [S in ArgShape]: (data: unknown) => unknown } = {
  u32,
  "u32?": orNull(u32),
  int: (data) => integer(data, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
  u64,
  "u64?": orNull(u64),
  u64s: (data) => exactList(data).map(u64),
  count,
  "count?": orNull(count),
  flag,
  text,
  "text?": orNull(text),
  bytes,
  "bytes?": orNull(bytes),
  "bytes-if-given": orNull(bytes),
  "flag-if-given": flag,
  backing: (data) => oneOf(data, ["ram", "unbacked", "device"] as const),
  "board-action": (data) => oneOf(data, BOARD_ACTIONS),
  eventfd,
  "eventfd-numbers": () => fail("is in no log"),
  unlogged: () => fail("is in no log"),
  "found?": orNull((data) => oneOf(data, EVENTFD_FOUND)),
  program,
  settings,
  "texts?": orNull(texts),
  "dirty-pages": dirtyPages,
  "register-writes": (data) => exactList(data).map(registerWrite),
  routes: (data) => exactList(data).map(route),
};

/** @throws BadShape with what is wrong, without the place */
export function decodeArg(shape: ArgShape, data: unknown): unknown {
  return READERS[shape](data);
}

/** Plain data with u64 as "0x…" and bytes as base64; every shape is read back from this. */
export function encodeArg(value: unknown): unknown {
  if (typeof value === "bigint") return hex(value);
  if (value instanceof Uint8Array) return base64(value);
  if (Array.isArray(value)) return value.map(encodeArg);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [name, encodeArg(field)]));
}
