// Owns: device attributes of a VM: KVM_SET, GET and HAS_DEVICE_ATTR on its descriptor. VM thread.
// @source arch/arm64/kvm/arm.c (kvm_vm_set_attr), hypercalls.c by behaviour; kvm-uapi.md 4.6
import { KvmError } from "../base/errors.js";
import type { Vm } from "./vm.js";

/** KVM_ARM_VM_SMCCC_CTRL and its one attribute, KVM_ARM_VM_SMCCC_FILTER. */
const SMCCC_CTRL = 0;
const SMCCC_FILTER = 0n;
/** struct kvm_smccc_filter: u32 base, u32 nr_functions, u8 action, u8 pad[15]. */
const FILTER_BYTES = 24;
const ACTION = 8;

/** @throws KvmError ENXIO */
export function hasVmAttr(group: number, attr: bigint, ioctl = "KVM_HAS_DEVICE_ATTR"): void {
  if (group === SMCCC_CTRL && attr === SMCCC_FILTER) return;
  throw new KvmError("ENXIO", ioctl, "a VM has attribute 0 of group 0, the SMCCC filter");
}

/** @throws KvmError ENXIO, EINVAL, EBUSY, EEXIST */
export function setVmAttr(vm: Vm, group: number, attr: bigint, value: Uint8Array): void {
  const ioctl = "KVM_SET_DEVICE_ATTR";
  hasVmAttr(group, attr, ioctl);
  if (value.length !== FILTER_BYTES) {
    throw new KvmError("EINVAL", ioctl, `struct kvm_smccc_filter has ${FILTER_BYTES} bytes`);
  }
  if (value.subarray(ACTION + 1).some((byte) => byte !== 0)) {
    throw new KvmError("EINVAL", ioctl, "the padding is 0");
  }
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  vm.filter.set(view.getUint32(0, true), view.getUint32(4, true), value[ACTION]!, vm.hasRun);
}

/** No attribute of a VM can be read. @throws KvmError EINVAL */
export function getVmAttr(): never {
  throw new KvmError("EINVAL", "KVM_GET_DEVICE_ATTR", "attributes of a VM can't be read");
}
