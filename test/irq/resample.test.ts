// Goal: when the end of an interrupt acknowledges it and when nothing does: interrupts.md 6.3, T24
// to T35. Method: guest code masks, acknowledges and ends interrupts of both models; resamplefds
// are counters that the test reads.
import { expect, it, vi } from "vitest";
import type { EventfdRef } from "../../src/vmm/commands.js";
import * as a64 from "../support/a64.js";
import { twice } from "../support/dirty-case.js";
import { IrqVm, type Model } from "../support/irq-case.js";
import { GICD, IRQFD, SPURIOUS } from "../support/irq-uapi.js";

const MODELS: readonly Model[] = ["v2", "v3"];
const SPI = 40;
const GSI = SPI - 32;
/** More than there are list registers. */
const MANY = 9;
const TIMER_PPI = 27;
const SGI = 3;

interface Case {
  readonly vm: IrqVm;
  readonly trigger: EventfdRef;
  readonly resample: EventfdRef;
  /** What resamplefd grew by. */
  acks(): number;
}

/** SPI 40 is level and enabled, its irqfd resamples, and its line is high. */
function asserted(model: Model, isSplit = false, setting: string | null = null): Case {
  const vm = new IrqVm(model, { setting });
  if (isSplit) vm.setUp(true);
  vm.cpu.claim(SPI);
  const { trigger, resample } = vm.resampler(GSI);
  vm.signal(trigger);
  expect(vm.irq(SPI).lineLevel).toBe(true);
  return { vm, trigger, resample, acks: () => vm.count(resample) };
}

for (const model of MODELS) {
  twice(
    "T24",
    `masking, then clearing the pending bit of an asserted SPI acknowledges nothing (${model})`,
    (_on, setting) => {
      const { vm, acks } = asserted(model, false, setting);
      vm.cpu.disable(SPI);
      expect(acks()).toBe(0);
      vm.cpu.set(GICD.ICPENDR, SPI);
      vm.cpu.exec(a64.NOP);
      expect(acks()).toBe(0);
      expect(vm.cpu.has(GICD.ISPENDR, SPI)).toBe(true);
      expect(vm.cpu.take()).toEqual([]);
    },
    { bug: "irq.ackOnClearPending=true" },
  );
}

it.each(MODELS)("T25: enabled again it is delivered once, and acknowledged (%s)", (model) => {
  const { vm, acks } = asserted(model);
  vm.cpu.disable(SPI);
  vm.cpu.set(GICD.ICPENDR, SPI);
  vm.cpu.enable(SPI);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(acks()).toBe(1);
  expect(vm.irq(SPI).lineLevel).toBe(false);
  expect(vm.cpu.take()).toEqual([]);
});

it.each(MODELS)("T26: a device that is high still is served again (%s)", (model) => {
  const { vm, trigger, acks } = asserted(model);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(acks()).toBe(1);
  vm.signal(trigger);
  expect(vm.irq(SPI).lineLevel).toBe(true);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(acks()).toBe(2);
  expect(vm.irq(SPI).lineLevel).toBe(false);
});

it.each(MODELS)("T27: with EOImode 1 deactivating acknowledges, not the drop (%s)", (model) => {
  const { vm, acks } = asserted(model, true);
  const { cpu } = vm;
  expect(cpu.iar()).toBe(SPI);
  cpu.eoi(SPI);
  cpu.exec(a64.NOP);
  expect(acks()).toBe(0);
  expect(cpu.has(GICD.ISACTIVER, SPI)).toBe(true);
  cpu.dir(SPI);
  expect(acks()).toBe(1);
  expect(cpu.has(GICD.ISACTIVER, SPI)).toBe(false);
});

it.each(MODELS)("T28: one EOI lowers the line once and tells every resamplefd (%s)", (model) => {
  const { vm, acks } = asserted(model);
  const other = vm.resampler(GSI);
  vm.signal(other.trigger);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect([acks(), vm.count(other.resample)]).toEqual([1, 1]);
  expect(vm.irq(SPI).lineLevel).toBe(false);
});

it.each(MODELS)(
  "T29: one that was de-assigned before the EOI hears nothing of it (%s)",
  (model) => {
    const { vm, trigger, acks } = asserted(model);
    const other = vm.resampler(GSI);
    vm.signal(other.trigger);
    vm.irqfd(trigger, GSI, IRQFD.DEASSIGN);
    expect(vm.irq(SPI).lineLevel).toBe(true);
    expect(vm.cpu.take()).toEqual([SPI]);
    expect([acks(), vm.count(other.resample)]).toEqual([0, 1]);
  },
);

it.each(MODELS)("T30: with the last resampling irqfd the line goes low at once (%s)", (model) => {
  const { vm, trigger, acks } = asserted(model);
  vm.irqfd(trigger, GSI, IRQFD.DEASSIGN);
  expect(vm.irq(SPI)).toMatchObject({ lineLevel: false, pendingLatch: false, pending: false });
  expect(vm.cpu.take()).toEqual([]);
  expect(acks()).toBe(0);
});

