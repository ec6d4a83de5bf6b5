// Goal: the disassembler writes what GNU objdump writes.
// Method: texts of our own words, recorded from objdump; where it is installed, those again, our
// guest image, words drawn from a seed, and every tenth word of the golden vectors beside us.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { committedImage } from "../../bench/guest/support/image.js";
import { Prng } from "../../src/base/prng.js";
import { disassemble } from "../../src/machine/a64/disassembler/disassembler.js";
import { missing, programVersion } from "../../tools/debian.mjs";
import { BASE, compare, OBJDUMP, objdump, wordsOf } from "./objdump.js";

const OWN = new URL("./own.txt", import.meta.url);
const VECTORS = fileURLToPath(new URL("../../../shared/oracle/a64", import.meta.url));

const own = readFileSync(OWN, "utf8")
  .trim()
  .split("\n")
  .map((line) => ({ word: Number.parseInt(line.slice(0, 8), 16), text: line.slice(9) }));

describe("texts of our own words", () => {
  it("are what was recorded", () => {
    expect(own.length).toBeGreaterThan(700);
    const ours = own.map(({ word }, at) => disassemble(word, BigInt(BASE + 4 * at)));
    expect(ours).toEqual(own.map(({ text }) => text));
  });

  it("name addresses relative to the instruction, modulo 2^64", () => {
    expect(disassemble(0x17ff_ffff, 0x1000n)).toBe("b 0xffc");
    expect(disassemble(0x97ff_ffff, 0n)).toBe("bl 0xfffffffffffffffc");
    expect(disassemble(0xb000_0001, 0xffff_8000_0123_4568n)).toBe("adrp x1, 0xffff800001235000");
  });

  it("name GICv5's registers and instructions, which objdump of Debian 12 doesn't know", () => {
    const texts: readonly (readonly [number, string])[] = [
      [0xd508_c103, "gic cddis, x3"],
      [0xd508_c204, "gic cddi, x4"],
      [0xd508_c1ff, "gic cdeoi"],
      [0xd528_c305, "gicr x5, cdia"],
      [0xd508_c01f, "gsb sys"],
      [0xd508_c03f, "gsb ack"],
      [0xd50c_c186, "gic vdpend, x6"],
      [0xd538_ca47, "mrs x7, icc_idr0_el1"],
      [0xd518_cac0, "msr icc_ppi_enabler0_el1, x0"],
      [0xd519_c042, "msr icc_pcr_el1, x2"],
      [0xd508_c1c1, "sys #0, C12, C1, #6, x1"],
    ];
    for (const [word, text] of texts) expect(disassemble(word, 0n)).toBe(text);
  });

  it("of no instruction are data", () => {
    expect(disassemble(0xffff_ffff, 0n)).toBe(".word 0xffffffff");
    expect(disassemble(0x0123_4567, 0n)).toBe(".word 0x01234567");
  });
});

/** SVE, SME and FEAT_MOPS, which the disassembler leaves out. */
function isCovered(word: number): boolean {
  const isVectorLength = ((word >>> 27) & 3) === 0;
  const isMemoryCopy = (word & 0x3b20_0c00) === 0x1900_0400;
  return !isVectorLength && !isMemoryCopy;
}

const version = programVersion(OBJDUMP);
if (version === null) {
  it("would be compared with objdump", (context) => context.skip(missing(OBJDUMP)));
} else {
  describe(`against ${version}`, () => {
    it("the recorded texts are objdump's", () => {
      expect(objdump(own.map(({ word }) => word))).toEqual(own.map(({ text }) => text));
    });

    it("our guest image", () => {
      const image = committedImage();
      const words = new Set(new Uint32Array(image.buffer.slice(0, image.length & ~3)));
      const { agreed, differences } = compare([...words].filter(isCovered));
      expect(differences).toEqual([]);
      expect(agreed).toBeGreaterThan(1000);
    });

    it("words at random: 99 of 100", () => {
      const prng = new Prng(7n);
      const draw = () => prng.below(2 ** 16) * 2 ** 16 + prng.below(2 ** 16);
      const words = Array.from({ length: 40_000 }, draw).filter(isCovered);
      const { agreed, differences } = compare(words);
      const share = agreed / (agreed + differences.length);
      expect(share, differences.slice(0, 20).join("\n")).toBeGreaterThan(0.99);
    });

    const files = existsSync(VECTORS) ? readdirSync(VECTORS).filter((f) => /jsonl$/.test(f)) : [];
    if (files.length === 0) {
      it(`has no vectors at ${VECTORS}`, (context) => context.skip("none beside the project"));
    }
    it.each(files)("%s", (file) => {
      const words = wordsOf(join(VECTORS, file)).filter((_, at) => at % 10 === 0);
      const { agreed, differences } = compare(words.filter(isCovered));
      expect(differences).toEqual([]);
      expect(agreed).toBeGreaterThan(0);
    });
  });
}
