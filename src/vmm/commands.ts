// Owns: every command that can enter a VM's thread, as types: name → arguments and result.
// Plain data on both sides (structured clone): u64 is bigint, bytes are Uint8Array over a buffer of
// their own, or lent to the reader (base/lent-bytes.ts). Runs on any thread. A refusal arrives as
// KvmError or ServiceError.

import type { ErrnoName } from "../base/errno.table.js";
import type { EventfdFound } from "../base/eventfd-counters.js";
import type { TraceCategory } from "../base/trace.table.js";
import type { AssignedCommands } from "./assigned/assigned-commands.js";
import type { BoardCommands } from "./board/commands.js";
import type { BoardDebuggerCommands, DebuggerCommands } from "./debugger-commands.js";
import type { DirtyTracking } from "./definition.js";
import type { DeviceCommands } from "./device-commands.js";
import type { DirtyCommands } from "./dirty-commands.js";
import type { EventfdRef } from "./eventfd-ref.js";
import type { GuestCommands } from "./guest-commands.js";
import type { StateCommands, TrackingCommands } from "./migration/commands.js";
import type { ShadowCommands } from "./shadow-commands.js";
import type { HostCpuView, Stage2Walk } from "./stage2-types.js";

export type { BoardAction, BoardNews } from "./board/commands.js";
export type * from "./device-commands.js";
export type * from "./dirty-commands.js";
export type { EventfdRef } from "./eventfd-ref.js";
export type { RegisterWrite } from "./guest-commands.js";
export type * from "./migration/commands.js";
export type * from "./stage2-types.js";

/** KVM_EXIT_* names that a run can end with; numbers are in kvm/uapi/exit.table.ts. */
export type ExitReason =
  | "KVM_EXIT_UNKNOWN"
  | "KVM_EXIT_HYPERCALL"
  | "KVM_EXIT_DEBUG"
  | "KVM_EXIT_HLT"
  | "KVM_EXIT_MMIO"
  | "KVM_EXIT_INTR"
  | "KVM_EXIT_SYSTEM_EVENT"
  | "KVM_EXIT_ARM_NISV"
  | "KVM_EXIT_DIRTY_RING_FULL"
  | "KVM_EXIT_MEMORY_FAULT"
  | "KVM_EXIT_ARM_SEA"
  | "KVM_EXIT_CLEANED";

export interface MmioExit {
  readonly physAddr: bigint;
  /** 1 to 8 bytes in memory order; zeros for a load. */
  readonly data: Uint8Array;
  readonly len: number;
  readonly isWrite: boolean;
}

/** What one KVM_RUN gave. A failing run is a result with errno, never a refusal (DESIGN 9). */
export interface RunResult {
  readonly errno: ErrnoName | null;
  readonly exitReason: ExitReason;
  readonly mmio?: MmioExit;
  readonly systemEvent?: { readonly type: number; readonly data: readonly bigint[] };
  readonly hypercall?: { readonly nr: bigint; readonly flags: bigint };
  readonly armNisv?: { readonly esrIss: bigint; readonly faultIpa: bigint };
  readonly debug?: { readonly hsr: bigint; readonly far: bigint };
  readonly armSea?: {
    readonly flags: bigint;
    readonly esr: bigint;
    readonly gva: bigint;
    readonly gpa: bigint;
  };
  readonly memoryFault?: { readonly flags: bigint; readonly gpa: bigint; readonly size: bigint };
  readonly cleaned?: {
    readonly slot: number;
    readonly firstPage: number;
    readonly numPages: number;
  };
  /** kvm_run.s.regs.device_irq_level: KVM_ARM_DEV_EL1_VTIMER (1), PTIMER (2), PMU (4). */
  readonly deviceIrqLevel: number;
  /** Accesses or instructions retired during this run. */
  readonly retired: number;
  readonly program: ProgramProgress;
}

export interface ProgramProgress {
  /** Accesses of the present program that have retired. */
  readonly completed: number;
  readonly finished: boolean;
}

