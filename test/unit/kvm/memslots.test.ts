// Goal: KVM_SET_USER_MEMORY_REGION refuses and accepts as kvm-uapi 5.1 says, in its order.
// Method: one row per rule, each with a state before and the same state after a refusal.
import { describe, expect, it } from "vitest";
import { BASE, Inline, MIB } from "../../support/inline.js";

const MAX = 2n ** 64n - 1n;
const PAGE = 4096n;
const LOG = 1;
const READONLY = 2;
const MEMFD = 4;
const HVA = 0x7000_0000n;

const REGION = {
  slot: 5,
  flags: 0,
  guestPhysAddr: 0x8000_0000n,
  memorySize: 16n * PAGE,
  userspaceAddr: HVA,
};
type Region = typeof REGION & { guestMemfd?: number; guestMemfdOffset?: bigint };

/** A VM with slot 1 at BASE, logging, 32 pages, and slot 2 just above it. */
function setUp(type = 40n) {
  const vm = new Inline({ type });
  vm.slot(1, 32, { flags: LOG });
  vm.slot(2, 32, { gpa: BASE + 32 * 4096 });
  vm.vcpu();
  vm.store(0, [BASE, BASE + 4096]);
  return vm;
}

function set(vm: Inline, change: Partial<Region>): string | null {
  const region = { ...REGION, ...change };
  if (change.guestMemfd === undefined && ((change.flags ?? 0) & MEMFD) === 0) {
    return vm.refused("setUserMemoryRegion", region);
  }
  const both = { guestMemfd: 0, guestMemfdOffset: 0n, ...region };
  return vm.refused("setUserMemoryRegion2", both);
}

/** What a refusal must leave alone: the slots, the log, the budget. */
function stateOf(vm: Inline) {
  const { vm: state } = vm.kvm;
  return {
    slots: vm.call("listMemslots", {}),
    charged: state.account.chargedBytes,
    used: state.host.frames.used,
    digest: vm.instance.digest().parts["memslots"],
  };
}

const SLOT1 = {
  slot: 1,
  guestPhysAddr: BigInt(BASE),
  memorySize: 32n * PAGE,
  flags: LOG,
};

