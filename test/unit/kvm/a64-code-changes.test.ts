// Goal: guest code that changes itself does what memory says once the guest has synchronised, hot
// and translated or not. Method: a loop that rewrites one of its own instructions now and then and
// compares what it did with what the instruction says; with DC and IC, and with what CTR_EL0.IDC
// and DIC allow: DSB and ISB alone. And code of one vCPU outlives what another one pushes out.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { BASE, Inline } from "../../support/inline.js";
import { little, reg } from "../../support/registers.js";

const MOVZ_X12 = a64.mov(12, 0n)[0]!;
const ROUNDS = 150_000n;

/**
 * x1: rounds; x2: how often it differed.
 * Rewrites in one of 16,384 rounds: between two slices it is translated.
 */
function rewriting(sync: readonly number[]): number[] {
  const patch = [
    a64.ubfx(13, 1, 3, 16),
    ...a64.mov(14, BigInt(MOVZ_X12)),
    a64.orrReg(14, 14, 13, 5),
    a64.strw(14, 16),
    ...sync,
  ];
  const loop = [
    a64.adr(16, 3 + patch.length),
    a64.ubfx(13, 1, 0, 14),
    a64.cbnz(13, 1 + patch.length),
    ...patch,
    MOVZ_X12,
    a64.ldrw(13, 16),
    a64.ubfx(13, 13, 5, 16),
    a64.subsReg(31, 12, 13),
    a64.beq(2),
    a64.add(2, 2, 1),
    a64.subs(1, 1, 1),
  ];
  return [...loop, a64.bne(-loop.length), ...a64.powerOff()];
}

const CLEANED = [a64.dcCvau(16), a64.DSB, a64.icIvau(16), a64.DSB, a64.ISB];

describe.each([
  ["never translated", null],
  ["translated at once", {}],
  ["in small regions", { regionMax: 6 }],
] as const)("%s", (_name, translation) => {
  it.each([
    ["DC, IC, ISB", CLEANED],
    ["DSB and ISB", [a64.DSB, a64.ISB]],
  ])("%s", (_sync, sync) => {
    const vm = new Inline({ translation });
    vm.slot(0, 16);
    vm.vcpu();
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: a64.bytesOf(rewriting(sync)) });
    const set = (id: bigint, value: bigint) =>
      vm.call("setOneReg", { vcpu: 0, reg: id, value: little(value, 8) });
    set(reg.PC, BigInt(BASE));
    set(reg.x(1), ROUNDS);
    expect(vm.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(vm.call("getOneReg", { vcpu: 0, reg: reg.x(1) }).value).toBe(0n);
    expect(vm.call("getOneReg", { vcpu: 0, reg: reg.x(2) }).value).toBe(0n);
  });
});

