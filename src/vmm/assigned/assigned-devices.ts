// Owns: devices of the host that are assigned to the VM, and what VFIO does with their interrupts:
// a stand-in for vfio-platform with a device whose line is a level. VM thread.
//
//   line high ─▶ host interrupt ─▶ masked, trigger eventfd ─▶ irqfd ─▶ guest
//   line low  ◀─ driver writes CLEAR                                    │ EOI
//   unmasked, fires again if high ◀──────── resamplefd ◀────────────────┘
//
// Its registers are mapped into the guest: a store to them is no exit.
// @source drivers/vfio/platform/vfio_platform_irq.c (vfio_automasked_irq_handler,
//   vfio_platform_unmask) by behaviour; interrupts.md 3.9
import { KvmError, ServiceError } from "../../base/errors.js";
import type { EventfdHook } from "../../base/eventfd-counters.js";
import type { Saved } from "../../base/saved.js";
import type { TraceEventName } from "../../base/trace.table.js";
import type { Kvm } from "../../kvm/index.js";
import type { CommandArgs, EventfdRef } from "../commands.js";
import type { AssignedDeviceView } from "./assigned-commands.js";

const IOCTL = "VFIO_DEVICE_SET_IRQS";
const DEVICES_MAX = 16;
/** Registers, 32 bits each: the line; any store lowers it; any store raises it. */
const STATUS = 0;
const CLEAR = 4;
const RAISE = 8;
const FRAME_BYTES = 16;

interface Device {
  readonly id: number;
  readonly base: number;
  readonly trigger: number;
  readonly unmask: number;
  readonly hook: EventfdHook;
  isHigh: boolean;
  isMasked: boolean;
  interrupts: number;
  unmasks: number;
}

type Plain = Omit<Device, "hook">;

export class AssignedDevices {
  readonly #kvm: Kvm;
  #devices: Device[] = [];
  #nextId = 0;

  constructor(kvm: Kvm) {
    this.#kvm = kvm;
    kvm.vm.passthrough = (ipa, length, store) => this.#access(ipa, length, store);
    kvm.vm.onClose.push(() => this.#releaseAll());
  }

  list(): readonly AssignedDeviceView[] {
    return this.#devices.map(view);
  }

  /** @throws KvmError EBADF, EINVAL, EBUSY: somebody waits on the unmask eventfd already */
  assign(args: CommandArgs<"assignDevice">): AssignedDeviceView {
    if (this.#devices.length >= DEVICES_MAX) {
      throw new ServiceError("validation", `A VM has at most ${DEVICES_MAX} assigned devices.`);
    }
    const plain = {
      id: this.#nextId,
      base: Number(args.base),
      trigger: eventfdOf(args.trigger),
      unmask: eventfdOf(args.unmask),
      isHigh: args.isHigh,
      isMasked: false,
      interrupts: 0,
      unmasks: 0,
    };
    const device = this.#attach(plain, false);
    if (device === null) throw new KvmError("EBUSY", IOCTL, "the unmask eventfd has a waiter");
    this.#nextId++;
    this.#devices.push(device);
    // VFIO enables the host's interrupt, which fires at once if the line is high.
    this.#sample(device);
    return view(device);
  }

  raise(id: number): AssignedDeviceView {
    const device = this.#of(id);
    this.#setLine(device, true);
    return view(device);
  }

  release(id: number): AssignedDeviceView {
    const device = this.#of(id);
    this.#devices = this.#devices.filter((other) => other !== device);
    this.#detach(device);
    return view(device);
  }

  #of(id: number): Device {
    const device = this.#devices.find((known) => known.id === id);
    if (device !== undefined) return device;
    throw new ServiceError("device-not-found", `The VM has no assigned device ${id}.`);
  }

  /** @returns null: the unmask eventfd is somebody else's */
  #attach(plain: Plain, mayQueue: boolean): Device | null {
    const { eventfds } = this.#kvm.vm;
    const hook = { wake: () => this.#unmask(device), hungUp: () => {} };
    const device: Device = { ...plain, hook };
    eventfds.get(device.trigger);
    eventfds.get(device.unmask);
    const found = eventfds.hook(device.unmask, hook, mayQueue);
    if (!found.startsWith("busy") || mayQueue) return device;
    eventfds.put(device.trigger);
    eventfds.put(device.unmask);
    return null;
  }

  #detach(device: Device): void {
    const { eventfds } = this.#kvm.vm;
    eventfds.unhook(device.unmask, device.hook);
    eventfds.put(device.trigger);
    eventfds.put(device.unmask);
  }

  #releaseAll(): void {
    for (const device of this.#devices) this.#detach(device);
    this.#devices = [];
  }

  #setLine(device: Device, isHigh: boolean): void {
    device.isHigh = isHigh;
    this.#sample(device);
  }

  /** vfio_automasked_irq_handler. */
  #sample(device: Device): void {
    if (!device.isHigh || device.isMasked) return;
    device.isMasked = true;
    device.interrupts++;
    this.#trace("vfio_automasked_irq_handler", device);
    this.#kvm.vm.eventfds.signal(device.trigger);
  }

  #unmask(device: Device): void {
    if (!device.isMasked) return;
    device.isMasked = false;
    device.unmasks++;
    this.#trace("vfio_platform_unmask", device);
    this.#sample(device);
  }

  #trace(name: TraceEventName, { id }: Device): void {
    const { trace } = this.#kvm.vm;
    if (trace.isOn) trace.add(name, null, { device: id });
  }

  /** @returns bytes of a load, empty for a store; null: the address is no device's */
  #access(ipa: number, length: number, store: Uint8Array | null): Uint8Array | null {
    const device = this.#devices.find(({ base }) => ipa >= base && ipa < base + FRAME_BYTES);
    if (device === undefined) return null;
    const offset = ipa - device.base;
    if (store === null) {
      const bytes = new Uint8Array(length);
      if (offset === STATUS && device.isHigh) bytes[0] = 1;
      return bytes;
    }
    if (offset === CLEAR) this.#setLine(device, false);
    else if (offset === RAISE) this.#setLine(device, true);
    return new Uint8Array(0);
  }

  save(): Saved {
    const devices = this.#devices.map(({ hook: _, ...plain }) => plain);
    return { kind: "assigned-devices", version: 1, data: { devices, nextId: this.#nextId } };
  }

  load(saved: Saved): void {
    const data = saved.data as { devices: Plain[]; nextId: number };
    this.#releaseAll();
    this.#devices = data.devices.flatMap((plain) => this.#attach(plain, true) ?? []);
    this.#nextId = data.nextId;
  }
}

function eventfdOf({ index, isEventfd }: EventfdRef): number {
  if (!isEventfd) throw new KvmError("EINVAL", IOCTL, "that resource is not an eventfd");
  if (index < 0) throw new KvmError("EBADF", IOCTL, "no open eventfd has that id");
  return index;
}

function view(device: Device): AssignedDeviceView {
  const { id, base, isHigh, isMasked, interrupts, unmasks } = device;
  return { id, base: BigInt(base), isHigh, isMasked, interrupts, unmasks };
}
