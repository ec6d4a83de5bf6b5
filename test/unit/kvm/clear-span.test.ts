// Goal: CLEAR makes exactly the pages trap again that KVM's span makes: from the lowest to the
// highest page named in each word, never the ones outside, whatever tables the word lies in.
// Method: dirty pages in slots at odd places, random masks, and a look at every leaf.
import { describe, expect, it } from "vitest";
import { Prng } from "../../../src/base/prng.js";
import { Inline } from "../../support/inline.js";

const MANUAL_PROTECT = 168;
const LOG = 1;

/** Pages of 64-page words that lie between the first and the last one taken, both included. */
function spans(taken: ReadonlySet<number>, npages: number): Set<number> {
  const hit = new Set<number>();
  for (let word = 0; word < npages; word += 64) {
    const inWord = [...taken].filter((page) => page >= word && page < word + 64);
    const last = Math.max(...inWord);
    for (let page = Math.min(...inWord); page <= last; page++) hit.add(page);
  }
  return hit;
}

describe("CLEAR protects", () => {
  it.each([
    ["a table's first pages", "write-protect", 0x4000_0000, 192],
    ["a word across two tables", "write-protect", 0x4000_0000 + 500 * 4096, 192],
    ["a short last word", "write-protect", 0x4000_0000 + 448 * 4096, 70],
    ["a table's first pages", "dbm", 0x4000_0000, 192],
    ["a word across two tables", "dbm", 0x4000_0000 + 500 * 4096, 192],
  ] as const)("%s, %s", (_what, dirtyTracking, gpa, npages) => {
    const prng = new Prng(11n);
    for (let round = 0; round < 12; round++) {
      const vm = new Inline({ dirtyTracking });
      vm.enable(MANUAL_PROTECT, 1n);
      vm.slot(1, npages, { gpa, flags: LOG });
      vm.vcpu();
      const some = (percent: number) =>
        Array.from({ length: npages }, (_, page) => page).filter(() => prng.below(100) < percent);
      const dirty = some(round % 2 === 0 ? 60 : 100);
      const named = some(round % 3 === 0 ? 100 : 10);
      vm.store(
        0,
        dirty.map((page) => gpa + page * vm.page),
      );
      const taken = new Set(named.filter((page) => dirty.includes(page)));
      expect(vm.clear(1, 0, npages, named)).toBe(taken.size);
      const hit = dirtyTracking === "dbm" ? taken : spans(taken, npages);
      const writable = dirty.filter((page) => {
        const state = vm.leaf(gpa + page * vm.page)?.state;
        return state === "writable-dirty" || state === "writable-unmanaged";
      });
      expect(writable).toEqual(dirty.filter((page) => !hit.has(page)));
      expect(vm.dirty(1)).toEqual(dirty.filter((page) => !taken.has(page)));
    }
  });
});
