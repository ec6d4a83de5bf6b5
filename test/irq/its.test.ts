// Goal: MSIs by an ITS: interrupts.md 6.3 to 6.5, T35, T50, T51, T62 to T64. Method: a guest maps
// devices and events by commands in its own queue, and takes the LPIs.
import { expect, it, vi } from "vitest";
import { IrqVm, type Model } from "../support/irq-case.js";
import { ITS_REGS, Its, type Message } from "../support/irq-its.js";
import { bytes, errnoOf, SPURIOUS } from "../support/irq-uapi.js";
import { GITS, LPI, QUEUE_BYTES } from "../support/its-code.js";

const DEVICE = 2;
const EVENT = 20;
const COLLECTION = 3;

function mapped(options: ConstructorParameters<typeof IrqVm>[1] = {}): Its {
  const its = Its.inNewVm(options);
  its.enableLpi(LPI);
  its.mapDevice(DEVICE);
  its.mapCollection(COLLECTION, 0);
  its.mapEvent(DEVICE, EVENT, LPI, COLLECTION);
  return its;
}

it("T35: an LPI's end notifies nobody", () => {
  const its = mapped();
  const { vm } = its;
  const told = vi.fn();
  vm.kvm.vm.onSpiAcked = told;
  its.interrupt(DEVICE, EVENT);
  expect(vm.cpu.take()).toEqual([LPI]);
  expect(told).not.toHaveBeenCalled();
});

it("T50: what KVM_SIGNAL_MSI says of each message", () => {
  const its = mapped();
  const refused = (msi: Message) => its.vm.refused("signalMsi", its.msi(msi));
  expect(refused({ event: EVENT, device: null })).toBe("EINVAL");
  expect(refused({ event: EVENT, device: DEVICE, address: 0x1234 })).toBe("EINVAL");
  expect(its.signalMsi({ event: EVENT + 1, device: DEVICE })).toBe(0);
  expect(its.vm.cpu.iar()).toBe(SPURIOUS);
  expect(its.signalMsi({ event: EVENT, device: DEVICE })).toBe(1);
  expect(its.vm.cpu.take()).toEqual([LPI]);
  its.turn(false);
  expect(refused({ event: EVENT, device: DEVICE })).toBe("EBUSY");
  expect(its.vm.cpu.take()).toEqual([]);
});

it.each<Model>(["v2", "v3"])("T51: without an ITS it is ENODEV (%s)", (model) => {
  const vm = new IrqVm(model);
  const msi = { addressLo: 0x809_0040, addressHi: 0, data: EVENT, flags: 1, devid: DEVICE };
  expect(vm.refused("signalMsi", msi)).toBe("ENODEV");
});

it("T62: an LPI that the table enables later is mute until INV or INVALL", () => {
  const invalidations: readonly ((its: Its) => void)[] = [
    (its) => its.invalidate(DEVICE, EVENT),
    (its) => its.invalidateAll(COLLECTION),
  ];
  for (const invalidate of invalidations) {
    const its = Its.inNewVm();
    its.mapDevice(DEVICE);
    its.mapCollection(COLLECTION, 0);
    its.mapEvent(DEVICE, EVENT, LPI, COLLECTION);
    its.enableLpi(LPI);
    its.interrupt(DEVICE, EVENT);
    expect(its.vm.cpu.take()).toEqual([]);
    invalidate(its);
    expect(its.vm.cpu.take()).toEqual([LPI]);
    expect(its.vm.cpu.take()).toEqual([]);
  }
});

it("T63: an event whose collection was unmapped comes to the processor of the next mapping", () => {
  const its = mapped({ vcpus: 2 });
  const { vm } = its;
  its.mapCollection(COLLECTION, 0, false);
  its.interrupt(DEVICE, EVENT);
  expect(vm.cpu.take()).toEqual([]);
  its.mapCollection(COLLECTION, 1);
  its.interrupt(DEVICE, EVENT);
  expect(vm.cpus[1]!.take()).toEqual([LPI]);
  expect(vm.cpu.take()).toEqual([]);
});

it("T64: CREADR is EBUSY while enabled, EINVAL beyond the queue", () => {
  const its = mapped();
  const set = (value: number) =>
    errnoOf(() => its.device.set(ITS_REGS, BigInt(GITS.CREADR), bytes(value, 8)));
  expect(set(32)).toBe("EBUSY");
  its.turn(false);
  expect(set(QUEUE_BYTES)).toBe("EINVAL");
  expect(set(32)).toBeNull();
  expect(its.get(GITS.CREADR)).toBe(32n);
});
