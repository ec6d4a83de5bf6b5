// Owns: saved parts as bytes and back, strictly: what a VM's state is on its way to another host,
// or on disk. Any thread.
//
//   magic, format │ checksum of the rest │ list of parts: values, each behind a byte that says what
//
// Texts (names of members, mostly) are written once and named by number afterwards.
import { ServiceError } from "./errors.js";
import type { Saved } from "./saved.js";

/** "TMst", as it lies in memory. */
const MAGIC = 0x7473_4d54;
const FORMAT = 1;
const HEADER_BYTES = 12; // tidy: three words
/** Values inside of values; nothing of ours comes near. */
const DEPTH_MAX = 64;
const FIRST_BYTES = 4096; // tidy: room to begin with, not a page

const TAG = {
  null: 0,
  undefined: 1,
  false: 2,
  true: 3,
  /** Varint: integers from 0 to 2^31 - 1. */
  count: 4,
  number: 5,
  bigint: 6,
  negative: 7,
  text: 8,
  again: 9,
  list: 10,
  object: 11,
  array: 12, // tidy: a tag
} as const;

/** Typed arrays by their number; only appended to. */
const ARRAYS = [
  Uint8Array,
  Uint16Array,
  Uint32Array,
  Int32Array,
  BigUint64Array,
  Float64Array,
] as const;
type TypedArray = InstanceType<(typeof ARRAYS)[number]>;

const COUNT_END = 2 ** 31;

function bad(why: string): ServiceError {
  return new ServiceError("state-mismatch", `The state can't be read: ${why}.`);
}

/** Word-wise: it notices what was cut off or changed on the way. */
function checksum(bytes: Uint8Array): number {
  const whole = bytes.length & ~3;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let sum = bytes.length | 0;
  const mix = (word: number): void => {
    const h = Math.imul(sum ^ word, 0x9e37_79b1);
    sum = (h ^ (h >>> 15)) | 0;
  };
  for (let at = 0; at < whole; at += 4) mix(view.getUint32(at, true));
  for (let at = whole; at < bytes.length; at++) mix(view.getUint8(at));
  return sum >>> 0;
}

// ── writing ───────────────────────────────────────────────────────────────────────────────────

class Writer {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = HEADER_BYTES;
  readonly #texts = new Map<string, number>();
  readonly #encoder = new TextEncoder();

  /** @returns where so many bytes are to be written */
  #room(bytes: number): number {
    const at = this.#length;
    this.#length += bytes;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }

  #byte(value: number): void {
    const at = this.#room(1);
    this.#bytes[at] = value;
  }

  #varint(value: number): void {
    let left = value;
    while (left >= 0x80) {
      this.#byte((left & 0x7f) | 0x80);
      left >>>= 7;
    }
    this.#byte(left);
  }

  #raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
  }

  #number(value: number): void {
    if (Number.isInteger(value) && value >= 0 && value < COUNT_END && !Object.is(value, -0)) {
      this.#byte(TAG.count);
      this.#varint(value);
      return;
    }
    this.#byte(TAG.number);
    const at = this.#room(8);
    this.#view.setFloat64(at, value, true);
  }

  #bigint(value: bigint): void {
    this.#byte(value < 0n ? TAG.negative : TAG.bigint);
    const bytes: number[] = [];
    for (let left = value < 0n ? -value : value; left > 0n; left >>= 8n) {
      bytes.push(Number(left & 0xffn));
    }
    this.#varint(bytes.length);
    this.#raw(Uint8Array.from(bytes));
  }

  #text(value: string): void {
    const known = this.#texts.get(value);
    if (known !== undefined) {
      this.#byte(TAG.again);
      this.#varint(known);
      return;
    }
    this.#texts.set(value, this.#texts.size);
    const bytes = this.#encoder.encode(value);
    this.#byte(TAG.text);
    this.#varint(bytes.length);
    this.#raw(bytes);
  }

  #array(value: TypedArray): void {
    const kind = ARRAYS.findIndex((of) => value instanceof of);
    this.#byte(TAG.array);
    this.#byte(kind);
    this.#varint(value.byteLength);
    this.#raw(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  }

  #members(value: object): void {
    const members = Object.entries(value);
    this.#byte(TAG.object);
    this.#varint(members.length);
    for (const [name, member] of members) {
      this.#text(name);
      this.value(member);
    }
  }

  /** @throws TypeError for what is no plain data: our own bug */
  value(value: unknown): void {
    if (value === null) this.#byte(TAG.null);
    else if (value === undefined) this.#byte(TAG.undefined);
    else if (typeof value === "boolean") this.#byte(value ? TAG.true : TAG.false);
    else if (typeof value === "number") this.#number(value);
    else if (typeof value === "bigint") this.#bigint(value);
    else if (typeof value === "string") this.#text(value);
    else if (Array.isArray(value)) {
      this.#byte(TAG.list);
      this.#varint(value.length);
      for (const item of value) this.value(item);
    } else if (isTypedArray(value)) this.#array(value);
    else if (isPlain(value)) this.#members(value);
    else throw new TypeError(`a saved part holds a ${typeof value} that is no plain data`);
  }

  finish(): Uint8Array {
    const bytes = this.#bytes.slice(0, this.#length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, MAGIC, true);
    view.setUint32(4, FORMAT, true);
    view.setUint32(8, checksum(bytes.subarray(HEADER_BYTES)), true);
    return bytes;
  }
}

