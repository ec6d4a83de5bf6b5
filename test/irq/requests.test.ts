// Goal: what KVM_IRQFD takes and refuses, and when: interrupts.md 6.1, T01 to T15. Method: calls on
// VMs in every state of their controller; where something is injected a guest takes it.
import { expect, it } from "vitest";
import { NO_FD } from "../support/case-vm.js";
import { twice } from "../support/dirty-case.js";
import { Inline } from "../support/inline.js";
import { A_FILE, IrqVm } from "../support/irq-case.js";
import { IRQFD, SPURIOUS } from "../support/irq-uapi.js";

const GSI = 5;
const SPI = GSI + 32;
const { DEASSIGN, RESAMPLE } = IRQFD;
const UNKNOWN_FLAG = 4;
const settled = { drain: true, found: null };

it("T01: EAGAIN without a controller", () => {
  const vm = new Inline();
  const fd = { index: vm.eventfds.create(0n), isEventfd: true };
  expect(vm.refused("irqfd", { fd, gsi: GSI, flags: 0, resamplefd: NO_FD, ...settled })).toBe(
    "EAGAIN",
  );
});

it("T02: EAGAIN until a GICv3 was initialised", () => {
  const vm = new IrqVm("v3", { init: false });
  const fd = vm.eventfd();
  expect(vm.irqfdRefused(fd, GSI)).toBe("EAGAIN");
  vm.init();
  expect(vm.irqfdRefused(fd, GSI)).toBeNull();
});

it("T03: EAGAIN of a GICv2 too, which KVM_IRQ_LINE would have initialised", () => {
  const vm = new IrqVm("v2", { init: false });
  const fd = vm.eventfd();
  expect(vm.irqfdRefused(fd, GSI)).toBe("EAGAIN");
  vm.spi(SPI, 1);
  expect(vm.irqfdRefused(fd, GSI)).toBeNull();
});

it("T04: an unknown flag comes before descriptors and controller", () => {
  const vm = new Inline();
  const args = { fd: NO_FD, gsi: GSI, resamplefd: NO_FD, ...settled };
  expect(vm.refused("irqfd", { ...args, flags: UNKNOWN_FLAG })).toBe("EINVAL");
  expect(vm.refused("irqfd", { ...args, flags: UNKNOWN_FLAG | DEASSIGN })).toBe("EINVAL");
});

it("T05: EBADF of what isn't open, EINVAL of a regular file", () => {
  const vm = new IrqVm("v3");
  expect(vm.irqfdRefused(NO_FD, GSI)).toBe("EBADF");
  expect(vm.irqfdRefused(A_FILE, GSI)).toBe("EINVAL");
});

it("T06: EBADF of a bad resamplefd, and no resampler where fd is bad as well", () => {
  const vm = new IrqVm("v3");
  vm.cpu.claim(SPI);
  const fd = vm.eventfd();
  expect(vm.irqfdRefused(fd, GSI, RESAMPLE, NO_FD)).toBe("EBADF");
  expect(vm.irqfdRefused(NO_FD, GSI, RESAMPLE, NO_FD)).toBe("EBADF");
  expect(vm.irqfdRefused(NO_FD, GSI, RESAMPLE, vm.eventfd())).toBe("EBADF");
  expect(vm.kvm.vm.ackNotifiers.has(0, GSI)).toBe(false);
  // It holds no claim either.
  expect(vm.irqfdRefused(fd, GSI, RESAMPLE, vm.eventfd())).toBeNull();
  expect(vm.kvm.vm.ackNotifiers.has(0, GSI)).toBe(true);
});

twice(
  "T07",
  "an eventfd serves one irqfd of the whole host",
  (_on, setting) => {
    const vm = new IrqVm("v3", { setting });
    const other = new IrqVm("v3", { setting, eventfds: vm.eventfds });
    const fd = vm.eventfd();
    vm.irqfd(fd, GSI);
    expect(vm.irqfdRefused(fd, GSI)).toBe("EBUSY");
    expect(vm.irqfdRefused(fd, GSI + 1)).toBe("EBUSY");
    expect(other.irqfdRefused(fd, GSI)).toBe("EBUSY");
  },
  { bug: "irq.era=pre617" },
);

it("T07: before 6.17 it served one in each VM", () => {
  const vm = new IrqVm("v3", { setting: "irq.era=pre617" });
  const other = new IrqVm("v3", { setting: "irq.era=pre617", eventfds: vm.eventfds });
  const fd = vm.eventfd();
  vm.irqfd(fd, GSI);
  expect(vm.irqfdRefused(fd, GSI)).toBe("EBUSY");
  expect(vm.irqfdRefused(fd, GSI + 1)).toBe("EBUSY");
  expect(other.irqfdRefused(fd, GSI)).toBeNull();
});

