// Goal: every command is answered exactly once, with plain data, and refuses what it must.
// Method: a table that names each command with arguments that pass and arguments that don't.
import { describe, expect, it } from "vitest";
import { isLent } from "../../../src/base/lent-bytes.js";
import { BOARD_COMMANDS } from "../../../src/vmm/board/board-commands.js";
import { COMMANDS } from "../../../src/vmm/command.table.js";
import type { CommandName } from "../../../src/vmm/commands.js";
import { TRACKING_COMMANDS } from "../../../src/vmm/migration/tracking-commands.js";
import { guestImage, InlineBoard } from "../../support/board.js";
import { BASE, Inline } from "../../support/inline.js";
import { type Case, DEVICE_CASES } from "./device-cases.table.js";
import { GUEST_CASES } from "./guest-cases.table.js";
import { STATE_CASES, stateVm } from "./state-cases.js";
import { setUpTracked, TRACKING_CASES } from "./tracking-cases.table.js";

const none = {};
const consume = { key: "k", after: null };
/** Of irqfd. */
const settled = { drain: true, found: null };
const file = { index: 0, isEventfd: false };
const noFd = { index: -1, isEventfd: true };
const region = {
  slot: 9,
  flags: 0,
  guestPhysAddr: 0xa000_0000n,
  memorySize: 4096n,
  userspaceAddr: 0x7000_0000n,
};
const bits = new Uint8Array(8).fill(0xff);
const range = { gpa: BigInt(BASE), length: 8 };
const bytes = Uint8Array.of(1, 2, 3);
const littleEndian = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);
const window = { vcpu: 0, from: 0, limit: 1 };
const list = { kind: "accesses" as const, accesses: [] };
const PC = 0x6030_0000_0010_0040n;
const HELLO = guestImage("hello");
const NONE = "no-board";
const RUN = { immediateExit: true, mmioData: null };

