// Goal: the SMCCC filter as the kernel's selftest smccc_filter wants it: refusals, then actions.
// Method: the VM's device attribute with bytes of struct kvm_smccc_filter; guests that call.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { Guest, hvc, PC, smc, X } from "../../support/guest-code.js";
import { BASE } from "../../support/inline.js";

const HANDLE = 0;
const DENY = 1;
const FWD_TO_USER = 2;
const PSCI_VERSION = 0x8400_0000;
const OFF = { exitReason: "KVM_EXIT_SYSTEM_EVENT" };

function bytes(base: number, count: number, action: number, pad = 0): Uint8Array {
  const value = new Uint8Array(24);
  const view = new DataView(value.buffer);
  view.setUint32(0, base, true);
  view.setUint32(4, count, true);
  view.setUint8(8, action);
  view.setUint8(23, pad);
  return value;
}
const attr = (value: Uint8Array) => ({ group: 0, attr: 0n, value });
const set = (vm: Guest, base: number, count: number, action: number) =>
  vm.call("setVmAttr", attr(bytes(base, count, action)));

describe("a range is refused", () => {
  it.each([
    ["padding", bytes(PSCI_VERSION, 1, DENY, 1), "EINVAL"],
    ["no function", bytes(PSCI_VERSION, 0, DENY), "EINVAL"],
    ["no function at 0", bytes(0, 0, DENY), "EINVAL"],
    ["one that wraps around", bytes(0xffff_ffff, 0xffff_ffff, DENY), "EINVAL"],
    ["an unknown action", bytes(PSCI_VERSION, 1, 255), "EINVAL"],
    ["a workaround of the architecture", bytes(0x8000_8000, 1, DENY), "EEXIST"],
    ["the architecture's 64-bit calls", bytes(0xc000_0000, 1, FWD_TO_USER), "EEXIST"],
    ["one that reaches into them", bytes(0x7fff_ffff, 2, DENY), "EEXIST"],
    ["one that contains them", bytes(0, 0xffff_ffff, DENY), "EEXIST"],
    ["the last function of all", bytes(0xffff_ffff, 1, DENY), null],
    ["just below the architecture's", bytes(0x7fff_ffff, 1, DENY), null],
    ["just above them", bytes(0x8001_0000, 1, DENY), null],
  ])("%s", (_name, value, errno) => {
    expect(new Guest([]).refused("setVmAttr", attr(value))).toBe(errno);
  });

  it("where one is already, in part or as a whole", () => {
    const vm = new Guest([]);
    set(vm, 0xc600_0010, 16, DENY);
    for (const [base, count] of [
      [0xc600_0010, 16],
      [0xc600_000f, 2],
      [0xc600_001f, 1],
      [0xc600_0000, 0x100],
    ] as const) {
      expect(vm.refused("setVmAttr", attr(bytes(base, count, HANDLE)))).toBe("EEXIST");
    }
    set(vm, 0xc600_000f, 1, DENY);
    set(vm, 0xc600_0020, 1, DENY);
  });

  it("once a vCPU has run, but wrong ones are still wrong first", () => {
    const vm = new Guest(a64.powerOff());
    vm.run();
    const refused = (value: Uint8Array) => vm.refused("setVmAttr", attr(value));
    expect(refused(bytes(PSCI_VERSION, 1, DENY))).toBe("EBUSY");
    expect(refused(bytes(0x8000_0000, 1, DENY))).toBe("EBUSY");
    expect(refused(bytes(PSCI_VERSION, 0, DENY))).toBe("EINVAL");
    expect(refused(bytes(PSCI_VERSION, 1, 3))).toBe("EINVAL");
  });
});

describe.each([
  ["HVC", hvc(0), 0n],
  ["SMC", smc(0), 1n],
])("a call by %s", (_name, call, flags) => {
  const words = [...a64.mov(0, BigInt(PSCI_VERSION)), call, a64.add(20, 0, 0), ...a64.powerOff()];
  const behind = BigInt(BASE + 4 * words.indexOf(call) + 4);

  it("is handled where no range says otherwise, or one says so", () => {
    for (const filtered of [false, true]) {
      const vm = new Guest(words);
      if (filtered) set(vm, PSCI_VERSION, 1, HANDLE);
      expect(vm.run()).toMatchObject(OFF);
      expect(vm.get(X(20))).toBe(0x1_0003n);
    }
  });

  it("is not supported where it is denied", () => {
    const vm = new Guest(words);
    set(vm, PSCI_VERSION, 1, DENY);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(20))).toBe(2n ** 64n - 1n);
  });

  it("exits where it is forwarded, and goes on with userspace's answer", () => {
    const vm = new Guest(words);
    set(vm, PSCI_VERSION, 1, FWD_TO_USER);
    const run = vm.run();
    expect(run).toMatchObject({ errno: null, exitReason: "KVM_EXIT_HYPERCALL" });
    expect(run.hypercall).toEqual({ nr: BigInt(PSCI_VERSION), flags });
    expect([vm.get(PC), vm.get(X(0))]).toEqual([behind, BigInt(PSCI_VERSION)]);
    vm.set(X(0), 0x99n);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(20))).toBe(0x99n);
  });
});

describe("immediates", () => {
  it("of SMC are reserved; KVM doesn't look at those of HVC", () => {
    const version = a64.mov(0, BigInt(PSCI_VERSION));
    const vm = new Guest([
      ...[...version, smc(1), a64.add(20, 0, 0)],
      ...[...version, hvc(1), a64.add(21, 0, 0)],
      ...a64.powerOff(),
    ]);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(20, 21)).toEqual([2n ** 64n - 1n, 0x1_0003n]);
  });
});
