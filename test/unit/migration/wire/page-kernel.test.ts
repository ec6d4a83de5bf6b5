// Goal: the block sum is the one of the document, and damage changes it; runs of zero pages are
// found where they are. Method: a sum a word at a time, every bit of a page, many kinds of damage.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Prng } from "../../../../src/base/prng.js";
import { BLOCK_BYTES, pageKernel } from "../../../../src/migration/wire/page-kernel.js";
import { blockSum } from "../../../support/block-sum.js";

const PAGE = 4096;
/** Damaged contents of each kind: a sum of 32 bits lets 1 in 2^32 pass. */
const TRIES = 20_000;

function memory(pages: number) {
  const shared = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  return { bytes: new Uint8Array(shared.buffer), kernel: pageKernel(shared) };
}

function noise(bytes: Uint8Array, seed: bigint): void {
  const prng = new Prng(seed);
  for (let i = 0; i < bytes.length; i++) bytes[i] = prng.u32();
}

/** What guests' pages are full of: small numbers, pointers, text, the same word over and over. */
function plain(bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = i % 8 === 0 ? i >> 6 : (i >> 11) % 3;
}

describe("the block sum", () => {
  it("is the one of the document", () => {
    const { bytes, kernel } = memory(1);
    noise(bytes, 3n);
    for (const [at, blocks] of [
      [0, 1],
      [0, 16],
      [4096, 3],
      [52, 2],
      [61_440, 1],
    ] as const) {
      const content = bytes.slice(at, at + blocks * BLOCK_BYTES);
      expect(kernel.sum(at, content.length, 0)).toBe(blockSum(content));
    }
    bytes.fill(0);
    expect(kernel.sum(0, 8192, 0)).toBe(blockSum(new Uint8Array(8192)));
    expect(kernel.sum(0, 8192, 0)).not.toBe(0);
  });

  it("goes on from what comes before", () => {
    const { bytes, kernel } = memory(1);
    noise(bytes, 4n);
    const whole = kernel.sum(0, bytes.length, 0);
    for (const first of [1, 5, 15]) {
      const start = kernel.sum(0, first * BLOCK_BYTES, 0);
      const rest = bytes.length - first * BLOCK_BYTES;
      expect(kernel.sum(first * BLOCK_BYTES, rest, start)).toBe(whole);
    }
  });

  for (const [what, fill] of [
    ["zeros", (bytes: Uint8Array) => bytes.fill(0)],
    ["regular content", plain],
    ["noise", (bytes: Uint8Array) => noise(bytes, 5n)],
  ] as const) {
    it(`changes with every bit of ${what}`, () => {
      const { bytes, kernel } = memory(1);
      fill(bytes);
      const good = kernel.sum(0, 8192, 0);
      const seen = new Set([good]);
      for (let bit = 0; bit < 8192 * 8; bit++) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        seen.add(kernel.sum(0, 8192, 0));
        bytes[bit >> 3]! ^= 1 << (bit & 7);
      }
      expect(kernel.sum(0, 8192, 0)).toBe(good);
      // Every one of them differs from the good one; two of them may meet: 65,536 of 2^32.
      expect(seen.size).toBeGreaterThan(8192 * 8 - 8);
    });

    it(`changes with any word of ${what}, whatever it becomes`, () => {
      const { bytes, kernel } = memory(1);
      fill(bytes);
      const words = new Uint32Array(bytes.buffer);
      const good = kernel.sum(0, 8192, 0);
      const prng = new Prng(6n);
      for (let i = 0; i < TRIES; i++) {
        const at = prng.below(8192 / 4);
        const before = words[at]!;
        words[at] = prng.below(2) === 0 ? prng.u32() : before + 1 + prng.below(9);
        if (words[at] !== before) expect(kernel.sum(0, 8192, 0)).not.toBe(good);
        words[at] = before;
      }
    });

    it(`changes with two bits of ${what}, near each other and at the end`, () => {
      const { bytes, kernel } = memory(1);
      fill(bytes);
      const words = new Uint32Array(bytes.buffer);
      const last = BLOCK_BYTES / 4;
      const good = kernel.sum(0, BLOCK_BYTES, 0);
      // Words of one lane, of lanes that are joined next to each other, and of neighbours.
      for (const [a, b] of [
        [0, 1],
        [0, 4],
        [0, 32],
        [4, 36],
        [500, 532],
        [last - 64, last - 32],
        [last - 32, last - 28],
        [last - 32, last - 31],
        [last - 2, last - 1],
        [last - 5, last - 1],
      ] as const) {
        for (let pair = 0; pair < 32 * 32; pair++) {
          words[a]! ^= 1 << (pair >> 5);
          words[b]! ^= 1 << (pair & 31);
          expect(kernel.sum(0, BLOCK_BYTES, 0)).not.toBe(good);
          words[a]! ^= 1 << (pair >> 5);
          words[b]! ^= 1 << (pair & 31);
        }
      }
    });

    it(`changes when ${what} is damaged in several places`, () => {
      const { bytes, kernel } = memory(1);
      fill(bytes);
      const whole = 16 * BLOCK_BYTES;
      const copy = bytes.slice();
      const words = new Uint32Array(bytes.buffer);
      const good = kernel.sum(0, whole, 0);
      const prng = new Prng(7n);
      let changed = 0;
      const look = (): void => {
        const isSame = Buffer.compare(bytes, copy) === 0;
        if (!isSame) changed += 1;
        if (!isSame) expect(kernel.sum(0, whole, 0)).not.toBe(good);
        bytes.set(copy);
      };
      const place = (unit: number): number => prng.below(whole / unit) * unit;
      for (let i = 0; i < TRIES / 10; i++) {
        // A few bits, far apart and next to each other, the same bit of words of one lane too.
        for (let k = 2 + prng.below(4); k > 0; k--) bytes[prng.below(whole)]! ^= 1 << prng.below(8);
        look();
        const [word, bit] = [prng.below(whole / 8), 1 << prng.below(32)];
        words[word]! ^= bit;
        words[word + 32 * prng.below(64)]! ^= bit;
        look();
        // Words, lines, sectors and pages that change places.
        for (const unit of [4, 8, 64, 128, 512, BLOCK_BYTES]) {
          const [a, b] = [place(unit), place(unit)];
          bytes.copyWithin(a, b, b + unit);
          bytes.set(copy.subarray(a, a + unit), b);
          look();
        }
        // A stretch that is zeros, ones, or what stands elsewhere.
        const [from, length] = [prng.below(whole - 2), 1 + prng.below(9000)];
        bytes.fill(prng.below(2) * 255, from, Math.min(whole, from + length));
        look();
        bytes.copyWithin(from, prng.below(whole), prng.below(whole));
        look();
        // All of it moved by some bytes.
        bytes.copyWithin(1 + prng.below(200), 0);
        look();
      }
      expect(changed).toBeGreaterThan(TRIES / 10);
    });
  }

  it("has no value that damage meets too often", () => {
    // Sums of random contents fall into 2^16 buckets by either half as chance would have it.
    const { bytes, kernel } = memory(1);
    const words = new Uint32Array(bytes.buffer);
    const low = new Uint32Array(65_536);
    const high = new Uint32Array(65_536);
    const count = 2 ** 19;
    for (let i = 0; i < count; i++) {
      words[i % 1024] = i;
      const sum = kernel.sum(0, BLOCK_BYTES, 0);
      low[sum & 0xffff]! += 1;
      high[sum >>> 16]! += 1;
    }
    for (const buckets of [low, high]) {
      const mean = count / buckets.length;
      const chi = buckets.reduce((sum, n) => sum + (n - mean) ** 2 / mean, 0);
      // Six deviations of a chi-squared of 65,535 degrees.
      expect(Math.abs(chi - 65_535)).toBeLessThan(6 * Math.sqrt(2 * 65_535));
    }
  });
});

