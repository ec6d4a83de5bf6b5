// Owns: the upper half of a 64 by 64 bit product. VM thread.
import type { I64 } from "../../../base/wasm/value.js";
import { type LibScope, lib } from "./function.js";

const LOW = 0xffff_ffffn;

/** Unsigned, by four 32-bit products. */
function highOf({ c }: LibScope, x: I64, y: I64): I64 {
  const [xl, xh] = [c.keep(x.and(LOW)), c.keep(x.shrU(32))];
  const [yl, yh] = [c.keep(y.and(LOW)), c.keep(y.shrU(32))];
  const middle = c.keep(xh.mul(yl).add(xl.mul(yl).shrU(32)));
  const other = c.keep(xl.mul(yh).add(middle.and(LOW)));
  return xh.mul(yh).add(middle.shrU(32)).add(other.shrU(32));
}

/** (x, y) → bits 127:64 of the unsigned product. */
export const MUL_HIGH_U = lib("mul_high_u", ["i64", "i64"], "i64", (s, x, y) => {
  s.c.return(highOf(s, x, y));
});

/** (x, y) → bits 127:64 of the signed product. */
export const MUL_HIGH_S = lib("mul_high_s", ["i64", "i64"], "i64", (s, x, y) => {
  // As unsigned, each negative factor is 2^64 too large.
  const unsigned = s.c.keep(highOf(s, x, y));
  s.c.return(unsigned.sub(x.shrS(63).and(y)).sub(y.shrS(63).and(x)));
});
