// Goal: dirty rings fill, exit, are harvested and reset as KVM's do on arm64.
// Method: the smallest ring (256 entries, 192 usable) filled to its edges, entry by entry.
import { describe, expect, it } from "vitest";
import { BASE, Inline } from "../../support/inline.js";

const RING = 223;
const WITH_BITMAP = 225;
const LOG = 1;
const K4 = 4096;
const LIMIT = 192;

const gpa = (page: number) => BASE + page * K4;
const range = (first: number, end: number) =>
  Array.from({ length: end - first }, (_, i) => first + i);

function setUp(pages = 1024, vcpus = 1) {
  const vm = new Inline();
  vm.enable(RING, 4096n);
  const made = vm.slot(3, pages, { flags: LOG });
  for (let id = 0; id < vcpus; id++) vm.vcpu(id);
  const store = (at: readonly number[], vcpu = 0) => vm.store(vcpu, at.map(gpa));
  const harvest = (count: number, vcpu = 0) => {
    const { harvestIndex } = vm.call("readDirtyRing", { vcpu, from: 0, limit: 0 });
    const { entries } = vm.call("readDirtyRing", { vcpu, from: harvestIndex, limit: count });
    const dirty = entries.filter(({ flags }) => flags === 1);
    vm.call("harvestDirtyRing", { vcpu, upTo: harvestIndex + dirty.length });
    return dirty.map(({ offset }) => Number(offset));
  };
  const reset = () => vm.call("resetDirtyRings", {}).reset;
  return { vm, ...made, store, harvest, reset };
}

describe("enabling", () => {
  const enable = (vm: Inline, bytes: bigint, flags = 0) =>
    vm.refused("enableCap", { cap: RING, flags, args: [bytes] });

  it.each([
    [0n, "EINVAL"],
    [3000n, "EINVAL"],
    [1n, "EINVAL"],
    [1024n, "EINVAL"],
    [2048n, "EINVAL"],
    [2n ** 21n, "E2BIG"],
    [2n ** 31n, "E2BIG"],
    [2n ** 21n + 1n, "EINVAL"],
    [2n ** 32n, "EINVAL"],
    [2n ** 64n - 1n, "EINVAL"],
    [4096n, null],
    [2n ** 20n, null],
    [2n ** 32n + 4096n, null],
  ] as const)("with %d bytes: %s", (bytes, errno) => {
    const vm = new Inline();
    expect(enable(vm, bytes)).toBe(errno);
    const expected = errno === null ? Number(bytes & 0xffff_ffffn) : 0;
    expect(vm.call("describe", {}).dirtyRingBytes).toBe(expected);
  });

  it.each([16384, 65536] as const)("holds at least a page of %d bytes", (pageSize) => {
    const vm = new Inline({ pageSize });
    expect(enable(vm, BigInt(pageSize / 2))).toBe("EINVAL");
    expect(enable(vm, BigInt(pageSize))).toBeNull();
  });

  it("looks at the size before it says that it is too late", () => {
    const vm = new Inline();
    vm.slot(0, 4);
    expect(enable(vm, 8192n, 5)).toBeNull();
    expect(enable(vm, 8192n)).toBe("EINVAL");
    expect(enable(vm, 2n ** 21n)).toBe("E2BIG");
    const late = new Inline();
    late.vcpu();
    expect(enable(late, 4096n)).toBe("EINVAL");
    expect(enable(late, 2n ** 21n)).toBe("E2BIG");
  });

  it("is refused under the number of hosts with total store order", () => {
    const vm = new Inline();
    const old = { cap: 192, flags: 0, args: [4096n] };
    expect(vm.refused("enableCap", old)).toBe("EINVAL");
  });

  it("needs a ring, no flags and no slot for the bitmap beside it", () => {
    const bitmap = (vm: Inline, flags = 0) =>
      vm.refused("enableCap", { cap: WITH_BITMAP, flags, args: [] });
    const vm = new Inline();
    expect(bitmap(vm)).toBe("EINVAL");
    vm.enable(RING, 4096n);
    expect(bitmap(vm, 1)).toBe("EINVAL");
    vm.slot(0, 4);
    expect(bitmap(vm)).toBe("EINVAL");
    vm.deleteSlot(0);
    expect(bitmap(vm)).toBeNull();
  });

  it("charges each vCPU's ring, and gives it back when the id is taken", () => {
    const vm = new Inline();
    vm.enable(RING, 2n ** 20n);
    vm.vcpu(0);
    const used = vm.budget.usedBytes();
    expect(used).toBe(2 ** 20);
    expect(vm.refused("createVcpu", { id: 0 })).toBe("EEXIST");
    expect(vm.budget.usedBytes()).toBe(used);
  });
});

