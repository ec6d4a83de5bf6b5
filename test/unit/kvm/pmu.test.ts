// Goal: a guest with PMUv3 counts its own instructions exactly, and userspace rules what it may.
// Method: guests of counted instructions; attributes and registers through commands.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { Guest, INTR, OFF, S, VECTORS, X } from "../../support/guest.js";
import { BASE, type Inline } from "../../support/inline.js";

const PMU_V3 = 8n;
const FEATURES = 4n | PMU_V3;
const K4 = 4096;
const PMU_LINE = 4;
const [IRQ, INIT, FILTER, SET_PMU, NR_COUNTERS] = [0, 1, 2, 3, 4];
const HOST_PMU = 8;
const PMCR = S(3, 3, 9, 12, 0);
const PMCNTENSET = S(3, 3, 9, 12, 1);
const PMCNTENCLR = S(3, 3, 9, 12, 2);
const PMOVSSET = S(3, 3, 9, 14, 3);
const PMINTENSET = S(3, 0, 9, 14, 1);
const PMCCNTR = S(3, 3, 9, 13, 0);
const evcntr = (n: number) => S(3, 3, 14, 8 + (n >> 3), n & 7);
const evtyper = (n: number) => S(3, 3, 14, 12 + (n >> 3), n & 7);
const CYCLE = 1n << 31n;
const INST_RETIRED = 0x08n;
const CPU_CYCLES = 0x11n;
const CHAIN = 0x1en;
const NOT_EL1 = 1n << 31n;
const NOT_EL0 = 1n << 30n;

const s32 = (value: number) => new Uint8Array(Int32Array.of(value).buffer);
const none = new Uint8Array(0);
const set = (vm: Inline, attr: number, value: Uint8Array = none, vcpu = 0) =>
  vm.refused("setVcpuAttr", { vcpu, group: 0, attr: BigInt(attr), value });
const filter = (base: number, count: number, action: number) =>
  Uint8Array.of(base & 0xff, base >> 8, count & 0xff, count >> 8, action, 0, 0, 0);

function guest(words: readonly number[], options = {}): Guest {
  const vm = new Guest(options);
  vm.boot(0, words, BASE, FEATURES);
  expect(set(vm, INIT)).toBeNull();
  return vm;
}
/** Counters as userspace sets them up: event 0 and cycles count, all are on. */
function counting(vm: Guest, type = INST_RETIRED): void {
  vm.set(evtyper(0), type);
  vm.set(PMCNTENSET, 1n | CYCLE);
  vm.set(PMCR, vm.get(PMCR) | 1n);
}

