// Goal: GET and CLEAR_DIRTY_LOG answer and refuse as KVM does, in each mode, to the bit.
// Method: one rule per test on a small slot; the numbered cases of dirty-tracking 10 by name.
import { describe, expect, it } from "vitest";
import { BASE, bitmapOf, Inline, type InlineOptions, pagesOf } from "../../support/inline.js";

const MANUAL = 168;
const RING = 223;
const LOG = 1;
const K4 = 4096;

const range = (first: number, end: number) =>
  Array.from({ length: end - first }, (_, i) => first + i);

/** One logging slot of `pages`, one vCPU, and a protect mode of 0, 1 or 3. */
function setUp(pages: number, manual: 0 | 1 | 3, options: InlineOptions = {}) {
  const vm = new Inline(options);
  if (manual !== 0) vm.enable(MANUAL, BigInt(manual));
  const made = vm.slot(0, pages, { flags: LOG });
  vm.vcpu();
  return { vm, ...made, dirtyPages: (at: readonly number[]) => vm.store(0, at.map(gpa)) };
}

const gpa = (page: number) => BASE + page * K4;

const clearArgs = (firstPage: bigint, numPages: number, slot = 0) => ({
  slot,
  firstPage,
  numPages,
  bitmap: new Uint8Array(Math.ceil(numPages / 64) * 8).fill(0xff),
});

describe("GET refuses", () => {
  it.each([
    [32767, "EINVAL"],
    [0x1_0000, "EINVAL"],
    [0xffff_0005, "EINVAL"],
    [7, "ENOENT"],
    [1, "ENOENT"],
  ])("slot %d with %s, in legacy and in manual mode", (slot, errno) => {
    for (const mode of [0, 1] as const) {
      const { vm } = setUp(8, mode);
      vm.slot(1, 4, { gpa: 0x9000_0000 });
      expect(vm.refused("getDirtyLog", { slot })).toBe(errno);
      expect(vm.refused("harvestDirtyLog", { slot, key: null, after: null })).toBe(errno);
    }
  });

  it("everything with ENXIO while only rings record", () => {
    const vm = new Inline();
    vm.enable(RING, 4096n);
    vm.slot(0, 8, { flags: LOG });
    for (const slot of [0, 9, 0xffff_ffff]) {
      expect(vm.refused("getDirtyLog", { slot })).toBe("ENXIO");
      expect(vm.refused("clearDirtyLog", clearArgs(1n, 64, slot))).toBe("ENXIO");
    }
  });

  it("a read that would clear, after KVM's own refusals", () => {
    const { vm, dirtyPages } = setUp(8, 0);
    dirtyPages([3]);
    expect(vm.refused("getDirtyLog", { slot: 0 })).toBe("destructive-read");
    expect(vm.dirty(0)).toEqual([3]);
  });
});

describe("GET", () => {
  it("legacy: gives the bits once and catches the next stores", () => {
    const { vm, dirtyPages } = setUp(200, 0);
    expect(vm.dirty(0)).toEqual([]);
    dirtyPages([0, 1, 63, 64, 199, 1]);
    expect(vm.dirty(0)).toEqual([0, 1, 63, 64, 199]);
    expect(vm.dirty(0)).toEqual([]);
    dirtyPages([199]);
    expect(vm.dirty(0)).toEqual([199]);
  });

  it("manual: changes nothing, however often, and invalidates nothing", () => {
    const { vm, dirtyPages } = setUp(200, 1);
    dirtyPages([5, 130]);
    const before = vm.counter("tlbiRange");
    expect([vm.dirty(0), vm.dirty(0)]).toEqual([
      [5, 130],
      [5, 130],
    ]);
    expect(vm.counter("tlbiRange")).toBe(before);
    expect(vm.leaf(gpa(5))?.state).toBe("writable-unmanaged");
  });

  it("INITIALLY_SET: all pages of a new log, no bit beyond, and no page protected", () => {
    const { vm } = setUp(100, 3);
    const { npages, bitmap } = vm.call("getDirtyLog", { slot: 0 });
    expect([npages, bitmap.length]).toEqual([100, 16]);
    expect(pagesOf(bitmap)).toEqual(range(0, 100));
    expect(vm.counter("pagesProtected")).toBe(0);
  });

  it("INITIALLY_SET acts when a log is made, not when the capability is set", () => {
    const { vm, slot, dirtyPages } = setUp(10, 0);
    dirtyPages([4]);
    vm.enable(MANUAL, 3n);
    expect(vm.dirty(0)).toEqual([4]);
    vm.setFlags(slot, 0);
    vm.setFlags(slot, LOG);
    expect(vm.dirty(0)).toEqual(range(0, 10));
    vm.enable(MANUAL, 0n);
    expect(vm.dirty(0)).toEqual(range(0, 10));
    expect(vm.dirty(0)).toEqual([]);
  });

  it.each([1, 63, 64, 65, 128, 1000])("gives whole words for %d pages", (pages) => {
    const { vm, dirtyPages } = setUp(pages, 1);
    dirtyPages([pages - 1]);
    const { bitmap } = vm.call("getDirtyLog", { slot: 0 });
    expect(bitmap.length).toBe(Math.ceil(pages / 64) * 8);
    expect(pagesOf(bitmap)).toEqual([pages - 1]);
  });

  it("keeps the logs of slots over the same memory apart", () => {
    const { vm, object } = setUp(8, 1);
    vm.region(1, 0x9000_0000, 8 * K4, object.userspaceAddr, LOG);
    vm.store(0, [gpa(2)], 6n);
    expect([vm.dirty(0), vm.dirty(1)]).toEqual([[2], []]);
    expect(vm.load(0, [0x9000_2000])).toEqual([6n]);
    vm.store(0, [0x9000_3000], 0n);
    expect([vm.dirty(0), vm.dirty(1)]).toEqual([[2], [3]]);
  });

  it("counts a store of the value that was there, a straddling store twice, a load never", () => {
    const { vm } = setUp(8, 1);
    vm.store(0, [gpa(1)], 0n);
    vm.store(0, [gpa(4) - 4], 1n);
    vm.load(0, range(0, 8).map(gpa));
    expect(vm.dirty(0)).toEqual([1, 3, 4]);
  });
});

