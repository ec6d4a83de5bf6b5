// Goal: a GICv5's device: attributes, errnos, what is saved and restored: interrupts.md 5.15, 6.6
// (T90 to T92), 7.4 and 7.5 (M1, M6, M7). Method: attributes as bytes; a second VM is restored from
// the first.
import { expect, it } from "vitest";
import { createDevice } from "../../src/kvm/device.js";
import type { EventfdRef } from "../../src/vmm/commands.js";
import * as a64 from "../support/a64.js";
import {
  ADDR_IRS,
  CTRL_INIT,
  IRS,
  IRS_REG,
  lpiOf,
  spiOf,
  USERSPACE_PPIS,
  V5_GROUP,
  V5_TYPE,
  type V5Guest,
  type V5Options,
  V5Vm,
} from "../support/gicv5-case.js";
import { bytes, errnoOf, fromBytes, pinRoute } from "../support/irq-uapi.js";

const { ADDR, NR_IRQS, CTRL, SYSREGS, IRS_REGS, IST } = V5_GROUP;
const ALL_ONES = 2n ** 64n - 1n;
const NOTHING = new Uint8Array(0);
const VALID = 1n << 32n;
const SPI = 5;

/** A device without address and INIT. */
const bare = (options: V5Options = {}): V5Vm => new V5Vm({ init: false, nrSpis: null, ...options });
const putRefused = (
  vm: V5Vm,
  group: number,
  attr: bigint | number,
  value: bigint | number,
  size: 4 | 8 = 8,
) => errnoOf(() => vm.put(group, attr, value, size));
const getRefused = (vm: V5Vm, group: number, attr: bigint | number) =>
  errnoOf(() => vm.get(group, attr));
const hasRefused = (vm: V5Vm, group: number, attr: bigint | number) =>
  errnoOf(() => vm.device.has(group, BigInt(attr)));

it("is made once, beside no other controller", () => {
  const vm = bare();
  const make = (type: number) => errnoOf(() => createDevice(vm.kvm.vm, type, 0));
  expect([make(V5_TYPE), make(7), make(5)]).toEqual(["EEXIST", "EEXIST", "EEXIST"]);
  expect(createDevice(vm.kvm.vm, V5_TYPE, 1)).toBe(null);
  expect(vm.refused("irqLine", { irq: 1 << 24, level: 1 })).toBe("EBUSY");
});

it("has one address, of two frames", () => {
  const vm = bare();
  expect([hasRefused(vm, ADDR, ADDR_IRS), hasRefused(vm, ADDR, ALL_ONES)]).toEqual([null, "ENXIO"]);
  expect(vm.get(ADDR, ADDR_IRS)).toBe(ALL_ONES);
  expect(putRefused(vm, ADDR, ADDR_IRS, 0x1000)).toBe("EINVAL");
  expect(putRefused(vm, ADDR, ADDR_IRS, 1n << 40n)).toBe("E2BIG");
  expect(putRefused(vm, ADDR, ADDR_IRS, (1n << 40n) - 0x1_0000n)).toBe("E2BIG");
  expect(putRefused(vm, ADDR, 2, 0)).toBe("ENXIO");
  expect(putRefused(vm, ADDR, ADDR_IRS, 0)).toBe(null);
  expect([vm.get(ADDR, ADDR_IRS), putRefused(vm, ADDR, ADDR_IRS, 0xe_0000)]).toEqual([
    0n,
    "EEXIST",
  ]);
});

it("T90: NR_IRQS counts SPIs, and is set once", () => {
  const vm = bare();
  expect(vm.get(NR_IRQS, 0, 4)).toBe(0n);
  const refused = [31, 33, 1056, 32, 64].map((count) => putRefused(vm, NR_IRQS, 0, count, 4));
  expect(refused).toEqual(["EINVAL", "EINVAL", "EINVAL", null, "EBUSY"]);
  expect(vm.get(NR_IRQS, 0, 4)).toBe(32n);
  const other = bare();
  other.init();
  expect([other.get(NR_IRQS, 0, 4), putRefused(other, NR_IRQS, 0, 64, 4)]).toEqual([32n, "EBUSY"]);
  expect(other.kvm.vm.routing.list().length).toBe(32);
  const large = bare();
  large.put(NR_IRQS, 0, 1024, 4);
  large.init();
  expect(large.kvm.vm.routing.list().length).toBe(988);
});

