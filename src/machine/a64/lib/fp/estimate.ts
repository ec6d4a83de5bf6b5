// Owns: reciprocal estimates. VM thread.
// @source Arm ARM J1, RecipEstimate, RecipSqrtEstimate, FPRecipEstimate, FPRSqrtEstimate, FPRecpX
import { const32, const64, type I32, type I64 } from "../../../../base/wasm/value.js";
import { type LibScope, lib } from "../function.js";
import {
  CONTROL,
  FLAG,
  type Format,
  flush,
  fpcr,
  fractionMask,
  infinity,
  isInfinite,
  isZero,
  largest,
  magnitude,
  ROUNDING,
  raise,
  roundingMode,
  signOf,
  withSign,
} from "./format.js";
import { byFormat, returnInvalid, returnNans } from "./nan.js";

/** a of 256…511, as 0.5…1 → 256…511, as 1…2. */
function reciprocal(s: LibScope, a: I32): I32 {
  // The middle of the interval, its reciprocal, rounded to 9 bits.
  const middle = a.shl(1).add(1);
  return s.c.keep(
    const32(1 << 19)
      .divU(middle)
      .add(1)
      .shrU(1),
  );
}

/** a of 128…511 → 256…511. */
const RECIP_SQRT = lib("recip_sqrt_estimate", ["i32"], "i32", ({ c }, a) => {
  const middle = c.variable("i32");
  c.if(
    a.ltU(256),
    () => middle.set(a.shl(1).add(1)),
    () => middle.set(a.or(1).shl(1)),
  );
  const root = c.variable("i32");
  root.set(const32(512));
  c.loop((next) => {
    const above = c.keep(root.get().add(1));
    const product = middle.get().extendU().mul(above.extendU()).mul(above.extendU());
    c.if(product.ltU(1n << 28n), () => {
      root.set(above);
      c.branch(next);
    });
  });
  c.return(root.get().add(1).shrU(1));
});

/** Exponent and the fraction moved up to 52 bits, normalised when the number is denormal. */
function scaled(s: LibScope, f: Format, x: I64) {
  const { c } = s;
  const exp = c.variable("i32");
  const fraction = c.variable("i64");
  exp.set(x.shrU(f.fractionBits).wrap().and(f.exponentMax));
  fraction.set(x.and(fractionMask(f)).shl(52 - f.fractionBits));
  c.if(exp.get().eqz(), () => {
    // The leading one goes to bit 52 and falls out.
    const up = c.keep(fraction.get().clz().sub(11));
    exp.set(const32(1).sub(up.wrap()));
    fraction.set(
      fraction
        .get()
        .shl(up)
        .and((1n << 52n) - 1n),
    );
  });
  return { exp: c.keep(exp.get()), fraction: c.keep(fraction.get()) };
}

export const FP_RECPE = byFormat((f) =>
  lib(`fp_recpe_${f.width}`, ["i64"], "i64", (s, operand) => {
    const { c } = s;
    returnNans(s, f, operand);
    const x = flush(s, f, operand);
    const sign = c.keep(signOf(f, x));
    c.if(isInfinite(f, x), () => c.return(withSign(f, sign, 0n)));
    c.if(isZero(f, x), () => {
      raise(s, FLAG.DZC);
      c.return(withSign(f, sign, infinity(f)));
    });
    // Below 2^-(bias + 1) the reciprocal overflows.
    const tiny = 1n << BigInt(f.fractionBits - 2);
    c.if(magnitude(f, x).ltU(tiny), () => {
      const mode = roundingMode(s);
      const away = mode
        .eq(ROUNDING.nearest)
        .or(mode.eq(ROUNDING.plus).and(sign.eqz()))
        .or(mode.eq(ROUNDING.minus).and(sign.wrap()));
      raise(s, FLAG.OFC | FLAG.IXC);
      const value = c.keep(away).select(const64(infinity(f)), const64(largest(f)));
      c.return(withSign(f, sign, value));
    });
    // From 2^(bias - 1) on the reciprocal is denormal.
    const huge = BigInt(2 * f.bias - 1) << BigInt(f.fractionBits);
    c.if(
      fpcr(s)
        .and(CONTROL.FZ)
        .and(c.keep(magnitude(f, x).geU(huge)).shl(24)),
      () => {
        raise(s, FLAG.UFC);
        c.return(withSign(f, sign, 0n));
      },
    );
    const { exp, fraction } = scaled(s, f, x);
    const a = fraction.shrU(44).wrap().or(256);
    const estimate = reciprocal(s, c.keep(a));
    const resultExp = c.variable("i32");
    resultExp.set(const32(2 * f.bias - 1).sub(exp));
    const resultFraction = c.variable("i64");
    resultFraction.set(estimate.and(0xff).extendU().shl(44));
    c.if(resultExp.get().eqz(), () => {
      resultFraction.set(
        resultFraction
          .get()
          .shrU(1)
          .or(1n << 51n),
      );
    });
    c.if(resultExp.get().eq(-1), () => {
      resultFraction.set(
        resultFraction
          .get()
          .shrU(2)
          .or(1n << 50n),
      );
      resultExp.set(const32(0));
    });
    c.return(packed(f, sign, resultExp.get(), resultFraction.get()));
  }),
);