it("T08: de-assigning what isn't there succeeds, before INIT too", () => {
  const vm = new IrqVm("v3", { init: false });
  expect(vm.irqfdRefused(vm.eventfd(), GSI, DEASSIGN)).toBeNull();
  expect(vm.irqfdRefused(NO_FD, GSI, DEASSIGN)).toBe("EBADF");
});

it("T09: de-assigning the eventfd from another gsi changes nothing", () => {
  const vm = new IrqVm("v3");
  vm.cpu.claim(SPI, "edge");
  const fd = vm.eventfd();
  vm.irqfd(fd, GSI);
  expect(vm.irqfdRefused(fd, GSI + 1, DEASSIGN)).toBeNull();
  vm.signal(fd);
  expect(vm.cpu.take()).toEqual([SPI]);
});

it("T10: RESAMPLE and its descriptor count for nothing when de-assigning", () => {
  const vm = new IrqVm("v3");
  vm.cpu.claim(SPI, "edge");
  const fd = vm.eventfd();
  vm.irqfd(fd, GSI);
  expect(vm.irqfdRefused(fd, GSI, DEASSIGN | RESAMPLE, NO_FD)).toBeNull();
  vm.signal(fd);
  expect(vm.cpu.take()).toEqual([]);
  vm.eventfds.take(fd.index);
  expect(vm.irqfdRefused(fd, GSI)).toBeNull();
  vm.signal(fd);
  expect(vm.cpu.take()).toEqual([SPI]);
});

it("T11: an event of gsi 3000 goes nowhere", () => {
  const vm = new IrqVm("v3", { nrIrqs: 96 });
  const fd = vm.eventfd();
  expect(vm.irqfdRefused(fd, 3000)).toBeNull();
  vm.signal(fd);
  expect(vm.cpu.iar()).toBe(SPURIOUS);
  expect(vm.dist.spis.filter((irq) => irq.pending)).toEqual([]);
});

it("T12: a count from before injects once, and goes when the irqfd goes", () => {
  const vm = new IrqVm("v3");
  vm.cpu.claim(SPI);
  const [fd, resample] = [vm.eventfd(3n), vm.eventfd()];
  vm.irqfd(fd, GSI, RESAMPLE, resample);
  expect(vm.irq(SPI).lineLevel).toBe(true);
  expect(vm.count(fd)).toBe(3);
  // Once: the EOI ends it.
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(vm.count(resample)).toBe(1);
  expect(vm.count(fd)).toBe(3);
  vm.irqfd(fd, GSI, DEASSIGN);
  expect(vm.count(fd)).toBe(0);
  expect(vm.irq(SPI).lineLevel).toBe(false);
});

it("T12: the line that it raised falls with it", () => {
  const vm = new IrqVm("v3");
  vm.cpu.claim(SPI);
  const fd = vm.eventfd(3n);
  vm.irqfd(fd, GSI, RESAMPLE, vm.eventfd());
  expect(vm.irq(SPI).lineLevel).toBe(true);
  vm.irqfd(fd, GSI, DEASSIGN);
  expect(vm.irq(SPI).lineLevel).toBe(false);
  expect(vm.cpu.take()).toEqual([]);
});

twice(
  "T13",
  "three events before the worker runs are one interrupt",
  (_on, setting) => {
    const vm = new IrqVm("v3", { setting: setting ?? "irq.irqfdFastPath=off" });
    vm.cpu.claim(SPI, "edge");
    const fd = vm.eventfd();
    vm.irqfd(fd, GSI);
    for (const n of [1n, 1n, 7n]) vm.signal(fd, n);
    expect(vm.irq(SPI).pendingLatch).toBe(false);
    expect(vm.count(fd)).toBe(0);
    expect(vm.cpu.take()).toEqual([SPI]);
    expect(vm.cpu.take()).toEqual([]);
  },
  { bug: "irq.irqfdFastPath=on" },
);

it("T14: a closed eventfd is detached, and its resamplefd with it", () => {
  const vm = new IrqVm("v3");
  vm.cpu.claim(SPI);
  const gone = vm.resampler(GSI);
  vm.eventfds.close(gone.trigger.index);
  const next = vm.resampler(GSI);
  expect(vm.irqfdRefused(gone.trigger, GSI)).toBe("EBADF");
  vm.signal(next.trigger);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect([vm.count(gone.resample), vm.count(next.resample)]).toEqual([0, 1]);
});

it("T15: what is written after the de-assignment comes with the next assignment, once", () => {
  const vm = new IrqVm("v3");
  vm.cpu.claim(SPI, "edge");
  const fd = vm.eventfd();
  vm.irqfd(fd, GSI);
  vm.irqfd(fd, GSI, DEASSIGN);
  vm.signal(fd, 2n);
  expect(vm.cpu.take()).toEqual([]);
  vm.irqfd(fd, GSI);
  expect(vm.cpu.take()).toEqual([SPI]);
  expect(vm.cpu.take()).toEqual([]);
});
