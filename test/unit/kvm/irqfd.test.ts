// Owns: irqfds: requests and their refusals, injection by either path, detaching; by the CPU
// interface's own registers. Test process.
import { describe, expect, it } from "vitest";
import type { Msi } from "../../../src/kvm/vgic/msi-port.js";
import { refusal } from "../../support/inline.js";
import { IrqfdWorld, RESAMPLE } from "../../support/irqfd-world.js";

const PIN = 8;
const INTID = 40;
const NO_EVENTFD = { index: 0, isEventfd: false };

function refusedWith(world: IrqfdWorld, fd: number, gsi: number, flags = 0, resamplefd = -1) {
  return world.vm.refused("irqfd", world.args(fd, gsi, flags, resamplefd));
}

describe("requests", () => {
  it("unknown flags before all else, then the controller, then the descriptors", () => {
    const world = new IrqfdWorld({}, false);
    const fd = world.fd();
    expect(refusedWith(world, -1, 5, 4)).toBe("EINVAL");
    expect(refusedWith(world, fd, 5, 5)).toBe("EINVAL");
    expect(refusedWith(world, -1, 5)).toBe("EAGAIN");
    expect(refusedWith(world, fd, 5, 1)).toBeNull();
    world.init();
    expect(refusedWith(world, -1, 5)).toBe("EBADF");
    const file = { ...world.args(fd, 5), fd: NO_EVENTFD };
    expect(world.vm.refused("irqfd", file)).toBe("EINVAL");
    expect(refusedWith(world, fd, 5, RESAMPLE, -1)).toBe("EBADF");
    const other = { ...world.args(fd, 5, RESAMPLE), resamplefd: NO_EVENTFD };
    expect(world.vm.refused("irqfd", other)).toBe("EINVAL");
    expect(world.kvm.ackNotifiers.has(0, 5)).toBe(false);
    expect(refusedWith(world, fd, 5)).toBeNull();
  });

  it("an eventfd serves one irqfd, in any VM; of old, one in each VM", () => {
    const world = new IrqfdWorld();
    const fd = world.fd();
    world.assign(fd, 5);
    expect(refusedWith(world, fd, 5)).toBe("EBUSY");
    expect(refusedWith(world, fd, 6)).toBe("EBUSY");
    const other = new IrqfdWorld({ eventfds: world.eventfds });
    expect(refusedWith(other, fd, 5)).toBe("EBUSY");
    other.kvm.policies["irq.era"] = "pre617";
    expect(refusedWith(other, fd, 5)).toBeNull();
    expect(refusedWith(other, fd, 6)).toBe("EBUSY");
    // The one that came first takes what is signalled, until it goes.
    world.spi(5);
    other.spi(5);
    world.write(fd);
    expect([world.spi(5).lineLevel, other.spi(5).lineLevel]).toEqual([true, false]);
    world.deassign(fd, 5);
    other.write(fd);
    expect(other.spi(5).lineLevel).toBe(true);
  });

  it("EBUSY leaves no resampler behind, and the line low", () => {
    const world = new IrqfdWorld();
    const fd = world.fd();
    world.assign(fd, 5);
    world.kvm.irqfds.setIrq(PIN, true);
    expect(world.spi(PIN, "edge").pendingLatch).toBe(true);
    const irq = world.spi(9);
    world.kvm.irqfds.setIrq(9, true);
    expect(refusedWith(world, fd, 9, RESAMPLE, world.fd())).toBe("EBUSY");
    expect(world.kvm.ackNotifiers.has(0, 9)).toBe(false);
    expect(irq.lineLevel).toBe(false);
  });

  it("deassigns by eventfd and gsi together, whatever else is given", () => {
    const world = new IrqfdWorld();
    const fd = world.fd();
    world.assign(fd, 5);
    world.deassign(fd, 6);
    expect(world.vm.call("listIrqfds", {})).toHaveLength(1);
    expect(refusedWith(world, fd, 5, 3, -1)).toBeNull();
    expect(world.vm.call("listIrqfds", {})).toEqual([]);
    expect(refusedWith(world, fd, 5)).toBeNull();
  });

  it("a gsi that leads nowhere is accepted, and a signal is lost", () => {
    const world = new IrqfdWorld();
    const fd = world.fd();
    world.assign(fd, 3000);
    world.write(fd);
    expect(world.eventfds.peek(fd)).toBe(0n);
    expect(world.take()).toBeNull();
  });
});

