// Owns: the one text form of 64-bit values, "0x…" (DESIGN 9). Runs on any thread.

export const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** @returns lower-case "0x…" without leading zeros. */
export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

/**
 * Reads "0x…" or a decimal string as u64.
 * @returns undefined when the text is not a u64
 */
export function parseU64(text: string): bigint | undefined {
  if (!/^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})$/.test(text)) return undefined;
  const value = BigInt(text);
  return value <= U64_MAX ? value : undefined;
}
