// Owns: an assigned device and VFIO's handling of its interrupt, with an irqfd and without; the
// restart of message 003 with it. Test process.
import { expect, it } from "vitest";
import type { EventfdCounters } from "../../../src/base/eventfd-counters.js";
import { traceMask } from "../../../src/base/trace.table.js";
import { IrqfdWorld } from "../../support/irqfd-world.js";

const PIN = 8;
const INTID = 40;
const BASE = 0xa00_0000;
const CLEAR = 4;

function assign(world: IrqfdWorld, wires: { trigger: number; unmask: number }, isHigh = false) {
  const [trigger, unmask] = [wires.trigger, wires.unmask].map((index) => ({
    index,
    isEventfd: true,
  }));
  const args = { base: BigInt(BASE), trigger: trigger!, unmask: unmask!, isHigh };
  return world.vm.call("assignDevice", { ...args, drain: true, found: null });
}

function setUp() {
  const world = new IrqfdWorld();
  const wires = { trigger: world.fd(), unmask: world.fd() };
  const device = () => world.vm.call("listAssignedDevices", {})[0]!;
  const store = (offset: number) => world.kvm.passthrough?.(BASE + offset, 4, new Uint8Array(4));
  return { world, wires, device, store };
}

it("is masked with each interrupt, and fires again when unmasked while its line is high", () => {
  const { world, wires, device, store } = setUp();
  assign(world, wires);
  world.spi(PIN);
  world.resample(wires.trigger, PIN, wires.unmask);
  world.vm.call("raiseAssignedDevice", { id: 0, drain: true });
  expect(device()).toMatchObject({ isHigh: true, isMasked: true, interrupts: 1, unmasks: 0 });
  expect([world.take(), device().interrupts]).toEqual([INTID, 2]);
  expect(world.kvm.passthrough?.(BASE, 4, null)).toEqual(Uint8Array.of(1, 0, 0, 0));
  expect(store(CLEAR)).toEqual(new Uint8Array(0));
  expect([world.take(), world.take()]).toEqual([INTID, null]);
  expect(device()).toMatchObject({ isHigh: false, isMasked: false, interrupts: 2, unmasks: 2 });
  expect(world.kvm.passthrough?.(BASE + 16, 4, null)).toBeNull();
});

it("its interrupts are in the trace of the VM, between those of KVM", () => {
  const { world, wires } = setUp();
  assign(world, wires);
  world.spi(PIN);
  world.resample(wires.trigger, PIN, wires.unmask);
  world.vm.call("startTrace", { categories: traceMask(["irq", "vfio"]) });
  world.vm.call("raiseAssignedDevice", { id: 0, drain: true });
  world.take();
  const file = JSON.parse(Buffer.from(world.vm.call("readTrace", {})).toString());
  const rows = (file.traceEvents as { name: string; ph: string; args: { level?: number } }[])
    .filter(({ ph }) => ph === "i")
    .map(({ name, args }) => [name, args.level]);
  const fired = [
    ["vfio_automasked_irq_handler", undefined],
    ["kvm_set_irq", 1],
    ["vgic_update_irq_pending", 1],
  ];
  expect(rows).toEqual([
    ...fired,
    ["kvm_ack_irq", undefined],
    ["kvm_set_irq", 0],
    ["vgic_update_irq_pending", 0],
    ["vfio_platform_unmask", undefined],
    // Nobody has lowered its line.
    ...fired,
  ]);
});

it("an unmask eventfd has one waiter; a released device keeps its line", () => {
  const { world, wires, device } = setUp();
  assign(world, wires, true);
  expect(world.eventfds.peek(wires.trigger)).toBe(1n);
  const second = { trigger: world.fd(), unmask: wires.unmask };
  expect(() => assign(world, second)).toThrow(/waiter/);
  expect(device()).toMatchObject({ isHigh: true, isMasked: true });
  const left = world.vm.call("releaseDevice", { id: 0, drain: true });
  expect(left).toMatchObject({ isHigh: true, isMasked: true });
  expect(() => assign(world, second)).not.toThrow();
});

/** The first VM has died before its EOI; the second one is set up with the same device. */
function restarted(isLevel: boolean, isKept = false) {
  const first = setUp();
  assign(first.world, first.wires);
  first.world.spi(PIN);
  first.world.resample(first.wires.trigger, PIN, first.wires.unmask);
  first.world.vm.call("raiseAssignedDevice", { id: 0, drain: true });
  first.world.guest((it) => it.read("ICC_IAR1_EL1"));
  const { isHigh } = first.device();
  const eventfds: EventfdCounters = first.world.eventfds;
  first.world.vm.instance.close();
  expect(eventfds.peek(first.wires.trigger)).toBe(0n);
  const world = new IrqfdWorld({ eventfds });
  world.kvm.policies["irq.spiDefaultLevelForIrqfd"] = isKept;
  const irq = world.spi(PIN, isLevel ? "level" : "edge");
  irq.enabled = false;
  assign(world, first.wires, isHigh);
  world.resample(first.wires.trigger, PIN, first.wires.unmask);
  const device = () => world.vm.call("listAssignedDevices", {})[0]!;
  const boot = (clears: boolean) => {
    if (clears) irq.pendingLatch = false;
    irq.config = "level";
    irq.enabled = true;
    world.vgic.delivery.queue(irq);
  };
  return { world, device, boot };
}

it.each([
  ["A", true, true, false, true],
  ["B", false, false, false, true],
  ["C", false, true, false, false],
  ["C with its level kept", false, true, true, true],
])("the restart of message 003, variant %s", (_name, isLevel, clears, isKept, recovers) => {
  const { world, device, boot } = restarted(isLevel, isKept);
  expect(device()).toMatchObject({ isHigh: true, isMasked: true, unmasks: 0 });
  boot(clears);
  expect(device().unmasks).toBe(0);
  expect(world.take()).toBe(recovers ? INTID : null);
  expect(device().unmasks).toBe(recovers ? 1 : 0);
});
