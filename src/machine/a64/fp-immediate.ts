// Owns: the 8-bit floating-point immediate of FMOV. Any thread.
// @source Arm ARM J1, shared/functions VFPExpandImm

/** @returns the bits of a number of 16, 32 or 64 bits */
export function fpImmediate(imm8: number, bits: 16 | 32 | 64): bigint {
  const exponentBits = { 16: 5, 32: 8, 64: 11 }[bits];
  const fractionBits = bits - exponentBits - 1;
  const sign = BigInt(imm8 >>> 7);
  const b = (imm8 >>> 6) & 1;
  const repeated = b === 1 ? (1n << BigInt(exponentBits - 3)) - 1n : 0n;
  const exponent =
    (BigInt(1 - b) << BigInt(exponentBits - 1)) | (repeated << 2n) | BigInt((imm8 >>> 4) & 3);
  const fraction = BigInt(imm8 & 15) << BigInt(fractionBits - 4);
  return (sign << BigInt(bits - 1)) | (exponent << BigInt(fractionBits)) | fraction;
}
