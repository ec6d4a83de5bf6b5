// Owns: KVM_ARM_SET_COUNTER_OFFSET. VM thread.
// @source arch/arm64/kvm/arm.c (kvm_vm_ioctl_set_counter_offset) by behaviour; kvm-uapi.md 4.5
import { KvmError } from "../base/errors.js";
import type { Vm } from "./vm.js";

/**
 * Both counters of every vCPU are the host's minus this, from now on for good.
 * @throws KvmError EINVAL, EBUSY
 */
export function setCounterOffset(vm: Vm, offset: bigint, reserved: bigint): void {
  const ioctl = "KVM_ARM_SET_COUNTER_OFFSET";
  if (reserved !== 0n) throw new KvmError("EINVAL", ioctl, "the reserved word must be 0");
  if (vm.vcpus.some((vcpu) => vcpu.running)) {
    throw new KvmError("EBUSY", ioctl, "a vCPU is in KVM_RUN");
  }
  vm.counterOffset = offset;
  if (vm.a64 === null) return;
  vm.a64.virtualOffset = offset;
  vm.a64.physicalOffset = offset;
}
