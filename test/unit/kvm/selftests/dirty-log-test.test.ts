// Goal: dirty_log_test with guest code: while vCPUs store to random pages, every page that changed
// is reported, and none is without a store, in every mode that logs.
// Method: each store counts up a word of its page that only this vCPU writes; what memory holds
// before and after each collection says which reports a store accounts for.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { Guest, X } from "../../../support/guest.js";
import { K4, PC } from "../../../support/guest-code.js";
import { BASE, bitmapOf, type InlineOptions, pagesOf } from "../../../support/inline.js";

const PAGES = 512;
const PAGE_BITS = 9;
const DATA = BASE + 0x100_0000;
const LOG = 1;
const VCPUS = 2;
const PROTECT2 = 168;
const RING_ACQ_REL = 223;
const RING_WITH_BITMAP = 225;

const MODES = {
  "dirty-log": { caps: [] },
  "clear-log": { caps: [[PROTECT2, 1n]] },
  "clear-log, INITIALLY_SET": { caps: [[PROTECT2, 3n]] },
  "dirty-ring": { caps: [[RING_ACQ_REL, 4096n]] },
  "dirty-ring, WITH_BITMAP": { caps: [[RING_ACQ_REL, 4096n], [RING_WITH_BITMAP]] },
} as const satisfies Record<string, { caps: readonly (readonly [number, ...bigint[]])[] }>;
type Mode = keyof typeof MODES;

/** x4 = an address in a random page, then one more in the word there that is this vCPU's. */
const STORE_AT = 6;
const stores = (vcpu: number): number[] => [
  a64.madd(1, 1, 2, 3),
  a64.ubfx(4, 1, 40, PAGE_BITS),
  a64.addReg(4, 5, 4, 12),
  a64.ldr(6, 4, 8 * vcpu),
  a64.add(6, 6, 1),
  a64.NOP,
  a64.str(6, 4, 8 * vcpu),
  a64.b(-7),
];

class DirtyLogTest extends Guest {
  readonly mode: Mode;
  readonly data: number;
  ringFulls = 0;
  reports = 0;
  /** What a page held before the collection that reported it last. */
  readonly #seen = new Array<number>(PAGES).fill(0);
  /** Reported, and the store is still to come. */
  readonly #owed = new Set<number>();
  #isFirst = true;

  constructor(mode: Mode, options: InlineOptions) {
    super(options, MODES[mode].caps);
    this.mode = mode;
    this.data = this.slot(1, PAGES, { gpa: DATA, flags: LOG }).object.id;
    for (let id = 0; id < VCPUS; id++) {
      this.boot(id, stores(id), BASE + id * K4);
      this.set(X(1), BigInt(id + 1), id);
      this.set(X(2), 0x5851_f42d_4c95_7f2dn, id);
      this.set(X(3), 0x1405_7b7e_f767_814fn, id);
      this.set(X(5), BigInt(DATA), id);
    }
  }

  get isRing(): boolean {
    return this.mode.startsWith("dirty-ring");
  }

  /** Stores that each page has seen. */
  stored(): number[] {
    const args = { id: this.data, offset: 0n, length: PAGES * K4 };
    const { buffer } = this.call("readMemoryObject", args);
    const words = new Uint32Array(buffer);
    const counts = Array.from({ length: PAGES }, (_, page) => {
      let sum = 0;
      for (let id = 0; id < VCPUS; id++) sum += words[(page * K4) / 4 + 2 * id]!;
      return sum;
    });
    return counts;
  }

  /** Collects, and holds the reports against the stores. */
  collect(into: Set<number>): void {
    const before = this.stored();
    const pages = this.isRing ? this.#rings() : this.#bitmap();
    const after = this.stored();
    const isExcused = this.#isFirst && this.mode.endsWith("INITIALLY_SET");
    this.#isFirst = false;
    for (const page of this.#owed) if (after[page]! > this.#seen[page]!) this.#owed.delete(page);
    // A reset arms a page again that is in the ring still: it may be there twice.
    for (const page of new Set(pages)) {
      into.add(page);
      if (!isExcused && after[page]! === this.#seen[page]!) this.#owed.add(page);
      this.#seen[page] = before[page]!;
    }
    this.reports += pages.length;
    // One store of each vCPU may be logged and not done yet.
    expect(this.#owed.size).toBeLessThanOrEqual(VCPUS);
  }

  #bitmap(): number[] {
    const pages = this.dirty(1);
    if (this.mode !== "dirty-log") this.clear(1, 0, PAGES, pages);
    return pages;
  }

  #rings(): number[] {
    const pages: number[] = [];
    for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
      const from = this.call("describeVcpu", { vcpu }).dirtyRing!.harvestIndex;
      const { entries } = this.call("readDirtyRing", { vcpu, from, limit: 256 });
      const fresh = entries.filter(({ flags }) => flags === 1);
      for (const { slot, offset } of fresh) {
        expect(slot).toBe(1);
        pages.push(Number(offset));
      }
      this.call("harvestDirtyRing", { vcpu, upTo: from + fresh.length });
    }
    expect(this.call("resetDirtyRings", {}).reset).toBe(pages.length);
    return pages;
  }

