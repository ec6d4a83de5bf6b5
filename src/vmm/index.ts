// Owns: vmm's front door: what QEMU would do around KVM. VM thread, but for types and tables.
export { shareTier0, type Tier0Code } from "../machine/index.js";
export { BOARD_LIMITS } from "./board/memory-map.table.js";
export type * from "./commands.js";
export type * from "./definition.js";
export {
  DIRTY_DEFECTS,
  DIRTY_DIAGNOSTICS,
  DIRTY_FAULTS,
  DIRTY_SETTINGS,
  whyNotDirty,
} from "./dirty-settings.js";
export { createInstance } from "./instance.js";
export type { InstanceDeps, Outcome, VmInstance } from "./instance-door.js";
export { STATE_VERSIONS } from "./migration/state-versions.table.js";
