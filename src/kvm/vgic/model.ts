// Owns: the four points at which the run loop and an interrupt controller meet, and the one input
// from outside (DESIGN 13). VM thread.
//
//   before entry   flush        queued interrupts go into the CPU interface
//   after exit     fold         what the guest did with them comes back
//   before block   hasPending   whether the vCPU may sleep
//   on a change    kick         a vCPU that runs or sleeps must look again
import type { Vcpu } from "../vcpu.js";

export interface Vgic {
  readonly name: string;
  flush(vcpu: Vcpu): void;
  fold(vcpu: Vcpu): void;
  hasPending(vcpu: Vcpu): boolean;
  kick(vcpu: Vcpu): void;
  /** An interrupt line from outside changed level: KVM_IRQ_LINE, an irqfd, a device model. */
  setLine(line: number, level: boolean): void;
}

/** A VM without an in-kernel controller: nothing is queued, nothing wakes. */
export const nullVgic: Vgic = {
  name: "none",
  flush: () => {},
  fold: () => {},
  hasPending: () => false,
  kick: (vcpu) => vcpu.wait.wake(),
  setLine: () => {},
};
