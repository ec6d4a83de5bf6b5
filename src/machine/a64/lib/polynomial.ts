// Owns: carry-less products of 64 bits (PMULL, PMULL2). VM thread.
import { type LibFunction, lib } from "./function.js";

/** (x, y) → one half of the product over GF(2). */
function half(name: string, isHigh: boolean): LibFunction<"i64"> {
  return lib(name, ["i64", "i64"], "i64", ({ c }, x, y) => {
    const sum = c.variable("i64");
    const bit = c.variable("i64");
    c.loop((next) => {
      const mask = c.keep(y.shrU(bit.get()).and(1).neg());
      // Above: x shifted right by 64 - bit, in two steps, since 64 itself would be 0.
      const part = isHigh ? x.shrU(1).shrU(bit.get().xor(63)) : x.shl(bit.get());
      sum.set(sum.get().xor(part.and(mask)));
      bit.set(bit.get().add(1));
      c.branchIf(bit.get().ltU(64), next);
    });
    c.return(sum.get());
  });
}

export const POLYNOMIAL_64 = { low: half("pmull_low", false), high: half("pmull_high", true) };
