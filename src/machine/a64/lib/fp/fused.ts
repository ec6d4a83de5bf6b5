// Owns: multiply-add with one rounding, and the steps of reciprocals that are built on it.
// VM thread.
// @source Arm ARM J1, FPMulAdd, FPRecipStepFused, FPRSqrtStepFused
import { const32, const64, type F64, type I32, type I64 } from "../../../../base/wasm/value.js";
import { type LibFunction, type LibScope, lib } from "../function.js";
import { MUL_HIGH_U } from "../multiply.js";
import { mayBeFast, returnNormal } from "./arith.js";
import {
  type Format,
  flush,
  infinity,
  isInfinite,
  isNan,
  isSignalling,
  isZero,
  ROUNDING,
  roundingMode,
  signOf,
  unpack,
  withSign,
} from "./format.js";
import { byFormat, returnInvalid, returnNans } from "./nan.js";
import { FP_ROUND } from "./round.js";

/** A significand of 127 bits: its highest bit is bit 62 of `high`. */
interface Wide {
  readonly high: I64;
  readonly low: I64;
}

/** Shifted right by any amount from 0 up, with a sticky bit 0. */
function shiftWide(s: LibScope, { high, low }: Wide, by: I32): Wide {
  const { c } = s;
  const [h, l] = [c.variable("i64"), c.variable("i64")];
  h.set(high);
  l.set(low);
  const left = c.variable("i32");
  left.set(by);
  c.if(left.get().gtU(63), () => {
    l.set(h.get().or(l.get().eqz().eqz().extendU()));
    h.set(const64(0));
    left.set(left.get().sub(64));
    c.if(left.get().gtU(63), () => {
      l.set(l.get().eqz().eqz().extendU());
      left.set(const32(0));
    });
  });
  c.if(left.get(), () => {
    const n = c.keep(left.get().extendU());
    const lost = l.get().and(const64(-1).shl(n).not()).eqz().eqz().extendU();
    const crossed = h.get().shl(const64(64).sub(n));
    l.set(l.get().shrU(n).or(crossed).or(lost));
    h.set(h.get().shrU(n));
  });
  return { high: c.keep(h.get()), low: c.keep(l.get()) };
}

/** x - y of wide ones, and whether it was below 0 (then it is negated). */
function difference(s: LibScope, x: Wide, y: Wide): Wide & { readonly negative: I32 } {
  const { c } = s;
  const low = c.keep(x.low.sub(y.low));
  const high = c.keep(x.high.sub(y.high).sub(x.low.ltU(y.low).extendU()));
  const negative = c.keep(high.ltS(0));
  const mask = c.keep(negative.extendU().neg());
  const flippedLow = c.keep(low.xor(mask).sub(mask));
  const borrow = negative.and(low.eqz());
  const flippedHigh = c.keep(high.xor(mask).add(borrow.extendU()));
  return { high: flippedHigh, low: flippedLow, negative };
}

/**
 * addend + n × m of finite numbers, n and m not 0, halved if asked; rounded once.
 * @param sign of the product
 */
function fused(s: LibScope, f: Format, addend: I64, n: I64, m: I64, halves: boolean): void {
  const { c } = s;
  const [p, q, a] = [unpack(s, f, n), unpack(s, f, m), unpack(s, f, addend)];
  const mode = roundingMode(s);
  const sign = c.keep(p.sign.xor(q.sign));
  // Both with their highest bit at 63, so the product has it at 126 or 127 of 128: moved to 126.
  const [x, y] = [c.keep(p.sig.shl(1)), c.keep(q.sig.shl(1))];
  const [high, low] = [s.call(MUL_HIGH_U, x, y), c.keep(x.mul(y))];
  const carries = c.keep(high.ltS(0));
  const by = c.keep(carries.extendU());
  const product: Wide = {
    // Operands have 53 bits, so nothing is lost from the lowest ones.
    low: c.keep(low.shrU(by).or(carries.select(c.keep(high.shl(63)), const64(0)))),
    high: c.keep(high.shrU(by)),
  };
  const exp = c.keep(p.exp.add(q.exp).add(carries));
  const productFirst = c.keep(exp.geS(a.exp));
  const top = c.keep(productFirst.select(exp, a.exp));
  const distance = c.keep(top.sub(productFirst.select(a.exp, exp)));
  const zero = const64(0);
  const larger: Wide = {
    high: c.keep(productFirst.select(product.high, a.sig)),
    low: c.keep(productFirst.select(product.low, zero)),
  };
  const smaller = shiftWide(
    s,
    {
      high: c.keep(productFirst.select(a.sig, product.high)),
      low: c.keep(productFirst.select(zero, product.low)),
    },
    distance,
  );
  const largerSign = c.keep(productFirst.select(sign, a.sign));
  const [h, l, resultSign] = [c.variable("i64"), c.variable("i64"), c.variable("i64")];
  resultSign.set(largerSign);
  c.if(
    sign.eq(a.sign),
    () => {
      l.set(larger.low.add(smaller.low));
      h.set(larger.high.add(smaller.high).add(l.get().ltU(larger.low).extendU()));
    },
    () => {
      const d = difference(s, larger, smaller);
      l.set(d.low);
      h.set(d.high);
      resultSign.set(largerSign.xor(d.negative.extendU()));
    },
  );
  finish(s, f, h, l, resultSign.get(), top, mode, halves);
}