it("INIT wants a vCPU, fixes their number, and may be asked twice", () => {
  const none = bare({ vcpus: 0 });
  expect(errnoOf(() => none.init())).toBe("ENODEV");
  const vm = bare();
  vm.init();
  expect(errnoOf(() => vm.init())).toBe(null);
  expect(vm.refused("createVcpu", { id: 9 })).toBe("EBUSY");
});

it("T92: KVM_RUN wants the address, then INIT", () => {
  const noAddress = bare();
  noAddress.init();
  expect(noAddress.run(0).errno).toBe("ENXIO");
  const noInit = bare();
  noInit.put(ADDR, ADDR_IRS, IRS);
  expect(noInit.run(0).errno).toBe("EBUSY");
  expect(bare().run(0).errno).toBe("ENXIO");
});

it("tells which PPIs userspace may drive", () => {
  const vm = bare();
  expect(hasRefused(vm, CTRL, USERSPACE_PPIS)).toBe(null);
  const words = vm.device.get(CTRL, USERSPACE_PPIS, new Uint8Array(16));
  expect([fromBytes(words.subarray(0, 8)), fromBytes(words.subarray(8))]).toEqual([8n, 0n]);
  expect(errnoOf(() => vm.device.set(CTRL, USERSPACE_PPIS, words))).toBe("ENXIO");
  expect(errnoOf(() => vm.device.get(CTRL, USERSPACE_PPIS, NOTHING))).toBe("EFAULT");
});

it("IRS registers are there before the address, and answer after INIT", () => {
  const vm = bare({ nrSpis: 64 });
  expect(hasRefused(vm, IRS_REGS, IRS_REG.IDR0)).toBe(null);
  expect(getRefused(vm, IRS_REGS, IRS_REG.IDR0)).toBe("EBUSY");
  expect(putRefused(vm, IRS_REGS, IRS_REG.IDR0, 0)).toBe("EBUSY");
  vm.put(ADDR, ADDR_IRS, IRS);
  vm.init();
  for (const offset of Object.values(IRS_REG)) {
    const value = vm.get(IRS_REGS, offset);
    expect([offset, putRefused(vm, IRS_REGS, offset, value)]).toEqual([offset, null]);
    expect([offset, vm.get(IRS_REGS, offset)]).toEqual([offset, value]);
  }
  expect([hasRefused(vm, IRS_REGS, 0x1_0000), getRefused(vm, IRS_REGS, 0x200)]).toEqual([
    "ENXIO",
    "ENXIO",
  ]);
  expect(
    [IRS_REG.IDR0 + 2, IRS_REG.IST_BASER + 4].map((at) => hasRefused(vm, IRS_REGS, at)),
  ).toEqual(["EINVAL", "EINVAL"]);
  expect(errnoOf(() => vm.device.get(IRS_REGS, 0n, NOTHING))).toBe("EFAULT");
  expect(errnoOf(() => vm.device.set(IRS_REGS, 0n, NOTHING))).toBe("EFAULT");
  const statuses = [0xc4, 0x118, 0x144, 0x194].map((at) => vm.get(IRS_REGS, at));
  expect(statuses).toEqual([1n, 1n, 1n, 1n]);
});

/** Register → what its present value is changed by, so that a restore refuses it. */
const REFUSED = [
  [IRS_REG.IDR0, 1n],
  [IRS_REG.IDR0, 1n << 6n],
  [IRS_REG.IDR1, 1n << 16n],
  [IRS_REG.IDR1, 3n << 20n],
  [IRS_REG.IDR2, 1n << 5n],
  [IRS_REG.IDR2, 1n << 10n],
  [IRS_REG.IDR2, 1n << 14n],
  [IRS_REG.IDR2, 1n << 0n],
  [IRS_REG.IDR5, 1n],
  [IRS_REG.IDR6, 1n],
  [IRS_REG.IDR7, 1n],
] as const;

