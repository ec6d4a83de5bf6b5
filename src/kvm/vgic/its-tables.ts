// Owns: an ITS's tables in guest memory: which entries there are, and saving and restoring them in
// the layout of ABI revision 0. VM thread.
//
//   GITS_BASER0 ─▶ device table (flat, or two levels) ─▶ interrupt translation table of a device
//   GITS_BASER1 ─▶ collection table, from its start without gaps
// @source Documentation/virt/kvm/devices/arm-vgic-its.rst, arch/arm64/kvm/vgic/vgic-its.c by
//   behaviour; interrupts.md 7.3, kvm-uapi.md 6.2
import type { ErrnoName } from "../../base/errno.table.js";
import { KvmError } from "../../base/errors.js";
import { mask } from "./baser.js";
import {
  BASER,
  COLLECTION_NOT_MAPPED,
  ITS_ID_BITS,
  type Its,
  type ItsCollection,
  type ItsDevice,
} from "./its.js";
import { addLpi } from "./lpi.js";
import { VGIC_MIN_LPI } from "./state.js";

const ENTRY_BYTES = 8;
const PAGE_64K = 2 ** 16;
const ENTRIES_64K = PAGE_64K / ENTRY_BYTES;
const VALID = 1n << 63n;
/** Largest distance to the next entry that fits. */
const NEXT_MAX = { device: 2 ** 14 - 1, event: 2 ** 16 - 1 } as const;

const DTE = { next: 49n, itt: 5n, ittMask: mask(48, 5), size: 0x1fn } as const;
const CTE = { target: 16n, id: 0xffffn } as const;
const ITE = { next: 48n, lpi: 16n, collection: 0xffffn } as const;
/** A table's first level names pages of its second. */
const LEVEL1_ADDRESS = mask(51, 16);

function tableAddress(baser: bigint): number {
  return Number((baser & mask(47, 16)) | ((baser & mask(15, 12)) << 36n));
}

function tableBytes(baser: bigint): number {
  return (Number(baser & 0xffn) + 1) * PAGE_64K;
}

function refuse(errno: ErrnoName, why: string): never {
  throw new KvmError(errno, "KVM_SET_DEVICE_ATTR", why);
}

function load(its: Its, ipa: number): bigint | null {
  const bytes = its.vm.guestMemory?.read(ipa, ENTRY_BYTES) ?? null;
  return bytes === null ? null : new DataView(bytes.buffer).getBigUint64(0, true);
}

function loadOrFail(its: Its, ipa: number): bigint {
  return load(its, ipa) ?? refuse("EFAULT", "a table of the ITS is in no memory");
}

/** @returns false: no memory takes it */
export function storeEntry(its: Its, ipa: number, entry: bigint): boolean {
  const bytes = new Uint8Array(ENTRY_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, entry, true);
  return its.vm.guestMemory?.write(ipa, bytes) === true;
}

function storeOrFail(its: Its, ipa: number, entry: bigint): void {
  if (!storeEntry(its, ipa, entry)) refuse("EFAULT", "a table of the ITS is in no memory");
}

// ── which entries there are ───────────────────────────────────────────────────────────────────

/** vgic_its_check_id. @returns IPA of the id's entry; null: the table has none */
function entryOf(its: Its, baser: bigint, id: number): number | null {
  if (id >= 2 ** ITS_ID_BITS) return null;
  const base = tableAddress(baser);
  const bytes = tableBytes(baser);
  let at: number;
  if ((baser & BASER.INDIRECT) === 0n) {
    if (id >= bytes / ENTRY_BYTES) return null;
    at = base + id * ENTRY_BYTES;
  } else {
    const page = Math.floor(id / ENTRIES_64K);
    if (page >= bytes / ENTRY_BYTES) return null;
    const level1 = load(its, base + page * ENTRY_BYTES);
    if (level1 === null || (level1 & VALID) === 0n) return null;
    at = Number(level1 & LEVEL1_ADDRESS) + (id % ENTRIES_64K) * ENTRY_BYTES;
  }
  return its.vm.guestMemory?.isVisible(at) === true ? at : null;
}

