// Goal: counter offset, timer PPIs and stolen time are as KVM has them.
// Method: device attributes through commands; guests that read what they were given.
import { describe, expect, it } from "vitest";
import { createDevice } from "../../../src/kvm/device.js";
import * as a64 from "../../support/a64.js";
import { Guest, OFF, X } from "../../support/guest.js";
import { BASE, Inline } from "../../support/inline.js";

const TIMER_CNT = 0x6030_0000_0013_df1an;
const PTIMER_CNT = 0x6030_0000_0013_df01n;
const [TIMER, PVTIME] = [1, 2];
const K4 = 4096;
const U64_MAX = 2n ** 64n - 1n;
const u64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);
const s32 = (value: number) => new Uint8Array(Int32Array.of(value).buffer);

const set = (vm: Inline, group: number, attr: number, value: Uint8Array, vcpu = 0) =>
  vm.refused("setVcpuAttr", { vcpu, group, attr: BigInt(attr), value });
const read = (vm: Inline, group: number, attr: number, vcpu = 0) =>
  vm.call("getVcpuAttr", { vcpu, group, attr: BigInt(attr) });

describe("the counter offset", () => {
  const counters = [a64.mrs(1, "CNTVCT_EL0"), a64.mrs(2, "CNTPCT_EL0"), ...a64.powerOff()];

  it.each([0n, 180_000n, U64_MAX - 179_999n])("%d is behind both counters", (offset) => {
    const vm = new Guest();
    // Before there are vCPUs, and it holds for those that come.
    vm.call("setCounterOffset", { offset, reserved: 0n });
    vm.boot(0, counters);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(1))).toBe(BigInt.asUintN(64, -offset));
    expect(vm.get(X(2))).toBe(BigInt.asUintN(64, 1n - offset));
  });

  it("makes writes to the counters' registers vain, and can be set again", () => {
    const vm = new Guest();
    vm.boot(0, counters);
    vm.set(TIMER_CNT, 77n);
    expect(vm.get(TIMER_CNT)).toBe(77n);
    vm.call("setCounterOffset", { offset: U64_MAX - 99n, reserved: 0n });
    for (const reg of [TIMER_CNT, PTIMER_CNT]) {
      vm.set(reg, 77n);
      expect(vm.get(reg)).toBe(100n);
    }
    vm.call("setCounterOffset", { offset: 0n, reserved: 0n });
    expect([vm.get(TIMER_CNT), vm.get(PTIMER_CNT)]).toEqual([0n, 0n]);
  });

  it("is EBUSY while a vCPU runs", () => {
    const vm = new Guest();
    vm.boot(0, [a64.b(0)]);
    const run = vm.beginRun();
    vm.pump(2);
    expect(vm.refused("setCounterOffset", { offset: 0n, reserved: 0n })).toBe("EBUSY");
    vm.call("kick", { vcpu: 0 });
    vm.finish(run);
    expect(vm.refused("setCounterOffset", { offset: 0n, reserved: 0n })).toBeNull();
  });
});

describe("timer PPIs", () => {
  it("have their defaults, and no controller to change them for", () => {
    const vm = new Inline();
    vm.vcpu();
    const ppis = [0, 1, 2, 3].map((attr) => read(vm, TIMER, attr));
    expect(ppis).toEqual([27, 30, 28, 26].map(s32));
    expect(set(vm, TIMER, 0, s32(20))).toBe("EINVAL");
  });

  it("with a controller are VM-wide, PPIs, and fixed once the timers are used", () => {
    const vm = new Guest();
    vm.boot(0, a64.powerOff());
    vm.vcpu(1);
    const number = createDevice(vm.kvm.vm, 7, 0);
    const device = vm.kvm.vm.devices[number ?? -1];
    device?.set(0, 2n, u64(0x800_0000n));
    device?.set(0, 3n, u64(0x80a_0000n));
    device?.set(4, 0n, new Uint8Array());
    for (const bad of [15, 32, -1]) expect(set(vm, TIMER, 1, s32(bad))).toBe("EINVAL");
    expect(set(vm, TIMER, 1, new Uint8Array(0))).toBe("EFAULT");
    expect(set(vm, TIMER, 4, s32(20))).toBe("ENXIO");
    expect(set(vm, TIMER, 1, s32(20))).toBeNull();
    expect(read(vm, TIMER, 1, 1)).toEqual(s32(20));
    vm.run();
    expect(set(vm, TIMER, 1, s32(21), 1)).toBe("EBUSY");
    expect(read(vm, TIMER, 1)).toEqual(s32(20));
  });
});

