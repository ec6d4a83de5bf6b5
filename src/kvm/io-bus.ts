// Owns: the MMIO and PIO buses of a VM: ioeventfds and coalesced zones, in address order.
// VM thread.
// @source virt/kvm/eventfd.c, coalesced_mmio.c, kvm_main.c (kvm_io_bus_*) by behaviour;
//   oracle README 4.6
import { KvmError } from "../base/errors.js";
import type { EventfdFound, EventfdHook } from "../base/eventfd-counters.js";
import { U64_MAX } from "../base/hex.js";
import type { Saved } from "../base/saved.js";
import { KVM_IOEVENTFD, NR_IOBUS_DEVS } from "./uapi/flags.js";

/** The counters of ioeventfds and irqfds; process-wide (DESIGN 11). */
export interface EventfdPort {
  /** Whether the descriptor is open; a closed one can't be named any more. */
  isOpen(index: number): boolean;
  get(index: number): boolean;
  put(index: number): void;
  peek(index: number): bigint;
  take(index: number): bigint;
  /** What everybody else knows it by; null: nobody does. */
  outside(index: number): number | null;
  signal(index: number): void;
  hook(index: number, hook: EventfdHook, mayQueue: boolean): EventfdFound;
  /** @param leaves what was counted stays in the counter */
  unhook(index: number, hook: EventfdHook, leaves?: boolean): void;
  /** A signal from outside of the VM. @returns false: no hook is there any more */
  wake(index: number): boolean;
  hangUp(index: number): void;
}

export interface EventfdArg {
  readonly index: number;
  readonly isEventfd: boolean;
}

/** KVM_MMIO_BUS, KVM_PIO_BUS, and the bus of s390's virtio, which no arm64 guest writes. */
type BusName = "mmio" | "pio" | "virtio-ccw";

interface Ioeventfd {
  readonly kind: "ioeventfd";
  readonly bus: BusName;
  readonly addr: bigint;
  readonly length: number;
  readonly wildcard: boolean;
  readonly datamatch: bigint;
  readonly eventfd: number;
}

/** An ioeventfd as KVM_IOEVENTFD names it when it de-assigns. */
export interface IoeventfdView {
  readonly eventfd: number;
  readonly addr: bigint;
  readonly len: number;
  /** 0 without DATAMATCH. */
  readonly datamatch: bigint;
  readonly flags: number;
}

export interface CoalescedZone {
  readonly kind: "zone";
  readonly bus: BusName;
  readonly addr: bigint;
  readonly length: number;
}

export interface CoalescedRecord {
  readonly physAddr: bigint;
  readonly len: number;
  readonly pio: number;
  readonly data: Uint8Array;
}

type Device = Ioeventfd | CoalescedZone;

/** Header of struct kvm_coalesced_mmio_ring and bytes of one entry. */
const COALESCED_HEADER_BYTES = 8;
const COALESCED_ENTRY_BYTES = 24;

/**
 * Looks an eventfd argument up as eventfd_ctx_fdget does.
 * @throws KvmError EBADF no such descriptor; EINVAL open, but no eventfd
 */
export function resolveEventfd(port: EventfdPort, arg: EventfdArg, ioctl: string): number {
  if (arg.index < 0 || (arg.isEventfd && !port.isOpen(arg.index))) {
    throw new KvmError("EBADF", ioctl, "no open eventfd has that id");
  }
  if (!arg.isEventfd) throw new KvmError("EINVAL", ioctl, "that resource is not an eventfd");
  return arg.index;
}

export class IoBus {
  readonly #eventfds: EventfdPort;
  /** Sorted by address; equal addresses in the order of registration. */
  #devices: Device[] = [];
  readonly #ring: CoalescedRecord[] = [];
  readonly #ringMax: number;

  constructor(eventfds: EventfdPort, pageBytes: number) {
    this.#eventfds = eventfds;
    const entries = Math.floor((pageBytes - COALESCED_HEADER_BYTES) / COALESCED_ENTRY_BYTES);
    // One entry stays free, so that "full" and "empty" differ.
    this.#ringMax = entries - 1;
  }

