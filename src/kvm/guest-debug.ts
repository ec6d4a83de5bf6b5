// Owns: KVM_SET_GUEST_DEBUG: userspace debugs the guest, whose own debugging waits meanwhile.
// VM thread.
// @source arch/arm64/kvm/guest.c (kvm_arch_vcpu_ioctl_set_guest_debug), debug.c by behaviour;
//   kvm-uapi.md 8.8
import { KvmError } from "../base/errors.js";
import type { A64Engine, HostDebug } from "../machine/index.js";
import { KVM_GUESTDBG } from "./uapi/flags.js";

/** struct kvm_guest_debug. */
export interface GuestDebug {
  readonly control: number;
  readonly bcr: readonly bigint[];
  readonly bvr: readonly bigint[];
  readonly wcr: readonly bigint[];
  readonly wvr: readonly bigint[];
}

/** The vCPU as its debugging sees it. */
interface DebuggedVcpu {
  readonly a64: A64Engine | null;
  guestDebug: GuestDebug | null;
}

const { ENABLE, SINGLESTEP, USE_HW } = KVM_GUESTDBG;

/** @throws KvmError EINVAL */
export function setGuestDebug(vcpu: DebuggedVcpu, debug: GuestDebug): void {
  if ((debug.control & ~KVM_GUESTDBG.VALID_MASK) !== 0) {
    throw new KvmError("EINVAL", "KVM_SET_GUEST_DEBUG", "control has bits 0, 1, 16 and 17");
  }
  vcpu.guestDebug = (debug.control & ENABLE) === 0 ? null : debug;
  applyGuestDebug(vcpu);
}

/** Tells the PE, once there is one. Every software breakpoint is the host's while it debugs. */
export function applyGuestDebug({ a64, guestDebug }: DebuggedVcpu): void {
  if (a64 === null) return;
  let host: HostDebug | null = null;
  if (guestDebug !== null) {
    const { control, bcr, bvr, wcr, wvr } = guestDebug;
    const hardware = (control & USE_HW) === 0 ? null : { bcr, bvr, wcr, wvr };
    host = { singleStep: (control & SINGLESTEP) !== 0, hardware };
  }
  a64.pe.debugFor(host);
}
