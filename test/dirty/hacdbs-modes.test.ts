// Goal: completion and discovery change how a batch is waited for, never what it cleans.
// Method: cases T-75 and T-76 of dirty-tracking.md 10 on one workload; the tables' bytes by hand.
import { describe, expect, it } from "vitest";
import { findCompatible } from "../../src/base/fdt.js";
import { hostDeviceTree, interruptOf, madt } from "../../src/kvm/dirty/discovery.js";
import { type Asked, CLEAN, CleaningVm, range } from "./hacdbs-support.js";

const MODES = ["poll-quantum", "poll-tight", "irq-wfi", "irq-or-poll"] as const;

/** 700 pages in two batches, cleared, four stored to again. */
function worked(settings: NonNullable<Asked["settings"]>) {
  const vm = new CleaningVm({ settings }).logging(1024);
  vm.dirtyPages(range(10, 710));
  const cleared = vm.clear(0, 0, 1024, range(0, 700));
  vm.dirtyPages([11, 300, 699, 1000]);
  return { vm, cleared, pages: vm.dirty(0), states: vm.states(range(0, 1024)) };
}

describe("completion", () => {
  it("T-75: every mode cleans the same pages; waits and interrupts differ", () => {
    const runs = MODES.map((mode) =>
      worked({ "hacdbs.completion": mode, "hacdbs.discovery": "acpi" }),
    );
    for (const { cleared, pages, states, vm } of runs) {
      expect(cleared).toBe(690);
      expect(pages).toEqual(runs[0]!.pages);
      expect(states).toEqual(runs[0]!.states);
      expect(vm.counted).toMatchObject({ hacdbsBatches: 2, hacdbsTimeouts: 0 });
      expect(vm.fallbacks).toBe(0);
    }
    const [quantum, tight, wfi, either] = runs.map(({ vm }) => ({
      irqs: vm.counter("hacdbsIrqs"),
      waitUs: vm.counter("hacdbsWaitUs"),
      asleepUs: vm.counter("hacdbsLowPowerUs"),
    }));
    // 64 entries a microsecond: 8 for the full array, 3 for 178 and the terminator.
    expect(tight).toEqual({ irqs: 0, waitUs: 11, asleepUs: 0 });
    expect(quantum).toEqual({ irqs: 0, waitUs: 20, asleepUs: 20 });
    expect(wfi).toEqual({ irqs: 2, waitUs: 11, asleepUs: 11 });
    expect(either).toEqual({ irqs: 2, waitUs: 11, asleepUs: 11 });
  });

  it("T-75: a longer quantum makes each batch as long", () => {
    const { vm } = worked({ "hacdbs.quantumUs": 250 });
    expect(vm.counter("hacdbsWaitUs")).toBe(500);
  });

  it("T-75: a lost interrupt costs the watchdog's time alone, and polls never notice", () => {
    const lost = (mode: (typeof MODES)[number]) => {
      const settings = { "hacdbs.completion": mode, "hacdbs.discovery": "dt" };
      const vm = new CleaningVm({ settings }).logging(64);
      vm.arm("hacdbs-irq-lost", 1, null);
      vm.dirtyPages(range(0, 64));
      expect(vm.clear(0, 0, 64, range(0, 64))).toBe(64);
      expect(new Set(vm.states(range(0, 64)))).toEqual(new Set([CLEAN]));
      return [vm.counter("hacdbsTimeouts"), vm.counter("hacdbsWaitUs")];
    };
    expect(lost("irq-wfi")).toEqual([1, 100_000]);
    expect(lost("irq-or-poll")).toEqual([0, 10]);
    expect(lost("poll-tight")).toEqual([0, 1]);
  });
});

describe("discovery", () => {
  const irqWfi = { "hacdbs.completion": "irq-wfi" } as const;
  it.each([
    ["none", {}, null],
    ["acpi", {}, 18],
    ["acpi", { "hardware.hacdbsPpi": 15 + 16 }, 31],
    ["acpi", { "hacdbs.madtLength": "short" }, null],
    ["dt", {}, 18],
    ["dt", { "hacdbs.dtInterrupt": "spi" }, null],
  ] as const)("T-76: %s with %o finds %s", (discovery, more, intid) => {
    const settings = { ...irqWfi, "hacdbs.discovery": discovery, ...more };
    const vm = new CleaningVm({ settings }).logging(64);
    expect(interruptOf(vm.kvm.vm, 0)).toBe(intid);
    vm.dirtyPages(range(0, 64));
    expect(vm.clear(0, 0, 64, range(0, 64))).toBe(64);
    const isUsed = intid !== null;
    expect(vm.counted).toMatchObject({
      hacdbsCleaned: isUsed ? 64 : 0,
      clearFallbacksEperm: isUsed ? 0 : 1,
    });
  });

  it.each(["poll-quantum", "poll-tight"])("T-76: none with %s: accelerated", (completion) => {
    const { vm } = worked({ "hacdbs.completion": completion });
    expect(vm.counted).toMatchObject({ clearFallbacksEperm: 0, hacdbsCleaned: 690 });
  });

  it("T-76: the MADT is a table whose bytes sum up to 0, with a GICC for each host CPU", () => {
    const vm = new CleaningVm({ inline: { hostCpus: 3 } }).logging(64);
    const bytes = madt(vm.kvm.vm);
    const view = new DataView(bytes.buffer);
    expect(new TextDecoder().decode(bytes.subarray(0, 4))).toBe("APIC");
    expect(view.getUint32(4, true)).toBe(bytes.length);
    expect(bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0)).toBe(0);
    const found: [number, number][] = [];
    for (let at = 44; at < bytes.length; at += bytes[at + 1]!) {
      found.push([bytes[at]!, bytes[at + 1]!]);
    }
    const cpus = vm.kvm.vm.host.cpus.length;
    expect(found).toEqual([[12, 24], ...Array.from({ length: cpus }, () => [11, 88])]);
    expect(view.getUint32(44 + 24 + 84, true)).toBe(18);
  });

  it("T-76: the device tree's node names a PPI, level high", () => {
    const blob = hostDeviceTree(new CleaningVm().logging(64).kvm.vm);
    const node = findCompatible(blob, "arm,armv9-hacdbs");
    const cells = node?.get("interrupts") ?? new Uint8Array();
    expect([...cells]).toEqual([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4]);
    expect(findCompatible(blob, "arm,other")).toBeNull();
  });
});
