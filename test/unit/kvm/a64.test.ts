// Goal: a vCPU that was initialised runs guest code as KVM lets it: exits, registers, dirty pages.
// Method: small guests in words, on a VM inline; looked at through the commands of the API alone.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { BASE, Inline, type InlineOptions } from "../../support/inline.js";

const K4 = 4096;
const UART = 0x900_0000n;
const PSCI_FEATURE = 4n;
const POWER_OFF = 1n;
const core = (word: number): bigint => 0x6030_0000_0010_0000n | BigInt(word);
const X = (n: number): bigint => core(2 * n);
const PC = core(0x40);
const PSTATE = core(0x42);

function guest(words: readonly number[], options: InlineOptions = {}, features = PSCI_FEATURE) {
  const vm = new Inline(options);
  vm.slot(0, 64);
  vm.vcpu();
  vm.call("vcpuInit", { vcpu: 0, target: 5, features: [features] });
  load(vm, BASE, words);
  set(vm, PC, BigInt(BASE));
  return vm;
}
function load(vm: Inline, gpa: number, words: readonly number[]): void {
  vm.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes: a64.bytesOf(words) });
}
function little(value: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
function set(vm: Inline, reg: bigint, value: bigint, vcpu = 0): void {
  vm.call("setOneReg", { vcpu, reg, value: little(value, 8) });
}
const get = (vm: Inline, reg: bigint, vcpu = 0): bigint =>
  vm.call("getOneReg", { vcpu, reg }).value;

describe("exits", () => {
  it("MMIO of a store and of a load, completed by the next run", () => {
    const vm = guest([
      ...a64.mov(0, UART),
      ...a64.mov(1, 0x48n),
      a64.strb(1, 0),
      a64.ldrsb(2, 0),
      a64.ldrw(3, 0, 0x18),
      ...a64.powerOff(),
    ]);
    const write = vm.run();
    expect(write).toMatchObject({ errno: null, exitReason: "KVM_EXIT_MMIO", retired: 2 });
    expect(write.mmio).toEqual({
      physAddr: UART,
      data: Uint8Array.of(0x48),
      len: 1,
      isWrite: true,
    });
    expect(vm.run().mmio).toMatchObject({ physAddr: UART, len: 1, isWrite: false });
    expect(vm.run(0, { mmioData: [0x80] }).mmio).toMatchObject({ physAddr: UART + 0x18n, len: 4 });
    expect(get(vm, X(2))).toBe(2n ** 64n - 128n);
    const off = vm.run(0, { mmioData: [1, 2, 3, 4] });
    expect(off).toMatchObject({
      exitReason: "KVM_EXIT_SYSTEM_EVENT",
      systemEvent: { type: 1, data: [0n] },
    });
    expect(get(vm, X(3))).toBe(0x0403_0201n);
    expect(get(vm, X(0))).toBe(2n ** 64n - 6n);
    expect(vm.call("getMpState", { vcpu: 0 }).mpState).toBe(5);
  });

  it("ENOSYS for an access to a device that the hardware doesn't describe", () => {
    const vm = guest([...a64.mov(0, UART), a64.ldp(1, 2, 0)]);
    expect(vm.run()).toMatchObject({ errno: "ENOSYS" });
    expect(get(vm, PC)).toBe(BigInt(BASE + 4));
  });

  it("gives code that is no memory back to the guest as an external abort", () => {
    const vm = guest([
      ...a64.mov(0, BigInt(BASE + K4)),
      a64.msr("VBAR_EL1", 0),
      ...a64.mov(1, 0x5000n),
      0xd61f_0020,
    ]);
    load(vm, BASE + K4 + 0x200, [a64.mrs(5, "ESR_EL1"), a64.mrs(6, "FAR_EL1"), ...a64.powerOff()]);
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_SYSTEM_EVENT" });
    expect(get(vm, X(5))).toBe(0x8600_0010n);
    expect(get(vm, X(6))).toBe(0x5000n);
  });

  it("a kick ends a guest that spins, and one that sleeps", () => {
    for (const words of [[a64.b(0)], [a64.WFI, a64.b(-1)]]) {
      const vm = guest(words);
      const run = vm.beginRun();
      vm.pump(20);
      expect(run.done).toBe(false);
      vm.call("kick", { vcpu: 0 });
      vm.pump(20);
      expect(run.value).toMatchObject({ errno: "EINTR", exitReason: "KVM_EXIT_INTR" });
    }
  });

  it("a WFI that a kick ended is over: the next run goes on behind it", () => {
    const vm = guest([a64.WFI, ...a64.powerOff()]);
    const run = vm.beginRun();
    vm.pump(20);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run).errno).toBe("EINTR");
    expect(vm.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
  });

  it("an endless loop of exceptions doesn't hold the thread", () => {
    // VBAR is 0, where nothing is mapped: every vector aborts again.
    const vm = guest([0]);
    const run = vm.beginRun();
    vm.pump(30);
    expect(run.done).toBe(false);
    vm.call("kick", { vcpu: 0 });
    vm.pump(200);
    expect(run.value).toMatchObject({ errno: "EINTR" });
  });
});

