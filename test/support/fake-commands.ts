// Owns: canned answers of every VM command, for tests of the HTTP face alone.
import { defaultPolicies } from "../../src/kvm/dirty/policy.table.js";
import { defaultModel } from "../../src/machine/dirty/model.table.js";
import type { CommandName, VmCommands } from "../../src/runtime/index.js";
import { vgic, vgicIrq, vgicV5, vgicV5Spi } from "./fake-vgic.js";

type Results = { readonly [K in CommandName]: (args: VmCommands[K][0]) => VmCommands[K][1] };

const slot = {
  slot: 0,
  flags: 1,
  guestPhysAddr: 0n,
  memorySize: 0x20_0000n,
  userspaceAddr: 0x7f00_0000_0000n,
  guestMemfdId: null,
  guestMemfdOffset: 0n,
  npages: 512,
};
const assigned = {
  id: 0,
  base: 0xa00_0000n,
  isHigh: false,
  isMasked: false,
  interrupts: 1,
  unmasks: 1,
};
const object = {
  id: 1,
  userspaceAddr: 0x7f00_0000_0000n,
  size: 0x20_0000n,
  backing: "ram" as const,
  hugePages: true,
};
const memfd = { id: 1, size: 0x20_0000n, flags: 1n, allocatedPages: 0 };
const vcpu = {
  id: 0,
  index: 0,
  engine: "synthetic" as const,
  state: "idle" as const,
  mpState: 0,
  hostCpu: null,
  retired: 0,
  lastExit: null,
  program: { completed: 0, finished: false, kind: "none" as const },
  dirtyRing: { entries: 4096, dirtyIndex: 3, resetIndex: 0, harvestIndex: 0, softFull: false },
};
const bitmap = () => {
  const bytes = new Uint8Array(64);
  bytes[0] = 0b1110_1000;
  bytes[1] = 0xff;
  return bytes;
};
const entry = { index: 0, flags: 1, slot: 0, offset: 3n };
const window = { entries: [entry], size: 4096, dirtyIndex: 3, resetIndex: 0, harvestIndex: 0 };
const progress = { completed: 0, finished: false };
const routes = [
  {
    gsi: 32,
    type: 1,
    flags: 0,
    irqchip: 0,
    pin: 0,
    addressLo: 0,
    addressHi: 0,
    data: 0,
    devid: 0,
  },
];

const board = {
  state: "running" as const,
  reason: null,
  format: "flat" as const,
  entry: 0x4008_0000n,
  dtb: 0x4400_0000n,
  initrd: null,
  resets: 0,
  console: { oldest: 0, end: 6, typed: 0 },
  unassigned: { count: 0, last: null },
};

const nestedView = {
  outcome: "ran" as const,
  idField: 1,
  registers: {
    HDBSSBR_EL2: 0n,
    HACDBSBR_EL2: 0x4000_0800n,
    HDBSSPROD_EL2: 0n,
    HACDBSCONS_EL2: 0x200n,
  },
  cleaned: 3,
  invalidated: 2,
  irq: true,
};

const tracking = {
  owner: "vmm" as const,
  method: "manual-protect" as const,
  methods: [
    { method: "manual-protect" as const, whyNot: null },
    { method: "ring" as const, whyNot: "it was built without dirty rings" },
  ],
  consumers: [{ name: "migrations/m1", pages: 12 }],
};
const dirtyPages = () => ({ blocks: [{ object: 1, pages: 12, bitmap: bitmap() }], pages: 12 });

const dirtyView = {
  settings: { ...defaultModel(), ...defaultPolicies() },
  seedBugs: [] as readonly string[],
};

const noBits = {
  valid: false,
  type: false,
  memAttr: 0,
  read: false,
  write: false,
  shareability: 0,
  accessFlag: false,
  outputAddress: 0n,
  dbm: false,
  contiguous: false,
  executeNever: 0,
  software: 0,
};
const base = {
  raw: 0x400_0000n,
  baddr: 0x400_0000n,
  sz: 0,
  isReservedSize: false,
  base: 0x400_0000n,
  capacity: 512,
  bytes: 4096,
};

const fault = {
  id: 1,
  kind: "hdbss-append-abort",
  nth: 5,
  vcpu: null,
  times: 1,
  delay: 0,
  seen: 3,
  hits: 0,
  isArmed: true,
};

