// Owns: values that a WebAssembly function computes, as typed, chainable expressions. Any thread.
//
// A value is a closure that writes itself where it is used, and may be used once: what is needed
// twice is kept in a local (Code.keep) or is known. Known operands fold, so that asking a meaning
// with its operands known gives short code.
import { assert } from "../assert.js";
import type { ByteWriter } from "./bytes.js";
import {
  EXTRACT,
  type ExtractName,
  OPS,
  type OpName,
  REPLACE,
  type ReplaceName,
  type ValueType,
} from "./opcodes.table.js";

type Write = (w: ByteWriter) => void;

/** A value of some type; see I32, I64, F32, F64 and V128. */
export abstract class Value {
  abstract readonly type: ValueType;
  readonly #write: Write;
  /** It may be written any number of times: a local as it stands, or known. */
  readonly repeats: boolean;
  #written = false;

  constructor(write: Write, repeats = false) {
    this.#write = write;
    this.repeats = repeats;
  }

  write(w: ByteWriter): void {
    assert(this.repeats || !this.#written, "a value that is used twice is kept in a local first");
    this.#written = true;
    this.#write(w);
  }
}

export function make(type: "i32", write: Write, repeats?: boolean): I32;
export function make(type: "i64", write: Write, repeats?: boolean): I64;
export function make(type: "f32", write: Write, repeats?: boolean): F32;
export function make(type: "f64", write: Write, repeats?: boolean): F64;
export function make(type: "v128", write: Write, repeats?: boolean): V128;
export function make(type: ValueType, write: Write, repeats?: boolean): Value;
export function make(type: ValueType, write: Write, repeats = false): Value {
  switch (type) {
    case "i32":
      return new I32(write, repeats);
    case "i64":
      return new I64(write, repeats);
    case "f32":
      return new F32(write, repeats);
    case "f64":
      return new F64(write, repeats);
    default:
      return new V128(write, repeats);
  }
}

/** Applies an operator. The typed methods below are the way to call it. */
export function op(name: OpName, ...args: readonly Value[]): Value {
  const row = OPS[name];
  const fits = args.length === row.args.length && args.every((a, i) => a.type === row.args[i]);
  assert(fits, `${name} takes ${row.args.join(", ")}, not ${args.map((a) => a.type).join(", ")}`);
  return make(row.result, (w) => {
    for (const arg of args) arg.write(w);
    if (row.prefix === 0) {
      w.byte(row.code);
    } else {
      w.byte(row.prefix);
      w.unsigned(row.code);
    }
  });
}

const i32 = (name: OpName, ...args: readonly Value[]): I32 => op(name, ...args) as I32;
const i64 = (name: OpName, ...args: readonly Value[]): I64 => op(name, ...args) as I64;
const f32 = (name: OpName, ...args: readonly Value[]): F32 => op(name, ...args) as F32;
const f64 = (name: OpName, ...args: readonly Value[]): F64 => op(name, ...args) as F64;
const v128 = (name: OpName, ...args: readonly Value[]): V128 => op(name, ...args) as V128;

export function const32(value: number): I32 {
  const known = value | 0;
  const write = (w: ByteWriter): void => {
    w.byte(0x41);
    w.signed32(known);
  };
  return new I32(write, true, known);
}

export function const64(value: bigint | number): I64 {
  const known = BigInt.asIntN(64, BigInt(value));
  const write = (w: ByteWriter): void => {
    w.byte(0x42);
    w.signed64(Number(BigInt.asIntN(32, known)), Number(known >> 32n));
  };
  return new I64(write, true, known);
}

/** A 128-bit constant. @param low bits 63:0 @param high bits 127:64 */
export function constV(low: bigint, high: bigint): V128 {
  const bytes = new DataView(new ArrayBuffer(16));
  bytes.setBigUint64(0, BigInt.asUintN(64, low), true);
  bytes.setBigUint64(8, BigInt.asUintN(64, high), true);
  const write = (w: ByteWriter): void => {
    w.byte(0xfd);
    w.unsigned(12);
    w.bytes(new Uint8Array(bytes.buffer));
  };
  return new V128(write, true);
}

type Arg32 = I32 | number;
type Arg64 = I64 | number | bigint;
const as32 = (value: Arg32): I32 => (typeof value === "number" ? const32(value) : value);
const as64 = (value: Arg64): I64 => (value instanceof I64 ? value : const64(value));

export class I32 extends Value {
  readonly type = "i32";
  /** The value, where it is known now; signed. */
  readonly known: number | undefined;

