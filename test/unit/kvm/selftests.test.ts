// Goal: what the kernel's own selftests for memory expect of an arm64 KVM holds here too.
// Method: their scenarios in our words and at our size: slots, dirty logs, zones, files, vCPUs.
import { describe, expect, it } from "vitest";
import type { ConsumeArgs } from "../../../src/vmm/commands.js";
import { BASE, Inline, type InlineOptions, MIB } from "../../support/inline.js";

const K4 = 4096;
const LOG = 1;
const MMIO = 0x900_0000;
const range = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("set_memory_region_test", () => {
  it("adds every slot there can be, and not one more", () => {
    const vm = new Inline();
    const count = vm.call("checkExtension", { cap: 10 });
    expect(count).toBe(32767);
    const { userspaceAddr } = vm.ram(2 * MIB);
    const add = (slot: number) =>
      vm.refused("setUserMemoryRegion", {
        slot,
        flags: 0,
        guestPhysAddr: BigInt(slot) * BigInt(2 * MIB),
        memorySize: BigInt(2 * MIB),
        userspaceAddr,
      });
    for (let slot = 0; slot < count; slot++) if (add(slot) !== null) throw new Error(`${slot}`);
    expect(add(count)).toBe("EINVAL");
    expect(vm.call("describe", {}).memslotCount).toBe(count);
    vm.vcpu();
    vm.store(0, [(count - 1) * 2 * MIB + 8], 3n);
    expect(vm.load(0, [8, 12345 * 2 * MIB + 8])).toEqual([3n, 3n]);
  });

  it("a region that moves under a reading guest shows its data or exits, never another's", () => {
    for (const seed of range(6)) {
      const vm = new Inline({ schedule: "seeded", seed: BigInt(seed) });
      const { slot } = vm.slot(0, 8);
      vm.slot(1, 8, { gpa: BASE + 16 * K4 });
      vm.vcpu();
      vm.store(0, [BASE + 8 * K4 - 8], 1n);
      vm.store(0, [BASE + 16 * K4], 2n);
      const reads = range(4000).map(() => BigInt(BASE + 8 * K4 - 8));
      vm.list(
        0,
        reads.map((address) => ({ op: "read", address, length: 8 })),
      );
      let run = vm.beginRun();
      for (const gpa of [BASE + 8 * K4, BASE]) {
        vm.pump(15);
        const moving = vm.begin("setUserMemoryRegion", { ...slot, guestPhysAddr: BigInt(gpa) });
        while (!moving.done || (gpa === BASE && !run.done)) {
          vm.pump(1);
          if (!run.done || run.value.exitReason !== "KVM_EXIT_MMIO") continue;
          expect(run.value.mmio).toMatchObject({ physAddr: reads[0], len: 8, isWrite: false });
          run = vm.beginRun(0, { mmioData: [9] });
        }
        moving.value;
      }
      const { loads } = vm.call("readProgram", { vcpu: 0, from: 0, limit: 4000 });
      expect([...new Set(loads)].filter((value) => value !== 1n && value !== 9n)).toEqual([]);
      expect(loads.length).toBe(4000);
    }
  });

  it("a deleted region reads as MMIO of 8 bytes; over fresh memory it reads zeros", () => {
    const vm = new Inline();
    const { object } = vm.slot(0, 8);
    vm.vcpu();
    vm.store(0, [BASE], 0xaaaan);
    vm.deleteSlot(0);
    vm.list(0, [{ op: "read", address: BigInt(BASE), length: 8 }]);
    expect(vm.run().mmio).toMatchObject({ physAddr: BigInt(BASE), len: 8, isWrite: false });
    vm.run(0, { mmioData: range(8) });
    vm.region(0, BASE, 8 * K4, object.userspaceAddr);
    expect(vm.load(0, [BASE])).toEqual([0xaaaan]);
    vm.call("deleteMemoryObject", { id: object.id });
    vm.ram(8 * K4, { at: Number(object.userspaceAddr) });
    expect(vm.load(0, [BASE])).toEqual([0n]);
  });
});

const PAGES = 400;
type Mode = "dirty-log" | "clear-log" | "dirty-ring";