it("a restore must be of the same controller", () => {
  const vm = bare({ nrSpis: 64 });
  vm.init();
  for (const [offset, change] of REFUSED) {
    const value = vm.get(IRS_REGS, offset) ^ change;
    expect([offset, change, putRefused(vm, IRS_REGS, offset, value)]).toEqual([
      offset,
      change,
      "EINVAL",
    ]);
  }
  vm.put(IRS_REGS, IRS_REG.IST_CFGR, 14);
  vm.put(IRS_REGS, IRS_REG.IST_BASER, 0x4100_0001n);
  expect([vm.get(IRS_REGS, IRS_REG.IST_BASER), vm.v5.view().lpiIdBits]).toEqual([0x4100_0001n, 0]);
  vm.v5.restoreIst(new Uint8Array(256), new Uint8Array(4 << 14));
  expect(putRefused(vm, IRS_REGS, IRS_REG.IST_CFGR, 15)).toBe("EINVAL");
  expect(putRefused(vm, IRS_REGS, IRS_REG.IST_CFGR, 14)).toBe(null);
  expect(putRefused(vm, IRS_REGS, IRS_REG.IST_BASER, 0)).toBe("EINVAL");
  expect(putRefused(vm, IRS_REGS, IRS_REG.IST_BASER, 0x4100_0001n)).toBe(null);
});

// ── CPU registers ─────────────────────────────────────────────────────────────────────────────

/** op1, CRm, op2 of op0 3, CRn 12. */
const encoded = (op1: number, crm: number, op2: number): bigint =>
  BigInt((3 << 14) | (op1 << 11) | (12 << 7) | (crm << 3) | op2); // tidy: a CRn
const CR0 = encoded(1, 0, 1);
const PCR = encoded(1, 0, 2);
const APR = encoded(1, 0, 0);
const ICSR = encoded(0, 10, 4);
const ENABLERS = [encoded(0, 10, 6), encoded(0, 10, 7)];
const SACTIVERS = [encoded(0, 13, 2), encoded(0, 13, 3)];
const SPENDRS = [encoded(0, 13, 6), encoded(0, 13, 7)];
const PRIORITYRS = Array.from({ length: 16 }, (_, n) => encoded(0, 14 + (n >> 3), n & 7));
const CPU_REGISTERS = [ICSR, ...ENABLERS, ...SACTIVERS, ...SPENDRS, ...PRIORITYRS, APR, CR0, PCR];
/** Not listed: CACTIVER0, CPENDR0, HMR0, HPPIR, IAFFIDR, and GICv3's CTLR. */
const OTHERS = [
  encoded(0, 13, 0),
  encoded(0, 13, 4),
  encoded(0, 10, 0),
  encoded(0, 10, 3),
  encoded(0, 10, 5),
  encoded(0, 12, 4),
];

