// Owns: what one ITS holds: its registers, and its devices, events and collections as the command
// queue made them. VM thread.
//
//   DeviceID ─▶ device ── EventID ─▶ event ─▶ LPI
//                                      └────▶ collection ─▶ vCPU
// @source struct vgic_its by behaviour; interrupts.md 4.6
import type { Saved } from "../../base/saved.js";
import type { Vm } from "../vm.js";
import { BASER_INITIAL } from "./baser.js";
import type { VgicContext } from "./context.js";
import { InKernelVgic } from "./in-kernel.js";
import { dropLpi } from "./lpi.js";
import type { VgicCpu, VgicIrq } from "./state.js";

/** RDbase of a collection that is known by name only. */
export const COLLECTION_NOT_MAPPED = 0xffff_ffff;
/** Bits of EventIDs and of DeviceIDs. */
export const ITS_ID_BITS = 16;

export interface ItsCollection {
  readonly id: number;
  /** vCPU id, or COLLECTION_NOT_MAPPED. */
  target: number;
}

interface ItsEvent {
  readonly id: number;
  readonly irq: VgicIrq;
  collection: ItsCollection;
}

export interface ItsDevice {
  readonly id: number;
  /** Interrupt translation table. */
  readonly itt: number;
  readonly eventBits: number;
  readonly events: Map<number, ItsEvent>;
}

/** GITS_BASER: where the table is, and what of it the guest may choose. */
export const BASER = { VALID: 1n << 63n, INDIRECT: 1n << 62n } as const;
const BASER_TYPE = { device: 1n << 56n, collection: 4n << 56n } as const;
const ENTRY_BYTES = 8n;
const ENTRY_SIZE = (ENTRY_BYTES - 1n) << 48n;
/** The one page size: 64 KiB. */
const PAGE_64K = 2n << 8n;

/** Bits of a BASER that tell the guest what the table is. */
export const BASER_FIXED: Readonly<Record<"device" | "collection", bigint>> = {
  device: BASER_TYPE.device | ENTRY_SIZE | PAGE_64K,
  collection: BASER_TYPE.collection | ENTRY_SIZE | PAGE_64K,
};

export class Its {
  readonly vm: Vm;
  /** Creation order. */
  readonly index: number;
  /** IPA of its frames; -1: not set. */
  base = -1;
  enabled = false;
  cbaser = 0n;
  creadr = 0;
  cwriter = 0;
  deviceTable = BASER_INITIAL | BASER_FIXED.device;
  collectionTable = BASER_INITIAL | BASER_FIXED.collection;
  readonly devices = new Map<number, ItsDevice>();
  readonly collections = new Map<number, ItsCollection>();
  /** Translations of MSIs that came lately, by cacheKey. */
  readonly cache = new Map<number, VgicIrq>();

  constructor(vm: Vm, index: number) {
    this.vm = vm;
    this.index = index;
  }

  /** null: the VM has no controller yet, so there are no LPIs. */
  get gic(): VgicContext | null {
    const { vgic } = this.vm;
    return vgic instanceof InKernelVgic ? vgic : null;
  }

  event(deviceId: number, eventId: number): ItsEvent | null {
    return this.devices.get(deviceId)?.events.get(eventId) ?? null;
  }

  /** @returns null: it is not mapped, or no such vCPU is there */
  targetOf({ target }: ItsCollection): VgicCpu | null {
    return target === COLLECTION_NOT_MAPPED ? null : this.cpu(target);
  }

  cpu(vcpuId: number): VgicCpu | null {
    return this.gic?.dist.cpus.find((cpu) => cpu.vcpuId === vcpuId) ?? null;
  }

  // ── mappings ────────────────────────────────────────────────────────────────────────────────

  addCollection(id: number, target = COLLECTION_NOT_MAPPED): ItsCollection {
    const collection = { id, target };
    this.collections.set(id, collection);
    return collection;
  }