describe("counters", () => {
  it("count retired instructions, to the one", () => {
    const vm = guest([
      a64.mrs(1, "PMEVCNTR0_EL0"),
      a64.mrs(2, "PMCCNTR_EL0"),
      ...a64.mov(3, 500n),
      a64.subs(3, 3, 1),
      a64.bne(-1),
      a64.mrs(4, "PMEVCNTR0_EL0"),
      a64.mrs(5, "PMCCNTR_EL0"),
      ...a64.powerOff(),
    ]);
    counting(vm);
    expect(vm.run()).toMatchObject(OFF);
    expect([1, 2, 4, 5].map((n) => vm.get(X(n)))).toEqual([0n, 1n, 1003n, 1004n]);
    const retired = BigInt(vm.call("describeVcpu", { vcpu: 0 }).retired);
    expect([vm.get(evcntr(0)), vm.get(PMCCNTR)]).toEqual([retired, retired]);
  });

  it("count the same whatever the slices, and leave the same state", () => {
    const seen = [20_000, 61, 7].map((sliceMax) => {
      const vm = guest([a64.add(1, 1, 1), a64.subs(2, 1, 900), a64.bne(-2), ...a64.powerOff()]);
      counting(vm);
      Object.defineProperty(vm.kvm.vm.vcpus[0]!.a64!, "sliceMax", { value: sliceMax });
      vm.run();
      return { ...vm.instance.digest().parts, scheduler: "" };
    });
    expect([seen[1], seen[2]]).toEqual([seen[0], seen[0]]);
  });

  it("stop with PMCNTENCLR and PMCR.E, are reset by PMCR.P and C, and selected by PMSELR", () => {
    const vm = guest([
      ...a64.mov(1, 1n),
      a64.msr("PMCNTENCLR_EL0", 1),
      a64.mrs(2, "PMEVCNTR0_EL0"),
      a64.mrs(3, "PMEVCNTR0_EL0"),
      a64.msr("PMSELR_EL0", 31),
      a64.mrs(4, "PMXEVCNTR_EL0"),
      a64.mrs(5, "PMXEVTYPER_EL0"),
      ...a64.mov(6, 6n),
      a64.msr("PMCR_EL0", 6),
      a64.mrs(7, "PMEVCNTR0_EL0"),
      a64.mrs(8, "PMCCNTR_EL0"),
      ...a64.mov(9, 31n),
      a64.msr("PMSELR_EL0", 9),
      a64.msr("PMXEVCNTR_EL0", 9),
      a64.mrs(10, "PMCCNTR_EL0"),
      a64.mrs(11, "PMCR_EL0"),
      a64.mrs(12, "PMCEID0_EL0"),
      ...a64.powerOff(),
    ]);
    counting(vm);
    expect(vm.run()).toMatchObject(OFF);
    const values = [2, 3, 4, 5, 7, 8, 10].map((n) => vm.get(X(n)));
    expect(values).toEqual([1n, 1n, 1n, INST_RETIRED, 0n, 0n, 31n]);
    // N is 6, LC is set; SW_INCR, INST_RETIRED, CPU_CYCLES and CHAIN are there.
    expect(vm.get(X(11))).toBe((6n << 11n) | 0x40n);
    expect(vm.get(X(12))).toBe(1n | (1n << 8n) | (1n << 17n) | (1n << 30n));
  });

  it("PMSWINC counts where the event is SW_INCR", () => {
    const vm = guest([
      ...a64.mov(1, 3n),
      a64.msr("PMSWINC_EL0", 1),
      a64.msr("PMSWINC_EL0", 1),
      a64.mrs(2, "PMEVCNTR0_EL0"),
      a64.mrs(3, "PMEVCNTR1_EL0"),
      ...a64.powerOff(),
    ]);
    vm.set(evtyper(1), INST_RETIRED);
    vm.set(PMCNTENSET, 3n);
    vm.set(PMCR, 1n | (6n << 11n));
    expect(vm.run()).toMatchObject(OFF);
    expect([vm.get(X(2)), vm.get(X(3))]).toEqual([2n, 4n]);
  });

  it("an odd counter counts the overflows of the one before it", () => {
    const vm = guest([a64.add(1, 1, 1), a64.subs(2, 1, 100), a64.bne(-2), ...a64.powerOff()]);
    vm.set(evtyper(0), CPU_CYCLES);
    vm.set(evtyper(1), CHAIN);
    vm.set(evcntr(0), 0xffff_fff0n);
    vm.set(PMCNTENSET, 3n);
    vm.set(PMCR, 1n | (6n << 11n));
    expect(vm.run()).toMatchObject(OFF);
    expect([vm.get(evcntr(0)), vm.get(evcntr(1))]).toEqual([300n + 3n - 16n, 1n]);
    expect(vm.get(PMOVSSET)).toBe(1n);
  });

  it("count at the levels that they are for", () => {
    const user = BASE + 2 * K4;
    const vm = guest([
      ...a64.mov(0, BigInt(user)),
      a64.msr("ELR_EL1", 0),
      a64.msr("SPSR_EL1", 31),
      a64.ERET,
    ]);
    vm.put(user, [a64.NOP, a64.NOP, a64.NOP, a64.svc(0)]);
    vm.put(VECTORS + 0x400, [a64.NOP, ...a64.powerOff()]);
    vm.set(evtyper(0), INST_RETIRED | NOT_EL1);
    vm.set(evtyper(1), INST_RETIRED | NOT_EL0);
    vm.set(PMCNTENSET, 3n);
    vm.set(PMCR, 1n | (6n << 11n));
    expect(vm.run()).toMatchObject(OFF);
    const retired = BigInt(vm.call("describeVcpu", { vcpu: 0 }).retired);
    // Three NOPs; ERET and SVC count where they lead to.
    const [atEl0, atEl1] = [vm.get(evcntr(0)), vm.get(evcntr(1))];
    expect(atEl0 + atEl1).toBe(retired);
    expect(atEl0).toBe(4n);
  });
});

