// Owns: comparisons, maximum and minimum. VM thread.
// @source Arm ARM J1, FPCompare, FPCompareEQ/GE/GT, FPMax, FPMin, FPMaxNum, FPMinNum
import { const32, const64, type I32, type I64 } from "../../../../base/wasm/value.js";
import { type LibScope, lib } from "../function.js";
import {
  FLAG,
  type Format,
  flush,
  infinity,
  isNan,
  isSignalling,
  isZero,
  raise,
} from "./format.js";
import { byFormat, returnNans } from "./nan.js";

/** x < y of numbers, as Wasm compares: zeros are equal. */
function less(f: Format, x: I64, y: I64): I32 {
  if (f.width === 64) return x.asF64().lt(y.asF64());
  return x.wrap().asF32().lt(y.wrap().asF32());
}
function equal(f: Format, x: I64, y: I64): I32 {
  if (f.width === 64) return x.asF64().eq(y.asF64());
  return x.wrap().asF32().eq(y.wrap().asF32());
}

/** IOC for a comparison with a NaN: for any, or for a signalling one. */
function signalNans(s: LibScope, f: Format, a: I64, b: I64, all: I32): void {
  const signalling = isSignalling(f, a).or(isSignalling(f, b));
  s.c.if(all.or(signalling), () => raise(s, FLAG.IOC));
}

const UNORDERED = 0b0011;
const EQUAL = 0b0110;
const LESS = 0b1000;
const GREATER = 0b0010;

/** (a, b, whether quiet NaNs signal too) → NZCV. */
export const FP_COMPARE = byFormat((f) =>
  lib(`fp_compare_${f.width}`, ["i64", "i64", "i32"], "i32", (s, a, b, all) => {
    const { c } = s;
    const [x, y] = [flush(s, f, a), flush(s, f, b)];
    c.if(isNan(f, x).or(isNan(f, y)), () => {
      signalNans(s, f, x, y, all);
      c.return(const32(UNORDERED));
    });
    c.if(equal(f, x, y), () => c.return(const32(EQUAL)));
    c.return(less(f, x, y).select(const32(LESS), const32(GREATER)));
  }),
);

function test(name: string, quiet: boolean, holds: (f: Format, x: I64, y: I64) => I32) {
  return byFormat((f) =>
    lib(`${name}_${f.width}`, ["i64", "i64"], "i32", (s, a, b) => {
      const { c } = s;
      const [x, y] = [flush(s, f, a), flush(s, f, b)];
      c.if(isNan(f, x).or(isNan(f, y)), () => {
        signalNans(s, f, x, y, const32(quiet ? 0 : 1));
        c.return(const32(0));
      });
      c.return(holds(f, x, y));
    }),
  );
}
/** (a, b) → 0 or 1. */
export const FP_EQ = test("fp_eq", true, equal);
export const FP_GE = test("fp_ge", false, (f, x, y) => less(f, x, y).eqz());
export const FP_GT = test("fp_gt", false, (f, x, y) => less(f, y, x));

/** @param number FMAXNM and FMINNM: a number is preferred to a quiet NaN */
function extreme(name: string, largest: boolean, number: boolean) {
  return byFormat((f) =>
    lib(`${name}_${f.width}`, ["i64", "i64"], "i64", (s, a, b) => {
      const { c } = s;
      const [first, second] = [c.variable("i64"), c.variable("i64")];
      first.set(a);
      second.set(b);
      if (number) {
        // The quiet NaN becomes what every number beats.
        const [aQuiet, bQuiet] = [a, b].map((x) =>
          c.keep(isNan(f, x).and(isSignalling(f, x).eqz())),
        ) as [I32, I32];
        const least = largest ? infinity(f) | (1n << BigInt(f.width - 1)) : infinity(f);
        c.if(aQuiet.and(bQuiet.eqz()), () => first.set(const64(least)));
        c.if(bQuiet.and(aQuiet.eqz()), () => second.set(const64(least)));
      }
      const [p, q] = [c.keep(first.get()), c.keep(second.get())];
      const [x, y] = [flush(s, f, p), flush(s, f, q)];
      returnNans(s, f, x, y);
      // Zeros of both signs: the sign bit decides, as if -0 were below +0.
      c.if(isZero(f, x).and(isZero(f, y)), () => c.return(largest ? x.and(y) : x.or(y)));
      const xWins = largest ? less(f, y, x) : less(f, x, y);
      c.return(xWins.select(x, y));
    }),
  );
}
export const FP_MAX = extreme("fp_max", true, false);
export const FP_MIN = extreme("fp_min", false, false);
export const FP_MAXNM = extreme("fp_maxnm", true, true);
export const FP_MINNM = extreme("fp_minnm", false, true);