/** One guest that stores its position + 1 to random pages, and a host that collects. */
class DirtyLogTest {
  readonly vm: Inline;
  readonly mode: Mode;
  readonly object: number;
  /** Steps between two looks; a seeded step is much shorter. */
  readonly steps: number;
  ringFulls = 0;

  constructor(mode: Mode, options: InlineOptions) {
    this.vm = new Inline(options);
    this.mode = mode;
    this.steps = options.schedule === "seeded" ? 150 : 20;
    // Enough for a ring to fill up.
    if (mode === "dirty-ring") this.steps *= 10;
    if (mode === "clear-log") this.vm.enable(168, 3n);
    if (mode === "dirty-ring") this.vm.enable(223, 4096n);
    this.object = this.vm.slot(0, PAGES, { flags: LOG }).object.id;
    this.vm.vcpu();
    const window = { base: BASE, bytes: PAGES * K4, count: 0 };
    this.vm.pattern(0, window, { seed: 77n });
  }

  /** What the host sees now; in every mode it is taken, so that the next stores show again. */
  collect(into: Set<number>): void {
    const { vm } = this;
    if (this.mode === "dirty-ring") {
      this.collectRing(into);
      return;
    }
    const pages = vm.dirty(0);
    for (const page of pages) into.add(page);
    if (this.mode === "clear-log") vm.clear(0, 0, PAGES, pages);
  }

  collectRing(into: Set<number>): void {
    const { vm } = this;
    const from = vm.call("describeVcpu", { vcpu: 0 }).dirtyRing!.harvestIndex;
    const { entries } = vm.call("readDirtyRing", { vcpu: 0, from, limit: 256 });
    const fresh = entries.filter(({ flags }) => flags === 1);
    for (const { slot, offset } of fresh) {
      expect(slot).toBe(0);
      expect(offset < BigInt(PAGES)).toBe(true);
      into.add(Number(offset));
    }
    vm.call("harvestDirtyRing", { vcpu: 0, upTo: from + fresh.length });
    expect(vm.call("resetDirtyRings", {}).reset).toBe(fresh.length);
  }

  /** Runs the guest for some steps, collecting in between, then stops it and collects the rest. */
  iterate(): Set<number> {
    const { vm } = this;
    const dirty = new Set<number>();
    let run = vm.beginRun();
    for (let part = 0; part < 4; part++) {
      vm.pump(this.steps);
      if (run.done) {
        expect(run.value.exitReason).toBe("KVM_EXIT_DIRTY_RING_FULL");
        this.ringFulls++;
        this.collect(dirty);
        run = vm.beginRun();
      } else this.collect(dirty);
    }
    if (!run.done) vm.call("kick", { vcpu: 0 });
    vm.finish(run);
    this.collect(dirty);
    return dirty;
  }

  /** The newest position that each page holds. */
  newest(): number[] {
    const args = { id: this.object, offset: 0n, length: PAGES * K4 };
    const words = new Uint32Array(this.vm.call("readMemoryObject", args).buffer);
    return range(PAGES).map((page) => {
      let max = 0;
      for (let at = page * 1024; at < (page + 1) * 1024; at++) max = Math.max(max, words[at]!);
      return max;
    });
  }

  get completed(): number {
    return this.vm.call("readProgram", { vcpu: 0, from: 0, limit: 0 }).completed;
  }
}

const HOSTS: readonly InlineOptions[] = [
  { schedule: "round-robin" },
  { schedule: "seeded", seed: 5n },
  { schedule: "seeded", seed: 6n, dirtyTracking: "dbm" },
];

describe.each(["dirty-log", "clear-log", "dirty-ring"] as const)("dirty_log_test, %s", (mode) => {
  it.each(HOSTS)("%o: a page is reported exactly when it was stored to", (options) => {
    const test = new DirtyLogTest(mode, options);
    let before = 0;
    let reported = 0;
    for (let iteration = 0; iteration < 5; iteration++) {
      const dirty = test.iterate();
      const newest = test.newest();
      const isAllSet = mode === "clear-log" && iteration === 0;
      // The store that waits to be done again may have been logged already.
      const waiting = test.vm.kvm.vm.vcpuById(0)!.synthetic.current.ipa;
      const pending = Math.floor((waiting - BASE) / K4);
      const wrong = newest.flatMap((position, page) => {
        if (position > before) return dirty.has(page) ? [] : [`${page} lost`];
        const isExcused = isAllSet || page === pending;
        return dirty.has(page) && !isExcused ? [`${page} reported for nothing`] : [];
      });
      expect(wrong).toEqual([]);
      reported += dirty.size;
      before = test.completed;
    }
    expect(reported).toBeGreaterThan(PAGES);
    if (mode === "dirty-ring") expect(test.ringFulls).toBeGreaterThan(0);
  });
});