  constructor(write: Write, repeats = false, known?: number) {
    super(write, repeats);
    this.known = known;
  }

  #fold(name: OpName, other: Arg32, known: (a: number, b: number) => number): I32 {
    const b = as32(other);
    if (this.known === undefined || b.known === undefined) return i32(name, this, b);
    return const32(known(this.known, b.known));
  }

  add(other: Arg32): I32 {
    if (as32(other).known === 0) return this;
    return this.#fold("i32.add", other, (a, b) => a + b);
  }
  sub(other: Arg32): I32 {
    if (as32(other).known === 0) return this;
    return this.#fold("i32.sub", other, (a, b) => a - b);
  }
  mul(other: Arg32): I32 {
    return this.#fold("i32.mul", other, Math.imul);
  }
  and(other: Arg32): I32 {
    return this.#fold("i32.and", other, (a, b) => a & b);
  }
  or(other: Arg32): I32 {
    return this.#fold("i32.or", other, (a, b) => a | b);
  }
  xor(other: Arg32): I32 {
    return this.#fold("i32.xor", other, (a, b) => a ^ b);
  }
  shl(other: Arg32): I32 {
    return this.#fold("i32.shl", other, (a, b) => a << b);
  }
  shrS(other: Arg32): I32 {
    return this.#fold("i32.shr_s", other, (a, b) => a >> b);
  }
  shrU(other: Arg32): I32 {
    return this.#fold("i32.shr_u", other, (a, b) => a >>> b);
  }
  rotl(other: Arg32): I32 {
    return i32("i32.rotl", this, as32(other));
  }
  rotr(other: Arg32): I32 {
    return i32("i32.rotr", this, as32(other));
  }
  divS(other: Arg32): I32 {
    return i32("i32.div_s", this, as32(other));
  }
  divU(other: Arg32): I32 {
    return i32("i32.div_u", this, as32(other));
  }
  remU(other: Arg32): I32 {
    return i32("i32.rem_u", this, as32(other));
  }
  /** Bitwise NOT. */
  not(): I32 {
    return this.xor(-1);
  }
  neg(): I32 {
    return const32(0).sub(this);
  }
  /** 1 when it is 0, else 0: the logical NOT. */
  eqz(): I32 {
    return this.known === undefined ? i32("i32.eqz", this) : const32(this.known === 0 ? 1 : 0);
  }
  eq(other: Arg32): I32 {
    return i32("i32.eq", this, as32(other));
  }
  ne(other: Arg32): I32 {
    return i32("i32.ne", this, as32(other));
  }
  ltS(other: Arg32): I32 {
    return i32("i32.lt_s", this, as32(other));
  }
  ltU(other: Arg32): I32 {
    return i32("i32.lt_u", this, as32(other));
  }
  gtS(other: Arg32): I32 {
    return i32("i32.gt_s", this, as32(other));
  }
  gtU(other: Arg32): I32 {
    return i32("i32.gt_u", this, as32(other));
  }
  leS(other: Arg32): I32 {
    return i32("i32.le_s", this, as32(other));
  }
  leU(other: Arg32): I32 {
    return i32("i32.le_u", this, as32(other));
  }
  geS(other: Arg32): I32 {
    return i32("i32.ge_s", this, as32(other));
  }
  geU(other: Arg32): I32 {
    return i32("i32.ge_u", this, as32(other));
  }
  clz(): I32 {
    return i32("i32.clz", this);
  }
  ctz(): I32 {
    return i32("i32.ctz", this);
  }
  popcnt(): I32 {
    return i32("i32.popcnt", this);
  }
  extend8S(): I32 {
    return i32("i32.extend8_s", this);
  }
  extend16S(): I32 {
    return i32("i32.extend16_s", this);
  }
  /** Zero-extended. */
  extendU(): I64 {
    if (this.known !== undefined) return const64(this.known >>> 0);
    return i64("i64.extend_i32_u", this);
  }
  /** Sign-extended. */
  extendS(): I64 {
    return this.known === undefined ? i64("i64.extend_i32_s", this) : const64(this.known);
  }
  /** The bits as a float. */
  asF32(): F32 {
    return f32("f32.reinterpret_i32", this);
  }
  toF32S(): F32 {
    return f32("f32.convert_i32_s", this);
  }
  toF64S(): F64 {
    return f64("f64.convert_i32_s", this);
  }
  toF64U(): F64 {
    return f64("f64.convert_i32_u", this);
  }
  splat8(): V128 {
    return v128("i8x16.splat", this);
  }
  splat16(): V128 {
    return v128("i16x8.splat", this);
  }
  splat32(): V128 {
    return v128("i32x4.splat", this);
  }
  /** `whenTrue` where this is not 0; both are computed. */
  select<T extends Value>(whenTrue: T, whenFalse: T): T {
    assert(whenTrue.type === whenFalse.type, "both arms of a select have one type");
    if (this.known !== undefined) return this.known !== 0 ? whenTrue : whenFalse;
    const write = (w: ByteWriter): void => {
      whenTrue.write(w);
      whenFalse.write(w);
      this.write(w);
      // select needs its type for v128 only.
      if (whenTrue.type === "v128") w.bytes([0x1c, 1, 0x7b]);
      else w.byte(0x1b);
    };
    return make(whenTrue.type, write) as unknown as T;
  }
}

