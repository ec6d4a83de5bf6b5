// Owns: LPIs: their bytes in the configuration table, their bits in the pending tables, and
// redistributors that turn them on and off. VM thread.
//
//   configuration table ──mapping, INV, INVALL──▶ enabled, priority (cached until the next one)
//   pending table ──mapping, EnableLPIs 0→1──▶ latch ──SAVE_PENDING_TABLES──▶ pending table
// @source arch/arm64/kvm/vgic/vgic-its.c, vgic-v3.c, vgic-mmio-v3.c by behaviour; interrupts.md 4.6
import { KvmError } from "../../base/errors.js";
import type { GuestMemoryPort } from "../guest-memory-port.js";
import type { Vm } from "../vm.js";
import { PENDBASER_PTZ, pendbaserAddress, propbaserAddress } from "./baser.js";
import type { VgicContext } from "./context.js";
import { VGIC_MIN_LPI, type VgicCpu, VgicIrq } from "./state.js";

/** INTID bits that an ITS of KVM has. */
const ID_BITS = 16;
/** Bits of a configuration byte. */
const PROPERTY = { ENABLE: 1, PRIORITY: 0xfc } as const;

function memoryOf(vm: Vm): GuestMemoryPort | null {
  return vm.guestMemory;
}

/** One more than the last INTID that the configuration table has room for. */
export function lpiLimit({ dist }: VgicContext): number {
  return 2 ** Math.min(Number(dist.propbaser & 0x1fn) + 1, ID_BITS);
}

/**
 * vgic_add_lpi: an event gets its LPI, which may be another event's as well.
 * @returns null: its configuration or its pending bit can't be read
 */
export function addLpi(gic: VgicContext, intid: number, target: VgicCpu | null): VgicIrq | null {
  const { dist } = gic;
  const known = dist.lpis.get(intid);
  if (known !== undefined) {
    known.mappings++;
    return known;
  }
  const irq = new VgicIrq(intid, "edge", null);
  irq.group = 1;
  irq.target = target;
  irq.mappings = 1;
  dist.lpis.set(intid, irq);
  if (loadConfig(gic, irq) && takePendingBit(gic, irq)) return irq;
  dropLpi(gic, irq);
  return null;
}

/** The last event that named it is gone: with it goes what was pending. */
export function dropLpi({ dist }: VgicContext, irq: VgicIrq): void {
  if (--irq.mappings > 0) return;
  unlist(irq);
  irq.pendingLatch = false;
  dist.lpis.delete(irq.intid);
}

/** Off its AP list. No list register has it: its vCPU is out of the guest. */
function unlist(irq: VgicIrq): void {
  const { list } = irq;
  if (list === null) return;
  list.apList = list.apList.filter((other) => other !== irq);
  irq.list = null;
}

export function makePending({ delivery }: VgicContext, irq: VgicIrq): void {
  irq.pendingLatch = true;
  delivery.queue(irq);
}

// ── configuration ─────────────────────────────────────────────────────────────────────────────

/** Reads its configuration byte anew. @returns false: it can't be read, nothing changed */
export function loadConfig({ vm, dist, delivery }: VgicContext, irq: VgicIrq): boolean {
  const at = propbaserAddress(dist.propbaser) + irq.intid - VGIC_MIN_LPI;
  const byte = memoryOf(vm)?.read(at, 1)?.[0];
  if (byte === undefined) return false;
  irq.priority = byte & PROPERTY.PRIORITY;
  irq.enabled = (byte & PROPERTY.ENABLE) !== 0;
  delivery.queue(irq);
  return true;
}

/** INVALL: of every LPI that goes to this vCPU. */
export function loadConfigsOf(gic: VgicContext, cpu: VgicCpu): void {
  for (const irq of gic.dist.lpis.values()) if (irq.target === cpu) loadConfig(gic, irq);
}

/**
 * GICR_INVLPIR and GICR_INVALLR; nothing happens while the redistributor's LPIs are off.
 * @param intid null: all of them
 */
export function invalidate(gic: VgicContext, cpu: VgicCpu, intid: number | null): void {
  if (!cpu.lpisEnabled) return;
  if (intid === null) {
    loadConfigsOf(gic, cpu);
    return;
  }
  const irq = gic.dist.lpis.get(intid);
  if (irq !== undefined) loadConfig(gic, irq);
}

// ── pending tables ────────────────────────────────────────────────────────────────────────────

interface PendingBit {
  readonly ipa: number;
  readonly bit: number;
}

function pendingBit(cpu: VgicCpu, intid: number): PendingBit {
  const ipa = pendbaserAddress(cpu.pendbaser) + Math.floor(intid / 8);
  return { ipa, bit: 1 << (intid & 7) };
}

/** vgic_v3_lpi_sync_pending_status: takes a bit out of the table. @returns false for EFAULT */
function takePendingBit({ vm, delivery }: VgicContext, irq: VgicIrq): boolean {
  if (irq.target === null) return true;
  const memory = memoryOf(vm);
  const { ipa, bit } = pendingBit(irq.target, irq.intid);
  const byte = memory?.read(ipa, 1)?.[0];
  if (byte === undefined) return false;
  irq.pendingLatch = (byte & bit) !== 0;
  if (!irq.pendingLatch) return true;
  delivery.queue(irq);
  return memory?.write(ipa, Uint8Array.of(byte & ~bit)) === true;
}

/** its_sync_lpi_pending_table: bits of mapped LPIs, up to the first that can't be read. */
function loadPending({ vm, dist, delivery }: VgicContext, cpu: VgicCpu): void {
  for (const irq of dist.lpis.values()) {
    if (irq.target !== cpu) continue;
    const { ipa, bit } = pendingBit(cpu, irq.intid);
    const byte = memoryOf(vm)?.read(ipa, 1)?.[0];
    if (byte === undefined) return;
    irq.pendingLatch = (byte & bit) !== 0;
    delivery.queue(irq);
  }
}

/** GICR_CTLR.EnableLPIs of this redistributor is another than before. */
export function lpisEnabledChanged(gic: VgicContext, cpu: VgicCpu): void {
  if (cpu.lpisEnabled) {
    if ((cpu.pendbaser & PENDBASER_PTZ) === 0n) loadPending(gic, cpu);
    return;
  }
  for (const irq of gic.dist.lpis.values()) {
    if (irq.target !== cpu && irq.list !== cpu) continue;
    unlist(irq);
    irq.pendingLatch = false;
  }
  gic.vm.msi?.forget();
}

/**
 * KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES. The first KiB of a table is its reader's own.
 * @throws KvmError EFAULT a table's memory is missing
 */
export function savePendingTables({ vm, dist }: VgicContext): void {
  const memory = memoryOf(vm);
  for (const irq of dist.lpis.values()) {
    if (irq.target === null) continue;
    const { ipa, bit } = pendingBit(irq.target, irq.intid);
    const byte = memory?.read(ipa, 1)?.[0];
    const isStored = byte !== undefined && (byte & bit) !== 0;
    if (byte !== undefined && isStored === irq.pendingLatch) continue;
    const saved = byte !== undefined && memory?.write(ipa, Uint8Array.of(byte ^ bit)) === true;
    if (saved) continue;
    throw new KvmError("EFAULT", "KVM_SET_DEVICE_ATTR", "a pending table is in no memory");
  }
}

/** MOVALL: pending or not, the LPIs of one vCPU become another's. */
export function moveLpis({ dist }: VgicContext, from: VgicCpu, to: VgicCpu): void {
  if (from === to) return;
  for (const irq of dist.lpis.values()) if (irq.target === from) irq.target = to;
}