describe("entries", () => {
  it("are pushed once per page until the page is reset, whoever stores", () => {
    const { vm, store, harvest, reset } = setUp(16, 2);
    store([5, 6, 5, 5]);
    store([5, 6, 7], 1);
    const { entries } = vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 3 });
    expect(entries).toEqual([
      { index: 0, flags: 1, slot: 3, offset: 5n },
      { index: 1, flags: 1, slot: 3, offset: 6n },
      { index: 2, flags: 0, slot: 0, offset: 0n },
    ]);
    expect(harvest(9)).toEqual([5, 6]);
    store([5, 6]);
    expect(harvest(9)).toEqual([]);
    expect(reset()).toBe(2);
    store([5], 1);
    expect(harvest(9, 1)).toEqual([7, 5]);
  });

  it("keep slot and offset when they are reset, with flags 0", () => {
    const { vm, store, harvest, reset } = setUp();
    store([900]);
    harvest(1);
    reset();
    const { entries, ...rest } = vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 1 });
    expect(entries).toEqual([{ index: 0, flags: 0, slot: 3, offset: 900n }]);
    expect(rest).toEqual({ size: 256, dirtyIndex: 1, resetIndex: 1, harvestIndex: 1 });
  });

  it("are not made by loads, by userspace, or without a log", () => {
    const { vm, object } = setUp(16);
    vm.slot(4, 4, { gpa: 0x9000_0000 });
    vm.load(0, [gpa(1)]);
    vm.store(0, [0x9000_0000]);
    vm.call("writeMemoryObject", { id: object.id, offset: 0n, bytes: Uint8Array.of(1) });
    expect(vm.call("describeVcpu", { vcpu: 0 }).dirtyRing?.dirtyIndex).toBe(0);
  });

  it("come twice from a straddling store", () => {
    const { vm, harvest } = setUp(16);
    vm.store(0, [gpa(4) - 4]);
    expect(harvest(9)).toEqual([3, 4]);
  });
});

describe("a full ring", () => {
  it("exits with the entry in the ring and its store not retired", () => {
    const { vm, store } = setUp();
    const exit = store(range(0, 300));
    expect(exit).toMatchObject({
      errno: null,
      exitReason: "KVM_EXIT_DIRTY_RING_FULL",
      program: { completed: LIMIT - 1, finished: false },
    });
    const { dirtyRing } = vm.call("describeVcpu", { vcpu: 0 });
    expect(dirtyRing).toMatchObject({ entries: 256, dirtyIndex: LIMIT, softFull: true });
    const firstByte = (page: number) =>
      vm.call("readPhysicalMemory", { gpa: BigInt(gpa(page)), length: 1 })[0];
    expect([firstByte(LIMIT - 2), firstByte(LIMIT - 1)]).toEqual([1, 0]);
  });

  it("exits again and again until a reset frees an entry, also for loads", () => {
    const { vm, store, harvest, reset } = setUp();
    store(range(0, 300));
    for (let i = 0; i < 3; i++) {
      expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_DIRTY_RING_FULL", retired: 0 });
    }
    // Harvested is not reset.
    expect(harvest(1)).toEqual([0]);
    expect(vm.run().exitReason).toBe("KVM_EXIT_DIRTY_RING_FULL");
    vm.list(0, [{ op: "read", address: BigInt(gpa(0)), length: 8 }]);
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_DIRTY_RING_FULL", retired: 0 });
    expect(reset()).toBe(1);
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_HLT", retired: 1 });
  });

  it("gets k entries more from k that are reset, and every store retires in the end", () => {
    const { vm, store, harvest, reset } = setUp();
    store(range(0, 400));
    const seen: number[] = [];
    let runs = 0;
    for (let result = vm.run(); result.exitReason !== "KVM_EXIT_HLT"; result = vm.run()) {
      expect(result.exitReason).toBe("KVM_EXIT_DIRTY_RING_FULL");
      const got = harvest(50);
      seen.push(...got);
      expect(reset()).toBe(got.length);
      runs++;
    }
    seen.push(...harvest(300));
    expect(runs).toBe(Math.ceil((400 - LIMIT + 1) / 50));
    expect(seen).toEqual(range(0, 400));
    // The indexes never wrap, though the entries did.
    expect(vm.call("describeVcpu", { vcpu: 0 }).dirtyRing?.dirtyIndex).toBe(400);
  });

  it("of one vCPU does not stop another", () => {
    const { store } = setUp(1024, 2);
    store(range(0, 300));
    expect(store(range(500, 600), 1).exitReason).toBe("KVM_EXIT_HLT");
  });
});

