// Goal: guest_memfd files are created, bound, punched and closed by KVM's rules.
// Method: the checks of the kernel's guest_memfd_test that a service can make, then faults.
import { describe, expect, it } from "vitest";
import { BASE, Inline } from "../../support/inline.js";

const K4 = 4096;
const PAGE = 4096n;
const MEMFD = 4;
const MMAP = 1n;
const KEEP = 1;
const PUNCH = 3;

function setUp(pages = 16) {
  const vm = new Inline();
  const { id } = vm.call("createGuestMemfd", { size: BigInt(pages) * PAGE, flags: MMAP });
  vm.vcpu();
  const bind = (slot: number, gpa: number, count: number, offset = 0n, memfd = id) =>
    vm.refused("setUserMemoryRegion2", {
      slot,
      flags: MEMFD,
      guestPhysAddr: BigInt(gpa),
      memorySize: BigInt(count) * PAGE,
      userspaceAddr: 0x7000_0000n,
      guestMemfd: memfd,
      guestMemfdOffset: offset,
    });
  const fallocate = (mode: number, offset: number, length: number) =>
    vm.refused("fallocateGuestMemfd", {
      id,
      mode,
      offset: BigInt(offset),
      length: BigInt(length),
    });
  const allocated = () => vm.call("listGuestMemfds", {})[0]?.allocatedPages;
  return { vm, id, bind, fallocate, allocated };
}

describe("create", () => {
  it.each([
    [0n, 1n],
    [PAGE - 1n, 1n],
    [PAGE + 1n, 1n],
    [2n ** 63n, 1n],
    [2n ** 64n - 1n, 1n],
    [2n ** 64n - PAGE, 1n],
    [PAGE, 4n],
    [PAGE, 2n ** 63n],
    [PAGE, 2n ** 64n - 1n],
  ])("refuses size %d with flags %d", (size, flags) => {
    const vm = new Inline();
    expect(vm.refused("createGuestMemfd", { size, flags })).toBe("EINVAL");
    expect(vm.call("listGuestMemfds", {})).toEqual([]);
  });

  it.each([0n, 1n, 2n, 3n])("accepts flags %d; two files are two", (flags) => {
    const vm = new Inline();
    const one = vm.call("createGuestMemfd", { size: PAGE, flags });
    const two = vm.call("createGuestMemfd", { size: 2n * PAGE, flags });
    expect(one).toMatchObject({ size: PAGE, flags, allocatedPages: 0 });
    expect(two.id).not.toBe(one.id);
    expect(vm.call("listGuestMemfds", {})).toEqual([one, two]);
    expect(vm.budget.usedBytes()).toBe(0);
  });
});

describe("bind", () => {
  it.each([
    ["no such file", 16, 0n, 77, "EBADF"],
    ["a descriptor of -1", 16, 0n, -1, "EBADF"],
    ["offset inside a page", 16, 100n, 1, "EINVAL"],
    ["more than the file", 17, 0n, 1, "EINVAL"],
    ["end beyond the file", 16, PAGE, 1, "EINVAL"],
    ["offset beyond the file", 16, 64n * PAGE, 1, "EINVAL"],
  ] as const)("%s", (_rule, count, offset, memfd, errno) => {
    const { vm, bind } = setUp();
    expect(bind(0, BASE, count, offset, memfd)).toBe(errno);
    expect(vm.call("listMemslots", {})).toEqual([]);
  });

  it("of a range that another slot has is EINVAL; the rest of the file is free", () => {
    const { vm, bind } = setUp();
    expect(bind(0, BASE, 8, 4n * PAGE)).toBeNull();
    for (const [count, offset] of [
      [16, 0n],
      [5, 0n],
      [1, 11n],
      [8, 4n],
    ] as const) {
      expect(bind(1, 0x9000_0000, count, offset * PAGE)).toBe("EINVAL");
    }
    expect(bind(1, 0x9000_0000, 4)).toBeNull();
    expect(bind(2, 0xa000_0000, 4, 12n * PAGE)).toBeNull();
    expect(vm.call("listMemslots", {}).map((s) => [s.guestMemfdId, s.guestMemfdOffset])).toEqual([
      [1, 4n * PAGE],
      [1, 0n],
      [1, 12n * PAGE],
    ]);
    vm.deleteSlot(0);
    expect(bind(0, BASE, 1, 11n * PAGE)).toBeNull();
  });

  it("is for good: no move, no flag, no second binding", () => {
    const { bind } = setUp();
    expect(bind(0, BASE, 4)).toBeNull();
    expect(bind(0, BASE, 4)).toBe("EINVAL");
    expect(bind(0, 0x9000_0000, 4)).toBe("EINVAL");
  });

  it("a file without MMAP cannot back a slot on arm64", () => {
    const { vm, bind } = setUp();
    const { id } = vm.call("createGuestMemfd", { size: 16n * PAGE, flags: 2n });
    expect(bind(0, BASE, 4, 0n, id)).toBe("EINVAL");
  });
});