/** What setUp makes: slot 0 logs, slot 1 does not; vCPU 0 with a ring; memfd 1; harvest h1. */
const CASES: { readonly [K in CommandName]: Case<K> } = {
  describe: { good: none, bad: [] },
  checkExtension: { good: { cap: 3 }, bad: [] },
  enableCap: {
    good: { cap: 182, flags: 0, args: [1n] },
    bad: [[{ cap: 182, flags: 1, args: [] }, "EINVAL"]],
  },
  createVcpu: { good: { id: 5 }, bad: [[{ id: 0 }, "EEXIST"]] },
  listVcpus: { good: none, bad: [] },
  describeVcpu: { good: { vcpu: 0 }, bad: [[{ vcpu: 1 }, "vcpu-not-found"]] },
  listHostCpus: { good: none, bad: [] },
  createMemoryObject: {
    good: { size: 4096n, userspaceAddr: null, backing: "unbacked", hugePages: false },
    bad: [[{ size: 1n, userspaceAddr: null, backing: "ram", hugePages: false }, "EINVAL"]],
  },
  listMemoryObjects: { good: none, bad: [] },
  deleteMemoryObject: { good: { id: 1 }, bad: [[{ id: 99 }, "memory-object-not-found"]] },
  readMemoryObject: {
    good: { id: 1, offset: 0n, length: 8 },
    bad: [
      [{ id: 99, offset: 0n, length: 1 }, "memory-object-not-found"],
      [{ id: 1, offset: 2n ** 64n - 1n, length: 1 }, "out-of-range"],
      [{ id: 1, offset: 64n * 4096n, length: 1 }, "out-of-range"],
    ],
  },
  writeMemoryObject: {
    good: { id: 1, offset: 64n * 4096n - 3n, bytes },
    bad: [
      [{ id: 99, offset: 0n, bytes }, "memory-object-not-found"],
      [{ id: 1, offset: 64n * 4096n - 2n, bytes }, "out-of-range"],
      [{ id: 2, offset: 0n, bytes }, "memory-unbacked"],
    ],
  },
  readPhysicalMemory: {
    good: range,
    bad: [
      [{ gpa: 0n, length: 1 }, "gpa-not-mapped"],
      [{ gpa: BigInt(BASE + 64 * 4096 - 1), length: 2 }, "gpa-not-mapped"],
      [{ gpa: 2n ** 64n - 1n, length: 1 }, "gpa-not-mapped"],
    ],
  },
  writePhysicalMemory: {
    good: { gpa: BigInt(BASE), bytes },
    bad: [
      [{ gpa: BigInt(BASE + 64 * 4096 - 1), bytes }, "gpa-not-mapped"],
      [{ gpa: 0x9000_0000n, bytes }, "memory-unbacked"],
    ],
  },
  setUserMemoryRegion: { good: region, bad: [[{ ...region, flags: 4 }, "EINVAL"]] },
  setUserMemoryRegion2: {
    good: { ...region, flags: 4, guestMemfd: 1, guestMemfdOffset: 0n },
    bad: [[{ ...region, flags: 4, guestMemfd: 5, guestMemfdOffset: 0n }, "EBADF"]],
  },
  listMemslots: { good: none, bad: [] },
  createGuestMemfd: {
    good: { size: 4096n, flags: 1n },
    bad: [[{ size: 4096n, flags: 4n }, "EINVAL"]],
  },
  listGuestMemfds: { good: none, bad: [] },
  closeGuestMemfd: { good: { id: 1 }, bad: [[{ id: 9 }, "guest-memfd-not-found"]] },
  fallocateGuestMemfd: {
    good: { id: 1, mode: 1, offset: 0n, length: 4096n },
    bad: [
      [{ id: 9, mode: 1, offset: 0n, length: 4096n }, "guest-memfd-not-found"],
      [{ id: 1, mode: 0, offset: 0n, length: 4096n }, "EOPNOTSUPP"],
      [{ id: 1, mode: 1, offset: 0n, length: 1n }, "EINVAL"],
    ],
  },
  getDirtyLog: {
    good: { slot: 0 },
    bad: [
      [{ slot: 1 }, "ENOENT"],
      [{ slot: 32767 }, "EINVAL"],
    ],
  },
  harvestDirtyLog: {
    good: { slot: 0, ...consume },
    bad: [
      [{ slot: 0, key: "other", after: null }, "harvest-unacknowledged"],
      [{ slot: 1, ...consume }, "ENOENT"],
    ],
  },
  getHarvest: {
    good: { slot: 0, id: "h1" },
    bad: [
      [{ slot: 0, id: "h2" }, "harvest-not-found"],
      [{ slot: 1, id: "h1" }, "harvest-not-found"],
    ],
  },
  acknowledgeHarvest: {
    good: { slot: 0, id: "h1" },
    bad: [[{ slot: 0, id: "h9" }, "harvest-not-found"]],
  },
  clearDirtyLog: {
    good: { slot: 0, firstPage: 0n, numPages: 64, bitmap: bits },
    bad: [[{ slot: 0, firstPage: 1n, numPages: 63, bitmap: bits }, "EINVAL"]],
  },
  deferDirtyLogClear: {
    good: { slot: 0, firstPage: 0n, numPages: 64, bitmap: bits },
    bad: [[{ slot: 0, firstPage: 1n, numPages: 63, bitmap: bits }, "EINVAL"]],
  },
  resetDirtyRings: { good: none, bad: [] },
  readDirtyRing: { good: window, bad: [[{ ...window, vcpu: 1 }, "vcpu-not-found"]] },
  harvestDirtyRing: { good: { vcpu: 0, upTo: 0 }, bad: [[{ vcpu: 0, upTo: 1 }, "ring-index"]] },
  setDirtyRingFlags: {
    good: { vcpu: 0, index: 0, flags: 2 },
    bad: [[{ vcpu: 1, index: 0, flags: 2 }, "vcpu-not-found"]],
  },
  registerCoalescedZone: {
    good: { addr: 0n, size: 8, pio: 0 },
    bad: [[{ addr: 0n, size: 8, pio: 2 }, "EINVAL"]],
  },
  unregisterCoalescedZone: {
    good: { addr: 0n, size: 8, pio: 1 },
    bad: [[{ addr: 0n, size: 8, pio: 2 }, "EINVAL"]],
  },
  listCoalescedZones: { good: none, bad: [] },
  drainCoalescedRing: { good: consume, bad: [] },
  ioeventfd: {
    good: { datamatch: 0n, addr: 0n, len: 4, fd: { index: 0, isEventfd: true }, flags: 0 },
    bad: [[{ datamatch: 0n, addr: 0n, len: 4, fd: noFd, flags: 0 }, "EBADF"]],
  },
  irqfd: {
    good: { fd: { index: 0, isEventfd: true }, gsi: 0, flags: 1, resamplefd: noFd, ...settled },
    bad: [
      [{ fd: noFd, gsi: 0, flags: 0, resamplefd: noFd, ...settled }, "EAGAIN"],
      [{ fd: noFd, gsi: 0, flags: 1, resamplefd: noFd, ...settled }, "EBADF"],
      [{ fd: noFd, gsi: 0, flags: 5, resamplefd: noFd, ...settled }, "EINVAL"],
    ],
  },
  assignDevice: {
    good: undefined as never,
    bad: [
      [{ base: 0n, trigger: noFd, unmask: noFd, isHigh: true, ...settled }, "EBADF"],
      [{ base: 0n, trigger: file, unmask: noFd, isHigh: true, ...settled }, "EINVAL"],
    ],
  },
  listAssignedDevices: { good: none, bad: [] },
  raiseAssignedDevice: {
    good: undefined as never,
    bad: [[{ id: 0, drain: true }, "device-not-found"]],
  },
  releaseDevice: {
    good: undefined as never,
    bad: [[{ id: 0, drain: true }, "device-not-found"]],
  },
  listIoeventfds: { good: none, bad: [] },
  listIrqfds: { good: none, bad: [] },
  wakeEventfd: { good: { fd: { index: 0, isEventfd: true }, drain: true }, bad: [] },
  hangUpEventfd: { good: { fd: { index: 0, isEventfd: true }, drain: true }, bad: [] },
  setGsiRouting: { good: { flags: 0, entries: [] }, bad: [[{ flags: 1, entries: [] }, "EINVAL"]] },
  getGsiRouting: { good: none, bad: [] },
  signalMsi: {
    good: undefined as never,
    bad: [[{ addressLo: 0, addressHi: 0, data: 0, flags: 0, devid: 0 }, "EINVAL"]],
  },
  ...DEVICE_CASES,
  ...GUEST_CASES,
  irqLine: {
    good: { irq: 0x0007_0000, level: 1 },
    bad: [
      [{ irq: 0x0100_0020, level: 1 }, "ENXIO"],
      [{ irq: 0x0200_0010, level: 1 }, "ENXIO"],
      [{ irq: 0x0300_0000, level: 1 }, "EINVAL"],
      [{ irq: 0x0001_0000, level: 1 }, "EINVAL"],
      [{ irq: 0x1007_0000, level: 1 }, "EINVAL"],
      [{ irq: 0x0007_0002, level: 1 }, "EINVAL"],
    ],
  },
  setProgram: {
    good: { vcpu: 0, program: list },
    bad: [[{ vcpu: 1, program: list }, "vcpu-not-found"]],
  },
  readProgram: { good: window, bad: [[{ ...window, vcpu: 1 }, "vcpu-not-found"]] },
  run: { good: { vcpu: 0, ...RUN }, bad: [[{ vcpu: 1, ...RUN }, "vcpu-not-found"]] },
  runVcpus: {
    good: { vcpus: [0n] },
    bad: [
      [{ vcpus: [0n, 1n] }, "vcpu-not-found"],
      [{ vcpus: [0n, 0n] }, "vcpu-running"],
    ],
  },
  kick: { good: { vcpu: 0 }, bad: [[{ vcpu: 1 }, "vcpu-not-found"]] },
  preferredTarget: { good: none, bad: [] },
  vcpuInit: {
    good: { vcpu: 7, target: 5, features: [4n] },
    bad: [
      [{ vcpu: 1, target: 5, features: [] }, "vcpu-not-found"],
      [{ vcpu: 7, target: 0, features: [4n] }, "EINVAL"],
    ],
  },
  getRegList: { good: { vcpu: 7 }, bad: [[{ vcpu: 0 }, "ENOEXEC"]] },
  getRegs: {
    good: { vcpu: 7, regs: [PC] },
    bad: [
      [{ vcpu: 0, regs: [PC] }, "ENOEXEC"],
      [{ vcpu: 7, regs: [PC, 0n] }, "EINVAL"],
    ],
  },
  getOneReg: {
    good: { vcpu: 7, reg: PC },
    bad: [
      [{ vcpu: 0, reg: PC }, "ENOEXEC"],
      [{ vcpu: 7, reg: 0n }, "EINVAL"],
    ],
  },
  setOneReg: {
    good: { vcpu: 7, reg: PC, value: bits },
    bad: [[{ vcpu: 7, reg: PC, value: bytes }, "EINVAL"]],
  },
  setCounterOffset: {
    good: { offset: 5n, reserved: 0n },
    bad: [[{ offset: 5n, reserved: 1n }, "EINVAL"]],
  },
  setVcpuAttr: {
    good: { vcpu: 0, group: 2, attr: 0n, value: littleEndian(BigInt(BASE) + 64n) },
    bad: [
      [{ vcpu: 1, group: 2, attr: 0n, value: bits }, "vcpu-not-found"],
      [{ vcpu: 0, group: 2, attr: 0n, value: littleEndian(BigInt(BASE) + 32n) }, "EINVAL"],
      [{ vcpu: 0, group: 2, attr: 0n, value: littleEndian(0n) }, "EINVAL"],
      [{ vcpu: 0, group: 2, attr: 0n, value: bytes }, "EFAULT"],
      [{ vcpu: 0, group: 2, attr: 1n, value: bits }, "ENXIO"],
      [{ vcpu: 0, group: 1, attr: 0n, value: bits }, "EINVAL"],
      [{ vcpu: 0, group: 3, attr: 0n, value: bits }, "ENXIO"],
    ],
  },
  getVcpuAttr: {
    good: { vcpu: 0, group: 1, attr: 0n },
    bad: [
      [{ vcpu: 0, group: 1, attr: 4n }, "ENXIO"],
      [{ vcpu: 0, group: 2, attr: 1n }, "ENXIO"],
      [{ vcpu: 0, group: 9, attr: 0n }, "ENXIO"],
    ],
  },
  hasVcpuAttr: {
    good: { vcpu: 0, group: 2, attr: 0n },
    bad: [
      [{ vcpu: 0, group: 1, attr: 4n }, "ENXIO"],
      [{ vcpu: 0, group: 2, attr: 2n ** 32n }, "ENXIO"],
      [{ vcpu: 0, group: 9, attr: 0n }, "ENXIO"],
    ],
  },
  getMpState: { good: { vcpu: 0 }, bad: [[{ vcpu: 1 }, "vcpu-not-found"]] },
  setMpState: {
    good: { vcpu: 0, mpState: 5 },
    bad: [[{ vcpu: 0, mpState: 1 }, "EINVAL"]],
  },
  loadBoard: {
    good: { image: HELLO, initrd: null },
    bad: [[{ image: HELLO, initrd: null }, NONE]],
  },
  describeBoard: { good: none, bad: [[none, NONE]] },
  boardAction: { good: { action: "start" }, bad: [[{ action: "pause" }, NONE]] },
  runBoard: { good: { ns: 1000n }, bad: [[{ ns: 1000n }, NONE]] },
  logBoard: { good: { on: true }, bad: [[{ on: true }, NONE]] },
  readConsole: { good: { offset: 0, limit: 9 }, bad: [[{ offset: 0, limit: 9 }, NONE]] },
  typeConsole: { good: { bytes }, bad: [[{ bytes }, NONE]] },
  resumeVcpus: { good: { vcpus: [0n] }, bad: [[{ vcpus: [0n] }, NONE]] },
  describeDebugStop: { good: none, bad: [[none, NONE]] },
  translate: {
    good: { vcpu: 7, address: BigInt(BASE) },
    bad: [
      [{ vcpu: 1, address: 0n }, "vcpu-not-found"],
      [{ vcpu: 0, address: 0n }, "vcpu-not-initialised"],
    ],
  },
  readRegisters: {
    good: { vcpu: 7, regs: [PC, PC] },
    bad: [
      [{ vcpu: 0, regs: [PC] }, "ENOEXEC"],
      [{ vcpu: 7, regs: [PC, 0n] }, "EINVAL"],
    ],
  },
  writeRegister: {
    good: { vcpu: 7, reg: PC, value: bits },
    bad: [
      [{ vcpu: 0, reg: PC, value: bits }, "ENOEXEC"],
      [{ vcpu: 7, reg: PC, value: bytes }, "EINVAL"],
    ],
  },
  passBreakpoint: {
    good: { vcpu: 7 },
    bad: [[{ vcpu: 0 }, "vcpu-not-initialised"]],
  },
  readHdbss: {
    good: { vcpu: 0, from: 0, limit: 512 },
    bad: [[{ vcpu: 1, from: 0, limit: 1 }, "vcpu-not-found"]],
  },
  readHacdbs: { good: { hostCpu: 0 }, bad: [[{ hostCpu: 99 }, "host-cpu-not-found"]] },
  armFault: {
    good: { kind: "hdbss-append-abort", nth: 5, vcpu: 0, times: 1, delay: 0 },
    bad: [[{ kind: "nothing", nth: 1, vcpu: null, times: null, delay: 0 }, "validation"]],
  },
  listFaults: { good: none, bad: [] },
  disarmFault: { good: { id: 1 }, bad: [[{ id: 99 }, "fault-not-found"]] },
  describeDiagnostics: { good: none, bad: [] },
  readFirmware: { good: { table: "madt" }, bad: [] },
  writeNestedRegister: {
    good: { vncr: BigInt(BASE), register: "HACDBSBR_EL2", value: 0n },
    bad: [[{ vncr: BigInt(BASE), register: "HCR_EL2", value: 0n }, "validation"]],
  },
  storeNested: { good: { vncr: BigInt(BASE), ipa: 0n }, bad: [] },
  describeDirty: { good: none, bad: [] },
  changeDirty: {
    good: { settings: { "hacdbs.completion": "irq-wfi", "hdbss.size": 3 }, seedBugs: ["B12"] },
    bad: [
      [{ settings: { "hdbss.size": 10 }, seedBugs: null }, "validation"],
      [{ settings: { "hdbss.sizes": 1 }, seedBugs: null }, "validation"],
      [{ settings: { "hardware.vhe": false }, seedBugs: null }, "setting-fixed"],
      [{ settings: { "hdbss.enableBy": "ioctl-v2" }, seedBugs: null }, "setting-fixed"],
      [{ settings: {}, seedBugs: ["B10"] }, "validation"],
    ],
  },
  ...STATE_CASES,
  disassemble: {
    good: { vcpu: 7, address: BigInt(BASE), count: 4 },
    bad: [
      [{ vcpu: 0, address: null, count: 1 }, "vcpu-not-initialised"],
      [{ vcpu: 7, address: BigInt(BASE) + 2n, count: 1 }, "out-of-range"],
      [{ vcpu: 7, address: 0n, count: 1 }, "va-not-mapped"],
    ],
  },
  walkStage2: {
    good: { ipa: BigInt(BASE) },
    bad: [[{ ipa: 2n ** 64n - 1n }, "out-of-range"]],
  },
  counters: { good: none, bad: [] },
  startTrace: { good: { categories: 1 }, bad: [] },
  stopTrace: { good: none, bad: [] },
  describeTrace: { good: none, bad: [] },
  readTrace: { good: none, bad: [] },
  stats: { good: { vcpu: 0 }, bad: [[{ vcpu: 1 }, "vcpu-not-found"]] },
  digest: { good: none, bad: [] },
  ...TRACKING_CASES,
  shadowStart: { good: none, bad: [] },
  shadowTake: { good: { slot: 0 }, bad: [] },
};

