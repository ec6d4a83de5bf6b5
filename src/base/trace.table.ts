// Owns: what a trace of a VM can be asked for. Data only. Any thread.

/** Category → the events in it: Linux's tracepoints, functions of VFIO (it has none), and ioctls. */
export const TRACE_CATEGORIES = {
  exit: ["kvm_entry", "kvm_exit", "kvm_userspace_exit"],
  fault: ["kvm_guest_fault"],
  mmio: ["kvm_mmio"],
  wfx: ["kvm_wfx_arm64"],
  hypercall: ["kvm_hvc_arm64"],
  irq: ["kvm_irq_line", "kvm_set_irq", "kvm_ack_irq", "vgic_update_irq_pending", "kvm_timer_update_irq"],
  vfio: ["vfio_automasked_irq_handler", "vfio_platform_unmask"],
  dirty: ["kvm_dirty_ring_push", "kvm_dirty_ring_exit", "kvm_dirty_ring_reset"],
  ioctl: ["ioctl"],
} as const;

export type TraceCategory = keyof typeof TRACE_CATEGORIES;
export type TraceEventName = (typeof TRACE_CATEGORIES)[TraceCategory][number];

export const TRACE_CATEGORY_NAMES = Object.keys(TRACE_CATEGORIES) as TraceCategory[];

/** One bit per category, in the order of the table. */
export function traceMask(categories: readonly TraceCategory[]): number {
  return categories.reduce((mask, name) => mask | (1 << TRACE_CATEGORY_NAMES.indexOf(name)), 0);
}
