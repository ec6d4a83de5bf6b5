// Goal: KVM's clear routine on HACDBS names, cleans and keeps exactly what the software one would.
// Method: cases T-52 to T-74 of dirty-tracking.md 10, each again with the seed's defect.
import { describe, expect, it } from "vitest";
import { EntryArray } from "../../src/kvm/dirty/entry-array.js";
import { POINT } from "../../src/kvm/preemption.table.js";
import { decodeEntry } from "../../src/machine/index.js";
import { twice } from "../support/dirty-case.js";
import { BASE, bitmapOf } from "../support/inline.js";
import { CHUNK_2M, CLEAN, CleaningVm, DIRTY, gpa, range } from "./hacdbs-support.js";

describe("which pages", () => {
  twice(
    "T-52",
    "CLEAR of pages 64 to 127 cleans exactly those; first_page 10 is EINVAL",
    (_on, bug) => {
      const vm = new CleaningVm({ bug }).logging(256);
      vm.dirtyPages(range(0, 256));
      expect(vm.clear(0, 64, 64, range(0, 64))).toBe(64);
      expect(new Set(vm.states(range(64, 128)))).toEqual(new Set([CLEAN]));
      expect(new Set(vm.states([...range(0, 64), ...range(128, 256)]))).toEqual(new Set([DIRTY]));
      const bitmap = bitmapOf(64, range(0, 32));
      const misaligned = { slot: 0, firstPage: 10n, numPages: 64, bitmap };
      expect(vm.refused("clearDirtyLog", misaligned)).toBe("EINVAL");
    },
    { bug: "D1" },
  );

  it("T-52: with D1 the detector tells of pages that nobody asked for", () => {
    const vm = new CleaningVm({ bug: "D1" }).logging(256);
    vm.dirtyPages(range(0, 256));
    const bitmap = bitmapOf(64, [0, 1]);
    vm.call("clearDirtyLog", { slot: 0, firstPage: 10n, numPages: 64, bitmap });
    expect(vm.diagnostic("hacdbs-cleaned-outside-request")).toBe(2);
    expect(vm.states([0, 1, 10, 11])).toEqual([DIRTY, DIRTY, CLEAN, CLEAN]);
  });

  twice(
    "T-53",
    "the user's word 0 is the one of first_page",
    (_on, bug) => {
      const vm = new CleaningVm({ bug }).logging(256);
      vm.dirtyPages(range(0, 256));
      expect(vm.clear(0, 128, 128, [0])).toBe(1);
      expect(vm.states([127, 128, 129])).toEqual([DIRTY, CLEAN, DIRTY]);
      expect(vm.dirty(0)).toEqual(range(0, 256).filter((page) => page !== 128));
    },
    { bug: "D2" },
  );

  twice(
    "T-54",
    "multiples of an array are a success like any other number",
    (_on, bug) => {
      for (const pages of [512, 1024, 511, 513, 0]) {
        const vm = new CleaningVm({ bug }).logging(1024);
        vm.dirtyPages(range(0, pages));
        expect(vm.clear(0, 0, 1024, range(0, 1024))).toBe(pages);
        expect(vm.fallbacks, `${pages} pages`).toBe(0);
        expect(vm.counter("hacdbsCleaned")).toBe(pages);
        expect(vm.dirty(0)).toEqual([]);
      }
    },
    { bug: "D4" },
  );

  twice(
    "T-55",
    "a legacy GET that software finishes still tells of what hardware cleaned",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, manual: 0 }).logging(1024);
      vm.dirtyPages(range(100, 700));
      vm.arm("hacdbs-structf", 551);
      expect(vm.dirty(0)).toEqual(range(100, 700));
      expect(vm.counted).toMatchObject({ hacdbsErrStructf: 1, clearFallbacksEagain: 1 });
      expect(vm.counter("hacdbsCleaned")).toBe(550);
      expect(new Set(vm.states(range(100, 700)))).toEqual(new Set([CLEAN]));
    },
    { bug: "D5" },
  );
});

/** Runs until a context stands at a point; the simulation's observer is free here. */
function pumpTo(vm: CleaningVm, point: number, times = 1): void {
  let seen = 0;
  const { sched } = vm.kvm.vm;
  sched.observer = (moved) => {
    if (moved.point === point) seen++;
  };
  vm.pumpUntil(() => seen >= times);
  sched.observer = null;
  expect(seen).toBe(times);
}

