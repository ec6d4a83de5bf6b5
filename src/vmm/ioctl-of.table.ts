// Owns: which commands are KVM ioctls, and which one each is. Data only.
// A dead VM answers EIO to these before it looks at anything else (kvm-uapi.md R2); all others are
// userspace's own doings on its mappings and files, or looks at the emulation.
import type { CommandName } from "./commands.js";

export const IOCTL_OF: { readonly [K in CommandName]?: string } = {
  checkExtension: "KVM_CHECK_EXTENSION",
  enableCap: "KVM_ENABLE_CAP",
  createVcpu: "KVM_CREATE_VCPU",
  setUserMemoryRegion: "KVM_SET_USER_MEMORY_REGION",
  setUserMemoryRegion2: "KVM_SET_USER_MEMORY_REGION2",
  createGuestMemfd: "KVM_CREATE_GUEST_MEMFD",
  getDirtyLog: "KVM_GET_DIRTY_LOG",
  harvestDirtyLog: "KVM_GET_DIRTY_LOG",
  clearDirtyLog: "KVM_CLEAR_DIRTY_LOG",
  resetDirtyRings: "KVM_RESET_DIRTY_RINGS",
  registerCoalescedZone: "KVM_REGISTER_COALESCED_MMIO",
  unregisterCoalescedZone: "KVM_UNREGISTER_COALESCED_MMIO",
  ioeventfd: "KVM_IOEVENTFD",
  irqfd: "KVM_IRQFD",
  setGsiRouting: "KVM_SET_GSI_ROUTING",
  signalMsi: "KVM_SIGNAL_MSI",
  createDevice: "KVM_CREATE_DEVICE",
  irqLine: "KVM_IRQ_LINE",
  run: "KVM_RUN",
  preferredTarget: "KVM_ARM_PREFERRED_TARGET",
  vcpuInit: "KVM_ARM_VCPU_INIT",
  getRegList: "KVM_GET_REG_LIST",
  getOneReg: "KVM_GET_ONE_REG",
  setOneReg: "KVM_SET_ONE_REG",
  setCounterOffset: "KVM_ARM_SET_COUNTER_OFFSET",
  setVcpuAttr: "KVM_SET_DEVICE_ATTR",
  getVcpuAttr: "KVM_GET_DEVICE_ATTR",
  hasVcpuAttr: "KVM_HAS_DEVICE_ATTR",
  getMpState: "KVM_GET_MP_STATE",
  setMpState: "KVM_SET_MP_STATE",
  stats: "KVM_GET_STATS_FD",
};
