// Owns: encoding patterns as the Arm ARM draws them, and finding the row of a word. VM thread.
//
//   "sf:1 00 100010 sh:1 imm12:12 Rn:5 Rd:5"
//
// Digits are fixed bits, `name:width` is a field; from bit 31 down, 32 bits in all.
import { assert } from "../../base/assert.js";

export type Fields = Readonly<Record<string, number>>;

interface FieldPlace {
  readonly name: string;
  readonly shift: number;
  readonly width: number;
  /** What is left of a word once it is shifted. */
  readonly mask: number;
}

export interface Pattern {
  /** Fixed bits; both unsigned. */
  readonly mask: number;
  readonly value: number;
  readonly fields: readonly FieldPlace[];
}

export function parsePattern(text: string): Pattern {
  let mask = 0;
  let value = 0;
  let left = 32;
  const fields: FieldPlace[] = [];
  for (const token of text.split(/\s+/)) {
    const [name = "", width] = token.split(":");
    if (width === undefined) {
      for (const digit of token) {
        assert(digit === "0" || digit === "1", `${text}: ${token} is no bits and has no width`);
        left--;
        mask |= 1 << left;
        value |= Number(digit) << left;
      }
    } else {
      left -= Number(width);
      fields.push({ name, shift: left, width: Number(width), mask: 2 ** Number(width) - 1 });
    }
  }
  assert(left === 0, `${text}: ${32 - left} bits, not 32`);
  return { mask: mask >>> 0, value: value >>> 0, fields };
}

export function fieldsOf(pattern: Pattern, word: number): Fields {
  const fields: Record<string, number> = {};
  for (const { name, shift, mask } of pattern.fields) fields[name] = (word >>> shift) & mask;
  return fields;
}

/** Bits 28:21 tell the groups well apart; a bucket holds the rows that may match there. */
const BUCKET_SHIFT = 21;
const BUCKETS = 256;

export class Decoder<R extends { readonly pattern: Pattern }> {
  readonly #buckets: R[][] = Array.from({ length: BUCKETS }, () => []);
  readonly #allows: (row: R, fields: Fields) => boolean;

  /** @param allows whether a row that matches by its fixed bits is meant */
  constructor(rows: readonly R[], allows: (row: R, fields: Fields) => boolean) {
    this.#allows = allows;
    // Where two rows match by their bits, the one with more of them fixed goes first.
    const sorted = [...rows].sort((a, b) => bitCount(b.pattern.mask) - bitCount(a.pattern.mask));
    for (const row of sorted) {
      const mask = (row.pattern.mask >>> BUCKET_SHIFT) & (BUCKETS - 1);
      const value = (row.pattern.value >>> BUCKET_SHIFT) & (BUCKETS - 1);
      for (let bucket = 0; bucket < BUCKETS; bucket++) {
        if ((bucket & mask) === value) this.#buckets[bucket]!.push(row);
      }
    }
  }

  /** @returns the row and its fields, or null for an unallocated encoding */
  find(word: number): { readonly row: R; readonly fields: Fields } | null {
    for (const row of this.#buckets[(word >>> BUCKET_SHIFT) & (BUCKETS - 1)]!) {
      if ((word & row.pattern.mask) >>> 0 !== row.pattern.value) continue;
      const fields = fieldsOf(row.pattern, word);
      if (this.#allows(row, fields)) return { row, fields };
    }
    return null;
  }
}

function bitCount(mask: number): number {
  let count = 0;
  for (let rest = mask >>> 0; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count++;
  return count;
}
