// Goal: patterns are seeded, stay in their window, and spread as their names say.
// Method: thousands of accesses of each, counted per page; two equal seeds side by side.
import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import type { CurrentAccess } from "../../../src/machine/synthetic/program.js";
import { PatternSource, type PatternSpec } from "../../../src/machine/synthetic/program.js";

const PAGE = 4096;
const SPEC: PatternSpec = {
  pattern: "uniform",
  base: 2 ** 33,
  bytes: 64 * PAGE,
  count: 0,
  writePercent: 100,
  length: 8,
  stride: PAGE,
  skew: 0,
  seed: 1n,
  pageSize: PAGE,
};

function take(spec: Partial<PatternSpec>, count: number): CurrentAccess[] {
  const source = new PatternSource({ ...SPEC, ...spec });
  const taken: CurrentAccess[] = [];
  for (let at = 0; at < count; at++) {
    const out = { ipa: 0, length: 0, isWrite: false, lo: 0, hi: 0 };
    if (!source.next(at, out)) break;
    taken.push(out);
  }
  return taken;
}

function perPage(accesses: readonly CurrentAccess[], pages = 64): number[] {
  const counts = new Array<number>(pages).fill(0);
  for (const { ipa } of accesses) counts[Math.floor((ipa - SPEC.base) / PAGE)]!++;
  return counts;
}

const KINDS = ["uniform", "zipf", "sequential", "hot-set"] as const;

describe.each(KINDS)("%s", (pattern) => {
  const spec = { pattern, skew: pattern === "zipf" ? 110 : 20 };

  it("is the same for the same seed", () => {
    expect(take({ ...spec, seed: 5n }, 200)).toEqual(take({ ...spec, seed: 5n }, 200));
    if (pattern === "sequential") return;
    expect(take({ ...spec, seed: 6n }, 200)).not.toEqual(take({ ...spec, seed: 5n }, 200));
  });

  it.each([
    [8, 64 * PAGE],
    [1, 1],
    [4, 100],
    [8, PAGE],
    [2, 3 * PAGE + 100],
  ])("stays in its window, aligned to its length (%d bytes of %d)", (length, bytes) => {
    const accesses = take({ ...spec, length, bytes }, 3000);
    expect(accesses.length).toBe(3000);
    const end = SPEC.base + bytes;
    const wrong = accesses.filter(
      ({ ipa, length: n }) =>
        n !== length || ipa < SPEC.base || ipa + n > end || ipa % length !== 0,
    );
    expect(wrong).toEqual([]);
  });

  it("stores its position + 1 and ends after its count", () => {
    const accesses = take({ ...spec, count: 50 }, 1000);
    expect(accesses.map(({ lo, hi }) => [lo, hi])).toEqual(
      Array.from({ length: 50 }, (_, i) => [i + 1, 0]),
    );
  });

  it.each([0, 30, 100])("stores %d percent of the time", (writePercent) => {
    const accesses = take({ ...spec, writePercent }, 4000);
    const share = accesses.filter(({ isWrite }) => isWrite).length / 40;
    expect(Math.abs(share - writePercent)).toBeLessThanOrEqual(writePercent % 100 === 0 ? 0 : 4);
  });
});

describe("distributions", () => {
  it("uniform: every page about equally", () => {
    for (const count of perPage(take({}, 64_000))) {
      expect(Math.abs(count - 1000)).toBeLessThan(200);
    }
  });

  it("uniform: every offset of a page can come", () => {
    const offsets = new Set(take({ bytes: PAGE }, 20_000).map(({ ipa }) => ipa % PAGE));
    expect(offsets.size).toBe(512);
  });

  it("sequential: strides through the window and starts again at its beginning", () => {
    const pages = take({ pattern: "sequential", bytes: 4 * PAGE }, 12).map(
      ({ ipa }) => ipa - SPEC.base,
    );
    const once = [0, PAGE, 2 * PAGE, 3 * PAGE];
    expect(pages).toEqual([...once, ...once, ...once]);
    const dense = take({ pattern: "sequential", bytes: 24, stride: 8 }, 7);
    expect(dense.map(({ ipa }) => ipa - SPEC.base)).toEqual([0, 8, 16, 0, 8, 16, 0]);
    const wide = take({ pattern: "sequential", bytes: PAGE, stride: 3 * PAGE }, 3);
    expect(wide.map(({ ipa }) => ipa - SPEC.base)).toEqual([0, 0, 0]);
  });

  it("hot-set: the hot share takes nine of ten and its part of the rest", () => {
    const counts = perPage(take({ pattern: "hot-set", skew: 25 }, 20_000));
    const hot = counts.slice(0, 16).reduce((a, b) => a + b, 0) / 20_000;
    expect(Math.abs(hot - (0.9 + 0.1 * 0.25))).toBeLessThan(0.02);
    expect(counts.every((count) => count > 0)).toBe(true);
  });

  it.each([50, 100, 150])("zipf with exponent %d/100: falls, and is heavy in front", (skew) => {
    const counts = perPage(take({ pattern: "zipf", skew }, 64_000));
    const quarter = (at: number) => counts.slice(at * 16, at * 16 + 16).reduce((a, b) => a + b, 0);
    const quarters = [0, 1, 2, 3].map(quarter);
    expect([...quarters].sort((a, b) => b - a)).toEqual(quarters);
    // Share of the first page of the continuous law that the source inverts.
    const s = skew / 100;
    const mass = (n: number) => (s === 1 ? Math.log(n) : (n ** (1 - s) - 1) / (1 - s));
    expect(Math.abs(counts[0]! / 64_000 - mass(2) / mass(65))).toBeLessThan(0.01);
  });

  it("zipf with exponent 0 is uniform", () => {
    const counts = perPage(take({ pattern: "zipf", skew: 0 }, 64_000));
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(200);
  });
});

it("a window holds at least one access", () => {
  expect(() => new PatternSource({ ...SPEC, bytes: 7 })).toThrow(AssertionFailed);
});
