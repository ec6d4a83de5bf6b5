// Goal: stores that no memory takes reach coalesced zones, ioeventfds or userspace by KVM's rules.
// Method: one rule per test; eventfd counters are real, the guest is a list of stores.
import { describe, expect, it } from "vitest";
import { BASE, Inline } from "../../support/inline.js";

const MMIO = 0x900_0000;
const DATAMATCH = 1;
const PIO = 2;
const DEASSIGN = 4;
const MAX = 2n ** 64n - 1n;

function setUp(pageSize: 4096 | 16384 | 65536 = 4096) {
  const vm = new Inline({ pageSize });
  vm.vcpu();
  const fd = vm.eventfds.create(0n);
  const io = (change: Partial<Parameters<typeof full>[1]> = {}) => full(vm, { fd, ...change });
  return { vm, fd, io, count: () => vm.eventfds.peek(fd) };
}

function full(
  vm: Inline,
  args: {
    fd: number;
    addr?: bigint;
    len?: number;
    flags?: number;
    datamatch?: bigint;
    is?: boolean;
  },
): string | null {
  const { fd, addr = BigInt(MMIO), len = 4, flags = 0, datamatch = 0n, is = true } = args;
  const ref = { index: fd, isEventfd: is };
  return vm.refused("ioeventfd", { datamatch, addr, len, fd: ref, flags });
}

