// Owns: the ITS's command queue, and what each command does. VM thread.
// No command fails visibly: one that names what isn't there does nothing, and the next one comes.
// @source Arm IHI 0069 5.3; arch/arm64/kvm/vgic/vgic-its.c by behaviour; interrupts.md 4.6
import { mask } from "./baser.js";
import type { VgicContext } from "./context.js";
import { ITS_ID_BITS, type Its } from "./its.js";
import { deviceEntry, eventEntry, hasCollectionEntry, storeEntry } from "./its-tables.js";
import { addLpi, loadConfig, loadConfigsOf, lpiLimit, moveLpis } from "./lpi.js";
import { trigger } from "./msi.js";
import { VGIC_MIN_LPI } from "./state.js";

const COMMAND_BYTES = 32;

/** The fields of a command; which ones count, its opcode says. */
interface ItsCommand {
  readonly deviceId: number;
  readonly eventId: number;
  readonly intid: number;
  readonly collectionId: number;
  readonly isValid: boolean;
  /** Bits of EventIDs that MAPD asks for. */
  readonly eventBits: number;
  readonly itt: number;
  /** RDbase: processor numbers, which are vCPU ids. */
  readonly target: number;
  readonly target2: number;
}

type Run = (its: Its, command: ItsCommand, gic: VgicContext) => void;

/** By opcode. SYNC has nothing to wait for, and unknown ones are passed over. */
const COMMANDS: ReadonlyMap<number, Run> = new Map<number, Run>([
  [0x01, movi],
  [0x03, int],
  [0x04, clear],
  [0x08, mapd],
  [0x09, mapc],
  [0x0a, (its, command, gic) => mapti(its, command, command.intid, gic)],
  [0x0b, (its, command, gic) => mapti(its, command, command.eventId, gic)],
  [0x0c, inv],
  [0x0d, invall],
  [0x0e, movall],
  [0x0f, discard],
]);

/** Bytes of the queue that GITS_CBASER describes. */
export function queueBytes(cbaser: bigint): number {
  // tidy: the queue's own pages are 4 KiB, whatever the VM's are
  return (Number(cbaser & 0xffn) + 1) * 4096;
}

/** vgic_its_process_commands: up to GITS_CWRITER, at once. */
export function processCommands(its: Its): void {
  if (!its.enabled) return;
  const base = Number(its.cbaser & mask(51, 12));
  const bytes = queueBytes(its.cbaser);
  while (its.creadr !== its.cwriter) {
    const words = its.vm.guestMemory?.read(base + its.creadr, COMMAND_BYTES) ?? null;
    // What isn't in memory is no command.
    if (words !== null) runCommand(its, new DataView(words.buffer));
    its.creadr += COMMAND_BYTES;
    if (its.creadr === bytes) its.creadr = 0;
  }
}

function runCommand(its: Its, words: DataView): void {
  const { gic } = its;
  if (gic === null) return;
  const u32 = (word: number) => words.getUint32(4 * word, true);
  const u64 = (word: number) => words.getBigUint64(8 * word, true);
  const target = (word: bigint) => Number((word >> 16n) & 0xffff_ffffn);
  const command: ItsCommand = {
    deviceId: u32(1),
    eventId: u32(2),
    intid: u32(3),
    collectionId: u32(4) & 0xffff,
    isValid: u32(5) >>> 31 === 1,
    eventBits: (u32(2) & 0x1f) + 1,
    itt: Number(u64(2) & mask(51, 8)),
    target: target(u64(2)),
    target2: target(u64(3)),
  };
  COMMANDS.get(words.getUint8(0))?.(its, command, gic);
}

/** The device's table must be one that GITS_TYPER allows, and its own entry must be in memory. */
function mapd(its: Its, { deviceId, isValid, itt, eventBits }: ItsCommand): void {
  const entry = deviceEntry(its, deviceId);
  if (entry === null) return;
  if (isValid && eventBits > ITS_ID_BITS) return;
  const old = its.devices.get(deviceId);
  if (old !== undefined) its.freeDevice(old);
  if (isValid) its.addDevice(deviceId, itt, eventBits);
  // A table saved before must not bring it back.
  else storeEntry(its, entry, 0n);
}

function mapc(its: Its, { collectionId, isValid, target }: ItsCommand): void {
  if (!isValid) {
    its.freeCollection(collectionId);
    return;
  }
  if (its.cpu(target) === null) return;
  const known = its.collections.get(collectionId);
  if (known !== undefined) {
    known.target = target;
    its.retarget(known);
  } else if (hasCollectionEntry(its, collectionId)) {
    its.addCollection(collectionId, target);
  }
}

/** MAPTI and MAPI. An event that is mapped keeps its mapping. */
function mapti(its: Its, command: ItsCommand, intid: number, gic: VgicContext): void {
  const { deviceId, eventId, collectionId } = command;
  const device = its.devices.get(deviceId);
  if (device === undefined || eventEntry(its, device, eventId) === null) return;
  if (intid < VGIC_MIN_LPI || intid >= lpiLimit(gic)) return;
  if (device.events.has(eventId)) return;
  const known = its.collections.get(collectionId);
  if (known === undefined && !hasCollectionEntry(its, collectionId)) return;
  const collection = known ?? its.addCollection(collectionId);
  const irq = addLpi(gic, intid, its.targetOf(collection));
  if (irq !== null) device.events.set(eventId, { id: eventId, irq, collection });
  else if (known === undefined) its.freeCollection(collectionId);
}

function movi(its: Its, { deviceId, eventId, collectionId }: ItsCommand): void {
  const event = its.event(deviceId, eventId);
  if (event === null || its.targetOf(event.collection) === null) return;
  const collection = its.collections.get(collectionId);
  const target = collection === undefined ? null : its.targetOf(collection);
  if (collection === undefined || target === null) return;
  event.collection = collection;
  its.cache.clear();
  event.irq.target = target;
}

function int(its: Its, { deviceId, eventId }: ItsCommand): void {
  trigger(its, deviceId, eventId);
}

function clear(its: Its, { deviceId, eventId }: ItsCommand): void {
  const event = its.event(deviceId, eventId);
  if (event !== null) event.irq.pendingLatch = false;
}

function inv(its: Its, { deviceId, eventId }: ItsCommand, gic: VgicContext): void {
  const event = its.event(deviceId, eventId);
  if (event !== null) loadConfig(gic, event.irq);
}

function invall(its: Its, { collectionId }: ItsCommand, gic: VgicContext): void {
  const collection = its.collections.get(collectionId);
  const cpu = collection === undefined ? null : its.targetOf(collection);
  if (cpu !== null) loadConfigsOf(gic, cpu);
}

function movall(its: Its, { target, target2 }: ItsCommand, gic: VgicContext): void {
  const [from, to] = [its.cpu(target), its.cpu(target2)];
  if (from === null || to === null) return;
  moveLpis(gic, from, to);
  its.cache.clear();
}

/** An event whose collection is not mapped can't be discarded either. */
function discard(its: Its, { deviceId, eventId }: ItsCommand): void {
  const device = its.devices.get(deviceId);
  const event = device?.events.get(eventId);
  if (device === undefined || event === undefined) return;
  if (its.targetOf(event.collection) === null) return;
  const entry = eventEntry(its, device, eventId);
  its.freeEvent(device, event);
  if (entry !== null) storeEntry(its, entry, 0n);
}
