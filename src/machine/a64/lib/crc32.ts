// Owns: the CRC-32 checksums of FEAT_CRC32. VM thread.
// @source Arm ARM C6.2 (CRC32B…CRC32CX): reflected, no inversion at either end
import { type LibFunction, lib } from "./function.js";

/** Reflected polynomials. */
const IEEE = 0xedb8_8320;
const CASTAGNOLI = 0x82f6_3b78;

/** (accumulator, value, bytes) → accumulator; bit by bit, least significant first. */
function crc(name: string, polynomial: number): LibFunction<"i32"> {
  return lib(name, ["i32", "i64", "i32"], "i32", ({ c }, accumulator, value, bytes) => {
    const sum = c.variable("i32");
    const rest = c.variable("i64");
    const left = c.variable("i32");
    sum.set(accumulator);
    rest.set(value);
    left.set(bytes);
    c.loop((nextByte) => {
      sum.set(sum.get().xor(rest.get().wrap().and(0xff)));
      for (let bit = 0; bit < 8; bit++) {
        // All ones where the lowest bit is 1.
        const mask = sum.get().and(1).neg();
        sum.set(sum.get().shrU(1).xor(mask.and(polynomial)));
      }
      rest.set(rest.get().shrU(8));
      left.set(left.get().sub(1));
      c.branchIf(left.get(), nextByte);
    });
    c.return(sum.get());
  });
}

export const CRC32 = {
  ieee: crc("crc32", IEEE),
  castagnoli: crc("crc32c", CASTAGNOLI),
};