it("CPU registers are read and written as a whole, after INIT and before a run", () => {
  const vm = bare({ vcpus: 2 });
  expect([hasRefused(vm, SYSREGS, CR0), getRefused(vm, SYSREGS, CR0)]).toEqual([null, "EBUSY"]);
  vm.put(ADDR, ADDR_IRS, IRS);
  vm.init();
  for (const attr of CPU_REGISTERS) {
    expect([
      attr,
      hasRefused(vm, SYSREGS, attr),
      putRefused(vm, SYSREGS, attr, vm.get(SYSREGS, attr)),
    ]).toEqual([attr, null, null]);
  }
  for (const attr of OTHERS) {
    expect([
      hasRefused(vm, SYSREGS, attr),
      getRefused(vm, SYSREGS, attr),
      putRefused(vm, SYSREGS, attr, 0),
    ]).toEqual(["ENXIO", "ENOENT", "ENOENT"]);
  }
  const second = 1n << 32n;
  vm.put(SYSREGS, second | (SPENDRS[0] ?? 0n), 8n);
  vm.put(SYSREGS, second | (SPENDRS[0] ?? 0n), 0n);
  vm.put(SYSREGS, second | (SACTIVERS[0] ?? 0n), 0xffn);
  vm.put(SYSREGS, second | (SACTIVERS[0] ?? 0n), 0xf0n);
  expect([
    vm.get(SYSREGS, second | (SPENDRS[0] ?? 0n)),
    vm.get(SYSREGS, second | (SACTIVERS[0] ?? 0n)),
  ]).toEqual([0n, 0xf0n]);
  expect(vm.get(SYSREGS, SACTIVERS[0] ?? 0n)).toBe(0n);
  const nobody = 7n << 32n;
  expect([hasRefused(vm, SYSREGS, nobody | CR0), getRefused(vm, SYSREGS, nobody | CR0)]).toEqual([
    "EINVAL",
    "EINVAL",
  ]);
  expect(errnoOf(() => vm.device.get(SYSREGS, CR0, NOTHING))).toBe("EFAULT");
  expect(errnoOf(() => vm.device.set(SYSREGS, CR0, NOTHING))).toBe("EFAULT");
  vm.cpu.exec(a64.NOP);
  expect([putRefused(vm, SYSREGS, CR0, 1), putRefused(vm, IRS_REGS, 0x80, 1)]).toEqual([
    "EBUSY",
    "EBUSY",
  ]);
});

// ── tables ────────────────────────────────────────────────────────────────────────────────────

/** struct kvm_vgic_v5_ist. */
function descriptor(spi: readonly [bigint, number], lpi: readonly [bigint, number] = [0n, 0]) {
  const words = [spi[0], BigInt(spi[1]), lpi[0], BigInt(lpi[1])];
  return Uint8Array.from(words.flatMap((word) => [...bytes(word, 8)]));
}

/** Memory of userspace. */
const buffer = (vm: V5Vm): bigint =>
  vm.call("createMemoryObject", {
    size: 0x2_0000n,
    userspaceAddr: null,
    backing: "ram",
    hugePages: false,
  }).userspaceAddr;

it("T91: tables are taken in their size, after registers of the IRS, before a run", () => {
  const vm = bare({ nrSpis: 64 });
  expect([hasRefused(vm, IST, 0), hasRefused(vm, IST, 1)]).toEqual([null, "ENXIO"]);
  const at = buffer(vm);
  const set = (value: Uint8Array) => errnoOf(() => vm.device.set(IST, 0n, value));
  const get = (value: Uint8Array) => errnoOf(() => vm.device.get(IST, 0n, value));
  expect([set(descriptor([at, 256])), get(descriptor([at, 256]))]).toEqual(["EBUSY", "EBUSY"]);
  vm.put(ADDR, ADDR_IRS, IRS);
  vm.init();
  expect(errnoOf(() => vm.device.get(IST, 1n, descriptor([at, 256])))).toBe("ENXIO");
  expect([set(NOTHING), get(NOTHING)]).toEqual(["EINVAL", "EINVAL"]);
  expect([set(new Uint8Array(1)), get(new Uint8Array(1))]).toEqual(["EFAULT", "EFAULT"]);
  for (const value of [
    descriptor([0n, 0]),
    descriptor([at, 252]),
    descriptor([at, 256], [at, 4]),
    descriptor([at, 256], [at, 4 << 14]),
  ]) {
    expect([set(value), get(value)]).toEqual(["EINVAL", "EINVAL"]);
  }
  expect(set(descriptor([at, 256]))).toBe("EINVAL");
  vm.put(IRS_REGS, IRS_REG.CR0, 1);
  expect(set(descriptor([0x10n, 256]))).toBe("EFAULT");
  expect(get(descriptor([at, 256]))).toBe(null);
  expect(set(descriptor([at, 256]))).toBe(null);
  vm.cpu.exec(a64.NOP);
  expect(set(descriptor([at, 256]))).toBe("EBUSY");
  expect(get(descriptor([at, 256]))).toBe(null);
});