describe("CLEAR refuses", () => {
  it.each([
    ["slot number", clearArgs(1n, 64, 32767), "EINVAL"],
    ["address space", clearArgs(0n, 64, 0x1_0000), "EINVAL"],
    ["T-52 first page 10, before the slot is looked for", clearArgs(10n, 64, 9), "EINVAL"],
    ["no such slot", clearArgs(0n, 999, 9), "ENOENT"],
    ["no log", clearArgs(0n, 999, 1), "ENOENT"],
    ["first page beyond the slot", clearArgs(128n, 0), "EINVAL"],
    ["first page 2^64-64", clearArgs(2n ** 64n - 64n, 64), "EINVAL"],
    ["first page 2^64-1", clearArgs(2n ** 64n - 1n, 1), "EINVAL"],
    ["T-72 70 of 100 pages", clearArgs(0n, 70), "EINVAL"],
    ["end beyond the slot", clearArgs(64n, 64), "EINVAL"],
    ["2^32-1 pages", clearArgs(0n, 2 ** 32 - 1), "EINVAL"],
  ] as const)("%s", (_rule, args, errno) => {
    const { vm, dirtyPages } = setUp(100, 1);
    vm.slot(1, 4, { gpa: 0x9000_0000 });
    dirtyPages([0, 99]);
    // The buffer of the largest row would only cost time.
    const bitmap = args.numPages > 1000 ? new Uint8Array(8) : args.bitmap;
    expect(vm.refused("clearDirtyLog", { ...args, bitmap })).toBe(errno);
    expect(vm.dirty(0)).toEqual([0, 99]);
  });
});