/** One access of an explicit list. `length` 1 to 8 bytes; a store's value is little-endian. */
export interface Access {
  readonly op: "read" | "write";
  readonly address: bigint;
  readonly length: number;
  readonly value?: bigint;
}

export type PatternKind = "uniform" | "zipf" | "sequential" | "hot-set";

/** What a synthetic vCPU does. One `step` of a pattern is one access. */
export type Program =
  | { readonly kind: "accesses"; readonly accesses: readonly Access[] }
  | {
      readonly kind: "pattern";
      readonly pattern: PatternKind;
      /** First guest-physical byte and size of the window that is accessed. */
      readonly base: bigint;
      readonly bytes: bigint;
      /** Accesses to do; 0 means without end. */
      readonly count: number;
      /** Share of stores in percent, 0 to 100. */
      readonly writePercent: number;
      /** 1, 2, 4 or 8. */
      readonly length: number;
      /** Distance of neighbouring accesses for "sequential"; page size by default. */
      readonly stride: number;
      /** zipf exponent × 100, or hot-set share of the window in percent. */
      readonly skew: number;
      readonly seed: bigint;
    };

export interface MemslotView {
  readonly slot: number;
  readonly flags: number;
  readonly guestPhysAddr: bigint;
  readonly memorySize: bigint;
  readonly userspaceAddr: bigint;
  readonly guestMemfdId: number | null;
  readonly guestMemfdOffset: bigint;
  readonly npages: number;
}

export interface MemoryObjectView {
  readonly id: number;
  readonly userspaceAddr: bigint;
  readonly size: bigint;
  readonly backing: "ram" | "unbacked" | "device";
  readonly hugePages: boolean;
}

export interface GuestMemfdView {
  readonly id: number;
  readonly size: bigint;
  readonly flags: bigint;
  readonly allocatedPages: number;
}

export interface VcpuView {
  readonly id: number;
  /** Creation order, from 0. */
  readonly index: number;
  readonly engine: "synthetic" | "a64";
  readonly state: "idle" | "running" | "blocked";
  /** "KVM_MP_STATE_RUNNABLE" = 0, STOPPED = 5, SUSPENDED = 10. */
  readonly mpState: number;
  readonly hostCpu: number | null;
  readonly retired: number;
  readonly lastExit: ExitReason | null;
  readonly program: ProgramProgress & { readonly kind: "none" | "accesses" | "pattern" };
  readonly dirtyRing: null | {
    readonly entries: number;
    /** Absolute indexes, counting up without wrap. */
    readonly dirtyIndex: number;
    readonly resetIndex: number;
    readonly harvestIndex: number;
    readonly softFull: boolean;
  };
}

export interface VmView {
  readonly ipaBits: number;
  readonly pageSize: number;
  readonly startLevel: number;
  readonly vtcr: bigint;
  readonly vttbr: bigint;
  readonly hostCpus: number;
  readonly createdVcpus: number;
  readonly runningVcpus: number;
  readonly maxVcpus: number;
  readonly memslotCount: number;
  readonly hasRun: boolean;
  readonly dead: boolean;
  readonly vgicInitialized: boolean;
  readonly manualDirtyLogProtect: number;
  readonly dirtyRingBytes: number;
  readonly dirtyRingWithBitmap: boolean;
  readonly eagerSplitChunkSize: bigint;
  readonly haltPollNs: number | null;
  readonly dirtyTracking: DirtyTracking;
  readonly instructions: number;
  readonly virtualNs: number;
  readonly steps: number;
  readonly replaying: boolean;
}

export interface DirtyLog {
  /** Pages of the slot. */
  readonly npages: number;
  /**
   * Shape [ceil(npages / 64) * 8] bytes: little-endian u64 words, bit i of word w = page 64w+i.
   * getDirtyLog may lend it: give it back once it is read.
   */
  readonly bitmap: Uint8Array;
}

/** A destructive read that is kept until acknowledged (DESIGN 9). Bytes stay as they were. */
export interface Harvest extends DirtyLog {
  readonly id: string;
  readonly slot: number;
  readonly repeated: boolean;
}

