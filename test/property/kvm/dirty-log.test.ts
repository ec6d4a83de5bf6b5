// Goal: the log holds exactly the pages stored to since they were last taken, in every mode.
// Method: random stores, reads, clears and slot changes on one VM, against a set of page numbers.
import fc from "fast-check";
import { expect, it } from "vitest";
import { BASE, Inline } from "../../support/inline.js";

const MANUAL = 168;
const EAGER_SPLIT = 228;
const LOG = 1;
const K4 = 4096;
const OTHER = 0x9000_0000;

const config = fc.record({
  dirtyTracking: fc.constantFrom("write-protect" as const, "dbm" as const),
  pages: fc.constantFrom(1, 63, 64, 65, 130, 200, 1024, 1100),
  huge: fc.boolean(),
  eager: fc.constantFrom(0n, 4096n, 2n ** 21n),
  manual: fc.constantFrom(0n, 1n, 3n),
  log: fc.constantFrom(0, LOG),
});

const page = fc.nat(1099);
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constantFrom("store" as const, "load" as const),
      pages: fc.array(page, { minLength: 1, maxLength: 12 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("get" as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("clear" as const),
      firstWord: fc.nat(17),
      words: fc.nat(17),
      pages: fc.uniqueArray(page, { maxLength: 30, size: "max" }),
      all: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constantFrom("toggle-log" as const, "move" as const, "recreate" as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("manual" as const),
      value: fc.constantFrom(0n, 1n, 3n),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Scene {
  readonly vm: Inline;
  readonly pages: number;
  readonly hva: bigint;
  gpa = BASE;
  flags: number;
  manual: bigint;
  dirty = new Set<number>();
  /** What each page's first word holds. */
  readonly values: bigint[];
  stores = 0n;

  constructor(c: typeof config extends fc.Arbitrary<infer T> ? T : never) {
    this.vm = new Inline({ dirtyTracking: c.dirtyTracking });
    this.pages = c.pages;
    this.manual = c.manual;
    this.flags = c.log;
    this.values = new Array<bigint>(c.pages).fill(0n);
    if (c.eager !== 0n) this.vm.enable(EAGER_SPLIT, c.eager);
    this.vm.enable(MANUAL, c.manual);
    this.vm.vcpu();
    this.hva = this.vm.ram(c.pages * K4, { huge: c.huge }).userspaceAddr;
    this.put();
    if (c.log === LOG) this.logMade();
  }

  put(): void {
    this.vm.region(0, this.gpa, this.pages * K4, this.hva, this.flags);
  }

  logMade(): void {
    const all = this.manual === 3n ? this.values.keys() : [];
    this.dirty = new Set(all);
  }

  /** Pages of a step that this slot has. */
  own(pages: readonly number[]): number[] {
    return pages.map((n) => n % this.pages);
  }

  get sorted(): number[] {
    return [...this.dirty].sort((a, b) => a - b);
  }

  access(todo: Extract<Step, { op: "store" | "load" }>): void {
    const pages = this.own(todo.pages);
    const at = pages.map((n) => this.gpa + n * K4);
    if (todo.op === "load") {
      expect(this.vm.load(0, at)).toEqual(pages.map((n) => this.values[n]));
      return;
    }
    this.stores++;
    expect(this.vm.store(0, at, this.stores).exitReason).toBe("KVM_EXIT_HLT");
    for (const n of pages) {
      this.values[n] = this.stores;
      if (this.flags === LOG) this.dirty.add(n);
    }
  }

  clear(todo: Extract<Step, { op: "clear" }>): void {
    const words = Math.ceil(this.pages / 64);
    const first = (todo.firstWord % words) * 64;
    const count = Math.min(todo.words * 64, this.pages - first);
    const wanted = todo.all ? this.dirty : new Set(this.own(todo.pages));
    const taken = [...this.dirty].filter((n) => n >= first && n < first + count && wanted.has(n));
    const bits = [...wanted].filter((n) => n >= first && n < first + count).map((n) => n - first);
    expect(this.vm.clear(0, first, count, bits)).toBe(taken.length);
    for (const n of taken) this.dirty.delete(n);
  }

  apply(todo: Step): void {
    if (todo.op === "store" || todo.op === "load") this.access(todo);
    else if (todo.op === "manual") {
      this.vm.enable(MANUAL, todo.value);
      this.manual = todo.value;
    } else if (todo.op === "toggle-log") {
      this.flags ^= LOG;
      this.put();
      if (this.flags === LOG) this.logMade();
    } else if (todo.op === "move") {
      this.gpa = this.gpa === BASE ? OTHER : BASE;
      this.put();
    } else if (todo.op === "recreate") {
      this.vm.deleteSlot(0);
      this.put();
      if (this.flags === LOG) this.logMade();
    } else if (this.flags !== LOG) {
      expect(this.vm.refused("getDirtyLog", { slot: 0 })).toBe("ENOENT");
    } else if (todo.op === "clear") this.clear(todo);
    else {
      expect(this.vm.dirty(0)).toEqual(this.sorted);
      if (this.manual === 0n) this.dirty.clear();
    }
  }
}

it("the log against a set of pages", () => {
  fc.assert(
    fc.property(config, fc.array(step, { maxLength: 30, size: "max" }), (c, steps) => {
      const scene = new Scene(c);
      const { vm } = scene;
      for (const todo of steps) scene.apply(todo);
      if (scene.flags === LOG) expect(vm.dirty(0)).toEqual(scene.sorted);
      vm.deleteSlot(0);
      vm.call("deleteMemoryObject", { id: 1 });
      const { host, tables, account } = vm.kvm.vm;
      expect(host.frames.used).toBe(tables.rootPages);
      expect([account.chargedBytes, account.tableBytes, vm.budget.usedBytes()]).toEqual([0, 0, 0]);
    }),
    { numRuns: 120 },
  );
});
