// Goal: the oracle tells what was really stored, and what a log lost or made up.
// Method: small programs, then a log that a test falsifies by hand.
import { describe, expect, it } from "vitest";
import { guestImage, InlineBoard } from "../../support/board.js";
import { BASE, bitmapOf, Inline, pagesOf } from "../../support/inline.js";

const PAGES = 128;
const PAGE = 4096;

function storing(...pages: readonly number[]) {
  const accesses = pages.map((page) => ({
    op: "write" as const,
    address: BigInt(BASE + page * PAGE),
    length: 8,
    value: 1n,
  }));
  return { kind: "accesses" as const, accesses };
}

function setUp(manual: boolean) {
  const vm = new Inline();
  if (manual) vm.enable(168, 1n);
  vm.slot(0, PAGES, { flags: 1 });
  vm.vcpu(0);
  vm.call("shadowStart", {});
  vm.vcpu(1);
  return vm;
}

function run(vm: Inline, ...stores: readonly (readonly number[])[]) {
  for (const [vcpu, pages] of stores.entries()) {
    vm.call("setProgram", { vcpu, program: storing(...pages) });
  }
  return vm.call("runVcpus", { vcpus: stores.map((_, vcpu) => BigInt(vcpu)) });
}

/** Takes a page out of KVM's bitmap, as a defect would. */
function forget(vm: Inline, page: number): void {
  const bitmap = vm.kvm.vm.slots.get(0)?.dirtyBitmap;
  if (bitmap === undefined || bitmap === null) throw new Error("the slot doesn't log");
  vm.kvm.vm.host.memory.u8[bitmap.pa + (page >> 3)]! &= ~(1 << (page & 7));
}

const oracle = (vm: Inline) => {
  const { lostPages, falsePositives } = vm.kvm.vm.counters.values;
  return { lostPages, falsePositives };
};

describe("the shadow", () => {
  it("tells what all vCPUs stored to, once per take", () => {
    const vm = setUp(true);
    const results = run(vm, [3, 5, 3], [64, 5]);
    expect(results.map(({ exitReason }) => exitReason)).toEqual(["KVM_EXIT_HLT", "KVM_EXIT_HLT"]);
    const taken = vm.call("shadowTake", { slot: 0 });
    expect(taken.stored).toBe(3);
    expect(pagesOf(taken.bitmap)).toEqual([3, 5, 64]);
    expect(vm.call("shadowTake", { slot: 0 }).stored).toBe(0);
  });

  it("finds nothing wrong with a log that is right", () => {
    const vm = setUp(true);
    for (let round = 0; round < 3; round++) {
      run(vm, [1, 2], [2, 70]);
      const { bitmap } = vm.call("getDirtyLog", { slot: 0 });
      expect(pagesOf(bitmap)).toEqual([1, 2, 70]);
      vm.call("clearDirtyLog", { slot: 0, firstPage: 0n, numPages: PAGES, bitmap });
    }
    expect(oracle(vm)).toEqual({ lostPages: 0, falsePositives: 0 });
  });

  it("counts a page that the log forgot, once", () => {
    const vm = setUp(true);
    run(vm, [1, 2, 70]);
    forget(vm, 70);
    for (let again = 0; again < 2; again++) vm.call("getDirtyLog", { slot: 0 });
    expect(oracle(vm)).toEqual({ lostPages: 1, falsePositives: 0 });
  });

  it("counts a page that was reported although nobody stored to it", () => {
    const vm = setUp(true);
    run(vm, [1]);
    vm.kvm.log.setBit(vm.kvm.vm.slots.get(0)!.dirtyBitmap!, 9);
    vm.call("getDirtyLog", { slot: 0 });
    expect(oracle(vm)).toEqual({ lostPages: 0, falsePositives: 1 });
  });

  it("owes a page again that is stored to after CLEAR", () => {
    const vm = setUp(true);
    run(vm, [1, 65]);
    const bitmap = bitmapOf(64, [1]);
    vm.call("clearDirtyLog", { slot: 0, firstPage: 64n, numPages: 64, bitmap });
    vm.call("clearDirtyLog", { slot: 0, firstPage: 0n, numPages: 64, bitmap });
    run(vm, [1]);
    forget(vm, 1);
    vm.call("getDirtyLog", { slot: 0 });
    expect(oracle(vm)).toEqual({ lostPages: 1, falsePositives: 0 });
  });

  it("takes a legacy read for the acquisition", () => {
    const vm = setUp(false);
    run(vm, [4]);
    vm.call("harvestDirtyLog", { slot: 0, key: "a", after: null });
    const second = vm.call("harvestDirtyLog", { slot: 0, key: "b", after: "h1" });
    expect(pagesOf(second.bitmap)).toEqual([]);
    expect(oracle(vm)).toEqual({ lostPages: 0, falsePositives: 0 });
  });

  it("follows entries of rings, and misses one that was overwritten", () => {
    const vm = new Inline();
    vm.enable(223, 4096n);
    vm.slot(0, PAGES, { flags: 1 });
    vm.vcpu(0);
    vm.call("shadowStart", {});
    const reap = () => {
      const { dirtyIndex, entries } = vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 64 });
      vm.call("harvestDirtyRing", { vcpu: 0, upTo: dirtyIndex });
      vm.call("resetDirtyRings", {});
      return entries.slice(0, dirtyIndex).map(({ offset }) => Number(offset));
    };
    run(vm, [7, 8]);
    expect(reap()).toEqual([7, 8]);
    expect(oracle(vm)).toEqual({ lostPages: 0, falsePositives: 0 });
    run(vm, [9]);
    const { ring } = vm.kvm.vm.vcpus[0]!;
    vm.kvm.vm.host.memory.u32[(ring!.pa >>> 2) + 2 * 4 + 2] = 10;
    reap();
    expect(oracle(vm)).toEqual({ lostPages: 1, falsePositives: 1 });
  });
});

describe("the shadow of a board", () => {
  function logged() {
    const vm = InlineBoard.with(guestImage("stores"), { board: { memoryMiB: 64 } });
    vm.enable(168, 1n);
    vm.call("shadowStart", {});
    vm.call("logBoard", { on: true });
    return vm;
  }

  it("sees what guest code stored, in a stretch that ends at an instruction", () => {
    const vm = logged();
    const { state, ranNs } = vm.call("runBoard", { ns: 100_000n });
    expect([state, ranNs, vm.kvm.vm.virtualNs]).toEqual(["paused", 100_000n, 100_000]);
    const { bitmap } = vm.call("getDirtyLog", { slot: 0 });
    const { stored, bitmap: changed } = vm.call("shadowTake", { slot: 0 });
    expect(stored).toBeGreaterThan(500);
    const told = new Set(pagesOf(bitmap));
    expect(pagesOf(changed).filter((page) => !told.has(page))).toEqual([]);
    expect(oracle(vm).lostPages).toBe(0);
  });

  it("counts a page that the log forgot", () => {
    const vm = logged();
    vm.call("runBoard", { ns: 100_000n });
    forget(vm, pagesOf(vm.call("shadowTake", { slot: 0 }).bitmap)[0] ?? 0);
    vm.call("getDirtyLog", { slot: 0 });
    expect(oracle(vm).lostPages).toBe(1);
  });
});
