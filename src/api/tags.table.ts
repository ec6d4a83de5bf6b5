// Owns: the chapters of the API document. Data only. HTTP thread.

export const TAGS = [
  { name: "host", description: "What the emulated host is and can do." },
  { name: "vms", description: "VMs: life cycle, capabilities, replay, inspection." },
  { name: "images", description: "What boards load: uploaded once, named by VMs." },
  { name: "boards", description: "A VM's board: power, console. Then the host is its VMM." },
  { name: "gdb", description: "A socket for a VM's debugger." },
  { name: "vcpus", description: "vCPUs and what they execute." },
  { name: "runs", description: "KVM_RUN as a resource: start, wait, kick." },
  { name: "memory", description: "Memory objects, guest-physical memory, guest_memfd." },
  { name: "memslots", description: "KVM_SET_USER_MEMORY_REGION and its second form." },
  { name: "dirty-log", description: "KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG." },
  { name: "dirty-ring", description: "Per-vCPU rings of dirty pages." },
  {
    name: "dirty-hardware",
    description: "HDBSS and HACDBS: settings, registers, faults to inject, mistakes reported.",
  },
  { name: "coalesced", description: "Coalesced MMIO zones and their ring." },
  { name: "eventfds", description: "64-bit counters that cross VMs." },
  { name: "ioeventfds", description: "Guest stores that signal an eventfd." },
  { name: "irq", description: "irqfds, routing, MSIs, lines; the interrupt controller decoded." },
  { name: "devices", description: "In-kernel devices: vGIC, ITS, KVM-VFIO, and their attributes." },
  { name: "stage2", description: "Stage-2 tables and the host CPUs of a VM." },
  { name: "experiments", description: "Ways to track dirty pages, compared on the same stores." },
  { name: "events", description: "History of the service, as a list or a stream." },
  { name: "service", description: "Health, version, metrics, problems, this document." },
  { name: "not-yet", description: "KVM ioctls that this host answers with 501." },
] as const;
