// Goal: who hears of an acknowledgement, in which order, and what he may do: interrupts.md 6.3, T36
// to T39. Method: guests end interrupts; an observer sits where resamplefds are signalled.
import { expect, it, vi } from "vitest";
import { irqLine } from "../../src/kvm/device-lines.js";
import { IrqVm, type Model } from "../support/irq-case.js";
import { IRQFD } from "../support/irq-uapi.js";

const MODELS: readonly Model[] = ["v2", "v3"];
const SPI = 40;
const GSI = SPI - 32;
const OTHER_SPI = 41;
const LINE_OF_OTHER = (1 << 24) | OTHER_SPI;

function claimed(model: Model): IrqVm {
  const vm = new IrqVm(model);
  vm.cpu.claim(SPI);
  vm.cpu.claim(OTHER_SPI);
  return vm;
}

it.each(MODELS)(
  "T36: with an empty table nobody is told, and the line stays high (%s)",
  (model) => {
    const vm = claimed(model);
    const { trigger, resample } = vm.resampler(GSI);
    vm.signal(trigger);
    vm.call("setGsiRouting", { flags: 0, entries: [] });
    expect(vm.cpu.take(3)).toEqual([SPI, SPI, SPI]);
    expect(vm.count(resample)).toBe(0);
    expect(vm.irq(SPI).lineLevel).toBe(true);
  },
);

it.each(MODELS)("T37: whoever is told may inject, and detach others (%s)", (model) => {
  const vm = claimed(model);
  const { trigger, resample } = vm.resampler(GSI);
  const other = vm.resampler(GSI);
  const { eventfds } = vm.kvm.vm;
  const signal = eventfds.signal.bind(eventfds);
  let isDone = false;
  const told = vi.spyOn(eventfds, "signal").mockImplementation((index) => {
    signal(index);
    if (isDone) return;
    isDone = true;
    // No part of the controller may be half done here: both go through it again.
    irqLine(vm.kvm.vm, LINE_OF_OTHER, true);
    irqLine(vm.kvm.vm, (1 << 24) | SPI, true);
    const { irqfds } = vm.kvm.vm;
    irqfds.irqfd(vm.irqfdArgs(other.trigger, GSI, IRQFD.DEASSIGN));
  });
  vm.signal(trigger);
  expect(vm.cpu.take(1)).toEqual([SPI]);
  told.mockRestore();
  expect(isDone).toBe(true);
  expect(vm.irq(OTHER_SPI).lineLevel).toBe(true);
  expect(vm.irq(SPI).lineLevel).toBe(true);
  // The other one was detached before its turn came.
  expect([vm.count(resample), vm.count(other.resample)]).toEqual([1, 0]);
  vm.spi(OTHER_SPI, 0);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect([vm.count(resample), vm.count(other.resample)]).toEqual([2, 0]);
});

it.each(MODELS)("T38: the line is low when the resamplefd becomes readable (%s)", (model) => {
  const vm = claimed(model);
  const { trigger, resample } = vm.resampler(GSI);
  const { eventfds } = vm.kvm.vm;
  const signal = eventfds.signal.bind(eventfds);
  const seen: boolean[] = [];
  const observer = vi.spyOn(eventfds, "signal").mockImplementation((index) => {
    seen.push(vm.irq(SPI).lineLevel);
    signal(index);
  });
  vm.signal(trigger);
  expect(vm.irq(SPI).lineLevel).toBe(true);
  expect(vm.cpu.take()).toEqual([SPI]);
  observer.mockRestore();
  expect(seen).toEqual([false]);
  expect(vm.count(resample)).toBe(1);
});

it.each(MODELS)(
  "T39: a refused assignment leaves no resampler, and the line is low (%s)",
  (model) => {
    const vm = claimed(model);
    const taken = vm.eventfd();
    vm.irqfd(taken, 20);
    const resample = vm.eventfd();
    vm.spi(SPI, 1);
    expect(vm.irqfdRefused(taken, GSI, IRQFD.RESAMPLE, resample)).toBe("EBUSY");
    expect(vm.irq(SPI).lineLevel).toBe(false);
    expect(vm.kvm.vm.ackNotifiers.has(0, GSI)).toBe(false);
    vm.spi(SPI, 1);
    expect(vm.cpu.take(1)).toEqual([SPI]);
    expect(vm.count(resample)).toBe(0);
  },
);