export class I64 extends Value {
  readonly type = "i64";
  /** The value, where it is known now; signed. */
  readonly known: bigint | undefined;

  constructor(write: Write, repeats = false, known?: bigint) {
    super(write, repeats);
    this.known = known;
  }

  #fold(name: OpName, other: Arg64, known: (a: bigint, b: bigint) => bigint): I64 {
    const b = as64(other);
    if (this.known === undefined || b.known === undefined) return i64(name, this, b);
    return const64(known(this.known, b.known));
  }

  add(other: Arg64): I64 {
    if (as64(other).known === 0n) return this;
    if (this.known === 0n) return as64(other);
    return this.#fold("i64.add", other, (a, b) => a + b);
  }
  sub(other: Arg64): I64 {
    if (as64(other).known === 0n) return this;
    return this.#fold("i64.sub", other, (a, b) => a - b);
  }
  mul(other: Arg64): I64 {
    return this.#fold("i64.mul", other, (a, b) => a * b);
  }
  and(other: Arg64): I64 {
    return this.#fold("i64.and", other, (a, b) => a & b);
  }
  or(other: Arg64): I64 {
    if (as64(other).known === 0n) return this;
    if (this.known === 0n) return as64(other);
    return this.#fold("i64.or", other, (a, b) => a | b);
  }
  xor(other: Arg64): I64 {
    return this.#fold("i64.xor", other, (a, b) => a ^ b);
  }
  shl(other: Arg64): I64 {
    if (as64(other).known === 0n) return this;
    return this.#fold("i64.shl", other, (a, b) => a << (b & 63n));
  }
  shrS(other: Arg64): I64 {
    if (as64(other).known === 0n) return this;
    return this.#fold("i64.shr_s", other, (a, b) => a >> (b & 63n));
  }
  shrU(other: Arg64): I64 {
    if (as64(other).known === 0n) return this;
    return this.#fold("i64.shr_u", other, (a, b) => BigInt.asUintN(64, a) >> (b & 63n));
  }
  rotl(other: Arg64): I64 {
    return i64("i64.rotl", this, as64(other));
  }
  rotr(other: Arg64): I64 {
    return i64("i64.rotr", this, as64(other));
  }
  divS(other: Arg64): I64 {
    return i64("i64.div_s", this, as64(other));
  }
  divU(other: Arg64): I64 {
    return i64("i64.div_u", this, as64(other));
  }
  remU(other: Arg64): I64 {
    return i64("i64.rem_u", this, as64(other));
  }
  /** Bitwise NOT. */
  not(): I64 {
    return this.xor(-1n);
  }
  neg(): I64 {
    return const64(0).sub(this);
  }
  /** 1 when it is 0, else 0. */
  eqz(): I32 {
    return this.known === undefined ? i32("i64.eqz", this) : const32(this.known === 0n ? 1 : 0);
  }
  eq(other: Arg64): I32 {
    return i32("i64.eq", this, as64(other));
  }
  ne(other: Arg64): I32 {
    return i32("i64.ne", this, as64(other));
  }
  ltS(other: Arg64): I32 {
    return i32("i64.lt_s", this, as64(other));
  }
  ltU(other: Arg64): I32 {
    return i32("i64.lt_u", this, as64(other));
  }
  gtS(other: Arg64): I32 {
    return i32("i64.gt_s", this, as64(other));
  }
  gtU(other: Arg64): I32 {
    return i32("i64.gt_u", this, as64(other));
  }
  leS(other: Arg64): I32 {
    return i32("i64.le_s", this, as64(other));
  }
  leU(other: Arg64): I32 {
    return i32("i64.le_u", this, as64(other));
  }
  geS(other: Arg64): I32 {
    return i32("i64.ge_s", this, as64(other));
  }
  geU(other: Arg64): I32 {
    return i32("i64.ge_u", this, as64(other));
  }
  clz(): I64 {
    return i64("i64.clz", this);
  }
  ctz(): I64 {
    return i64("i64.ctz", this);
  }
  popcnt(): I64 {
    return i64("i64.popcnt", this);
  }
  extend8S(): I64 {
    return i64("i64.extend8_s", this);
  }
  extend16S(): I64 {
    return i64("i64.extend16_s", this);
  }
  extend32S(): I64 {
    return i64("i64.extend32_s", this);
  }
  /** Bits 31:0. */
  wrap(): I32 {
    if (this.known !== undefined) return const32(Number(BigInt.asIntN(32, this.known)));
    return i32("i32.wrap_i64", this);
  }
  /** The bits as a float. */
  asF64(): F64 {
    return f64("f64.reinterpret_i64", this);
  }
  toF64S(): F64 {
    return f64("f64.convert_i64_s", this);
  }
  toF64U(): F64 {
    return f64("f64.convert_i64_u", this);
  }
  toF32S(): F32 {
    return f32("f32.convert_i64_s", this);
  }
  toF32U(): F32 {
    return f32("f32.convert_i64_u", this);
  }
  splat(): V128 {
    return v128("i64x2.splat", this);
  }
}