function finish(
  s: LibScope,
  f: Format,
  h: { get(): I64; set(v: I64): void },
  l: { get(): I64; set(v: I64): void },
  resultSign: I64,
  top: I32,
  mode: I32,
  halves: boolean,
): void {
  const { c } = s;
  const exp = c.variable("i32");
  exp.set(halves ? top.sub(1) : top);
  c.if(h.get().or(l.get()).eqz(), () => {
    c.return(withSign(f, mode.eq(ROUNDING.minus).extendU(), 0n));
  });
  c.if(h.get().ltS(0), () => {
    // A carry: one bit right, sticky.
    l.set(l.get().shrU(1).or(h.get().shl(63)).or(l.get().and(1)));
    h.set(h.get().shrU(1));
    exp.set(exp.get().add(1));
  });
  c.if(h.get().eqz(), () => {
    // Everything cancelled above: the low word moves up, a bit short so that 63 stays free.
    h.set(l.get().shrU(1));
    l.set(l.get().shl(63));
    exp.set(exp.get().sub(63));
  });
  const up = c.keep(h.get().clz().sub(1));
  c.if(up.eqz().eqz(), () => {
    h.set(
      h
        .get()
        .shl(up)
        .or(l.get().shrU(const64(64).sub(up))),
    );
    l.set(l.get().shl(up));
    exp.set(exp.get().sub(up.wrap()));
  });
  const sig = c.keep(h.get().or(l.get().eqz().eqz().extendU()));
  c.return(s.call(FP_ROUND[f.width], resultSign, exp.get(), sig, mode));
}

/** x + y, and what rounding lost of it. */
function twoSum(s: LibScope, x: F64, y: F64): readonly [F64, F64] {
  const { c } = s;
  const sum = c.keep(x.add(y));
  const ofY = c.keep(sum.sub(x));
  return [sum, c.keep(x.sub(sum.sub(ofY)).add(y.sub(ofY)))];
}

/** x + y rounded to odd: what is inexact ends in a one, so that rounding again does no harm. */
function oddSum(s: LibScope, x: F64, y: F64): F64 {
  const { c } = s;
  const [sum, error] = twoSum(s, x, y);
  const bits = c.keep(sum.bits());
  const errorBits = c.keep(error.bits());
  const isEven = error.eq(const64(0).asF64()).eqz().and(bits.and(1).wrap().eqz());
  const outward = bits.xor(errorBits).geS(0).select(const64(1), const64(-1));
  return c.keep(bits.add(isEven.select(outward, const64(0)))).asF64();
}

/** 2^27 + 1, as the bits of a double. */
const SPLITTER = 0x41a0_0000_0200_0000n;

/** Upper and lower half of a significand. */
function split(s: LibScope, x: F64): readonly [F64, F64] {
  const { c } = s;
  const scaled = c.keep(x.mul(const64(SPLITTER).asF64()));
  const high = c.keep(scaled.sub(scaled.sub(x)));
  return [high, c.keep(x.sub(high))];
}

/** Exponent fields between which no step below overflows or loses bits. */
const SAFE_LOW = 123;
const SAFE_COUNT = 1800;
const SAFE_PRODUCT_LOW = 1146;

/**
 * The same by WebAssembly's operators, where control and flags allow it and exponents have room:
 * the product without error, added in an order in which only the last step rounds to nearest.
 * @source Boldo and Melquiond, emulation of a fused multiply-add by rounding to odd
 */
function fastFused64(s: LibScope, f: Format, addend: I64, n: I64, m: I64): void {
  const { c } = s;
  const field = (x: I64): I32 => c.keep(x.shrU(f.fractionBits).wrap().and(f.exponentMax));
  const [fn, fm, fa] = [field(n), field(m), field(addend)];
  const isSafe = (x: I32): I32 => x.sub(SAFE_LOW).ltU(SAFE_COUNT);
  const hasRoom = fn.add(fm).sub(SAFE_PRODUCT_LOW).ltU(SAFE_COUNT);
  c.if(mayBeFast(s).and(isSafe(fn)).and(isSafe(fm)).and(isSafe(fa)).and(hasRoom), () => {
    const [x, y, z] = [n, m, addend].map((bits) => c.keep(bits.asF64())) as [F64, F64, F64];
    const product = c.keep(x.mul(y));
    const [[xh, xl], [yh, yl]] = [split(s, x), split(s, y)];
    const crossed = xh.mul(yh).sub(product).add(xh.mul(yl)).add(xl.mul(yh));
    const rest = c.keep(crossed.add(xl.mul(yl)));
    const [th, tl] = twoSum(s, z, rest);
    const [vh, vl] = twoSum(s, product, th);
    returnNormal(s, f, vh.add(oddSum(s, tl, vl)).bits());
  });
}

