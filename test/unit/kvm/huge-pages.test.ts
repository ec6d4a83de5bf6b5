// Goal: memory is mapped by the largest blocks that fit, and blocks are split when a log needs it.
// Method: slots over huge objects, walked after each step; counters tell who split.
import { describe, expect, it } from "vitest";
import { BASE, GIB, Inline, MIB } from "../../support/inline.js";

const EAGER_SPLIT = 228;
const MANUAL = 168;
const LOG = 1;
const K4 = 4096;
const HUGE = { huge: true };

/** A slot of `mib` MiB over a huge object, and a vCPU. */
function setUp(mib = 4, options: { eager?: bigint; manual?: bigint; unbacked?: boolean } = {}) {
  const vm = new Inline({ budgetBytes: 8 * GIB });
  if (options.eager !== undefined) vm.enable(EAGER_SPLIT, options.eager);
  if (options.manual !== undefined) vm.enable(MANUAL, options.manual);
  const backing = options.unbacked === true ? "unbacked" : "ram";
  const made = vm.slot(0, (mib * MIB) / K4, { ...HUGE, backing });
  vm.vcpu();
  return { vm, ...made };
}

describe("mapping", () => {
  it.each([
    [4096, 2 * MIB, 2],
    [16384, 32 * MIB, 2],
    [65536, 512 * MIB, 2],
  ] as const)("%d-byte pages: a block of %d bytes", (pageSize, block, level) => {
    const vm = new Inline({ pageSize, budgetBytes: 64 * GIB });
    vm.slot(0, (2 * block) / pageSize, { ...HUGE, backing: "unbacked" });
    vm.vcpu();
    vm.load(0, [BASE + block - 8]);
    expect(vm.leaf(BASE)).toMatchObject({ level, size: BigInt(block) });
    expect(vm.leaf(BASE + block)).toBeNull();
    vm.store(0, [BASE]);
    expect(vm.counter("s2MapFaults")).toBe(1);
  });

  it("a block of 1 GiB at level 1, where it fits", () => {
    const { vm } = setUp(2048, { unbacked: true });
    vm.load(0, [BASE + GIB + 5 * K4]);
    expect(vm.leaf(BASE + GIB)).toMatchObject({ level: 1, size: BigInt(GIB) });
    vm.store(0, [BASE + 2 * GIB - 8, BASE]);
    expect(vm.counter("s2MapFaults")).toBe(2);
  });

  it.each([
    ["the slot is smaller", 1, 0, 0],
    ["guest and userspace addresses differ modulo a block", 4, K4, 0],
    ["the slot begins inside a block of memory", 2, 0, K4],
  ])("pages where %s", (_why, mib, gpaOffset, hvaOffset) => {
    const vm = new Inline();
    const object = vm.ram(6 * MIB, HUGE);
    vm.region(0, BASE + gpaOffset, mib * MIB, object.userspaceAddr + BigInt(hvaOffset));
    vm.vcpu();
    vm.load(0, [BASE + gpaOffset]);
    expect(vm.leaf(BASE + gpaOffset)).toMatchObject({ level: 3 });
  });

  it("pages where the object has none to give", () => {
    const vm = new Inline();
    vm.slot(0, 1024);
    vm.vcpu();
    vm.load(0, [BASE]);
    expect(vm.leaf(BASE)).toMatchObject({ level: 3 });
  });

  it("reads what was written through any of both", () => {
    const { vm, object } = setUp();
    vm.store(0, [BASE + 3 * MIB + 40], 0xabcn);
    const bytes = vm.call("readMemoryObject", {
      id: object.id,
      offset: BigInt(3 * MIB + 40),
      length: 2,
    });
    expect([...bytes]).toEqual([0xbc, 0x0a]);
    vm.region(1, 0x9000_1000, MIB, Number(object.userspaceAddr) + 3 * MIB);
    expect(vm.load(0, [0x9000_1028])).toEqual([0xabcn]);
  });
});

describe("logging", () => {
  it("splits a block by the store that faults: one page, others fault for themselves", () => {
    const { vm, slot } = setUp();
    vm.store(0, [BASE, BASE + 2 * MIB]);
    vm.setFlags(slot, LOG);
    expect(vm.leaf(BASE)).toMatchObject({ level: 2, state: "read-only" });
    vm.store(0, [BASE + 7 * K4], 3n);
    expect(vm.leaf(BASE + 7 * K4)).toMatchObject({ level: 3, state: "writable-unmanaged" });
    expect(vm.leaf(BASE + 8 * K4)).toBeNull();
    expect(vm.leaf(BASE + 2 * MIB)).toMatchObject({ level: 2 });
    expect(vm.counter("s2Splits")).toBe(1);
    expect(vm.dirty(0)).toEqual([7]);
    expect(vm.load(0, [BASE, BASE + 7 * K4])).toEqual([1n, 3n]);
  });

  it("maps pages only, also for loads, and blocks again when it is over", () => {
    const { vm, slot } = setUp();
    vm.setFlags(slot, LOG);
    vm.load(0, [BASE]);
    expect(vm.leaf(BASE)).toMatchObject({ level: 3, state: "read-only" });
    vm.setFlags(slot, 0);
    const used = vm.kvm.vm.host.frames.used;
    vm.store(0, [BASE + K4], 5n);
    expect(vm.leaf(BASE)).toMatchObject({ level: 2, state: "writable-unmanaged" });
    // The table of pages is free again.
    expect(vm.kvm.vm.host.frames.used).toBe(used - 1);
    expect(vm.load(0, [BASE + K4])).toEqual([5n]);
  });

  it("INITIALLY_SET leaves blocks writable; CLEAR protects the block, stores split it", () => {
    const { vm, slot } = setUp(4, { manual: 3n });
    vm.store(0, [BASE]);
    vm.setFlags(slot, LOG);
    expect(vm.leaf(BASE)).toMatchObject({ level: 2, state: "writable-unmanaged" });
    expect(vm.clear(0, 0, 64, [0, 5])).toBe(2);
    expect(vm.leaf(BASE)).toMatchObject({ level: 2, state: "read-only" });
    vm.store(0, [BASE + 5 * K4]);
    expect(vm.leaf(BASE + 5 * K4)).toMatchObject({ level: 3 });
    const dirty = vm.dirty(0);
    expect([dirty.length, dirty[0], dirty.includes(5)]).toEqual([1023, 1, true]);
  });
});