export class F32 extends Value {
  readonly type = "f32";
  add(other: F32): F32 {
    return f32("f32.add", this, other);
  }
  sub(other: F32): F32 {
    return f32("f32.sub", this, other);
  }
  mul(other: F32): F32 {
    return f32("f32.mul", this, other);
  }
  div(other: F32): F32 {
    return f32("f32.div", this, other);
  }
  sqrt(): F32 {
    return f32("f32.sqrt", this);
  }
  /** f32.abs, ceil, floor, trunc, nearest, neg. */
  unary(name: OpName): F32 {
    return f32(name, this);
  }
  eq(other: F32): I32 {
    return i32("f32.eq", this, other);
  }
  lt(other: F32): I32 {
    return i32("f32.lt", this, other);
  }
  gt(other: F32): I32 {
    return i32("f32.gt", this, other);
  }
  /** The bits as an integer. */
  bits(): I32 {
    return i32("i32.reinterpret_f32", this);
  }
  promote(): F64 {
    return f64("f64.promote_f32", this);
  }
}

export class F64 extends Value {
  readonly type = "f64";
  add(other: F64): F64 {
    return f64("f64.add", this, other);
  }
  sub(other: F64): F64 {
    return f64("f64.sub", this, other);
  }
  mul(other: F64): F64 {
    return f64("f64.mul", this, other);
  }
  div(other: F64): F64 {
    return f64("f64.div", this, other);
  }
  sqrt(): F64 {
    return f64("f64.sqrt", this);
  }
  /** f64.abs, ceil, floor, trunc, nearest, neg. */
  unary(name: OpName): F64 {
    return f64(name, this);
  }
  eq(other: F64): I32 {
    return i32("f64.eq", this, other);
  }
  lt(other: F64): I32 {
    return i32("f64.lt", this, other);
  }
  gt(other: F64): I32 {
    return i32("f64.gt", this, other);
  }
  /** The bits as an integer. */
  bits(): I64 {
    return i64("i64.reinterpret_f64", this);
  }
  demote(): F32 {
    return f32("f32.demote_f64", this);
  }
}

