// Goal: the set notation of recordings means the same in every spelling, and as a bitmap.
// Method: hand-made cases, and a round trip over random sets.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bitmapOf, compressPages, expandPages, pagesOfBitmap } from "./page-set.js";

describe("page sets", () => {
  it("keeps order and repetition of a list", () => {
    expect(expandPages([5, 3, [7, 9], 5])).toEqual([5, 3, 7, 8, 9, 5]);
    expect(expandPages([])).toEqual([]);
  });

  it("refuses what is no page", () => {
    for (const item of [-1, 1.5, "3", [3, 2], [1, 2, 3], null]) {
      expect(() => expandPages([item])).toThrow("not a page");
    }
    expect(() => expandPages([[0, 2 ** 40]])).toThrow("too long");
  });

  it("joins neighbours into runs", () => {
    expect(compressPages([0, 1, 2, 5, 7, 8])).toEqual([[0, 2], 5, [7, 8]]);
    expect(compressPages([])).toEqual([]);
  });

  it("fills whole words and keeps the bits beyond the last page", () => {
    expect(bitmapOf([[0, 2], 9], 16)).toEqual(Uint8Array.of(7, 2, 0, 0, 0, 0, 0, 0));
    expect(bitmapOf([63, 64], 10)).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x80));
    expect(bitmapOf([[0, 65535]], 65).length).toBe(16);
    expect(bitmapOf([], 0).length).toBe(0);
  });

  it("comes back from a bitmap as it went in", () => {
    const sets = fc.uniqueArray(fc.nat({ max: 300 })).map((set) => set.sort((a, b) => a - b));
    fc.assert(
      fc.property(sets, (set) => {
        expect(expandPages(compressPages(set))).toEqual(set);
        expect(pagesOfBitmap(bitmapOf(compressPages(set), 301))).toEqual(set);
      }),
    );
  });
});