describe("exceptions", () => {
  it("EL0 calls EL1 and comes back", () => {
    const user = BASE + 2 * K4;
    const vm = guest([
      ...a64.mov(0, BigInt(BASE + K4)),
      a64.msr("VBAR_EL1", 0),
      ...a64.mov(0, BigInt(user)),
      a64.msr("ELR_EL1", 0),
      ...a64.mov(0, 0n),
      a64.msr("SPSR_EL1", 0),
      a64.ERET,
    ]);
    load(vm, user, [...a64.mov(7, 77n), a64.svc(0x123), a64.add(7, 7, 1), a64.svc(0x456)]);
    // From a lower level: the first call returns, the second one powers off.
    load(vm, BASE + K4 + 0x400, [
      a64.mrs(9, "ESR_EL1"),
      a64.mrs(10, "CurrentEL"),
      a64.add(11, 11, 1),
      a64.subs(31, 11, 2),
      a64.bne(3),
      ...a64.powerOff(),
      a64.ERET,
    ]);
    // The branch skips two words of powerOff() and its HVC.
    const words = a64.powerOff().length;
    load(vm, BASE + K4 + 0x400 + 16, [a64.bne(words + 1)]);
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_SYSTEM_EVENT" });
    expect(get(vm, X(7))).toBe(78n);
    expect(get(vm, X(9))).toBe(0x5600_0456n);
    expect(get(vm, X(10))).toBe(4n);
    expect(get(vm, X(11))).toBe(2n);
  });
});

describe("illegal returns", () => {
  it("ERET to EL2 takes an illegal-state exception where ELR says", () => {
    const vm = guest([
      ...a64.mov(0, BigInt(BASE + K4)),
      a64.msr("VBAR_EL1", 0),
      ...a64.mov(0, BigInt(BASE + 5 * K4)),
      a64.msr("ELR_EL1", 0),
      ...a64.mov(0, 9n),
      a64.msr("SPSR_EL1", 0),
      a64.ERET,
    ]);
    const handler = [a64.mrs(5, "ESR_EL1"), a64.mrs(6, "ELR_EL1"), ...a64.powerOff()];
    load(vm, BASE + K4 + 0x200, handler);
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_SYSTEM_EVENT" });
    expect(get(vm, X(5))).toBe(0x3a00_0000n);
    expect(get(vm, X(6))).toBe(BigInt(BASE + 5 * K4));
  });
});

/** Stage-1 tables at BASE + 0x10000: 1 GiB blocks, identity, Normal at index 1. */
function enableMmu(vm: Inline): number[] {
  const tables = BASE + 0x1_0000;
  const NORMAL_BLOCK = 1n | (1n << 2n) | (3n << 8n) | (1n << 10n);
  const words = (value: bigint) => [Number(value & 0xffff_ffffn), Number(value >> 32n)];
  // Level 0 → level 1 → 1 GiB blocks 0 (Device) and 1 (Normal).
  load(vm, tables, words(BigInt(tables + K4) | 3n));
  load(vm, tables + K4, [
    ...words(0n | 1n | (1n << 10n)),
    ...words(BigInt(2 ** 30) | NORMAL_BLOCK),
  ]);
  return [
    ...a64.mov(0, 0xff00n),
    a64.msr("MAIR_EL1", 0),
    ...a64.mov(0, 16n | (2n << 32n)),
    a64.msr("TCR_EL1", 0),
    ...a64.mov(0, BigInt(tables)),
    a64.msr("TTBR0_EL1", 0),
    a64.mrs(0, "SCTLR_EL1"),
    a64.add(0, 0, 1),
    a64.msr("SCTLR_EL1", 0),
    a64.ISB,
  ];
}

