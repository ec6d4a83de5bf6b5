// Owns: numbers and bytes of KVM's device attributes, as a VMM uses them.
// VM thread. @source asm/kvm.h (KVM_DEV_ARM_VGIC_*), kvm-uapi.md 6.2
import type { KvmDevice } from "../kvm/index.js";

/** KVM_DEV_ARM_VGIC_GRP_*. */
export const GROUP = {
  ADDR: 0,
  DIST: 1,
  CPU: 2,
  NR_IRQS: 3,
  CTRL: 4,
  REDIST: 5,
  SYSREG: 6,
  LEVEL: 7,
  ITS: 8,
  MAINTENANCE: 9,
  IRS: 10,
  IST: 11,
} as const;

/** KVM_DEV_ARM_VGIC_CTRL_INIT, SAVE_PENDING_TABLES; KVM_DEV_ARM_ITS_SAVE_TABLES, RESTORE_TABLES. */
export const CTRL = { INIT: 0n, SAVE_TABLES: 1n, RESTORE_TABLES: 2n, SAVE_PENDING: 3n } as const;

/** KVM_VGIC_V2_ADDR_TYPE_*, V3_ADDR_TYPE_*, ITS_ADDR_TYPE, V5_ADDR_TYPE_IRS. */
export const ADDR = {
  V2_DIST: 0n,
  V2_CPU: 1n,
  V3_DIST: 2n,
  V3_REDIST: 3n,
  ITS: 4n,
  V3_REGION: 5n,
  V5_IRS: 6n,
} as const;

export const NOTHING = new Uint8Array(0);

/** @param who vCPU id of a GICv2, affinity of a GICv3 */
export const attribute = (who: number, offset: number): bigint =>
  (BigInt(who) << 32n) | BigInt(offset);

export function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function u64Bytes(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset);

export function getU32(device: KvmDevice, group: number, attr: bigint): number {
  return viewOf(device.get(group, attr, u32Bytes(0))).getUint32(0, true);
}

/** @param from what lies at the address before: some attributes look at it */
export function getU64(device: KvmDevice, group: number, attr: bigint, from = 0n): bigint {
  return viewOf(device.get(group, attr, u64Bytes(from))).getBigUint64(0, true);
}

export function setU32(device: KvmDevice, group: number, attr: bigint, value: number): void {
  device.set(group, attr, u32Bytes(value));
}

export function setU64(device: KvmDevice, group: number, attr: bigint, value: bigint): void {
  device.set(group, attr, u64Bytes(value));
}
