// Goal: what a guest may touch at which level, and how addresses with tags branch.
// Method: small guests at EL1 and EL0, with and without stage 1.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import {
  Guest,
  hvc,
  K4,
  mrs,
  msr,
  PC,
  PSTATE,
  report,
  SYS,
  UART,
  useVectors,
  VECTORS,
  X,
} from "../../support/guest-code.js";
import { BASE } from "../../support/inline.js";

const OFF = { exitReason: "KVM_EXIT_SYSTEM_EVENT" };
const USER = BASE + 2 * K4;
const DATA = BASE + 0x8000;
const SCTLR = 0x6030_0000_0013_c080n;
const DZE = 1n << 14n;
const DC_ZVA = (rt: number): number => 0xd50b_7420 + rt;

/** EL0 runs these words; its exceptions are told. */
function el0(words: readonly number[], sctlr: bigint): Guest {
  const vm = new Guest([]);
  vm.set(0x6030_0000_0013_c600n, BigInt(VECTORS));
  vm.set(SCTLR, vm.get(SCTLR) | sctlr);
  vm.set(PSTATE, 0n);
  vm.set(PC, BigInt(USER));
  vm.set(X(1), BigInt(DATA));
  vm.code(USER, words);
  vm.code(VECTORS + 0x400, report());
  return vm;
}

describe("DC ZVA at EL0", () => {
  const SVC = a64.svc(0);
  const words = [mrs(5, SYS.DCZID_EL0), DC_ZVA(1), SVC];
  const ones = new Uint8Array(64).fill(0xff);
  const memory = { gpa: BigInt(DATA), length: 64 };

  it("traps where SCTLR_EL1.DZE is 0, and DCZID_EL0 says so", () => {
    const vm = el0(words, 0n);
    vm.call("writePhysicalMemory", { gpa: BigInt(DATA), bytes: ones });
    expect(vm.run()).toMatchObject(OFF);
    // ISS: op0 1, op2 1, op1 3, CRn 7, Rt 1, CRm 4, write.
    expect(vm.xs(5, 20, 21)).toEqual([0x14n, 0x6212_dc28n, BigInt(USER + 4)]);
    expect(vm.call("readPhysicalMemory", memory)).toEqual(ones);
  });

  it("clears a block where it is allowed", () => {
    const vm = el0(words, DZE);
    vm.call("writePhysicalMemory", { gpa: BigInt(DATA), bytes: ones });
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(5, 20)).toEqual([4n, 0x5600_0000n]);
    expect(vm.call("readPhysicalMemory", memory)).toEqual(new Uint8Array(64));
  });

  it("traps in code that became hot while it was allowed", () => {
    const loop = [DC_ZVA(1), a64.add(6, 6, 1), a64.subs(7, 7, 1), a64.bne(-3), SVC];
    const vm = el0(loop, DZE);
    vm.set(X(7), 100_000n);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(6, 20)).toEqual([100_000n, 0x5600_0000n]);
    vm.call("setMpState", { vcpu: 0, mpState: 0 });
    vm.set(SCTLR, vm.get(SCTLR) & ~DZE);
    vm.set(PSTATE, 0n);
    vm.set(PC, BigInt(USER));
    vm.set(X(7), 1n);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(6, 20, 21)).toEqual([100_000n, 0x6212_dc28n, BigInt(USER)]);
  });
});

describe("SP_EL0", () => {
  const setUp = (spsel: number): number[] => [
    ...useVectors(),
    ...a64.mov(1, BigInt(spsel)),
    msr(SYS.SPSel, 1),
    mrs(5, SYS.SP_EL0),
    ...a64.powerOff(),
  ];

  it("is a register while SP_EL1 is in use, and undefined while it is the stack pointer", () => {
    for (const [spsel, esr] of [
      [1, 0n],
      [0, 0x0200_0000n],
    ] as const) {
      const vm = new Guest(setUp(spsel));
      vm.onSync(report());
      vm.code(VECTORS, report());
      expect(vm.run()).toMatchObject(OFF);
      expect(vm.get(X(20))).toBe(esr);
    }
  });
});