describe("ioeventfd", () => {
  it.each([
    [{ len: 3 }, "EINVAL"],
    [{ len: 16 }, "EINVAL"],
    [{ len: 2 ** 32 - 1 }, "EINVAL"],
    [{ addr: MAX, len: 1 }, "EINVAL"],
    [{ addr: MAX - 2n, len: 4 }, "EINVAL"],
    [{ flags: 0x20 }, "EINVAL"],
    [{ flags: 0x8000_0000 }, "EINVAL"],
    [{ len: 0, flags: DATAMATCH }, "EINVAL"],
    [{ len: 3, fd: -1 }, "EINVAL"],
    [{ fd: -1 }, "EBADF"],
    [{ fd: 12345 }, "EBADF"],
    [{ is: false }, "EINVAL"],
    [{ addr: MAX, len: 0 }, null],
    [{ addr: MAX - 8n, len: 8 }, null],
    [{ flags: 0x10 }, null],
    [{ len: 0 }, null],
    [{ len: 0, flags: PIO }, null],
    [{ flags: PIO | DATAMATCH }, null],
  ])("assigning %o: %s", (change, errno) => {
    const { vm, fd, io } = setUp();
    expect(io(change)).toBe(errno);
    // A refused assignment holds no reference: the counter goes with its descriptor.
    vm.eventfds.close(fd);
    expect(vm.eventfds.live()).toBe(errno === null ? 1 : 0);
    vm.instance.close();
    expect(vm.eventfds.live()).toBe(0);
  });

  it.each([
    ["equal", {}, {}, "EEXIST"],
    ["one of length 0", { len: 0 }, {}, "EEXIST"],
    ["the other of length 0", {}, { len: 0 }, "EEXIST"],
    ["wildcard and value", {}, { flags: DATAMATCH, datamatch: 5n }, "EEXIST"],
    [
      "equal values",
      { flags: DATAMATCH, datamatch: 5n },
      { flags: DATAMATCH, datamatch: 5n },
      "EEXIST",
    ],
    ["two values", { flags: DATAMATCH, datamatch: 5n }, { flags: DATAMATCH, datamatch: 6n }, null],
    ["two lengths", {}, { len: 8 }, null],
    ["two addresses", {}, { addr: BigInt(MMIO) + 4n }, null],
    ["two buses", {}, { flags: PIO }, null],
  ] as const)("another one there: %s", (_name, first, second, errno) => {
    const { vm, io } = setUp();
    expect(io(first)).toBeNull();
    expect(io({ ...second, fd: vm.eventfds.create(0n) })).toBe(errno);
  });

  it("takes stores of its length, address and value, and signals once each", () => {
    const { vm, io, count } = setUp();
    io({ flags: DATAMATCH, datamatch: 7n });
    const exits = (value: bigint, length: number, at = MMIO) =>
      vm.store(0, [at], value, length).exitReason === "KVM_EXIT_MMIO";
    expect(exits(7n, 4)).toBe(false);
    expect(count()).toBe(1n);
    expect([exits(8n, 4), exits(7n, 8), exits(7n, 4, MMIO + 4)]).toEqual([true, true, true]);
    vm.store(0, [MMIO, MMIO, MMIO], 7n, 4);
    expect(count()).toBe(4n);
    expect(vm.counter("mmioExitKernel")).toBe(4);
    expect(vm.counter("mmioExitUser")).toBe(3);
  });

  it("compares 64 bits: a value wider than the store never comes", () => {
    const { vm, io, count } = setUp();
    io({ len: 1, flags: DATAMATCH, datamatch: 0x101n });
    expect(vm.store(0, [MMIO], 0x101n, 1).exitReason).toBe("KVM_EXIT_MMIO");
    expect(count()).toBe(0n);
  });

  it("of length 0 takes any length; loads never match", () => {
    const { vm, io, count } = setUp();
    io({ len: 0 });
    for (const length of [1, 2, 3, 4, 8]) vm.store(0, [MMIO], 1n, length);
    expect(count()).toBe(5n);
    vm.list(0, [{ op: "read", address: BigInt(MMIO), length: 4 }]);
    expect(vm.run().mmio).toMatchObject({ isWrite: false, len: 4 });
  });

  it("is hidden by memory, but not by a READONLY slot", () => {
    const { vm, io, count } = setUp();
    io({ addr: BigInt(BASE) });
    vm.slot(0, 4, { flags: 2 });
    vm.store(0, [BASE], 1n, 4);
    expect(count()).toBe(1n);
    vm.deleteSlot(0);
    vm.slot(0, 4);
    vm.store(0, [BASE], 1n, 4);
    expect(count()).toBe(1n);
  });

  it("on the PIO or the CCW bus sees no store", () => {
    const { vm, io } = setUp();
    expect(io({ flags: PIO })).toBeNull();
    expect(io({ flags: 8 })).toBeNull();
    expect(vm.store(0, [MMIO], 1n, 4).exitReason).toBe("KVM_EXIT_MMIO");
  });

  it("goes on after its eventfd's descriptor is closed", () => {
    const { vm, fd, io, count } = setUp();
    io();
    vm.eventfds.close(fd);
    vm.store(0, [MMIO], 1n, 4);
    expect(count()).toBe(1n);
  });

  it("is listed as it would be named to take it away, by address", () => {
    const { vm, fd, io } = setUp();
    const other = vm.eventfds.create(0n);
    io({ addr: BigInt(MMIO) + 8n, flags: DATAMATCH, datamatch: 7n });
    io({ len: 0, datamatch: 99n, fd: other });
    io({ flags: PIO });
    io({ flags: 8 | DATAMATCH, datamatch: 1n });
    const [addr, datamatch] = [BigInt(MMIO), 0n];
    const list = vm.call("listIoeventfds", {});
    expect(list).toEqual([
      { eventfd: other, index: other, addr, len: 0, datamatch, flags: 0 },
      { eventfd: fd, index: fd, addr, len: 4, datamatch, flags: PIO },
      { eventfd: fd, index: fd, addr, len: 4, datamatch: 1n, flags: 8 | DATAMATCH },
      { eventfd: fd, index: fd, addr: addr + 8n, len: 4, datamatch: 7n, flags: DATAMATCH },
    ]);
    for (const { eventfd, flags, ...rest } of list) {
      expect(io({ ...rest, fd: eventfd, flags: flags | DEASSIGN })).toBeNull();
    }
    expect(vm.call("listIoeventfds", {})).toEqual([]);
  });

  it("is taken away by naming it exactly; lengths and other flags are not checked then", () => {
    const { vm, io } = setUp();
    io({ flags: DATAMATCH, datamatch: 5n });
    const off = (change: object) => io({ flags: DEASSIGN | DATAMATCH, datamatch: 5n, ...change });
    for (const change of [
      { addr: BigInt(MMIO) + 1n },
      { len: 8 },
      { len: 3 },
      { datamatch: 6n },
      { flags: DEASSIGN },
      { flags: DEASSIGN | DATAMATCH | PIO },
      { fd: vm.eventfds.create(0n) },
    ]) {
      expect(off(change)).toBe("ENOENT");
    }
    expect(off({ fd: -1 })).toBe("EBADF");
    expect(off({ is: false })).toBe("EINVAL");
    expect(off({ flags: DEASSIGN | DATAMATCH | 0x8000_0000 })).toBeNull();
    expect(off({})).toBe("ENOENT");
    // A wildcard's value is not looked at.
    io({});
    expect(io({ flags: DEASSIGN, datamatch: 99n })).toBeNull();
  });
});

