// Goal: pages that KVM itself writes are found beside dirty rings, where there is a bitmap.
// Method: T-79 of dirty-tracking.md 10; KVM's write is a mark without a vCPU, as an ITS save's.
import { describe, expect, it } from "vitest";
import { Inline, pagesOf } from "../support/inline.js";
import { gpa, LOG, range } from "./hacdbs-support.js";

const RING = 223;
const WITH_BITMAP = 225;

function ringed(withBitmap: boolean) {
  const vm = new Inline();
  vm.enable(RING, 4096n);
  if (withBitmap) vm.enable(WITH_BITMAP);
  vm.slot(0, 64, { flags: LOG });
  vm.vcpu();
  vm.store(0, [gpa(3)]);
  vm.kvm.log.mark(vm.kvm.vm.slots.get(0)!, 7, null);
  const { entries } = vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 64 });
  const pages = entries.filter(({ flags }) => flags === 1).map(({ offset }) => Number(offset));
  return { vm, pages, outside: vm.kvm.vm.host.diagnostics.counts["dirty-outside-ring"] ?? 0 };
}

describe("T-79", () => {
  it("T-79: with the bitmap KVM's page is there and only there", () => {
    const { vm, pages, outside } = ringed(true);
    expect(pages).toEqual([3]);
    const { bitmap } = vm.call("harvestDirtyLog", { slot: 0, key: "k", after: null });
    expect(pagesOf(bitmap)).toEqual([7]);
    expect(outside).toBe(0);
  });

  it("T-79: without it the page is in no ring, and a warning counts", () => {
    const { pages, outside } = ringed(false);
    expect(pages).toEqual([3]);
    expect(outside).toBe(1);
  });
});

describe("with HDBSS on", () => {
  it("a ring reset cleans by HACDBS, and the next stores are pushed again", () => {
    const vm = new Inline();
    vm.enable(RING, 65536n);
    vm.slot(0, 2048, { flags: LOG });
    vm.vcpu();
    vm.enable(502, 0n, 1n);
    const pages = range(0, 700);
    vm.store(0, pages.map(gpa));
    const { dirtyIndex } = vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 1 });
    expect(dirtyIndex).toBe(700);
    vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 700 });
    vm.call("harvestDirtyRing", { vcpu: 0, upTo: 700 });
    expect(vm.call("resetDirtyRings", {}).reset).toBe(700);
    expect(vm.counter("hacdbsCleaned")).toBeGreaterThan(600);
    expect(vm.leaf(gpa(699))?.state).toBe("writable-clean");
    vm.store(0, [gpa(5), gpa(699)]);
    const next = vm.call("readDirtyRing", { vcpu: 0, from: 700, limit: 10 });
    expect(
      next.entries
        .slice(0, 2)
        .map(({ offset }) => Number(offset))
        .sort(),
    ).toEqual([5, 699]);
  });

  it("CLEAR cleans by HACDBS as the default policy says, and loses no later store", () => {
    const vm = new Inline();
    vm.enable(168, 1n);
    vm.slot(0, 2048, { flags: LOG });
    vm.vcpu();
    vm.enable(502, 0n, 1n);
    vm.store(0, range(0, 700).map(gpa));
    expect(vm.dirty(0)).toEqual(range(0, 700));
    expect(vm.clear(0, 0, 1024, range(0, 700))).toBe(700);
    expect(vm.counter("hacdbsBatches")).toBe(2);
    vm.store(0, [gpa(9), gpa(650)]);
    expect(vm.dirty(0)).toEqual([9, 650]);
  });
});