describe("injection", () => {
  it("an edge is delivered once by either path", () => {
    for (const path of ["on", "off"] as const) {
      const world = new IrqfdWorld();
      world.kvm.policies["irq.irqfdFastPath"] = path;
      world.spi(PIN, "edge");
      const fd = world.fd();
      world.assign(fd, PIN);
      world.write(fd, 7n);
      expect(world.eventfds.peek(fd)).toBe(0n);
      expect([world.take(), world.take()]).toEqual([INTID, null]);
    }
  });

  it("a level stays high after the fast path, and is gone after the worker's pulse", () => {
    const world = new IrqfdWorld();
    world.spi(PIN);
    const fd = world.fd();
    world.assign(fd, PIN);
    world.write(fd);
    expect([world.take(), world.take(), world.take()]).toEqual([INTID, INTID, INTID]);
    world.kvm.irqfds.setIrq(PIN, false);
    expect(world.take()).toBeNull();
    world.kvm.policies["irq.irqfdFastPath"] = "off";
    world.write(fd);
    expect(world.take()).toBeNull();
  });

  it("what is written while the job waits is one injection", () => {
    const world = new IrqfdWorld();
    world.kvm.policies["irq.irqfdFastPath"] = "off";
    const irq = world.spi(PIN, "edge");
    const fd = world.fd();
    world.assign(fd, PIN);
    for (const value of [1n, 1n, 7n]) world.eventfds.write(fd, value);
    expect([irq.pendingLatch, world.kvm.jobs.length]).toEqual([false, 1]);
    world.kvm.jobs.drain();
    expect([world.take(), world.take()]).toEqual([INTID, null]);
  });

  it("a count from before is injected once, and goes with the deassignment", () => {
    const world = new IrqfdWorld();
    const irq = world.spi(PIN);
    const [fd, resamplefd] = [world.fd(3n), world.fd()];
    const args = world.args(fd, PIN, RESAMPLE, resamplefd);
    world.vm.call("irqfd", { ...args, drain: false });
    expect([irq.lineLevel, world.kvm.jobs.length]).toEqual([false, 1]);
    world.kvm.jobs.drain();
    expect([irq.lineLevel, world.eventfds.peek(fd)]).toEqual([true, 3n]);
    world.deassign(fd, PIN);
    expect([irq.lineLevel, world.eventfds.peek(fd)]).toEqual([false, 0n]);
    // What comes after waits for the next assignment.
    world.write(fd);
    expect(irq.lineLevel).toBe(false);
    world.resample(fd, PIN, resamplefd);
    expect(irq.lineLevel).toBe(true);
  });

  it("a job of one that was deassigned meanwhile does nothing", () => {
    const world = new IrqfdWorld();
    world.kvm.policies["irq.irqfdFastPath"] = "off";
    const irq = world.spi(PIN, "edge");
    const fd = world.fd();
    world.assign(fd, PIN);
    world.eventfds.write(fd, 1n);
    world.deassign(fd, PIN);
    world.kvm.jobs.drain();
    expect(irq.pendingLatch).toBe(false);
  });

  it("an MSI by the translation cache at once, else by a job", () => {
    const world = new IrqfdWorld();
    const seen: string[] = [];
    let isCached = false;
    world.kvm.msi = {
      deliver: ({ data, devid }: Msi) => {
        seen.push(`deliver ${data} ${devid}`);
        isCached = true;
        return 1;
      },
      cached: ({ data }: Msi) => {
        if (isCached) seen.push(`cached ${data}`);
        return isCached;
      },
      forget: () => {},
      access: () => null,
      parts: () => [],
    };
    const msi = { gsi: 9, type: 2, flags: 1, irqchip: 0, pin: 0, addressLo: 64, addressHi: 0 };
    const entries = [{ ...msi, data: 3, devid: 7 }];
    world.vm.call("setGsiRouting", { flags: 0, entries });
    const fd = world.fd();
    world.assign(fd, 9);
    world.eventfds.write(fd, 1n);
    expect(seen).toEqual([]);
    world.kvm.jobs.drain();
    world.eventfds.write(fd, 1n);
    expect(seen).toEqual(["deliver 3 7", "cached 3"]);
  });
});