describe("coalesced_io_test", () => {
  it("queues until the ring is full, exits once, and gives all back in order", () => {
    const vm = new Inline();
    vm.vcpu();
    vm.call("registerCoalescedZone", { addr: BigInt(MMIO), size: 8, pio: 0 });
    let after: string | null = null;
    for (const [round, length] of [4, 1, 8].entries()) {
      vm.list(
        0,
        range(400).map((i) => ({
          op: "write",
          address: BigInt(MMIO),
          length,
          value: BigInt(i + round),
        })),
      );
      const values: number[] = [];
      let exits = 0;
      for (;;) {
        const { exitReason, mmio } = vm.run();
        const consume: ConsumeArgs = { key: `${round}-${exits}`, after };
        const drained = vm.call("drainCoalescedRing", consume);
        after = drained.id;
        for (const { physAddr, len, data, pio } of drained.entries) {
          expect([physAddr, len, pio, data.length]).toEqual([BigInt(MMIO), length, 0, length]);
          values.push(data[0]!);
        }
        if (exitReason === "KVM_EXIT_HLT") break;
        expect(drained.entries.length).toBe(169);
        values.push(mmio!.data[0]!);
        exits++;
      }
      expect(exits).toBe(2);
      expect(values).toEqual(range(400).map((i) => (i + round) & 0xff));
    }
    vm.call("unregisterCoalescedZone", { addr: BigInt(MMIO), size: 8, pio: 0 });
    expect(vm.store(0, [MMIO], 1n, 4).exitReason).toBe("KVM_EXIT_MMIO");
  });
});

describe("guest_memfd_test", () => {
  it("sizes, flags, holes and bindings", () => {
    const vm = new Inline();
    const create = (size: bigint, flags: bigint) => vm.refused("createGuestMemfd", { size, flags });
    for (let size = 1n; size < 4096n; size *= 2n) expect(create(size, 0n)).toBe("EINVAL");
    const valid = BigInt(vm.call("checkExtension", { cap: 244 }));
    for (let flag = 1n; flag < 2n ** 64n; flag *= 2n) {
      expect(create(4096n, flag)).toBe((flag & ~valid) === 0n ? null : "EINVAL");
    }
    const { id } = vm.call("createGuestMemfd", { size: 4n * 4096n, flags: 1n });
    const bad = [0n, 1n, 4096n].flatMap((offset) =>
      [1n, 4095n, 4096n, 4097n].map((length) => ({ offset, length })),
    );
    for (const { offset, length } of bad) {
      const isWhole = offset % 4096n === 0n && length % 4096n === 0n;
      const args = { id, mode: 3, offset, length };
      expect(vm.refused("fallocateGuestMemfd", args)).toBe(isWhole ? null : "EINVAL");
    }
  });
});

describe("kvm_create_max_vcpus", () => {
  it("makes as many vCPUs as it says, with every id there is", () => {
    const vm = new Inline({ hostCpus: 1 });
    const max = vm.call("checkExtension", { cap: 66 });
    expect(vm.call("checkExtension", { cap: 128 })).toBe(max);
    expect(vm.refused("createVcpu", { id: max })).toBe("EINVAL");
    for (const id of range(max).reverse()) vm.vcpu(id);
    expect(vm.call("describe", {}).createdVcpus).toBe(max);
    expect(vm.refused("createVcpu", { id: 0 })).toBe("EINVAL");
    // The last one still runs.
    vm.slot(0, 1);
    vm.store(max - 1, [BASE], 4n);
    expect(vm.load(0, [BASE])).toEqual([4n]);
  });
});