  /** MAPC with V=0. While events name it, it stays, not mapped: a later MAPC finds them. */
  freeCollection(id: number): void {
    const collection = this.collections.get(id);
    if (collection === undefined) return;
    if (this.#isNamed(collection)) collection.target = COLLECTION_NOT_MAPPED;
    else this.collections.delete(id);
    this.cache.clear();
  }

  #isNamed(collection: ItsCollection): boolean {
    for (const { events } of this.devices.values()) {
      for (const event of events.values()) if (event.collection === collection) return true;
    }
    return false;
  }

  /** The collection's vCPU is another: its events go there. */
  retarget(collection: ItsCollection): void {
    const target = this.targetOf(collection);
    if (target === null) return;
    for (const { events } of this.devices.values()) {
      for (const { collection: own, irq } of events.values()) {
        if (own === collection) irq.target = target;
      }
    }
  }

  addDevice(id: number, itt: number, eventBits: number): ItsDevice {
    const device = { id, itt, eventBits, events: new Map<number, ItsEvent>() };
    this.devices.set(id, device);
    return device;
  }

  freeDevice(device: ItsDevice): void {
    for (const { irq } of device.events.values()) this.#release(irq);
    this.devices.delete(device.id);
    this.cache.clear();
  }

  freeEvent(device: ItsDevice, event: ItsEvent): void {
    device.events.delete(event.id);
    this.#release(event.irq);
    this.cache.clear();
  }

  #release(irq: VgicIrq): void {
    if (this.gic !== null) dropLpi(this.gic, irq);
  }

  freeDevices(): void {
    for (const device of [...this.devices.values()]) this.freeDevice(device);
  }

  freeCollections(): void {
    for (const id of [...this.collections.keys()]) this.freeCollection(id);
  }

  /** KVM_DEV_ARM_ITS_CTRL_RESET. */
  reset(): void {
    this.deviceTable &= ~BASER.VALID;
    this.collectionTable &= ~BASER.VALID;
    this.cbaser = 0n;
    this.creadr = 0;
    this.cwriter = 0;
    this.enabled = false;
    this.freeDevices();
    this.freeCollections();
    this.cache.clear();
  }

  // ── state ───────────────────────────────────────────────────────────────────────────────────

  save(): Saved {
    const data = {
      base: this.base,
      enabled: this.enabled,
      cbaser: this.cbaser,
      creadr: this.creadr,
      cwriter: this.cwriter,
      deviceTable: this.deviceTable,
      collectionTable: this.collectionTable,
      collections: [...this.collections.values()].map((collection) => ({ ...collection })),
      devices: [...this.devices.values()].map(({ events, ...device }) => ({
        ...device,
        events: [...events.values()].map(({ id, irq, collection }) => ({
          id,
          intid: irq.intid,
          collection: collection.id,
        })),
      })),
      cache: [...this.cache].map(([key, { intid }]) => ({ key, intid })),
    };
    return { kind: `its-${this.index}`, version: 1, data };
  }

  /** After the controller, which has the LPIs. */
  load(saved: Saved): void {
    const { collections, devices, cache, ...registers } = saved.data as SavedIts;
    Object.assign(this, registers);
    this.collections.clear();
    for (const { id, target } of collections) this.addCollection(id, target);
    this.devices.clear();
    const lpis = this.gic?.dist.lpis;
    for (const { id, itt, eventBits, events } of devices) {
      const device = this.addDevice(id, itt, eventBits);
      for (const event of events) {
        const irq = lpis?.get(event.intid);
        const collection = this.collections.get(event.collection);
        if (irq !== undefined && collection !== undefined) {
          device.events.set(event.id, { id: event.id, irq, collection });
        }
      }
    }
    this.cache.clear();
    for (const { key, intid } of cache) {
      const irq = lpis?.get(intid);
      if (irq !== undefined) this.cache.set(key, irq);
    }
  }
}

interface SavedIts {
  readonly collections: readonly ItsCollection[];
  readonly devices: readonly {
    readonly id: number;
    readonly itt: number;
    readonly eventBits: number;
    readonly events: readonly {
      readonly id: number;
      readonly intid: number;
      readonly collection: number;
    }[];
  }[];
  readonly cache: readonly { readonly key: number; readonly intid: number }[];
}