describe("stolen time", () => {
  const RECORD = BASE + 9 * K4 + 128;
  const call = (id: bigint, arg = 0n) => [...a64.mov(0, id), ...a64.mov(1, arg), a64.HVC];
  const FEATURES = 0xc500_0020n;
  const ST = 0xc500_0021n;
  const record = (vm: Inline, at = RECORD) => {
    const bytes = vm.call("readPhysicalMemory", { gpa: BigInt(at), length: 64 });
    return [...new BigUint64Array(bytes.slice().buffer)];
  };
  /** Asks for the record, then spins. */
  const asking = [
    ...call(FEATURES, FEATURES),
    a64.add(20, 0, 0),
    ...call(FEATURES, ST),
    a64.add(21, 0, 0),
    ...call(ST),
    a64.add(22, 0, 0),
    a64.b(0),
  ];

  it("has a place that is set once, aligned, in a writable slot", () => {
    const vm = new Guest();
    vm.slot(1, 4, { gpa: 0x9000_0000, flags: 2 });
    vm.vcpu();
    expect(read(vm, PVTIME, 0)).toEqual(u64(U64_MAX));
    expect(set(vm, PVTIME, 0, u64(BigInt(RECORD + 32)))).toBe("EINVAL");
    expect(set(vm, PVTIME, 0, u64(0x8000_0000n))).toBe("EINVAL");
    expect(set(vm, PVTIME, 0, u64(0x9000_0000n))).toBe("EINVAL");
    expect(set(vm, PVTIME, 0, u64(2n ** 63n))).toBe("EINVAL");
    expect(set(vm, PVTIME, 0, u64(BigInt(RECORD)))).toBeNull();
    expect(set(vm, PVTIME, 0, u64(BigInt(RECORD)))).toBe("EEXIST");
    expect(read(vm, PVTIME, 0)).toEqual(u64(BigInt(RECORD)));
    expect(vm.call("checkExtension", { cap: 187 })).toBe(1);
  });

  it("is what a vCPU waited for its host CPU, written and marked dirty", () => {
    const vm = new Guest({ hostCpus: 1 });
    vm.setFlags(vm.call("listMemslots", {})[0]!, 1);
    vm.boot(0, asking);
    vm.boot(1, asking, BASE + K4);
    vm.put(RECORD, [1, 2, 3, 4, 5, 6]);
    expect(set(vm, PVTIME, 0, u64(BigInt(RECORD)))).toBeNull();
    const runs = [vm.beginRun(0), vm.beginRun(1)];
    vm.pump(300);
    vm.dirty(0);
    const before = record(vm);
    vm.pump(300);
    const after = record(vm);
    for (const vcpu of [0, 1]) vm.call("kick", { vcpu });
    for (const run of runs) vm.finish(run);
    expect([vm.get(X(20)), vm.get(X(21)), vm.get(X(22))]).toEqual([0n, 0n, BigInt(RECORD)]);
    // The other one has no record.
    expect([20, 21, 22].map((n) => vm.get(X(n), 1))).toEqual([U64_MAX, U64_MAX, U64_MAX]);
    expect([before[0], ...before.slice(2)]).toEqual([0n, 0n, 0n, 0n, 0n, 0n, 0n]);
    // Half of the time the other one had the CPU.
    const total = BigInt(vm.call("describe", {}).virtualNs);
    expect(after[1]).toBeGreaterThan(before[1]!);
    expect(after[1]).toBeGreaterThan(total / 3n);
    expect(after[1]).toBeLessThan((2n * total) / 3n);
    expect(vm.dirty(0)).toContain(9);
  });

  it("with a CPU of its own is nothing", () => {
    const vm = new Guest();
    vm.boot(0, asking);
    vm.boot(1, asking, BASE + K4);
    set(vm, PVTIME, 0, u64(BigInt(RECORD)));
    const runs = [vm.beginRun(0), vm.beginRun(1)];
    vm.pump(300);
    expect(record(vm)).toEqual(new Array(8).fill(0n));
    for (const vcpu of [0, 1]) vm.call("kick", { vcpu });
    for (const run of runs) vm.finish(run);
  });

  it("is not there for a VM whose firmware hides it", () => {
    const vm = new Guest();
    vm.boot(0, [...asking.slice(0, -1), ...a64.powerOff()]);
    set(vm, PVTIME, 0, u64(BigInt(RECORD)));
    vm.set(0x6030_0000_0016_0001n, 0n);
    expect(vm.run()).toMatchObject(OFF);
    expect([20, 21, 22].map((n) => vm.get(X(n)))).toEqual([U64_MAX, U64_MAX, U64_MAX]);
  });
});
