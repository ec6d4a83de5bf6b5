// Owns: runtime's front door. Both sides of the door between threads.
export type {
  BoardDefinition,
  CommandArgs,
  CommandName,
  CommandResult,
  ImageRef,
  RunResult,
  VmCommands,
  VmDefinition,
} from "../vmm/index.js";
export type * from "./handle.js";
export { InlineVm } from "./inline-vm.js";
export { decodeInputLog, encodeInputLog } from "./input-log-codec.js";
export { createRuntime } from "./runtime.js";