  /**
   * A guest store that no memory takes.
   * @returns whether a device took it
   */
  write(addr: bigint, data: Uint8Array): boolean {
    let value = 0n;
    for (let i = data.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(data[i]!);
    for (const device of this.#devices) {
      if (device.bus !== "mmio" || device.addr > addr) continue;
      if (device.kind === "ioeventfd") {
        if (!matches(device, addr, data.length, value)) continue;
        this.#eventfds.signal(device.eventfd);
        return true;
      }
      const end = device.addr + BigInt(device.length);
      if (addr + BigInt(data.length) > end || this.#ring.length >= this.#ringMax) continue;
      this.#ring.push({ physAddr: addr, len: data.length, pio: 0, data: data.slice() });
      return true;
    }
    return false;
  }

  ioeventfd(args: {
    datamatch: bigint;
    addr: bigint;
    len: number;
    fd: EventfdArg;
    flags: number;
  }): void {
    if ((args.flags & KVM_IOEVENTFD.DEASSIGN) !== 0) this.#deassign(args);
    else this.#assign(args);
  }

  #assign(args: Parameters<IoBus["ioeventfd"]>[0]): void {
    const ioctl = "KVM_IOEVENTFD";
    const { addr, len, flags, datamatch } = args;
    const einval = (why: string) => new KvmError("EINVAL", ioctl, why);
    if (![0, 1, 2, 4, 8].includes(len)) throw einval("len must be 0, 1, 2, 4 or 8");
    if (addr + BigInt(len) > U64_MAX) throw einval("addr + len wraps around");
    if ((flags & ~KVM_IOEVENTFD.VALID_MASK) !== 0) throw einval("flags holds an unknown bit");
    if (len === 0 && (flags & KVM_IOEVENTFD.DATAMATCH) !== 0) {
      throw einval("len 0 matches any store: it does not go with DATAMATCH");
    }
    const eventfd = resolveEventfd(this.#eventfds, args.fd, ioctl);
    const device: Ioeventfd = {
      kind: "ioeventfd",
      bus: busOf(flags),
      addr,
      length: len,
      wildcard: (flags & KVM_IOEVENTFD.DATAMATCH) === 0,
      datamatch,
      eventfd,
    };
    if (this.#devices.some((other) => other.kind === "ioeventfd" && collides(other, device))) {
      throw new KvmError("EEXIST", ioctl, "another ioeventfd already matches these stores");
    }
    this.#checkRoom(device.bus, ioctl);
    this.#eventfds.get(eventfd);
    this.#insert(device);
  }

  /** Ioeventfds don't count themselves, but find no room on a bus full of others either. */
  #checkRoom(bus: BusName, ioctl: string): void {
    const others = this.#devices.filter((d) => d.kind !== "ioeventfd" && d.bus === bus);
    if (others.length >= NR_IOBUS_DEVS) {
      throw new KvmError("ENOSPC", ioctl, `a bus holds at most ${NR_IOBUS_DEVS} devices`);
    }
  }

  #deassign(args: Parameters<IoBus["ioeventfd"]>[0]): void {
    const ioctl = "KVM_IOEVENTFD";
    const eventfd = resolveEventfd(this.#eventfds, args.fd, ioctl);
    const bus = busOf(args.flags);
    const wildcard = (args.flags & KVM_IOEVENTFD.DATAMATCH) === 0;
    const at = this.#devices.findIndex(
      (d) =>
        d.kind === "ioeventfd" &&
        d.bus === bus &&
        d.eventfd === eventfd &&
        d.addr === args.addr &&
        d.length === args.len &&
        d.wildcard === wildcard &&
        (wildcard || d.datamatch === args.datamatch),
    );
    if (at < 0) throw new KvmError("ENOENT", ioctl, "no ioeventfd has exactly these members");
    this.#devices.splice(at, 1);
    this.#eventfds.put(eventfd);
  }