export function deviceEntry(its: Its, id: number): number | null {
  return entryOf(its, its.deviceTable, id);
}

export function hasCollectionEntry(its: Its, id: number): boolean {
  return entryOf(its, its.collectionTable, id) !== null;
}

/** @returns IPA of an event's entry; null: the device's table has none */
export function eventEntry(its: Its, device: ItsDevice, eventId: number): number | null {
  if (eventId >= 2 ** device.eventBits) return null;
  const at = device.itt + eventId * ENTRY_BYTES;
  return its.vm.guestMemory?.isVisible(at) === true ? at : null;
}

// ── save ──────────────────────────────────────────────────────────────────────────────────────

/**
 * KVM_DEV_ARM_ITS_SAVE_TABLES. A table whose register isn't valid is left alone.
 * @throws KvmError EFAULT memory is missing; EINVAL a device's entry is gone
 */
export function saveTables(its: Its): void {
  if ((its.deviceTable & BASER.VALID) !== 0n) saveDevices(its);
  if ((its.collectionTable & BASER.VALID) !== 0n) saveCollections(its);
}

function sorted<T extends { readonly id: number }>(items: Iterable<T>): T[] {
  return [...items].sort((a, b) => a.id - b.id);
}

/** Distance from one entry to the next; 0 for the last. */
function next(items: readonly { readonly id: number }[], at: number, max: number): bigint {
  const [own, following] = [items[at], items[at + 1]];
  if (own === undefined || following === undefined) return 0n;
  return BigInt(Math.min(following.id - own.id, max));
}

function saveDevices(its: Its): void {
  const devices = sorted(its.devices.values());
  for (const [n, device] of devices.entries()) {
    const at = deviceEntry(its, device.id);
    if (at === null) refuse("EINVAL", `device ${device.id} has no entry in the table any more`);
    saveEvents(its, device);
    const itt = (BigInt(device.itt) >> 8n) << DTE.itt;
    const distance = next(devices, n, NEXT_MAX.device) << DTE.next;
    storeOrFail(its, at, VALID | distance | itt | BigInt(device.eventBits - 1));
  }
}

function saveEvents(its: Its, device: ItsDevice): void {
  const events = sorted(device.events.values());
  for (const [n, { id, irq, collection }] of events.entries()) {
    const distance = next(events, n, NEXT_MAX.event) << ITE.next;
    const entry = distance | (BigInt(irq.intid) << ITE.lpi) | BigInt(collection.id);
    storeOrFail(its, device.itt + id * ENTRY_BYTES, entry);
  }
}

function saveCollections(its: Its): void {
  const end = tableAddress(its.collectionTable) + tableBytes(its.collectionTable);
  let at = tableAddress(its.collectionTable);
  for (const { id, target } of its.collections.values()) {
    storeOrFail(its, at, VALID | (BigInt(target) << CTE.target) | BigInt(id));
    at += ENTRY_BYTES;
  }
  // Its reader stops at the first that isn't valid.
  if (at < end) storeOrFail(its, at, 0n);
}

// ── restore ───────────────────────────────────────────────────────────────────────────────────

/**
 * KVM_DEV_ARM_ITS_RESTORE_TABLES. What was restored before an error is freed again.
 * @throws KvmError EFAULT memory is missing; EEXIST a collection twice; EINVAL entries that
 *   name what can't be
 */
export function restoreTables(its: Its): void {
  if ((its.collectionTable & BASER.VALID) !== 0n) {
    try {
      restoreCollections(its);
    } catch (error) {
      its.freeCollections();
      throw error;
    }
  }
  if ((its.deviceTable & BASER.VALID) === 0n) return;
  try {
    restoreDevices(its);
  } catch (error) {
    its.freeDevices();
    its.freeCollections();
    throw error;
  }
}

