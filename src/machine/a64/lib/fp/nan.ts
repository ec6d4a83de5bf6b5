// Owns: what becomes of NaN operands. VM thread.
// @source Arm ARM J1, FPProcessNaNs: the first signalling one, else the first quiet one; made quiet
import { const64, type I64 } from "../../../../base/wasm/value.js";
import type { LibFunction, LibScope } from "../function.js";
import {
  CONTROL,
  defaultNan,
  FLAG,
  FORMATS,
  type Format,
  fpcr,
  isNan,
  isSignalling,
  quietBit,
  raise,
} from "./format.js";

function process(f: Format, count: 1 | 2 | 3): LibFunction<"i64"> {
  const params = Array.from({ length: count }, () => "i64" as const);
  return {
    name: `fp_nans${count}_${f.width}`,
    params,
    result: "i64",
    build: (s, args) => {
      const operands = args as readonly I64[];
      const { c } = s;
      const chosen = c.variable("i64");
      // Last first, so that the first one has the last word; quiet ones before signalling ones.
      for (const x of [...operands].reverse()) c.if(isNan(f, x), () => chosen.set(x));
      for (const x of [...operands].reverse()) {
        c.if(isSignalling(f, x), () => {
          chosen.set(x);
          raise(s, FLAG.IOC);
        });
      }
      c.if(fpcr(s).and(CONTROL.DN), () => c.return(const64(defaultNan(f))));
      c.return(chosen.get().or(quietBit(f)));
    },
  };
}

/** (x, …) of which at least one is a NaN → the NaN that the operation gives. */
export const NANS = {
  32: { 1: process(FORMATS[32], 1), 2: process(FORMATS[32], 2), 3: process(FORMATS[32], 3) },
  64: { 1: process(FORMATS[64], 1), 2: process(FORMATS[64], 2), 3: process(FORMATS[64], 3) },
} as const;

/** Returns the NaN when an operand is one. */
export function returnNans(s: LibScope, f: Format, ...operands: readonly I64[]): void {
  const any = operands.map((x) => isNan(f, x)).reduce((all, one) => all.or(one));
  const fn = NANS[f.width as 32 | 64][operands.length as 1 | 2 | 3];
  s.c.if(any, () => s.c.return(s.call(fn, ...operands)));
}

/** An invalid operation: the default NaN, and IOC. */
export function returnInvalid(s: LibScope, f: Format): void {
  raise(s, FLAG.IOC);
  s.c.return(const64(defaultNan(f)));
}

export const byFormat = <T>(make: (f: Format) => T): Readonly<Record<32 | 64, T>> => ({
  32: make(FORMATS[32]),
  64: make(FORMATS[64]),
});
