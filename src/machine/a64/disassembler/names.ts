// Owns: how registers, immediates and addresses are written. Any thread.
// @source Arm ARM C1.2, "Structure of the A64 assembler language"

const ZERO = 31;

/** A general register: XZR at 31. */
export const reg = (sf: number, n: number): string =>
  n === ZERO ? (sf === 1 ? "xzr" : "wzr") : `${sf === 1 ? "x" : "w"}${n}`;

/** A general register: SP at 31. */
export const regSp = (sf: number, n: number): string =>
  n === ZERO ? (sf === 1 ? "sp" : "wsp") : `${sf === 1 ? "x" : "w"}${n}`;

export const x = (n: number): string => reg(1, n);
export const w = (n: number): string => reg(0, n);
export const xsp = (n: number): string => regSp(1, n);

const SCALARS = ["b", "h", "s", "d", "q"] as const;
/** A scalar of the SIMD registers; size 0 is a byte. */
export const scalar = (size: number, n: number): string => `${SCALARS[size]}${n}`;
/** Letter of an element of 2^size bytes. */
export const letter = (size: number): string => SCALARS[size] ?? "";

const ARRANGEMENTS = ["8b", "16b", "4h", "8h", "2s", "4s", "1d", "2d", "?", "1q"] as const;
/** The arrangement of elements of 2^size bytes in 64 (Q is 0) or 128 bits. */
export const arrangement = (size: number, q: number): string => ARRANGEMENTS[2 * size + q] ?? "?";
export const vec = (n: number, size: number, q: number): string => `v${n}.${arrangement(size, q)}`;
export const lane = (n: number, size: number, at: number): string => `v${n}.${letter(size)}[${at}]`;

export const hex = (value: number | bigint): string => `#0x${value.toString(16)}`;
export const dec = (value: number): string => `#${value}`;

export const CONDITIONS = [
  ...["eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc"],
  ...["hi", "ls", "ge", "lt", "gt", "le", "al", "nv"],
];
export const condition = (at: number): string => CONDITIONS[at] ?? "";
/** The opposite of a condition other than AL and NV. */
export const inverted = (at: number): string => condition(at ^ 1);
export const isAlways = (cond: number): boolean => cond >= 14;

export function signed(value: number, bits: number): number {
  return value >= 2 ** (bits - 1) ? value - 2 ** bits : value;
}

/** The address that is `offset` bytes away. */
export const address = (pc: bigint, offset: number): string =>
  `0x${BigInt.asUintN(64, pc + BigInt(offset)).toString(16)}`;

export const SHIFTS = ["lsl", "lsr", "asr", "ror"];
/** ", lsl #3"; nothing for a shift to the left by 0. */
export const shifted = (kind: number, by: number): string =>
  kind === 0 && by === 0 ? "" : `, ${SHIFTS[kind]} #${by}`;

export const EXTENDS = ["uxtb", "uxth", "uxtw", "uxtx", "sxtb", "sxth", "sxtw", "sxtx"];

/** Value of an 8-bit floating-point immediate. */
function vfpExpand(imm8: number): number {
  const exponent = (((imm8 >> 4) & 7) ^ 4) - 3;
  const value = (16 + (imm8 & 15)) * 2 ** (exponent - 4);
  return imm8 & 0x80 ? -value : value;
}

/** "#1.000000000000000000e+00". */
export function floatImmediate(imm8: number): string {
  const [digits = "", exponent = ""] = vfpExpand(imm8).toExponential(18).split("e");
  return `#${digits}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
}

/** Consecutive registers, modulo 32: "{v0.8b, v1.8b}", "{v0.8b-v2.8b}", "{v31.d, v0.d, v1.d}". */
export function list(first: number, count: number, suffix: string): string {
  const names = Array.from({ length: count }, (_, n) => `v${(first + n) % 32}.${suffix}`);
  const range = count > 2 && first + count <= 32;
  return `{${range ? `${names[0]}-${names.at(-1)}` : names.join(", ")}}`;
}

/** ", #8"; nothing for 0. */
export const offset = (bytes: number): string => (bytes === 0 ? "" : `, ${dec(bytes)}`);

/** Base and offset: 1 is post-indexed, 3 pre-indexed, others neither. */
export function place(base: string, mode: number, bytes: number): string {
  if (mode === 1) return `[${base}], ${dec(bytes)}`;
  if (mode === 3) return `[${base}, ${dec(bytes)}]!`;
  return `[${base}${offset(bytes)}]`;
}