/** Sixteen bytes. Lane shapes are in the operator's name, as WebAssembly spells it. */
export class V128 extends Value {
  readonly type = "v128";
  /** An operator of one operand: "i8x16.abs", … */
  unary(name: OpName): V128 {
    return v128(name, this);
  }
  /** An operator of two operands, this one first: "i32x4.add", "i8x16.swizzle", … */
  binary(name: OpName, other: V128): V128 {
    return v128(name, this, other);
  }
  /** A shift by the same amount in every lane: "i16x8.shr_u", … Wasm takes it modulo the width. */
  shift(name: OpName, amount: Arg32): V128 {
    return v128(name, this, as32(amount));
  }
  /** A reduction: "v128.any_true", "i8x16.all_true", "i8x16.bitmask", … */
  reduce(name: OpName): I32 {
    return i32(name, this);
  }
  not(): V128 {
    return v128("v128.not", this);
  }
  and(other: V128): V128 {
    return v128("v128.and", this, other);
  }
  or(other: V128): V128 {
    return v128("v128.or", this, other);
  }
  xor(other: V128): V128 {
    return v128("v128.xor", this, other);
  }
  /** This AND NOT other. */
  andNot(other: V128): V128 {
    return v128("v128.andnot", this, other);
  }
  /** Bits of `whenSet` where this mask is 1, of `whenClear` where it is 0. */
  bitselect(whenSet: V128, whenClear: V128): V128 {
    return v128("v128.bitselect", whenSet, whenClear, this);
  }
  /** @param lanes sixteen of 0..31: bytes of this, then of `other` */
  shuffle(other: V128, lanes: readonly number[]): V128 {
    assert(lanes.length === 16 && lanes.every((l) => l >= 0 && l < 32), "a shuffle has 16 lanes");
    const write = (w: ByteWriter): void => {
      this.write(w);
      other.write(w);
      w.byte(0xfd);
      w.unsigned(13);
      w.bytes(lanes);
    };
    return new V128(write);
  }
  #lane(name: ExtractName, index: number): Value {
    const row = EXTRACT[name];
    return make(row.result, (w) => {
      this.write(w);
      w.byte(0xfd);
      w.unsigned(row.code);
      w.byte(index);
    });
  }
  /** One lane as i32: of i8x16 and i16x8 with the sign or zeros, of i32x4 as it is. */
  lane32(shape: "i8x16" | "i16x8" | "i32x4", index: number, signed = false): I32 {
    const name = shape === "i32x4" ? "i32x4.extract_lane" : `${shape}.extract_lane_${su(signed)}`;
    return this.#lane(name as ExtractName, index) as I32;
  }
  lane64(index: number): I64 {
    return this.#lane("i64x2.extract_lane", index) as I64;
  }
  laneF32(index: number): F32 {
    return this.#lane("f32x4.extract_lane", index) as F32;
  }
  laneF64(index: number): F64 {
    return this.#lane("f64x2.extract_lane", index) as F64;
  }
  /** This with one lane replaced. */
  replace(shape: "i8x16" | "i16x8" | "i32x4" | "i64x2", index: number, value: I32 | I64): V128 {
    const row = REPLACE[`${shape}.replace_lane` as ReplaceName];
    assert(value.type === row.result, `a lane of ${shape} is ${row.result}`);
    const write = (w: ByteWriter): void => {
      this.write(w);
      value.write(w);
      w.byte(0xfd);
      w.unsigned(row.code);
      w.byte(index);
    };
    return new V128(write);
  }
}

const su = (signed: boolean): "s" | "u" => (signed ? "s" : "u");