/** [rule, change, errno]; `own` rows start from slot 1 as it is. */
const REFUSALS: readonly (readonly [string, Partial<Region>, string])[] = [
  ["1 slot number 32767", { slot: 32767 }, "EINVAL"],
  ["1 slot number 65535", { slot: 65535 }, "EINVAL"],
  ["1 slot number 65535, delete", { slot: 65535, memorySize: 0n }, "EINVAL"],
  ["2 unknown flag bit 3", { flags: 8 }, "EINVAL"],
  ["2 unknown flag bit 31", { flags: 0x8000_0000 }, "EINVAL"],
  ["2 unknown flag on a delete", { slot: 1, memorySize: 0n, flags: 8 }, "EINVAL"],
  ["2 GUEST_MEMFD with LOG", { flags: MEMFD | LOG, guestMemfd: 1 }, "EINVAL"],
  ["2 GUEST_MEMFD with READONLY", { flags: MEMFD | READONLY, guestMemfd: 1 }, "EINVAL"],
  ["3 size not pages", { memorySize: PAGE + 1n }, "EINVAL"],
  ["3 size 2^64-1", { memorySize: MAX }, "EINVAL"],
  ["4 gpa not aligned", { guestPhysAddr: 0x8000_0800n }, "EINVAL"],
  ["4 gpa 2^64-1", { guestPhysAddr: MAX }, "EINVAL"],
  ["4 gpa not aligned, delete", { slot: 1, memorySize: 0n, guestPhysAddr: 1n }, "EINVAL"],
  ["5 userspace address not aligned", { userspaceAddr: HVA + 1n }, "EINVAL"],
  ["5 userspace address 2^64-1", { userspaceAddr: MAX }, "EINVAL"],
  ["5 userspace address tagged", { userspaceAddr: (0xffn << 56n) | HVA }, "EINVAL"],
  ["5 userspace range beyond 2^48", { userspaceAddr: 2n ** 48n - PAGE }, "EINVAL"],
  ["5 userspace address 2^48", { userspaceAddr: 2n ** 48n }, "EINVAL"],
  ["5 size larger than userspace", { memorySize: 2n ** 48n + PAGE, userspaceAddr: 0n }, "EINVAL"],
  ["6 memfd offset not aligned", { flags: MEMFD, guestMemfd: 1, guestMemfdOffset: 1n }, "EINVAL"],
  [
    "6 memfd offset and size wrap",
    { flags: MEMFD, guestMemfd: 1, guestMemfdOffset: MAX - PAGE + 1n },
    "EINVAL",
  ],
  ["7 address space 1", { slot: 0x1_0005 }, "EINVAL"],
  ["7 address space 65535", { slot: 0xffff_0001, memorySize: 0n }, "EINVAL"],
  ["8 range reaches 2^64", { guestPhysAddr: MAX - 16n * PAGE + 1n }, "EINVAL"],
  ["8 range wraps around", { guestPhysAddr: MAX - PAGE + 1n }, "EINVAL"],
  ["9 2^31 pages", { memorySize: PAGE << 31n, userspaceAddr: 0n }, "EINVAL"],
  ["10 delete what is not there", { memorySize: 0n }, "EINVAL"],
  ["12 other size", { ...SLOT1, memorySize: 33n * PAGE }, "EINVAL"],
  ["12 other userspace address", { ...SLOT1, userspaceAddr: 0x1000n }, "EINVAL"],
  ["13 overlaps a slot's end", { guestPhysAddr: BigInt(BASE) + 63n * PAGE }, "EEXIST"],
  ["13 overlaps a slot's beginning", { guestPhysAddr: BigInt(BASE) - 15n * PAGE }, "EEXIST"],
  ["13 covers slots", { guestPhysAddr: BigInt(BASE) - PAGE, memorySize: 200n * PAGE }, "EEXIST"],
  ["14 guest_memfd that is not there", { flags: MEMFD, guestMemfd: 9 }, "EBADF"],
  ["15 beyond the IPA size", { guestPhysAddr: 2n ** 40n - 15n * PAGE }, "EFAULT"],
  ["15 far beyond", { guestPhysAddr: 2n ** 52n }, "EFAULT"],
  ["15 beyond, with LOG", { guestPhysAddr: 2n ** 40n, flags: LOG }, "EFAULT"],
];

describe("refusals", () => {
  it.each(REFUSALS)("%s", (_rule, change, errno) => {
    const vm = setUp();
    const before = stateOf(vm);
    expect(set(vm, change)).toBe(errno);
    expect(stateOf(vm)).toEqual(before);
    expect(vm.dirty(1)).toEqual([0, 1]);
  });

  it.each([
    ["READONLY switched on", { flags: LOG | READONLY }],
    ["GUEST_MEMFD on a live slot", { flags: MEMFD, guestMemfd: 1 }],
  ] as const)("12 %s", (_rule, change) => {
    const vm = setUp();
    vm.call("createGuestMemfd", { size: 1n << 20n, flags: 1n });
    const own = vm.call("listMemslots", {})[0]!;
    expect(set(vm, { ...own, ...change })).toBe("EINVAL");
    expect(vm.call("listMemslots", {})[0]).toEqual(own);
  });

  it("2 the narrower ioctl knows no GUEST_MEMFD", () => {
    const vm = setUp();
    vm.call("createGuestMemfd", { size: 1n << 20n, flags: 1n });
    expect(vm.refused("setUserMemoryRegion", { ...REGION, flags: MEMFD })).toBe("EINVAL");
  });

  it("12 READONLY switched off", () => {
    const vm = new Inline();
    const { slot } = vm.slot(3, 4, { flags: READONLY });
    expect(vm.refused("setUserMemoryRegion", { ...slot, flags: 0 })).toBe("EINVAL");
  });
});