describe("runs of pages", () => {
  const { bytes, kernel } = memory(16);

  it("of zeros and of anything else are as long as they are", () => {
    const kinds = fc.array(fc.constantFrom(-1, 0, 1, 4095, 2048, 127), { maxLength: 40 });
    fc.assert(
      fc.property(kinds, fc.constantFrom(PAGE, 16_384), (list, pageSize) => {
        bytes.fill(0);
        const pages = list.slice(0, bytes.length / pageSize);
        for (const [page, at] of pages.entries()) if (at >= 0) bytes[page * pageSize + at] = 1;
        for (let page = 0; page < pages.length; page++) {
          const rest = pages.slice(page);
          const lengthOf = (isZero: boolean): number => {
            const found = rest.findIndex((at) => at < 0 !== isZero);
            return found < 0 ? rest.length : found;
          };
          const at = page * pageSize;
          expect(kernel.zeroPages(at, rest.length, pageSize)).toBe(lengthOf(true));
          expect(kernel.dataPages(at, rest.length, pageSize)).toBe(lengthOf(false));
        }
        expect(kernel.zeroPages(0, 0, pageSize)).toBe(0);
      }),
    );
  });

  it("end where memory ends", () => {
    bytes.fill(0);
    const pages = bytes.length / PAGE;
    expect(kernel.zeroPages(0, pages, PAGE)).toBe(pages);
    bytes[bytes.length - 1] = 1;
    expect(kernel.zeroPages(0, pages, PAGE)).toBe(pages - 1);
    expect(kernel.dataPages(bytes.length - PAGE, 1, PAGE)).toBe(1);
  });

  it("may be any page's size in a memory of any size", () => {
    const large = memory(64);
    large.bytes[65_536 * 3] = 1;
    expect(large.kernel.zeroPages(0, 64, 65_536)).toBe(3);
    expect(large.kernel.dataPages(65_536 * 3, 61, 65_536)).toBe(1);
  });
});
