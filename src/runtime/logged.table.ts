// Owns: which commands are inputs of a VM (kept in its log and replayed), and the shape of each
// command's arguments for the log's codec. HTTP thread and VM thread.
//
// A command that is not logged must be a pure read that is done within submit(): it takes no lock,
// moves no counter and cuts no step short, so a replay without it runs the same way. A read that
// waits for a lock or marks entries as served is an input like any other.
import type { CommandArgs, CommandName } from "../vmm/index.js";
import type { ArgShape } from "./arg-shapes.js";

export interface CommandRow<K extends CommandName> {
  readonly logged: boolean;
  /** Why no log leads to the VM's state from here on; the command itself is not kept. */
  readonly spoils?: string;
  readonly args: { readonly [F in keyof CommandArgs<K>]: ArgShape };
}

const consume = { key: "text?", after: "text?" } as const;
const zone = { addr: "u64", size: "u32", pio: "u32" } as const;
const region = {
  slot: "u32",
  flags: "u32",
  guestPhysAddr: "u64",
  memorySize: "u64",
  userspaceAddr: "u64",
} as const;
const msi = {
  addressLo: "u32",
  addressHi: "u32",
  data: "u32",
  flags: "u32",
  devid: "u32",
} as const;
const deviceAttr = { device: "u32", group: "u32", attr: "u64" } as const;
const MOVED = "The VM came from another host, or from disk: its memory and state are in no log.";
const ioeventfd = {
  datamatch: "u64",
  addr: "u64",
  len: "u32",
  fd: "eventfd",
  flags: "u32",
} as const;

