// Goal: a deferred CLEAR returns at once, loses nothing, and tells when it is done.
// Method: T-77 of dirty-tracking.md 10 piece by piece, on vCPUs that run, sleep or stand still.
import { describe, expect, it } from "vitest";
import { bitmapOf } from "../support/inline.js";
import { CLEAN, CleaningVm, DIRTY, gpa, K4, range } from "./hacdbs-support.js";

const ASYNC = { "clear.mode": "async-run" } as const;

function deferring(settings = {}, vcpus = 1): CleaningVm {
  return new CleaningVm({ settings: { ...ASYNC, ...settings } }).logging(2048, vcpus);
}

const deferArgs = (first: number, count: number, pages: readonly number[]) => ({
  slot: 0,
  firstPage: BigInt(first),
  numPages: count,
  bitmap: bitmapOf(count, pages),
});

/** Stores to one page for a while; much longer than cleaning takes. */
function spin(vm: CleaningVm, vcpu: number, page: number, count = 100_000): void {
  vm.pattern(vcpu, { base: gpa(page), bytes: K4, count });
}

describe("T-77", () => {
  it("T-77: returns at once, shows pages as dirty until CLEANED, then logs new stores", () => {
    const vm = deferring({ "clear.deferMaxUs": 1_000_000 });
    vm.dirtyPages(range(0, 700));
    const answer = vm.call("deferDirtyLogClear", deferArgs(0, 640, range(0, 600)));
    expect(answer).toEqual({ cleared: 0, deferred: 600 });
    expect(vm.kvm.log.deferred.pendingPages).toBe(600);
    expect(vm.dirty(0)).toEqual(range(0, 700));
    expect(new Set(vm.states(range(0, 600)))).toEqual(new Set([DIRTY]));
    spin(vm, 0, 2000);
    const exit = vm.run(0);
    expect(exit).toMatchObject({
      errno: null,
      exitReason: "KVM_EXIT_CLEANED",
      cleaned: { slot: 0, firstPage: 0, numPages: 640 },
    });
    expect(vm.counter("hacdbsCleaned")).toBe(600);
    expect(vm.kvm.log.deferred.pendingPages).toBe(0);
    // Whatever the first two GETs found in the descriptors is old news: cleared at once.
    vm.clear(0, 0, 640, range(0, 600));
    expect(vm.dirty(0).filter((page) => page < 600)).toEqual([]);
    vm.dirtyPages([17, 599]);
    expect(vm.dirty(0).filter((page) => page < 600)).toEqual([17, 599]);
  });

  it("T-77: two vCPUs share the work, and only one of them tells", () => {
    const vm = deferring({ "clear.deferMaxUs": 1_000_000 }, 2);
    vm.dirtyPages(range(0, 1500));
    vm.call("deferDirtyLogClear", deferArgs(0, 1536, range(0, 1500)));
    spin(vm, 0, 2000, 60_000);
    spin(vm, 1, 2001, 60_000);
    const runs = [vm.beginRun(0), vm.beginRun(1)];
    const exits = runs.map((run) => vm.finish(run).exitReason).sort();
    expect(exits).toEqual(["KVM_EXIT_CLEANED", "KVM_EXIT_HLT"]);
    expect(new Set(vm.states(range(0, 1500)))).toEqual(new Set([CLEAN]));
  });

  it("T-77: with nobody running the caller's thread is done within deferMaxUs", () => {
    const vm = deferring({ "clear.deferMaxUs": 300 });
    vm.dirtyPages(range(0, 600));
    vm.call("deferDirtyLogClear", deferArgs(0, 640, range(0, 600)));
    const before = vm.kvm.vm.virtualNs;
    const invalidated = vm.counter("tlbiRange") + vm.counter("tlbiVmid");
    vm.pumpUntil(() => !vm.kvm.log.deferred.isPending);
    expect(vm.kvm.vm.virtualNs - before).toBe(300_000);
    expect(new Set(vm.states(range(0, 600)))).toEqual(new Set([CLEAN]));
    expect(vm.counter("hacdbsCleaned")).toBe(600);
    expect(vm.counter("tlbiRange") + vm.counter("tlbiVmid") - invalidated).toBe(2);
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_CLEANED");
  });

  it("T-77: each CLEAR has deferMaxUs of its own", () => {
    const vm = deferring({ "clear.deferMaxUs": 300 });
    vm.dirtyPages(range(0, 1600));
    vm.call("deferDirtyLogClear", deferArgs(0, 512, range(0, 512)));
    const armed = vm.kvm.vm.virtualNs;
    spin(vm, 0, 2000);
    const run = vm.beginRun(0);
    vm.pump(4);
    expect(vm.kvm.vm.virtualNs).toBeGreaterThan(armed);
    expect(vm.kvm.log.deferred.pendingPages).toBeGreaterThan(0);
    vm.call("deferDirtyLogClear", deferArgs(512, 1024, range(0, 1024)));
    const before = vm.kvm.vm.virtualNs;
    expect(vm.finish(run).cleaned?.firstPage).toBe(0);
    vm.pumpUntil(() => !vm.kvm.log.deferred.isPending);
    expect(vm.kvm.vm.virtualNs - before).toBe(300_000);
  });

  it("T-77: what hardware refuses the caller's thread is software's in the same go", () => {
    const vm = deferring({ "clear.deferMaxUs": 300 });
    vm.dirtyPages(range(0, 600));
    vm.arm("hacdbs-ipahacf", 7);
    // The second array can't be read at all.
    vm.arm("hacdbs-structf", 520);
    vm.call("deferDirtyLogClear", deferArgs(0, 640, range(0, 600)));
    vm.pumpUntil(() => !vm.kvm.log.deferred.isPending);
    expect([vm.counter("hacdbsErrIpahacf"), vm.counter("hacdbsErrStructf")]).toEqual([1, 1]);
    expect(new Set(vm.states(range(0, 600)))).toEqual(new Set([CLEAN]));
    expect(vm.counter("hacdbsCleaned")).toBeLessThan(599);
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_CLEANED");
    vm.dirtyPages([6, 599]);
    vm.dirty(0);
    expect(vm.states([5, 6, 599])).toEqual([CLEAN, DIRTY, DIRTY]);
  });

  it("T-77: no new store is lost while vCPUs clean and store, to the page", () => {
    const vm = deferring({}, 2);
    vm.call("shadowStart", {});
    for (let round = 0; round < 6; round++) {
      vm.pattern(0, { base: gpa(0), bytes: 512 * K4, count: 3000 }, { seed: BigInt(round) });
      vm.pattern(1, { base: gpa(0), bytes: 512 * K4, count: 3000 }, { seed: BigInt(99 - round) });
      const runs = [vm.beginRun(0), vm.beginRun(1)];
      vm.pump(6);
      const pages = vm.dirty(0);
      vm.call("deferDirtyLogClear", deferArgs(0, 2048, pages));
      for (const [vcpu, first] of runs.entries()) {
        for (let exit = vm.finish(first); exit.exitReason !== "KVM_EXIT_HLT"; exit = vm.run(vcpu)) {
          expect(exit.exitReason).toBe("KVM_EXIT_CLEANED");
        }
      }
      vm.pumpUntil(() => !vm.kvm.log.deferred.isPending);
    }
    vm.dirty(0);
    expect(vm.counter("lostPages")).toBe(0);
    expect(vm.counter("hacdbsCleaned")).toBeGreaterThan(500);
  });

  it("T-77: of a CLEAR that is half done every page counts as dirty, and none is lost", () => {
    const vm = deferring({ "clear.deferMaxUs": 1_000_000 });
    vm.call("shadowStart", {});
    vm.dirtyPages(range(0, 1500));
    expect(vm.dirty(0)).toEqual(range(0, 1500));
    vm.call("deferDirtyLogClear", deferArgs(0, 1536, range(0, 1500)));
    // Stores of before and after a page's turn, in a run that ends before the job does.
    spin(vm, 0, 3, 6000);
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_HLT");
    const cleaned = vm.counter("hacdbsCleaned");
    expect(cleaned).toBeGreaterThan(0);
    expect(vm.kvm.log.deferred.pendingPages).toBe(1500 - cleaned);
    expect(vm.dirty(0)).toEqual(range(0, 1500));
    expect(vm.counter("lostPages")).toBe(0);

    // All of them have left the bitmap; the second CLEAR is over behind the first.
    const again = vm.call("deferDirtyLogClear", deferArgs(0, 128, range(64, 128)));
    expect(again.deferred).toBe(64);
    spin(vm, 0, 2000, 1_000_000);
    expect(vm.run(0).cleaned).toEqual({ slot: 0, firstPage: 0, numPages: 1536 });
    expect(vm.run(0).cleaned).toEqual({ slot: 0, firstPage: 0, numPages: 128 });
    vm.clear(0, 0, 2048, vm.dirty(0));
    vm.dirtyPages([5, 70]);
    expect(vm.dirty(0)).toEqual([5, 70]);
    expect(vm.counter("lostPages")).toBe(0);
  });

  it("T-77: what counts is the CPU that a vCPU is loaded on, not one that is free", () => {
    // Only CPU 1 has its HACDBSIRQ set up.
    const settings = { "hacdbs.completion": "irq-wfi", "clear.deferMaxUs": 1_000_000 };
    const vm = new CleaningVm({
      settings: { ...ASYNC, ...settings, "hacdbs.discovery": "acpi" },
      inline: { hostCpus: 2 },
    }).logging(2048, 2);
    vm.dirtyPages(range(0, 600));
    vm.kvm.hacdbs.cpuDown(0);
    // vCPU 0 is loaded on CPU 0; what it leaves is vCPU 1's, on CPU 1.
    const deferred = vm.call("deferDirtyLogClear", deferArgs(0, 640, range(0, 600)));
    expect(deferred).toEqual({ cleared: 0, deferred: 600 });
    spin(vm, 0, 2000, 5000);
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_HLT");
    expect(vm.counter("hacdbsBatches")).toBe(0);
    spin(vm, 0, 2000);
    spin(vm, 1, 2001);
    const runs = [vm.beginRun(0), vm.beginRun(1)];
    const exits = runs.map((run) => vm.finish(run).exitReason);
    expect(exits).toContain("KVM_EXIT_CLEANED");
    expect(vm.counter("hacdbsCleaned")).toBe(600);
    expect(vm.fallbacks).toBe(0);
  });

  it("T-77: software invalidates once for a batch, not once for a page", () => {
    const vm = deferring({ "clear.deferMaxUs": 300 });
    vm.dirtyPages(range(0, 1200));
    vm.call("deferDirtyLogClear", deferArgs(0, 1216, range(0, 1200)));
    // Without HACDBS on any CPU what waits is software's.
    vm.kvm.vm.policies["hacdbs.use"] = "off";
    const before = vm.counter("tlbiRange") + vm.counter("tlbiVmid");
    vm.pumpUntil(() => !vm.kvm.log.deferred.isPending);
    expect(vm.counter("tlbiRange") + vm.counter("tlbiVmid") - before).toBe(Math.ceil(1200 / 512));
    expect(new Set(vm.states(range(0, 1200)))).toEqual(new Set([CLEAN]));
  });

  it("T-77: HDBSS off midway: the ioctl returns with nothing waiting, and nothing is lost", () => {
    const HDBSS = 502;
    const settings = { "hdbss.dbm": "all-writable-from-start", "hacdbs.use": "with-hdbss" };
    const vm = new CleaningVm({
      settings: { ...ASYNC, ...settings, "clear.deferMaxUs": 1_000_000 },
      inline: { dirtyTracking: "write-protect" },
    });
    vm.enable(HDBSS, 0n, 1n);
    vm.logging(2048, 2);
    vm.call("shadowStart", {});
    vm.dirtyPages(range(0, 900));
    expect(vm.dirty(0)).toEqual(range(0, 900));
    expect(vm.call("deferDirtyLogClear", deferArgs(0, 960, range(0, 900))).deferred).toBe(900);
    spin(vm, 0, 700, 1_000_000);
    const run = vm.beginRun(0);
    vm.pump(6);
    expect(vm.kvm.log.deferred.pendingPages).toBe(900);
    const before = vm.kvm.vm.virtualNs;
    vm.enable(HDBSS, 0n, 0n);
    expect(vm.kvm.log.deferred.isPending).toBe(false);
    expect(vm.kvm.vm.virtualNs - before).toBeLessThan(1_000_000);
    expect(vm.finish(run).exitReason).toBe("KVM_EXIT_CLEANED");
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_HLT");
    vm.dirtyPages([3], 1);
    expect(vm.dirty(0).filter((page) => page === 3 || page === 700)).toEqual([3, 700]);
    expect(vm.counter("lostPages")).toBe(0);
  });

  it("T-77: log off midway, slot gone midway: nothing waits any more, nothing is lost", () => {
    const vm = deferring();
    const { slot } = { slot: vm.kvm.vm.slots.get(0)! };
    vm.dirtyPages(range(0, 100));
    vm.call("deferDirtyLogClear", deferArgs(0, 128, range(0, 100)));
    vm.region(0, gpa(0), slot.npages * K4, slot.userspaceAddr, 0);
    expect(vm.kvm.log.deferred.isPending).toBe(false);
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_CLEANED");
    vm.region(0, gpa(0), slot.npages * K4, slot.userspaceAddr, 1);
    vm.store(0, [gpa(5)]);
    expect(vm.dirty(0)).toEqual([5]);
    vm.call("deferDirtyLogClear", deferArgs(0, 64, [5]));
    vm.deleteSlot(0);
    expect(vm.kvm.log.deferred.isPending).toBe(false);
  });

  it("T-77: a CLEAR without DEFER waits for what was deferred before it", () => {
    const vm = deferring();
    vm.dirtyPages(range(0, 64));
    vm.call("deferDirtyLogClear", deferArgs(0, 64, range(0, 64)));
    vm.clear(0, 0, 64, range(0, 64));
    expect(vm.kvm.log.deferred.isPending).toBe(false);
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_CLEANED");
    vm.dirtyPages([9]);
    expect(vm.dirty(0)).toEqual([9]);
  });

  it("T-77: a page that hardware refuses is software's at the next exit", () => {
    const vm = deferring({ "clear.deferMaxUs": 1_000_000 });
    vm.dirtyPages(range(0, 64));
    vm.arm("hacdbs-ipahacf", 7);
    vm.call("deferDirtyLogClear", deferArgs(0, 64, range(0, 64)));
    spin(vm, 0, 2000);
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_CLEANED");
    expect(vm.counter("hacdbsErrIpahacf")).toBe(1);
    expect(new Set(vm.states(range(0, 64)))).toEqual(new Set([CLEAN]));
  });

  it("T-77: DEFER needs the mode; without HACDBS it clears at once", () => {
    const sync = new CleaningVm().logging(64);
    expect(sync.refused("deferDirtyLogClear", deferArgs(0, 64, [1]))).toBe("EINVAL");
    const plain = deferring({ "hacdbs.use": "off" });
    plain.dirtyPages([1, 2]);
    const answer = plain.call("deferDirtyLogClear", deferArgs(0, 64, [1, 2]));
    expect(answer).toEqual({ cleared: 2, deferred: 0 });
  });
});
