// Goal: the log misses nothing of blocks, lost entries, full rings and odd mappings.
// nothing. Method: the cases of dirty-tracking 10 about what a drain makes of entries.
import { describe, expect, it } from "vitest";
import { twice } from "../support/dirty-case.js";
import { BASE } from "../support/inline.js";
import { ENTRIES, HdbssVm, hdbssVm, LOG, RING, RING_WITH_BITMAP, range } from "./hdbss-world.js";

const BLOCK_PAGES = 512;
const EAGER_SPLIT_CHUNK_SIZE = 228;

/** A slot over huge pages, mapped by blocks; its log is off. */
function blocks(settings: Record<string, string>, on: string | null) {
  const vm = new HdbssVm(settings, on);
  vm.vcpu(0);
  const { slot } = vm.slot(0, 2 * BLOCK_PAGES, { huge: true });
  vm.dirtyPages(0, [0, BLOCK_PAGES]);
  expect(vm.leaf(BASE)?.level).toBe(2);
  vm.enableHdbss();
  return { vm, slot };
}

describe("T-41: a store into a block", () => {
  const from = { "hdbss.dbm": "all-writable-from-start" };

  twice(
    "T-41",
    "marks every page of the block that its entry names",
    (_on, bug) => {
      const { vm, slot } = blocks({ ...from, "hdbss.split": "none" }, bug);
      vm.setFlags(slot, LOG);
      expect(vm.leaf(BASE)).toMatchObject({ level: 2, state: "writable-clean" });
      vm.dirtyPages(0, range(3, 300));
      expect(vm.counter("hdbssAppends")).toBe(1);
      expect(vm.dirty(0)).toEqual(range(0, BLOCK_PAGES));
      vm.dirtyPages(0, [BLOCK_PAGES + 7]);
      expect(vm.dirty(0)).toEqual(range(BLOCK_PAGES, 2 * BLOCK_PAGES));
    },
    { bug: "B13" },
  );

  it("marks one page after a split, forced or asked for", () => {
    for (const split of ["forced-page-size", "user-chunk"]) {
      const { vm, slot } = blocks({ ...from, "hdbss.split": split }, null);
      vm.setFlags(slot, LOG);
      const level = split === "forced-page-size" ? 3 : 2;
      expect(vm.leaf(BASE)?.level).toBe(level);
      vm.dirtyPages(0, [3, 9]);
      expect(vm.dirty(0)).toEqual([3, 9]);
      expect(vm.counter("hdbssAppends")).toBe(split === "forced-page-size" ? 2 : 0);
    }
  });

  it("expand-ttwl: blocks that never had DBM get it as they are protected", () => {
    const { vm, slot } = blocks({ ...from, "hdbss.split": "expand-ttwl" }, null);
    vm.setFlags(slot, LOG);
    vm.dirtyPages(0, [BLOCK_PAGES + 1]);
    expect(vm.dirty(0)).toEqual(range(BLOCK_PAGES, 2 * BLOCK_PAGES));
    vm.dirtyPages(0, [1]);
    expect(vm.dirty(0)).toEqual(range(0, BLOCK_PAGES));
    expect(vm.counter("s2WriteFaults")).toBe(0);
  });

  it("pte-sized-from-start: leaves blocks alone, so that they split", () => {
    const { vm, slot } = blocks({ "hdbss.dbm": "pte-sized-from-start" }, null);
    expect(vm.leaf(BASE)?.state).toBe("writable-unmanaged");
    vm.setFlags(slot, LOG);
    vm.dirtyPages(0, [3]);
    expect(vm.dirty(0)).toEqual([3]);
  });
});

/** Pages 0 to 49 clean; the fifth append goes wrong. */
function losing(on: string | null, settings: Record<string, string | number> = {}) {
  const vm = hdbssVm(100, { settings, on });
  vm.dirtyPages(0, range(0, 50));
  vm.dirty(0);
  vm.arm("hdbss-append-abort", { nth: 5 });
  return vm;
}

twice(
  "T-42",
  "with an entry lost the run fails, and the next GET names every page that may be dirty",
  (_on, bug) => {
    const vm = losing(bug, { "hdbss.error": "efault" });
    expect(vm.dirtyPages(0, range(0, 10)).errno).toBe("EFAULT");
    expect(vm.dirty(0)).toEqual(range(0, 100));
    expect(vm.counter("hdbssErrorsAbort")).toBe(1);
  },
  { bug: "B14" },
);