function setUp() {
  const vm = new Inline({ dirty: { settings: { "clear.mode": "async-run" }, seedBugs: [] } });
  vm.eventfds.create(0n);
  vm.enable(168, 1n);
  vm.enable(223, 4096n);
  vm.enable(225);
  vm.slot(0, 64, { flags: 1 });
  vm.slot(1, 64, { gpa: 0x9000_0000, backing: "unbacked" });
  vm.call("createGuestMemfd", { size: 65536n, flags: 1n });
  vm.vcpu();
  vm.vcpu(7);
  vm.call("vcpuInit", { vcpu: 7, target: 5, features: [4n] });
  vm.call("harvestDirtyLog", { slot: 0, key: "k", after: null });
  vm.call("createDevice", { type: 4, flags: 0 });
  vm.call("openVfioFile", {});
  vm.call("armFault", { kind: "hdbss-alloc", nth: 9, vcpu: null, times: null, delay: 0 });
  return vm;
}

/** Commands that need a controller to pass: a GICv3 as device 1, or the legacy GICv2. */
const WITH_VGIC: readonly CommandName[] = ["describeVgic", "listVgicIrqs", "getDeviceAttr"];
const WITH_GICV5: readonly CommandName[] = ["describeVgicV5", "listVgicV5Spis"];