  #insert(device: Device): void {
    let at = this.#devices.findIndex((other) => other.addr > device.addr);
    if (at < 0) at = this.#devices.length;
    this.#devices.splice(at, 0, device);
  }

  registerZone(addr: bigint, size: number, pio: number): void {
    const ioctl = "KVM_REGISTER_COALESCED_MMIO";
    if (pio > 1) throw new KvmError("EINVAL", ioctl, "pio must be 0 or 1");
    const bus = pio === 1 ? "pio" : "mmio";
    this.#checkRoom(bus, ioctl);
    this.#insert({ kind: "zone", bus, addr, length: size });
  }

  /** Removes every zone that contains the given range; none is no error. */
  unregisterZone(addr: bigint, size: number, pio: number): void {
    if (pio > 1) {
      throw new KvmError("EINVAL", "KVM_UNREGISTER_COALESCED_MMIO", "pio must be 0 or 1");
    }
    const bus = pio === 1 ? "pio" : "mmio";
    const end = addr + BigInt(size);
    this.#devices = this.#devices.filter(
      (d) =>
        d.kind !== "zone" ||
        d.bus !== bus ||
        addr < d.addr ||
        end > d.addr + BigInt(d.length) ||
        end > U64_MAX,
    );
  }

  /** By address; KVM itself tells nobody. */
  ioeventfds(): readonly IoeventfdView[] {
    return this.#devices
      .filter((d): d is Ioeventfd => d.kind === "ioeventfd")
      .map(({ eventfd, addr, length, wildcard, datamatch, bus }) => ({
        eventfd,
        addr,
        len: length,
        datamatch: wildcard ? 0n : datamatch,
        flags: (wildcard ? 0 : KVM_IOEVENTFD.DATAMATCH) | BUS_FLAGS[bus],
      }));
  }

  zones(): readonly CoalescedZone[] {
    return this.#devices.filter((d): d is CoalescedZone => d.kind === "zone");
  }

  /** Takes everything that was queued. */
  drain(): CoalescedRecord[] {
    return this.#ring.splice(0);
  }

  /** Gives up the references to eventfds. */
  close(): void {
    for (const d of this.#devices) if (d.kind === "ioeventfd") this.#eventfds.put(d.eventfd);
    this.#devices = [];
  }

  save(): Saved {
    const data = { devices: this.#devices.map((d) => ({ ...d })), ring: [...this.#ring] };
    return { kind: "io-bus", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as { devices: Device[]; ring: CoalescedRecord[] };
    this.close();
    this.#devices = data.devices.map((d) => ({ ...d }));
    for (const d of this.#devices) if (d.kind === "ioeventfd") this.#eventfds.get(d.eventfd);
    this.#ring.splice(0, this.#ring.length, ...data.ring);
  }
}

const BUS_FLAGS: Readonly<Record<BusName, number>> = {
  mmio: 0,
  pio: KVM_IOEVENTFD.PIO,
  "virtio-ccw": KVM_IOEVENTFD.VIRTIO_CCW_NOTIFY,
};

function busOf(flags: number): BusName {
  if ((flags & KVM_IOEVENTFD.PIO) !== 0) return "pio";
  return (flags & KVM_IOEVENTFD.VIRTIO_CCW_NOTIFY) !== 0 ? "virtio-ccw" : "mmio";
}

function matches(device: Ioeventfd, addr: bigint, length: number, value: bigint): boolean {
  if (device.addr !== addr) return false;
  if (device.length === 0) return true;
  if (device.length !== length) return false;
  return device.wildcard || device.datamatch === value;
}

function collides(a: Ioeventfd, b: Ioeventfd): boolean {
  if (a.bus !== b.bus || a.addr !== b.addr) return false;
  if (a.length === 0 || b.length === 0) return true;
  if (a.length !== b.length) return false;
  return a.wildcard || b.wildcard || a.datamatch === b.datamatch;
}
