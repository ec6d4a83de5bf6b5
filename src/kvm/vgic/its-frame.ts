// Owns: accesses to an ITS's frames by a guest, and to its registers by userspace. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio.c, vgic-its.c by behaviour; kvm-uapi.md 6.2
import { KvmError } from "../../base/errors.js";
import type { Its } from "./its.js";
import { ITS_REGISTERS, type ItsRegister } from "./its-registers.table.js";

/** Control and translation frame. */
export const ITS_FRAME_BYTES = 0x2_0000;
const PIDR4 = 0xffd0;
const TYPER = 0x0008;

function registerAt(offset: number): ItsRegister | undefined {
  return ITS_REGISTERS.find((row) => offset >= row.offset && offset < row.offset + row.span);
}

/**
 * A guest's access; what no register takes reads as zero and is ignored.
 * @returns bytes of a load, empty for a store
 */
export function guestAccess(
  its: Its,
  offset: number,
  length: number,
  store: Uint8Array | null,
): Uint8Array {
  const bytes = new Uint8Array(store === null ? length : 0);
  const register = registerAt(offset);
  if (register === undefined || offset % length !== 0) return bytes;
  if (length !== 4 && length !== register.width) return bytes;
  const at = offset - (offset % register.width);
  const shift = BigInt(8 * (offset - at));
  const part = (1n << BigInt(8 * length)) - 1n;
  const old = register.read(its, at);
  if (store === null) {
    let value = (old >> shift) & part;
    for (let n = 0; n < length; n++, value >>= 8n) bytes[n] = Number(value & 0xffn);
    return bytes;
  }
  let value = 0n;
  for (const byte of [...store].reverse()) value = (value << 8n) | BigInt(byte);
  register.write?.(its, (old & ~(part << shift)) | ((value & part) << shift), at);
  return bytes;
}

/** @returns undefined: there is none @throws KvmError EINVAL not aligned */
function uaccess(ioctl: string, offset: bigint): ItsRegister | undefined {
  const unit = offset < TYPER || offset >= PIDR4 ? 4n : 8n;
  if (offset % unit !== 0n) {
    throw new KvmError("EINVAL", ioctl, `a register at that offset is aligned to ${unit} bytes`);
  }
  return offset < ITS_FRAME_BYTES ? registerAt(Number(offset)) : undefined;
}

function absent(ioctl: string): KvmError {
  return new KvmError("ENXIO", ioctl, "the ITS has no register at that offset");
}

/** @throws KvmError EINVAL, ENXIO */
export function hasRegister(offset: bigint): void {
  const ioctl = "KVM_HAS_DEVICE_ATTR";
  if (uaccess(ioctl, offset) === undefined) throw absent(ioctl);
}

/** vgic_its_attr_regs_access. @throws KvmError EINVAL, EBUSY, ENXIO in this order */
function checked(its: Its, ioctl: string, offset: bigint): ItsRegister {
  const register = uaccess(ioctl, offset);
  if (its.vm.vcpus.some((vcpu) => vcpu.running)) {
    throw new KvmError("EBUSY", ioctl, "a vCPU is in KVM_RUN");
  }
  if (its.base < 0) throw new KvmError("ENXIO", ioctl, "the ITS has no address yet");
  if (register === undefined) throw absent(ioctl);
  return register;
}

/** Whole registers, whatever their width. @throws KvmError EINVAL, EBUSY, ENXIO */
export function readRegister(its: Its, offset: bigint): bigint {
  return checked(its, "KVM_GET_DEVICE_ATTR", offset).read(its, Number(offset));
}

/** @throws KvmError EINVAL, EBUSY, ENXIO */
export function writeRegister(its: Its, offset: bigint, value: bigint): void {
  const register = checked(its, "KVM_SET_DEVICE_ATTR", offset);
  const own = BigInt.asUintN(8 * register.width, value);
  if (register.uaccess !== undefined) register.uaccess(its, own);
  else register.write?.(its, own, Number(offset));
}