describe("eager split", () => {
  it.each([4096n, 2n ** 21n, 2n ** 30n])("chunk %d: pages before the first store", (eager) => {
    const { vm, slot } = setUp(6, { eager });
    vm.store(0, [BASE, BASE + 2 * MIB], 9n);
    vm.setFlags(slot, LOG);
    for (const at of [BASE, BASE + 511 * K4, BASE + 2 * MIB]) {
      expect(vm.leaf(at)).toMatchObject({ level: 3, state: "read-only" });
    }
    expect(vm.leaf(BASE + 4 * MIB)).toBeNull();
    expect(vm.counter("s2Splits")).toBe(2);
    vm.store(0, [BASE + 8 * K4]);
    expect(vm.counter("s2Splits")).toBe(2);
    expect(vm.dirty(0)).toEqual([8]);
    expect(vm.load(0, [BASE, BASE + 2 * MIB])).toEqual([9n, 9n]);
  });

  it("splits 1 GiB down to pages", () => {
    const { vm, slot } = setUp(1024, { eager: 4096n, unbacked: true });
    vm.load(0, [BASE]);
    expect(vm.leaf(BASE)).toMatchObject({ level: 1 });
    vm.setFlags(slot, LOG);
    expect(vm.leaf(BASE)).toMatchObject({ level: 3 });
    expect(vm.leaf(BASE + GIB - 1)).toMatchObject({ level: 3 });
    expect(vm.counter("s2Splits")).toBe(513);
    vm.deleteSlot(0);
    expect(vm.kvm.vm.account.tableBytes).toBe(0);
  });

  it("with INITIALLY_SET waits for CLEAR and then splits what it cleared", () => {
    const { vm, slot } = setUp(4, { eager: 4096n, manual: 3n });
    vm.store(0, [BASE, BASE + 2 * MIB]);
    vm.setFlags(slot, LOG);
    expect(vm.counter("s2Splits")).toBe(0);
    vm.clear(0, 0, 64, [3]);
    expect(vm.leaf(BASE)).toMatchObject({ level: 3 });
    expect(vm.leaf(BASE + 2 * MIB)).toMatchObject({ level: 2, state: "writable-unmanaged" });
    expect(vm.counter("s2Splits")).toBe(1);
    expect(vm.dirty(0).includes(3)).toBe(false);
    vm.store(0, [BASE + 3 * K4]);
    expect(vm.dirty(0).includes(3)).toBe(true);
  });

  it("does what it can without memory for tables; later stores split the rest", () => {
    const { vm, slot, object } = setUp(8, { eager: 4096n });
    // Three slots over one object: tables for one of them are paid for, the others need more.
    const bases = [BASE, BASE + GIB, BASE + 2 * GIB];
    const slots = bases.map((gpa, id) =>
      id === 0 ? slot : vm.region(id, gpa, 8 * MIB, object.userspaceAddr).slot!,
    );
    const blocks = bases.flatMap((gpa) => [0, 2, 4, 6].map((mib) => gpa + mib * MIB));
    vm.store(0, blocks, 4n);
    const free = vm.budget.totalBytes() - vm.budget.usedBytes();
    // Three bitmaps, and three tables more than those paid for.
    const left = 6 * K4;
    expect(vm.budget.charge(free - left)).toBe(true);
    for (const view of slots) vm.setFlags(view, LOG);
    const levels = blocks.map((at) => vm.leaf(at)!.level);
    expect(new Set(levels)).toEqual(new Set([2, 3]));
    const whole = blocks[levels.indexOf(2)]!;
    expect(vm.store(0, [whole + K4])).toMatchObject({ errno: "ENOMEM", retired: 0 });
    vm.budget.release(free - left);
    expect(vm.run().exitReason).toBe("KVM_EXIT_HLT");
    expect(vm.leaf(whole + K4)).toMatchObject({ level: 3 });
    expect(vm.load(0, blocks)).toEqual(blocks.map(() => 4n));
    for (const { slot: id } of slots) vm.deleteSlot(id);
    vm.call("deleteMemoryObject", { id: object.id });
    expect(vm.budget.usedBytes()).toBe(0);
    expect(vm.kvm.vm.host.frames.used).toBe(vm.kvm.vm.tables.rootPages);
  });
});
