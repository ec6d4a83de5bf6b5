// Owns: kvm's front door: what Linux KVM does on the emulated host, in Linux's words. VM thread,
// but for the tables, which any thread may read.
export type { MemoryObject } from "./address-space.js";
export { checkExtension, enableCap, type HostCaps } from "./capabilities.js";
export { setCounterOffset } from "./counter-offset.js";
export { createDevice } from "./device.js";
export { irqLine, irqLineStatus } from "./device-lines.js";
export { hostDeviceTree, madt } from "./dirty/discovery.js";
export { hdbssArgs, whyNoHacdbs, whyNoHdbss } from "./dirty/hdbss-switch.js";
export { NESTED_REGISTERS } from "./dirty/nested.js";
export { POLICIES, type Policies } from "./dirty/policy.table.js";
export { SEED_BUGS, type SeedBug } from "./dirty/seed-bug.table.js";
export type { DirtyRing } from "./dirty-ring.js";
export { SYSTEM_EVENT } from "./firmware/smccc.table.js";
export { setGuestDebug } from "./guest-debug.js";
export type { GuestMemfd } from "./guest-memfd.js";
export { regWritableMasks, showGic } from "./id-regs.js";
export { createIrqchip, setDeviceAddr } from "./irqchip.js";
export { Kvm, type KvmDeps } from "./kvm.js";
export { loadVcpuLatent, type VcpuLatent, vcpuLatent } from "./latent/vcpu.js";
export { loadVgicLatent, type VgicLatent, vgicLatent } from "./latent/vgic.js";
export {
  loadVmLatent,
  loadVmTime,
  setCounters,
  type VmLatent,
  type VmTime,
  vmLatent,
  vmTime,
} from "./latent/vm.js";
export { isLogging, isReadOnly, type Memslot } from "./memslots.js";
export { MissingPages, type MissingPagesView } from "./missing-pages.js";
export { mteCopyTags } from "./mte.js";
export { checkOneReg, getOneReg, getRegList, setOneReg, setRegs } from "./one-reg.js";
export { MEETING_PAIRS, POINT, POINT_NAMES, type PointName } from "./preemption.table.js";
export { ListSource, PatternSource } from "./programs.js";
export { Mutex } from "./sched/locks.js";
export { type Op, type StepObserver, Waitable } from "./sched/scheduler.js";
export type { MemoryRegion } from "./set-memory-region.js";
export { setSignalMask } from "./signal-mask.js";
export { viewStage2 } from "./stage2-view.js";
export { statsFile } from "./stats.js";
export { THROTTLE_PERCENT_MAX } from "./throttle.js";
export { CAPS } from "./uapi/cap.table.js";
export { EXITS } from "./uapi/exit.table.js";
export {
  FALLOC_FL,
  IPA_BITS_LIMIT,
  KVM_ARM_VCPU,
  KVM_DIRTY_GFN,
  KVM_DIRTY_LOG,
  KVM_MEM,
  KVM_MP_STATE,
} from "./uapi/flags.js";
export { IOCTLS, ioctlCode } from "./uapi/ioctl.table.js";
export type { RunOutcome, Vcpu } from "./vcpu.js";
export { getVcpuAttr, hasVcpuAttr, setVcpuAttr } from "./vcpu-attr.js";
export { createVcpu } from "./vcpu-create.js";
export { armVcpuFinalize, getVcpuEvents, setVcpuEvents } from "./vcpu-events.js";
export { armVcpuInit, preferredTarget } from "./vcpu-init.js";
export type { VfioFile } from "./vfio.js";
export { KVM_DEV_TYPE, type KvmDevice } from "./vgic/device-port.js";
export type { VgicDist } from "./vgic/dist.js";
export { signalMsi } from "./vgic/msi.js";
export type { VgicCpu, VgicIrq } from "./vgic/state.js";
export type {
  V5CpuView,
  V5Latent,
  V5Port,
  V5SpiView,
  V5View,
} from "./vgic/v5/view.js";
export { getVmAttr, hasVmAttr, setVmAttr } from "./vm-attr.js";
