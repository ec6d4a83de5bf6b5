// Owns: a guest that counts, stamps page after page with its count, and finds there what it left a
// lap ago. Test process.
import * as a64 from "./a64.js";

export interface Stamping {
  /** Where its pages begin. */
  readonly data: number;
  /** Where its count goes, and 8 bytes later how many stamps were not what it had left. */
  readonly count: number;
  readonly pagesLog2: number;
}

/** Of a small board. */
export const STAMPS = {
  count: 0x4018_0000,
  data: 0x4010_0000,
  pagesLog2: 6,
  pages: 2 ** 6,
} as const;

/** x0 count, x1 data, x4 where the count goes, x5 bad stamps. */
export function stampingGuest(where: Stamping = STAMPS): Uint8Array<ArrayBuffer> {
  const { data, count, pagesLog2 } = where;
  const begin = [
    ...a64.mov(0, 0n),
    ...a64.mov(1, BigInt(data)),
    ...a64.mov(4, BigInt(count)),
    ...a64.mov(5, 0n),
    ...a64.mov(11, BigInt(2 ** pagesLog2)),
  ];
  const loop = [
    a64.ubfx(6, 0, 0, pagesLog2),
    a64.addReg(7, 1, 6, 12), // tidy: the guest's pages
    a64.ldr(8, 7),
    a64.subsReg(9, 0, 11),
    a64.bhs(2),
    a64.b(4),
    a64.subsReg(10, 8, 9),
    a64.beq(2),
    a64.add(5, 5, 1),
    a64.str(0, 7),
    a64.str(5, 4, 8),
    a64.str(0, 4),
    a64.add(0, 0, 1),
  ];
  return a64.bytesOf([...begin, ...loop, a64.b(-loop.length)]) as Uint8Array<ArrayBuffer>;
}