function withController(name: CommandName): Inline {
  const vm = setUp();
  if (WITH_VGIC.includes(name)) vm.call("createDevice", { type: 7, flags: 0 });
  if (WITH_GICV5.includes(name)) vm.call("createDevice", { type: 16, flags: 0 });
  if (name === "setDeviceAddr") vm.call("createIrqchip", none);
  return vm;
}

/** A command of a board finds one that has its image, but for the one that brings it. */
function setUpFor(name: CommandName): Inline {
  if (Object.hasOwn(STATE_CASES, name)) return stateVm(name);
  if (Object.hasOwn(TRACKING_COMMANDS, name)) return setUpTracked();
  if (!Object.hasOwn(BOARD_COMMANDS, name)) return withController(name);
  return name === "loadBoard" ? new InlineBoard() : InlineBoard.with(HELLO);
}

/** What can cross a thread: no functions, no views of the VM's own memory, unless it is lent. */
function isPlain(value: unknown): boolean {
  if (value instanceof Uint8Array) return value.buffer instanceof ArrayBuffer || isLent(value);
  if (typeof value === "object" && value !== null) return Object.values(value).every(isPlain);
  return typeof value !== "function" && typeof value !== "symbol";
}

const names = Object.keys(CASES) as CommandName[];

describe("commands", () => {
  it("are all in the table", () => {
    expect(names.sort()).toEqual(Object.keys(COMMANDS).sort());
  });

  it.each(names.filter((name) => CASES[name].good !== undefined))("%s answers", (name) => {
    const vm = setUpFor(name);
    const pending = vm.begin(name, CASES[name].good as never);
    vm.pumpUntil(() => pending.done);
    const { value } = pending;
    expect(value).not.toBe(undefined);
    expect(isPlain(value)).toBe(true);
    expect(structuredClone(value)).toEqual(value);
  });

  const refusals = names.flatMap((name) =>
    CASES[name].bad.map(([args, code]) => [name, code, args] as const),
  );
  it.each(refusals)("%s is refused with %s and leaves the VM as it was", (name, code, args) => {
    const vm = Object.hasOwn(STATE_CASES, name) ? stateVm(name) : setUp();
    const before = vm.instance.digest().parts;
    expect(vm.refused(name, args as never)).toBe(code);
    const after = vm.instance.digest().parts;
    // Steps were taken; nothing else may differ.
    expect({ ...after, scheduler: "" }).toEqual({ ...before, scheduler: "" });
  });
});