export interface ConsumeArgs {
  /** Idempotency-Key of the request, or null. */
  readonly key: string | null;
  /** Id of the result that this request acknowledges, or null. */
  readonly after: string | null;
}

export interface DirtyRingEntry {
  /** Absolute index. */
  readonly index: number;
  readonly flags: number;
  /** Address space in bits 31:16, slot id in 15:0. */
  readonly slot: number;
  /** Page index in the slot. */
  readonly offset: bigint;
}

export interface DirtyRingWindow {
  readonly entries: readonly DirtyRingEntry[];
  readonly size: number;
  readonly dirtyIndex: number;
  readonly resetIndex: number;
  readonly harvestIndex: number;
}

export interface CoalescedEntry {
  readonly physAddr: bigint;
  readonly len: number;
  readonly pio: number;
  readonly data: Uint8Array;
}

export interface RoutingEntry {
  readonly gsi: number;
  /** 1 irqchip, 2 MSI. */
  readonly type: number;
  readonly flags: number;
  readonly irqchip: number;
  readonly pin: number;
  readonly addressLo: number;
  readonly addressHi: number;
  readonly data: number;
  readonly devid: number;
}

export interface IrqfdView {
  /** Number in the VM, by order of assignment. */
  readonly id: number;
  /** The VM's own numbers of eventfds. */
  readonly eventfd: number;
  readonly resamplefd: number | null;
  readonly gsi: number;
  readonly flags: number;
}

/** As it is listed: process-wide indexes too; null: nobody outside of the VM knows it. */
export interface ListedIrqfd extends IrqfdView {
  readonly index: number | null;
  readonly resampleIndex: number | null;
}

export interface ListedIoeventfd {
  /** The VM's own number. */
  readonly eventfd: number;
  /** Process-wide; null: nobody outside of the VM knows it. */
  readonly index: number | null;
  readonly addr: bigint;
  readonly len: number;
  /** 0 without DATAMATCH. */
  readonly datamatch: bigint;
  readonly flags: number;
}