describe("CLEAR", () => {
  it("works without manual protection", () => {
    const { vm, dirtyPages } = setUp(100, 0);
    dirtyPages([1, 2]);
    expect(vm.clear(0, 0, 100, [1])).toBe(1);
    expect(vm.dirty(0)).toEqual([2]);
  });

  it("clears what both sides name, and nothing else", () => {
    const { vm, dirtyPages } = setUp(256, 1);
    dirtyPages([0, 1, 70, 200]);
    expect(vm.clear(0, 0, 128, [1, 2, 70, 71])).toBe(2);
    expect(vm.dirty(0)).toEqual([0, 200]);
    dirtyPages([1, 70]);
    expect(vm.dirty(0)).toEqual([0, 1, 70, 200]);
  });

  it.each([
    [0n, 0],
    [64n, 0],
    [192n, 0],
  ])("of no pages from page %d on is a success that does nothing", (firstPage, numPages) => {
    const { vm, dirtyPages } = setUp(192, 1);
    dirtyPages([64]);
    expect(vm.call("clearDirtyLog", clearArgs(firstPage, numPages))).toEqual({ cleared: 0 });
    expect(vm.dirty(0)).toEqual([64]);
  });

  it("T-52 first page 64, 64 pages: exactly pages 64 to 127", () => {
    const { vm, dirtyPages } = setUp(256, 1);
    dirtyPages(range(60, 132));
    expect(vm.clear(0, 64, 64, range(0, 64))).toBe(64);
    expect(vm.dirty(0)).toEqual([...range(60, 64), ...range(128, 132)]);
    expect(vm.leaf(gpa(64))?.state).toBe("read-only");
    expect(vm.leaf(gpa(63))?.state).toBe("writable-unmanaged");
    expect(vm.leaf(gpa(128))?.state).toBe("writable-unmanaged");
  });

  it("T-53 first page 128 with bit 0: page 128 and no other", () => {
    const { vm, dirtyPages } = setUp(256, 1);
    dirtyPages([0, 64, 128, 129]);
    expect(vm.clear(0, 128, 64, [0])).toBe(1);
    expect(vm.dirty(0)).toEqual([0, 64, 129]);
    expect(vm.leaf(gpa(128))?.state).toBe("read-only");
  });

  it("T-70 bits 0 and 63 of a word: the span between may fault again, none is reported", () => {
    const { vm, dirtyPages } = setUp(64, 1);
    dirtyPages(range(0, 64));
    const faults = vm.counter("s2WriteFaults");
    expect(vm.clear(0, 0, 64, [0, 63])).toBe(2);
    expect(vm.dirty(0)).toEqual(range(1, 63));
    // arm64 protects from the lowest to the highest bit.
    expect(vm.leaf(gpa(30))?.state).toBe("read-only");
    dirtyPages(range(1, 63));
    expect(vm.counter("s2WriteFaults") - faults).toBe(62);
    expect(vm.dirty(0)).toEqual(range(1, 63));
  });

  it("T-70 with hardware dirty state the span keeps its records", () => {
    const { vm, dirtyPages } = setUp(64, 1, { dirtyTracking: "dbm" });
    dirtyPages(range(0, 64));
    vm.clear(0, 0, 64, range(0, 64));
    dirtyPages(range(0, 64));
    expect(vm.clear(0, 0, 64, [0, 63])).toBe(2);
    expect(vm.leaf(gpa(30))?.state).toBe("writable-dirty");
    expect(vm.leaf(gpa(63))?.state).toBe("writable-clean");
    expect(vm.dirty(0)).toEqual(range(1, 63));
  });

  it.each([
    ["bit 63 only", [63]],
    ["bits 31 and 32", [31, 32]],
    ["all ones", range(0, 64)],
  ] as const)("T-71 %s of a word, at the far end of a 48-bit guest", (_name, pages) => {
    const vm = new Inline({ type: 48n });
    vm.enable(MANUAL, 1n);
    const at = 2 ** 48 - 128 * K4;
    vm.slot(0, 128, { gpa: at, flags: LOG });
    vm.vcpu();
    vm.store(
      0,
      range(0, 128).map((page) => at + page * K4),
    );
    expect(vm.clear(0, 64, 64, pages)).toBe(pages.length);
    const cleared = new Set(pages.map((page) => page + 64));
    expect(vm.dirty(0)).toEqual(range(0, 128).filter((page) => !cleared.has(page)));
    expect(vm.leaf(at + (64 + pages[0]!) * K4)?.state).toBe("read-only");
  });

  it("T-72 100 of 100 pages is allowed and the tail of the last word is ignored", () => {
    const { vm, dirtyPages } = setUp(100, 1);
    dirtyPages([64, 99]);
    expect(vm.call("clearDirtyLog", clearArgs(0n, 100))).toEqual({ cleared: 2 });
    expect(vm.call("clearDirtyLog", clearArgs(64n, 36))).toEqual({ cleared: 0 });
    expect(vm.dirty(0)).toEqual([]);
  });

  it("T-72 the tail stays clear when the whole log was set", () => {
    const { vm } = setUp(100, 3);
    expect(vm.call("clearDirtyLog", clearArgs(0n, 64))).toEqual({ cleared: 64 });
    expect(vm.dirty(0)).toEqual(range(64, 100));
    expect(vm.call("clearDirtyLog", clearArgs(64n, 36))).toEqual({ cleared: 36 });
    expect(pagesOf(vm.call("getDirtyLog", { slot: 0 }).bitmap)).toEqual([]);
  });

  it("T-74 invalidates once when it cleared something, else never", () => {
    const { vm, dirtyPages } = setUp(2048, 1);
    dirtyPages(range(0, 2048));
    const before = vm.counter("tlbiRange");
    vm.clear(0, 0, 2048, []);
    expect(vm.counter("tlbiRange") - before).toBe(0);
    expect(vm.clear(0, 0, 2048, range(0, 2048))).toBe(2048);
    expect(vm.counter("tlbiRange") - before).toBe(1);
    vm.clear(0, 0, 2048, range(0, 2048));
    expect(vm.counter("tlbiRange") - before).toBe(1);
    expect(vm.counter("tlbiVmid")).toBe(0);
  });

  it("T-74 the same for a legacy GET", () => {
    const { vm, dirtyPages } = setUp(64, 0);
    const before = vm.counter("tlbiRange");
    vm.dirty(0);
    expect(vm.counter("tlbiRange") - before).toBe(0);
    dirtyPages([1, 2, 3]);
    const mapped = vm.counter("tlbiRange");
    vm.dirty(0);
    expect(vm.counter("tlbiRange") - mapped).toBe(1);
  });
});