const IRQ = { "hacdbs.completion": "irq-wfi", "hacdbs.discovery": "acpi" } as const;

describe("where and how it runs", () => {
  twice(
    "T-56",
    "a thread that moves to a CPU without the interrupt starts nothing there",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, settings: IRQ, inline: { hostCpus: 2 } });
      vm.logging(1024, 2);
      vm.dirtyPages(range(0, 1024));
      vm.kvm.hacdbs.cpuDown(1);
      const bitmap = bitmapOf(1024, range(0, 1024));
      const clear = vm.begin("clearDirtyLog", { slot: 0, firstPage: 0n, numPages: 1024, bitmap });
      // The first batch is under way on CPU 0, vCPU 0 runs on CPU 1; then a vCPU takes CPU 0.
      pumpTo(vm, POINT["hacdbs-wait"]);
      vm.pattern(0, { base: gpa(0), bytes: 4096, count: 100_000 });
      const run = vm.beginRun(0);
      pumpTo(vm, POINT["lock-dropped"]);
      vm.kvm.vm.loadVcpu(vm.kvm.vm.vcpuById(1)!, vm.kvm.vm.host.cpus[0]!);
      expect(vm.finish(clear).cleared).toBe(1024);
      vm.finish(run);
      expect(vm.counted).toMatchObject({ hacdbsTimeouts: 0, clearFallbacksEagain: 1 });
    },
    { bug: "D7" },
  );

  twice(
    "T-57",
    "the handler runs once for each batch",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, settings: IRQ }).logging(1200);
      vm.dirtyPages(range(0, 1200));
      expect(vm.clear(0, 0, 1200, range(0, 1200))).toBe(1200);
      expect([vm.counter("hacdbsBatches"), vm.counter("hacdbsIrqs")]).toEqual([3, 3]);
      expect(vm.diagnostic("hacdbs-interrupt-storm")).toBe(0);
    },
    { bug: "D8" },
  );

  twice(
    "T-58",
    "a batch that ends before the wait begins wakes nobody, and nobody sleeps",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, settings: IRQ }).logging(64);
      vm.dirtyPages([1, 2, 3]);
      expect(vm.clear(0, 0, 64, range(0, 64))).toBe(3);
      expect(vm.counter("hacdbsIrqs")).toBe(1);
      expect(vm.counter("hacdbsWaitUs")).toBeLessThan(4000);
    },
    { bug: "D9" },
  );

  twice(
    "T-59",
    "an interrupt while HACDBS runs says nothing",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, settings: IRQ }).logging(512);
      vm.dirtyPages(range(0, 512));
      vm.arm("hacdbs-irq-spurious", 2);
      expect(vm.clear(0, 0, 512, range(0, 512))).toBe(512);
      expect(vm.kvm.vm.host.faults.total).toBe(1);
      expect(new Set(vm.states(range(0, 512)))).toEqual(new Set([CLEAN]));
      expect(vm.dirty(0)).toEqual([]);
    },
    { bug: "D10" },
  );

  twice(
    "T-60",
    "with a split chunk of 2 MiB entries still name level 3",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, chunk: CHUNK_2M }).logging(512);
      vm.dirtyPages(range(0, 300));
      expect(vm.clear(0, 0, 512, range(0, 512))).toBe(300);
      expect(vm.counted).toMatchObject({ hacdbsErrIpahacf: 0, hacdbsCleaned: 300 });
    },
    { bug: "D11" },
  );

  twice(
    "T-61",
    "pages that were never mapped are skipped, not a reason to stop",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, manual: 3 }).logging(10_000);
      const mapped = range(0, 100).map((n) => n * 97);
      vm.dirtyPages(mapped);
      expect(vm.clear(0, 0, 10_000, range(0, 10_000))).toBe(10_000);
      expect(vm.fallbacks).toBe(0);
      expect(vm.counter("hacdbsCleaned")).toBe(100);
      expect(new Set(vm.states(mapped))).toEqual(new Set([CLEAN]));
      vm.dirtyPages(mapped);
      expect(vm.dirty(0)).toEqual(mapped);
    },
    { bug: "D12" },
  );
});