describe("programs", () => {
  const pattern = {
    kind: "pattern" as const,
    pattern: "uniform" as const,
    base: 0n,
    bytes: 4096n,
    count: 1,
    writePercent: 100,
    length: 8,
    stride: 8,
    skew: 10,
    seed: 0n,
  };
  const access = { op: "write" as const, address: 0n, length: 8 };
  const hot = { ...pattern, pattern: "hot-set" as const };
  const wide = { ...access, address: 2n ** 64n - 1n };

  it.each([
    ["a window beyond 2^52", { ...pattern, base: 2n ** 52n }],
    ["a window of 2^64-1", { ...pattern, bytes: 2n ** 64n - 1n }],
    ["a window smaller than an access", { ...pattern, bytes: 7n }],
    ["accesses of 3 bytes", { ...pattern, length: 3 }],
    ["a hot set of 0 percent", { ...hot, skew: 0 }],
    ["a hot set of 101 percent", { ...hot, skew: 101 }],
    ["an access beyond 2^52", { kind: "accesses" as const, accesses: [wide] }],
    ["an access of no bytes", { kind: "accesses" as const, accesses: [{ ...access, length: 0 }] }],
    ["an access of 9 bytes", { kind: "accesses" as const, accesses: [{ ...access, length: 9 }] }],
    [
      "65537 accesses",
      { kind: "accesses" as const, accesses: new Array(65537).fill(access) as (typeof access)[] },
    ],
  ])("%s is refused, and the old program stays", (_name, program) => {
    const vm = setUp();
    vm.list(0, [access]);
    expect(vm.refused("setProgram", { vcpu: 0, program })).toBe("invalid-program");
    expect(vm.call("readProgram", { vcpu: 0, from: 0, limit: 1 }).kind).toBe("accesses");
  });

  it("loads come page by page", () => {
    const vm = setUp();
    vm.load(
      0,
      Array.from({ length: 10 }, (_, i) => BASE + i * 8),
    );
    const page = (from: number, limit: number) =>
      vm.call("readProgram", { vcpu: 0, from, limit }).loads.length;
    expect([page(0, 4), page(8, 4), page(10, 4), page(99, 1)]).toEqual([4, 2, 0, 0]);
  });
});

