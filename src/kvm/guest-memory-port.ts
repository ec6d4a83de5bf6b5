// Owns: what KVM's devices need of guest memory, without the files that keep it. VM thread.
import type { Vcpu } from "./vcpu.js";

export interface GuestMemoryPort {
  /** kvm_get_running_vcpu: whose exit is being handled; its ring takes the pages written. */
  running: Vcpu | null;
  /** kvm_is_visible_gfn: whether a slot of userspace covers the address. */
  isVisible(ipa: number): boolean;
  /** kvm_read_guest. @returns null for EFAULT */
  read(ipa: number, length: number): Uint8Array | null;
  /** kvm_write_guest: pages are marked dirty. @returns false for EFAULT */
  write(ipa: number, bytes: Uint8Array): boolean;
}