it("T-42: the policy conservative goes on, and falls back to write protection when told", () => {
  for (const maxErrors of [1, 2]) {
    const vm = losing(null, { "hdbss.maxErrors": maxErrors });
    expect(vm.dirtyPages(0, range(0, 10)).exitReason).toBe("KVM_EXIT_HLT");
    expect(vm.kvm.vm.isHdbssOn).toBe(maxErrors === 2);
    expect(vm.dirty(0)).toEqual(range(0, 100));
    expect(vm.counter("hdbssConservativeMarks")).toBe(100);
    vm.dirtyPages(0, [7, 8]);
    expect(vm.dirty(0)).toEqual([7, 8]);
  }
});

describe.each(["sync", "fsc"])("T-43: an append's error told by %s", (report) => {
  const settings = {
    "hardware.hdbssAbortReport": report,
    "hardware.gpfReport": report,
    "hdbss.maxErrors": 1000,
  };

  it("is the kernel's, not the guest's", () => {
    for (const kind of ["hdbss-append-abort", "hdbss-append-gpf"] as const) {
      const vm = losing(null, settings);
      vm.arm(kind, { nth: 2 });
      expect(vm.dirtyPages(0, range(0, 10))).toMatchObject({
        errno: null,
        exitReason: "KVM_EXIT_HLT",
      });
      expect(vm.dirty(0)).toEqual(range(0, 100));
      expect(vm.load(0, [vm.gpa(9)])).toEqual([1n]);
    }
  });
});

twice(
  "T-43",
  "a synchronous abort of HDBSS's own write is not the guest's",
  (_on, bug) => {
    const vm = losing(bug, { "hardware.hdbssAbortReport": "sync" });
    expect(vm.dirtyPages(0, range(0, 10)).exitReason).toBe("KVM_EXIT_HLT");
    expect(vm.dirty(0)).toEqual(range(0, 100));
  },
  { bug: "B15" },
);

twice(
  "T-48",
  "a device's pages never carry DBM, and can't be logged",
  (_on, bug) => {
    const vm = new HdbssVm({ "hdbss.dbm": "all-writable-from-start" }, bug);
    vm.vcpu(0);
    vm.enableHdbss();
    const { object } = vm.slot(0, 8, { backing: "device" });
    vm.dirtyPages(0, [1, 2]);
    vm.slot(1, 8, { gpa: 0x9000_0000 });
    vm.store(0, [0x9000_0000]);
    expect(vm.leaf(0x9000_0000)?.state).toBe("writable-dirty");
    expect(vm.leaf(vm.gpa(1))?.state).toBe("writable-unmanaged");
    const region = { slot: 2, flags: LOG, guestPhysAddr: 0xa000_0000n, memorySize: 0x8000n };
    const { userspaceAddr } = object;
    expect(vm.refused("setUserMemoryRegion", { ...region, userspaceAddr })).toBe("EINVAL");
  },
  { bug: "B20" },
);

twice(
  "T-64",
  "a host with HDBSS alone splits blocks as soon as their slot logs",
  (_on, bug) => {
    const settings = { "hardware.hacdbs": false, "dirtyLog.eagerSplit": "forced-page-size" };
    const vm = new HdbssVm(settings, bug);
    vm.vcpu(0);
    const { slot } = vm.slot(0, 1024, { huge: true });
    vm.dirtyPages(0, [0, 512]);
    expect(vm.leaf(BASE)?.level).toBe(2);
    expect(vm.call("checkExtension", { cap: EAGER_SPLIT_CHUNK_SIZE })).toBe(vm.page);
    vm.setFlags(slot, LOG);
    expect([vm.leaf(BASE)?.level, vm.leaf(vm.gpa(600))?.level]).toEqual([3, 3]);
  },
  { bug: "D15" },
);

describe("faults and appends of 1000 pages", () => {
  const all = range(0, 1000);

  it("T-49: on-write-fault-while-logging: the first round is software's", () => {
    const vm = hdbssVm(1000);
    const { slot } = { slot: vm.call("listMemslots", {})[0]! };
    vm.setFlags(slot, 0);
    vm.dirtyPages(0, all);
    const mapped = vm.counter("s2MapFaults");
    vm.setFlags(slot, LOG);
    vm.dirtyPages(0, all);
    expect([vm.counter("s2WriteFaults"), vm.counter("hdbssAppends")]).toEqual([1000, 0]);
    expect(vm.dirty(0)).toEqual(all);
    vm.dirtyPages(0, all);
    expect([vm.counter("s2WriteFaults"), vm.counter("hdbssAppends")]).toEqual([1000, 1000]);
    expect(vm.dirty(0)).toEqual(all);
    expect(vm.counter("s2MapFaults")).toBe(mapped);
  });

  it.each(["all-writable-from-start", "pte-sized-from-start", "hafdbs-when-not-logging"])(
    "T-49: %s: both rounds are hardware's",
    (dbm) => {
      const vm = new HdbssVm({ "hdbss.dbm": dbm });
      vm.vcpu(0);
      const { slot } = vm.slot(0, 1000);
      vm.dirtyPages(0, all);
      vm.enableHdbss();
      vm.setFlags(slot, LOG);
      for (const round of [1, 2]) {
        vm.dirtyPages(0, all);
        const counted = [vm.counter("s2WriteFaults"), vm.counter("hdbssAppends")];
        expect(counted).toEqual([0, 1000 * round]);
        expect(vm.dirty(0)).toEqual(all);
      }
    },
  );
});

