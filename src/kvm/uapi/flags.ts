// Owns: flag and limit constants of the KVM interface under their Linux names. Any thread.
// @source include/uapi/linux/kvm.h; include/linux/kvm_host.h; arch/arm64/include/uapi/asm/kvm.h

/** kvm_userspace_memory_region(2).flags. */
export const KVM_MEM = {
  LOG_DIRTY_PAGES: 1 << 0,
  READONLY: 1 << 1,
  GUEST_MEMFD: 1 << 2,
} as const;

export const KVM_USER_MEM_SLOTS = 32767;
/** Pages of one slot at most. */
export const KVM_MEM_MAX_NR_PAGES = 2 ** 31 - 1;
/** Addresses from here on are not userspace: VA_BITS 48. */
export const TASK_SIZE = 2n ** 48n;

export const KVM_DIRTY_LOG = { MANUAL_PROTECT_ENABLE: 1, INITIALLY_SET: 2 } as const;

/** kvm_dirty_gfn.flags. */
export const KVM_DIRTY_GFN = { DIRTY: 1, RESET: 2 } as const;
/** Bytes of struct kvm_dirty_gfn: u32 flags, u32 slot, u64 offset. */
export const KVM_DIRTY_GFN_BYTES = 16;
export const KVM_DIRTY_RING_RSVD_ENTRIES = 64;
export const KVM_DIRTY_RING_MAX_ENTRIES = 65536;

export const KVM_IOEVENTFD = {
  DATAMATCH: 1,
  PIO: 2,
  DEASSIGN: 4,
  VIRTIO_CCW_NOTIFY: 8,
  VALID_MASK: 0x1f,
} as const;
export const KVM_IRQFD = { DEASSIGN: 1, RESAMPLE: 2 } as const;
export const KVM_IRQ_ROUTING = { IRQCHIP: 1, MSI: 2 } as const;
export const KVM_MSI_VALID_DEVID = 1;
export const KVM_MAX_IRQ_ROUTES = 4096; // tidy: entries of a routing table
export const KVM_IRQCHIP_NUM_PINS = 988;
export const KVM_NR_IRQCHIPS = 1;
/** Devices of one bus that are not ioeventfds. */
export const NR_IOBUS_DEVS = 1000;

export const KVM_MAX_VCPUS = 512;

export const GUEST_MEMFD_FLAG = { MMAP: 1n, INIT_SHARED: 2n } as const;
export const FALLOC_FL = { KEEP_SIZE: 1, PUNCH_HOLE: 2 } as const;

export const KVM_MP_STATE = { RUNNABLE: 0, STOPPED: 5, SUSPENDED: 10 } as const;

/** Largest and default IPA sizes of the emulated host, in bits. */
export const IPA_BITS_LIMIT = 48;
export const IPA_BITS_DEFAULT = 40;
export const IPA_BITS_MIN = 32;

/** kvm_guest_debug.control. */
export const KVM_GUESTDBG = {
  ENABLE: 1 << 0,
  SINGLESTEP: 1 << 1,
  USE_SW_BP: 1 << 16,
  USE_HW: 1 << 17,
  VALID_MASK: 0x3_0003,
} as const;

/** Of the emulated host, as ID_AA64DFR0_EL1 tells them. */
export const HW_BREAKPOINTS = 6;
export const HW_WATCHPOINTS = 4;

/** Bits of kvm_vcpu_init.features[0]. */
export const KVM_ARM_VCPU = { POWER_OFF: 0, PSCI_0_2: 2, PMU_V3: 3 } as const;