describe.each([
  ["never translated", null],
  ["translated together", {}],
] as const)("callers and callees in three pages, %s", (_name, translation) => {
  it("a callee that is rewritten is called as it is now", () => {
    const PAGE = 4096; // tidy: the slot's pages
    const [middle, callee] = [BASE + PAGE, BASE + 2 * PAGE];
    const vm = new Inline({ translation });
    vm.slot(0, 16);
    vm.vcpu();
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    const put = (at: number, words: readonly number[]) =>
      vm.call("writePhysicalMemory", { gpa: BigInt(at), bytes: a64.bytesOf(words) });
    const set = (id: bigint, value: bigint) =>
      vm.call("setOneReg", { vcpu: 0, reg: id, value: little(value, 8) });
    const patch = [
      a64.ubfx(13, 1, 3, 16),
      ...a64.mov(14, BigInt(MOVZ_X12)),
      a64.orrReg(14, 14, 13, 5),
      a64.strw(14, 16),
      a64.ISB,
    ];
    const loop = [
      a64.ubfx(13, 1, 0, 14),
      a64.cbnz(13, 1 + patch.length),
      ...patch,
      a64.blr(17),
      a64.ldrw(13, 16),
      a64.ubfx(13, 13, 5, 16),
      a64.subsReg(31, 12, 13),
      a64.beq(2),
      a64.add(2, 2, 1),
      a64.subs(1, 1, 1),
    ];
    put(BASE, [...loop, a64.bne(-loop.length), ...a64.powerOff()]);
    // The middle one keeps its way back in x18.
    put(middle, [a64.addReg(18, 30, 31), a64.blr(16), a64.addReg(30, 18, 31), a64.RET]);
    put(callee, [MOVZ_X12, a64.RET]);
    set(reg.PC, BigInt(BASE));
    set(reg.x(1), ROUNDS);
    set(reg.x(16), BigInt(callee));
    set(reg.x(17), BigInt(middle));
    expect(vm.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(vm.call("getOneReg", { vcpu: 0, reg: reg.x(1) }).value).toBe(0n);
    expect(vm.call("getOneReg", { vcpu: 0, reg: reg.x(2) }).value).toBe(0n);
    const done = vm.kvm.vm.a64?.translated ?? null;
    expect(done === null).toBe(translation === null);
    if (done === null) return;
    expect(done.regions).toBeGreaterThan(3);
    expect(done.functions).toBeLessThan(done.regions);
  });
});

describe.each([
  ["never translated", null],
  ["translated at once", {}],
] as const)("more pages than are kept decoded, %s", (_name, translation) => {
  it("run by one vCPU, are not what another one then executes", () => {
    const PAGE = 4096; // tidy: the slot's pages
    const FUNCTIONS = 1200;
    const first = BASE + 4 * PAGE;
    const vm = new Inline({ translation });
    vm.slot(0, FUNCTIONS + 8);
    const put = (at: number, words: readonly number[]) =>
      vm.call("writePhysicalMemory", { gpa: BigInt(at), bytes: a64.bytesOf(words) });
    const set = (vcpu: number, id: bigint, value: number) =>
      vm.call("setOneReg", { vcpu, reg: id, value: little(BigInt(value), 8) });
    const doorbell = [...a64.mov(19, 0x900_0000n), a64.str(0, 19)];
    // vCPU 0 calls one function and rings; vCPU 1 calls all of them.
    put(BASE, [...doorbell, a64.blr(1), a64.b(-2)]);
    put(BASE + PAGE, [
      a64.blr(1),
      a64.addReg(1, 1, 2),
      a64.subs(3, 3, 1),
      a64.bne(-3),
      ...doorbell,
    ]);
    put(BASE + 2 * PAGE, [a64.add(0, 0, 1), a64.RET]);
    for (let n = 0; n < FUNCTIONS; n++) put(first + n * PAGE, [a64.add(0, 0, 1000), a64.RET]);
    for (const vcpu of [0, 1]) {
      vm.vcpu(vcpu);
      vm.call("vcpuInit", { vcpu, target: 5, features: [4n] });
      set(vcpu, reg.PC, BASE + vcpu * PAGE);
      set(vcpu, reg.x(1), vcpu === 0 ? BASE + 2 * PAGE : first);
    }
    set(1, reg.x(2), PAGE);
    set(1, reg.x(3), FUNCTIONS);
    const x0 = () => vm.call("getOneReg", { vcpu: 0, reg: reg.x(0) }).value;
    for (let n = 0n; n < 3n; n++) {
      expect(vm.run(0).exitReason).toBe("KVM_EXIT_MMIO");
      expect(x0()).toBe(n);
    }
    expect(vm.run(1).exitReason).toBe("KVM_EXIT_MMIO");
    for (let n = 3n; n < 6n; n++) {
      expect(vm.run(0).exitReason).toBe("KVM_EXIT_MMIO");
      expect(x0()).toBe(n);
    }
  });
});

/** Stage 1 maps 4 GiB in blocks onto themselves: without it stores are to device memory. */
const TABLE = BASE + 0x8000;
const BLOCKS = [0, 1, 2, 3].flatMap((n) => [((n << 30) | 0x701) >>> 0, 0]);
const CACHEABLE = [
  ...a64.mov(0, 0xffn),
  a64.msr("MAIR_EL1", 0),
  ...a64.mov(0, 25n | (2n << 32n) | (1n << 23n)),
  a64.msr("TCR_EL1", 0),
  ...a64.mov(0, BigInt(TABLE)),
  a64.msr("TTBR0_EL1", 0),
  a64.mrs(0, "SCTLR_EL1"),
  a64.add(0, 0, 1),
  a64.msr("SCTLR_EL1", 0),
  a64.ISB,
];

describe.each([
  ["never translated", null],
  ["translated at once", {}],
] as const)("a page that was written to before it was code, %s", (_name, translation) => {
  it("and is written to again", () => {
    const PAGE = 4096; // tidy: the slot's pages
    const code = BASE + 4 * PAGE;
    const vm = new Inline({ translation });
    vm.slot(0, 16);
    vm.vcpu();
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    const put = (at: number, words: readonly number[]) =>
      vm.call("writePhysicalMemory", { gpa: BigInt(at), bytes: a64.bytesOf(words) });
    const set = (id: bigint, value: number) =>
      vm.call("setOneReg", { vcpu: 0, reg: id, value: little(BigInt(value), 8) });
    const store = [a64.strw(1, 16), a64.add(1, 1, 1 << 5), a64.DSB, a64.ISB];
    // Two stores go by the TLB before any of the page is decoded; the sum tells what ran then.
    const call = [a64.blr(16), a64.addReg(2, 2, 12)];
    const rounds = [store, store, call, store, call, store, store, call].flat();
    put(BASE, [...CACHEABLE, ...rounds, ...a64.powerOff()]);
    put(TABLE, BLOCKS);
    put(code, [a64.NOP, a64.RET]);
    set(reg.PC, BASE);
    set(reg.x(16), code);
    set(reg.x(1), MOVZ_X12);
    expect(vm.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(vm.call("getOneReg", { vcpu: 0, reg: reg.x(2) }).value).toBe(1n + 2n + 4n);
  });
});
