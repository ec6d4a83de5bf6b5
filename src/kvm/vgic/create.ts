// Owns: how a vGIC comes into being: KVM_CREATE_DEVICE, KVM_CREATE_IRQCHIP and INIT. VM thread.
// @source arch/arm64/kvm/vgic/vgic-init.c by behaviour; kvm-uapi.md 6.1; interrupts.md 3.10, 3.11
import { KvmError } from "../../base/errors.js";
import { showIcc } from "../id-regs.js";
import type { Vm } from "../vm.js";
import { KVM_DEV_TYPE, type KvmDevice } from "./device-port.js";
import { VgicV2Device } from "./device-v2.js";
import { VgicV3Device } from "./device-v3.js";
import type { VgicModel } from "./dist.js";
import { InKernelVgic, VCPUS_MAX } from "./in-kernel.js";

/** @throws KvmError EBUSY, EEXIST, E2BIG */
export function createVgic(vm: Vm, model: VgicModel): KvmDevice {
  const refuse = (errno: "EBUSY" | "EEXIST" | "E2BIG", why: string): never => {
    throw new KvmError(errno, "KVM_CREATE_DEVICE", why);
  };
  if (vm.vcpus.some((vcpu) => vcpu.running)) refuse("EBUSY", "a vCPU is in KVM_RUN");
  if (vm.irqchipInKernel) refuse("EEXIST", "the VM has an in-kernel interrupt controller");
  if (vm.hasRun) refuse("EBUSY", "too late: a vCPU has run");
  if (vm.vcpus.length > VCPUS_MAX[model]) {
    refuse("E2BIG", `a ${model} serves at most ${VCPUS_MAX[model]} vCPUs`);
  }
  const vgic = new InKernelVgic(vm, model);
  vm.vgic = vgic;
  showIcc(vm, model === "v3");
  if (model === "v2") return new VgicV2Device(vgic, KVM_DEV_TYPE.ARM_VGIC_V2);
  return new VgicV3Device(vgic, KVM_DEV_TYPE.ARM_VGIC_V3);
}
