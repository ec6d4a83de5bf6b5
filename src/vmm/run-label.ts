// Owns: the name of a vCPU's run in the scheduler, and how one is hurried. VM thread.
import type { Kvm } from "../kvm/index.js";

/** Label of a run's context. */
export function runLabel(vcpu: number): string {
  return `run:${vcpu}`;
}

/** Puts a vCPU's run first at the scheduler's next choice. */
export function hurry(kvm: Kvm, vcpu: number): void {
  const label = runLabel(vcpu);
  for (const context of kvm.vm.sched.contexts) {
    if (context.label === label) context.urgent = true;
  }
}

/** A signal to the thread of a vCPU that is in KVM_RUN. */
export function kickVcpu(kvm: Kvm, vcpu: Kvm["vm"]["vcpus"][number]): void {
  if (!vcpu.running) return;
  vcpu.kicked = true;
  kvm.vm.vgic.kick(vcpu);
  kvm.vm.cpuFree.wake();
  hurry(kvm, vcpu.id);
}
