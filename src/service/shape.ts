// Owns: the parts of one VM in memory, a copy of what the store has. HTTP thread.
import type {
  CapabilityRecord,
  GuestMemfdRecord,
  MemoryObjectRecord,
  MemslotRecord,
  PartChange,
  VcpuRecord,
  VmShape,
} from "../store/index.js";

/** Mutable; changed by the same PartChange values that the store writes. */
export class Shape {
  readonly capabilities: Map<number, CapabilityRecord>;
  readonly memoryObjects: Map<number, MemoryObjectRecord>;
  readonly guestMemfds: Map<number, GuestMemfdRecord>;
  /** By slot id; the others by ordinal. */
  readonly memslots: Map<number, MemslotRecord>;
  readonly vcpus: Map<number, VcpuRecord>;

  constructor(records: VmShape) {
    this.capabilities = new Map(records.capabilities.map((r) => [r.ordinal, r]));
    this.memoryObjects = new Map(records.memoryObjects.map((r) => [r.ordinal, r]));
    this.guestMemfds = new Map(records.guestMemfds.map((r) => [r.ordinal, r]));
    this.memslots = new Map(records.memslots.map((r) => [r.slot, r]));
    this.vcpus = new Map(records.vcpus.map((r) => [r.ordinal, r]));
  }

  apply(change: PartChange): void {
    switch (change.kind) {
      case "put-capability":
        this.capabilities.set(change.value.ordinal, change.value);
        break;
      case "delete-capability":
        this.capabilities.delete(change.ordinal);
        break;
      case "put-memory-object":
        this.memoryObjects.set(change.value.ordinal, change.value);
        break;
      case "delete-memory-object":
        this.memoryObjects.delete(change.ordinal);
        break;
      case "put-guest-memfd":
        this.guestMemfds.set(change.value.ordinal, change.value);
        break;
      case "delete-guest-memfd":
        this.guestMemfds.delete(change.ordinal);
        break;
      case "put-memslot":
        this.memslots.set(change.value.slot, change.value);
        break;
      case "delete-memslot":
        this.memslots.delete(change.slot);
        break;
      case "put-vcpu":
        this.vcpus.set(change.value.ordinal, change.value);
        break;
    }
  }

  /** Takes over the numbers that a VM which was built anew gave to parts of the same ordinals. */
  renumber(records: VmShape): void {
    for (const object of records.memoryObjects) this.memoryObjects.set(object.ordinal, object);
    for (const memfd of records.guestMemfds) this.guestMemfds.set(memfd.ordinal, memfd);
  }

  /** Becomes another shape: the VM was restored from a snapshot. */
  replace(records: VmShape): void {
    const next = new Shape(records);
    refill(this.capabilities, next.capabilities);
    refill(this.memoryObjects, next.memoryObjects);
    refill(this.guestMemfds, next.guestMemfds);
    refill(this.memslots, next.memslots);
    refill(this.vcpus, next.vcpus);
  }

  /** @returns the parts in the order in which a VM is built anew. */
  records(): VmShape {
    return {
      capabilities: byOrdinal(this.capabilities),
      memoryObjects: byOrdinal(this.memoryObjects),
      guestMemfds: byOrdinal(this.guestMemfds),
      memslots: [...this.memslots.values()].sort((a, b) => a.slot - b.slot),
      vcpus: byOrdinal(this.vcpus),
    };
  }

  hasVcpu(id: number): boolean {
    for (const vcpu of this.vcpus.values()) if (vcpu.vcpuId === id) return true;
    return false;
  }

  /** The memfd behind a descriptor number that is still open. */
  openMemfd(id: number): GuestMemfdRecord | null {
    for (const memfd of this.guestMemfds.values()) {
      if (memfd.memfdId === id && !memfd.closed) return memfd;
    }
    return null;
  }
}

/** @returns an ordinal behind all that are in use. */
export function nextOrdinal(parts: ReadonlyMap<number, unknown>): number {
  let next = 0;
  for (const ordinal of parts.keys()) next = Math.max(next, ordinal + 1);
  return next;
}

function byOrdinal<T extends { readonly ordinal: number }>(parts: ReadonlyMap<number, T>): T[] {
  return [...parts.values()].sort((a, b) => a.ordinal - b.ordinal);
}

function refill<T>(map: Map<number, T>, from: ReadonlyMap<number, T>): void {
  map.clear();
  for (const [key, value] of from) map.set(key, value);
}
