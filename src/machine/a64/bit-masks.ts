// Owns: the bit masks of logical and bitfield immediates. Any thread.
// @source Arm ARM J1, shared/functions DecodeBitMasks

export interface BitMasks {
  readonly wmask: bigint;
  readonly tmask: bigint;
}

/**
 * @param immediate a logical immediate: all ones are reserved
 * @returns null for a reserved value
 */
export function bitMasks(
  sf: number,
  n: number,
  imms: number,
  immr: number,
  immediate: boolean,
): BitMasks | null {
  const combined = (n << 6) | (~imms & 0x3f);
  if (combined < 2 || (sf === 0 && n === 1)) return null;
  const length = 31 - Math.clz32(combined);
  const levels = 2 ** length - 1;
  if (immediate && (imms & levels) === levels) return null;
  const size = 2 ** length;
  const s = imms & levels;
  const r = immr & levels;
  const difference = (s - r) & levels;
  const ones = (count: number): bigint => (1n << BigInt(count)) - 1n;
  const element = ones(s + 1);
  const rotated = ((element >> BigInt(r)) | (element << BigInt(size - r))) & ones(size);
  const width = sf === 1 ? 64 : 32;
  return { wmask: repeat(rotated, size, width), tmask: repeat(ones(difference + 1), size, width) };
}

function repeat(element: bigint, size: number, width: number): bigint {
  let value = 0n;
  for (let at = 0; at < width; at += size) value |= element << BigInt(at);
  return value;
}