function restoreCollections(its: Its): void {
  const base = tableAddress(its.collectionTable);
  for (let at = base; at < base + tableBytes(its.collectionTable); at += ENTRY_BYTES) {
    const entry = loadOrFail(its, at);
    if ((entry & VALID) === 0n) return;
    const id = Number(entry & CTE.id);
    const target = Number((entry >> CTE.target) & 0xffff_ffffn);
    if (target !== COLLECTION_NOT_MAPPED && its.cpu(target) === null) {
      refuse("EINVAL", `collection ${id} goes to vCPU ${target}, which isn't there`);
    }
    if (its.collections.has(id)) refuse("EEXIST", `collection ${id} is there already`);
    if (!hasCollectionEntry(its, id)) refuse("EINVAL", `collection ${id} is beyond its table`);
    its.addCollection(id, target);
  }
}

/** Takes an entry. @returns distance to the next; 0: it was the last */
type Take = (id: number, entry: bigint) => number;

/**
 * scan_its_table: follows distances where there are entries, step by step where there are none.
 * @returns whether the table's end came before a last entry
 */
function scan(its: Its, base: number, entries: number, firstId: number, take: Take): boolean {
  for (let n = 0; n < entries; ) {
    const distance = take(firstId + n, loadOrFail(its, base + n * ENTRY_BYTES));
    if (distance === 0) return false;
    n += distance;
  }
  return true;
}

function restoreDevices(its: Its): void {
  const base = tableAddress(its.deviceTable);
  const entries = tableBytes(its.deviceTable) / ENTRY_BYTES;
  const take: Take = (id, entry) => restoreDevice(its, id, entry);
  if ((its.deviceTable & BASER.INDIRECT) === 0n) {
    scan(its, base, entries, 0, take);
    return;
  }
  scan(its, base, entries, 0, (page, level1) => {
    if ((level1 & VALID) === 0n) return 1;
    const at = Number(level1 & LEVEL1_ADDRESS);
    return scan(its, at, ENTRIES_64K, page * ENTRIES_64K, take) ? 1 : 0;
  });
}

function restoreDevice(its: Its, id: number, entry: bigint): number {
  if ((entry & VALID) === 0n) return 1;
  if (deviceEntry(its, id) === null) refuse("EINVAL", `device ${id} is beyond its table`);
  const itt = Number(((entry & DTE.ittMask) >> DTE.itt) << 8n);
  const old = its.devices.get(id);
  if (old !== undefined) its.freeDevice(old);
  const device = its.addDevice(id, itt, Number(entry & DTE.size) + 1);
  const take: Take = (eventId, event) => restoreEvent(its, device, eventId, event);
  scan(its, itt, 2 ** device.eventBits, 0, take);
  return Number((entry >> DTE.next) & BigInt(NEXT_MAX.device));
}

function restoreEvent(its: Its, device: ItsDevice, id: number, entry: bigint): number {
  const intid = Number((entry >> ITE.lpi) & 0xffff_ffffn);
  if (intid === 0) return 1;
  if (intid < VGIC_MIN_LPI) refuse("EINVAL", `event ${id} names INTID ${intid}, which is no LPI`);
  const distance = Number(entry >> ITE.next);
  if (id + distance >= 2 ** device.eventBits) refuse("EINVAL", "the next event is out of range");
  const collection = collectionOf(its, Number(entry & ITE.collection));
  if (eventEntry(its, device, id) === null) refuse("EINVAL", `event ${id} is beyond its table`);
  const { gic } = its;
  const irq = gic === null ? null : addLpi(gic, intid, its.targetOf(collection));
  if (irq === null) refuse("EFAULT", `the configuration of LPI ${intid} can't be read`);
  device.events.set(id, { id, irq, collection });
  return distance;
}

function collectionOf(its: Its, id: number): ItsCollection {
  return its.collections.get(id) ?? refuse("EINVAL", `there is no collection ${id}`);
}
