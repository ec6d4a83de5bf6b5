// Owns: finding the vCPU that a command names. VM thread.
import { ServiceError } from "../base/errors.js";
import type { Vcpu } from "../kvm/index.js";
import type { Machine } from "./machine.js";

/** @throws ServiceError "vcpu-not-found" */
export function vcpuOf(m: Machine, id: number): Vcpu {
  const vcpu = m.kvm.vm.vcpuById(id);
  if (vcpu === undefined) throw new ServiceError("vcpu-not-found", `the VM has no vCPU ${id}`);
  return vcpu;
}

/** Most vCPU ioctls wait for the vCPU's mutex; over HTTP that is a refusal (kvm-uapi R5). */
export function idleVcpu(m: Machine, id: number): Vcpu {
  const vcpu = vcpuOf(m, id);
  if (vcpu.running) {
    throw new ServiceError("vcpu-running", `vCPU ${id} is in KVM_RUN; kick it first`);
  }
  return vcpu;
}
