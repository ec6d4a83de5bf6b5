// Owns: what the emulated host offers. HTTP thread.
import { PAGE_SIZES } from "../base/page.js";
import type { Runtime } from "../runtime/index.js";
import type { CapabilityFact, HostFacts, HostService } from "./services.js";

const U32_MAX = 0xffff_ffff;

/** KVM's tables and system-level answers, given by app.ts. */
export interface HostUapi {
  /** KVM_GET_VCPU_MMAP_SIZE, bytes. */
  readonly vcpuMmapSize: number;
  /** Largest IPA size that KVM_CREATE_VM takes, bits. */
  readonly ipaLimitBits: number;
  capabilities(): readonly CapabilityFact[];
  /** KVM_CHECK_EXTENSION on the system descriptor; 0 for what is unknown. */
  checkExtension(cap: number): number;
  ioctls(): ReturnType<HostService["ioctls"]>;
}

export function hostService(uapi: HostUapi, runtime: Runtime): HostService {
  return {
    facts: () => hostFacts(uapi, runtime),
    capabilities: () => uapi.capabilities(),
    checkExtension: (cap) => uapi.checkExtension(cap),
    capabilityNumber: (text) => {
      if (/^[0-9]{1,10}$/.test(text)) return Number(text) <= U32_MAX ? Number(text) : null;
      return uapi.capabilities().find((row) => row.name === text)?.number ?? null;
    },
    ioctls: () => uapi.ioctls(),
  };
}

function hostFacts(uapi: HostUapi, runtime: Runtime): HostFacts {
  const usage = runtime.usage();
  return {
    apiVersion: 12,
    pageSizes: PAGE_SIZES,
    vcpuMmapSize: uapi.vcpuMmapSize,
    ipaLimitBits: uapi.ipaLimitBits,
    capacity: { memoryBytes: usage.memoryBudgetBytes, vms: usage.maxVms },
    allocatable: {
      memoryBytes: Math.max(0, usage.memoryBudgetBytes - usage.memoryUsedBytes),
      vms: Math.max(0, usage.maxVms - usage.vms),
    },
  };
}
