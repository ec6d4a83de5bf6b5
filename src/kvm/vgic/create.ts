// Owns: how a vGIC comes into being: KVM_CREATE_DEVICE, KVM_CREATE_IRQCHIP and INIT. VM thread.
// @source arch/arm64/kvm/vgic/vgic-init.c by behaviour; kvm-uapi.md 6.1; interrupts.md 3.10, 3.11
import { KvmError } from "../../base/errors.js";
import { showGic } from "../id-regs.js";
import { KVM_MAX_VCPUS } from "../uapi/flags.js";
import type { Vm } from "../vm.js";
import { KVM_DEV_TYPE, type KvmDevice } from "./device-port.js";
import { VgicV2Device } from "./device-v2.js";
import { VgicV3Device } from "./device-v3.js";
import type { VgicModel } from "./dist.js";
import { InKernelVgic, VCPUS_MAX } from "./in-kernel.js";
import { VgicV5Device } from "./v5/device-v5.js";
import { VgicV5 } from "./v5/vgic-v5.js";

/** @throws KvmError EBUSY, EEXIST, E2BIG */
export function createVgic(vm: Vm, model: VgicModel | "v5"): KvmDevice {
  const refuse = (errno: "EBUSY" | "EEXIST" | "E2BIG", why: string): never => {
    throw new KvmError(errno, "KVM_CREATE_DEVICE", why);
  };
  if (vm.vcpus.some((vcpu) => vcpu.running)) refuse("EBUSY", "a vCPU is in KVM_RUN");
  if (vm.irqchipInKernel) refuse("EEXIST", "the VM has an in-kernel interrupt controller");
  if (vm.hasRun) refuse("EBUSY", "too late: a vCPU has run");
  const most = model === "v5" ? KVM_MAX_VCPUS : VCPUS_MAX[model];
  if (vm.vcpus.length > most) refuse("E2BIG", `a ${model} serves at most ${most} vCPUs`);
  showGic(vm, model);
  if (model === "v5") {
    const v5 = new VgicV5(vm);
    vm.vgic = v5;
    return new VgicV5Device(v5, KVM_DEV_TYPE.ARM_VGIC_V5);
  }
  const vgic = new InKernelVgic(vm, model);
  vm.vgic = vgic;
  if (model === "v2") return new VgicV2Device(vgic, KVM_DEV_TYPE.ARM_VGIC_V2);
  return new VgicV3Device(vgic, KVM_DEV_TYPE.ARM_VGIC_V3);
}
