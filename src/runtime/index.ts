// Owns: runtime's front door. Both sides of the door between threads.
export type {
  BoardDefinition,
  CommandArgs,
  CommandName,
  CommandResult,
  DirtyPages,
  DirtyView,
  ImageRef,
  MemoryMap,
  RunResult,
  StateCommands,
  TrackingCommands,
  TrackingMethod,
  VmCommands,
  VmDefinition,
} from "../vmm/index.js";
export {
  DIRTY_DEFECTS,
  DIRTY_DIAGNOSTICS,
  DIRTY_FAULTS,
  DIRTY_SETTINGS,
  STATE_VERSIONS,
} from "../vmm/index.js";
export type * from "./handle.js";
export { InlineVm } from "./inline-vm.js";
export { decodeInputLog, encodeInputLog } from "./input-log-codec.js";
export { createRuntime } from "./runtime.js";
