// Owns: conversions between formats, and with integers and fixed point; rounding to integers.
// VM thread.
// @source Arm ARM J1, FPConvert, FPToFixed, FixedToFP, FPRoundInt
import { const32, const64, type I32, type I64 } from "../../../../base/wasm/value.js";
import { type LibFunction, type LibScope, lib } from "../function.js";
import {
  CONTROL,
  chosenMode,
  defaultNan,
  FLAG,
  FORMATS,
  type Format,
  type FpWidth,
  flush,
  fpcr,
  infinity,
  isInfinite,
  isNan,
  isSignalling,
  isZero,
  quietBit,
  ROUNDING,
  raise,
  roundingMode,
  signOf,
  unpack,
  withSign,
} from "./format.js";
import { byFormat, returnNans } from "./nan.js";
import { FP_ROUND, roundsUp } from "./round.js";

// ── between formats ───────────────────────────────────────────────────────────────────────────

/** A NaN keeps its sign and the upper bits of its fraction, and becomes quiet. */
function convertNan(s: LibScope, from: Format, to: Format, x: I64): void {
  const { c } = s;
  c.if(isSignalling(from, x), () => raise(s, FLAG.IOC));
  if (to.width === 16) {
    c.if(fpcr(s).and(CONTROL.AHP), () => {
      // There is no NaN to give: a zero of its sign.
      raise(s, FLAG.IOC);
      c.return(withSign(to, signOf(from, x), 0n));
    });
  }
  c.if(fpcr(s).and(CONTROL.DN), () => c.return(const64(defaultNan(to))));
  const by = to.fractionBits - from.fractionBits;
  const fraction = x.and((1n << BigInt(from.fractionBits)) - 1n);
  const moved = by > 0 ? fraction.shl(by) : fraction.shrU(-by);
  c.return(withSign(to, c.keep(signOf(from, x)), moved.or(infinity(to) | quietBit(to))));
}

function convert(from: Format, to: Format, mode: "fpcr" | "odd" = "fpcr"): LibFunction<"i64"> {
  const name = `fp_convert_${from.width}_${to.width}_${mode}`;
  return lib(name, ["i64"], "i64", (s, operand) => {
    const { c } = s;
    const rounding = mode === "odd" ? const32(ROUNDING.odd) : roundingMode(s);
    const special = c.variable("i32");
    special.set(const32(1));
    // Alternative halves have numbers where others have infinities and NaNs.
    if (from.width === 16) special.set(fpcr(s).and(CONTROL.AHP).eqz());
    c.if(special.get().and(isNan(from, operand)), () => convertNan(s, from, to, operand));
    const x = flush(s, from, operand);
    const sign = c.keep(signOf(from, x));
    c.if(special.get().and(isInfinite(from, x)), () => {
      if (to.width === 16) {
        c.if(fpcr(s).and(CONTROL.AHP), () => {
          raise(s, FLAG.IOC);
          c.return(withSign(to, sign, 2n ** 15n - 1n));
        });
      }
      c.return(withSign(to, sign, infinity(to)));
    });
    c.if(isZero(from, x), () => c.return(withSign(to, sign, 0n)));
    const { exp, sig } = unpack(s, from, x);
    c.return(s.call(FP_ROUND[to.width], sign, exp, sig, rounding));
  });
}

const widths: readonly FpWidth[] = [16, 32, 64];
export type Conversion = `${FpWidth}>${FpWidth}`;
/** By "from>to". */
export const FP_CONVERT = Object.fromEntries(
  widths.flatMap((from) =>
    widths
      .filter((to) => to !== from)
      .map((to) => [`${from}>${to}`, convert(FORMATS[from], FORMATS[to])] as const),
  ),
) as Readonly<Record<Conversion, LibFunction<"i64">>>;

/** Double to single, rounded to odd. */
export const FP_CVTXN = convert(FORMATS[64], FORMATS[32], "odd");

// ── to integers ───────────────────────────────────────────────────────────────────────────────

interface Integer {
  /** Before rounding, and what is below in units of 2^-64. */
  readonly whole: I64;
  readonly error: I64;
}

/** The integer part of sig / 2^62 × 2^exp, for exp below 64. */
function integerOf(s: LibScope, sig: I64, exp: I32): Integer {
  const { c } = s;
  const [whole, error] = [c.variable("i64"), c.variable("i64")];
  const down = c.keep(const32(62).sub(exp));
  c.if(
    down.leS(0),
    () => {
      whole.set(sig.shl(down.neg().extendU()));
      error.set(const64(0));
    },
    () => {
      // All of it is below 1 from 63 on; far below, only that it is not 0 matters.
      const near = c.keep(down.leS(63));
      const by = c.keep(down.extendU());
      whole.set(near.select(sig.shrU(by), const64(0)));
      error.set(near.select(sig.shl(const64(64).sub(by)), c.keep(below(s, sig, down))));
    },
  );
  return { whole: c.keep(whole.get()), error: c.keep(error.get()) };
}

