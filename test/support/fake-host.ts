// Owns: the host of the fake services: facts, three capabilities, one ioctl.
import { KvmError } from "../../src/base/errors.js";
import type { Services } from "../../src/service/index.js";

const CAPS = [
  { name: "KVM_CAP_NR_MEMSLOTS", number: 10, value: 32767, summary: "Slots of a VM." },
  { name: "KVM_CAP_MSI_DEVID", number: 131, value: 0, summary: "Only a VM can answer." },
  {
    name: "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
    number: 168,
    value: 3,
    summary: "Manual dirty log.",
  },
];

/** Fixed facts of a host. */
export function hostService(): Services["host"] {
  return {
    facts: () => ({
      apiVersion: 12,
      pageSizes: [4096, 16384, 65536],
      vcpuMmapSize: 8192,
      ipaLimitBits: 48,
      capacity: { memoryBytes: 2 ** 33, vms: 256 },
      allocatable: { memoryBytes: 2 ** 32, vms: 255 },
    }),
    capabilities: () => CAPS,
    checkExtension: (cap) => {
      if (cap === 131) throw new KvmError("EINVAL", "KVM_CHECK_EXTENSION", "Ask a VM.");
      return CAPS.find((row) => row.number === cap)?.value ?? 0;
    },
    capabilityNumber: (text) =>
      /^[0-9]+$/.test(text) && Number(text) < 2 ** 32
        ? Number(text)
        : (CAPS.find((row) => row.name === text)?.number ?? null),
    ioctls: () => [
      {
        name: "KVM_CREATE_VM",
        fd: "system",
        code: 0xae01,
        state: "implemented",
        route: "POST /v1/vms",
        summary: "A new VM.",
      },
    ],
  };
}
