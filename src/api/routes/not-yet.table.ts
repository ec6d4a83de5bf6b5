// Owns: operations whose ioctl this host does not have yet; each answers 501 and names it, so that
// a client sees the whole map. Data only. HTTP thread. @source kvm-uapi.md 2 and 13
import type { Method } from "../operation.js";

export interface NotYetRow {
  readonly id: string;
  readonly method: Method;
  readonly path: string;
  readonly ioctl: string;
  readonly summary: string;
}

const VM = "/v1/vms/{vm}";
const VCPU = `${VM}/vcpus/{n}`;

const ROWS: readonly (readonly [Method, string, string, string, string])[] = [
  ["PUT", `${VM}/irqchip`, "setIrqchip", "KVM_CREATE_IRQCHIP", "Create the legacy vGICv2"],
  ["PUT", `${VM}/irqchip/addresses/{id}`, "setIrqchipAddress", "KVM_ARM_SET_DEVICE_ADDR", "Place the legacy vGICv2"],
  ["GET", `${VM}/mte-tags`, "getMteTags", "KVM_ARM_MTE_COPY_TAGS", "Read memory tags"],
  ["PUT", `${VM}/mte-tags`, "setMteTags", "KVM_ARM_MTE_COPY_TAGS", "Write memory tags"],
  ["GET", `${VM}/register-writable-masks/{range}`, "getRegisterWritableMasks", "KVM_ARM_GET_REG_WRITABLE_MASKS", "Read which ID register bits can be written"],
  ["PUT", `${VM}/memory-attributes`, "setMemoryAttributes", "KVM_SET_MEMORY_ATTRIBUTES", "Set memory attributes"],
  ["GET", `${VM}/attributes/{group}/{attr}`, "getVmAttribute", "KVM_GET_DEVICE_ATTR", "Read a VM attribute"],
  ["PUT", `${VM}/attributes/{group}/{attr}`, "setVmAttribute", "KVM_SET_DEVICE_ATTR", "Set a VM attribute"],
  ["POST", `${VM}/smccc-filters`, "createSmcccFilter", "KVM_SET_DEVICE_ATTR", "Add an SMCCC filter range"],
  ["GET", `${VM}/devices/{device}/attributes/{group}/{attr}`, "getDeviceAttribute", "KVM_GET_DEVICE_ATTR", "Read a device attribute"],
  ["PUT", `${VM}/devices/{device}/attributes/{group}/{attr}`, "setDeviceAttribute", "KVM_SET_DEVICE_ATTR", "Set a device attribute"],
  ["POST", `${VM}/devices/{device}/operations`, "createDeviceOperation", "KVM_SET_DEVICE_ATTR", "Initialise, save or restore a device"],
  ["POST", `${VCPU}/finalizations`, "createFinalization", "KVM_ARM_VCPU_FINALIZE", "Finish a vCPU feature's set-up"],
  ["PATCH", `${VCPU}/registers`, "patchRegisters", "KVM_SET_ONE_REG", "Write several registers"],
  ["GET", `${VCPU}/vcpu-events`, "getVcpuEvents", "KVM_GET_VCPU_EVENTS", "Read pending exceptions"],
  ["PUT", `${VCPU}/vcpu-events`, "setVcpuEvents", "KVM_SET_VCPU_EVENTS", "Inject exceptions"],
  ["PUT", `${VCPU}/guest-debug`, "setGuestDebug", "KVM_SET_GUEST_DEBUG", "Debug the guest"],
  ["DELETE", `${VCPU}/guest-debug`, "deleteGuestDebug", "KVM_SET_GUEST_DEBUG", "Stop debugging the guest"],
  ["PUT", `${VCPU}/signal-mask`, "setSignalMask", "KVM_SET_SIGNAL_MASK", "Set the signal mask of KVM_RUN"],
  ["POST", `${VCPU}/prefaults`, "createPrefault", "KVM_PRE_FAULT_MEMORY", "Map memory before the guest touches it"],
];

export const NOT_YET: readonly NotYetRow[] = ROWS.map(([method, path, id, ioctl, summary]) => ({
  id,
  method,
  path,
  ioctl,
  summary,
}));
