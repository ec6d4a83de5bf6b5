// Owns: add, subtract, multiply, divide, square root. VM thread.
// @source Arm ARM J1, FPAdd, FPSub, FPMul, FPMulX, FPDiv, FPSqrt
//
// Each begins with WebAssembly's own operator where that is exact to the bit and to the flag:
// rounding to nearest without flushing, IXC set already, and a result that is normal with room.
import {
  const32,
  const64,
  type F32,
  type F64,
  type I32,
  type I64,
} from "../../../../base/wasm/value.js";
import { FPCR, FPSR } from "../../window.js";
import { type LibScope, lib } from "../function.js";
import { MUL_HIGH_U } from "../multiply.js";
import {
  CONTROL,
  FLAG,
  type Format,
  flush,
  infinity,
  isInfinite,
  isZero,
  magnitude,
  normalize,
  ROUNDING,
  raise,
  roundingMode,
  shiftSticky,
  signOf,
  unpack,
  withSign,
} from "./format.js";
import { byFormat, returnInvalid, returnNans } from "./nan.js";
import { FP_ROUND } from "./round.js";

/** RMode and FZ: with both 0, rounding is Wasm's. */
const PLAIN = (3 << CONTROL.RMODE_SHIFT) | CONTROL.FZ;

/** 1 when Wasm's arithmetic may stand for ours, as far as control and flags say. */
export function mayBeFast(s: LibScope): I32 {
  const { c, cpu } = s;
  const plain = c.load32(cpu, FPCR).and(PLAIN).eqz();
  return plain.and(c.load32(cpu, FPSR).shrU(4));
}

/** Returns a result of Wasm's when it is surely neither tiny, infinite nor a NaN. */
export function returnNormal(s: LibScope, f: Format, bits: I64): void {
  const { c } = s;
  // Twice the smallest normal number or more: nothing was tiny before it was rounded.
  const low = 2n << BigInt(f.fractionBits);
  const kept = c.keep(bits);
  c.if(
    magnitude(f, kept)
      .sub(low)
      .ltU(infinity(f) - low),
    () => c.return(kept),
  );
}

type Native = (x: F64, y: F64) => F64;
type Native32 = (x: F32, y: F32) => F32;

function fast(s: LibScope, f: Format, a: I64, b: I64, op64: Native, op32: Native32): void {
  s.c.if(mayBeFast(s), () => {
    if (f.width === 64) returnNormal(s, f, op64(a.asF64(), b.asF64()).bits());
    else returnNormal(s, f, op32(a.wrap().asF32(), b.wrap().asF32()).bits().extendU());
  });
}

/** Adds two numbers that are not both zero nor NaN nor infinite. */
function sum(s: LibScope, f: Format, a: I64, b: I64): void {
  const { c } = s;
  const [x, y] = [unpack(s, f, a), unpack(s, f, b)];
  const mode = roundingMode(s);
  const aFirst = c.keep(x.exp.geS(y.exp));
  const exp = c.keep(aFirst.select(x.exp, y.exp));
  const distance = c.keep(exp.sub(aFirst.select(y.exp, x.exp)));
  const large = c.keep(aFirst.select(x.sig, y.sig));
  const small = shiftSticky(s, c.keep(aFirst.select(y.sig, x.sig)), distance);
  const largeSign = c.keep(aFirst.select(x.sign, y.sign));
  const sig = c.variable("i64");
  const sign = c.variable("i64");
  sign.set(largeSign);
  c.if(
    x.sign.eq(y.sign),
    () => sig.set(large.add(small)),
    () => {
      sig.set(large.sub(small));
      c.if(sig.get().ltS(0), () => {
        sig.set(sig.get().neg());
        sign.set(largeSign.xor(1));
      });
    },
  );
  // Equal ones cancel to +0, but to -0 when rounding down.
  c.if(sig.get().eqz(), () => {
    const same = c.keep(x.sign.eq(y.sign));
    const exact = mode.eq(ROUNDING.minus).extendU();
    c.return(withSign(f, c.keep(same.select(x.sign, exact)), 0n));
  });
  c.if(sig.get().ltS(0), () => {
    const halved = shiftSticky(s, c.keep(sig.get()), const32(1));
    c.return(s.call(FP_ROUND[f.width], sign.get(), exp.add(1), halved, mode));
  });
  const [up, at] = normalize(s, c.keep(sig.get()), exp);
  c.return(s.call(FP_ROUND[f.width], sign.get(), at, up, mode));
}