describe("overflow", () => {
  it.each([
    ["an event counter", evcntr(0), 0xffff_fc00n, 1n],
    ["the cycle counter", PMCCNTR, 2n ** 64n - 1024n, CYCLE],
  ])("of %s ends the run at its instruction", (_name, register, start, bit) => {
    const vm = guest([a64.b(0)]);
    counting(vm);
    vm.set(register, start);
    vm.set(PMINTENSET, bit);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 1024, deviceIrqLevel: PMU_LINE });
    expect([vm.get(PMOVSSET), vm.get(register)]).toEqual([bit, 0n]);
    vm.set(S(3, 3, 9, 12, 3), 0n);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 0, deviceIrqLevel: 0 });
  });

  it("of hot code is at its instruction too", () => {
    const vm = guest([a64.add(1, 1, 1), a64.subs(31, 1, 7), a64.b(-2)]);
    counting(vm);
    vm.set(evcntr(0), 2n ** 32n - 3_000_001n);
    vm.set(PMINTENSET, 1n);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 3_000_001, deviceIrqLevel: PMU_LINE });
    expect(vm.get(X(1))).toBe(1_000_001n);
  });

  it("the guest clears it, and userspace hears", () => {
    const vm = guest([
      a64.daifclr(2),
      ...a64.mov(1, 0xffff_ff00n),
      a64.msr("PMEVCNTR0_EL0", 1),
      a64.b(0),
    ]);
    counting(vm);
    vm.set(PMINTENSET, 1n);
    vm.put(VECTORS + 0x280, [a64.mrs(3, "PMOVSSET_EL0"), a64.msr("PMOVSCLR_EL0", 3), a64.b(0)]);
    expect(vm.run()).toMatchObject({ ...INTR, deviceIrqLevel: PMU_LINE });
    vm.irq(1);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 2, deviceIrqLevel: 0 });
    expect([vm.get(X(3)), vm.get(PMOVSSET)]).toEqual([1n, 0n]);
  });

  it("without its enable is only told in PMOVS", () => {
    const vm = guest([a64.add(1, 1, 1), a64.subs(2, 1, 100), a64.bne(-2), ...a64.powerOff()]);
    counting(vm);
    vm.set(evcntr(0), 0xffff_fff0n);
    expect(vm.run()).toMatchObject({ ...OFF, deviceIrqLevel: 0 });
    expect(vm.get(PMOVSSET)).toBe(1n);
  });
});

