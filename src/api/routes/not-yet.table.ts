// Owns: operations whose ioctl KVM has, but not on arm64; each answers 501 and names it, so that a
// client sees the whole map. Data only. HTTP thread. @source kvm-uapi.md 2 and 13
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
  ["PUT", `${VM}/memory-attributes`, "setMemoryAttributes", "KVM_SET_MEMORY_ATTRIBUTES", "Set memory attributes"],
  ["POST", `${VCPU}/prefaults`, "createPrefault", "KVM_PRE_FAULT_MEMORY", "Map memory before the guest touches it"],
];

export const NOT_YET: readonly NotYetRow[] = ROWS.map(([method, path, id, ioctl, summary]) => ({
  id,
  method,
  path,
  ioctl,
  summary,
}));
