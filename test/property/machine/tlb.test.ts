// Goal: an invalidation drops exactly the copies of the leaves it overlaps, and nothing else.
// Method: random fills and invalidations against a plain list; only a set conflict may also drop.
import fc from "fast-check";
import { expect, it } from "vitest";
import { levelSize, PAGE_SIZES, pageGeometry } from "../../../src/base/page.js";
import { digestOf } from "../../../src/base/saved.js";
import { TLB_PERM, Tlb } from "../../../src/machine/mmu/tlb.js";

interface Copy {
  page: number;
  vmid: number;
  pa: number;
  perm: number;
  level: number;
}

/** Near each other, so that leaves overlap, and far apart, so that sets collide. */
const page = fc.oneof(
  fc.nat(1100),
  fc.nat(40).map((n) => n * 4096 + (n % 3)),
  fc.nat(1000).map((n) => 2 ** 33 + n),
);
const vmid = fc.constantFrom(1, 2);

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant("fill" as const),
      page,
      vmid,
      level: fc.constantFrom(3, 3, 3, 2, 1),
      perm: fc.constantFrom(TLB_PERM.READ, TLB_PERM.READ | TLB_PERM.WRITE, TLB_PERM.CLEAN),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("range" as const),
      page,
      vmid,
      count: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(512, 513, 5000, 2 ** 30)),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("vmid" as const), vmid }) },
);

const key = (copy: Copy) => [copy.page, copy.vmid, copy.pa, copy.perm, copy.level].join(":");

it.each(PAGE_SIZES)("exact invalidation with a granule of %d bytes", (size) => {
  const geometry = pageGeometry(size);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
      const tlb = new Tlb(geometry);
      let model: Copy[] = [];
      let pa = 0;
      for (const todo of steps) {
        if (todo.op === "fill") {
          pa += size;
          const copy = { ...todo, pa };
          tlb.fill(copy.page, copy.vmid, pa, copy.perm, copy.level);
          const set = Tlb.index(copy.page);
          model = [...model.filter((other) => Tlb.index(other.page) !== set), copy];
        } else if (todo.op === "range") {
          tlb.invalidateRange(todo.vmid, todo.page, todo.count);
          const end = todo.page + todo.count;
          model = model.filter((copy) => {
            const pages = levelSize(geometry, copy.level) / size;
            const first = Math.floor(copy.page / pages) * pages;
            return copy.vmid !== todo.vmid || first >= end || first + pages <= todo.page;
          });
        } else {
          tlb.invalidateVmid(todo.vmid);
          model = model.filter((copy) => copy.vmid !== todo.vmid);
        }
      }
      expect(tlb.count).toBe(model.length);
      const { entries } = tlb.save().data as { entries: number[][] };
      expect(entries.map((row) => row.join(":")).sort()).toEqual(model.map(key).sort());
      for (const copy of model) {
        const at = tlb.lookup(copy.page, copy.vmid);
        expect([tlb.pages[at], tlb.perms[at]]).toEqual([copy.pa, copy.perm]);
        expect(tlb.lookup(copy.page, copy.vmid === 1 ? 2 : 1)).toBe(-1);
      }
      const again = new Tlb(geometry);
      again.load(tlb.save());
      expect(digestOf([again.save()])).toBe(digestOf([tlb.save()]));
      // What follows must be the same too: the count of blocks decides how a range is searched.
      for (const side of [tlb, again]) side.invalidateRange(1, 0, 300);
      expect(digestOf([again.save()])).toBe(digestOf([tlb.save()]));
    }),
    { numRuns: 80 },
  );
});

it("pages of one 16 MiB window do not share sets with the next one's", () => {
  const sets = new Set<number>();
  for (let window = 0; window < 4; window++) sets.add(Tlb.index(window * 4096));
  expect(sets.size).toBe(4);
  const all = new Set(Array.from({ length: 4096 }, (_, i) => Tlb.index(2 ** 34 + i)));
  expect(all.size).toBe(4096);
});
