// Owns: every class of the VM's rooms that saves itself, and where its state lies in a saved
// machine; data only. A tidy test looks for each such class here, state-roundtrip.test.ts uses it.

export interface RoundTripRow {
  /** Name of the class. */
  readonly part: string;
  /** `kind` of the part in Machine.save(), and members on the way down to this class's own state. */
  readonly at: readonly string[];
  /** Which machine of the test has it; the one without a board by default. */
  readonly on?: "board" | "vgic" | "its";
  /** What the busy machine of the test does to it. */
  readonly busy: string;
}

const DEVICES = ["board", "hardware", "devices"] as const;

export const ROUND_TRIPS: readonly RoundTripRow[] = [
  { part: "Machine", at: [], busy: "everything below" },
  { part: "HostMemory", at: ["host-memory"], busy: "guest RAM, tables, bitmaps and rings written" },
  { part: "FrameAllocator", at: ["frames"], busy: "frames taken and given back, with a gap" },
  { part: "UnbackedMemory", at: ["unbacked"], busy: "a range taken, stores to it" },
  { part: "HostCpu", at: ["host-cpu-0"], busy: "registers programmed, walks done" },
  { part: "Tlb", at: ["host-cpu-0", "tlb"], busy: "pages and a block cached" },
  { part: "HdbssUnit", at: ["host-cpu-0", "hdbss"], busy: "entries appended, one held back" },
  { part: "HacdbsUnit", at: ["host-cpu-0", "hacdbs"], busy: "an array cleaned up to an error" },
  { part: "Faults", at: ["faults"], busy: "one armed, one that has hit" },
  { part: "Diagnostics", at: ["diagnostics"], busy: "a buffer owned, a mistake reported" },
  { part: "Scheduler", at: ["scheduler"], busy: "steps done, choices drawn" },
  { part: "Vm", at: ["vm"], busy: "capabilities enabled, accesses retired, memory invalidated" },
  { part: "VmPmu", at: ["vm", "pmu"], busy: "a PMU chosen, its counters limited, an event denied" },
  { part: "Account", at: ["account"], busy: "memory, tables and bitmaps charged" },
  { part: "AddressSpace", at: ["address-space"], busy: "objects made and deleted" },
  { part: "MemslotTable", at: ["memslots"], busy: "slots with every flag" },
  { part: "GuestMemfds", at: ["guest-memfds"], busy: "files, pages, one closed" },
  { part: "IoBus", at: ["io-bus"], busy: "an ioeventfd, zones, queued stores" },
  { part: "IrqRouting", at: ["irq-routing"], busy: "routes to pins and MSIs" },
  { part: "VgicDist", at: ["vgic-v3"], on: "vgic", busy: "registers written, regions in use" },
  { part: "VgicCpu", at: ["vgic-v3", "cpus"], on: "vgic", busy: "interrupts on its list" },
  { part: "VgicIrq", at: ["vgic-v3", "spis"], on: "vgic", busy: "one active, one pending" },
  { part: "VirtualInterface", at: ["host-cpu-0", "gic"], on: "vgic", busy: "used by a guest" },
  { part: "Irqfds", at: ["irqfds"], busy: "a resampling one, one that was hung up" },
  { part: "Jobs", at: ["jobs"], busy: "an injection and a detachment" },
  { part: "VfioFiles", at: ["vfio-files"], busy: "a file that KVM was told of, one closed" },
  { part: "Hacdbs", at: ["hacdbs-driver"], busy: "a CPU whose interrupt is not set up" },
  { part: "AsyncClean", at: ["async-clean"], busy: "a CLEAR that waits for a vCPU" },
  { part: "NestedHacdbs", at: ["nested-hacdbs"], busy: "a page in the shadow stage 2" },
  { part: "Counters", at: ["counters"], busy: "nearly all moved" },
  { part: "Throttle", at: ["throttle"], busy: "a share and a limit set, pages counted" },
  { part: "Tracking", at: ["tracking"], busy: "a consumer with pages" },
  { part: "Consumers", at: ["tracking", "consumers"], busy: "pages of one object" },
  { part: "Vcpu", at: ["vcpu-0"], busy: "an MMIO exit to complete" },
  { part: "DirtyRing", at: ["vcpu-0", "ring"], busy: "entries pushed, harvested and reset" },
  { part: "SyntheticEngine", at: ["vcpu-0", "engine"], busy: "an access half done, loads recorded" },
  { part: "ListSource", at: ["vcpu-0", "engine", "source"], busy: "a list in the middle" },
  { part: "PatternSource", at: ["vcpu-1", "engine", "source"], busy: "a pattern in the middle" },
  { part: "A64Engine", at: ["vcpu-2", "a64"], busy: "code run up to an MMIO exit" },
  { part: "AssignedDevices", at: ["assigned-devices"], busy: "one that waits to be unmasked" },
  { part: "Harvests", at: ["harvests"], busy: "a log kept until it is acknowledged" },
  { part: "Unacknowledged", at: ["unacknowledged"], busy: "a drained queue kept" },
  { part: "Its", at: ["its-0"], on: "its", busy: "events mapped, one pending, a translation cached" },
  { part: "Board", at: ["board"], on: "board", busy: "a guest paused after a reset" },
  { part: "Hardware", at: ["board", "hardware"], on: "board", busy: "everything below" },
  { part: "Devices", at: DEVICES, on: "board", busy: "those below" },
  { part: "Interrupts", at: ["board", "hardware", "interrupts"], on: "board", busy: "a line high" },
  { part: "GuestMemory", at: ["board", "hardware", "memory"], on: "board", busy: "a page written" },
  { part: "Flash", at: ["board", "hardware", "flash"], on: "board", busy: "a bank without slot" },
  { part: "Pflash", at: [...DEVICES, "flash1"], on: "board", busy: "a command half given" },
  { part: "FwCfg", at: [...DEVICES, "fw-cfg"], on: "board", busy: "an item half read" },
  { part: "Pl031", at: [...DEVICES, "pl031"], on: "board", busy: "time set, an alarm" },
  { part: "PcieHost", at: [...DEVICES, "pcie"], on: "board", busy: "those below" },
  { part: "PciFunction", at: [...DEVICES, "pcie", "functions", "1"], on: "board", busy: "bars" },
  { part: "PciTestdev", at: [...DEVICES, "pcie", "functions", "1", "device"], on: "board", busy: "a test" },
  { part: "VirtioMmio", at: [...DEVICES, "virtio-mmio0"], on: "board", busy: "a driver, an interrupt" },
  { part: "Virtqueue", at: [...DEVICES, "virtio-mmio0", "queues", "0"], on: "board", busy: "used" },
  { part: "VirtioBlk", at: [...DEVICES, "virtio-mmio0", "device"], on: "board", busy: "its disk" },
  { part: "Disk", at: [...DEVICES, "virtio-mmio0", "device", "disk"], on: "board", busy: "written" },
  { part: "VirtioConsole", at: [...DEVICES, "virtio-mmio1", "device"], on: "board", busy: "sent to" },
  { part: "Testdev", at: [...DEVICES, "virtio-mmio1", "device", "testdev"], on: "board", busy: "a digit" },
  { part: "VirtioRng", at: [...DEVICES, "virtio-mmio2", "device"], on: "board", busy: "bytes drawn" },
  { part: "Pl011", at: [...DEVICES, "pl011"], on: "board", busy: "bytes typed, registers written" },
  { part: "Console", at: ["board", "console"], on: "board", busy: "output" },
];
