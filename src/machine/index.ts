// Owns: machine's front door: the emulated arm64 silicon. It has never heard of KVM. VM thread.
export { Host, type HostConfig } from "./host.js";
export { HCR_VM, type HostCpu, type Stage2Fault } from "./host-cpu.js";
export { UNBACKED_BASE } from "./host-memory.js";
export {
  addressHi,
  addressLo,
  HI,
  type LeafState,
  LO,
  leafState,
  outputAddress,
} from "./mmu/descriptor.js";
export {
  decodeRegime,
  encodeVtcr,
  encodeVttbr,
  startEntriesFor,
  startLevelFor,
} from "./mmu/regime.js";
export { emptyWalk, walkStage2 } from "./mmu/walk.js";
export { type Stop, SyntheticEngine } from "./synthetic/engine.js";
export { ListSource, PatternSource } from "./synthetic/program.js";
export { UnbackedMemory } from "./unbacked-memory.js";
