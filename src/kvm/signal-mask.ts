// Owns: KVM_SET_SIGNAL_MASK: signals that a vCPU's thread blocks while it is in KVM_RUN. VM thread.
// Nothing here sends a signal of a number: a kick interrupts KVM_RUN whatever the mask says, so the
// mask is kept, and means nothing.
// @source virt/kvm/kvm_main.c (kvm_vcpu_ioctl_set_sigmask) by behaviour; kvm-uapi.md 8.10
import { KvmError } from "../base/errors.js";
import type { Vcpu } from "./vcpu.js";

/** Bytes of sigset_t: signal n is bit n - 1. */
const SIGSET_BYTES = 8;
const SIGKILL = 9n;
const SIGSTOP = 19n;
const UNBLOCKABLE = (1n << (SIGKILL - 1n)) | (1n << (SIGSTOP - 1n));

/** struct kvm_signal_mask. */
interface SignalMask {
  readonly len: number;
  readonly sigset: bigint;
}

/**
 * SIGKILL and SIGSTOP are taken out without a word.
 * @param mask null: none is installed for KVM_RUN any more
 * @throws KvmError EINVAL
 */
export function setSignalMask(vcpu: Vcpu, mask: SignalMask | null): void {
  if (mask !== null && mask.len !== SIGSET_BYTES) {
    throw new KvmError("EINVAL", "KVM_SET_SIGNAL_MASK", `len must be ${SIGSET_BYTES}`);
  }
  vcpu.signalMask = mask === null ? null : mask.sigset & ~UNBLOCKABLE;
}