it("M6: tables before registers of the IRS are refused", () => {
  const vm = bare({ nrSpis: 64 });
  vm.init();
  const image = new Uint8Array(256);
  expect(errnoOf(() => vm.v5.restoreIst(image, null))).toBe("EINVAL");
  expect(errnoOf(() => vm.v5.restoreIst(image, new Uint8Array(4 << 14)))).toBe("EINVAL");
  vm.put(IRS_REGS, IRS_REG.CR0, 1);
  expect(errnoOf(() => vm.v5.restoreIst(image, null))).toBe(null);
});

/** Every register and table of one VM, in another that has not run; lines and irqfds are not. */
function moved(from: V5Vm, options: V5Options = {}): V5Vm {
  const to = bare({ nrSpis: from.v5.nrSpis, vcpus: from.cpus.length, ...options });
  to.put(ADDR, ADDR_IRS, IRS);
  to.init();
  for (const offset of [0x80, 0x84, 0x108, 0x140, 0x190, 0x180]) {
    to.put(IRS_REGS, offset, from.get(IRS_REGS, offset));
  }
  const { spi, lpi } = from.v5.saveIst();
  to.v5.restoreIst(spi, lpi);
  for (const { index } of from.cpus) {
    for (const attr of CPU_REGISTERS) {
      const register = (BigInt(index) << 32n) | attr;
      to.put(SYSREGS, register, from.get(SYSREGS, register));
    }
  }
  return to;
}

it("T91: a save right after a restore is the same bytes, and what was pending comes", () => {
  const vm = new V5Vm({ vcpus: 2 });
  const [first, second] = vm.cpus as [V5Guest, V5Guest];
  first.write(IRS_REG.IST_CFGR, 14);
  first.write64(IRS_REG.IST_BASER, 0x4100_0001n);
  first.claim(1, "level", 6);
  second.claim(2, "edge", 9);
  second.route(lpiOf(33), 12);
  first.enablePpi(3);
  vm.line(1, 1);
  expect(first.cdia()).not.toBe(0n);
  vm.line(2, 1);
  first.pend(lpiOf(33), true);
  vm.ppi(3, 1);
  const there = moved(vm);
  expect(there.v5.saveIst()).toEqual(vm.v5.saveIst());
  expect([1, 2].map((id) => there.spi(id).config)).toEqual(["level", "edge"]);
  for (const attr of CPU_REGISTERS) {
    expect([attr, there.get(SYSREGS, attr)]).toEqual([attr, vm.get(SYSREGS, attr)]);
  }
  there.line(1, 1);
  const [one, two] = there.cpus as [V5Guest, V5Guest];
  expect(two.take()).toEqual([spiOf(2), lpiOf(33)]);
  expect(one.cdia()).toBe(0n);
  one.cdeoi();
  there.line(1, 0);
  one.cddi(spiOf(1));
  expect(one.take()).toEqual([0x2000_0003]);
});

it.each(["exact", "seed004", "seed004-notifier-only"])(
  "M1: what was active before the move is acknowledged after it, there alone (%s)",
  (policy) => {
    const settings = [`vgicV5.spiTracking=${policy}`];
    const vm = new V5Vm({ settings });
    vm.cpu.claim(SPI);
    const { trigger, resample } = vm.resampler(SPI);
    vm.signal(trigger);
    expect(vm.cpu.cdia()).toBe(VALID | BigInt(spiOf(SPI)));
    vm.cpu.cdeoi();
    const there = moved(vm, { settings });
    const again: { resample: EventfdRef } = there.resampler(SPI);
    there.cpu.exec(a64.NOP);
    expect(there.v5.inFlight()).toEqual(policy === "exact" ? [] : [SPI]);
    // The device on this side raises its line again; a poller hears nothing while it stays high.
    there.line(SPI, 1);
    if (policy !== "exact") there.line(SPI, 0);
    there.cpu.cddi(spiOf(SPI));
    expect([vm.count(resample), there.count(again.resample)]).toEqual([0, 1]);
    expect(there.spi(SPI).lineLevel).toBe(false);
    expect(there.cpu.cdia()).toBe(0n);
  },
);

