// Owns: rounds of AES on a state of sixteen bytes. VM thread.
// @source FIPS 197; Arm ARM C7.2 (AESE: shift rows, then substitute; the key is added before)
import { constV, type V128 } from "../../../base/wasm/value.js";
import { type LibFunction, type LibScope, lib } from "./function.js";

/** Product in GF(2^8) with the polynomial of AES. */
function product(a: number, b: number): number {
  let sum = 0;
  let power = a;
  for (let bit = 0; bit < 8; bit++) {
    if ((b & (1 << bit)) !== 0) sum ^= power;
    power = ((power << 1) ^ ((power & 0x80) !== 0 ? 0x11b : 0)) & 0xff;
  }
  return sum;
}

/** The substitution, from its definition: inverse, then an affine map. */
function substitution(): readonly number[] {
  const inverse = (x: number): number => {
    for (let y = 1; y < 256; y++) if (product(x, y) === 1) return y;
    return 0;
  };
  const rotl = (x: number, by: number): number => ((x << by) | (x >>> (8 - by))) & 0xff;
  return Array.from({ length: 256 }, (_, x) => {
    const b = inverse(x);
    return b ^ rotl(b, 1) ^ rotl(b, 2) ^ rotl(b, 3) ^ rotl(b, 4) ^ 0x63;
  });
}
const FORWARD = substitution();
const BACKWARD = FORWARD.reduce<number[]>((table, y, x) => {
  table[y] = x;
  return table;
}, []);

function bytesV(bytes: readonly number[]): V128 {
  const half = (from: number): bigint =>
    bytes.slice(from, from + 8).reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return constV(half(0), half(8));
}

/** Each byte looked up in a table of 256, sixteen at a time. */
function lookUp({ c }: LibScope, state: V128, table: readonly number[]): V128 {
  let found = bytesV(Array.from({ length: 16 }, () => 0));
  const index = c.variable("v128");
  index.set(state);
  const sixteen = bytesV(Array.from({ length: 16 }, () => 16));
  for (let row = 0; row < 16; row++) {
    // Indices beyond the row give 0; those below it wrap around to large ones.
    const part = bytesV(table.slice(16 * row, 16 * row + 16));
    found = c.keep(found.or(part.binary("i8x16.swizzle", index.get())));
    index.set(index.get().binary("i8x16.sub", sixteen));
  }
  return found;
}

/** Byte 4c + r comes from column c ± r. */
const rows = (direction: 1 | -1): readonly number[] =>
  Array.from({ length: 16 }, (_, at) => {
    const [column, row] = [at >> 2, at & 3];
    return 4 * ((column + direction * row + 4) & 3) + row;
  });

function round(name: string, direction: 1 | -1, table: readonly number[]): LibFunction<"v128"> {
  return lib(name, ["v128"], "v128", (s, state) => {
    const shifted = s.c.keep(state.shuffle(state, rows(direction)));
    s.c.return(lookUp(s, shifted, table));
  });
}

/** Every byte times x in GF(2^8). */
function doubled({ c }: LibScope, v: V128): V128 {
  const reduce = v.shift("i8x16.shr_s", 7).and(bytesV(Array.from({ length: 16 }, () => 0x1b)));
  return c.keep(v.shift("i8x16.shl", 1).xor(reduce));
}

/** Columns rotated up by some bytes. */
const turned = (v: V128, by: number): V128 =>
  v.shuffle(
    v,
    Array.from({ length: 16 }, (_, at) => (at & ~3) | ((at + by) & 3)),
  );

/** A column's bytes times the coefficients, the first of which belongs to the byte itself. */
function mix(name: string, coefficients: readonly number[]): LibFunction<"v128"> {
  return lib(name, ["v128"], "v128", (s, state) => {
    const powers = [state];
    for (let i = 1; i < 4; i++) powers.push(doubled(s, powers[i - 1]!));
    let sum = bytesV(Array.from({ length: 16 }, () => 0));
    for (const [by, coefficient] of coefficients.entries()) {
      for (const [bit, power] of powers.entries()) {
        if ((coefficient & (1 << bit)) !== 0) sum = s.c.keep(sum.xor(turned(power, by)));
      }
    }
    s.c.return(sum);
  });
}

export const AES_ENCRYPT = round("aes_encrypt", 1, FORWARD);
export const AES_DECRYPT = round("aes_decrypt", -1, BACKWARD);
export const AES_MIX = mix("aes_mix", [2, 3, 1, 1]);
export const AES_INVERSE_MIX = mix("aes_inverse_mix", [14, 11, 13, 9]);
