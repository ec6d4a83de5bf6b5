// Owns: which ioeventfds and irqfds were assigned to each VM through this face, under ids of our
// own; KVM itself keeps no list that userspace could read. Lives as long as the VM's thread.
// HTTP thread.
import { newId } from "../base/ids.js";

/** The five members that identify an ioeventfd when it is de-assigned. */
export interface IoeventfdKey {
  readonly eventfd: string;
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

function isSame(a: IoeventfdKey, b: IoeventfdKey): boolean {
  return (
    a.eventfd === b.eventfd &&
    a.addr === b.addr &&
    a.len === b.len &&
    a.datamatch === b.datamatch &&
    a.flags === b.flags
  );
}

export class Bindings {
  readonly #byVm = new Map<string, Map<string, Ioeventfd>>();
  readonly #irqfds = new Map<string, Map<number, Irqfd>>();

  add(vm: string, key: IoeventfdKey): Ioeventfd {
    const entry = { id: newId("ioe"), ...key };
    const entries = this.#byVm.get(vm) ?? new Map<string, Ioeventfd>();
    this.#byVm.set(vm, entries.set(entry.id, entry));
    return entry;
  }

  /** In order of assignment. */
  list(vm: string): readonly Ioeventfd[] {
    return [...(this.#byVm.get(vm)?.values() ?? [])];
  }

  find(vm: string, id: string): Ioeventfd | null {
    return this.#byVm.get(vm)?.get(id) ?? null;
  }

  /** Forgets the first entry with these members: KVM has de-assigned it. */
  remove(vm: string, key: IoeventfdKey): void {
    const entry = this.list(vm).find((known) => isSame(known, key));
    if (entry !== undefined) this.#byVm.get(vm)?.delete(entry.id);
  }

  addIrqfd(vm: string, irqfd: Omit<Irqfd, "id">): Irqfd {
    const entry = { id: newId("irq"), ...irqfd };
    const entries = this.#irqfds.get(vm) ?? new Map<number, Irqfd>();
    this.#irqfds.set(vm, entries.set(entry.number, entry));
    return entry;
  }

  /** Entries of what the VM says it has; what a replayed log assigned gets one now. */
  irqfds(
    vm: string,
    present: readonly { readonly id: number; readonly gsi: number; readonly flags: number }[],
  ): readonly Irqfd[] {
    const known = this.#irqfds.get(vm) ?? new Map<number, Irqfd>();
    const entries = present.map(({ id: number, gsi, flags }) => {
      const none = { number, eventfd: null, gsi, flags, resampleEventfd: null };
      return known.get(number) ?? { id: newId("irq"), ...none };
    });
    this.#irqfds.set(vm, new Map(entries.map((entry) => [entry.number, entry])));
    return entries;
  }

  /** The VM's thread has ended. */
  forget(vm: string): void {
    this.#byVm.delete(vm);
    this.#irqfds.delete(vm);
  }
}
