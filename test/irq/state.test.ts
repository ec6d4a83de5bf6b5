// Goal: what a vGIC keeps of interrupts, as guest and userspace see it: interrupts.md 6.5, T52 to
// T61. Method: guests acknowledge and end interrupts by hand or in a handler; userspace reads and
// writes the device's attributes between two stops of the guest.
import { expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import { IrqVm, type Model } from "../support/irq-case.js";
import { DIST, GICD, GROUP, SPURIOUS } from "../support/irq-uapi.js";

const MODELS: readonly Model[] = ["v2", "v3"];
const SPI = 40;
const WORD = 1 << (SPI % 32);
const PENDING_WORD = GICD.ISPENDR + 4;
const SGI = 5;
const NOBODY = 0x55;

function asserted(model: Model, options: { vcpus?: number } = {}): IrqVm {
  const vm = new IrqVm(model, options);
  vm.cpu.claim(SPI, "level");
  vm.spi(SPI, 1);
  return vm;
}

it("T52: userspace reads the latch and the line apart, the guest both in one", () => {
  const vm = asserted("v3");
  expect(vm.get(GROUP.DIST, PENDING_WORD)).toBe(0n);
  expect(vm.get(GROUP.LEVEL, 32)).toBe(BigInt(WORD));
  expect(vm.cpu.has(GICD.ISPENDR, SPI)).toBe(true);
  expect(vm.cpu.take(1)).toEqual([SPI]);
});

it("T53: userspace's ISPENDR is the whole word of latches, and its ICPENDR is nothing", () => {
  const vm = new IrqVm("v3");
  vm.cpu.set(GICD.ISPENDR, 32);
  vm.cpu.set(GICD.ISPENDR, 33);
  expect(vm.get(GROUP.DIST, PENDING_WORD)).toBe(3n);
  vm.put(GROUP.DIST, PENDING_WORD, 1);
  expect(vm.get(GROUP.DIST, PENDING_WORD)).toBe(1n);
  expect(vm.cpu.has(GICD.ISPENDR, 32)).toBe(true);
  expect(vm.cpu.has(GICD.ISPENDR, 33)).toBe(false);
  vm.put(GROUP.DIST, GICD.ICPENDR + 4, 0xffff_ffff);
  expect(vm.get(GROUP.DIST, GICD.ICPENDR + 4)).toBe(0n);
  expect(vm.get(GROUP.DIST, PENDING_WORD)).toBe(1n);
});

/** What a VMM carries over of SPIs 32 to 63 of a GICv2, in the order of interrupts.md 7.1. */
function carry(from: IrqVm, to: IrqVm): void {
  const group = GROUP.DIST;
  const copy = (offset: number) => to.put(group, offset, from.get(group, offset));
  copy(GICD.IIDR);
  for (const offset of [0, 4]) copy(GICD.ICFGR + 8 + offset);
  for (const [clear, set] of [
    [GICD.ICENABLER, GICD.ISENABLER],
    [GICD.ICPENDR, GICD.ISPENDR],
    [GICD.ICACTIVER, GICD.ISACTIVER],
  ] as const) {
    const value = from.get(group, set + 4);
    to.put(group, clear + 4, 0xffff_ffff);
    to.put(group, set + 4, value);
  }
  for (let intid = 32; intid < 64; intid += 4) {
    copy(GICD.IPRIORITYR + intid);
    copy(GICD.ITARGETSR + intid);
  }
  copy(GICD.CTLR);
}

it("T54: a GICv2's line goes over as a latch: one delivery until the device asserts again", () => {
  const vm = asserted("v2");
  expect(vm.get(GROUP.DIST, PENDING_WORD)).toBe(BigInt(WORD));
  const next = new IrqVm("v2");
  carry(vm, next);
  expect(next.irq(SPI)).toMatchObject({ pendingLatch: true, lineLevel: false, config: "level" });
  expect(next.cpu.take()).toEqual([SPI]);
  expect(next.cpu.take()).toEqual([]);
  next.spi(SPI, 1);
  expect(next.cpu.take(2)).toEqual([SPI, SPI]);
});

it.each(MODELS)(
  "T55: an edge during the handling is pending beside active, then delivered (%s)",
  (model) => {
    const vm = new IrqVm(model);
    const { cpu } = vm;
    cpu.claim(SPI, "edge");
    vm.spi(SPI, 1);
    expect(cpu.iar()).toBe(SPI);
    expect(cpu.has(GICD.ISPENDR, SPI)).toBe(false);
    vm.put(GROUP.DIST, PENDING_WORD, WORD);
    cpu.exec(a64.NOP);
    expect(cpu.has(GICD.ISPENDR, SPI)).toBe(true);
    expect(cpu.has(GICD.ISACTIVER, SPI)).toBe(true);
    expect(cpu.iar()).toBe(SPURIOUS);
    cpu.eoi(SPI);
    expect(cpu.has(GICD.ISACTIVER, SPI)).toBe(false);
    expect(cpu.iar()).toBe(SPI);
    cpu.eoi(SPI);
    expect(cpu.iar()).toBe(SPURIOUS);
  },
);

it.each(MODELS)("T56: a level that fell while active is over, and acknowledged (%s)", (model) => {
  const vm = new IrqVm(model);
  const { cpu } = vm;
  cpu.claim(SPI);
  const { trigger, resample } = vm.resampler(SPI - 32);
  vm.signal(trigger);
  expect(cpu.iar()).toBe(SPI);
  vm.spi(SPI, 0);
  expect(vm.count(resample)).toBe(0);
  cpu.eoi(SPI);
  expect(vm.count(resample)).toBe(1);
  expect(cpu.iar()).toBe(SPURIOUS);
});

it.each(MODELS)("T57: a pending SPI moves to its new target and wakes it (%s)", (model) => {
  const vm = asserted(model, { vcpus: 2 });
  const [first, second] = [vm.cpus[0]!, vm.cpus[1]!];
  expect(vm.irq(SPI).list?.index).toBe(0);
  const asleep = second.begin(a64.WFI);
  vm.pump(40);
  expect(asleep.done).toBe(false);
  if (model === "v2") first.writeByte(DIST + GICD.ITARGETSR + SPI, 2);
  else first.route(SPI, 1);
  first.exec(a64.NOP);
  expect(vm.irq(SPI).list?.index).toBe(1);
  second.finish(asleep);
  expect(second.take(1)).toEqual([SPI]);
  expect(first.take()).toEqual([]);
});

it.each(MODELS)("T57: an active SPI stays where it is handled (%s)", (model) => {
  const vm = asserted(model, { vcpus: 2 });
  const [first, second] = [vm.cpus[0]!, vm.cpus[1]!];
  expect(first.iar()).toBe(SPI);
  second.aim(SPI);
  first.exec(a64.NOP);
  expect(vm.irq(SPI)).toMatchObject({ active: true, list: { index: 0 } });
  expect(second.take()).toEqual([]);
  first.eoi(SPI);
  expect(first.iar()).toBe(SPURIOUS);
  expect(second.iar()).toBe(SPI);
});

it.each(MODELS)("T58: with its group off nothing is delivered, afterwards it is (%s)", (model) => {
  const vm = asserted(model);
  const on = vm.cpu.read(DIST + GICD.CTLR);
  vm.cpu.write(DIST + GICD.CTLR, 0);
  expect(vm.cpu.take()).toEqual([]);
  expect(vm.cpu.has(GICD.ISPENDR, SPI)).toBe(true);
  vm.cpu.write(DIST + GICD.CTLR, on);
  expect(vm.cpu.take(1)).toEqual([SPI]);
});

it("T59: an SPI that names no vCPU waits on no list until it names one", () => {
  const vm = new IrqVm("v3");
  vm.cpu.claim(SPI);
  vm.cpu.route(SPI, NOBODY);
  vm.spi(SPI, 1);
  expect(vm.cpu.take()).toEqual([]);
  expect(vm.cpu.has(GICD.ISPENDR, SPI)).toBe(true);
  expect(vm.irq(SPI)).toMatchObject({ target: null, list: null });
  vm.cpu.route(SPI, 0);
  expect(vm.cpu.take(1)).toEqual([SPI]);
});

it("T60: an SGI from two senders is two interrupts, each with its sender", () => {
  const vm = new IrqVm("v2", { vcpus: 4 });
  const toFirst = (1 << 16) | SGI;
  vm.cpus[1]!.write(DIST + GICD.SGIR, toFirst);
  vm.cpus[3]!.write(DIST + GICD.SGIR, toFirst);
  const seen = [0, 0].map(() => {
    const id = vm.cpu.iar();
    vm.cpu.eoi(id);
    return id;
  });
  expect(seen.sort()).toEqual([(1 << 10) | SGI, (3 << 10) | SGI]);
  expect(vm.cpu.iar()).toBe(SPURIOUS);
});

it("T61: NR_IRQS takes multiples of 32 up to 992, and one of them once", () => {
  const vm = new IrqVm("v3", { nrIrqs: null, init: false });
  for (const count of [32, 1024, 100]) {
    expect(vm.putRefused(GROUP.NR_IRQS, 0, count)).toBe("EINVAL");
  }
  expect(vm.get(GROUP.NR_IRQS, 0)).toBe(32n);
  expect(vm.putRefused(GROUP.NR_IRQS, 0, 992)).toBeNull();
  expect(vm.putRefused(GROUP.NR_IRQS, 0, 64)).toBe("EBUSY");
  expect(vm.get(GROUP.NR_IRQS, 0)).toBe(992n);
});
