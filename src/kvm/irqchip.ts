// Owns: the ioctls that came before device descriptors: KVM_CREATE_IRQCHIP and
// KVM_ARM_SET_DEVICE_ADDR. VM thread.
// @source arch/arm64/kvm/arm.c, vgic/vgic-kvm-device.c by behaviour; kvm-uapi.md 6.1, 6.2
import { KvmError } from "../base/errors.js";
import { createVgic } from "./vgic/create.js";
import { KVM_DEV_TYPE } from "./vgic/device-port.js";
import type { Vm } from "./vm.js";

const GROUP_ADDR = 0;
const ADDR_BYTES = 8;

/** KVM_CREATE_IRQCHIP: a GICv2 without a descriptor. @throws KvmError as KVM_CREATE_DEVICE */
export function createIrqchip(vm: Vm): void {
  try {
    vm.irqchip = createVgic(vm, "v2");
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    throw new KvmError(error.errno, "KVM_CREATE_IRQCHIP", error.message, error.code);
  }
}

/**
 * KVM_ARM_SET_DEVICE_ADDR.
 * @param id device in bits 31:16, which is 0, and address type in 15:0: 0 DIST, 1 CPU
 * @throws KvmError ENODEV; EEXIST, EINVAL, E2BIG as the attribute has it
 */
export function setDeviceAddr(vm: Vm, id: bigint, addr: bigint): void {
  const ioctl = "KVM_ARM_SET_DEVICE_ADDR";
  const kind = Number(id & 0xffffn);
  if ((id & 0xffff_0000n) !== 0n || kind > 1) {
    throw new KvmError(
      "ENODEV",
      ioctl,
      "the only device is 0, a vGICv2, with DIST (0) and CPU (1)",
    );
  }
  const { ARM_VGIC_V2 } = KVM_DEV_TYPE;
  const device = vm.irqchip ?? vm.devices.find(({ type }) => type === ARM_VGIC_V2);
  if (device === undefined) throw new KvmError("ENODEV", ioctl, "the VM has no vGICv2");
  const value = new Uint8Array(ADDR_BYTES);
  new DataView(value.buffer).setBigUint64(0, addr, true);
  try {
    device.set(GROUP_ADDR, BigInt(kind), value);
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    throw new KvmError(error.errno, ioctl, error.message, error.code);
  }
}