describe("the order of refusals", () => {
  const FAR = { guestPhysAddr: 2n ** 52n };
  const OVER = { guestPhysAddr: BigInt(BASE) };
  it.each([
    ["alignment before overlap", { ...OVER, userspaceAddr: 1n }, "EINVAL"],
    ["overlap before the IPA size", { slot: 6, guestPhysAddr: 2n ** 40n - PAGE }, "EEXIST"],
    ["slot number before overlap", { ...OVER, slot: 32767 }, "EINVAL"],
    ["alignment before the IPA size", { ...FAR, memorySize: 1n }, "EINVAL"],
    ["page count before the IPA size", { ...FAR, memorySize: PAGE << 31n }, "EINVAL"],
    ["bad memfd before the IPA size", { ...FAR, flags: MEMFD, guestMemfd: 9 }, "EBADF"],
    ["overlap before a bad memfd", { ...OVER, flags: MEMFD, guestMemfd: 9 }, "EEXIST"],
    ["resize before overlap", { ...SLOT1, memorySize: 64n * PAGE }, "EINVAL"],
  ] as const)("%s", (_rule, change, errno) => {
    const vm = setUp();
    // A slot at the end of the guest's space, so that one range can be wrong in two ways.
    vm.region(4, 2 ** 40 - 4096, 4096, HVA);
    expect(set(vm, change)).toBe(errno);
  });

  it("the IPA size before a memfd that can't be mapped", () => {
    const vm = setUp();
    const { id } = vm.call("createGuestMemfd", { size: 1n << 20n, flags: 0n });
    const memfd = { flags: MEMFD, guestMemfd: id };
    expect(set(vm, { ...FAR, ...memfd })).toBe("EFAULT");
    expect(set(vm, memfd)).toBe("EINVAL");
  });
});

describe("create", () => {
  it("accepts the highest slot, address and size that are allowed", () => {
    const vm = new Inline();
    expect(set(vm, { slot: 32766 })).toBeNull();
    expect(set(vm, { slot: 0, guestPhysAddr: 2n ** 40n - 16n * PAGE })).toBeNull();
    expect(
      set(vm, { slot: 1, guestPhysAddr: 0n, userspaceAddr: 2n ** 48n - 16n * PAGE }),
    ).toBeNull();
    expect(vm.call("listMemslots", {}).map(({ slot }) => slot)).toEqual([1, 32766, 0]);
  });

  it("accepts 2^31-1 pages in a 48-bit VM", () => {
    const vm = new Inline({ type: 48n });
    const memorySize = PAGE * (2n ** 31n - 1n);
    expect(set(vm, { memorySize, guestPhysAddr: 0n, userspaceAddr: 0n })).toBeNull();
    expect(vm.call("listMemslots", {})[0]!.npages).toBe(2 ** 31 - 1);
  });

  it.each([32n, 36n, 48n])("ends at the VM's own IPA size, %d bits", (type) => {
    const vm = new Inline({ type });
    const end = 2n ** type;
    expect(set(vm, { guestPhysAddr: end - 15n * PAGE })).toBe("EFAULT");
    expect(set(vm, { guestPhysAddr: end - 16n * PAGE })).toBeNull();
  });

  it("accepts holes, neighbours and shared memory", () => {
    const vm = new Inline();
    expect(set(vm, { slot: 1 })).toBeNull();
    expect(set(vm, { slot: 2, guestPhysAddr: REGION.guestPhysAddr + 16n * PAGE })).toBeNull();
    expect(set(vm, { slot: 3, guestPhysAddr: REGION.guestPhysAddr - 16n * PAGE })).toBeNull();
  });

  it("tells a new slot from a known one", () => {
    const vm = new Inline();
    const first = vm.call("setUserMemoryRegion", REGION);
    expect(first).toMatchObject({ created: true, slot: { slot: 5, npages: 16 } });
    expect(vm.call("setUserMemoryRegion", REGION)).toEqual({ ...first, created: false });
  });

  it.each([16384, 65536] as const)("counts in pages of %d bytes", (pageSize) => {
    const vm = new Inline({ pageSize });
    expect(set(vm, { memorySize: PAGE })).toBe("EINVAL");
    expect(set(vm, { memorySize: BigInt(pageSize), guestPhysAddr: 0x8000_1000n })).toBe("EINVAL");
    expect(set(vm, { memorySize: BigInt(pageSize) })).toBeNull();
  });
});

