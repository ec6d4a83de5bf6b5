// Owns: attributes of a vGIC device as its groups and bits have them, and both models' common ones.
// VM thread.
// @source arch/arm64/kvm/vgic/vgic-kvm-device.c by behaviour; kvm-uapi.md 6.2; interrupts.md 3.11
import type { ErrnoName } from "../../base/errno.table.js";
import { KvmError } from "../../base/errors.js";
import type { VgicContext } from "./context.js";
import { checkIoRange } from "./frame-range.js";
import { initVgic } from "./init.js";

export const GROUP = {
  ADDR: 0,
  DIST_REGS: 1,
  CPU_REGS: 2,
  NR_IRQS: 3,
  CTRL: 4,
  REDIST_REGS: 5,
  CPU_SYSREGS: 6,
  LEVEL_INFO: 7,
  MAINT_IRQ: 9,
} as const;

export const CTRL = { INIT: 0n, SAVE_PENDING_TABLES: 3n } as const;
export const ADDR = {
  V2_DIST: 0n,
  V2_CPU: 1n,
  V3_DIST: 2n,
  V3_REDIST: 3n,
  V3_REDIST_REGION: 5n,
} as const;

export const SET = "KVM_SET_DEVICE_ATTR";
export const GET = "KVM_GET_DEVICE_ATTR";
export const HAS = "KVM_HAS_DEVICE_ATTR";

const WHY: Readonly<Partial<Record<ErrnoName, string>>> = {
  E2BIG: "the frame ends beyond the IPA space",
  EBUSY: "too late, too early, or a vCPU is in KVM_RUN",
  EEXIST: "the address is set",
  EFAULT: "there is no value at the address",
  EINVAL: "the value or what the attribute names is not valid",
  ENOENT: "no such region",
  ENXIO: "the device has no such attribute",
};

export function refused(errno: ErrnoName, ioctl: string, why = WHY[errno] ?? errno): KvmError {
  return new KvmError(errno, ioctl, why);
}

/** @throws KvmError when there is an errno */
export function check(errno: ErrnoName | null, ioctl: string): void {
  if (errno !== null) throw refused(errno, ioctl);
}

// ── values at the address ─────────────────────────────────────────────────────────────────────

/** get_user. @throws KvmError EFAULT */
export function u32At(value: Uint8Array, ioctl: string): number {
  return viewOf(value, 4, ioctl).getUint32(0, true);
}

export function u64At(value: Uint8Array, ioctl: string): bigint {
  return viewOf(value, 8, ioctl).getBigUint64(0, true);
}

function viewOf(value: Uint8Array, size: number, ioctl: string): DataView {
  if (value.length < size) throw refused("EFAULT", ioctl, `the attribute is ${size} bytes`);
  return new DataView(value.buffer, value.byteOffset, value.byteLength);
}

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

// ── addresses ─────────────────────────────────────────────────────────────────────────────────

/** A frame whose address is one attribute. */
export interface FrameAttr {
  readonly field: "distBase" | "cpuBase";
  readonly bytes: number;
  readonly align: number;
}

/** VGIC_ADDR_UNDEF. */
const UNSET = 2n ** 64n - 1n;

/** An address as a number; beyond what any IPA space has it is only too big. */
export function ipaOf(address: bigint): number {
  return Number(address);
}

export function setFrame({ dist, vm }: VgicContext, attr: FrameAttr, value: Uint8Array): void {
  const address = u64At(value, SET);
  if (dist[attr.field] >= 0) throw refused("EEXIST", SET);
  // As bits: a number would lose the low ones of a very high address.
  if (address % BigInt(attr.align) !== 0n) throw refused("EINVAL", SET, "the frame is misaligned");
  if (address + BigInt(attr.bytes) > UNSET) throw refused("EINVAL", SET, "the frame wraps around");
  check(checkIoRange(ipaOf(address), attr.bytes, attr.align, vm.ipaBits), SET);
  dist[attr.field] = ipaOf(address);
}

export function getFrame({ dist }: VgicContext, { field }: FrameAttr): Uint8Array {
  return addressBytes(dist[field]);
}

/** @param base -1: not set */
export function addressBytes(base: number): Uint8Array {
  return u64Bytes(base < 0 ? UNSET : BigInt(base));
}

// ── NR_IRQS, INIT ─────────────────────────────────────────────────────────────────────────────

const NR_IRQS = { min: 64, max: 1023, step: 32 } as const;

export function setNrIrqs({ dist }: VgicContext, value: Uint8Array): void {
  const count = u32At(value, SET);
  if (count < NR_IRQS.min || count > NR_IRQS.max || count % NR_IRQS.step !== 0) {
    throw refused("EINVAL", SET, "interrupts are 64 to 992, in steps of 32");
  }
  if (dist.nrSpis !== 0) throw refused("EBUSY", SET, "the number of interrupts is set");
  dist.nrSpis = count - NR_IRQS.step;
}

export function init(vgic: VgicContext): void {
  initVgic(vgic);
}

/** Registers may be accessed while no vCPU is in KVM_RUN. @throws KvmError EBUSY */
export function checkStopped({ vm }: VgicContext, ioctl: string): void {
  if (vm.vcpus.some((vcpu) => vcpu.running)) throw refused("EBUSY", ioctl, "a vCPU is in KVM_RUN");
}