describe("coalesced zones", () => {
  const zone = (vm: Inline, addr: number, size: number, pio = 0) =>
    vm.refused("registerCoalescedZone", { addr: BigInt(addr), size, pio });
  const drop = (vm: Inline, addr: number, size: number, pio = 0) =>
    vm.refused("unregisterCoalescedZone", { addr: BigInt(addr), size, pio });
  let drained: string | null = null;
  const drain = (vm: Inline) => {
    const result = vm.call("drainCoalescedRing", { key: null, after: drained });
    drained = result.id;
    return result.entries;
  };

  it.each([
    [4096, 169],
    [16384, 681],
    [65536, 2729],
  ] as const)("with %d-byte pages queue %d stores, then exit", (pageSize, usable) => {
    drained = null;
    const { vm } = setUp(pageSize);
    zone(vm, MMIO, 16);
    const at = Array.from({ length: usable + 1 }, (_, i) => MMIO + (i % 2) * 8);
    const exit = vm.store(0, at, 0x1122n);
    expect(exit.exitReason).toBe("KVM_EXIT_MMIO");
    expect(exit.program.completed).toBe(usable);
    const entries = drain(vm);
    expect(entries.length).toBe(usable);
    expect(entries[1]).toEqual({
      physAddr: BigInt(MMIO + 8),
      len: 8,
      pio: 0,
      data: Uint8Array.of(0x22, 0x11, 0, 0, 0, 0, 0, 0),
    });
    expect(entries.map(({ physAddr }) => Number(physAddr))).toEqual(at.slice(0, usable));
    // The store that exited was userspace's; the next one is queued again.
    expect(vm.run()).toMatchObject({
      exitReason: "KVM_EXIT_HLT",
      program: { completed: usable + 1 },
    });
    expect(drain(vm)).toEqual([]);
  });

  it("take what lies wholly inside, of any length; loads exit", () => {
    drained = null;
    const { vm } = setUp();
    zone(vm, MMIO + 4, 8);
    const exits = (at: number, length: number) =>
      vm.store(0, [at], 5n, length).exitReason === "KVM_EXIT_MMIO";
    expect([exits(MMIO + 4, 8), exits(MMIO + 11, 1), exits(MMIO + 5, 3)]).toEqual([
      false,
      false,
      false,
    ]);
    expect([exits(MMIO + 3, 2), exits(MMIO + 8, 8), exits(MMIO + 12, 1)]).toEqual([
      true,
      true,
      true,
    ]);
    expect(drain(vm).map(({ len }) => len)).toEqual([8, 1, 3]);
    vm.list(0, [{ op: "read", address: BigInt(MMIO + 4), length: 4 }]);
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
  });

  it("repeat what was drained until it is acknowledged", () => {
    const { vm } = setUp();
    zone(vm, MMIO, 8);
    vm.store(0, [MMIO], 1n, 1);
    const first = vm.call("drainCoalescedRing", { key: "a", after: null });
    expect(first).toMatchObject({ id: "d1", repeated: false });
    vm.store(0, [MMIO], 2n, 1);
    expect(vm.call("drainCoalescedRing", { key: "a", after: null })).toEqual({
      ...first,
      repeated: true,
    });
    const other = { key: "b", after: null };
    expect(vm.refused("drainCoalescedRing", other)).toBe("harvest-unacknowledged");
    const next = vm.call("drainCoalescedRing", { key: "b", after: "d1" });
    expect([next.id, next.entries.length, next.entries[0]!.data[0]]).toEqual(["d2", 1, 2]);
  });

  it("refuse a bus that is none, and more than 1000 on one bus", () => {
    const { vm, io } = setUp();
    expect([zone(vm, MMIO, 8, 2), drop(vm, MMIO, 8, 2)]).toEqual(["EINVAL", "EINVAL"]);
    for (let i = 0; i < 1000; i++) vm.kvm.vm.bus.registerZone(BigInt(MMIO + i * 8), 8, 0);
    expect(zone(vm, 0, 8)).toBe("ENOSPC");
    expect(io({ addr: 0n })).toBe("ENOSPC");
    expect(zone(vm, 0, 8, 1)).toBeNull();
    expect(drop(vm, MMIO, 8)).toBeNull();
    expect(zone(vm, 0, 8)).toBeNull();
  });

  it("go when a range inside them is named, on the same bus; nothing to remove is no error", () => {
    const { vm } = setUp();
    zone(vm, MMIO, 16);
    zone(vm, MMIO, 4);
    zone(vm, MMIO + 0x100, 8, 1);
    expect(drop(vm, MMIO, 17)).toBeNull();
    expect(drop(vm, MMIO - 1, 2)).toBeNull();
    expect(drop(vm, MMIO + 0x100, 8)).toBeNull();
    expect(vm.call("listCoalescedZones", {}).length).toBe(3);
    expect(drop(vm, MMIO + 8, 8)).toBeNull();
    expect(vm.call("listCoalescedZones", {})).toEqual([
      { addr: BigInt(MMIO), size: 4, pio: 0 },
      { addr: BigInt(MMIO + 0x100), size: 8, pio: 1 },
    ]);
    expect(drop(vm, MMIO + 0x100, 8, 1)).toBeNull();
    expect(drop(vm, 0x1234, 0)).toBeNull();
  });

  it("a full queue leaves a store to an ioeventfd behind it", () => {
    const { vm, io, count } = setUp();
    zone(vm, MMIO, 8);
    io();
    const at = Array.from({ length: 171 }, () => MMIO);
    expect(vm.store(0, at, 1n, 4).exitReason).toBe("KVM_EXIT_HLT");
    expect(count()).toBe(2n);
  });
});

