// Owns: KVM_ARM_MTE_COPY_TAGS. VM thread.
// @source arch/arm64/kvm/guest.c (kvm_vm_ioctl_mte_copy_tags) by behaviour; kvm-uapi.md 4.7
import { KvmError } from "../base/errors.js";

/**
 * KVM asks for MTE before it looks at flags, alignment, length and slots, and no VM of this host
 * has it: KVM_CAP_ARM_MTE reads 0 and can't be enabled.
 * @throws KvmError EINVAL
 */
export function mteCopyTags(): never {
  const why = "the VM has no MTE: the host has none, and KVM_CAP_ARM_MTE reads 0";
  throw new KvmError("EINVAL", "KVM_ARM_MTE_COPY_TAGS", why);
}