describe("access", () => {
  const undefinedAt = (name: a64.SysregName, isWrite = false): number[] => [
    isWrite ? a64.msr(name, 1) : a64.mrs(1, name),
    a64.b(0),
  ];
  /** ESR after the access trapped at EL1, or null when it did not. */
  function trapped(vm: Guest): bigint | null {
    vm.put(VECTORS + 0x200, [a64.mrs(9, "ESR_EL1"), ...a64.powerOff()]);
    vm.put(VECTORS + 0x400, [a64.mrs(9, "ESR_EL1"), ...a64.powerOff()]);
    const run = vm.beginRun();
    vm.pump(20);
    if (!run.done) vm.call("kick", { vcpu: 0 });
    const { exitReason } = vm.finish(run);
    return exitReason === "KVM_EXIT_SYSTEM_EVENT" ? vm.get(X(9)) : null;
  }
  const UNDEFINED = 0x0200_0000n;

  it("without the feature everything is UNDEFINED, unlisted, and the ID register says so", () => {
    for (const name of ["PMCR_EL0", "PMCCNTR_EL0", "PMINTENSET_EL1", "PMUSERENR_EL0"] as const) {
      const vm = new Guest();
      vm.boot(0, undefinedAt(name));
      expect(trapped(vm)).toBe(UNDEFINED);
    }
    const vm = new Guest();
    vm.boot(0, [a64.mrs(1, "ID_AA64DFR0_EL1"), ...a64.powerOff()]);
    vm.run();
    expect((vm.get(X(1)) >> 8n) & 15n).toBe(0n);
    expect(vm.refused("getOneReg", { vcpu: 0, reg: PMCR })).toBe("ENOENT");
    expect(vm.call("getRegList", { vcpu: 0 })).not.toContain(PMCR);
  });

  it("with it the ID register says PMUv3, and all is listed and comes back", () => {
    const vm = guest([a64.mrs(1, "ID_AA64DFR0_EL1"), ...a64.powerOff()]);
    vm.set(PMCNTENSET, 5n);
    vm.set(PMINTENSET, 3n | CYCLE);
    vm.run();
    expect((vm.get(X(1)) >> 8n) & 15n).toBe(1n);
    const list = vm.call("getRegList", { vcpu: 0 });
    expect(list).toEqual(expect.arrayContaining([PMCR, PMCCNTR, PMCNTENCLR, evcntr(30)]));
    const values = () => list.map((reg) => vm.call("getOneReg", { vcpu: 0, reg }).value);
    const before = values();
    for (const [at, reg] of list.entries()) {
      const { size } = vm.call("getOneReg", { vcpu: 0, reg });
      const bytes = Uint8Array.from({ length: size }, (_, i) =>
        Number((before[at]! >> BigInt(8 * i)) & 0xffn),
      );
      vm.call("setOneReg", { vcpu: 0, reg, value: bytes });
    }
    expect(values()).toEqual(before);
  });

  it.each([
    ["PMEVCNTR6_EL0", false, UNDEFINED],
    ["PMEVCNTR5_EL0", false, null],
    ["PMCEID0_EL0", true, UNDEFINED],
    ["PMSWINC_EL0", false, UNDEFINED],
    ["PMSWINC_EL0", true, null],
  ] as const)("%s, write %s, at EL1", (name, isWrite, esr) => {
    expect(trapped(guest(undefinedAt(name, isWrite)))).toBe(esr);
  });

  it.each([
    ["PMCCNTR_EL0", false, 0, UNDEFINED],
    ["PMCCNTR_EL0", false, 4, null],
    ["PMCCNTR_EL0", true, 4, UNDEFINED],
    ["PMCCNTR_EL0", true, 1, null],
    ["PMEVCNTR0_EL0", false, 8, null],
    ["PMEVCNTR0_EL0", true, 8, UNDEFINED],
    ["PMSELR_EL0", true, 8, null],
    ["PMSWINC_EL0", true, 2, null],
    ["PMSWINC_EL0", true, 4, UNDEFINED],
    ["PMCR_EL0", false, 14, UNDEFINED],
    ["PMCR_EL0", false, 1, null],
    ["PMUSERENR_EL0", false, 0, null],
    ["PMUSERENR_EL0", true, 15, UNDEFINED],
    ["PMINTENSET_EL1", false, 15, UNDEFINED],
  ] as const)("%s, write %s, at EL0 with PMUSERENR %d", (name, isWrite, enable, esr) => {
    const vm = guest(undefinedAt(name, isWrite));
    vm.set(S(3, 3, 9, 14, 0), BigInt(enable));
    vm.set(0x6030_0000_0010_0042n, 0x3c0n);
    expect(trapped(vm)).toBe(esr);
  });

  it("PMSELR beyond the counters makes PMXEV UNDEFINED, but for the cycle counter", () => {
    for (const [selected, esr] of [
      [5n, null],
      [6n, UNDEFINED],
      [31n, null],
    ] as const) {
      const vm = guest(undefinedAt("PMXEVCNTR_EL0"));
      vm.set(S(3, 3, 9, 12, 5), selected);
      expect(trapped(vm)).toBe(esr);
    }
  });

  it("PMCR.N from userspace limits the counters; more than the host has is ignored", () => {
    const vm = guest(undefinedAt("PMEVCNTR5_EL0"));
    vm.set(PMCNTENSET, 0xffff_ffffn);
    expect(vm.get(PMCNTENSET)).toBe(CYCLE | 0x3fn);
    vm.set(PMCR, 7n << 11n);
    expect(vm.get(PMCR) >> 11n).toBe(6n);
    vm.set(PMCR, 2n << 11n);
    expect(vm.get(PMCR) >> 11n).toBe(2n);
    expect(vm.get(PMCNTENSET)).toBe(CYCLE | 3n);
    expect(trapped(vm)).toBe(UNDEFINED);
    // Once a vCPU has run it stays; a reset keeps it too.
    vm.set(PMCR, 4n << 11n);
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [FEATURES] });
    expect(vm.get(PMCR) >> 11n).toBe(2n);
  });
});