describe("routing", () => {
  it("a new table is in force for what is assigned already; INIT replaces it", () => {
    const world = new IrqfdWorld({}, false);
    world.routes([0, 5]);
    world.init();
    const fd = world.fd();
    world.assign(fd, 0);
    const [spi0, spi5] = [world.spi(0, "edge"), world.spi(5, "edge")];
    world.write(fd);
    expect([spi0.pendingLatch, spi5.pendingLatch]).toEqual([true, false]);
    world.routes([0, 5]);
    world.write(fd);
    expect(spi5.pendingLatch).toBe(true);
    const before = world.vm.call("getGsiRouting", {});
    const twice = [...before, ...before];
    expect(world.vm.refused("setGsiRouting", { flags: 0, entries: twice })).toBe("EINVAL");
    expect(world.vm.call("getGsiRouting", {})).toEqual(before);
  });

  it("a pin beyond the SPIs drops what is signalled", () => {
    const world = new IrqfdWorld();
    world.routes([1, 900]);
    const fd = world.fd();
    world.assign(fd, 1);
    world.write(fd);
    expect(world.take()).toBeNull();
  });
});

describe("the end", () => {
  it("closing the eventfd detaches by a job", () => {
    const world = new IrqfdWorld();
    const irq = world.spi(PIN);
    const [fd, resamplefd] = [world.fd(), world.fd()];
    world.resample(fd, PIN, resamplefd);
    world.write(fd);
    world.eventfds.close(fd);
    expect([irq.lineLevel, world.kvm.jobs.length]).toEqual([true, 1]);
    expect(world.vm.call("listIrqfds", {})).toEqual([]);
    world.kvm.jobs.drain();
    expect([irq.lineLevel, world.kvm.ackNotifiers.has(0, PIN)]).toEqual([false, false]);
    expect(world.eventfds.live()).toBe(1);
  });

  it("closing the resamplefd's descriptor changes nothing", () => {
    const world = new IrqfdWorld();
    world.spi(PIN);
    const [fd, resamplefd] = [world.fd(), world.fd()];
    world.resample(fd, PIN, resamplefd);
    world.eventfds.close(resamplefd);
    world.write(fd);
    expect(world.take()).toBe(INTID);
    expect(world.eventfds.peek(resamplefd)).toBe(1n);
  });

  it("closing the VM takes the counters and lets go of them", () => {
    const world = new IrqfdWorld();
    const fd = world.fd(2n);
    world.assign(fd, PIN);
    world.vm.instance.close();
    expect(world.eventfds.peek(fd)).toBe(0n);
    expect(refusal(() => new IrqfdWorld({ eventfds: world.eventfds }).assign(fd, 1))).toBeNull();
  });
});

describe("a guest's doorbell", () => {
  it("raises its own SPI without an exit", () => {
    const world = new IrqfdWorld();
    const irq = world.spi(PIN, "edge");
    const fd = world.fd();
    world.assign(fd, PIN);
    const doorbell = { datamatch: 0n, addr: 0x900_0000n, len: 4, flags: 0 };
    world.vm.call("ioeventfd", { ...doorbell, fd: { index: fd, isEventfd: true } });
    expect(world.kvm.bus.write(0x900_0000n, Uint8Array.of(1, 0, 0, 0))).toBe(true);
    expect([irq.pendingLatch, world.eventfds.peek(fd)]).toEqual([true, 0n]);
  });
});
