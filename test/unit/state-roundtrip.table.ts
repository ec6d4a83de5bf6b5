// Owns: every class of the VM's rooms that saves itself, and where its state lies in a saved
// machine; data only. A tidy test looks for each such class here, state-roundtrip.test.ts uses it.

export interface RoundTripRow {
  /** Name of the class. */
  readonly part: string;
  /** `kind` of the part in Machine.save(), and members on the way down to this class's own state. */
  readonly at: readonly string[];
  /** Which machine of the test has it; the one without a board by default. */
  readonly on?: "board";
  /** What the busy machine of the test does to it. */
  readonly busy: string;
}

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
  { part: "Hacdbs", at: ["hacdbs-driver"], busy: "a CPU whose interrupt is not set up" },
  { part: "AsyncClean", at: ["async-clean"], busy: "a CLEAR that waits for a vCPU" },
  { part: "NestedHacdbs", at: ["nested-hacdbs"], busy: "a page in the shadow stage 2" },
  { part: "Counters", at: ["counters"], busy: "nearly all moved" },
  { part: "Vcpu", at: ["vcpu-0"], busy: "an MMIO exit to complete" },
  { part: "DirtyRing", at: ["vcpu-0", "ring"], busy: "entries pushed, harvested and reset" },
  { part: "SyntheticEngine", at: ["vcpu-0", "engine"], busy: "an access half done, loads recorded" },
  { part: "ListSource", at: ["vcpu-0", "engine", "source"], busy: "a list in the middle" },
  { part: "PatternSource", at: ["vcpu-1", "engine", "source"], busy: "a pattern in the middle" },
  { part: "A64Engine", at: ["vcpu-2", "a64"], busy: "code run up to an MMIO exit" },
  { part: "Harvests", at: ["harvests"], busy: "a log kept until it is acknowledged" },
  { part: "Unacknowledged", at: ["unacknowledged"], busy: "a drained queue kept" },
  { part: "Board", at: ["board"], on: "board", busy: "a guest paused after a reset" },
  { part: "Pl011", at: ["board", "uart"], on: "board", busy: "bytes typed, registers written" },
  { part: "Console", at: ["board", "console"], on: "board", busy: "output" },
];