describe("registers that KVM keeps and the guest doesn't have", () => {
  it.each([
    ["DACR32_EL2", [3, 4, 3, 0, 0]],
    ["SPSR_abt", [3, 4, 4, 3, 1]],
    ["DBGBVR6_EL1", [2, 0, 0, 6, 4]],
  ] as const)("%s is undefined", (_name, encoding) => {
    const vm = new Guest([...useVectors(), mrs(5, encoding), ...a64.powerOff()]);
    vm.onSync(report());
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(20))).toBe(0x0200_0000n);
  });

  it("the error records of RAS are none", () => {
    const vm = new Guest([...a64.mov(5, 9n), mrs(5, [3, 0, 5, 3, 0]), ...a64.powerOff()]);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(5))).toBe(0n);
  });
});

describe("branches to addresses with a tag", () => {
  const tables = BASE + 0x1_0000;
  /** ADR X5, here; BL to the next instruction, so that X30 is an address too. */
  const ADR = 0x1000_0005;
  const BL = 0x9400_0001;

  function tagged(tbi: bigint): Guest {
    const target = BigInt(USER) | (0x5an << 56n);
    const vm = new Guest([
      ...useVectors(),
      ...a64.mov(0, 0xff00n),
      a64.msr("MAIR_EL1", 0),
      ...a64.mov(0, 16n | (2n << 32n) | (tbi << 37n)),
      a64.msr("TCR_EL1", 0),
      ...a64.mov(0, BigInt(tables)),
      a64.msr("TTBR0_EL1", 0),
      a64.mrs(0, "SCTLR_EL1"),
      a64.add(0, 0, 1),
      a64.msr("SCTLR_EL1", 0),
      a64.ISB,
      ...a64.mov(1, target),
      0xd61f_0020,
    ]);
    const words = (value: bigint) => [Number(value & 0xffff_ffffn), Number(value >> 32n)];
    vm.code(tables, words(BigInt(tables + K4) | 3n));
    const block = 1n | (1n << 2n) | (3n << 8n) | (1n << 10n);
    vm.code(tables + K4, [...words(0n), ...words(BigInt(BASE) | block)]);
    vm.code(USER, [ADR, BL, hvc(0), ...a64.powerOff()]);
    vm.onSync(report());
    return vm;
  }

  it("go without it where the top byte is ignored: PC and what is made of it are plain", () => {
    const vm = tagged(1n);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(5, 30)).toEqual([BigInt(USER), BigInt(USER + 8)]);
    expect(vm.get(X(20))).toBe(0n);
  });

  it("abort with it where it counts", () => {
    const vm = tagged(0n);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(20))).toBe(0x8600_0004n);
    expect(vm.get(X(22)) >> 56n).toBe(0x5an);
  });
});

describe("statistics of a vCPU", () => {
  it("count what it left the guest for", () => {
    const WFE = 0xd503_205f;
    const vm = new Guest([
      ...[WFE, WFE],
      ...a64.mov(0, 0x8400_0000n),
      a64.HVC,
      ...a64.mov(1, UART),
      a64.ldrw(2, 1),
      a64.WFI,
    ]);
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
    const run = vm.beginRun();
    vm.pump(20);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run).errno).toBe("EINTR");
    const bytes = vm.call("stats", { vcpu: 0 });
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const [count, , descriptors, data] = [8, 12, 16, 20].map((at) => view.getUint32(at, true));
    const values = new Map<string, number>();
    for (let n = 0; n < count!; n++) {
      const at = descriptors! + n * 64;
      const name = new TextDecoder().decode(bytes.subarray(at + 16, at + 64)).replace(/\0.*/s, "");
      values.set(name, Number(view.getBigUint64(data! + view.getUint32(at + 8, true), true)));
    }
    expect(Object.fromEntries(values)).toMatchObject({
      hvc_exit_stat: 1,
      wfe_exit_stat: 2,
      wfi_exit_stat: 1,
      mmio_exit_user: 1,
      mmio_exit_kernel: 0,
      signal_exits: 1,
    });
    expect(values.get("exits")).toBeGreaterThanOrEqual(6);
  });
});

describe("a misaligned branch", () => {
  it.each([1n, 2n, 3n])("of %s faults, also where the aligned target was just run", (by) => {
    const target = BigInt(BASE + 0x800);
    const vm = new Guest([
      ...useVectors(),
      ...a64.mov(1, target),
      ...a64.mov(2, target + by),
      a64.blr(1),
      a64.blr(1),
      a64.blr(2),
    ]);
    vm.code(Number(target), [a64.RET]);
    vm.onSync(report());
    expect(vm.run()).toMatchObject(OFF);
    // EC: PC alignment fault.
    expect(vm.xs(20, 21, 22)).toEqual([0x8a00_0000n, target + by, target + by]);
  });
});