/** Stores to every page of the slot, harvesting whenever the ring is full. @returns pages pushed */
function ringRound(vm: HdbssVm, pages: number): { pages: Set<number>; exits: number } {
  const seen = new Set<number>();
  let exits = 0;
  vm.list(
    0,
    range(0, pages).map((page) => ({
      op: "write",
      address: BigInt(vm.gpa(page)),
      length: 8,
      value: 1n,
    })),
  );
  for (let n = 0; n < 100; n++) {
    const { exitReason } = vm.run(0);
    const ring = vm.kvm.vm.vcpuById(0)!.ring!;
    for (let at = ring.harvestIndex; at < ring.dirtyIndex; at++) {
      seen.add(ring.entry(at).offset);
      ring.setFlags(at, 2);
    }
    ring.harvestIndex = ring.dirtyIndex;
    vm.call("resetDirtyRings", {});
    if (exitReason === "KVM_EXIT_HLT") {
      if (ring.dirtyIndex === ring.harvestIndex) return { pages: seen, exits };
      continue;
    }
    expect(exitReason).toBe("KVM_EXIT_DIRTY_RING_FULL");
    exits++;
  }
  return expect.fail("the ring never gets empty");
}

function ringed(on: string | null, entries: number, settings = {}, hasBitmap = false) {
  const vm = new HdbssVm(settings, on);
  vm.enable(RING, BigInt(entries * 16));
  if (hasBitmap) vm.enable(RING_WITH_BITMAP);
  vm.vcpu(0);
  vm.enableHdbss();
  vm.slot(0, 1500, { flags: LOG });
  return vm;
}

describe("T-50: a dirty ring and a buffer", () => {
  it("reserve: the soft limit leaves room for a full buffer, and nothing is lost", () => {
    const vm = ringed(null, 1024);
    for (let round = 0; round < 3; round++) {
      const { pages, exits } = ringRound(vm, 1500);
      expect(pages.size).toBe(1500);
      expect(exits).toBeGreaterThan(0);
    }
    expect(vm.counter("hdbssAppends")).toBeGreaterThan(2000);
    expect(vm.diagnosed("ring-overflow")).toBe(0);
  });

  it("reserve: a ring too small for that refuses HDBSS", () => {
    const vm = new HdbssVm();
    vm.enable(RING, BigInt(256 * 16));
    vm.vcpu(0);
    expect(vm.refused("enableCap", { cap: 502, flags: 0, args: [0n, 1n] })).toBe("EINVAL");
  });

  it("reserve: a buffer is one page, whatever was asked for", () => {
    const vm = new HdbssVm();
    vm.enable(RING, BigInt(1024 * 16));
    vm.vcpu(0);
    vm.enableHdbss(4);
    expect(vm.buffer(0)?.sz).toBe(0);
  });

  const naive = { "hdbss.ring": "naive" };
  twice(
    "T-50",
    "a ring smaller than the buffer fills up, and what has no room waits",
    (_on, bug) => {
      const vm = ringed(bug, 256, naive);
      for (let round = 0; round < 3; round++) {
        const { pages } = ringRound(vm, 1500);
        expect(vm.diagnosed("ring-overflow")).toBe(0);
        expect(pages.size).toBe(1500);
      }
    },
    { bug: "B22" },
  );

  it("with a bitmap beside it, the bitmap takes what the ring can't", () => {
    const vm = ringed(null, 256, naive, true);
    ringRound(vm, 1500);
    const { pages } = ringRound(vm, 1500);
    for (const page of vm.dirty(0)) pages.add(page);
    expect(pages.size).toBe(1500);
    expect(vm.counter("hdbssAppends")).toBeGreaterThanOrEqual(ENTRIES);
  });

  it("a lost entry: what is writable-dirty goes to the ring again", () => {
    const vm = ringed(null, 1024, { "hdbss.maxErrors": 100 });
    ringRound(vm, 1500);
    vm.arm("hdbss-append-abort", { nth: 700 });
    const { pages } = ringRound(vm, 1500);
    expect(vm.counter("hdbssErrorsAbort")).toBe(1);
    expect(pages.size).toBe(1500);
  });
});