  /** vCPUs run and the host collects in between; then they stop, and it takes the rest. */
  iterate(steps: number): Set<number> {
    const dirty = new Set<number>();
    const runs = [this.beginRun(0), this.beginRun(1)];
    for (let part = 0; part < 5; part++) {
      this.pump(steps);
      this.collect(dirty);
      for (const [vcpu, run] of runs.entries()) {
        if (!run.done) continue;
        expect(run.value).toMatchObject({ errno: null, exitReason: "KVM_EXIT_DIRTY_RING_FULL" });
        this.ringFulls++;
        runs[vcpu] = this.beginRun(vcpu);
      }
    }
    for (const [vcpu, run] of runs.entries()) {
      if (!run.done) this.call("kick", { vcpu });
      this.finish(run);
    }
    this.collect(dirty);
    return dirty;
  }

  /** Pages of stores that are next; a stopped vCPU stands anywhere in its loop. */
  pending(): number[] {
    return Array.from({ length: VCPUS }, (_, vcpu) => vcpu).flatMap((vcpu) => {
      const at = (Number(this.get(PC, vcpu)) - BASE - vcpu * K4) / 4;
      return at === STORE_AT ? [(Number(this.get(X(4), vcpu)) - DATA) / K4] : [];
    });
  }
}

const HOSTS: readonly InlineOptions[] = [
  { schedule: "round-robin" },
  { schedule: "round-robin", dirtyTracking: "dbm" },
  { schedule: "seeded", seed: 5n },
  { schedule: "seeded", seed: 6n, dirtyTracking: "dbm" },
  { schedule: "round-robin", hostCpus: 1, translation: null },
];

/** Steps between two collections: what hardware records takes no faults, so a step is a slice. */
function stepsFor(mode: Mode, { schedule, dirtyTracking }: InlineOptions): number {
  if (schedule === "seeded") return 3000;
  if (mode.startsWith("dirty-ring")) return 3000;
  return dirtyTracking === "dbm" ? 100 : 1200;
}

describe.each(Object.keys(MODES) as Mode[])("dirty_log_test, %s", (mode) => {
  it.each(HOSTS)("%o: a page is reported exactly when it was stored to", (options) => {
    const test = new DirtyLogTest(mode, options);
    let before = test.stored();
    for (let iteration = 0; iteration < 3; iteration++) {
      const dirty = test.iterate(stepsFor(mode, options));
      const now = test.stored();
      const pending = new Set(test.pending());
      const isAllSet = mode.endsWith("INITIALLY_SET") && iteration === 0;
      const wrong = now.flatMap((count, page) => {
        if (count > before[page]!) return dirty.has(page) ? [] : [`${page} lost`];
        const isExcused = isAllSet || pending.has(page);
        return dirty.has(page) && !isExcused ? [`${page} reported for nothing`] : [];
      });
      expect(wrong).toEqual([]);
      // Nobody ran since: nothing is left to say.
      const again = new Set<number>();
      test.collect(again);
      expect([...again]).toEqual([]);
      before = now;
    }
    expect(test.reports).toBeGreaterThan(PAGES / 4);
    if (test.isRing) expect(test.ringFulls).toBeGreaterThan(0);
    else expect(test.ringFulls).toBe(0);
  });

  it("two hosts of one seed see the same", () => {
    const digests = [1, 2].map(() => {
      const test = new DirtyLogTest(mode, { schedule: "seeded", seed: 9n });
      test.iterate(300);
      return test.digest();
    });
    expect(digests[0]).toBe(digests[1]);
  });
});

describe("dirty_log_test, what a guest's store can't undo", () => {
  it("a CLEAR of pages that the guest stores to in the same moment loses none", () => {
    const test = new DirtyLogTest("clear-log", { schedule: "seeded", seed: 11n });
    const runs = [test.beginRun(0), test.beginRun(1)];
    const shown = new Set<number>();
    for (let round = 0; round < 30; round++) {
      const clearing = test.begin("getDirtyLog", { slot: 1 });
      test.pump(40);
      const pages = pagesOf(test.finish(clearing).bitmap);
      for (const page of pages) shown.add(page);
      const bitmap = bitmapOf(PAGES, pages);
      const clear = test.begin("clearDirtyLog", {
        slot: 1,
        firstPage: 0n,
        numPages: PAGES,
        bitmap,
      });
      const atClear = test.stored();
      test.finish(clear);
      test.pump(40);
      const reported = new Set(pagesOf(test.call("getDirtyLog", { slot: 1 }).bitmap));
      // What a store changed after CLEAR had answered must show; `atClear` is older than that.
      const changed = test
        .stored()
        .flatMap((count, page) => (count > atClear[page]! ? [page] : []));
      const lost = changed.filter((page) => !reported.has(page) && !pages.includes(page));
      expect(lost).toEqual([]);
    }
    for (const vcpu of [0, 1]) test.call("kick", { vcpu });
    for (const run of runs) expect(test.finish(run).errno).toBe("EINTR");
    expect(shown.size).toBeGreaterThan(0);
  });
});
