// Owns: KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS and KVM_ARM_VCPU_FINALIZE. VM thread.
// @source arch/arm64/kvm/guest.c, inject_fault.c by behaviour; kvm-uapi.md 8.2, 8.7
import { KvmError } from "../base/errors.js";
import type { A64Engine } from "../machine/index.js";
import type { Vcpu } from "./vcpu.js";
import { applyReset } from "./vcpu-init.js";

/** struct kvm_vcpu_events; its padding has no place here. */
interface VcpuEvents {
  readonly serrorPending: boolean;
  readonly serrorHasEsr: boolean;
  readonly extDabtPending: boolean;
  readonly serrorEsr: bigint;
}

/** ISS of an SError that nobody described: IDS, and nothing else. */
export const SERROR_ISS_DEFAULT = 1 << 24;
const ISS_MASK = 0x1ff_ffffn;

function initialised(vcpu: Vcpu, ioctl: string): A64Engine {
  if (vcpu.a64 !== null) return vcpu.a64;
  throw new KvmError("ENOEXEC", ioctl, `vCPU ${vcpu.id} is not initialised: KVM_ARM_VCPU_INIT`);
}

/** @throws KvmError ENOEXEC */
export function getVcpuEvents(vcpu: Vcpu): VcpuEvents {
  const { serror } = initialised(vcpu, "KVM_GET_VCPU_EVENTS").pe;
  return {
    serrorPending: serror !== null,
    serrorHasEsr: true,
    // An abort is taken at once: none is ever found waiting.
    extDabtPending: false,
    serrorEsr: BigInt(serror ?? 0),
  };
}

/**
 * Injects a data abort, an SError, or both. A waiting SError is not taken back.
 * @throws KvmError ENOEXEC; EINVAL bits beyond the ISS
 */
export function setVcpuEvents(vcpu: Vcpu, events: VcpuEvents): void {
  const ioctl = "KVM_SET_VCPU_EVENTS";
  const a64 = initialised(vcpu, ioctl);
  const { serrorPending, serrorHasEsr, serrorEsr, extDabtPending } = events;
  if (serrorPending && serrorHasEsr && (serrorEsr & ~ISS_MASK) !== 0n) {
    throw new KvmError("EINVAL", ioctl, "serrorEsr is an ISS: bits 24:0");
  }
  applyReset(vcpu);
  if (extDabtPending) {
    a64.injectExternalAbort(false);
    // The access that userspace was to complete did not happen.
    vcpu.pendingMmio = null;
  }
  if (serrorPending) a64.pe.serror = serrorHasEsr ? Number(serrorEsr) : SERROR_ISS_DEFAULT;
}

/**
 * Only SVE is ever finalised, and this host has none.
 * @throws KvmError ENOEXEC, EINVAL
 */
export function armVcpuFinalize(vcpu: Vcpu, feature: number): never {
  const ioctl = "KVM_ARM_VCPU_FINALIZE";
  initialised(vcpu, ioctl);
  throw new KvmError("EINVAL", ioctl, `the vCPU has no feature ${feature} to finalise`);
}
