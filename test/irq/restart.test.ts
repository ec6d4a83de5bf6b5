// Goal: a VM dies while its assigned device asserts, and the next VM has to serve the device:
// interrupts.md 3.9 and 6.3, T40 to T42. Method: a stand-in for VFIO's level interrupt and two VMs
// on the same eventfds; the guests do what a kernel's start does to its distributor.
import { expect, it } from "vitest";
import type { EventfdCounters } from "../../src/base/eventfd-counters.js";
import type { EventfdRef } from "../../src/vmm/commands.js";
import { twice } from "../support/dirty-case.js";
import { IrqVm, type Model } from "../support/irq-case.js";
import { GICD, IRQFD } from "../support/irq-uapi.js";

const SPI = 40;
const GSI = SPI - 32;
const MODELS = ["v2", "v3"] as const;

/** A device with a level interrupt, and what VFIO does with it on the host. */
class AssignedDevice {
  readonly #eventfds: EventfdCounters;
  readonly trigger: EventfdRef;
  readonly unmask: EventfdRef;
  isHigh = false;
  isMasked = false;

  constructor(vm: IrqVm) {
    this.#eventfds = vm.eventfds;
    this.trigger = vm.eventfd();
    this.unmask = vm.eventfd();
  }

  raise(): void {
    this.isHigh = true;
    this.#fire();
  }
  /** The driver has it lower its line. */
  reset(): void {
    this.isHigh = false;
  }
  #fire(): void {
    if (!this.isHigh || this.isMasked) return;
    this.isMasked = true;
    this.#eventfds.write(this.trigger.index, 1n);
  }
  /** VFIO listens on the resamplefd. @returns how often it was told */
  serve(): number {
    const times = Number(this.#eventfds.take(this.unmask.index));
    if (times > 0) this.enable();
    return times;
  }
  /** The host's interrupt is on again: it fires at once if the line is high. */
  enable(): void {
    this.isMasked = false;
    this.#fire();
  }
}

interface Restarted {
  readonly vm: IrqVm;
  readonly device: AssignedDevice;
}

/** VM1 is gone before its EOI; VM2 has the irqfd, and the host's interrupt has fired for it. */
function restarted(
  model: Model,
  options: { level: boolean; firesFirst?: boolean; setting?: string | null },
): Restarted {
  const { level, firesFirst = false, setting = null } = options;
  const first = new IrqVm(model, { setting });
  const device = new AssignedDevice(first);
  first.cpu.claim(SPI);
  first.irqfd(device.trigger, GSI, IRQFD.RESAMPLE, device.unmask);
  device.raise();
  expect(first.cpu.iar()).toBe(SPI);
  first.instance.close();
  expect(first.count(device.trigger)).toBe(0);
  expect(device).toMatchObject({ isHigh: true, isMasked: true });
  expect(device.serve()).toBe(0);

  const vm = new IrqVm(model, { setting, eventfds: first.eventfds });
  if (level) vm.cpu.configure(SPI, "level");
  if (firesFirst) device.enable();
  vm.irqfd(device.trigger, GSI, IRQFD.RESAMPLE, device.unmask);
  if (!firesFirst) device.enable();
  return { vm, device };
}

/** What a kernel does before it takes interrupts. */
function boot({ vm }: Restarted, clears: boolean): void {
  vm.cpu.disable(SPI);
  if (clears) vm.cpu.set(GICD.ICPENDR, SPI);
  vm.cpu.configure(SPI, "level");
  vm.cpu.setPriority(SPI, 0xa0);
  vm.cpu.aim(SPI);
}

const WAYS = MODELS.flatMap((model) =>
  [false, true].map((firesFirst) => [model, firesFirst] as const),
);

it.each(WAYS)("T40: masked and cleared it acknowledges nothing, and waits (%s, %s)", (...way) => {
  const both = restarted(way[0], { level: true, firesFirst: way[1] });
  const { vm, device } = both;
  expect(vm.irq(SPI).lineLevel).toBe(true);
  boot(both, true);
  expect(device.serve()).toBe(0);
  expect(vm.cpu.has(GICD.ISPENDR, SPI)).toBe(true);
  expect(vm.cpu.take()).toEqual([]);
});

it.each(WAYS)("T40: enabled it is served until the device is quiet (%s, %s)", (...way) => {
  const both = restarted(way[0], { level: true, firesFirst: way[1] });
  const { vm, device } = both;
  boot(both, true);
  vm.cpu.enable(SPI);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(vm.irq(SPI).lineLevel).toBe(false);
  // It is high still: unmasked, it fires again.
  expect(device.serve()).toBe(1);
  expect(vm.irq(SPI).lineLevel).toBe(true);
  expect(vm.cpu.iar()).toBe(SPI);
  device.reset();
  vm.cpu.eoi(SPI);
  expect(device.serve()).toBe(1);
  expect(device).toMatchObject({ isHigh: false, isMasked: false });
  expect(vm.cpu.take()).toEqual([]);
});

it.each(WAYS)("T40: reset before, it comes once for nothing and is quiet (%s, %s)", (...way) => {
  const both = restarted(way[0], { level: true, firesFirst: way[1] });
  const { vm, device } = both;
  boot(both, true);
  device.reset();
  vm.cpu.enable(SPI);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(device.serve()).toBe(1);
  expect(device.isMasked).toBe(false);
  expect(vm.cpu.take()).toEqual([]);
});

it.each(MODELS)("T41: injected as an edge it recovers as a level (%s)", (model) => {
  const both = restarted(model, { level: false });
  const { vm, device } = both;
  expect(vm.irq(SPI)).toMatchObject({ pendingLatch: true, lineLevel: false });
  boot(both, false);
  vm.cpu.enable(SPI);
  device.reset();
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(device.serve()).toBe(1);
  expect(device.isMasked).toBe(false);
});

for (const model of MODELS) {
  twice(
    "T42",
    `cleared while it was edge it is served all the same, where irqfds make SPIs level (${model})`,
    (_on, bug) => {
      const setting = bug ?? "irq.spiDefaultLevelForIrqfd=true";
      const both = restarted(model, { level: false, setting });
      const { vm, device } = both;
      boot(both, true);
      vm.cpu.enable(SPI);
      device.reset();
      expect(vm.cpu.take()).toEqual([SPI]);
      expect(device.serve()).toBe(1);
      expect(device.isMasked).toBe(false);
    },
    { bug: "irq.spiDefaultLevelForIrqfd=false" },
  );
}

it.each(MODELS)("T42: unless told otherwise it is lost for ever (%s)", (model) => {
  const both = restarted(model, { level: false });
  const { vm, device } = both;
  boot(both, true);
  vm.cpu.enable(SPI);
  expect(vm.cpu.take()).toEqual([]);
  expect(device.serve()).toBe(0);
  expect(device).toMatchObject({ isHigh: true, isMasked: true });
});
