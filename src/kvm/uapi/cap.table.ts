// Owns: every capability that Tidemark names: number, value, and the ioctl it stands for. Data only.
// A capability whose ioctl is not there yet reads 0 (DESIGN 9); numbers not listed read 0 too.
// @source include/uapi/linux/kvm.h; kvm-uapi.md 3.3
import { KVM_IRQ_ROUTING_MAX_ROUTES, KVM_RING_BYTES_MAX } from "./derived.js";
import { HW_BREAKPOINTS, HW_WATCHPOINTS, IPA_BITS_LIMIT, KVM_GUESTDBG, KVM_USER_MEM_SLOTS } from "./flags.js";

/** "vm:…" values depend on the VM; kvm/capabilities.ts computes them. */
export type CapValue = number | "host-cpus" | "vm:eager-split" | "vm:block-sizes" | "vm:hdbss" | "vm:hdbss-generic" | "vm:hdbss-bytes" | "vm:max-vcpus" | "vm-only:msi-devid" | "vm-only:einval";

export interface CapRow {
  readonly name: string;
  readonly number: number;
  readonly value: CapValue;
  /** Whether KVM_ENABLE_CAP knows it on a VM. */
  readonly enable: boolean;
  readonly summary: string;
}

const row = (number: number, name: string, value: CapValue, summary: string, enable = false) => ({
  name: `KVM_CAP_${name}`,
  number,
  value,
  enable,
  summary,
});