function addOrSub(name: string, subtracts: boolean) {
  return byFormat((f) =>
    lib(`${name}_${f.width}`, ["i64", "i64"], "i64", (s, a, second) => {
      const { c } = s;
      const ops = subtracts
        ? ([(x: F64, y: F64) => x.sub(y), (x: F32, y: F32) => x.sub(y)] as const)
        : ([(x: F64, y: F64) => x.add(y), (x: F32, y: F32) => x.add(y)] as const);
      fast(s, f, a, second, ...ops);
      const [x, other] = [flush(s, f, a), flush(s, f, second)];
      returnNans(s, f, x, other);
      const y = c.keep(subtracts ? other.xor(1n << BigInt(f.width - 1)) : other);
      const [xInf, yInf] = [c.keep(isInfinite(f, x)), c.keep(isInfinite(f, y))];
      c.if(xInf.and(yInf).and(x.ne(y)), () => returnInvalid(s, f));
      c.if(xInf, () => c.return(x));
      c.if(yInf, () => c.return(y));
      sum(s, f, x, y);
    }),
  );
}
export const FP_ADD = addOrSub("fp_add", false);
export const FP_SUB = addOrSub("fp_sub", true);

/** The product of two significands, its highest bit at 62, with a sticky bit; exp is the sum. */
export function multiplySigs(s: LibScope, x: I64, y: I64, exp: I32): readonly [I64, I32] {
  const { c } = s;
  const [a, b] = [c.keep(x.shl(1)), c.keep(y.shl(1))];
  const high = s.call(MUL_HIGH_U, a, b);
  const sticky = c.keep(high.or(a.mul(b).eqz().eqz().extendU()));
  const carries = c.keep(sticky.ltS(0));
  const halved = c.keep(sticky.shrU(1).or(sticky.and(1)));
  return [c.keep(carries.select(halved, sticky)), c.keep(exp.add(carries))];
}

/** @param extended FMULX: infinity times zero is 2 */
function multiply(name: string, extended: boolean) {
  return byFormat((f) =>
    lib(`${name}_${f.width}`, ["i64", "i64"], "i64", (s, a, b) => {
      const { c } = s;
      fast(
        s,
        f,
        a,
        b,
        (x, y) => x.mul(y),
        (x, y) => x.mul(y),
      );
      const [x, y] = [flush(s, f, a), flush(s, f, b)];
      returnNans(s, f, x, y);
      const sign = c.keep(signOf(f, x).xor(signOf(f, y)));
      const infinite = c.keep(isInfinite(f, x).or(isInfinite(f, y)));
      const zero = c.keep(isZero(f, x).or(isZero(f, y)));
      c.if(infinite.and(zero), () => {
        const two = BigInt(f.bias + 1) << BigInt(f.fractionBits);
        if (extended) c.return(withSign(f, sign, two));
        else returnInvalid(s, f);
      });
      c.if(infinite, () => c.return(withSign(f, sign, infinity(f))));
      c.if(zero, () => c.return(withSign(f, sign, 0n)));
      const [p, q] = [unpack(s, f, x), unpack(s, f, y)];
      const [sig, exp] = multiplySigs(s, p.sig, q.sig, c.keep(p.exp.add(q.exp)));
      c.return(s.call(FP_ROUND[f.width], sign, exp, sig, roundingMode(s)));
    }),
  );
}
export const FP_MUL = multiply("fp_mul", false);
export const FP_MULX = multiply("fp_mulx", true);

/** x / y of significands, bit by bit: its highest bit at 62, with a sticky bit. */
function divideSigs(s: LibScope, x: I64, y: I64, exp: I32): readonly [I64, I32] {
  const { c } = s;
  const rest = c.variable("i64");
  const quotient = c.variable("i64");
  const left = c.variable("i32");
  const isLess = c.keep(x.ltU(y));
  rest.set(x.shl(isLess.extendU()));
  quotient.set(const64(0));
  left.set(const32(63));
  c.loop((next) => {
    const fits = c.keep(rest.get().geU(y));
    quotient.set(quotient.get().shl(1).or(fits.extendU()));
    rest.set(rest.get().sub(fits.extendU().neg().and(y)).shl(1));
    left.set(left.get().sub(1));
    c.branchIf(left.get(), next);
  });
  const sig = c.keep(quotient.get().or(rest.get().eqz().eqz().extendU()));
  return [sig, c.keep(exp.sub(isLess))];
}