describe("hardware dirty state", () => {
  it("T-49 without HDBSS: a page costs one fault in the first round and none later", () => {
    const { vm } = setUp(1000, 1, { dirtyTracking: "dbm" });
    const faults = () => vm.counter("s2MapFaults") + vm.counter("s2WriteFaults");
    const all = range(0, 1000);
    vm.store(0, all.map(gpa));
    expect([faults(), vm.counter("hwDirtied")]).toEqual([1000, 0]);
    vm.clear(0, 0, 1000, all);
    vm.store(0, all.map(gpa));
    expect([faults(), vm.counter("hwDirtied")]).toEqual([1000, 1000]);
    expect(vm.dirty(0)).toEqual(all);
  });

  it("sets DBM on logged memory only, and never on a READONLY slot (T-48)", () => {
    const { vm } = setUp(4, 1, { dirtyTracking: "dbm" });
    vm.slot(1, 4, { gpa: 0x9000_0000 });
    vm.slot(2, 4, { gpa: 0xa000_0000, flags: LOG | 2 });
    vm.load(0, [gpa(0), 0x9000_0000, 0xa000_0000]);
    expect(vm.leaf(gpa(0))).toMatchObject({ dbm: true, state: "writable-clean" });
    expect(vm.leaf(0x9000_0000)).toMatchObject({ dbm: false, state: "writable-unmanaged" });
    expect(vm.leaf(0xa000_0000)).toMatchObject({ dbm: false, state: "read-only" });
  });

  it("survives a move: what hardware recorded goes into the log first", () => {
    const { vm, slot, dirtyPages } = setUp(8, 1, { dirtyTracking: "dbm" });
    dirtyPages([1, 2, 3]);
    vm.clear(0, 0, 8, [1, 2, 3]);
    dirtyPages([2]);
    vm.call("setUserMemoryRegion", { ...slot, guestPhysAddr: 0x9000_0000n });
    expect(vm.dirty(0)).toEqual([2]);
  });

  it("forgets records of stores from before the log", () => {
    const { vm, slot, dirtyPages } = setUp(8, 1, { dirtyTracking: "dbm" });
    dirtyPages([1]);
    vm.clear(0, 0, 8, [1]);
    dirtyPages([1]);
    vm.setFlags(slot, 0);
    vm.setFlags(slot, LOG);
    expect(vm.dirty(0)).toEqual([]);
    dirtyPages([1]);
    expect(vm.dirty(0)).toEqual([1]);
  });

  it("works under the ring too, which then protects as ever", () => {
    const vm = new Inline({ dirtyTracking: "dbm" });
    vm.enable(RING, 4096n);
    vm.slot(0, 8, { flags: LOG });
    vm.vcpu();
    vm.store(0, [gpa(0)]);
    expect(vm.leaf(gpa(0))).toMatchObject({ dbm: false });
    expect(vm.counter("ringPushed")).toBe(1);
  });
});

it("no operation re-protects more than 512 pages between two points where others may run", () => {
  const { vm, slot, dirtyPages } = setUp(4096, 1);
  const all = range(0, 4096);
  dirtyPages(all);
  vm.setFlags(slot, 0);
  const clearAll = { slot: 0, firstPage: 0n, numPages: 4096, bitmap: bitmapOf(4096, all) };
  const operations = [
    () => vm.begin("setUserMemoryRegion", { ...slot, flags: LOG }),
    () => vm.begin("clearDirtyLog", clearAll),
    () => vm.begin("harvestDirtyLog", { slot: 0, key: "k", after: null }),
  ];
  for (const [at, begin] of operations.entries()) {
    if (at === 2) vm.enable(MANUAL, 0n);
    if (at > 0) dirtyPages(all);
    const pending = begin();
    const before = vm.counter("pagesProtected");
    for (let seen = before; !pending.done; seen = vm.counter("pagesProtected")) {
      vm.pump(1);
      expect(vm.counter("pagesProtected") - seen).toBeLessThanOrEqual(512);
    }
    expect(vm.counter("pagesProtected") - before).toBe(4096);
  }
});

it("a bitmap from userspace may be longer or carry bits past its pages", () => {
  const { vm, dirtyPages } = setUp(128, 1);
  dirtyPages([3, 127]);
  const bitmap = bitmapOf(256, [3, 200]);
  expect(vm.call("clearDirtyLog", { slot: 0, firstPage: 0n, numPages: 64, bitmap })).toEqual({
    cleared: 1,
  });
  expect(vm.dirty(0)).toEqual([127]);
});