export const CAPS: readonly CapRow[] = [
  row(0, "IRQCHIP", 1, "In-kernel interrupt controllers."),
  row(3, "USER_MEMORY", 1, "Guest memory from userspace addresses."),
  row(9, "NR_VCPUS", "host-cpus", "Recommended vCPUs: CPUs of the machine."),
  row(10, "NR_MEMSLOTS", KVM_USER_MEM_SLOTS, "Slots of a VM."),
  row(14, "MP_STATE", 1, "GET/SET_MP_STATE."),
  row(15, "COALESCED_MMIO", 1, "Page offset of the coalesced ring; here a resource."),
  row(16, "SYNC_MMU", 1, "Changes of userspace mappings reach the guest."),
  row(21, "DESTROY_MEMORY_REGION_WORKS", 1, "Slots can be deleted."),
  row(23, "SET_GUEST_DEBUG", 1, "KVM_SET_GUEST_DEBUG."),
  row(25, "IRQ_ROUTING", KVM_IRQ_ROUTING_MAX_ROUTES, "Entries of a GSI routing table."),
  row(30, "JOIN_MEMORY_REGIONS_WORKS", 1, "Neighbouring slots work."),
  row(32, "IRQFD", 1, "KVM_IRQFD."),
  row(36, "IOEVENTFD", 1, "KVM_IOEVENTFD."),
  row(40, "INTERNAL_ERROR_DATA", 1, "Internal-error exits carry data."),
  row(41, "VCPU_EVENTS", 1, "GET/SET_VCPU_EVENTS."),
  row(66, "MAX_VCPUS", "vm:max-vcpus", "vCPUs of a VM at most."),
  row(70, "ONE_REG", 1, "GET/SET_ONE_REG."),
  row(77, "SIGNAL_MSI", 1, "KVM_SIGNAL_MSI; it wants an ITS."),
  row(81, "READONLY_MEM", 1, "READONLY slots."),
  row(82, "IRQFD_RESAMPLE", 1, "irqfd with a resamplefd."),
  row(87, "ARM_PSCI", 1, "PSCI 0.1."),
  row(88, "ARM_SET_DEVICE_ADDR", 1, "KVM_ARM_SET_DEVICE_ADDR."),
  row(89, "DEVICE_CTRL", 1, "KVM_CREATE_DEVICE."),
  row(93, "ARM_EL1_32BIT", 0, "No AArch32."),
  row(98, "ENABLE_CAP_VM", 1, "KVM_ENABLE_CAP on a VM."),
  row(102, "ARM_PSCI_0_2", 1, "PSCI 0.2 to 1.3."),
  row(105, "CHECK_EXTENSION_VM", 1, "KVM_CHECK_EXTENSION on a VM."),
  row(119, "GUEST_DEBUG_HW_BPS", HW_BREAKPOINTS, "Hardware breakpoints."),
  row(120, "GUEST_DEBUG_HW_WPS", HW_WATCHPOINTS, "Hardware watchpoints."),
  row(122, "IOEVENTFD_ANY_LENGTH", 1, "ioeventfd of length 0."),
  row(126, "ARM_PMU_V3", 1, "PMUv3 with six event counters."),
  row(127, "VCPU_ATTRIBUTES", 1, "Device attributes of vCPUs."),
  row(128, "MAX_VCPU_ID", "vm:max-vcpus", "One more than the highest vCPU id."),
  row(131, "MSI_DEVID", "vm-only:msi-devid", "MSIs carry device ids: once the VM has an ITS. EINVAL on the system descriptor."),
  row(136, "IMMEDIATE_EXIT", 1, "RUN with immediate_exit."),
  row(144, "ARM_USER_IRQ", 1, "Timer and PMU levels go to userspace without a vGIC."),
  row(158, "ARM_INJECT_SERROR_ESR", 1, "SErrors with a syndrome: the PE has RAS."),
  row(162, "COALESCED_PIO", 1, "Coalesced zones on the PIO bus."),
  row(165, "ARM_VM_IPA_SIZE", IPA_BITS_LIMIT, "Largest guest-physical size in bits."),
  row(168, "MANUAL_DIRTY_LOG_PROTECT2", 3, "Manual protect (1), INITIALLY_SET (2).", true),
  row(170, "ARM_SVE", 0, "No SVE."),
  row(171, "ARM_PTRAUTH_ADDRESS", 0, "No pointer authentication."),
  row(172, "ARM_PTRAUTH_GENERIC", 0, "No pointer authentication."),
  row(174, "ARM_IRQ_LINE_LAYOUT_2", 1, "vCPU ids above 255 in KVM_IRQ_LINE."),
  row(177, "ARM_NISV_TO_USER", 1, "Exits for accesses without a syndrome.", true),
  row(178, "ARM_INJECT_EXT_DABT", 1, "External aborts by SET_VCPU_EVENTS."),
  row(182, "HALT_POLL", 1, "Halt-poll limit in ns.", true),
  row(187, "STEAL_TIME", 1, "Stolen time of a vCPU, in guest memory."),
  row(192, "DIRTY_LOG_RING", 0, "Only for hosts with total store order."),
  row(195, "SET_GUEST_DEBUG2", KVM_GUESTDBG.VALID_MASK, "Bits of control."),
  row(198, "PTP_KVM", 0, "Not yet."),
  row(203, "BINARY_STATS_FD", 1, "KVM_GET_STATS_FD."),
  row(205, "ARM_MTE", 0, "No MTE."),
  row(215, "SYSTEM_EVENT_DATA", 1, "System events carry data."),
  row(216, "ARM_SYSTEM_SUSPEND", 1, "PSCI SYSTEM_SUSPEND exits.", true),
  row(223, "DIRTY_LOG_RING_ACQ_REL", KVM_RING_BYTES_MAX, "Bytes of a dirty ring at most.", true),
  row(225, "DIRTY_LOG_RING_WITH_BITMAP", 1, "A bitmap beside the rings.", true),
  row(227, "COUNTER_OFFSET", 1, "KVM_ARM_SET_COUNTER_OFFSET."),
  row(228, "ARM_EAGER_SPLIT_CHUNK_SIZE", "vm:eager-split", "Eager split chunk in bytes.", true),
  row(229, "ARM_SUPPORTED_BLOCK_SIZES", "vm:block-sizes", "Bit n: blocks of 2^n bytes."),
  row(230, "ARM_SUPPORTED_REG_MASK_RANGES", 1, "Bit 0: feature ID registers."),
  row(231, "USER_MEMORY2", 1, "SET_USER_MEMORY_REGION2."),
  row(232, "MEMORY_FAULT_INFO", 0, "Not in arm64's list, although the exit exists."),
  row(233, "MEMORY_ATTRIBUTES", 0, "None on arm64."),
  row(234, "GUEST_MEMFD", 1, "KVM_CREATE_GUEST_MEMFD."),
  row(236, "PRE_FAULT_MEMORY", 0, "Not on arm64."),
  row(239, "ARM_WRITABLE_IMP_ID_REGS", 1, "MIDR, REVIDR, AIDR of the VM.", true),
  row(240, "ARM_EL2", 0, "No nested virtualisation."),
  row(241, "ARM_EL2_E2H0", 0, "No nested virtualisation."),
  row(243, "ARM_CACHEABLE_PFNMAP_SUPPORTED", "vm-only:einval", "No device memory in slots."),
  row(244, "GUEST_MEMFD_FLAGS", 3, "MMAP (1) and INIT_SHARED (2)."),
  row(245, "ARM_SEA_TO_USER", 1, "Exits for external aborts.", true),
  row(502, "ARM_HW_DIRTY_STATE_TRACK", "vm:hdbss", "HDBSS: args[0] order, args[1] on or off.", true),
  row(503, "HW_DIRTY_STATE_TRACK", "vm:hdbss-generic", "The same, if the VM's KVM calls it so.", true),
  row(504, "ARM_HDBSS_BUFFER_SIZE", "vm:hdbss-bytes", "Bytes of an HDBSS buffer.", true),
];