export const COMMAND_ROWS: { readonly [K in CommandName]: CommandRow<K> } = {
  describe: { logged: false, args: {} },
  checkExtension: { logged: false, args: { cap: "count" } },
  enableCap: { logged: true, args: { cap: "count", flags: "u32", args: "u64s" } },
  createVcpu: { logged: true, args: { id: "u32" } },
  listVcpus: { logged: false, args: {} },
  describeVcpu: { logged: false, args: { vcpu: "u32" } },
  listHostCpus: { logged: false, args: {} },

  createMemoryObject: {
    logged: true,
    args: { size: "u64", userspaceAddr: "u64?", backing: "backing", hugePages: "flag" },
  },
  listMemoryObjects: { logged: false, args: {} },
  deleteMemoryObject: { logged: true, args: { id: "int" } },
  readMemoryObject: { logged: false, args: { id: "int", offset: "u64", length: "count" } },
  writeMemoryObject: { logged: true, args: { id: "int", offset: "u64", bytes: "bytes" } },
  readPhysicalMemory: { logged: false, args: { gpa: "u64", length: "count" } },
  writePhysicalMemory: { logged: true, args: { gpa: "u64", bytes: "bytes" } },

  setUserMemoryRegion: { logged: true, args: region },
  setUserMemoryRegion2: {
    logged: true,
    args: { ...region, guestMemfd: "int", guestMemfdOffset: "u64" },
  },
  listMemslots: { logged: false, args: {} },
  createGuestMemfd: { logged: true, args: { size: "u64", flags: "u64" } },
  listGuestMemfds: { logged: false, args: {} },
  closeGuestMemfd: { logged: true, args: { id: "int" } },
  fallocateGuestMemfd: {
    logged: true,
    args: { id: "int", mode: "u32", offset: "u64", length: "u64" },
  },

  getDirtyLog: { logged: true, args: { slot: "u32" } },
  harvestDirtyLog: { logged: true, args: { slot: "u32", ...consume } },
  getHarvest: { logged: false, args: { slot: "u32", id: "text" } },
  acknowledgeHarvest: { logged: true, args: { slot: "u32", id: "text" } },
  clearDirtyLog: {
    logged: true,
    args: { slot: "u32", firstPage: "u64", numPages: "u32", bitmap: "bytes" },
  },
  deferDirtyLogClear: {
    logged: true,
    args: { slot: "u32", firstPage: "u64", numPages: "u32", bitmap: "bytes" },
  },
  resetDirtyRings: { logged: true, args: {} },
  // Marks entries as served: harvestDirtyRing refuses to go past them.
  readDirtyRing: { logged: true, args: { vcpu: "u32", from: "count", limit: "count" } },
  harvestDirtyRing: { logged: true, args: { vcpu: "u32", upTo: "count" } },
  setDirtyRingFlags: { logged: true, args: { vcpu: "u32", index: "count", flags: "u32" } },

  registerCoalescedZone: { logged: true, args: zone },
  unregisterCoalescedZone: { logged: true, args: zone },
  listCoalescedZones: { logged: false, args: {} },
  drainCoalescedRing: { logged: true, args: consume },

  ioeventfd: { logged: true, args: ioeventfd },
  listIoeventfds: { logged: false, args: {} },
  irqfd: {
    logged: true,
    args: { fd: "eventfd", gsi: "u32", flags: "u32", resamplefd: "eventfd", drain: "flag", found: "found?" },
  },
  assignDevice: {
    logged: true,
    args: {
      base: "u64",
      trigger: "eventfd",
      unmask: "eventfd",
      isHigh: "flag",
      drain: "flag",
      found: "found?",
    },
  },
  listAssignedDevices: { logged: false, args: {} },
  raiseAssignedDevice: { logged: true, args: { id: "count", drain: "flag" } },
  releaseDevice: { logged: true, args: { id: "count", drain: "flag" } },
  listIrqfds: { logged: false, args: {} },
  wakeEventfd: { logged: true, args: { fd: "eventfd", drain: "flag" } },
  hangUpEventfd: { logged: true, args: { fd: "eventfd", drain: "flag" } },
  setGsiRouting: { logged: true, args: { flags: "u32", entries: "routes" } },
  getGsiRouting: { logged: false, args: {} },
  signalMsi: { logged: true, args: msi },
  createDevice: { logged: true, args: { type: "u32", flags: "u32" } },
  listDevices: { logged: false, args: {} },
  describeDevice: { logged: false, args: { device: "u32" } },
  closeDevice: { logged: true, args: { device: "u32" } },
  hasDeviceAttr: { logged: false, args: deviceAttr },
  // A register of a GICv2 initialises the controller, whatever is done with it.
  getDeviceAttr: { logged: true, args: { ...deviceAttr, value: "bytes" } },
  setDeviceAttr: { logged: true, args: { ...deviceAttr, value: "bytes" } },
  createIrqchip: { logged: true, args: {} },
  setDeviceAddr: { logged: true, args: { id: "u64", addr: "u64" } },
  openVfioFile: { logged: true, args: {} },
  listVfioFiles: { logged: false, args: {} },
  closeVfioFile: { logged: true, args: { fd: "u32" } },
  describeVgic: { logged: false, args: {} },
  listVgicIrqs: {
    logged: false,
    args: {
      from: "u32",
      to: "u32",
      vcpu: "u32?",
      state: "text?",
      after: "u64?",
      limit: "count",
    },
  },
  describeVgicV5: { logged: false, args: {} },
  listVgicV5Spis: {
    logged: false,
    args: { from: "u32", to: "u32", state: "text?", after: "u64?", limit: "count" },
  },
  irqLine: { logged: true, args: { irq: "u32", level: "u32" } },
  irqLineStatus: { logged: true, args: { irq: "u32", level: "u32" } },

  setProgram: { logged: true, args: { vcpu: "u32", program: "program" } },
  readProgram: { logged: false, args: { vcpu: "u32", from: "count", limit: "count" } },
  run: { logged: true, args: { vcpu: "u32", immediateExit: "flag", mmioData: "bytes?" } },
  runVcpus: { logged: true, args: { vcpus: "u64s" } },
  kick: { logged: true, args: { vcpu: "u32" } },
  preferredTarget: { logged: false, args: {} },
  vcpuInit: { logged: true, args: { vcpu: "u32", target: "u32", features: "u64s" } },
  // A look at the registers takes a pending CPU_ON first.
  getRegList: { logged: true, args: { vcpu: "u32" } },
  getRegs: { logged: true, args: { vcpu: "u32", regs: "u64s" } },
  getOneReg: { logged: true, args: { vcpu: "u32", reg: "u64" } },
  setOneReg: { logged: true, args: { vcpu: "u32", reg: "u64", value: "bytes" } },
  setRegs: { logged: true, args: { vcpu: "u32", registers: "register-writes" } },
  setSignalMask: { logged: true, args: { vcpu: "u32", len: "u32", sigset: "u64?" } },
  describeSignalMask: { logged: false, args: { vcpu: "u32" } },
  copyMteTags: { logged: false, args: { ipa: "u64", length: "u64", tags: "bytes?" } },
  finalizeVcpu: { logged: false, args: { vcpu: "u32", feature: "int" } },
  getVcpuEvents: { logged: false, args: { vcpu: "u32" } },
  setVcpuEvents: {
    logged: true,
    args: {
      vcpu: "u32",
      serrorPending: "flag",
      serrorHasEsr: "flag",
      extDabtPending: "flag",
      serrorEsr: "u64",
    },
  },
  setGuestDebug: {
    logged: true,
    args: { vcpu: "u32", control: "u32", bcr: "u64s", bvr: "u64s", wcr: "u64s", wvr: "u64s" },
  },
  getRegWritableMasks: { logged: false, args: { range: "u32" } },
  setVmAttr: { logged: true, args: { group: "u32", attr: "u64", value: "bytes" } },
  getVmAttr: { logged: false, args: { group: "u32", attr: "u64" } },
  hasVmAttr: { logged: false, args: { group: "u32", attr: "u64" } },
  setCounterOffset: { logged: true, args: { offset: "u64", reserved: "u64" } },
  setVcpuAttr: {
    logged: true,
    args: { vcpu: "u32", group: "u32", attr: "u64", value: "bytes" },
  },
  getVcpuAttr: { logged: false, args: { vcpu: "u32", group: "u32", attr: "u64" } },
  hasVcpuAttr: { logged: false, args: { vcpu: "u32", group: "u32", attr: "u64" } },
  getMpState: { logged: false, args: { vcpu: "u32" } },
  setMpState: { logged: true, args: { vcpu: "u32", mpState: "u32" } },

  loadBoard: {
    logged: true,
    args: {
      image: "bytes?",
      initrd: "bytes?",
      firmware: "bytes-if-given",
      disk: "bytes-if-given",
      leaveRam: "flag-if-given",
    },
  },
  describeBoard: { logged: false, args: {} },
  boardAction: { logged: true, args: { action: "board-action" } },
  runBoard: { logged: true, args: { ns: "u64" } },
  logBoard: { logged: true, args: { on: "flag" } },
  // What it changes, who is told of more output, is no state of the VM.
  readConsole: { logged: false, args: { offset: "count", limit: "count" } },
  typeConsole: { logged: true, args: { bytes: "bytes" } },

  translate: { logged: false, args: { vcpu: "u32", address: "u64" } },
  // As getOneReg.
  readRegisters: { logged: true, args: { vcpu: "u32", regs: "u64s" } },
  writeRegister: { logged: true, args: { vcpu: "u32", reg: "u64", value: "bytes" } },
  passBreakpoint: { logged: true, args: { vcpu: "u32" } },
  resumeVcpus: { logged: true, args: { vcpus: "u64s" } },
  describeDebugStop: { logged: false, args: {} },

  readFirmware: { logged: false, args: { table: "text" } },
  writeNestedRegister: { logged: true, args: { vncr: "u64", register: "text", value: "u64" } },
  storeNested: { logged: true, args: { vncr: "u64", ipa: "u64" } },
  describeDirty: { logged: false, args: {} },
  armFault: {
    logged: true,
    args: { kind: "text", nth: "count", vcpu: "u32?", times: "count?", delay: "count" },
  },
  listFaults: { logged: false, args: {} },
  disarmFault: { logged: true, args: { id: "count" } },
  describeDiagnostics: { logged: false, args: {} },
  readHdbss: { logged: false, args: { vcpu: "u32", from: "count", limit: "count" } },
  readHacdbs: { logged: false, args: { hostCpu: "u32" } },
  changeDirty: { logged: true, args: { settings: "settings", seedBugs: "texts?" } },

  describeMemory: { logged: false, args: {} },
  holdVm: { logged: true, args: { hold: "flag", why: "text" } },
  // Drains work that was put off, takes a pending CPU_ON, writes tables into guest memory.
  saveState: { logged: true, args: { pack: "flag-if-given" } },
  loadState: {
    logged: true,
    spoils: MOVED,
    args: { parts: "unlogged", eventfds: "eventfd-numbers" },
  },
  awaitPages: {
    logged: true,
    spoils: MOVED,
    args: { present: "unlogged", requests: "unlogged", fetch: "unlogged" },
  },
  // Pages come when they come: a VM that waits for any has no log since it arrived.
  pagesArrived: { logged: false, args: {} },
  allPagesHere: { logged: false, args: {} },
  readSequences: { logged: false, args: { object: "int", first: "count", count: "count" } },
  writeSequences: {
    logged: true,
    spoils: MOVED,
    args: { object: "int", pages: "unlogged", sequences: "unlogged" },
  },

  disassemble: { logged: false, args: { vcpu: "u32", address: "u64?", count: "count" } },
  walkStage2: { logged: false, args: { ipa: "u64" } },
  counters: { logged: false, args: {} },
  // A trace is no state of the VM, and nothing in the VM depends on it; so a replay can be traced.
  startTrace: { logged: false, args: { categories: "u32" } },
  stopTrace: { logged: false, args: {} },
  describeTrace: { logged: false, args: {} },
  readTrace: { logged: false, args: {} },
  stats: { logged: false, args: { vcpu: "u32?" } },
  digest: { logged: false, args: {} },
  describeTracking: { logged: false, args: {} },
  trackDirty: { logged: true, args: { consumer: "text", on: "flag", method: "text?" } },
  harvestDirty: { logged: true, args: { consumer: "text", last: "flag-if-given" } },
  peekDirty: { logged: false, args: { consumer: "text" } },
  returnDirty: { logged: true, args: { consumer: "text", pages: "dirty-pages" } },
  setThrottle: { logged: true, args: { percent: "count", dirtyLimit: "count" } },
  describeThrottle: { logged: false, args: {} },
  // They move counters.
  shadowStart: { logged: true, args: {} },
  shadowTake: { logged: true, args: { slot: "u32" } },
};