describe("memory", () => {
  it("reads and writes across pages, slots and objects, by their guest addresses", () => {
    const vm = new Inline();
    const { object } = vm.slot(0, 2);
    vm.slot(1, 2, { gpa: BASE + 2 * 4096 });
    const data = Uint8Array.from({ length: 300 }, (_, i) => i & 0xff);
    const gpa = BigInt(BASE + 2 * 4096 - 150);
    vm.call("writePhysicalMemory", { gpa, bytes: data });
    expect(vm.call("readPhysicalMemory", { gpa, length: 300 })).toEqual(data);
    const own = { id: object.id, offset: 8192n - 150n, length: 150 };
    expect(vm.call("readMemoryObject", own)).toEqual(data.subarray(0, 150));
    vm.deleteSlot(1);
    const before = vm.call("readMemoryObject", { ...own, offset: 0n, length: 8192 });
    expect(vm.refused("writePhysicalMemory", { gpa, bytes: data })).toBe("gpa-not-mapped");
    // All or nothing.
    expect(vm.call("readMemoryObject", { ...own, offset: 0n, length: 8192 })).toEqual(before);
  });

  it("unbacked memory reads as its content, which stores change", () => {
    const vm = new Inline();
    vm.slot(0, 4, { backing: "unbacked" });
    vm.vcpu();
    const read = (page: number) =>
      vm.call("readPhysicalMemory", { gpa: BigInt(BASE + page * 4096), length: 64 });
    const [zero, one] = [read(0), read(1)];
    vm.store(0, [BASE + 4096]);
    expect(read(0)).toEqual(zero);
    expect(read(1)).not.toEqual(one);
  });
});