describe("fallocate", () => {
  it.each([
    ["mode 0", 0, 0, K4, "EOPNOTSUPP"],
    ["PUNCH_HOLE without KEEP_SIZE", 2, 0, K4, "EOPNOTSUPP"],
    ["a mode that is not there", 9, 0, K4, "EOPNOTSUPP"],
    ["mode before alignment", 0, 1, 1, "EOPNOTSUPP"],
    ["allocate nothing", KEEP, 0, 0, "EINVAL"],
    ["punch nothing", PUNCH, 0, 0, "EINVAL"],
    ["allocate at the end", KEEP, 16 * K4, K4, "EINVAL"],
    ["allocate after the end", KEEP, 17 * K4, K4, "EINVAL"],
    ["allocate across the end", KEEP, 15 * K4, 2 * K4, "EINVAL"],
    ["punch offset inside a page", PUNCH, K4 - 1, K4, "EINVAL"],
    ["punch one byte", PUNCH, 0, 1, "EINVAL"],
    ["punch part of a page", PUNCH, K4, K4 - 1, "EINVAL"],
    ["allocate part of a page", KEEP, 0, K4 + 1, "EINVAL"],
    // Nothing is there to punch, and that is not an error.
    ["punch at the end", PUNCH, 16 * K4, K4, null],
    ["punch after the end", PUNCH, 17 * K4, K4, null],
    ["punch across the end", PUNCH, 15 * K4, 8 * K4, null],
    ["punch a hole", PUNCH, K4, K4, null],
    ["allocate all", KEEP, 0, 16 * K4, null],
  ] as const)("%s", (_rule, mode, offset, length, errno) => {
    const { fallocate, allocated } = setUp();
    expect(fallocate(KEEP, 15 * K4, K4)).toBeNull();
    expect(fallocate(mode, offset, length)).toBe(errno);
    const punchesLast = mode === PUNCH && offset === 15 * K4;
    const all = mode === KEEP && errno === null;
    expect(allocated()).toBe(all ? 16 : punchesLast ? 0 : 1);
  });

  it("charges pages once, and punching gives them back", () => {
    const { vm, fallocate, allocated } = setUp();
    fallocate(KEEP, 0, 16 * K4);
    fallocate(KEEP, 0, 16 * K4);
    expect(vm.budget.usedBytes()).toBe(16 * K4);
    fallocate(PUNCH, K4, 14 * K4);
    expect([allocated(), vm.budget.usedBytes()]).toEqual([2, 2 * K4]);
  });

  it("keeps what it could get when memory runs out", () => {
    const vm = new Inline({ budgetBytes: 3 * K4 });
    const { id } = vm.call("createGuestMemfd", { size: 16n * PAGE, flags: MMAP });
    const args = { id, mode: KEEP, offset: 0n, length: 16n * PAGE };
    expect(vm.refused("fallocateGuestMemfd", args)).toBe("ENOMEM");
    vm.call("closeGuestMemfd", { id });
    expect(vm.budget.usedBytes()).toBe(0);
  });
});

