// Owns: scalar floating-point operands: taking them out of registers, putting results there.
// VM thread.
import { constV, type I64, type V128 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import type { VReg } from "../operand.js";

/** Formats by the `type` field; 1 and 0 are double and single by `sz`. */
export type FpSize = 32 | 64;

/** One lane as the bits of a number, extended with zeros. */
export function fpLane(v: V128, width: FpSize, lane: number): I64 {
  return width === 64 ? v.lane64(lane) : v.lane32("i32x4", lane).extendU();
}

export function fpScalar(a: Asm, reg: VReg, width: FpSize): I64 {
  return a.keep(fpLane(a.v(reg), width, 0));
}

/** A half as the bits of a number. */
export function fpHalf(a: Asm, reg: VReg): I64 {
  return a.keep(a.v(reg).lane32("i16x8", 0).extendU());
}

export const signBit = (width: 16 | FpSize): bigint => 1n << BigInt(width - 1);
export const negated = (x: I64, width: FpSize): I64 => x.xor(signBit(width));
export const absolute = (x: I64, width: FpSize): I64 => x.and(signBit(width) - 1n);

/** The same of every lane. */
export function negatedLanes(v: V128, width: FpSize): V128 {
  return v.xor(signs(width));
}
export function absoluteLanes(v: V128, width: FpSize): V128 {
  return v.andNot(signs(width));
}
function signs(width: FpSize): V128 {
  const half = width === 64 ? signBit(64) : (signBit(32) << 32n) | signBit(32);
  return constV(half, half);
}