/** Name → [arguments, result]. The table of commands is vmm/command.table.ts. */
export interface VmCommands
  extends AssignedCommands,
    GuestCommands,
    BoardCommands,
    DebuggerCommands,
    BoardDebuggerCommands,
    DeviceCommands,
    DirtyCommands,
    StateCommands,
    ShadowCommands,
    TrackingCommands {
  describe: [Record<string, never>, VmView];
  checkExtension: [{ cap: number }, number];
  enableCap: [{ cap: number; flags: number; args: readonly bigint[] }, null];
  createVcpu: [{ id: number }, VcpuView];
  listVcpus: [Record<string, never>, readonly VcpuView[]];
  describeVcpu: [{ vcpu: number }, VcpuView];
  listHostCpus: [Record<string, never>, readonly HostCpuView[]];

  createMemoryObject: [
    {
      size: bigint;
      userspaceAddr: bigint | null;
      backing: "ram" | "unbacked" | "device";
      hugePages: boolean;
    },
    MemoryObjectView,
  ];
  listMemoryObjects: [Record<string, never>, readonly MemoryObjectView[]];
  deleteMemoryObject: [{ id: number }, null];
  readMemoryObject: [{ id: number; offset: bigint; length: number }, Uint8Array];
  writeMemoryObject: [{ id: number; offset: bigint; bytes: Uint8Array }, null];
  /** Through the slots, as a VMM would resolve a gpa. Never dirties. */
  readPhysicalMemory: [{ gpa: bigint; length: number }, Uint8Array];
  writePhysicalMemory: [{ gpa: bigint; bytes: Uint8Array }, null];

  setUserMemoryRegion: [
    {
      slot: number;
      flags: number;
      guestPhysAddr: bigint;
      memorySize: bigint;
      userspaceAddr: bigint;
    },
    { created: boolean; slot: MemslotView | null },
  ];
  setUserMemoryRegion2: [
    {
      slot: number;
      flags: number;
      guestPhysAddr: bigint;
      memorySize: bigint;
      userspaceAddr: bigint;
      guestMemfd: number;
      guestMemfdOffset: bigint;
    },
    { created: boolean; slot: MemslotView | null },
  ];
  listMemslots: [Record<string, never>, readonly MemslotView[]];
  createGuestMemfd: [{ size: bigint; flags: bigint }, GuestMemfdView];
  listGuestMemfds: [Record<string, never>, readonly GuestMemfdView[]];
  closeGuestMemfd: [{ id: number }, null];
  /** fallocate: mode 1 KEEP_SIZE, 2 PUNCH_HOLE. */
  fallocateGuestMemfd: [{ id: number; mode: number; offset: bigint; length: bigint }, null];

  /** KVM_GET_DIRTY_LOG itself: in legacy mode the bits are gone once this returns. */
  getDirtyLog: [{ slot: number }, DirtyLog];
  /** KVM_GET_DIRTY_LOG whose result is kept until acknowledged. */
  harvestDirtyLog: [{ slot: number } & ConsumeArgs, Harvest];
  getHarvest: [{ slot: number; id: string }, Harvest];
  acknowledgeHarvest: [{ slot: number; id: string }, null];
  clearDirtyLog: [
    { slot: number; firstPage: bigint; numPages: number; bitmap: Uint8Array },
    { cleared: number },
  ];
  /** The same with DEFER, for clear.mode async-run; EINVAL without. */
  deferDirtyLogClear: [
    { slot: number; firstPage: bigint; numPages: number; bitmap: Uint8Array },
    { cleared: number; deferred: number },
  ];
  resetDirtyRings: [Record<string, never>, { reset: number }];
  /** Entries from absolute index `from`, at most `limit`; raw, whatever their flags. */
  readDirtyRing: [{ vcpu: number; from: number; limit: number }, DirtyRingWindow];
  /** Marks [harvestIndex, upTo) RESET; ServiceError "ring-index": back, or past what was read. */
  harvestDirtyRing: [{ vcpu: number; upTo: number }, DirtyRingWindow];
  /** Userspace writes one entry's flags word through its mapping. */
  setDirtyRingFlags: [{ vcpu: number; index: number; flags: number }, DirtyRingEntry];

  registerCoalescedZone: [{ addr: bigint; size: number; pio: number }, null];
  unregisterCoalescedZone: [{ addr: bigint; size: number; pio: number }, null];
  listCoalescedZones: [
    Record<string, never>,
    readonly { addr: bigint; size: number; pio: number }[],
  ];
  drainCoalescedRing: [
    ConsumeArgs,
    { id: string; repeated: boolean; entries: readonly CoalescedEntry[] },
  ];

  ioeventfd: [
    { datamatch: bigint; addr: bigint; len: number; fd: EventfdRef; flags: number },
    null,
  ];
  listIoeventfds: [Record<string, never>, readonly ListedIoeventfd[]];
  /** KVM_IRQFD. The number of what was assigned; null after a deassignment. */
  irqfd: [
    {
      fd: EventfdRef;
      gsi: number;
      flags: number;
      resamplefd: EventfdRef;
      drain: boolean;
      /** How the counter was found; null but in an input log. */
      found: EventfdFound | null;
    },
    { id: number | null },
  ];
  listIrqfds: [Record<string, never>, readonly ListedIrqfd[]];
  /** An eventfd that this VM waits on was signalled by somebody else, and has been taken. */
  wakeEventfd: [{ fd: EventfdRef; drain: boolean }, { woken: boolean }];
  /** The descriptor of an eventfd that this VM waits on is about to be closed. */
  hangUpEventfd: [{ fd: EventfdRef; drain: boolean }, null];
  setGsiRouting: [{ flags: number; entries: readonly RoutingEntry[] }, null];
  getGsiRouting: [Record<string, never>, readonly RoutingEntry[]];
  signalMsi: [
    { addressLo: number; addressHi: number; data: number; flags: number; devid: number },
    { delivered: number },
  ];
  /** KVM_IRQ_LINE; irq as KVM packs it. */
  irqLine: [{ irq: number; level: number }, null];

  setProgram: [{ vcpu: number; program: Program }, ProgramProgress];
  readProgram: [
    { vcpu: number; from: number; limit: number },
    ProgramProgress & {
      kind: "none" | "accesses" | "pattern";
      loads: readonly bigint[];
      from: number;
    },
  ];
  /** Long: resolves at the exit. One at a time per vCPU (ServiceError "vcpu-running"). */
  run: [{ vcpu: number; immediateExit: boolean; mmioData: Uint8Array | null }, RunResult];
  /** KVM_RUN of several vCPUs; answered when the last has left. Results in the order asked for. */
  runVcpus: [{ vcpus: readonly bigint[] }, readonly RunResult[]];
  kick: [{ vcpu: number }, null];
  preferredTarget: [Record<string, never>, { target: number; features: readonly bigint[] }];
  /** KVM_ARM_VCPU_INIT; from then on the vCPU runs guest code. */
  vcpuInit: [{ vcpu: number; target: number; features: readonly bigint[] }, VcpuView];
  getRegList: [{ vcpu: number }, readonly bigint[]];
  /** Registers of one moment, in the order asked for. */
  getRegs: [{ vcpu: number; regs: readonly bigint[] }, readonly bigint[]];
  getOneReg: [{ vcpu: number; reg: bigint }, { value: bigint; size: number }];
  /** Little-endian bytes, as many as the id says. */
  setOneReg: [{ vcpu: number; reg: bigint; value: Uint8Array }, null];
  /** KVM_ARM_SET_COUNTER_OFFSET. */
  setCounterOffset: [{ offset: bigint; reserved: bigint }, null];
  /** KVM_SET_DEVICE_ATTR on a vCPU; the structure's bytes, none where no address is given. */
  setVcpuAttr: [{ vcpu: number; group: number; attr: bigint; value: Uint8Array }, null];
  getVcpuAttr: [{ vcpu: number; group: number; attr: bigint }, Uint8Array];
  hasVcpuAttr: [{ vcpu: number; group: number; attr: bigint }, null];
  getMpState: [{ vcpu: number }, { mpState: number }];
  setMpState: [{ vcpu: number; mpState: number }, null];

  /** Instructions from an address on, or from the PC; as many as can be read. */
  disassemble: [
    { vcpu: number; address: bigint | null; count: number },
    readonly { address: bigint; word: number; text: string }[],
  ];
  walkStage2: [{ ipa: bigint }, Stage2Walk];
  counters: [Record<string, never>, Readonly<Record<string, number>>];
  /** Begins a trace anew. @param categories bits of traceMask */
  startTrace: [{ categories: number }, TraceView];
  stopTrace: [Record<string, never>, null];
  describeTrace: [Record<string, never>, TraceView];
  /** JSON of Chrome's trace format. */
  readTrace: [Record<string, never>, Uint8Array];
  /** GET_STATS_FD's file in the layout of kvm-uapi 4.8; vcpu null for the VM's own. */
  stats: [{ vcpu: number | null }, Uint8Array];
  /** Digest over every part's saved state, and per part. */
  digest: [Record<string, never>, { digest: string; parts: Readonly<Record<string, string>> }];
}

export type CommandName = keyof VmCommands;
export type CommandArgs<K extends CommandName> = VmCommands[K][0];
export type CommandResult<K extends CommandName> = VmCommands[K][1];

/** What a trace records, and how many events it has seen; `dropped` of them gave way. */
export interface TraceView {
  readonly isOn: boolean;
  readonly categories: readonly TraceCategory[];
  readonly recorded: number;
  readonly dropped: number;
}

/** A command as it is logged and replayed. */
export interface Command<K extends CommandName = CommandName> {
  readonly name: K;
  readonly args: CommandArgs<K>;
}
