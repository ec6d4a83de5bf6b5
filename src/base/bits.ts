// Owns: bit and alignment arithmetic on values above 32 bits. Runs on any thread.
// JavaScript's bit operators cut to 32 bits; addresses below 2^53 use these instead.

export const TWO_32 = 0x1_0000_0000;

/** Low 32 bits of an exact non-negative number, as u32. */
export function lo32(value: number): number {
  return value >>> 0;
}

/** Bits 63:32 of an exact number below 2^53. */
export function hi32(value: number): number {
  return Math.floor(value / TWO_32) >>> 0;
}

/** Joins two u32 halves; exact below 2^53. */
export function join64(lo: number, hi: number): number {
  return hi * TWO_32 + (lo >>> 0);
}

/** @returns whether value is a multiple of the power of two. */
export function isAligned(value: bigint, unit: bigint): boolean {
  return (value & (unit - 1n)) === 0n;
}

export function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

export function alignDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}

/** Number of one bits in a u32. */
export function popcount32(word: number): number {
  let v = word - ((word >>> 1) & 0x5555_5555);
  v = (v & 0x3333_3333) + ((v >>> 2) & 0x3333_3333);
  return (((v + (v >>> 4)) & 0x0f0f_0f0f) * 0x0101_0101) >>> 24;
}
