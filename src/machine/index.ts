// Owns: machine's front door: the emulated arm64 silicon. It has never heard of KVM. VM thread.

export { A64Machine, a64Pages } from "./a64/a64-machine.js";
export { disassemble } from "./a64/disassembler/disassembler.js";
export { A64Engine, type A64Latent } from "./a64/engine.js";
export type { HostDebug } from "./a64/pe/debug.js";
export { EC } from "./a64/pe/exception.js";
export { lookUp } from "./a64/pe/look-up.js";
export { LINE } from "./a64/pe/pe.js";
export { countersOf, isListed } from "./a64/pe/pmu.js";
export { PMU_BY_NAME, type PmuConfig } from "./a64/pe/pmu.table.js";
export type { PeRegisters } from "./a64/pe/registers.js";
export {
  type PeConfig,
  SYSREGS_TABLE,
  type SysReg,
} from "./a64/pe/sysreg.table.js";
export { COUNTER_HZ, readControl } from "./a64/pe/timer.js";
export { shareTier0, type Tier0Code } from "./a64/tier0/code.js";
export type { Translation } from "./a64/tier1/tier1.js";
export { DIAGNOSTICS, type DiagnosticKind } from "./dirty/diagnostics.js";
export {
  BR_EN,
  decodeBase,
  decodeCons,
  decodeEntry,
  decodeProd,
  ENTRY_BYTES,
  ERR_REASON,
  encodeCons,
  encodeProd,
  entriesOf,
  entryHigh,
  entryLow,
  FSC as HDBSS_FSC,
  SZ_MAX,
  SZ_UNIT_BYTES,
  TERMINATOR_LOW,
} from "./dirty/entry.js";
export { type ArmedFault, FAULT_KINDS, type FaultHit, type FaultKind } from "./dirty/faults.js";
export { DIRTY_MODEL, type DirtyModel } from "./dirty/model.table.js";
export type { GuestEngine, Stop } from "./engine.js";
export { readCpuFrame, writeCpuFrame } from "./gic/cpu-frame.js";
export { CpuInterface } from "./gic/gicv5/cpu-interface.js";
export { InterruptDomain } from "./gic/gicv5/domain.js";
export {
  ICC_V5_BY_ENCODING,
  type IccV5Register,
} from "./gic/gicv5/icc.table.js";
export {
  ICSR_F,
  INTID_TYPE,
  ISTE,
  iaffidOf,
  icsrOf,
  idOf,
  intidOf,
  priorityOf,
  typeOf,
} from "./gic/gicv5/intid.js";
export { IRS32, IRS64, VMAP } from "./gic/gicv5/irs-frame.table.js";
export { Ist, type IstLayout } from "./gic/gicv5/ist.js";
export { PeGicState } from "./gic/gicv5/pe-state.js";
export {
  encodeVmte,
  VMTE_BYTES,
  VMTE_VALID,
  VPETE_BYTES,
} from "./gic/gicv5/vm-table.js";
export { ICC_BY_ENCODING, type IccName } from "./gic/icc.table.js";
export {
  BPR0_MIN,
  BPR1_MIN,
  HCR,
  INTID_V2,
  LR,
  LR_CPUID_SHIFT,
  NR_LRS,
  PRIORITY_BITS,
  VMCR,
} from "./gic/list-register.js";
export { VirtualInterface } from "./gic/virtual-interface.js";
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
  type Stage2Regime,
  startEntriesFor,
  startLevelFor,
} from "./mmu/regime.js";
export { emptyWalk, walkStage2 } from "./mmu/walk.js";
export { SyntheticEngine } from "./synthetic/engine.js";
export { ListSource, PatternSource } from "./synthetic/program.js";
export { UnbackedMemory } from "./unbacked-memory.js";