describe("faults", () => {
  it("bring pages in, zeroed, one by one", () => {
    const { vm, bind, allocated } = setUp();
    bind(0, BASE, 16);
    vm.store(0, [BASE + 8], 5n);
    expect(vm.load(0, [BASE, BASE + 8, BASE + 4 * K4])).toEqual([0n, 5n, 0n]);
    expect(allocated()).toBe(2);
    expect(vm.leaf(BASE)).toMatchObject({ level: 3 });
  });

  it("after a punched hole find a fresh page, even with a copy in the TLB", () => {
    const { vm, bind, fallocate } = setUp();
    bind(0, BASE, 8, 4n * PAGE);
    vm.store(0, [BASE, BASE + K4], 5n);
    expect(fallocate(PUNCH, 4 * K4, K4)).toBeNull();
    expect(vm.leaf(BASE)).toBeNull();
    expect(vm.load(0, [BASE, BASE + K4])).toEqual([0n, 5n]);
  });

  it("survive the slot: a new slot over the range finds the content", () => {
    const { vm, bind } = setUp();
    bind(0, BASE, 16);
    vm.store(0, [BASE + 3 * K4], 6n);
    vm.deleteSlot(0);
    bind(1, 0x9000_0000, 4, 3n * PAGE);
    expect(vm.load(0, [0x9000_0000])).toEqual([6n]);
  });

  it("after close end the run with MEMORY_FAULT and EFAULT, and pages are back", () => {
    const { vm, id, bind } = setUp();
    bind(0, BASE, 16);
    vm.store(0, [BASE, BASE + K4]);
    vm.call("closeGuestMemfd", { id });
    expect(vm.kvm.vm.account.chargedBytes).toBe(0);
    expect(vm.store(0, [BASE + K4 + 12])).toMatchObject({
      errno: "EFAULT",
      exitReason: "KVM_EXIT_MEMORY_FAULT",
      memoryFault: { flags: 0n, gpa: BigInt(BASE + K4), size: PAGE },
      retired: 0,
    });
    expect(vm.call("describeVcpu", { vcpu: 0 }).lastExit).toBe("KVM_EXIT_MEMORY_FAULT");
    expect(vm.refused("closeGuestMemfd", { id })).toBe("guest-memfd-not-found");
    expect(bind(1, 0x9000_0000, 1)).toBe("EBADF");
    expect(vm.call("listGuestMemfds", {})).toEqual([]);
    vm.deleteSlot(0);
  });

  it("without memory for the page end with ENOMEM, and the VM goes on", () => {
    const vm = new Inline({ budgetBytes: 4 * K4 });
    const { id } = vm.call("createGuestMemfd", { size: 64n * PAGE, flags: MMAP });
    vm.vcpu();
    vm.call("setUserMemoryRegion2", {
      slot: 0,
      flags: MEMFD,
      guestPhysAddr: BigInt(BASE),
      memorySize: 64n * PAGE,
      userspaceAddr: 0n,
      guestMemfd: id,
      guestMemfdOffset: 0n,
    });
    const result = vm.store(
      0,
      [0, 1, 2, 3].map((page) => BASE + page * K4),
    );
    expect(result).toMatchObject({ errno: "ENOMEM", exitReason: "KVM_EXIT_MEMORY_FAULT" });
    const args = { id, mode: PUNCH, offset: 0n, length: 2n * PAGE };
    vm.call("fallocateGuestMemfd", args);
    expect(vm.run().exitReason).toBe("KVM_EXIT_HLT");
  });

  it("is not reachable as memory of its own", () => {
    const { vm, bind } = setUp();
    bind(0, BASE, 16);
    const range = { gpa: BigInt(BASE), length: 8 };
    expect(vm.refused("readPhysicalMemory", range)).toBe("gpa-not-mapped");
  });
});
