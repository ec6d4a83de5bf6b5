// Owns: flags that are kept as what they come from, and writing them out as NZCV. VM thread.
//
// Tier 1 remembers the operands of the last instruction that set the flags, and what it was:
//
//   kind, x, y (FLAGS_PENDING, …) ──FLAGS──▶ the four flag words of the window
import type { Code } from "../../../base/wasm/code.js";
import { const32, type I32, type I64 } from "../../../base/wasm/value.js";
import { FLAG_C, FLAG_N, FLAG_V, FLAG_Z, FLAGS_PENDING, FLAGS_X, FLAGS_Y } from "../window.js";
import { lib } from "./function.js";

/** How flags are kept; operands of 32 bits are zero-extended. */
export const FLAGS_KIND = {
  /** In the window's words. */
  window: 0,
  /** Of x - y. */
  sub64: 1,
  sub32: 2,
  /** Of x + y. */
  add64: 3,
  add32: 4,
  /** Of x; C and V are 0. */
  logic64: 5,
  logic32: 6,
  /** NZCV in bits 3:0 of x. */
  packed: 7,
} as const;
export type FlagsKind = keyof typeof FLAGS_KIND;

const SIGN = 31;

function writeNz(c: Code, cpu: I32, r: I64): void {
  const high = c.keep(r.shrU(32).wrap());
  c.store("i32.store", cpu, FLAG_N, high);
  c.store("i32.store", cpu, FLAG_Z, high.or(r.wrap()));
}

/** Writes the window's flags where tier 1 left them as operands. @returns 0 */
export const FLAGS = lib("flags", [], "i32", ({ c, cpu }) => {
  const kind = c.keep(c.load32(cpu, FLAGS_PENDING));
  c.store("i32.store", cpu, FLAGS_PENDING, const32(FLAGS_KIND.window));
  c.if(kind.eqz(), () => c.return(const32(0)));
  const x0 = c.keep(c.load64(cpu, FLAGS_X));
  c.if(kind.eq(FLAGS_KIND.packed), () => {
    const value = c.keep(x0.wrap());
    c.store("i32.store", cpu, FLAG_N, value.shrU(3).shl(SIGN));
    c.store("i32.store", cpu, FLAG_Z, value.shrU(2).and(1).eqz());
    c.store("i32.store", cpu, FLAG_C, value.shrU(1).and(1));
    c.store("i32.store", cpu, FLAG_V, value.shl(SIGN));
    c.return(const32(0));
  });
  // Operands of 32 bits in the upper half have the flags that they have below.
  const up = c.keep(kind.and(1).eqz().shl(5).extendU());
  const x = c.keep(x0.shl(up));
  const y = c.keep(c.load64(cpu, FLAGS_Y).shl(up));
  c.if(kind.geU(FLAGS_KIND.logic64), () => {
    writeNz(c, cpu, x);
    c.store("i32.store", cpu, FLAG_C, const32(0));
    c.store("i32.store", cpu, FLAG_V, const32(0));
    c.return(const32(0));
  });
  c.if(kind.geU(FLAGS_KIND.add64), () => {
    const r = c.keep(x.add(y));
    writeNz(c, cpu, r);
    c.store("i32.store", cpu, FLAG_C, r.ltU(x));
    c.store("i32.store", cpu, FLAG_V, x.xor(r).and(y.xor(r)).shrU(32).wrap());
    c.return(const32(0));
  });
  const r = c.keep(x.sub(y));
  writeNz(c, cpu, r);
  c.store("i32.store", cpu, FLAG_C, x.geU(y));
  c.store("i32.store", cpu, FLAG_V, x.xor(y).and(x.xor(r)).shrU(32).wrap());
  c.return(const32(0));
});