describe("without a vGIC", () => {
  const irqfd = (vm: Inline, fd: number, flags: number, isEventfd = true) => {
    const none = { index: -1, isEventfd: true };
    const args = { fd: { index: fd, isEventfd }, gsi: 5, flags, resamplefd: none };
    return vm.refused("irqfd", { ...args, drain: true, found: null });
  };

  it("irqfd: unknown flags, then the controller, then the descriptor", () => {
    const { vm, fd } = setUp();
    expect(irqfd(vm, fd, 4)).toBe("EINVAL");
    expect(irqfd(vm, -1, 5)).toBe("EINVAL");
    expect(irqfd(vm, fd, 0)).toBe("EAGAIN");
    expect(irqfd(vm, -1, 0)).toBe("EAGAIN");
    expect(irqfd(vm, fd, 2)).toBe("EAGAIN");
    // De-assigning finds nothing and says nothing, but it wants a real eventfd.
    expect(irqfd(vm, fd, 1)).toBeNull();
    expect(irqfd(vm, fd, 3)).toBeNull();
    expect(irqfd(vm, -1, 1)).toBe("EBADF");
    expect(irqfd(vm, fd, 1, false)).toBe("EINVAL");
    vm.eventfds.close(fd);
    expect(vm.eventfds.live()).toBe(0);
  });

  it("no MSI, and no device of an unknown type", () => {
    const { vm } = setUp();
    const msi = { addressLo: 0, addressHi: 0, data: 0, flags: 0, devid: 0 };
    expect(vm.refused("signalMsi", msi)).toBe("EINVAL");
    for (const type of [0, 1, 6, 9, 10, 11, 2 ** 32 - 1]) {
      expect(vm.refused("createDevice", { type, flags: 0 })).toBe("ENODEV");
      expect(vm.refused("createDevice", { type, flags: 1 })).toBe("ENODEV");
    }
  });
});

describe("gsi routing", () => {
  const NONE = { flags: 0, irqchip: 0, pin: 0, addressLo: 0, addressHi: 0, data: 0, devid: 0 };
  const chip = (gsi: number, pin: number, more = {}) => ({ ...NONE, gsi, type: 1, pin, ...more });
  const msi = (gsi: number, more = {}) => ({ ...NONE, gsi, type: 2, addressLo: 0x80, ...more });
  const OLD = [chip(1, 1)];

  it.each([
    ["flags", [chip(2, 2)], 1, "EINVAL"],
    ["4097 entries", Array.from({ length: 4097 }, (_, i) => chip(i % 4096, 0)), 0, "EINVAL"],
    ["gsi 4096", [chip(4096, 0)], 0, "EINVAL"],
    ["type 0", [chip(0, 0, { type: 0 })], 0, "EINVAL"],
    ["type 5", [chip(0, 0, { type: 5 })], 0, "EINVAL"],
    ["flags on a pin", [chip(0, 0, { flags: 1 })], 0, "EINVAL"],
    ["flag 2 on an MSI", [msi(0, { flags: 2 })], 0, "EINVAL"],
    ["one gsi on two pins of a chip", [chip(3, 1), chip(3, 2)], 0, "EINVAL"],
    ["one gsi on pin and MSI", [chip(3, 1), msi(3)], 0, "EINVAL"],
    ["one gsi on two MSIs", [msi(3), msi(3)], 0, "EINVAL"],
    ["irqchip 1", [chip(0, 0, { irqchip: 1 })], 0, "EINVAL"],
    ["pin 988", [chip(0, 988)], 0, "EINVAL"],
    ["a bad entry after good ones", [chip(0, 1), msi(1), chip(2, 988)], 0, "EINVAL"],
    ["nothing", [], 0, null],
    ["4096 entries", Array.from({ length: 4096 }, (_, i) => chip(i, i % 988)), 0, null],
    ["gsis sharing a pin", [chip(3, 9), chip(4, 9), chip(4095, 987)], 0, null],
    ["an MSI with devid", [msi(7, { flags: 1, devid: 12 })], 0, null],
  ] as const)("%s", (_name, entries, flags, errno) => {
    const { vm } = setUp();
    vm.call("setGsiRouting", { flags: 0, entries: OLD });
    expect(vm.refused("setGsiRouting", { flags, entries })).toBe(errno);
    expect(vm.call("getGsiRouting", {})).toEqual(errno === null ? entries : OLD);
  });
});