describe("delete", () => {
  it("looks at slot, flags and alignment only", () => {
    const vm = setUp();
    expect(set(vm, { slot: 1, memorySize: 0n, guestPhysAddr: 0n, userspaceAddr: 0n })).toBeNull();
    expect(set(vm, { slot: 2, memorySize: 0n, flags: LOG })).toBeNull();
    expect(vm.call("listMemslots", {})).toEqual([]);
    expect(set(vm, { slot: 1, memorySize: 0n })).toBe("EINVAL");
  });

  it("drops the log, keeps the memory, and gives back bitmap and tables", () => {
    const vm = new Inline();
    vm.vcpu();
    const baseline = vm.kvm.vm.host.frames.used;
    const { object } = vm.slot(1, 1024, { flags: LOG });
    vm.store(0, [BASE + 8], 77n);
    expect(vm.leaf(BASE)).toMatchObject({ level: 3, state: "writable-unmanaged" });
    vm.deleteSlot(1);
    expect(vm.leaf(BASE)).toBeNull();
    expect(vm.refused("harvestDirtyLog", { slot: 1, key: "k", after: null })).toBe("ENOENT");
    const bytes = vm.call("readMemoryObject", { id: object.id, offset: 8n, length: 1 });
    expect(bytes[0]).toBe(77);
    expect(vm.kvm.vm.host.frames.used).toBe(baseline + 1024);
    vm.call("deleteMemoryObject", { id: object.id });
    expect(vm.kvm.vm.host.frames.used).toBe(baseline);
    expect(vm.budget.usedBytes()).toBe(0);
  });

  it("leaves a hole: a load exits as MMIO", () => {
    const vm = setUp();
    vm.deleteSlot(1);
    const exit = vm.store(0, [BASE + 16], 0x55n);
    expect(exit.mmio).toEqual({
      physAddr: BigInt(BASE + 16),
      data: Uint8Array.of(0x55, 0, 0, 0, 0, 0, 0, 0),
      len: 8,
      isWrite: true,
    });
  });
});

describe("move", () => {
  it("takes memory and log along, and logs again at the new place", () => {
    const vm = setUp();
    const own = vm.call("listMemslots", {})[0]!;
    const moved = { ...own, guestPhysAddr: 0x9000_0000n };
    expect(vm.call("setUserMemoryRegion", moved)).toEqual({ created: false, slot: moved });
    expect(vm.leaf(BASE)).toBeNull();
    vm.store(0, [0x9000_3000], 9n);
    expect(vm.dirty(1)).toEqual([0, 1, 3]);
    expect(vm.load(0, [0x9000_0000])).toEqual([1n]);
    expect(vm.store(0, [BASE]).exitReason).toBe("KVM_EXIT_MMIO");
  });

  it("may overlap its own old range, but no other slot", () => {
    const vm = setUp();
    const own = vm.call("listMemslots", {})[0]!;
    const at = (gpa: number) => ({ ...own, guestPhysAddr: BigInt(gpa) });
    expect(vm.refused("setUserMemoryRegion", at(BASE + 4096))).toBe("EEXIST");
    expect(vm.refused("setUserMemoryRegion", at(BASE - 4096))).toBeNull();
    expect(vm.load(0, [BASE - 4096])).toEqual([1n]);
    expect(vm.refused("setUserMemoryRegion", at(2 ** 40))).toBe("EFAULT");
    expect(vm.dirty(1)).toEqual([0, 1]);
  });

  it("changes the log in the same call", () => {
    const vm = setUp();
    const own = vm.call("listMemslots", {})[0]!;
    vm.call("setUserMemoryRegion", { ...own, guestPhysAddr: 0x9000_0000n, flags: 0 });
    expect(vm.refused("getDirtyLog", { slot: 1 })).toBe("ENOENT");
    vm.call("setUserMemoryRegion", { ...own, guestPhysAddr: 0xa000_0000n, flags: LOG });
    vm.store(0, [0xa000_0000 + 5 * 4096]);
    expect(vm.dirty(1)).toEqual([5]);
  });
});

