// Owns: the state of a vCPU that no ioctl tells: what another host needs beside registers, events
// and MP state to go on at the same instruction. VM thread.
// @source kvm-uapi.md 12.1 ("Not readable")
import type { Saved } from "../../base/saved.js";
import type { A64Latent } from "../../machine/index.js";
import { type GuestDebug, setGuestDebug } from "../guest-debug.js";
import type { ExitReason } from "../uapi/exit.table.js";
import type { MmioExit, Vcpu } from "../vcpu.js";

export interface VcpuLatent {
  readonly lastExit: ExitReason | null;
  /** An MMIO exit whose completion the next KVM_RUN brings. */
  readonly pendingMmio: MmioExit | null;
  readonly waitsForInterrupt: boolean;
  readonly waitsForEvent: boolean;
  readonly deviceIrqLevel: number;
  readonly guestDebug: GuestDebug | null;
  readonly signalMask: bigint | null;
  /** What it waited for host CPUs and its record in guest memory doesn't have yet. */
  readonly stolenNs: number;
  readonly synthetic: Saved;
  readonly a64: A64Latent | null;
}

export function vcpuLatent(vcpu: Vcpu): VcpuLatent {
  const { lastExit, pendingMmio, waitsForInterrupt, waitsForEvent } = vcpu;
  return {
    lastExit,
    pendingMmio,
    waitsForInterrupt,
    waitsForEvent,
    deviceIrqLevel: vcpu.deviceIrqLevel,
    guestDebug: vcpu.guestDebug,
    signalMask: vcpu.signalMask,
    stolenNs: vcpu.runDelayNs - vcpu.lastSteal,
    synthetic: vcpu.synthetic.save(),
    a64: vcpu.a64?.latent() ?? null,
  };
}

/** After its registers, events and MP state; its program is set already. @throws KvmError EINVAL */
export function loadVcpuLatent(vcpu: Vcpu, latent: VcpuLatent): void {
  vcpu.lastExit = latent.lastExit;
  vcpu.pendingMmio = latent.pendingMmio;
  vcpu.waitsForInterrupt = latent.waitsForInterrupt;
  vcpu.waitsForEvent = latent.waitsForEvent;
  vcpu.deviceIrqLevel = latent.deviceIrqLevel;
  if (latent.guestDebug !== null) setGuestDebug(vcpu, latent.guestDebug);
  vcpu.signalMask = latent.signalMask;
  vcpu.runDelayNs = vcpu.lastSteal + latent.stolenNs;
  vcpu.synthetic.load(latent.synthetic);
  if (latent.a64 !== null) vcpu.a64?.loadLatent(latent.a64);
}