/** In double precision the product of singles is exact; its sum is rounded to odd, then once. */
function fastFused32(s: LibScope, f: Format, addend: I64, n: I64, m: I64): void {
  const { c } = s;
  c.if(mayBeFast(s), () => {
    const wide = (x: I64): F64 => c.keep(x.wrap().asF32().promote());
    const product = c.keep(wide(n).mul(wide(m)));
    returnNormal(s, f, oddSum(s, product, wide(addend)).demote().bits().extendU());
  });
}

/** (addend, n, m) → addend + n × m. */
export const FP_MULADD = byFormat((f) =>
  lib(`fp_muladd_${f.width}`, ["i64", "i64", "i64"], "i64", (s, addend, n, m) => {
    const { c } = s;
    if (f.width === 64) fastFused64(s, f, addend, n, m);
    else fastFused32(s, f, addend, n, m);
    const [a, x, y] = [flush(s, f, addend), flush(s, f, n), flush(s, f, m)];
    const invalid = c.keep(
      isInfinite(f, x)
        .and(isZero(f, y))
        .or(isZero(f, x).and(isInfinite(f, y))),
    );
    // Even with a quiet NaN as addend, infinity times zero is invalid.
    const quiet = isNan(f, a).and(isSignalling(f, a).eqz());
    c.if(invalid.and(quiet), () => returnInvalid(s, f));
    returnNans(s, f, a, x, y);
    const sign = c.keep(signOf(f, x).xor(signOf(f, y)));
    const infinite = c.keep(isInfinite(f, x).or(isInfinite(f, y)));
    const aInfinite = c.keep(isInfinite(f, a));
    const opposite = signOf(f, a).ne(sign);
    c.if(invalid.or(infinite.and(aInfinite).and(opposite)), () => returnInvalid(s, f));
    c.if(infinite, () => c.return(withSign(f, sign, infinity(f))));
    c.if(aInfinite, () => c.return(a));
    const zero = c.keep(isZero(f, x).or(isZero(f, y)));
    c.if(zero.and(isZero(f, a)), () => {
      const minus = roundingMode(s).eq(ROUNDING.minus).extendU();
      const same = c.keep(signOf(f, a).eq(sign));
      c.return(withSign(f, c.keep(same.select(sign, minus)), 0n));
    });
    c.if(zero, () => {
      const u = unpack(s, f, a);
      c.return(s.call(FP_ROUND[f.width], u.sign, u.exp, u.sig, roundingMode(s)));
    });
    c.if(isZero(f, a), () => fused(s, f, c.keep(withSign(f, sign, 0n)), x, y, false));
    fused(s, f, a, x, y, false);
  }),
);

/** constant - a × b, halved or not: one step of Newton's iteration. */
function step(
  name: string,
  constant: (f: Format) => bigint,
  product: (f: Format) => bigint,
  halves: boolean,
) {
  return byFormat(
    (f): LibFunction<"i64"> =>
      lib(`${name}_${f.width}`, ["i64", "i64"], "i64", (s, a, b) => {
        const { c } = s;
        const negated = c.keep(a.xor(1n << BigInt(f.width - 1)));
        const [x, y] = [flush(s, f, negated), flush(s, f, b)];
        returnNans(s, f, x, y);
        const infinite = c.keep(isInfinite(f, x).or(isInfinite(f, y)));
        const zero = c.keep(isZero(f, x).or(isZero(f, y)));
        // Infinity times zero stands for a product of 1; 0 leaves the constant, 3 being halved.
        c.if(infinite.and(zero), () => c.return(const64(product(f))));
        const sign = c.keep(signOf(f, x).xor(signOf(f, y)));
        c.if(infinite, () => c.return(withSign(f, sign, infinity(f))));
        c.if(zero, () => c.return(const64(product(f))));
        fused(s, f, const64(constant(f)), x, y, halves);
      }),
  );
}

const encode = (f: Format, exponent: number, fraction: bigint): bigint =>
  (BigInt(f.bias + exponent) << BigInt(f.fractionBits)) | fraction;
const half = (f: Format): bigint => 1n << BigInt(f.fractionBits - 1);
const two = (f: Format): bigint => encode(f, 1, 0n);
const oneAndHalf = (f: Format): bigint => encode(f, 0, half(f));
const three = (f: Format): bigint => encode(f, 1, half(f));

/** FRECPS: 2 - a × b. */
export const FP_RECPS = step("fp_recps", two, two, false);
/** FRSQRTS: (3 - a × b) / 2. */
export const FP_RSQRTS = step("fp_rsqrts", three, oneAndHalf, true);