describe("flags", () => {
  it("switching the log on forgets what was stored before, off forgets what was logged", () => {
    const vm = new Inline();
    vm.vcpu();
    const { slot } = vm.slot(1, 16);
    vm.store(0, [BASE, BASE + 4096]);
    vm.setFlags(slot, LOG);
    expect(vm.dirty(1)).toEqual([]);
    vm.store(0, [BASE + 4096]);
    vm.setFlags(slot, LOG);
    expect(vm.dirty(1)).toEqual([1]);
    vm.store(0, [BASE]);
    vm.setFlags(slot, 0);
    vm.setFlags(slot, LOG);
    expect(vm.dirty(1)).toEqual([]);
    vm.store(0, [BASE]);
    expect(vm.dirty(1)).toEqual([0]);
  });

  it("gives the bitmap back when the log is switched off", () => {
    const vm = new Inline();
    const { slot } = vm.slot(1, 64 * 1024, { backing: "unbacked" });
    const before = vm.budget.usedBytes();
    vm.setFlags(slot, LOG);
    expect(vm.budget.usedBytes() - before).toBe(4 * 4096);
    vm.setFlags(slot, 0);
    expect(vm.budget.usedBytes()).toBe(before);
  });

  it("READONLY: loads work, stores exit and change and dirty nothing", () => {
    const vm = new Inline();
    vm.vcpu();
    const { object } = vm.slot(1, 16, { flags: READONLY | LOG });
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    vm.call("writeMemoryObject", { id: object.id, offset: 0n, bytes });
    expect(vm.load(0, [BASE])).toEqual([0x0807_0605_0403_0201n]);
    expect(vm.store(0, [BASE]).mmio).toMatchObject({ physAddr: BigInt(BASE), isWrite: true });
    expect(vm.load(0, [BASE])).toEqual([0x0807_0605_0403_0201n]);
    expect(vm.dirty(1)).toEqual([]);
    expect(vm.leaf(BASE)).toMatchObject({ state: "read-only", dbm: false });
  });

  it("userspace's own writes are never logged", () => {
    const vm = setUp();
    vm.dirty(1);
    vm.call("writePhysicalMemory", { gpa: BigInt(BASE + 100), bytes: Uint8Array.of(1, 2) });
    const [object] = vm.call("listMemoryObjects", {});
    vm.call("writeMemoryObject", { id: object!.id, offset: 4096n, bytes: Uint8Array.of(3) });
    expect(vm.dirty(1)).toEqual([]);
  });
});

it("a dead VM answers EIO to everything that KVM would", () => {
  const vm = setUp();
  vm.kvm.vm.dead = true;
  expect(set(vm, {})).toBe("EIO");
  expect(set(vm, { slot: 32767 })).toBe("EIO");
  expect(vm.refused("createVcpu", { id: 1 })).toBe("EIO");
  expect(vm.refused("getDirtyLog", { slot: 1 })).toBe("EIO");
  expect(vm.refused("checkExtension", { cap: 3 })).toBe("EIO");
  expect(vm.refused("enableCap", { cap: 9999, flags: 1, args: [] })).toBe("EIO");
  expect(vm.refused("run", { vcpu: 0, immediateExit: false, mmioData: null })).toBe("EIO");
  expect(vm.refused("getMpState", { vcpu: 0 })).toBe("EIO");
  // Looking at it is the service's own business.
  expect(vm.call("describe", {}).dead).toBe(true);
  expect(vm.refused("digest", {})).toBeNull();
  expect(vm.refused("readPhysicalMemory", { gpa: BigInt(BASE), length: 1 })).toBeNull();
});

it("keeps 32767 slots apart and finds each by its address", () => {
  const vm = new Inline({ type: 48n });
  const size = 2 * MIB;
  for (let id = 0; id < 300; id++) {
    // In an order that is neither up nor down.
    const slot = (id * 7919) % 32767;
    vm.region(slot, slot * size, size, 0);
  }
  const slots = vm.call("listMemslots", {});
  expect(slots.length).toBe(300);
  for (const view of slots) {
    const gfn = Number(view.guestPhysAddr) / 4096;
    expect(vm.kvm.vm.slots.find(gfn)?.id).toBe(view.slot);
    expect(vm.kvm.vm.slots.find(gfn + 511)?.id).toBe(view.slot);
  }
});
