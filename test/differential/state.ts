// Owns: what registers and memory hold when a block begins: random, rich in special values.
// Test process.
import type { Prng } from "../../src/base/prng.js";
import { BASES, CODE_BASE, DATA_BASE, DATA_MIDDLE, DATA_PAGES, PAGE } from "./layout.js";

export interface State {
  readonly x: readonly bigint[];
  readonly v: readonly bigint[];
  readonly sp: bigint;
  readonly nzcv: number;
  readonly fpcr: number;
  readonly fpsr: number;
  readonly tpidr: bigint;
  /** The data pages. */
  readonly data: Uint8Array;
}

const MASK = 2n ** 64n - 1n;

/** Integers, and floating-point numbers of all three sizes, where something special happens. */
const SPECIAL: readonly bigint[] = [
  0n,
  1n,
  2n,
  MASK,
  1n << 63n,
  (1n << 63n) - 1n,
  0x8000_0000n,
  0x7fff_ffffn,
  0xffff_ffffn,
  0x1_0000_0000n,
  // Double: 1, -0, infinities, NaNs, the smallest and largest, half of something.
  0x3ff0_0000_0000_0000n,
  0xbff8_0000_0000_0000n,
  0x7ff0_0000_0000_0000n,
  0xfff0_0000_0000_0000n,
  0x7ff8_0000_0000_0001n,
  0x7ff0_0000_0000_0001n,
  0xfff4_0000_1234_5678n,
  0x0010_0000_0000_0000n,
  0x000f_ffff_ffff_ffffn,
  0x7fef_ffff_ffff_ffffn,
  0x43e0_0000_0000_0000n,
  0x41df_ffff_ffe0_0000n,
  // Single, twice.
  0x3f80_0000_7f80_0000n,
  0x8000_0000_ff80_0000n,
  0x7fc0_0001_7f80_0001n,
  0x0080_0000_007f_ffffn,
  0x7f7f_ffff_8000_0001n,
  0x4f00_0000_3f00_0000n,
  // Half, four times.
  0x3c00_7c00_fc00_8000n,
  0x7e01_7c01_0400_03ffn,
  0x7bff_8001_3800_4000n,
];

function value(prng: Prng): bigint {
  switch (prng.below(6)) {
    case 0:
    case 1:
      return prng.pick(SPECIAL);
    case 2:
      return BigInt(prng.below(256));
    case 3:
      // A number near one, in each size.
      return (prng.u64() & 0x800f_ffff_ffff_ffffn) | (BigInt(0x3f8 + prng.below(16)) << 52n);
    case 4:
      return (prng.u64() & 0x807f_ffff_807f_ffffn) | 0x3f80_0000_4000_0000n;
    default:
      return prng.u64();
  }
}

export function stateOf(prng: Prng, code: number): State {
  const x = Array.from({ length: 31 }, () => value(prng));
  for (const n of BASES) if (n < 31) x[n] = BigInt(DATA_MIDDLE + 16 * prng.below(64));
  x[CODE_BASE] = BigInt(code);
  x[DATA_BASE] = BigInt(DATA_MIDDLE);
  const data = new Uint8Array(DATA_PAGES * PAGE);
  const view = new DataView(data.buffer);
  for (let at = 0; at < data.length; at += 8) {
    if (prng.below(8) === 0) view.setBigUint64(at, prng.pick(SPECIAL), true);
    else {
      view.setUint32(at, prng.u32(), true);
      view.setUint32(at + 4, prng.u32(), true);
    }
  }
  return {
    x,
    v: Array.from({ length: 32 }, () => value(prng) | (value(prng) << 64n)),
    sp: BigInt(DATA_MIDDLE),
    nzcv: prng.below(16),
    // DN, FZ and the rounding mode.
    fpcr: prng.below(2) === 0 ? 0 : prng.below(16) << 22,
    fpsr: prng.below(3) === 0 ? 0x10 : 0,
    tpidr: prng.u64(),
    data,
  };
}