function isTypedArray(value: unknown): value is TypedArray {
  return ARRAYS.some((of) => value instanceof of);
}

function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** @returns bytes of a buffer of their own */
export function encodeSaved(parts: readonly Saved[]): Uint8Array {
  const writer = new Writer();
  writer.value(parts.map(({ kind, version, data }) => ({ kind, version, data })));
  return writer.finish();
}

// ── reading ───────────────────────────────────────────────────────────────────────────────────

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = HEADER_BYTES;
  readonly #texts: string[] = [];
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (bytes > this.#bytes.length - at) throw bad(`it ends within a value, at byte ${at}`);
    this.#at += bytes;
    return at;
  }

  #byte(): number {
    return this.#bytes[this.#take(1)]!;
  }

  /** Below 2^31, in as few bytes as it takes. */
  #varint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) !== 0) continue;
      if (value >= COUNT_END || (byte === 0 && shift > 0)) break;
      return value;
    }
    throw bad(`a number before byte ${this.#at} is none of ours`);
  }

  /** A number of things that take a byte each, at least: more than are left can't be meant. */
  #length(each = 1): number {
    const length = this.#varint();
    if (length * each <= this.#bytes.length - this.#at) return length;
    throw bad(`it ends within a list, at byte ${this.#at}`);
  }

  #raw(length: number): Uint8Array<ArrayBuffer> {
    const at = this.#take(length);
    const bytes = new Uint8Array(length);
    bytes.set(this.#bytes.subarray(at, at + length));
    return bytes;
  }

  #bigint(isNegative: boolean): bigint {
    let value = 0n;
    for (const byte of this.#raw(this.#length()).reverse()) value = (value << 8n) | BigInt(byte);
    return isNegative ? -value : value;
  }

  #text(): string {
    const bytes = this.#raw(this.#length());
    try {
      const text = this.#decoder.decode(bytes);
      this.#texts.push(text);
      return text;
    } catch {
      throw bad(`the text before byte ${this.#at} is no UTF-8`);
    }
  }

  #again(): string {
    const text = this.#texts[this.#varint()];
    if (text === undefined) throw bad(`byte ${this.#at} names a text that was not there`);
    return text;
  }

  #array(): TypedArray {
    const kind = ARRAYS[this.#byte()];
    const length = this.#length();
    if (kind === undefined || length % kind.BYTES_PER_ELEMENT !== 0) {
      throw bad(`the array before byte ${this.#at} is of no kind that is known`);
    }
    return new kind(this.#raw(length).buffer);
  }

  #name(): string {
    const tag = this.#byte();
    if (tag === TAG.text) return this.#text();
    if (tag === TAG.again) return this.#again();
    throw bad(`byte ${this.#at} should begin a member's name`);
  }

  #members(depth: number): Record<string, unknown> {
    const length = this.#length(2);
    const members: [string, unknown][] = [];
    for (let n = 0; n < length; n++) members.push([this.#name(), this.value(depth + 1)]);
    const object = Object.fromEntries(members);
    if (Object.keys(object).length < length) throw bad(`a member before byte ${this.#at} is twice`);
    return object;
  }

  #list(depth: number): unknown[] {
    const length = this.#length();
    const list: unknown[] = [];
    for (let n = 0; n < length; n++) list.push(this.value(depth + 1));
    return list;
  }

  value(depth = 0): unknown {
    if (depth > DEPTH_MAX) throw bad(`values nest too deep at byte ${this.#at}`);
    const tag = this.#byte();
    switch (tag) {
      case TAG.null:
        return null;
      case TAG.undefined:
        return undefined;
      case TAG.false:
      case TAG.true:
        return tag === TAG.true;
      case TAG.count:
        return this.#varint();
      case TAG.number:
        return this.#view.getFloat64(this.#take(8), true);
      case TAG.bigint:
      case TAG.negative:
        return this.#bigint(tag === TAG.negative);
      case TAG.text:
        return this.#text();
      case TAG.again:
        return this.#again();
      case TAG.list:
        return this.#list(depth);
      case TAG.object:
        return this.#members(depth);
      case TAG.array:
        return this.#array();
      default:
        throw bad(`byte ${this.#at - 1} is no value`);
    }
  }
}

/** @throws ServiceError "state-mismatch" */
export function decodeSaved(bytes: Uint8Array): readonly Saved[] {
  if (bytes.length < HEADER_BYTES) throw bad("it is too short");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) throw bad("it doesn't begin as a state does");
  const format = view.getUint32(4, true);
  if (format !== FORMAT) throw bad(`its format is ${format}, and this host knows ${FORMAT}`);
  if (view.getUint32(8, true) !== checksum(bytes.subarray(HEADER_BYTES))) {
    throw bad("its checksum is wrong");
  }
  const reader = new Reader(bytes);
  const parts = reader.value();
  if (!reader.isAtEnd) throw bad("something follows it");
  if (!Array.isArray(parts)) throw bad("it is no list of parts");
  return parts.map(partOf);
}

function partOf(part: unknown): Saved {
  const { kind, version, data, ...rest } = (isPlain(part) ? part : {}) as Partial<Saved>;
  if (typeof kind !== "string" || typeof version !== "number" || Object.keys(rest).length > 0) {
    throw bad("a part is none");
  }
  return { kind, version, data };
}