describe("reset", () => {
  it("needs a ring and may find nothing", () => {
    expect(new Inline().refused("resetDirtyRings", {})).toBe("EINVAL");
    const { vm, store, reset } = setUp();
    store([1]);
    expect(reset()).toBe(0);
    expect(vm.counter("tlbiVmid")).toBe(0);
  });

  it("stops at the first entry without RESET, and sums over the vCPUs", () => {
    const { vm, store, reset } = setUp(1024, 2);
    store([0, 100, 200, 300]);
    store([400, 500], 1);
    for (const index of [0, 1, 3]) {
      vm.call("setDirtyRingFlags", { vcpu: 0, index, flags: 2 });
    }
    vm.call("setDirtyRingFlags", { vcpu: 1, index: 0, flags: 3 });
    expect(reset()).toBe(3);
    expect(vm.counter("tlbiVmid")).toBe(1);
    vm.call("setDirtyRingFlags", { vcpu: 0, index: 2, flags: 2 });
    expect(reset()).toBe(2);
  });

  it("re-arms the span of a run: a page between that is still in the ring comes again", () => {
    const { vm, store, harvest, reset } = setUp();
    store([10, 20, 15]);
    expect(harvest(2)).toEqual([10, 20]);
    expect(reset()).toBe(2);
    expect(vm.leaf(gpa(15))?.state).toBe("read-only");
    store([15]);
    expect(harvest(9)).toEqual([15, 15]);
  });

  it("re-arms runs that go backwards too, and pages 64 apart by themselves", () => {
    const { vm, store, harvest, reset } = setUp();
    store([163, 150, 100, 140, 500, 564, 530]);
    expect(harvest(3)).toEqual([163, 150, 100]);
    expect(reset()).toBe(3);
    expect(vm.leaf(gpa(140))?.state).toBe("read-only");
    expect(harvest(3)).toEqual([140, 500, 564]);
    expect(reset()).toBe(3);
    expect([500, 530, 564].map((page) => vm.leaf(gpa(page))?.state)).toEqual([
      "read-only",
      "writable-unmanaged",
      "read-only",
    ]);
  });

  it("re-arms nothing of a run whose last page lies outside its slot now, yet counts it", () => {
    const { vm, object, store, harvest, reset } = setUp(100);
    store([0, 50]);
    harvest(2);
    vm.deleteSlot(3);
    vm.region(3, BASE, 50 * K4, object.userspaceAddr, LOG);
    store([0]);
    expect(reset()).toBe(2);
    expect(vm.leaf(gpa(0))?.state).toBe("writable-unmanaged");
  });

  it("takes entries of slots that are gone, and of numbers that never were", () => {
    const { vm, store, harvest, reset } = setUp(100);
    store([1, 2, 3]);
    vm.deleteSlot(3);
    expect(harvest(3)).toEqual([1, 2, 3]);
    const ring = vm.kvm.vm.vcpuById(0)!.ring!;
    // A ring is userspace's memory too: what it writes there is not trusted.
    vm.kvm.vm.host.memory.u32[(ring.pa >>> 2) + 1] = 0x0001_0003;
    expect(reset()).toBe(3);
  });

  it("after a move all pages log again, and the old entries stay", () => {
    const { vm, slot, store, harvest } = setUp(16);
    store([1, 2]);
    vm.call("setUserMemoryRegion", { ...slot, guestPhysAddr: 0x9000_0000n });
    vm.store(0, [0x9000_1000]);
    expect(harvest(9)).toEqual([1, 2, 1]);
  });
});

describe("the window", () => {
  it("takes harvests forwards, up to what was served, and never back", () => {
    const { vm, store } = setUp();
    store([1, 2, 3]);
    const harvest = (upTo: number) => vm.refused("harvestDirtyRing", { vcpu: 0, upTo });
    expect(harvest(1)).toBe("ring-index");
    vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 2 });
    expect(harvest(3)).toBe("ring-index");
    expect(harvest(2)).toBeNull();
    expect(harvest(2)).toBeNull();
    expect(harvest(1)).toBe("ring-index");
    vm.call("readDirtyRing", { vcpu: 0, from: 2, limit: 100 });
    // Entry 3 was served, but is not dirty.
    expect(harvest(4)).toBe("ring-index");
    expect(harvest(3)).toBeNull();
  });

  it("is absent without rings", () => {
    const vm = new Inline();
    vm.vcpu();
    expect(vm.refused("readDirtyRing", { vcpu: 0, from: 0, limit: 1 })).toBe("no-dirty-ring");
    expect(vm.refused("readDirtyRing", { vcpu: 1, from: 0, limit: 1 })).toBe("vcpu-not-found");
    expect(vm.call("describeVcpu", { vcpu: 0 }).dirtyRing).toBeNull();
  });
});

describe("a bitmap beside the ring", () => {
  it("makes GET and CLEAR work again, and holds nothing that a vCPU stored", () => {
    const vm = new Inline();
    vm.enable(RING, 4096n);
    vm.enable(WITH_BITMAP);
    vm.slot(0, 100, { flags: LOG });
    vm.vcpu();
    vm.store(0, [BASE, BASE + K4]);
    expect(vm.dirty(0)).toEqual([]);
    expect(vm.clear(0, 0, 100, [0, 1])).toBe(0);
    expect(vm.call("describeVcpu", { vcpu: 0 }).dirtyRing?.dirtyIndex).toBe(2);
  });

  it("takes what is written while no vCPU runs", () => {
    const vm = new Inline();
    vm.enable(RING, 4096n);
    vm.enable(WITH_BITMAP);
    vm.slot(0, 100, { flags: LOG });
    vm.vcpu();
    // What saving an ITS table will do.
    vm.kvm.log.mark(vm.kvm.vm.slots.get(0)!, 7, null);
    expect(vm.dirty(0)).toEqual([7]);
    expect(vm.dirty(0)).toEqual([]);
  });
});
