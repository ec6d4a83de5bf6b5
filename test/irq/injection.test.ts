// Goal: what an irqfd's event does to an SPI: interrupts.md 6.2, T16 to T20, and to an MSI route:
// T21 to T23. Method: writes to real counters; guests take what comes.
import { expect, it } from "vitest";
import type { RoutingEntry } from "../../src/vmm/commands.js";
import { twice } from "../support/dirty-case.js";
import { IrqVm, type Model } from "../support/irq-case.js";
import { Its } from "../support/irq-its.js";
import { msiRoute, pinRoute, SPURIOUS } from "../support/irq-uapi.js";
import { DOORBELL, LPI } from "../support/its-code.js";

const MODELS: readonly Model[] = ["v2", "v3"];
const SPI = 40;
const GSI = SPI - 32;
const DEVICE = 2;
const EVENT = 20;
const MSI_GSI = 100;

function ordinary(model: Model, config: "edge" | "level", setting: string | null = null) {
  const vm = new IrqVm(model, { setting });
  vm.cpu.claim(SPI, config);
  const fd = vm.eventfd();
  vm.irqfd(fd, GSI);
  return { vm, fd };
}

function route(vm: IrqVm, ...entries: readonly RoutingEntry[]): string | null {
  return vm.refused("setGsiRouting", { flags: 0, entries });
}

it.each(MODELS)("T16: an edge SPI is delivered once, and nobody is told (%s)", (model) => {
  const { vm, fd } = ordinary(model, "edge");
  const { resample } = vm.resampler(GSI);
  vm.signal(fd);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(vm.cpu.take()).toEqual([]);
  expect(vm.count(resample)).toBe(0);
});

for (const model of MODELS) {
  twice(
    "T17",
    `a level SPI by the fast path is delivered until its line is lowered (${model})`,
    (_on, setting) => {
      const { vm, fd } = ordinary(model, "level", setting);
      vm.signal(fd);
      expect(vm.cpu.take(3)).toEqual([SPI, SPI, SPI]);
      vm.spi(SPI, 0);
      expect(vm.cpu.take()).toEqual([]);
    },
    { bug: "irq.irqfdFastPath=off" },
  );
}

for (const model of MODELS) {
  twice(
    "T18",
    `a level SPI by the worker is high and low again before the guest is entered (${model})`,
    (_on, setting) => {
      const { vm, fd } = ordinary(model, "level", setting ?? "irq.irqfdFastPath=off");
      vm.signal(fd);
      expect(vm.cpu.take(3)).toEqual([]);
      expect(vm.irq(SPI)).toMatchObject({ lineLevel: false, pendingLatch: false });
    },
    { bug: "irq.irqfdFastPath=on" },
  );
}

it("T19: one gsi with two pins is EINVAL", () => {
  const vm = new IrqVm("v3");
  expect(route(vm, pinRoute(GSI, 8), pinRoute(GSI, 9))).toBe("EINVAL");
});

it.each(MODELS)("T20: of two gsis with one pin the last one is told (%s)", (model) => {
  for (const last of [8, 9]) {
    const vm = new IrqVm(model);
    vm.cpu.claim(SPI);
    expect(route(vm, pinRoute(17 - last, 8), pinRoute(last, 8))).toBeNull();
    const [eight, nine] = [vm.resampler(8), vm.resampler(9)];
    vm.signal(eight.trigger);
    expect(vm.cpu.take(1)).toEqual([SPI]);
    const counts = [vm.count(eight.resample), vm.count(nine.resample)];
    expect(counts).toEqual(last === 8 ? [1, 0] : [0, 1]);
  }
});

function withMsi(devid: number | null) {
  const its = Its.inNewVm();
  its.enableLpi(LPI);
  its.mapDevice(DEVICE);
  its.mapCollection(0, 0);
  its.mapEvent(DEVICE, EVENT, LPI, 0);
  const { vm } = its;
  expect(route(vm, msiRoute(MSI_GSI, DOORBELL, EVENT, devid))).toBeNull();
  const fd = vm.eventfd();
  vm.irqfd(fd, MSI_GSI);
  return { vm, its, fd, pending: () => vm.irq(LPI).pendingLatch };
}

it("T21: the first MSI takes the worker, the second one the cache", () => {
  const { vm, fd, pending } = withMsi(DEVICE);
  vm.signal(fd);
  expect(pending()).toBe(false);
  expect(vm.cpu.take()).toEqual([LPI]);
  vm.signal(fd);
  expect(pending()).toBe(true);
  expect(vm.cpu.take()).toEqual([LPI]);
});

it("T22: after DISCARD the cache knows nothing", () => {
  const { vm, its, fd } = withMsi(DEVICE);
  vm.signal(fd);
  expect(vm.cpu.take()).toEqual([LPI]);
  its.discard(DEVICE, EVENT);
  vm.signal(fd);
  expect(vm.cpu.take()).toEqual([]);
  expect(vm.cpu.iar()).toBe(SPURIOUS);
});

it("T23: without a device's id nothing comes, and nobody hears of it", () => {
  const { vm, fd, pending } = withMsi(null);
  vm.signal(fd);
  expect(vm.cpu.take()).toEqual([]);
  expect(pending()).toBe(false);
  expect(vm.count(fd)).toBe(0);
});
