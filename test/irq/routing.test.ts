// Goal: routing tables and KVM_IRQ_LINE: interrupts.md 6.4, T43 to T49. Method: tables and lines by
// command; what they lead to is what a guest takes.
import { describe, expect, it } from "vitest";
import { IrqVm, type Model } from "../support/irq-case.js";
import { DIST, GICD, lineOfPpi, msiRoute, pinRoute, SPURIOUS } from "../support/irq-uapi.js";

const SPI = 40;
const GSI = SPI - 32;
const FREE_PPI = 20;
const TIMER_PPI = 27;
const TYPE = { CPU: 0, SPI: 1, PPI: 2, NONE: 3 } as const;
const line = (type: number, num: number) => (type << 24) | num;
const lineRefused = (vm: IrqVm, irq: number) => vm.refused("irqLine", { irq, level: 1 });

it("T43: INIT replaces the table that was there", () => {
  const vm = new IrqVm("v3", { init: false });
  vm.call("setGsiRouting", { flags: 0, entries: [pinRoute(0, 5)] });
  vm.init();
  vm.setUp();
  vm.cpu.claim(32, "edge");
  vm.cpu.claim(37, "edge");
  const fd = vm.eventfd();
  vm.irqfd(fd, 0);
  vm.signal(fd);
  expect(vm.cpu.take()).toEqual([32]);
});

describe("T44", () => {
  const many = Array.from({ length: 4097 }, (_, n) => pinRoute(n % 4096, n % 900));
  const ok = pinRoute(GSI, 9);
  it.each([
    ["4097 entries", 0, many],
    ["flags", 1, [ok]],
    ["gsi 4096", 0, [pinRoute(4096, 1)]],
    ["pin 988", 0, [pinRoute(1, 988)]],
    ["irqchip 1", 0, [{ ...ok, irqchip: 1 }]],
    ["type 3", 0, [{ ...ok, type: 3 }]],
    ["an MSI's flag 2", 0, [{ ...msiRoute(1, 0x808_0040, 0, null), flags: 2 }]],
    ["a pin's flag 1", 0, [{ ...ok, flags: 1 }]],
  ])("T44: %s is EINVAL, and the old table goes on", (_what, flags, entries) => {
    const vm = new IrqVm("v3");
    vm.cpu.claim(SPI, "edge");
    const fd = vm.eventfd();
    vm.irqfd(fd, GSI);
    expect(vm.refused("setGsiRouting", { flags, entries })).toBe("EINVAL");
    vm.signal(fd);
    expect(vm.cpu.take()).toEqual([SPI]);
  });
});

it("T45: pin 900 of 64 SPIs is a route, and its event is nothing", () => {
  const vm = new IrqVm("v3", { nrIrqs: 96 });
  expect(vm.refused("setGsiRouting", { flags: 0, entries: [pinRoute(1, 900)] })).toBeNull();
  const fd = vm.eventfd();
  vm.irqfd(fd, 1);
  vm.signal(fd);
  expect(vm.cpu.iar()).toBe(SPURIOUS);
  expect(vm.dist.spis.filter((irq) => irq.pending)).toEqual([]);
});

it("T46: numbers that are none are EINVAL, a vCPU's own line is ENXIO", () => {
  const vm = new IrqVm("v3", { nrIrqs: 128 });
  expect(lineRefused(vm, line(TYPE.SPI, 31))).toBe("EINVAL");
  expect(lineRefused(vm, line(TYPE.SPI, 128))).toBe("EINVAL");
  expect(lineRefused(vm, line(TYPE.PPI, 15))).toBe("EINVAL");
  expect(lineRefused(vm, line(TYPE.PPI, 32))).toBe("EINVAL");
  expect(lineRefused(vm, line(TYPE.NONE, 40))).toBe("EINVAL");
  expect(lineRefused(vm, line(TYPE.CPU, 0))).toBe("ENXIO");
  expect(lineRefused(vm, line(TYPE.SPI, 127))).toBeNull();
});

it.each<[Model, string | null]>([
  ["v3", "EBUSY"],
  ["v2", null],
])("T47: before INIT a line of a %s: %s", (model, errno) => {
  const vm = new IrqVm(model, { init: false });
  expect(lineRefused(vm, line(TYPE.SPI, SPI))).toBe(errno);
  if (errno !== null) return;
  vm.setUp();
  // It was edge then, and its memory of that stays.
  vm.cpu.claim(SPI, "edge");
  expect(vm.cpu.take()).toEqual([SPI]);
});

it("T48: vCPU 299 is half 1 and 43, and nobody else gets its PPI", () => {
  const vm = new IrqVm("v3", { vcpus: 300, init: false, ramPages: 4096 });
  vm.init();
  vm.call("irqLine", { irq: lineOfPpi(FREE_PPI, 299), level: 1 });
  const pending = vm.cpus.filter(({ index }) => vm.irq(FREE_PPI, index).pending);
  expect(pending.map(({ id }) => id)).toEqual([299]);
  const last = vm.cpus[299]!;
  last.setUp();
  last.write(DIST + GICD.CTLR, 0x12);
  last.setPriority(FREE_PPI, 0xa0);
  last.enable(FREE_PPI);
  expect(last.take(1)).toEqual([FREE_PPI]);
});

it.each<Model>(["v2", "v3"])("T49: a line of the timer's own PPI changes nothing (%s)", (model) => {
  const vm = new IrqVm(model);
  vm.cpu.setPriority(TIMER_PPI, 0xa0);
  vm.cpu.enable(TIMER_PPI);
  expect(lineRefused(vm, lineOfPpi(TIMER_PPI, 0))).toBeNull();
  expect(vm.irq(TIMER_PPI)).toMatchObject({ owner: "timer", lineLevel: false, pending: false });
  expect(vm.cpu.take()).toEqual([]);
});
