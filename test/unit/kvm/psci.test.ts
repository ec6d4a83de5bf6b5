// Goal: PSCI between guest and userspace, as the kernel's selftest psci_test wants it.
// Method: two vCPUs; guests that call, and what the API shows of them.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { Guest, PC, smc, UART, X } from "../../support/guest-code.js";
import { BASE } from "../../support/inline.js";

const CPU_ON = 0xc400_0003n;
const AFFINITY_INFO = 0xc400_0004n;
const FEATURES = 0x8400_000an;
const SYSTEM_SUSPEND = 0x8400_000en;
const SYSTEM_OFF2 = 0x8400_0015n;
const IS_64 = 0x4000_0000n;
const STOPPED = 5;
const SUSPENDED = 10;
const SUSPEND_CAP = 216;
const NOT_SUPPORTED = 2n ** 64n - 1n;
const INVALID = 2n ** 64n - 2n;
const INTERNAL_FAILURE = 2n ** 64n - 6n;

/** A call with its arguments; the answer goes to Xto. */
const psci = (to: number, ...args: bigint[]): number[] => [
  ...args.flatMap((arg, n) => a64.mov(n, arg)),
  a64.HVC,
  a64.add(to, 0, 0),
];
const leave = [...a64.mov(29, UART), a64.ldrw(28, 29)];

describe("CPU_ON", () => {
  const entry = 0xfeed_f00dn;
  const context = 0xdead_c0den;

  it("resets a stopped vCPU, which is seen before it ever runs", () => {
    const vm = new Guest([
      ...psci(20, AFFINITY_INFO, 1n, 0n),
      ...psci(21, CPU_ON, 1n, entry, context),
      ...psci(22, AFFINITY_INFO, 1n, 0n),
      ...psci(23, CPU_ON, 1n, entry, context),
      ...leave,
    ]);
    vm.init(1);
    vm.call("setMpState", { vcpu: 1, mpState: STOPPED });
    vm.set(X(9), 9n, 1);
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
    expect(vm.xs(20, 21, 22, 23)).toEqual([1n, 0n, 0n, 2n ** 64n - 4n]);
    expect(vm.call("getMpState", { vcpu: 1 }).mpState).toBe(0);
    expect([vm.get(PC, 1), vm.get(X(0), 1), vm.get(X(9), 1)]).toEqual([entry, context, 0n]);
  });

  it("of a vCPU that isn't there, or by bits that are no affinity, is invalid", () => {
    const vm = new Guest([
      ...psci(20, CPU_ON, 7n, entry, context),
      ...psci(21, CPU_ON, 1n << 31n, entry, context),
      ...leave,
    ]);
    vm.run();
    expect(vm.xs(20, 21)).toEqual([INVALID, INVALID]);
  });
});

describe("SYSTEM_SUSPEND", () => {
  const words = [
    ...psci(20, FEATURES, SYSTEM_SUSPEND),
    ...psci(21, FEATURES, SYSTEM_SUSPEND | IS_64),
    ...psci(22, SYSTEM_SUSPEND | IS_64, BigInt(BASE), 0x77n),
    ...leave,
  ];

  it("exits with nothing changed, once userspace asked for it", () => {
    const vm = new Guest(words, { caps: [SUSPEND_CAP] });
    const run = vm.run();
    expect(run).toMatchObject({ exitReason: "KVM_EXIT_SYSTEM_EVENT" });
    expect(run.systemEvent).toEqual({ type: 5, data: [] });
    expect(vm.xs(0, 1, 2, 20, 21)).toEqual([SYSTEM_SUSPEND | IS_64, BigInt(BASE), 0x77n, 0n, 0n]);
    expect(vm.call("getMpState", { vcpu: 0 }).mpState).toBe(0);
    // Userspace denies it.
    vm.set(X(0), 2n ** 64n - 3n);
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
    expect(vm.get(X(22))).toBe(2n ** 64n - 3n);
  });

  it("is not supported otherwise", () => {
    const vm = new Guest(words);
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
    expect(vm.xs(20, 21, 22)).toEqual([NOT_SUPPORTED, NOT_SUPPORTED, NOT_SUPPORTED]);
  });

  it("a suspended vCPU sleeps, and each wake event exits until it is made runnable", () => {
    const vm = new Guest(leave, { caps: [SUSPEND_CAP] });
    vm.call("setMpState", { vcpu: 0, mpState: SUSPENDED });
    const run = vm.beginRun();
    vm.pump(20);
    expect(run.done).toBe(false);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run).errno).toBe("EINTR");
    const none = { serrorHasEsr: false, extDabtPending: false, serrorEsr: 0n };
    vm.call("setVcpuEvents", { vcpu: 0, serrorPending: true, ...none });
    for (let n = 0; n < 2; n++) {
      expect(vm.run().systemEvent).toEqual({ type: 4, data: [] });
      expect(vm.call("getMpState", { vcpu: 0 }).mpState).toBe(SUSPENDED);
    }
    vm.call("setMpState", { vcpu: 0, mpState: 0 });
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
  });
});

describe("SYSTEM_OFF2", () => {
  it("hibernates for types 0 and 1 with cookie 0, and tells of failure after it", () => {
    const calls = [SYSTEM_OFF2, SYSTEM_OFF2 | IS_64];
    const vm = new Guest([
      ...psci(20, 0x8400_0000n),
      ...psci(21, FEATURES, SYSTEM_OFF2),
      ...psci(22, FEATURES, SYSTEM_OFF2 | IS_64),
      ...calls.flatMap((id) => [
        ...psci(23, id, 1n, 1n),
        ...psci(24, id, 0n, 1n),
        ...psci(25, id, 2n, 0n),
        ...psci(26, id, id === SYSTEM_OFF2 ? 0n : 1n, 0n),
      ]),
      ...leave,
    ]);
    for (let n = 0; n < calls.length; n++) {
      const run = vm.run();
      expect(run.systemEvent).toEqual({ type: 1, data: [1n] });
      expect(vm.call("getMpState", { vcpu: 0 }).mpState).toBe(STOPPED);
      vm.call("setMpState", { vcpu: 0, mpState: 0 });
    }
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
    expect(vm.xs(20, 21, 22)).toEqual([0x1_0003n, 1n, 1n]);
    expect(vm.xs(23, 24, 25, 26)).toEqual([INVALID, INVALID, INVALID, INTERNAL_FAILURE]);
  });
});

describe("calls by SMC", () => {
  it("are the same calls", () => {
    const vm = new Guest([...a64.mov(0, 0x8400_0000n), smc(0), a64.add(20, 0, 0), ...leave]);
    vm.run();
    expect(vm.get(X(20))).toBe(0x1_0003n);
  });
});