describe("memory", () => {
  it.each(["write-protect", "dbm"] as const)("stores are seen by the dirty log: %s", (tracking) => {
    const vm = new Inline({ dirtyTracking: tracking });
    const { slot } = vm.slot(0, 64);
    vm.vcpu();
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [PSCI_FEATURE] });
    // Stores to pages 32 to 39, then a look at the device, for ever.
    const words = [
      ...enableMmu(vm),
      ...a64.mov(3, BigInt(BASE + 32 * K4)),
      ...a64.mov(4, 8n),
      a64.str(4, 3),
      ...a64.mov(5, BigInt(K4)),
      0x8b05_0063,
      a64.subs(4, 4, 1),
      a64.bne(-4),
      ...a64.mov(6, UART),
      a64.ldrw(7, 6),
      a64.b(-11),
    ];
    load(vm, BASE, words);
    set(vm, PC, BigInt(BASE));
    expect(vm.run().mmio).toMatchObject({ physAddr: UART, isWrite: false });
    vm.call("setUserMemoryRegion", { ...slot, flags: 1 });
    const log = () => vm.dirty(0).filter((page) => page >= 32);
    expect(log()).toEqual([]);
    const pages = [32, 33, 34, 35, 36, 37, 38, 39];
    for (let round = 0; round < 3; round++) {
      expect(vm.run(0, { mmioData: [0, 0, 0, 0] }).mmio).toMatchObject({ physAddr: UART });
      expect(log()).toEqual(pages);
      expect(log()).toEqual([]);
    }
  });

  it("runs what it wrote itself, and what the host wrote", () => {
    const patch = BASE + 4 * K4;
    const vm = guest([
      ...a64.mov(1, BigInt(patch)),
      0xd63f_0020,
      ...a64.mov(2, BigInt(a64.bytesOf([a64.mov(9, 2n)[0]!])[0]!)),
      ...a64.mov(2, BigInt(a64.mov(9, 2n)[0]!) | (BigInt(0xd65f_03c0) << 32n)),
      a64.str(2, 1),
      a64.ISB,
      a64.add(10, 9, 0),
      0xd63f_0020,
      ...a64.mov(6, UART),
      a64.ldrw(7, 6),
      0xd63f_0020,
      ...a64.powerOff(),
    ]);
    load(vm, patch, [...a64.mov(9, 1n), 0xd65f_03c0]);
    expect(vm.run().mmio).toMatchObject({ physAddr: UART });
    expect([get(vm, X(10)), get(vm, X(9))]).toEqual([1n, 2n]);
    load(vm, patch, a64.mov(9, 3n));
    expect(vm.run(0, { mmioData: [0, 0, 0, 0] }).exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(get(vm, X(9))).toBe(3n);
  });
});

describe("registers", () => {
  it("refuses a vCPU that is not initialised, and unknown ids", () => {
    const vm = new Inline();
    vm.vcpu();
    expect(vm.refused("getOneReg", { vcpu: 0, reg: PC })).toBe("ENOEXEC");
    expect(vm.refused("getRegList", { vcpu: 0 })).toBe("ENOEXEC");
    const init = { vcpu: 0, target: 5, features: [PSCI_FEATURE] };
    expect(vm.refused("vcpuInit", { ...init, target: 4 })).toBe("EINVAL");
    expect(vm.refused("vcpuInit", { ...init, features: [1n << 9n] })).toBe("ENOENT");
    expect(vm.refused("vcpuInit", { ...init, features: [0n, 1n] })).toBe("ENOENT");
    expect(vm.refused("vcpuInit", { ...init, features: [1n << 4n] })).toBe("EINVAL");
    vm.call("vcpuInit", init);
    expect(vm.refused("vcpuInit", { ...init, features: [0n] })).toBe("EINVAL");
    expect(vm.refused("getOneReg", { vcpu: 0, reg: 0x6030_0000_0013_ffffn })).toBe("ENOENT");
    expect(vm.refused("getOneReg", { vcpu: 0, reg: 0x6020_0000_0010_0040n })).toBe("EINVAL");
    expect(vm.refused("getOneReg", { vcpu: 0, reg: 0x4030_0000_0010_0040n })).toBe("EINVAL");
  });

  it("every listed register reads, and takes back what it read", () => {
    const vm = guest([]);
    const ids = vm.call("getRegList", { vcpu: 0 });
    expect(new Set(ids).size).toBe(ids.length);
    for (const reg of ids) {
      const { value, size } = vm.call("getOneReg", { vcpu: 0, reg });
      vm.call("setOneReg", { vcpu: 0, reg, value: little(value, size) });
      expect(vm.call("getOneReg", { vcpu: 0, reg }).value).toBe(value);
    }
    expect(get(vm, PSTATE)).toBe(0x3c5n);
  });
});

describe("PSCI", () => {
  it("switches a second vCPU on, where the caller says and with its argument", () => {
    const entry = BASE + 8 * K4;
    const vm = guest([
      ...a64.mov(0, 0xc400_0003n),
      ...a64.mov(1, 1n),
      ...a64.mov(2, BigInt(entry)),
      ...a64.mov(3, 0x55n),
      a64.HVC,
      a64.add(20, 0, 0),
      ...a64.mov(0, 0xc400_0003n),
      a64.HVC,
      a64.add(21, 0, 0),
      ...a64.mov(6, UART),
      a64.ldrw(7, 6),
    ]);
    vm.vcpu(1);
    vm.call("vcpuInit", { vcpu: 1, target: 5, features: [PSCI_FEATURE | POWER_OFF] });
    load(vm, entry, [a64.add(5, 0, 0), a64.mrs(6, "MPIDR_EL1"), ...a64.powerOff()]);
    const second = vm.beginRun(1);
    vm.pump(20);
    expect(second.done).toBe(false);
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
    expect(get(vm, X(20))).toBe(0n);
    expect(get(vm, X(21))).toBe(2n ** 64n - 4n);
    vm.pump(50);
    expect(second.value.exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(get(vm, X(5), 1)).toBe(0x55n);
    expect(get(vm, X(6), 1)).toBe(0x8000_0001n);
  });
});