export const FP_DIV = byFormat((f) =>
  lib(`fp_div_${f.width}`, ["i64", "i64"], "i64", (s, a, b) => {
    const { c } = s;
    fast(
      s,
      f,
      a,
      b,
      (x, y) => x.div(y),
      (x, y) => x.div(y),
    );
    const [x, y] = [flush(s, f, a), flush(s, f, b)];
    returnNans(s, f, x, y);
    const sign = c.keep(signOf(f, x).xor(signOf(f, y)));
    const [xInf, yInf] = [c.keep(isInfinite(f, x)), c.keep(isInfinite(f, y))];
    const [xZero, yZero] = [c.keep(isZero(f, x)), c.keep(isZero(f, y))];
    c.if(xInf.and(yInf).or(xZero.and(yZero)), () => returnInvalid(s, f));
    c.if(xInf.or(yZero), () => {
      c.if(xInf.eqz(), () => raise(s, FLAG.DZC));
      c.return(withSign(f, sign, infinity(f)));
    });
    c.if(xZero.or(yInf), () => c.return(withSign(f, sign, 0n)));
    const [p, q] = [unpack(s, f, x), unpack(s, f, y)];
    const [sig, exp] = divideSigs(s, p.sig, q.sig, c.keep(p.exp.sub(q.exp)));
    c.return(s.call(FP_ROUND[f.width], sign, exp, sig, roundingMode(s)));
  }),
);

/** Low bits of a significand that come from no operand of 53 bits. */
const SPARE = 10;

/**
 * The root of m × 2^e with m = sig or 2 × sig so that e is even. Wasm's root of 53 bits is nearest;
 * whether the true one is above or below it tells its exact square.
 */
function root(s: LibScope, sig: I64, odd: I32): I64 {
  const { c } = s;
  // 2^52 ≤ m < 2^54, exactly representable; its root times 2^26 has 53 bits.
  const m = c.keep(sig.shrU(SPARE).shl(odd.extendU()));
  const scaled = c.keep(m.toF64U().sqrt().bits());
  const r = c.keep(scaled.and((1n << 52n) - 1n).or(1n << 52n));
  // The biased exponent says whether r stands for r / 2^26 or twice that: m = r² × 2^-52 or -50.
  const exponent = c.keep(scaled.shrU(52).wrap().sub(1023));
  const squareHigh = s.call(MUL_HIGH_U, r, r);
  const squareLow = c.keep(r.mul(r));
  const up = c.keep(const32(104).sub(exponent.shl(1)).extendU());
  // m × 2^(104 - 2 × exponent) against r²; the shift is 52 or 50, so both fit 128 bits.
  const low = c.keep(m.shl(up));
  const high = c.keep(m.shrU(const64(64).sub(up)));
  const isMore = high.gtU(squareHigh).or(high.eq(squareHigh).and(low.gtU(squareLow)));
  const isLess = high.ltU(squareHigh).or(high.eq(squareHigh).and(low.ltU(squareLow)));
  const exact = c.keep(r.shl(exponent.sub(16).extendU()));
  return c.keep(exact.add(isMore.extendU()).sub(isLess.extendU()));
}

export const FP_SQRT = byFormat((f) =>
  lib(`fp_sqrt_${f.width}`, ["i64"], "i64", (s, a) => {
    const { c } = s;
    fast(
      s,
      f,
      a,
      a,
      (x) => x.sqrt(),
      (x) => x.sqrt(),
    );
    returnNans(s, f, a);
    const x = flush(s, f, a);
    c.if(isZero(f, x), () => c.return(x));
    c.if(signOf(f, x).wrap(), () => returnInvalid(s, f));
    c.if(isInfinite(f, x), () => c.return(x));
    const { exp, sig } = unpack(s, f, x);
    const odd = c.keep(exp.and(1));
    const half = c.keep(exp.sub(odd).shrS(1));
    const up = root(s, sig, odd);
    // A root just below a power of two has its highest bit one lower.
    const [at, e] = normalize(s, up, half);
    c.return(s.call(FP_ROUND[f.width], const64(0), e, at, roundingMode(s)));
  }),
);
