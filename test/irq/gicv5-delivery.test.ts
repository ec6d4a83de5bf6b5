// Goal: what a guest of KVM's GICv5 sees of its interrupts: interrupts.md 6.6, T65 to T71, T87 to
// T89. Method: guest code uses GIC instructions and the IRS; lines are KVM_IRQ_LINE's.
import { expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import { IRS, IRS_REG, lpiOf, ppiOf, spiOf, type V5Guest, V5Vm } from "../support/gicv5-case.js";
import { msrIcc } from "../support/gicv5-code.js";

const VALID = 1n << 32n;
const SPI = 7;
const SW_PPI = 3;

it("takes an SPI by its handler, and a timer's PPI", () => {
  const vm = new V5Vm();
  vm.cpu.claim(SPI, "edge");
  vm.line(SPI, 1);
  expect(vm.cpu.take()).toEqual([spiOf(SPI)]);
  expect(vm.cpu.take()).toEqual([]);
  vm.cpu.enablePpi(27);
  vm.cpu.exec(...a64.mov(0, 1n), a64.msr("CNTV_CTL_EL0", 0), a64.ISB);
  const off = [...a64.mov(0, 0n), a64.msr("CNTV_CTL_EL0", 0)];
  vm.cpu.setHandler(off);
  expect(vm.cpu.take()).toEqual([ppiOf(27)]);
  expect(vm.cpu.take()).toEqual([]);
});

it("T65: an interrupt of the mask's priority passes, one below doesn't", () => {
  const vm = new V5Vm();
  vm.cpu.claim(SPI, "edge", 8);
  vm.line(SPI, 1);
  vm.cpu.setIcc("ICC_PCR_EL1", 7n);
  expect(vm.cpu.cdia()).toBe(0n);
  vm.cpu.setIcc("ICC_PCR_EL1", 8n);
  expect(vm.cpu.cdia()).toBe(VALID | 0x6000_0007n);
});

it("T66: a level SPI that is active masks itself, and comes again after CDDI", () => {
  const vm = new V5Vm();
  vm.cpu.claim(SPI);
  vm.line(SPI, 1);
  expect(vm.cpu.cdia()).toBe(VALID | BigInt(spiOf(SPI)));
  vm.cpu.cdeoi();
  expect(vm.cpu.cdia()).toBe(0n);
  vm.cpu.cddi(spiOf(SPI));
  expect(vm.cpu.cdia()).toBe(VALID | BigInt(spiOf(SPI)));
  vm.line(SPI, 0);
  vm.cpu.cdeoi();
  vm.cpu.cddi(spiOf(SPI));
  expect(vm.cpu.cdia()).toBe(0n);
});

it("T67: an edge that comes while active is delivered exactly once more", () => {
  const vm = new V5Vm();
  vm.cpu.claim(SPI, "edge");
  vm.line(SPI, 1);
  expect(vm.cpu.cdia()).not.toBe(0n);
  vm.cpu.cdeoi();
  vm.line(SPI, 1);
  expect(vm.cpu.cdia()).toBe(0n);
  vm.cpu.cddi(spiOf(SPI));
  expect(vm.cpu.take()).toEqual([spiOf(SPI)]);
  expect(vm.cpu.take()).toEqual([]);
});

it("T68: only a more urgent one preempts", () => {
  const vm = new V5Vm();
  for (const [id, priority] of [
    [1, 4],
    [2, 4],
    [3, 3],
  ] as const) {
    vm.cpu.claim(id, "edge", priority);
  }
  vm.line(1, 1);
  expect(vm.cpu.cdia()).toBe(VALID | BigInt(spiOf(1)));
  vm.line(2, 1);
  expect(vm.cpu.cdia()).toBe(0n);
  vm.line(3, 1);
  expect(vm.cpu.cdia()).toBe(VALID | BigInt(spiOf(3)));
  vm.cpu.cdeoi();
  expect(vm.cpu.cdia()).toBe(0n);
  vm.cpu.cdeoi();
  expect(vm.cpu.cdia()).toBe(VALID | BigInt(spiOf(2)));
});

it("T69: with the IRS off PPIs come, and SPIs wait until it is on", () => {
  const vm = new V5Vm();
  vm.cpu.claim(SPI, "edge");
  vm.cpu.enablePpi(SW_PPI);
  vm.cpu.write(IRS_REG.CR0, 0);
  expect(vm.cpu.read(IRS_REG.CR0)).toBe(2);
  vm.line(SPI, 1);
  vm.ppi(SW_PPI, 1);
  expect(vm.cpu.take()).toEqual([ppiOf(SW_PPI)]);
  vm.cpu.write(IRS_REG.CR0, 1);
  expect(vm.cpu.read(IRS_REG.CR0)).toBe(3);
  expect(vm.cpu.take()).toEqual([spiOf(SPI)]);
});

it("T70: an SPI that isn't there has no configuration", () => {
  const vm = new V5Vm({ nrSpis: 32 });
  expect(vm.cpu.read(IRS_REG.SPI_SELR)).toBe(0xff_ffff);
  expect(vm.cpu.read(IRS_REG.SPI_STATUSR)).toBe(1);
  vm.cpu.write(IRS_REG.SPI_SELR, 32);
  expect(vm.cpu.read(IRS_REG.SPI_STATUSR)).toBe(1);
  vm.cpu.write(IRS_REG.SPI_CFGR, 1);
  expect(vm.cpu.read(IRS_REG.SPI_CFGR)).toBe(0);
  vm.cpu.write(IRS_REG.SPI_SELR, 31);
  expect(vm.cpu.read(IRS_REG.SPI_STATUSR)).toBe(3);
  vm.cpu.write(IRS_REG.SPI_CFGR, 1);
  expect([vm.cpu.read(IRS_REG.SPI_CFGR), vm.spi(31).config]).toEqual([1, "level"]);
  expect(vm.cpu.read(IRS_REG.SPI_DOMAINR)).toBe(1);
});

const BASER = 0x4100_0000n;
/** CFGR → whether a table of that shape can be made valid. */
const TABLES = [
  [20, false],
  [13, false],
  [14, true],
  [16, true],
  [14 | (1 << 7), false],
  [14 | (1 << 16), false],
] as const;

it("T71: a table of LPIs that the VM can't have stays invalid", () => {
  const vm = new V5Vm();
  const { cpu } = vm;
  for (const [cfgr, isThere] of TABLES) {
    cpu.write(IRS_REG.IST_CFGR, cfgr);
    cpu.write64(IRS_REG.IST_BASER, BASER | 1n);
    expect([cfgr, cpu.read64(IRS_REG.IST_BASER)]).toEqual([cfgr, isThere ? BASER | 1n : 0n]);
    expect(vm.v5.view().lpiIdBits).toBe(isThere ? cfgr & 0x1f : 0);
    cpu.write64(IRS_REG.IST_BASER, 0n);
  }
  cpu.write(IRS_REG.IST_CFGR, 14);
  cpu.write(IRS_REG.IST_BASER + 4, 1);
  cpu.write(IRS_REG.IST_BASER, Number(BASER) | 1);
  expect(cpu.read64(IRS_REG.IST_BASER)).toBe((1n << 32n) | BASER | 1n);
  cpu.write(IRS_REG.IST_CFGR, 16);
  cpu.write64(IRS_REG.IST_BASER, 0x4200_0001n);
  expect(cpu.read(IRS_REG.IST_CFGR)).toBe(14);
  expect(cpu.read64(IRS_REG.IST_BASER)).toBe((1n << 32n) | BASER | 1n);
});

it("the guest's own LPIs go from one vCPU to another, until the table is gone", () => {
  const vm = new V5Vm({ vcpus: 2 });
  const [first, second] = vm.cpus as [V5Guest, V5Guest];
  const frames = () => vm.kvm.vm.host.frames.used;
  const before = frames();
  first.write(IRS_REG.IST_CFGR, 14);
  first.write64(IRS_REG.IST_BASER, BASER | 1n);
  expect(frames() - before).toBe((4 << 14) / vm.page);
  second.route(lpiOf(9), 31);
  first.pend(lpiOf(9), true);
  expect(first.take()).toEqual([]);
  expect(second.take()).toEqual([lpiOf(9)]);
  first.pend(lpiOf(9), true);
  first.write64(IRS_REG.IST_BASER, 0n);
  expect([second.config(lpiOf(9)), frames() - before]).toEqual([1n, 0]);
  expect(second.take()).toEqual([]);
  first.write64(IRS_REG.IST_BASER, BASER | 1n);
  expect(second.config(lpiOf(9))).toBe(0n);
});

it("a vCPU in WFI is woken by its doorbell, and not by what it doesn't let in", () => {
  const vm = new V5Vm({ vcpus: 2 });
  const [first, second] = vm.cpus as [V5Guest, V5Guest];
  second.claim(1, "edge", 8);
  second.claim(2, "edge", 4);
  second.setIcc("ICC_PCR_EL1", 5n);
  const sleeps = second.begin(a64.WFI);
  vm.pump(200);
  expect(sleeps.done).toBe(false);
  vm.line(1, 1);
  first.exec(a64.NOP);
  vm.pump(200);
  expect([sleeps.done, vm.counters.doorbells]).toEqual([false, 0]);
  vm.line(2, 1);
  second.finish(sleeps);
  expect(vm.counters.doorbells).toBe(1);
  expect(second.take()).toEqual([spiOf(2)]);
});

it("T87: KVM_IRQ_LINE counts each kind from 0 and drives no device's PPI", () => {
  const vm = new V5Vm({ nrSpis: 32 });
  const refused = (type: number, id: number) =>
    vm.refused("irqLine", { irq: ((type << 24) | id) >>> 0, level: 1 });
  expect(refused(2, SW_PPI)).toBe(null);
  expect(refused(2, 0x1b)).toBe("EINVAL");
  expect(refused(2, 64)).toBe("EINVAL");
  expect(refused(1, 32)).toBe("EINVAL");
  expect(refused(1, 0)).toBe(null);
  expect(refused(0, 0)).toBe("ENXIO");
  expect(vm.spi(0).pending).toBe(true);
});

it("T88: a vCPU's affinity is its id, wherever it was created", () => {
  const vm = new V5Vm({ ids: [17, 3] });
  expect(vm.cpus.map((cpu) => cpu.icc("ICC_IAFFIDR_EL1"))).toEqual([17n, 3n]);
  expect(vm.cpu.read(IRS_REG.PE_SELR)).toBe(0xffff);
  const states = [17, 3, 5].map((id) => {
    vm.cpu.write(IRS_REG.PE_SELR, id);
    return [vm.cpu.read(IRS_REG.PE_STATUSR), vm.cpu.read(IRS_REG.PE_CR0)];
  });
  expect(states).toEqual([
    [7, 1],
    [7, 1],
    [1, 0],
  ]);
  expect(vm.cpu.read(IRS_REG.IDR1)).toBe(2 | (4 << 16) | (4 << 20));
  const [, third] = vm.cpus as [V5Guest, V5Guest];
  third.claim(1, "edge");
  vm.line(1, 1);
  expect([vm.cpu.take(), third.take()]).toEqual([[], [spiOf(1)]]);
});

it("T89: the guest is told of 16-bit IDs and five bits of priority; its affinity is fixed", () => {
  const vm = new V5Vm();
  expect(vm.cpu.icc("ICC_IDR0_EL1")).toBe(0x40n);
  const { base } = vm.cpu;
  const undefinedAt = base + 0x1200;
  vm.words(undefinedAt, [
    a64.mrs(3, "ESR_EL1"),
    a64.mrs(4, "ELR_EL1"),
    a64.add(4, 4, 4),
    a64.msr("ELR_EL1", 4),
    a64.ERET,
  ]);
  expect(vm.cpu.exec(msrIcc("ICC_IAFFIDR_EL1", 0), a64.orrReg(0, 31, 3)) >> 26n).toBe(0n);
});

it("the guest may enable PPIs that the VM has, and no others", () => {
  const vm = new V5Vm();
  vm.cpu.setIcc("ICC_PPI_ENABLER0_EL1", 2n ** 64n - 1n);
  vm.cpu.setIcc("ICC_PPI_ENABLER1_EL1", 2n ** 64n - 1n);
  expect(vm.cpu.icc("ICC_PPI_ENABLER0_EL1")).toBe((1n << 3n) | (1n << 27n) | (1n << 30n));
  expect(vm.cpu.icc("ICC_PPI_ENABLER1_EL1")).toBe(0n);
  expect(vm.cpu.icc("ICC_PPI_HMR0_EL1")).toBe(2n ** 64n - 1n - 8n);
});

it("loads and stores of other sizes, and where no register is, read 0 and do nothing", () => {
  const vm = new V5Vm();
  const { cpu } = vm;
  const at = (offset: number) => a64.mov(1, BigInt(IRS + offset));
  expect(cpu.exec(...at(IRS_REG.IDR2), a64.ldr(0, 1))).toBe(0n);
  expect(cpu.exec(...at(IRS_REG.IDR1), a64.ldrsb(0, 1))).toBe(0n);
  expect(cpu.exec(...at(0x1_0000), a64.ldrw(0, 1))).toBe(0n);
  expect(cpu.exec(...at(0x200), a64.ldrw(0, 1))).toBe(0n);
  cpu.exec(...at(IRS_REG.CR0), a64.strb(31, 1));
  expect(cpu.read(IRS_REG.CR0)).toBe(3);
  cpu.write(0xffbc, 1);
  expect(cpu.read(0xffbc)).toBe(0x4770_5a19);
  cpu.write(IRS_REG.CR1, 0xffff_ffff);
  expect(cpu.read(IRS_REG.CR1)).toBe(0xf5ff);
});
