// Goal: interrupts travel with a VM, and why the order of a restore is what it is: interrupts.md
// 7.5, M1 to M5 and M7. Method: M1 by the VM's own state; the others restore by attributes, in a
// wrong order and in the right one, into a VM whose guest then takes what is left.
import { expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import type { Inline } from "../support/inline.js";
import { type IrqCpu, IrqVm } from "../support/irq-case.js";
import { eoir } from "../support/irq-code.js";
import { ITS_REGS, Its } from "../support/irq-its.js";
import { bytes, CTRL_INIT, fromBytes, GICD, GROUP } from "../support/irq-uapi.js";
import { GITS, LPI } from "../support/its-code.js";
import { builtLike, copyMemory, letGo, move } from "../support/moved.js";

const SPI = 40;
const GSI = SPI - 32;
const GICR = { CTLR: 0, PROPBASER: 0x70, PENDBASER: 0x78 } as const;
const SAVE_PENDING = 3n;
const ITS_CTRL = { SAVE: 1n, RESTORE: 2n } as const;
const NOTHING = new Uint8Array(0);

/** Has a moved guest's loop do this, from its stop to its next. */
function execOn(vm: Inline, { id, places }: IrqCpu, words: readonly number[]): void {
  const snippet = a64.bytesOf([...words, a64.RET]);
  vm.call("writePhysicalMemory", { gpa: BigInt(places.snippet), bytes: snippet });
  expect(vm.run(id).mmio?.physAddr).toBe(BigInt(places.stop));
}

it("M1: an active level ends on the other host, and is heard of there alone", () => {
  const vm = new IrqVm("v3", { vcpus: 2 });
  const cpu = vm.cpus[1]!;
  cpu.claim(SPI);
  const { trigger, resample } = vm.resampler(GSI);
  vm.signal(trigger);
  expect(cpu.iar()).toBe(SPI);
  expect(vm.irq(SPI)).toMatchObject({ active: true, lineLevel: true, config: "level" });
  const to = move(vm, builtLike(vm));
  letGo(to);
  expect(to.kvm.vm.vgic.dist?.irq(null, SPI)).toMatchObject({ active: true, lineLevel: true });
  execOn(to, cpu, [...a64.mov(0, BigInt(SPI)), ...eoir("v3", 0)]);
  expect(to.eventfds.peek(resample.index)).toBe(1n);
  expect(to.kvm.vm.vgic.dist?.irq(null, SPI)).toMatchObject({ active: false, lineLevel: false });
  expect(vm.count(resample)).toBe(0);
});

/** Words of the SPIs 32 to 63, without their lines. */
const SPI_WORDS: readonly number[] = [
  ...[GICD.ICFGR + 8, GICD.ICFGR + 12, GICD.IGROUPR + 4], // tidy: offsets
  ...Array.from({ length: 8 }, (_, n) => GICD.IPRIORITYR + 32 + 4 * n),
  ...[GICD.ISENABLER + 4, GICD.ISPENDR + 4, GICD.ISACTIVER + 4],
];

function copyWords(from: IrqVm, to: IrqVm): void {
  for (const offset of SPI_WORDS) to.put(GROUP.DIST, offset, from.get(GROUP.DIST, offset));
}

it("M2: a level whose line didn't travel is lost", () => {
  const from = new IrqVm("v3");
  from.cpu.claim(SPI);
  from.spi(SPI, 1);
  expect(from.irq(SPI).pending).toBe(true);
  const to = new IrqVm("v3");
  copyWords(from, to);
  expect(to.irq(SPI)).toMatchObject({ enabled: true, config: "level", pending: false });
  expect(to.cpu.take(1)).toEqual([]);
  to.put(GROUP.LEVEL, 32, from.get(GROUP.LEVEL, 32));
  expect(to.cpu.take(1)).toEqual([SPI]);
});

/** A VM whose LPI is pending, saved into its tables. */
function pendingLpi(): Its {
  const its = Its.inNewVm();
  its.enableLpi(LPI);
  its.mapDevice(2);
  its.mapCollection(3, 0);
  its.mapEvent(2, 20, LPI, 3);
  expect(its.signalMsi({ event: 20, device: 2 })).toBe(1);
  its.device.set(GROUP.CTRL, ITS_CTRL.SAVE, NOTHING);
  its.vm.device.set(GROUP.CTRL, SAVE_PENDING, NOTHING);
  return its;
}

function restoredLpis(from: Its, order: readonly (keyof typeof GICR)[]): number[] {
  const made: Its[] = [];
  const to = new IrqVm("v3", { beforeRun: (vm) => void made.push(new Its(vm)) });
  const its = made[0]!;
  copyMemory(from.vm, to);
  // Somewhere to look for pending bits where PENDBASER says nothing.
  to.slot(9, 16, { gpa: 0 });
  for (const register of order) {
    for (const half of register === "CTLR" ? [0] : [0, 4]) {
      const value = from.vm.get(GROUP.REDIST, GICR[register] + half);
      to.put(GROUP.REDIST, GICR[register] + half, value);
    }
  }
  const set = (offset: number) =>
    its.device.set(ITS_REGS, BigInt(offset), bytes(from.get(offset), 8));
  const { CBASER, CREADR, BASER0, BASER1, CWRITER, CTLR } = GITS;
  for (const offset of [CBASER, CREADR, BASER0, BASER1, CWRITER]) set(offset);
  its.device.set(GROUP.CTRL, ITS_CTRL.RESTORE, NOTHING);
  set(CTLR);
  return to.cpu.take(1);
}

it("M3: LPIs enabled before PENDBASER is set have forgotten what was pending", () => {
  expect(restoredLpis(pendingLpi(), ["PROPBASER", "CTLR", "PENDBASER"])).toEqual([]);
  expect(restoredLpis(pendingLpi(), ["PROPBASER", "PENDBASER", "CTLR"])).toEqual([LPI]);
});

it("M4: groups of a GICv2 stay 0 until IIDR was written", () => {
  const vm = new IrqVm("v2");
  const groups = GICD.IGROUPR + 4;
  vm.put(GROUP.DIST, groups, 0xff);
  expect(vm.get(GROUP.DIST, groups)).toBe(0n);
  vm.put(GROUP.DIST, GICD.IIDR, vm.get(GROUP.DIST, GICD.IIDR));
  vm.put(GROUP.DIST, groups, 0xff);
  expect(vm.get(GROUP.DIST, groups)).toBe(0xffn);
});

it("M5: CBASER that comes after CREADR zeroes it", () => {
  const cbaser = (1n << 63n) | 0x4022_0000n;
  const restored = (...order: readonly (readonly [number, bigint])[]): bigint => {
    const vm = new IrqVm("v3", { init: false });
    vm.device.set(GROUP.CTRL, CTRL_INIT, NOTHING);
    const { device } = new Its(vm);
    for (const [at, value] of order) device.set(ITS_REGS, BigInt(at), bytes(value, 8));
    return fromBytes(device.get(ITS_REGS, BigInt(GITS.CREADR), new Uint8Array(8)));
  };
  expect(restored([GITS.CREADR, 0x40n], [GITS.CBASER, cbaser])).toBe(0n);
  expect(restored([GITS.CBASER, cbaser], [GITS.CREADR, 0x40n])).toBe(0x40n);
});

it("M7: an irqfd comes last, or what it injects is overwritten", () => {
  const left = (isFirst: boolean): number[] => {
    const vm = new IrqVm("v3");
    vm.cpu.claim(SPI, "edge");
    const restore = () => vm.put(GROUP.DIST, GICD.ISPENDR + 4, 0);
    if (!isFirst) restore();
    vm.irqfd(vm.eventfd(1n), GSI);
    expect(vm.irq(SPI).pendingLatch).toBe(true);
    if (isFirst) restore();
    return vm.cpu.take();
  };
  expect(left(true)).toEqual([]);
  expect(left(false)).toEqual([SPI]);
});