describe("blocks", () => {
  /** Mapped by 2 MiB blocks before the log is turned on. */
  function blocks(bug: string | null): CleaningVm {
    const vm = new CleaningVm({ bug, manual: 3, chunk: CHUNK_2M });
    const { slot } = vm.slot(0, 2048, { huge: true });
    vm.vcpu();
    vm.store(0, [gpa(0), gpa(512), gpa(1024)]);
    vm.setFlags(slot, 1);
    return vm;
  }

  twice(
    "T-62",
    "nothing is in the array while splitting drops mmu_lock; an unmapped page isn't lost",
    (_on, bug) => {
      const vm = blocks(bug);
      const atDrop: number[] = [];
      const { sched } = vm.kvm.vm;
      sched.observer = (moved) => {
        if (moved.point === POINT["lock-dropped"]) atDrop.push(vm.kvm.hacdbs.inFlight);
      };
      const pages = [...range(0, 10), ...range(600, 610), ...range(1100, 1110)];
      expect(vm.clear(0, 0, 2048, pages)).toBe(30);
      sched.observer = null;
      expect(atDrop.length).toBeGreaterThanOrEqual(3);
      expect(Math.max(...atDrop)).toBe(0);
      expect(vm.kvm.hacdbs.inFlight).toBe(0);
      vm.store(0, pages.map(gpa));
      expect(vm.dirty(0)).toEqual(range(0, 2048));
    },
    { bug: "D13" },
  );

  twice(
    "T-63",
    "a block that can't be split is left to software",
    (_on, bug) => {
      const vm = blocks(bug);
      vm.arm("split-alloc");
      expect(vm.clear(0, 0, 64, [0, 1])).toBe(2);
      expect(vm.kvm.vm.host.faults.total).toBe(1);
      expect(vm.counted).toMatchObject({ hacdbsErrIpahacf: 0, hacdbsBatches: 0 });
      vm.store(0, [gpa(0)]);
      expect(vm.dirty(0)).toContain(0);
    },
    { bug: "D14" },
  );

  it("words without a block fill the array; one with a block ends a batch before its split", () => {
    const vm = blocks(null);
    vm.clear(0, 0, 1024, range(0, 1024));
    vm.store(0, range(0, 1024).map(gpa));
    expect(vm.dirty(0)).toEqual(range(0, 2048));
    const { hacdbsBatches: before, hacdbsCleaned } = vm.counted;
    expect(vm.clear(0, 0, 1024, range(0, 1000))).toBe(1000);
    expect(vm.counted.hacdbsBatches - before).toBe(2);
    expect(vm.counted.hacdbsCleaned - hacdbsCleaned).toBe(1000);
    // 24 pages wait in the array when the block at 1024 comes.
    expect(vm.clear(0, 0, 2048, range(1000, 2048))).toBe(1048);
    expect(vm.counted.hacdbsBatches - before).toBe(2 + 2);
    expect(vm.states([1000, 1023, 1024, 1535])).toEqual([CLEAN, CLEAN, CLEAN, CLEAN]);
  });
});

