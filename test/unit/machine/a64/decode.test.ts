// Goal: the instruction tables say exactly what is allocated, once.
// Method: pairs of rows, random words and the edges of every row; the Arm ARM's unallocated
// encodings by a list of their own; objdump, where it is installed, as a second opinion whose
// differences all have a name.
import { describe, expect, it } from "vitest";
import { Prng } from "../../../../src/base/prng.js";
import type { Insn } from "../../../../src/machine/a64/insn.js";
import { INSTRUCTIONS, newDecoder } from "../../../../src/machine/a64/isa.js";
import { fieldsOf, parsePattern } from "../../../../src/machine/a64/pattern.js";
import { missing } from "../../../../tools/debian.mjs";
import { disassembled } from "../../../support/objdump.js";
import { NOT_OBJDUMPS, NOT_OURS, UNALLOCATED } from "./decode.table.js";

const decoder = newDecoder();
const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, "0");

/** Whether a row means this word, its fixed bits given. */
function allows({ pattern, spec }: Insn, word: number): boolean {
  const fields = fieldsOf(pattern, word);
  return (spec.when?.(fields) ?? true) && (spec.valid?.(fields) ?? true);
}

function matches({ pattern }: Insn, word: number): boolean {
  return (word & pattern.mask) >>> 0 === pattern.value;
}

/** Whether all fixed bits of `wide` are fixed in `narrow` too, and more are. */
function refines(narrow: Insn, wide: Insn): boolean {
  const [a, b] = [narrow.pattern.mask, wide.pattern.mask];
  return (a & b) >>> 0 === b && a !== b;
}

/** Words of a row's fixed bits: random fields, and each field's ends. */
function* edges({ pattern }: Insn, prng: Prng): Generator<number> {
  const filled = (): number => (pattern.value | (prng.u32() & ~pattern.mask)) >>> 0;
  yield pattern.value;
  yield (pattern.value | ~pattern.mask) >>> 0;
  for (const { shift, width } of pattern.fields) {
    const bits = ((2 ** width - 1) << shift) >>> 0;
    yield (filled() | bits) >>> 0;
    yield (filled() & ~bits) >>> 0;
  }
  for (let n = 0; n < 24; n++) {
    const word = filled();
    yield word;
    // A word of the row beside, perhaps unallocated.
    yield (word ^ (1 << prng.below(32))) >>> 0;
  }
}

function sample(random: number, seed: bigint): number[] {
  const prng = new Prng(seed);
  const words = INSTRUCTIONS.flatMap((row) => [...edges(row, prng)]);
  for (let n = 0; n < random; n++) words.push(prng.u32());
  return words;
}

/** Rows by bits 28:21, found without the decoder. */
function byUpperBits(): readonly (readonly Insn[])[] {
  return Array.from({ length: 256 }, (_, bits) =>
    INSTRUCTIONS.filter(({ pattern }) => {
      return (((bits << 21) ^ pattern.value) & pattern.mask & (0xff << 21)) === 0;
    }),
  );
}

describe("rows", () => {
  it("overlap only where one refines the other", () => {
    const prng = new Prng(1n);
    const wrong: string[] = [];
    for (const [i, a] of INSTRUCTIONS.entries()) {
      for (const b of INSTRUCTIONS.slice(i + 1)) {
        const both = a.pattern.mask & b.pattern.mask;
        if (((a.pattern.value ^ b.pattern.value) & both) !== 0) continue;
        if (refines(a, b) || refines(b, a)) continue;
        const [mask, value] = [a.pattern.mask | b.pattern.mask, a.pattern.value | b.pattern.value];
        for (let n = 0; n < 4000; n++) {
          const word = (value | (prng.u32() & ~mask)) >>> 0;
          if (!allows(a, word) || !allows(b, word)) continue;
          wrong.push(`${a.name} and ${b.name} both mean ${hex(word)}`);
          break;
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  it("have names of their own", () => {
    const names = INSTRUCTIONS.map(({ name }) => name);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  it("are found for each of 4 million words, the most refined first", () => {
    const rows = byUpperBits();
    const wrong: string[] = [];
    let found = 0;
    for (const word of sample(4_000_000, 2n)) {
      const meaning = rows[(word >>> 21) & 0xff]!.filter((row) => {
        return matches(row, word) && allows(row, word);
      });
      const { row = null } = decoder.find(word) ?? {};
      if (row !== null) found++;
      const isRight =
        row === null
          ? meaning.length === 0
          : meaning.every((other) => other === row || refines(row, other));
      if (!isRight || (row !== null && !meaning.includes(row))) wrong.push(hex(word));
    }
    expect(wrong.slice(0, 10)).toEqual([]);
    expect(found).toBeGreaterThan(1_000_000);
  });
});

describe("unallocated encodings", () => {
  it.each(UNALLOCATED.map((one) => [one.name, one] as const))("%s", (_, { pattern, only }) => {
    const prng = new Prng(3n);
    const parsed = parsePattern(pattern);
    let tried = 0;
    const found: string[] = [];
    for (let n = 0; n < 4000; n++) {
      const word = (parsed.value | (prng.u32() & ~parsed.mask)) >>> 0;
      if (only !== undefined && !only(fieldsOf(parsed, word))) continue;
      tried++;
      const row = decoder.find(word)?.row;
      if (row !== undefined) found.push(`${hex(word)} is ${row.name}`);
    }
    expect(found.slice(0, 5)).toEqual([]);
    expect(tried).toBeGreaterThan(20);
  });
});

/** SVE and SME have whole parts of the encoding; bits 28:25. */
const isScalable = (word: number): boolean => ((word >>> 25) & 0b1101) === 0;
/** SYS, MSR and MRS of no register space: bits 20:19 are 00, and not a hint, barrier or PSTATE. */
const isNoRegister = (word: number): boolean => (word & 0xffd8_0000) >>> 0 === 0xd500_0000;

function nameOfDifference(word: number, text: string): string | null {
  const row = decoder.find(word)?.row;
  const isTheirs = !/undefined|\.inst/.test(text);
  if ((row !== undefined) === isTheirs) return null;
  if (row !== undefined) return NOT_OBJDUMPS.find(([, name]) => name.test(row.name))?.[0] ?? "";
  if (isScalable(word)) return "FEAT_SVE, FEAT_SME";
  const known = NOT_OURS.find(([, pattern]) => pattern.test(text))?.[0];
  if (known !== undefined) return known;
  return isNoRegister(word) && /^(msr|mrs|sysl?) /.test(text) ? "no register space" : "";
}

describe("objdump", () => {
  const words = sample(100_000, 4n);
  const texts = disassembled(words);
  if (texts.length === 0) {
    it("is not installed", (context) => context.skip(missing("aarch64-linux-gnu-objdump")));
    return;
  }
  it("agrees on what is allocated, but for what has a name", () => {
    expect(texts.length).toBe(words.length);
    const unnamed = words.flatMap((word, i) => {
      return nameOfDifference(word, texts[i]!) === "" ? [`${hex(word)}: ${texts[i]}`] : [];
    });
    expect(unnamed.slice(0, 40)).toEqual([]);
  });
});