describe("attributes", () => {
  it("are ENODEV without the feature", () => {
    const vm = new Guest();
    vm.vcpu();
    for (const attr of [IRQ, INIT, FILTER, SET_PMU, NR_COUNTERS]) {
      expect(set(vm, attr, filter(0, 1, 0))).toBe("ENODEV");
      expect(vm.refused("hasVcpuAttr", { vcpu: 0, group: 0, attr: BigInt(attr) })).toBe("ENXIO");
    }
  });

  it("a run before INIT is EINVAL, and does not count as one", () => {
    const vm = new Guest();
    vm.boot(0, a64.powerOff(), BASE, FEATURES);
    expect(vm.run()).toMatchObject({ errno: "EINVAL", retired: 0 });
    expect(vm.call("describe", {}).hasRun).toBe(false);
    for (const attr of [IRQ, INIT, FILTER, SET_PMU, NR_COUNTERS]) {
      expect(vm.refused("hasVcpuAttr", { vcpu: 0, group: 0, attr: BigInt(attr) })).toBeNull();
    }
    expect(set(vm, IRQ, s32(23))).toBe("EINVAL");
    expect(vm.refused("getVcpuAttr", { vcpu: 0, group: 0, attr: 0n })).toBe("EINVAL");
    expect(vm.refused("getVcpuAttr", { vcpu: 0, group: 0, attr: 1n })).toBe("ENXIO");
    expect(set(vm, 5)).toBe("ENXIO");
    expect(set(vm, INIT)).toBeNull();
    expect(set(vm, INIT)).toBe("EBUSY");
    expect(vm.run()).toMatchObject(OFF);
  });

  it("a PMU is chosen before its counters are limited, and before INIT", () => {
    const vm = new Guest();
    vm.boot(0, undefinedSafe(), BASE, FEATURES);
    expect(set(vm, NR_COUNTERS, s32(3))).toBe("EINVAL");
    expect(set(vm, SET_PMU, s32(9))).toBe("ENXIO");
    expect(set(vm, SET_PMU)).toBe("EFAULT");
    expect(set(vm, SET_PMU, s32(HOST_PMU))).toBeNull();
    expect(set(vm, NR_COUNTERS, s32(7))).toBe("EINVAL");
    expect(set(vm, NR_COUNTERS, s32(3))).toBeNull();
    expect(vm.get(PMCR) >> 11n).toBe(3n);
    expect(set(vm, INIT)).toBeNull();
    expect(set(vm, NR_COUNTERS, s32(2))).toBe("EBUSY");
    expect(vm.run()).toMatchObject(OFF);
    vm.vcpu(1);
    vm.call("vcpuInit", { vcpu: 1, target: 5, features: [FEATURES] });
    for (const [attr, value] of [
      [SET_PMU, s32(HOST_PMU)],
      [NR_COUNTERS, s32(1)],
      [FILTER, filter(0, 1, 0)],
    ] as const) {
      expect(set(vm, attr, value, 1)).toBe("EBUSY");
    }
  });
  const undefinedSafe = () => a64.powerOff();

  it("the first filter says what the rest is; what is denied reads 0", () => {
    const words = [
      a64.mrs(1, "PMCEID0_EL0"),
      a64.mrs(2, "PMEVCNTR0_EL0"),
      a64.mrs(3, "PMCCNTR_EL0"),
      ...a64.powerOff(),
    ];
    for (const [base, action, events, counts, cycles] of [
      [0x08, 0, 0x4000_0101n, 1n, 0n],
      [0x08, 1, 0x4002_0001n, 0n, 2n],
    ] as const) {
      const vm = new Guest();
      vm.boot(0, words, BASE, FEATURES);
      expect(set(vm, FILTER, filter(1023, 2, 0))).toBe("EINVAL");
      expect(set(vm, FILTER, filter(0, 1, 2))).toBe("EINVAL");
      expect(set(vm, FILTER, filter(base, 1, action))).toBeNull();
      expect(set(vm, SET_PMU, s32(HOST_PMU))).toBe("EBUSY");
      expect(set(vm, INIT)).toBeNull();
      counting(vm);
      expect(vm.run()).toMatchObject(OFF);
      expect([1, 2, 3].map((n) => vm.get(X(n)))).toEqual([events, counts, cycles]);
    }
  });
});
