// Owns: rounding an exact number to a format. VM thread.
// @source Arm ARM J1, FPRound: tininess before rounding, flush to zero, overflow by the mode
import { const32, const64, type I32, type I64 } from "../../../../base/wasm/value.js";
import { type LibFunction, type LibScope, lib } from "../function.js";
import {
  CONTROL,
  FLAG,
  FORMATS,
  type Format,
  type FpWidth,
  fpcr,
  infinity,
  largest,
  ROUNDING,
  raise,
  shiftSticky,
  withSign,
} from "./format.js";

/** Whether a remainder rounds away from zero. @param error bits below, in units of 2^-64 of one */
export function roundsUp(s: LibScope, mode: I32, sign: I64, odd: I64, error: I64): I32 {
  const { c } = s;
  const half = const64(-(2n ** 63n));
  const inexact = c.keep(error.eqz().eqz());
  const up = c.variable("i32");
  // Nearest, ties to even, or away from zero.
  const tie = c.keep(error.eq(half));
  const above = c.keep(error.gtU(half));
  up.set(above.or(tie.and(odd.wrap().and(1))));
  c.if(mode, () => {
    c.if(mode.eq(ROUNDING.away), () => up.set(above.or(tie)));
    c.if(mode.eq(ROUNDING.plus), () => up.set(inexact.and(sign.eqz())));
    c.if(mode.eq(ROUNDING.minus), () => up.set(inexact.and(sign.wrap())));
    c.if(mode.eq(ROUNDING.zero).or(mode.eq(ROUNDING.odd)), () => up.set(const32(0)));
  });
  return c.keep(up.get());
}

function overflow(s: LibScope, f: Format, sign: I64, mode: I32): void {
  const { c } = s;
  const toInfinity = mode
    .eq(ROUNDING.nearest)
    .or(mode.eq(ROUNDING.away))
    .or(mode.eq(ROUNDING.plus).and(sign.eqz()))
    .or(mode.eq(ROUNDING.minus).and(sign.wrap()));
  raise(s, FLAG.OFC | FLAG.IXC);
  const value = c.keep(toInfinity).select(const64(infinity(f)), const64(largest(f)));
  c.return(withSign(f, sign, value));
}

function round(f: Format): LibFunction<"i64"> {
  const name = `fp_round_${f.width}`;
  return lib(name, ["i64", "i32", "i64", "i32"], "i64", (s, sign, exp, sig, mode) => {
    const { c } = s;
    const biased = c.variable("i32");
    const moved = c.variable("i64");
    biased.set(exp.add(f.bias));
    moved.set(sig);
    c.if(biased.get().ltS(1), () => {
      if (f.width !== 16) {
        c.if(fpcr(s).and(CONTROL.FZ), () => {
          raise(s, FLAG.UFC);
          c.return(withSign(f, sign, 0n));
        });
      }
      moved.set(shiftSticky(s, sig, c.keep(const32(1).sub(biased.get()))));
      biased.set(const32(0));
    });
    const below = 62 - f.fractionBits;
    const error = c.keep(moved.get().shl(64 - below));
    const mantissa = c.keep(moved.get().shrU(below));
    const up = roundsUp(s, mode, sign, mantissa, error);
    const inexact = c.keep(error.eqz().eqz());
    const rounded = c.variable("i64");
    rounded.set(mantissa.add(up.extendU()));
    c.if(mode.eq(ROUNDING.odd).and(inexact), () => rounded.set(rounded.get().or(1)));
    c.if(inexact.and(biased.get().eqz()), () => raise(s, FLAG.UFC));
    // The leading one of a normal number adds to the exponent; a carry goes there by itself.
    const lead = 1n << BigInt(f.fractionBits);
    const exponent = biased.get().eqz().select(const32(0), biased.get().sub(1));
    const packed = c.keep(exponent.extendU().shl(f.fractionBits).add(rounded.get()));
    if (f.width === 16) alternative(s, f, sign, packed, inexact);
    c.if(packed.geU(lead * BigInt(f.exponentMax)), () => overflow(s, f, sign, mode));
    c.if(inexact, () => raise(s, FLAG.IXC));
    c.return(withSign(f, sign, packed));
  });
}

/** FPCR.AHP: halves have no infinities; what is too large is invalid and gives the largest. */
function alternative(s: LibScope, f: Format, sign: I64, packed: I64, inexact: I32): void {
  const { c } = s;
  c.if(fpcr(s).and(CONTROL.AHP), () => {
    const most = BigInt(2 ** signBitOf(f) - 1);
    c.if(packed.gtU(most), () => {
      raise(s, FLAG.IOC);
      c.return(withSign(f, sign, most));
    });
    c.if(inexact, () => raise(s, FLAG.IXC));
    c.return(withSign(f, sign, packed));
  });
}

const signBitOf = (f: Format): number => f.width - 1;

/** (sign, exp, sig not 0, mode) → the number, rounded. */
export const FP_ROUND: Readonly<Record<FpWidth, LibFunction<"i64">>> = {
  16: round(FORMATS[16]),
  32: round(FORMATS[32]),
  64: round(FORMATS[64]),
};