/** The fraction of a significand that lies 64 bits or more below one. */
function below(s: LibScope, sig: I64, down: I32): I64 {
  const exactly = down.eq(64);
  // Shifted right by some more bits it is less than a half: a bit stands for it.
  return exactly.select(sig, s.c.keep(sig.eqz().eqz().extendU()));
}

/** (x, fraction bits, unsigned, rounding, width) → integer, saturated, extended with zeros. */
export const FP_TO_FIXED = byFormat((f) =>
  lib(
    `fp_to_fixed_${f.width}`,
    ["i64", "i32", "i32", "i32", "i32"],
    "i64",
    (s, operand, fractionBits, isUnsigned, rounding, width) => {
      const { c } = s;
      c.if(isNan(f, operand), () => {
        raise(s, FLAG.IOC);
        c.return(const64(0));
      });
      const x = flush(s, f, operand);
      const sign = c.keep(signOf(f, x));
      c.if(isZero(f, x), () => c.return(const64(0)));
      const u = unpack(s, f, x);
      const exp = c.keep(u.exp.add(fractionBits));
      const ones = c.keep(const64(-1).shrU(const32(64).sub(width).extendU()));
      const half = c.keep(ones.shrU(1));
      // The largest magnitude allowed: of a positive or a negative number.
      const signedLimit = c.keep(half.add(sign));
      const unsignedLimit = c.keep(sign.eqz().select(ones, const64(0)));
      const limit = c.keep(isUnsigned.select(unsignedLimit, signedLimit));
      const saturated = c.keep(
        isUnsigned.select(unsignedLimit, c.keep(sign.wrap().select(c.keep(half.add(1)), half))),
      );
      const saturate = (): void => {
        raise(s, FLAG.IOC);
        c.return(saturated.and(ones));
      };
      c.if(isInfinite(f, x).or(exp.gtS(63)), saturate);
      const { whole, error } = integerOf(s, u.sig, exp);
      const up = roundsUp(s, chosenMode(s, rounding), sign, whole, error);
      const rounded = c.keep(whole.add(up.extendU()));
      // Rounding up from the top of 64 bits gives 0.
      c.if(rounded.gtU(limit).or(rounded.ltU(whole)), saturate);
      c.if(error.eqz().eqz(), () => raise(s, FLAG.IXC));
      const mask = c.keep(sign.neg());
      c.return(rounded.xor(mask).sub(mask).and(ones));
    },
  ),
);

/** (integer of 64 bits, fraction bits, unsigned) → number, rounded as FPCR says. */
export const FIXED_TO_FP = byFormat((f) =>
  lib(`fixed_to_fp_${f.width}`, ["i64", "i32", "i32"], "i64", (s, x, fractionBits, isUnsigned) => {
    const { c } = s;
    c.if(x.eqz(), () => c.return(const64(0)));
    const sign = c.keep(isUnsigned.select(const64(0), x.shrU(63)));
    const mask = c.keep(sign.neg());
    const value = c.keep(x.xor(mask).sub(mask));
    const zeros = c.keep(value.clz());
    // Highest bit at 63, then at 62 with a sticky bit.
    const top = c.keep(value.shl(zeros));
    const sig = c.keep(top.shrU(1).or(top.and(1)));
    const exp = const32(63).sub(zeros.wrap()).sub(fractionBits);
    c.return(s.call(FP_ROUND[f.width], sign, exp, sig, roundingMode(s)));
  }),
);

/** (x, rounding, exact: whether IXC tells) → the number rounded to an integer. */
export const FP_ROUND_INT = byFormat((f) =>
  lib(`fp_round_int_${f.width}`, ["i64", "i32", "i32"], "i64", (s, operand, rounding, exact) => {
    const { c } = s;
    returnNans(s, f, operand);
    const x = flush(s, f, operand);
    const { sign, exp, sig } = unpack(s, f, x);
    // Infinities, zeros, and what has no fraction stay as they are.
    c.if(isInfinite(f, x).or(isZero(f, x)).or(exp.geS(f.fractionBits)), () => c.return(x));
    const { whole, error } = integerOf(s, sig, exp);
    const up = roundsUp(s, chosenMode(s, rounding), sign, whole, error);
    const rounded = c.keep(whole.add(up.extendU()));
    c.if(exact.and(error.eqz().eqz()), () => raise(s, FLAG.IXC));
    c.if(rounded.eqz(), () => c.return(withSign(f, sign, 0n)));
    const zeros = c.keep(rounded.clz());
    const at = const32(63).sub(zeros.wrap());
    const top = c.keep(rounded.shl(zeros.sub(1)));
    c.return(s.call(FP_ROUND[f.width], sign, at, top, const32(ROUNDING.zero)));
  }),
);