it("M7: an irqfd before the tables has injected for nothing; after them nothing is lost", () => {
  const source = new V5Vm();
  source.cpu.claim(SPI, "edge");
  for (const isFirst of [true, false]) {
    const there = bare({ nrSpis: 64 });
    there.put(ADDR, ADDR_IRS, IRS);
    there.init();
    there.put(IRS_REGS, IRS_REG.CR0, 1);
    const restore = () => there.v5.restoreIst(source.v5.saveIst().spi, null);
    const assign = () => there.irqfd(there.eventfd(1n), SPI);
    for (const act of isFirst ? [assign, restore] : [restore, assign]) act();
    expect(there.spi(SPI).iste & 1).toBe(isFirst ? 0 : 1);
  }
});

it("KVM_SIGNAL_MSI finds no ITS, and a pin beyond the SPIs drops its events", () => {
  const vm = new V5Vm({ nrSpis: 32 });
  const msi = { addressLo: 0, addressHi: 0, data: 0, flags: 1, devid: 0 };
  expect(vm.refused("signalMsi", msi)).toBe("ENODEV");
  vm.call("setGsiRouting", { flags: 0, entries: [pinRoute(1, 40)] });
  const fd = vm.eventfd();
  vm.irqfd(fd, 1);
  vm.signal(fd);
  expect(vm.counters.vdpendCalls).toBe(0);
});

it("an irqfd wants an initialised controller, and CTRL has nothing else", () => {
  const vm = bare();
  const args = { fd: vm.eventfd(), gsi: 0, flags: 0, resamplefd: { index: -1, isEventfd: true } };
  expect(vm.refused("irqfd", { ...args, drain: true, found: null })).toBe("EAGAIN");
  expect(errnoOf(() => vm.device.set(CTRL, 9n, NOTHING))).toBe("ENXIO");
  expect(CTRL_INIT).toBe(0n);
});

it("the PMU and the timers have the PPIs that the architecture gives them", () => {
  const PMU_V3 = 8n;
  const vm = bare({ nrSpis: 32, features: 4n | PMU_V3 });
  const set = (group: number, attr: bigint, value: Uint8Array) =>
    vm.refused("setVcpuAttr", { vcpu: 0, group, attr, value });
  vm.put(ADDR, ADDR_IRS, IRS);
  expect(set(0, 1n, NOTHING)).toBe("ENODEV");
  vm.init();
  expect([22, 40, 0x2000_0016].map((irq) => set(0, 0n, bytes(irq, 4)))).toEqual([
    "EINVAL",
    "EINVAL",
    "EINVAL",
  ]);
  expect(set(0, 0n, bytes(0x2000_0017, 4))).toBe(null);
  expect(set(0, 1n, NOTHING)).toBe(null);
  expect([28, 27, 0x2000_001b].map((ppi) => set(1, 0n, bytes(ppi, 4)))).toEqual([
    "EINVAL",
    null,
    null,
  ]);
  vm.setUp();
  vm.cpu.enablePpi(23);
  expect(vm.cpu.icc("ICC_PPI_ENABLER0_EL1")).toBe(1n << 23n);
  // Its cycle counter is one before it overflows.
  const overflow = (1n << 64n) - 20n;
  const off = [...a64.mov(4, 1n << 31n), a64.msr("PMOVSCLR_EL0", 4)];
  vm.cpu.setHandler(off);
  const started = vm.cpu.take(1, [
    ...a64.mov(4, overflow),
    a64.msr("PMCCNTR_EL0", 4),
    ...a64.mov(4, 1n << 31n),
    a64.msr("PMINTENSET_EL1", 4),
    a64.msr("PMCNTENSET_EL0", 4),
    ...a64.mov(4, 0x41n),
    a64.msr("PMCR_EL0", 4),
    ...Array.from({ length: 64 }, () => a64.NOP),
  ]);
  expect(started).toEqual([0x2000_0017]);
  const plain = bare({ nrSpis: 32, features: 4n | PMU_V3 });
  plain.put(ADDR, ADDR_IRS, IRS);
  plain.init();
  expect(plain.refused("setVcpuAttr", { vcpu: 0, group: 0, attr: 1n, value: NOTHING })).toBe(null);
  expect(plain.kvm.vm.vcpus[0]?.pmuIrq).toBe(23);
});
