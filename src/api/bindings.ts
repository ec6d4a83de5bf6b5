// Owns: ids of our own for the ioeventfds and irqfds that a VM has; KVM knows them by their members
// alone. Which there are the VM says: it may have come with them from a snapshot, another host or
// an input log. Lives as long as the VM's thread. HTTP thread.
import { newId } from "../base/ids.js";

/** KVM_IOEVENTFD_FLAG_*. @source linux/kvm.h */
export const IOEVENTFD_FLAG = { DATAMATCH: 1, PIO: 2, DEASSIGN: 4, VIRTIO_CCW_NOTIFY: 8 } as const;

/** The members that identify an ioeventfd when it is de-assigned. */
export interface IoeventfdKey {
  /** null: its descriptor is closed, or it is an input log's. */
  readonly eventfd: string | null;
  readonly addr: bigint;
  readonly len: number;
  readonly datamatch: bigint;
  /** Without KVM_IOEVENTFD_FLAG_DEASSIGN. */
  readonly flags: number;
}

export interface Ioeventfd extends IoeventfdKey {
  readonly id: string;
}

export interface Irqfd {
  readonly id: string;
  /** Its number in the VM. */
  readonly number: number;
  readonly eventfd: string | null;
  readonly gsi: number;
  readonly flags: number;
  readonly resampleEventfd: string | null;
}

/** No two of a VM are alike in these: KVM refuses the second one. */
function placeOf({ addr, len, datamatch, flags }: IoeventfdKey): string {
  const { DATAMATCH, PIO, VIRTIO_CCW_NOTIFY } = IOEVENTFD_FLAG;
  const bus = (flags & PIO) !== 0 ? PIO : flags & VIRTIO_CCW_NOTIFY;
  return [bus, addr, len, (flags & DATAMATCH) === 0 ? "any" : datamatch].join(":");
}

export class Bindings {
  /** By place. */
  readonly #ioeventfds = new Map<string, Map<string, Ioeventfd>>();
  /** By number. */
  readonly #irqfds = new Map<string, Map<number, Irqfd>>();

  addIoeventfd(vm: string, key: IoeventfdKey): Ioeventfd {
    const entry = { id: newId("ioe"), ...key };
    const entries = this.#ioeventfds.get(vm) ?? new Map<string, Ioeventfd>();
    this.#ioeventfds.set(vm, entries.set(placeOf(key), entry));
    return entry;
  }

  /** Entries of what the VM says it has: those assigned here in that order, then the others. */
  ioeventfds(vm: string, present: readonly IoeventfdKey[]): readonly Ioeventfd[] {
    const known = this.#ioeventfds.get(vm) ?? new Map<string, Ioeventfd>();
    const there = new Map(present.map((key) => [placeOf(key), key]));
    const entries = new Map([...known].filter(([place]) => there.has(place)));
    for (const [place, key] of there) {
      if (!entries.has(place)) entries.set(place, { id: newId("ioe"), ...key });
    }
    this.#ioeventfds.set(vm, entries);
    return [...entries.values()];
  }

  /** KVM has de-assigned it. */
  removeIoeventfd(vm: string, key: IoeventfdKey): void {
    this.#ioeventfds.get(vm)?.delete(placeOf(key));
  }

  addIrqfd(vm: string, irqfd: Omit<Irqfd, "id">): Irqfd {
    const entry = { id: newId("irq"), ...irqfd };
    const entries = this.#irqfds.get(vm) ?? new Map<number, Irqfd>();
    this.#irqfds.set(vm, entries.set(entry.number, entry));
    return entry;
  }

  /** Entries of what the VM says it has; one that was not assigned here gets its id now. */
  irqfds(vm: string, present: readonly Omit<Irqfd, "id">[]): readonly Irqfd[] {
    const known = this.#irqfds.get(vm) ?? new Map<number, Irqfd>();
    const entries = present.map((one) => known.get(one.number) ?? { id: newId("irq"), ...one });
    this.#irqfds.set(vm, new Map(entries.map((entry) => [entry.number, entry])));
    return entries;
  }

  /** The VM's thread has ended. */
  forget(vm: string): void {
    this.#ioeventfds.delete(vm);
    this.#irqfds.delete(vm);
  }
}
