// Owns: what every in-kernel device is, and KVM_CREATE_DEVICE. VM thread.
// @source virt/kvm/kvm_main.c (kvm_ioctl_create_device) by behaviour; kvm-uapi.md 6.1, 6.2
import { KvmError } from "../base/errors.js";
import { VfioDevice } from "./vfio.js";
import { createVgic } from "./vgic/create.js";
import { createIts } from "./vgic/device-its.js";
import { KVM_DEV_TYPE, type KvmDevice } from "./vgic/device-port.js";
import type { Vm } from "./vm.js";

/** KVM_CREATE_DEVICE_TEST. */
const TEST = 1;

/** By type: what makes one. Data only but for the functions it names. */
const TYPES: ReadonlyMap<number, (vm: Vm) => KvmDevice> = new Map<number, (vm: Vm) => KvmDevice>([
  [KVM_DEV_TYPE.VFIO, (vm) => new VfioDevice(vm.vfio)],
  [KVM_DEV_TYPE.ARM_VGIC_V2, (vm) => createVgic(vm, "v2")],
  [KVM_DEV_TYPE.ARM_VGIC_V3, (vm) => createVgic(vm, "v3")],
  [KVM_DEV_TYPE.ARM_VGIC_ITS, createIts],
  [KVM_DEV_TYPE.ARM_VGIC_V5, (vm) => createVgic(vm, "v5")],
]);

/**
 * @returns the device's number in the VM; null: it was only asked whether the type is there
 * @throws KvmError ENODEV; EEXIST, EBUSY, E2BIG as the type has it
 */
export function createDevice(vm: Vm, type: number, flags: number): number | null {
  const make = TYPES.get(type);
  if (make === undefined) {
    throw new KvmError("ENODEV", "KVM_CREATE_DEVICE", `this host offers no device of type ${type}`);
  }
  if ((flags & TEST) !== 0) return null;
  return vm.devices.push(make(vm)) - 1;
}
