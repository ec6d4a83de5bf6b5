// Goal: rings hold one entry per page that was stored to since it was re-armed, in order.
// Method: random stores, harvests and resets of two vCPUs against lists and a set of armed pages.
import fc from "fast-check";
import { expect, it } from "vitest";
import { BASE, Inline } from "../../support/inline.js";

const RING = 223;
const K4 = 4096;
const PAGES = 400;
const LIMIT = 256 - 64;

interface Entry {
  page: number;
  isHarvested: boolean;
}

interface Run {
  first: number;
  mask: bigint;
}

/** Neighbours that KVM re-arms together: forwards or backwards within 64 bits of one word. */
function runsOf(pages: readonly number[]): Run[] {
  const runs: Run[] = [];
  for (const page of pages) {
    const run = runs.at(-1);
    const delta = run === undefined ? Number.NaN : page - run.first;
    if (run !== undefined && delta >= 0 && delta < 64) run.mask |= 1n << BigInt(delta);
    else if (run !== undefined && delta < 0 && delta > -64 && fits(run.mask, -delta)) {
      run.first = page;
      run.mask = (run.mask << BigInt(-delta)) | 1n;
    } else runs.push({ first: page, mask: 1n });
  }
  return runs;
}

function fits(mask: bigint, shift: number): boolean {
  return BigInt.asUintN(64, mask << BigInt(shift)) === mask << BigInt(shift);
}

class Model {
  readonly rings: Entry[][] = [[], []];
  readonly resetIndex = [0, 0];
  /** Pages whose next store makes an entry. */
  readonly armed = new Set(Array.from({ length: PAGES }, (_, page) => page));

  isFull(vcpu: number): boolean {
    return this.rings[vcpu]!.length - this.resetIndex[vcpu]! >= LIMIT;
  }

  /** @returns stores that retire before the ring is full, or all. */
  store(vcpu: number, pages: readonly number[]): number {
    if (this.isFull(vcpu)) return 0;
    for (const [done, page] of pages.entries()) {
      if (!this.armed.delete(page)) continue;
      this.rings[vcpu]!.push({ page, isHarvested: false });
      if (this.isFull(vcpu)) return done;
    }
    return pages.length;
  }

  harvest(vcpu: number, count: number): number[] {
    const fresh = this.rings[vcpu]!.filter(({ isHarvested }) => !isHarvested).slice(0, count);
    for (const entry of fresh) entry.isHarvested = true;
    return fresh.map(({ page }) => page);
  }

  reset(): number {
    let count = 0;
    for (const [vcpu, ring] of this.rings.entries()) {
      const taken: number[] = [];
      while (ring[this.resetIndex[vcpu]!]?.isHarvested === true) {
        taken.push(ring[this.resetIndex[vcpu]!++]!.page);
      }
      count += taken.length;
      for (const { first, mask } of runsOf(taken)) {
        for (let page = first; page < first + mask.toString(2).length; page++) this.armed.add(page);
      }
    }
    return count;
  }
}

const vcpu = fc.nat(1);
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("store" as const),
      vcpu,
      pages: fc.oneof(
        fc.array(fc.nat(PAGES - 1), { minLength: 1, maxLength: 10 }),
        fc
          .tuple(fc.nat(PAGES - 151), fc.integer({ min: 1, max: 150 }), fc.boolean())
          .map(([first, count, backwards]) => {
            const run = Array.from({ length: count }, (_, i) => first + i);
            return backwards ? run.reverse() : run;
          }),
      ),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("harvest" as const),
      vcpu,
      count: fc.constantFrom(1, 2, 10, 100, 256),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("reset" as const) }) },
);

it("rings against lists", () => {
  let full = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 40, size: "max" }), (steps) => {
      const vm = new Inline();
      const model = new Model();
      vm.enable(RING, 4096n);
      vm.slot(0, PAGES, { flags: 1 });
      for (const id of [0, 1]) vm.vcpu(id);
      for (const todo of steps) {
        if (todo.op === "store") {
          const completed = model.store(todo.vcpu, todo.pages);
          const result = vm.store(
            todo.vcpu,
            todo.pages.map((page) => BASE + page * K4),
          );
          expect(result.program.completed).toBe(completed);
          const isDone = completed === todo.pages.length;
          expect(result.exitReason).toBe(isDone ? "KVM_EXIT_HLT" : "KVM_EXIT_DIRTY_RING_FULL");
          if (!isDone) full++;
        } else if (todo.op === "harvest") {
          const from = model.rings[todo.vcpu]!.filter(({ isHarvested }) => isHarvested).length;
          const window = { vcpu: todo.vcpu, from, limit: todo.count };
          const { entries, harvestIndex } = vm.call("readDirtyRing", window);
          expect(harvestIndex).toBe(from);
          const dirty = entries.filter(({ flags }) => flags === 1);
          const pages = dirty.map(({ offset }) => Number(offset));
          expect(pages).toEqual(model.harvest(todo.vcpu, todo.count));
          vm.call("harvestDirtyRing", { vcpu: todo.vcpu, upTo: from + pages.length });
        } else {
          expect(vm.call("resetDirtyRings", {}).reset).toBe(model.reset());
        }
      }
    }),
    { numRuns: 60 },
  );
  expect(full).toBeGreaterThan(5);
});