function packed(f: Format, sign: I64, exp: I32, fraction: I64): I64 {
  const value = exp
    .extendU()
    .shl(f.fractionBits)
    .or(fraction.shrU(52 - f.fractionBits));
  return withSign(f, sign, value);
}

export const FP_RSQRTE = byFormat((f) =>
  lib(`fp_rsqrte_${f.width}`, ["i64"], "i64", (s, operand) => {
    const { c } = s;
    returnNans(s, f, operand);
    const x = flush(s, f, operand);
    const sign = c.keep(signOf(f, x));
    c.if(isZero(f, x), () => {
      raise(s, FLAG.DZC);
      c.return(withSign(f, sign, infinity(f)));
    });
    c.if(sign.wrap(), () => returnInvalid(s, f));
    c.if(isInfinite(f, x), () => c.return(const64(0)));
    const { exp, fraction } = scaled(s, f, x);
    // An even exponent field belongs to 0.5…1, an odd one to 0.25…0.5.
    const even = c.keep(fraction.shrU(44).wrap().or(256));
    const odd = c.keep(fraction.shrU(45).wrap().or(128));
    const estimate = s.call(RECIP_SQRT, c.keep(exp.and(1).select(odd, even)));
    const resultExp = const32(3 * f.bias - 1)
      .sub(exp)
      .shrS(1);
    c.return(packed(f, const64(0), resultExp, estimate.and(0xff).extendU().shl(44)));
  }),
);

/** FRECPX: the exponent inverted, or the largest for a zero or denormal. */
export const FP_RECPX = byFormat((f) =>
  lib(`fp_recpx_${f.width}`, ["i64"], "i64", (s, operand) => {
    const { c } = s;
    returnNans(s, f, operand);
    const x = flush(s, f, operand);
    const sign = c.keep(signOf(f, x));
    const field = c.keep(x.shrU(f.fractionBits).and(BigInt(f.exponentMax)));
    const inverted = c.keep(field.xor(BigInt(f.exponentMax)));
    const exponent = c.keep(field.eqz().select(const64(BigInt(f.exponentMax - 1)), inverted));
    c.return(withSign(f, sign, exponent.shl(f.fractionBits)));
  }),
);

/** URECPE: of 0.5…1 in 32 bits; below, the largest. */
export const UNSIGNED_RECPE = lib("unsigned_recpe", ["i32"], "i32", (s, x) => {
  const { c } = s;
  c.if(x.geS(0), () => c.return(const32(-1)));
  c.return(reciprocal(s, c.keep(x.shrU(23))).shl(23));
});

/** URSQRTE: of 0.25…1. */
export const UNSIGNED_RSQRTE = lib("unsigned_rsqrte", ["i32"], "i32", (s, x) => {
  const { c } = s;
  c.if(x.shrU(30).eqz(), () => c.return(const32(-1)));
  c.return(s.call(RECIP_SQRT, c.keep(x.shrU(23))).shl(23));
});
