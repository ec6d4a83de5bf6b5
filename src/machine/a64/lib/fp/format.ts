// Owns: floating-point formats, and taking numbers apart. VM thread.
//
// A finite number is sign, exponent, significand: sig / 2^62 × 2^exp with 2^62 ≤ sig < 2^63, or
// sig = 0. Ten or more low bits of a fresh significand are 0; operations leave a sticky bit 0.
// @source Arm ARM J1, shared/functions/float (FPUnpack, FPProcessNaN, …)
import { const32, const64, type I32, type I64 } from "../../../../base/wasm/value.js";
import { FPCR, FPSR } from "../../window.js";
import type { LibScope } from "../function.js";

export type FpWidth = 16 | 32 | 64;

export interface Format {
  readonly width: FpWidth;
  readonly fractionBits: number;
  readonly exponentMax: number;
  readonly bias: number;
}
export const FORMATS: Readonly<Record<FpWidth, Format>> = {
  16: { width: 16, fractionBits: 10, exponentMax: 31, bias: 15 },
  32: { width: 32, fractionBits: 23, exponentMax: 255, bias: 127 },
  64: { width: 64, fractionBits: 52, exponentMax: 2047, bias: 1023 },
};

/** FPSR cumulative bits. */
export const FLAG = { IOC: 1, DZC: 2, OFC: 4, UFC: 8, IXC: 16, IDC: 128 } as const;
/** FPCR. */
export const CONTROL = { RMODE_SHIFT: 22, FZ: 1 << 24, DN: 1 << 25, AHP: 1 << 26 } as const;
/** FPCR.RMode, and two modes that only instructions name. */
export const ROUNDING = {
  nearest: 0,
  plus: 1,
  minus: 2,
  zero: 3,
  away: 4,
  fpcr: 5,
  odd: 6,
} as const;

/** Exponent of a zero: smaller than that of any number, whatever is added to it. */
const ZERO_EXPONENT = -100_000;

export const fractionMask = (f: Format): bigint => (1n << BigInt(f.fractionBits)) - 1n;
export const signShift = (f: Format): number => f.width - 1;
export const infinity = (f: Format): bigint => BigInt(f.exponentMax) << BigInt(f.fractionBits);
export const quietBit = (f: Format): bigint => 1n << BigInt(f.fractionBits - 1);
export const defaultNan = (f: Format): bigint => infinity(f) | quietBit(f);
export const largest = (f: Format): bigint => infinity(f) - 1n;

export function fpcr(s: LibScope): I32 {
  return s.c.load32(s.cpu, FPCR);
}

/** Sets cumulative flags. */
export function raise(s: LibScope, flags: number | I32): void {
  s.c.store("i32.store", s.cpu, FPSR, s.c.load32(s.cpu, FPSR).or(flags));
}

/** FPCR.RMode. */
export function roundingMode(s: LibScope): I32 {
  return s.c.keep(fpcr(s).shrU(CONTROL.RMODE_SHIFT).and(3));
}

/** The mode that an operand names, where 5 is "as FPCR says". */
export function chosenMode(s: LibScope, rounding: I32): I32 {
  return s.c.keep(rounding.eq(ROUNDING.fpcr).select(roundingMode(s), rounding));
}

export function magnitude(f: Format, x: I64): I64 {
  return x.and((1n << BigInt(signShift(f))) - 1n);
}
export function signOf(f: Format, x: I64): I64 {
  return x.shrU(signShift(f)).and(1);
}
export function withSign(f: Format, sign: I64, value: I64 | bigint): I64 {
  return sign.shl(signShift(f)).or(value);
}

export function isNan(f: Format, x: I64): I32 {
  return magnitude(f, x).gtU(infinity(f));
}
export function isInfinite(f: Format, x: I64): I32 {
  return magnitude(f, x).eq(infinity(f));
}
/** A denormal that FPCR.FZ makes a zero is none here: see flush(). */
export function isZero(f: Format, x: I64): I32 {
  return magnitude(f, x).eqz();
}
export function isSignalling(f: Format, x: I64): I32 {
  return isNan(f, x).and(x.and(quietBit(f)).eqz());
}

/** With FPCR.FZ a denormal operand becomes a zero of its sign, and IDC tells. Not for halves. */
export function flush(s: LibScope, f: Format, x: I64): I64 {
  if (f.width === 16) return x;
  const { c } = s;
  const value = c.variable("i64");
  value.set(x);
  c.if(fpcr(s).and(CONTROL.FZ), () => {
    const low = c.keep(magnitude(f, x));
    const isDenormal = low.sub(1).ltU(fractionMask(f));
    c.if(isDenormal, () => {
      value.set(x.sub(low));
      raise(s, FLAG.IDC);
    });
  });
  return c.keep(value.get());
}

export interface Unpacked {
  /** 0 or 1. */
  readonly sign: I64;
  readonly exp: I32;
  readonly sig: I64;
}

/** Takes a finite number apart; its exponent field must not be the largest, unless `all`. */
export function unpack(s: LibScope, f: Format, x: I64): Unpacked {
  const { c } = s;
  const exp = c.variable("i32");
  const sig = c.variable("i64");
  const field = c.keep(x.shrU(f.fractionBits).wrap().and(f.exponentMax));
  const fraction = c.keep(x.and(fractionMask(f)));
  c.if(
    field,
    () => {
      exp.set(field.sub(f.bias));
      sig.set(fraction.or(1n << BigInt(f.fractionBits)).shl(62 - f.fractionBits));
    },
    () =>
      c.if(
        fraction.eqz(),
        () => {
          exp.set(const32(ZERO_EXPONENT));
          sig.set(const64(0));
        },
        () => {
          const zeros = c.keep(fraction.clz());
          sig.set(fraction.shl(zeros.sub(1)));
          exp.set(const32(64 - f.bias - f.fractionBits).sub(zeros.wrap()));
        },
      ),
  );
  return { sign: c.keep(signOf(f, x)), exp: c.keep(exp.get()), sig: c.keep(sig.get()) };
}

/** x >> by with everything shifted out or-ed into bit 0, for any `by` from 0 up. */
export function shiftSticky(s: LibScope, x: I64, by: I32): I64 {
  const { c } = s;
  const wide = c.keep(by.extendU());
  const lost = c.keep(x.and(const64(-1).shl(wide).not()).eqz().eqz().extendU());
  const near = c.keep(x.shrU(wide).or(lost));
  return c.keep(by.gtU(63).select(x.eqz().eqz().extendU(), near));
}

/** Moves a significand that is not 0 up until its highest bit is bit 62. @returns [sig, exp] */
export function normalize(s: LibScope, sig: I64, exp: I32): readonly [I64, I32] {
  const up = s.c.keep(sig.clz().sub(1));
  return [s.c.keep(sig.shl(up)), s.c.keep(exp.sub(up.wrap()))];
}