/** A statistics file with one cumulative counter. */
function statsFile(): Uint8Array {
  const bytes = new Uint8Array(24 + 48 + 64 + 8);
  const view = new DataView(bytes.buffer);
  const header = [0, 48, 1, 24, 72, 136];
  for (const [i, word] of header.entries()) view.setUint32(i * 4, word, true);
  bytes.set(Buffer.from("kvm-1"), 24);
  view.setUint16(72 + 6, 1, true);
  bytes.set(Buffer.from("exits"), 72 + 16);
  view.setBigUint64(136, 42n, true);
  return bytes;
}

export const COMMAND_RESULTS: Results = {
  describe: () => ({
    ipaBits: 40,
    pageSize: 4096,
    startLevel: 1,
    vtcr: 0x8002_3558n,
    vttbr: 0x1_0000_0001_0000n,
    hostCpus: 1,
    createdVcpus: 1,
    runningVcpus: 0,
    maxVcpus: 512,
    memslotCount: 1,
    hasRun: false,
    dead: false,
    vgicInitialized: false,
    manualDirtyLogProtect: 0,
    dirtyRingBytes: 0,
    dirtyRingWithBitmap: false,
    eagerSplitChunkSize: 0n,
    haltPollNs: null,
    dirtyTracking: "write-protect",
    instructions: 0,
    virtualNs: 0,
    steps: 0,
    replaying: false,
  }),
  checkExtension: ({ cap }) => (cap === 10 ? 32767 : 0),
  enableCap: () => null,
  createVcpu: ({ id }) => ({ ...vcpu, id }),
  listVcpus: () => [vcpu, { ...vcpu, id: 7, index: 1, dirtyRing: null }],
  describeVcpu: ({ vcpu: id }) => ({ ...vcpu, id }),
  listHostCpus: () => [{ index: 0, loadedVcpu: null, vttbr: 0n, vtcr: 0n, hcr: 0n, tlbEntries: 0 }],
  createMemoryObject: ({ size }) => ({ ...object, size }),
  listMemoryObjects: () => [object],
  deleteMemoryObject: () => null,
  readMemoryObject: ({ length }) => new Uint8Array(length).fill(0xab),
  writeMemoryObject: () => null,
  readPhysicalMemory: ({ length }) => new Uint8Array(length).fill(0xcd),
  writePhysicalMemory: () => null,
  setUserMemoryRegion: (args) => ({
    created: args.slot === 1,
    slot: args.memorySize === 0n ? null : { ...slot, ...args, npages: 512 },
  }),
  setUserMemoryRegion2: (args) => ({
    created: true,
    slot: { ...slot, slot: args.slot, guestMemfdId: args.guestMemfd < 0 ? null : args.guestMemfd },
  }),
  listMemslots: () => [slot, { ...slot, slot: 3, guestPhysAddr: 0x4000_0000n }],
  createGuestMemfd: ({ size, flags }) => ({ ...memfd, size, flags }),
  listGuestMemfds: () => [memfd],
  closeGuestMemfd: () => null,
  fallocateGuestMemfd: () => null,
  getDirtyLog: () => ({ npages: 512, bitmap: bitmap() }),
  harvestDirtyLog: ({ slot: id }) => ({
    npages: 512,
    bitmap: bitmap(),
    id: "h1",
    slot: id,
    repeated: false,
  }),
  getHarvest: ({ slot: number, id }) => ({
    npages: 512,
    bitmap: bitmap(),
    id,
    slot: number,
    repeated: true,
  }),
  acknowledgeHarvest: () => null,
  clearDirtyLog: () => ({ cleared: 5 }),
  deferDirtyLogClear: () => ({ cleared: 0, deferred: 5 }),
  resetDirtyRings: () => ({ reset: 3 }),
  readDirtyRing: () => window,
  harvestDirtyRing: ({ upTo }) => ({ ...window, harvestIndex: upTo }),
  setDirtyRingFlags: ({ index, flags }) => ({ ...entry, index, flags }),
  registerCoalescedZone: () => null,
  unregisterCoalescedZone: () => null,
  listCoalescedZones: () => [{ addr: 0x900_0000n, size: 4096, pio: 0 }],
  drainCoalescedRing: () => ({
    id: "h1",
    repeated: false,
    entries: [{ physAddr: 0x900_0000n, len: 4, pio: 0, data: new Uint8Array([42, 0, 0, 0]) }],
  }),
  ioeventfd: () => null,
  listIoeventfds: () => [
    { eventfd: 0, index: null, addr: 0x1000n, len: 4, datamatch: 0n, flags: 0 },
  ],
  irqfd: ({ flags }) => ({ id: (flags & 1) === 0 ? 1 : null }),
  assignDevice: ({ base, isHigh }) => ({ ...assigned, base, isHigh }),
  listAssignedDevices: () => [assigned],
  raiseAssignedDevice: () => ({ ...assigned, isHigh: true }),
  releaseDevice: () => assigned,
  listIrqfds: () => [
    { id: 1, eventfd: 0, gsi: 42, flags: 0, resamplefd: null, index: null, resampleIndex: null },
  ],
  wakeEventfd: () => ({ woken: true }),
  hangUpEventfd: () => null,
  setGsiRouting: () => null,
  getGsiRouting: () => routes,
  signalMsi: () => ({ delivered: 1 }),
  createDevice: ({ flags }) => ((flags & 1) === 0 ? 0 : null),
  listDevices: () => [
    { device: 0, type: 7 },
    { device: 1, type: 4 },
  ],
  describeDevice: ({ device }) => ({ device, type: 7 }),
  closeDevice: () => null,
  hasDeviceAttr: () => null,
  getDeviceAttr: ({ value }) => value.map((_, i) => (i === 0 ? 96 : 0)),
  setDeviceAttr: () => null,
  createIrqchip: () => null,
  setDeviceAddr: () => null,
  openVfioFile: () => ({ fd: 1_048_576, isAdded: false }),
  listVfioFiles: () => [{ fd: 1_048_576, isAdded: true }],
  closeVfioFile: () => null,
  describeVgic: () => vgic,
  listVgicIrqs: () => [vgicIrq(27, 0), vgicIrq(33, null)],
  describeVgicV5: () => vgicV5,
  listVgicV5Spis: () => [vgicV5Spi(33), { ...vgicV5Spi(34), iste: null }],
  irqLine: () => null,
  irqLineStatus: ({ irq, level }) => ({ status: irq, level }),
  setProgram: () => progress,
  readProgram: ({ from }) => ({ ...progress, kind: "accesses", loads: [42n], from }),
  run: () => ({
    errno: null,
    exitReason: "KVM_EXIT_HLT",
    deviceIrqLevel: 0,
    retired: 1,
    program: { completed: 1, finished: true },
  }),
  runVcpus: () => [],
  kick: () => null,
  preferredTarget: () => ({ target: 5, features: [0n, 0n, 0n, 0n, 0n, 0n, 0n] }),
  vcpuInit: ({ vcpu: id }) => ({ ...vcpu, id, engine: "a64" }),
  getRegList: () => [0x6030_0000_0010_0000n, 0x6030_0000_0010_0040n],
  getOneReg: () => ({ value: 0x4008_0000n, size: 8 }),
  setOneReg: () => null,
  setRegs: () => null,
  setSignalMask: ({ sigset }) => ({ sigset }),
  describeSignalMask: () => ({ sigset: 0x200n }),
  copyMteTags: ({ tags }) => tags ?? new Uint8Array(256),
  finalizeVcpu: () => null,
  getVcpuEvents: () => ({
    serrorPending: true,
    serrorHasEsr: true,
    extDabtPending: false,
    serrorEsr: 0x1d1n,
  }),
  setVcpuEvents: () => null,
  setGuestDebug: () => null,
  getRegWritableMasks: () => new Array<bigint>(192).fill(0xfn),
  setVmAttr: () => null,
  getVmAttr: () => new Uint8Array(24),
  hasVmAttr: () => null,
  getRegs: ({ regs }) => regs.map(() => 0x9600_0045n),
  setCounterOffset: () => null,
  setVcpuAttr: () => null,
  getVcpuAttr: () => Uint8Array.of(27, 0, 0, 0),
  hasVcpuAttr: () => null,
  getMpState: () => ({ mpState: 0 }),
  setMpState: () => null,
  loadBoard: () => board,
  describeBoard: () => board,
  boardAction: ({ action }) => ({ ...board, state: action === "pause" ? "paused" : "running" }),
  runBoard: ({ ns }) => ({
    ...{ state: "paused", reason: null, ranNs: ns, ringFull: false, cleaned: [], resets: 0 },
  }),
  logBoard: () => null,
  readConsole: ({ offset, limit }) => ({
    offset,
    bytes: new Uint8Array(Buffer.from("hello\n")).slice(offset, offset + limit),
    oldest: 0,
    end: 6,
  }),
  resumeVcpus: () => null,
  describeDebugStop: () => null,
  translate: ({ address }) => ({ ipa: address }),
  readRegisters: ({ regs }) => regs.map(() => 0n),
  writeRegister: () => null,
  passBreakpoint: () => null,
  typeConsole: ({ bytes }) => ({ accepted: bytes.length, typed: 0 }),
  readHdbss: ({ vcpu: id, from }) => ({
    vcpu: id,
    isOn: true,
    source: "saved",
    hostCpu: null,
    isOwned: true,
    br: base,
    prod: { raw: 1n, index: 1, fsc: 0, fscName: "NONE" },
    isFull: false,
    from,
    entries: [
      {
        index: from,
        address: 0x400_0000n,
        raw: 0x1234_5007n,
        valid: true,
        ttwl: 3,
        level: 3,
        ipa: 0x1234_5000n,
        nsIpa: false,
        isProduced: true,
      },
    ],
  }),
  readHacdbs: ({ hostCpu }) => ({
    hostCpu,
    loadedVcpu: null,
    br: { ...base, en: false },
    cons: { raw: 0n, index: 0, err: 0, errName: "NOF" },
    isEnabled: false,
    isRunning: false,
    isFinished: false,
    irq: false,
    counts: { entries: 0, cleaned: 0, alreadyClean: 0, skipped: 0, terminators: 0 },
  }),
  armFault: (args) => ({ ...fault, ...args }),
  listFaults: () => [fault],
  disarmFault: () => null,
  describeDiagnostics: () => [{ kind: "page-freed-twice", count: 1, last: "at 0x4000000" }],
  readFirmware: () => new Uint8Array(44),
  writeNestedRegister: () => nestedView,
  storeNested: () => ({ ...nestedView, outcome: "stored" as const }),
  describeDirty: () => dirtyView,
  changeDirty: ({ settings, seedBugs }) => ({
    settings: { ...dirtyView.settings, ...settings },
    seedBugs: seedBugs ?? [],
  }),
  describeTracking: () => tracking,
  trackDirty: () => tracking,
  harvestDirty: () => dirtyPages(),
  peekDirty: () => dirtyPages(),
  returnDirty: () => null,
  setThrottle: (args) => ({ ...args, vcpus: [{ vcpu: 0, dirtied: 12, throttledNs: 5000 }] }),
  describeThrottle: () => ({
    percent: 20,
    dirtyLimit: 0,
    vcpus: [{ vcpu: 0, dirtied: 12, throttledNs: 5000 }],
  }),
  disassemble: ({ address }) => [
    { address: address ?? 0x4008_0000n, word: 0xd503_201f, text: "nop" },
  ],
  walkStage2: ({ ipa }) => ({
    ipa,
    startLevel: 1,
    steps: [
      {
        level: 1,
        tableAddress: 0x10000n,
        index: 0,
        descriptor: 0x11003n,
        kind: "table",
        descriptorAddress: 0x10000n,
        bits: { ...noBits, valid: true, type: true, outputAddress: 0x11000n },
        state: null,
      },
      {
        level: 2,
        tableAddress: 0x11000n,
        index: 0,
        descriptor: 0n,
        kind: "invalid",
        descriptorAddress: 0x11000n,
        bits: noBits,
        state: null,
      },
    ],
    leaf: null,
  }),
  counters: () => ({ stage2Faults: 12 }),
  startTrace: () => ({ isOn: true, categories: ["exit"], recorded: 0, dropped: 0 }),
  stopTrace: () => null,
  describeTrace: () => ({ isOn: false, categories: [], recorded: 0, dropped: 0 }),
  readTrace: () =>
    new Uint8Array(
      Buffer.from(
        '{"displayTimeUnit":"ns","otherData":{"clock":"virtual","dropped":0},"traceEvents":[]}',
      ),
    ),
  stats: () => statsFile(),
  shadowStart: () => null,
  shadowTake: () => ({ npages: 512, stored: 0, bitmap: new Uint8Array(64) }),
  describeMemory: () => ({
    pageSize: 4096,
    memory: new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }),
    blocks: [{ object: 1, bytes: 0x20_0000, backing: "ram", pa: 4096, contentPage: 0 }],
    unbackedSeed: 7,
  }),
  holdVm: () => ({ wasRunning: true }),
  saveState: () => ({
    parts: [{ kind: "time", version: 1, data: { instructions: 5 } }],
    eventfds: [],
  }),
  loadState: () => null,
  awaitPages: () => null,
  pagesArrived: () => ({ demanded: 0, waitedMs: 0 }),
  allPagesHere: () => ({ demanded: 0, waitedMs: 0 }),
  readSequences: ({ count }) => new Uint32Array(count),
  writeSequences: () => null,
  digest: () => ({ digest: "cbf29ce484222325", parts: { memslots: "cbf29ce484222325" } }),
};