describe("the array, the registers and the TLBs", () => {
  const AHEAD = { "hardware.lookahead": 8 } as const;

  twice(
    "T-65",
    "fetches that an error left behind are over before the array's page is somebody else's",
    (_on, bug) => {
      const settings = { ...AHEAD, "hardware.delayedFetch": true, "clear.onError": "abandon" };
      const vm = new CleaningVm({ bug, settings }).logging(512);
      vm.dirtyPages(range(0, 64));
      vm.arm("hacdbs-ipaf", 3);
      vm.clear(0, 0, 64, range(0, 64));
      // The next owner of that page fills it with what looks like entries of page 200.
      vm.slot(1, 1, { gpa: 0x9000_0000 });
      const bytes = new Uint8Array(4096);
      new BigUint64Array(bytes.buffer).fill(BigInt(gpa(200)) | 7n);
      vm.call("writePhysicalMemory", { gpa: 0x9000_0000n, bytes });
      vm.dirtyPages([200, 300]);
      expect(vm.clear(0, 256, 64, range(0, 64))).toBe(1);
      expect(vm.states([200, 300])).toEqual([DIRTY, CLEAN]);
      expect(vm.diagnostic("hacdbs-cleaned-outside-request")).toBe(0);
    },
    { bug: "D16" },
  );

  twice(
    "T-66",
    "HCR_EL2.VM has taken effect when HACDBS starts",
    (_on, bug) => {
      const vm = new CleaningVm({ bug }).logging(512);
      vm.dirtyPages(range(0, 100));
      expect(vm.clear(0, 0, 512, range(0, 512))).toBe(100);
      expect(new Set(vm.states(range(0, 100)))).toEqual(new Set([CLEAN]));
      expect(vm.counted).toMatchObject({ hacdbsTimeouts: 0, hacdbsCleaned: 100 });
      expect(vm.diagnostic("hacdbs-start-ignored")).toBe(0);
    },
    { bug: "D17" },
  );

  twice(
    "T-67",
    "another VM's stage 2 on that CPU is its own again",
    (_on, bug) => {
      const vm = new CleaningVm({ bug }).logging(64);
      vm.dirtyPages([5]);
      const cpu = vm.kvm.vm.host.cpus[0]!;
      const other = new CleaningVm().logging(64).kvm.vm;
      cpu.msr("VTCR_EL2", other.vtcr);
      cpu.msr("VTTBR_EL2", 0x1_0000_dead_0000n);
      expect(vm.clear(0, 0, 64, [5])).toBe(1);
      expect(cpu.mrs("VTTBR_EL2")).toBe(0x1_0000_dead_0000n);
      expect([cpu.mrs("VTCR_EL2"), cpu.mrs("HCR_EL2")]).toEqual([other.vtcr, 0n]);
    },
    { bug: "D18" },
  );

  twice(
    "T-68",
    "what hardware cleaned beyond an error at entry 0 is invalidated in the TLBs",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, manual: 3, settings: AHEAD }).logging(64);
      vm.dirtyPages([1, 2, 3]);
      const before = vm.counter("tlbiRange");
      vm.clear(0, 0, 64, range(0, 64));
      expect(vm.counter("tlbiRange")).toBe(before + 1);
      vm.dirtyPages([2]);
      expect(vm.dirty(0)).toEqual([2]);
    },
    { bug: "D19" },
  );

  twice(
    "T-69",
    "no page of an earlier request is cleaned from the array's tail",
    (_on, bug) => {
      const vm = new CleaningVm({ bug, settings: AHEAD }).logging(512);
      vm.dirtyPages(range(0, 40));
      expect(vm.clear(0, 0, 64, range(0, 64))).toBe(40);
      vm.dirtyPages([...range(0, 40), 100]);
      expect(vm.clear(0, 64, 64, range(0, 64))).toBe(1);
      expect(vm.states([100, 2, 3])).toEqual([CLEAN, DIRTY, DIRTY]);
      expect(vm.diagnostic("hacdbs-cleaned-outside-request")).toBe(0);
      expect(vm.dirty(0)).toEqual(range(0, 40));
    },
    { bug: "D20" },
  );

  it("T-70: pages 0 and 63 of a word: software may protect those between, HACDBS does not", () => {
    const hardware = new CleaningVm().logging(64);
    const software = new CleaningVm({ inline: { dirtyTracking: "write-protect" } }).logging(64);
    for (const vm of [hardware, software]) {
      vm.dirtyPages(range(0, 64));
      expect(vm.clear(0, 0, 64, [0, 63])).toBe(2);
      vm.dirtyPages([0, 30]);
      expect(vm.dirty(0)).toEqual(range(0, 63));
    }
    expect(hardware.counted).toMatchObject({ hacdbsCleaned: 2, clearFallbacksEperm: 0 });
    expect(software.counted).toMatchObject({ hacdbsCleaned: 0, clearFallbacksEperm: 1 });
    expect(hardware.states([1, 62])).toEqual([DIRTY, DIRTY]);
    expect(software.states([1, 62])).toEqual(["read-only", "read-only"]);
  });

  it("T-71: bit 63 alone makes one entry, all ones make 64", () => {
    for (const pages of [[63], range(0, 64), [31, 32], [0, 31, 32, 63]]) {
      const vm = new CleaningVm().logging(128);
      vm.dirtyPages(pages);
      expect(vm.clear(0, 0, 128, range(0, 128))).toBe(pages.length);
      expect(vm.counter("hacdbsCleaned")).toBe(pages.length);
      expect(vm.counter("hacdbsEntries")).toBe(pages.length + 1);
      expect(new Set(vm.states(pages))).toEqual(new Set([CLEAN]));
    }
  });

  it("T-71: an entry of a gfn above 2^40 keeps all its bits", () => {
    const { host } = new CleaningVm().kvm.vm;
    const array = new EntryArray(host, host.frames.allocate(1));
    const gfns = [2 ** 40 + 5, 2 ** 43 - 1, 0x80000, 1];
    for (const [page, at] of gfns.entries()) array.add(at, page, 3);
    const entries = gfns.map((_gfn, i) => {
      const at = array.pa / 4 + 2 * i;
      return decodeEntry(host.memory.u32[at]!, host.memory.u32[at + 1]!);
    });
    expect(entries.map(({ ipa }) => ipa / 4096)).toEqual(gfns);
    expect(new Set(entries.map(({ level, valid }) => `${level} ${valid}`))).toEqual(
      new Set(["3 true"]),
    );
  });

  it("T-72: a slot of 100 pages: its end may be ragged, and bits beyond it are nothing", () => {
    const vm = new CleaningVm().logging(100);
    vm.dirtyPages(range(0, 100));
    const bitmap = new Uint8Array(16).fill(0xff);
    const seventy = { slot: 0, firstPage: 0n, numPages: 70, bitmap };
    expect(vm.refused("clearDirtyLog", seventy)).toBe("EINVAL");
    const all = { slot: 0, firstPage: 0n, numPages: 100, bitmap };
    expect(vm.call("clearDirtyLog", all).cleared).toBe(100);
    expect(vm.counter("hacdbsCleaned")).toBe(100);
    expect(vm.dirty(0)).toEqual([]);
  });

  it("T-73: without DBM, or without memory for the array, software does the same", () => {
    const plain = new CleaningVm({ settings: { "hacdbs.use": "off" } }).logging(700);
    const noArray = new CleaningVm().logging(700);
    noArray.arm("hacdbs-alloc", 1, null);
    const noDbm = new CleaningVm({ inline: { dirtyTracking: "write-protect" } }).logging(700);
    const protect = new CleaningVm({
      settings: { "hacdbs.use": "off" },
      inline: { dirtyTracking: "write-protect" },
    }).logging(700);
    const seen = [plain, noArray, noDbm, protect].map((vm) => {
      vm.dirtyPages(range(3, 690));
      const cleared = vm.clear(0, 0, 640, range(0, 600));
      vm.dirtyPages([7, 8]);
      return { cleared, pages: vm.dirty(0), states: vm.states(range(0, 700)) };
    });
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[3]).toEqual(seen[2]);
    expect(noArray.counted).toMatchObject({ clearFallbacksEnomem: 1, hacdbsBatches: 0 });
    expect(noDbm.counted).toMatchObject({ clearFallbacksEperm: 1, hacdbsBatches: 0 });
    expect([plain.fallbacks, protect.fallbacks]).toEqual([0, 0]);
  });

  it("T-74: cleaning nothing invalidates nothing; cleaning something invalidates once", () => {
    const vm = new CleaningVm().logging(2048);
    const tlbis = () => vm.counter("tlbiRange") + vm.counter("tlbiVmid");
    const before = tlbis();
    vm.clear(0, 0, 2048, range(0, 2048));
    expect(tlbis()).toBe(before);
    vm.dirtyPages(range(0, 1500));
    const dirtied = tlbis();
    expect(vm.clear(0, 0, 2048, range(0, 2048))).toBe(1500);
    expect(tlbis()).toBe(dirtied + 1);
    expect(vm.counted).toMatchObject({ hacdbsBatches: 3, hacdbsCleaned: 1500 });
  });
});

describe("other granules", () => {
  it.each([
    [16384, 2048],
    [65536, 8192],
  ] as const)("a %d byte page holds %d entries, and SZ says so", (pageSize, entries) => {
    const vm = new CleaningVm({ inline: { pageSize } }).logging(entries + 100);
    const at = (page: number) => BASE + page * pageSize;
    vm.store(0, range(0, entries + 70).map(at));
    expect(vm.clear(0, 0, entries + 64, range(0, entries + 64))).toBe(entries + 64);
    expect(vm.counted).toMatchObject({ hacdbsBatches: 2, hacdbsCleaned: entries + 64 });
    expect(vm.dirty(0)).toEqual(range(entries + 64, entries + 70));
  });
});