it.each(MODELS)("T31: an edge SPI never acknowledges (%s)", (model) => {
  const vm = new IrqVm(model);
  vm.cpu.claim(SPI, "edge");
  const { trigger, resample } = vm.resampler(GSI);
  vm.signal(trigger);
  expect(vm.cpu.take()).toEqual([SPI]);
  vm.cpu.exec(a64.NOP);
  expect(vm.count(resample)).toBe(0);
});

it.each(MODELS)(
  "T32: what software made pending is acknowledged, its latch is gone (%s)",
  (model) => {
    const vm = new IrqVm(model);
    vm.cpu.claim(SPI);
    const { resample } = vm.resampler(GSI);
    vm.cpu.set(GICD.ISPENDR, SPI);
    expect(vm.irq(SPI)).toMatchObject({ pendingLatch: true, lineLevel: false });
    expect(vm.cpu.take()).toEqual([SPI]);
    expect(vm.irq(SPI).pendingLatch).toBe(false);
    expect(vm.count(resample)).toBe(1);
  },
);

it.each(MODELS)(
  "T33: deactivating by ICACTIVER acknowledges nothing; it fires again (%s)",
  (model) => {
    for (const isSplit of [false, true]) {
      const { vm, acks } = asserted(model, isSplit);
      const { cpu } = vm;
      expect(cpu.iar()).toBe(SPI);
      cpu.set(GICD.ICACTIVER, SPI);
      expect(cpu.has(GICD.ISACTIVER, SPI)).toBe(false);
      // The priority is still that of the handler.
      expect(cpu.iar()).toBe(SPURIOUS);
      cpu.eoi(SPI);
      expect(acks()).toBe(0);
      expect(cpu.iar()).toBe(SPI);
      expect(acks()).toBe(0);
      cpu.eoi(SPI);
      if (isSplit) cpu.dir(SPI);
      expect(acks()).toBe(1);
    }
  },
);

const many = Array.from({ length: MANY }, (_, n) => SPI + n);

it.each(MODELS)(
  "T34: more than there are list registers are acknowledged once each (%s)",
  (model) => {
    const vm = new IrqVm(model);
    const irqfds = many.map((intid) => {
      vm.cpu.claim(intid);
      return vm.resampler(intid - 32);
    });
    for (const { trigger } of irqfds) vm.signal(trigger);
    const taken = vm.cpu.take(2 * MANY);
    expect(taken.sort((a, b) => a - b)).toEqual(many);
    expect(irqfds.map(({ resample }) => vm.count(resample))).toEqual(many.map(() => 1));
    expect(vm.cpu.take()).toEqual([]);
  },
);

it.each(MODELS)("T34: nested deeper than there are list registers, too (%s)", (model) => {
  for (const isSplit of [false, true]) {
    const vm = new IrqVm(model);
    const { cpu } = vm;
    if (isSplit) vm.setUp(true);
    const irqfds = many.map((intid, n) => {
      cpu.claim(intid, "level", 0xe0 - 8 * n);
      return vm.resampler(intid - 32);
    });
    for (const [n, { trigger }] of irqfds.entries()) {
      vm.signal(trigger);
      expect(cpu.iar()).toBe(many[n]);
    }
    for (const intid of [...many].reverse()) {
      cpu.eoi(intid);
      if (isSplit) cpu.dir(intid);
    }
    expect(many.map((intid) => cpu.has(GICD.ISACTIVER, intid))).toEqual(many.map(() => false));
    expect(irqfds.map(({ resample }) => vm.count(resample))).toEqual(many.map(() => 1));
    expect(cpu.iar()).toBe(SPURIOUS);
  }
});

it.each(MODELS)("T35: a mapped timer's PPI and an SGI notify nobody (%s)", (model) => {
  const vm = new IrqVm(model);
  const { cpu } = vm;
  const told = vi.fn();
  const { onSpiAcked } = vm.kvm.vm;
  vm.kvm.vm.onSpiAcked = (pin) => {
    told(pin);
    onSpiAcked?.(pin);
  };
  for (const intid of [SGI, TIMER_PPI]) {
    cpu.setPriority(intid, 0xa0);
    cpu.enable(intid);
  }
  cpu.sendSgi(SGI);
  expect(cpu.take()).toEqual([SGI]);
  cpu.exec(
    ...a64.mov(0, 0n),
    a64.msr("CNTV_CVAL_EL0", 0),
    ...a64.mov(0, 1n),
    a64.msr("CNTV_CTL_EL0", 0),
  );
  expect(cpu.take(2)).toEqual([TIMER_PPI, TIMER_PPI]);
  cpu.exec(...a64.mov(0, 0n), a64.msr("CNTV_CTL_EL0", 0));
  expect(cpu.take()).toEqual([]);
  expect(told).not.toHaveBeenCalled();
});
