// Owns: what each command does: one row per name of VmCommands. VM thread.
// "now" rows are done when they come in; "op" rows become a context of the scheduler.
import { KvmError, ServiceError } from "../base/errors.js";
import {
  armVcpuInit,
  checkExtension,
  createVcpu,
  enableCap,
  FALLOC_FL,
  type GuestMemfd,
  getOneReg,
  getRegList,
  getVcpuAttr,
  hasVcpuAttr,
  irqLine,
  KVM_DIRTY_GFN,
  KVM_MEM,
  KVM_MP_STATE,
  type Kvm,
  type Memslot,
  type Op,
  preferredTarget,
  setCounterOffset,
  setOneReg,
  setVcpuAttr,
  signalMsi,
  statsFile,
  viewStage2,
} from "../kvm/index.js";
import { BOARD_COMMANDS } from "./board/board-commands.js";
import type { Row } from "./command-row.js";
import type { CommandArgs, CommandName, CommandResult, MemslotView } from "./commands.js";
import { DEBUGGER_COMMANDS } from "./debugger.js";
import { DEVICE_COMMANDS } from "./devices.js";
import { DIRTY_COMMANDS } from "./dirty.js";
import { disassembleAt } from "./disassembly.js";
import { GUEST_COMMANDS } from "./guest.js";
import type { Machine } from "./machine.js";
import {
  memoryObject,
  readGuest,
  readObject,
  writeGuest,
  writeObject,
} from "./memory-access.js";
import { STATE_COMMANDS } from "./migration/state-commands.js";
import { TRACKING_COMMANDS } from "./migration/tracking-commands.js";
import { programSource } from "./programs.js";
import { run, runVcpus } from "./run.js";
import { kickVcpu } from "./run-label.js";
import { Shadow } from "./shadow.js";
import { traceFile, traceView } from "./trace-file.js";
import { idleVcpu, vcpuOf } from "./vcpu-of.js";
import {
  guestMemfdView,
  hostCpuViews,
  memoryObjectView,
  memslotView,
  ringWindow,
  vcpuView,
  vmView,
} from "./views.js";

/** Loads of a program answered at most in one page of `readProgram`. */
const LOADS_PAGE_MAX = 65536;

function ringOf(m: Machine, id: number) {
  const { ring } = vcpuOf(m, id);
  if (ring === null) {
    throw new ServiceError("no-dirty-ring", "the VM has no dirty rings; enable them before vCPUs");
  }
  return ring;
}

/** An answer for after the work that KVM put off. */
function settled<T>(m: Machine, drain: boolean, value: T): T {
  if (drain) m.kvm.vm.jobs.drain();
  return value;
}

function memfdOf(m: Machine, id: number): GuestMemfd {
  const file = m.kvm.vm.memfds.open(id);
  if (file === undefined) {
    throw new ServiceError("guest-memfd-not-found", `the VM has no open guest_memfd ${id}`);
  }
  return file;
}

/** Nothing is known before shadowStart. */
const NO_SHADOW = { npages: 0, stored: 0, bitmap: new Uint8Array(0) };

function hostCaps(kvm: Kvm) {
  const { host, config, maxVcpus } = kvm.vm;
  return {
    hostCpus: config.hostCpus === 0 ? maxVcpus : config.hostCpus,
    leafSizes: host.geometry.leafSizes,
  };
}

/** First file offset that is no loff_t any more. */
const OFFSET_END = 2n ** 63n;

/** Pages of a range, checked as fallocate does. */
function pagesOfRange(m: Machine, offset: bigint, length: bigint) {
  const page = BigInt(m.kvm.vm.pageSize);
  const end = offset + length;
  if (offset % page !== 0n || length % page !== 0n || length === 0n || end >= OFFSET_END) {
    throw new KvmError("EINVAL", "fallocate", "the range must be whole pages");
  }
  return { first: Number(offset / page), end: Number(end / page) };
}

function* fallocate(m: Machine, args: CommandArgs<"fallocateGuestMemfd">): Op<null> {
  const file = memfdOf(m, args.id);
  const punches = args.mode === (FALLOC_FL.KEEP_SIZE | FALLOC_FL.PUNCH_HOLE);
  if (!punches && args.mode !== FALLOC_FL.KEEP_SIZE) {
    throw new KvmError("EOPNOTSUPP", "fallocate", "mode must be KEEP_SIZE, with or without PUNCH_HOLE");
  }
  const { first, end } = pagesOfRange(m, args.offset, args.length);
  if (punches) {
    // There is nothing to punch beyond the end, and that is not an error.
    yield* m.kvm.reclaim.punchHole(file, first, end);
    return null;
  }
  if (args.offset + args.length > BigInt(file.bytes)) {
    throw new KvmError("EINVAL", "fallocate", "the range must lie in the file; its size is fixed");
  }
  if (!(yield* m.kvm.vm.memfds.allocate(file, first, end))) {
    throw new KvmError("ENOMEM", "fallocate", "the file's pages do not fit the memory budget");
  }
  return null;
}

/** Of a slot that logs for the vmm the client sees the flags that it gave. */
function slotView(m: Machine, slot: Memslot): MemslotView {
  const view = memslotView(slot, m.kvm.vm.pageSize);
  if (!m.tracking.isOwner) return view;
  return { ...view, flags: view.flags & ~KVM_MEM.LOG_DIRTY_PAGES };
}

function* setRegion(
  m: Machine,
  args: CommandArgs<"setUserMemoryRegion2">,
  isV1: boolean,
): Op<CommandResult<"setUserMemoryRegion">> {
  const { created, slot } = yield* m.tracking.setRegion(args, isV1);
  m.shadow?.slotsChanged();
  return { created, slot: slot === null ? null : slotView(m, slot) };
}

function* getDirtyLog(m: Machine, slot: number): Op<CommandResult<"getDirtyLog">> {
  m.kvm.log.checkGet(slot);
  if (!m.kvm.vm.manualProtect) {
    throw new ServiceError(
      "destructive-read",
      "without manual protect a read clears the log: POST a harvest, which is kept until acknowledged",
    );
  }
  const since = m.shadow?.stores ?? 0;
  const log = yield* m.kvm.log.get(slot, (bytes) => m.room(bytes));
  m.addOwnWrites(slot, log.bitmap);
  m.shadow?.reported(slot, log.bitmap, false, since);
  return log;
}

function* harvestDirtyLog(
  m: Machine,
  { slot, key, after }: CommandArgs<"harvestDirtyLog">,
): Op<CommandResult<"harvestDirtyLog">> {
  const since = m.shadow?.stores ?? 0;
  const harvest = yield* m.harvests.take(slot, { key, after });
  const acquires = !m.kvm.vm.manualProtect;
  if (!harvest.repeated) m.shadow?.reported(slot, harvest.bitmap, acquires, since);
  return harvest;
}

function harvestRing(m: Machine, args: CommandArgs<"harvestDirtyRing">) {
  const ring = ringOf(m, args.vcpu);
  if (args.upTo < ring.harvestIndex || args.upTo > ring.servedIndex) {
    throw new ServiceError(
      "ring-index",
      `upTo must be ${ring.harvestIndex} to ${ring.servedIndex}: never back, never past what was read`,
      { harvestIndex: ring.harvestIndex, servedIndex: ring.servedIndex },
    );
  }
  for (let index = ring.harvestIndex; index < args.upTo; index++) {
    const { slot, offset } = ring.entry(index);
    ring.setFlags(index, KVM_DIRTY_GFN.RESET);
    m.shadow?.harvested(slot, offset);
  }
  ring.harvestIndex = args.upTo;
  return ringWindow(ring, args.upTo, 0);
}

/** Serving an entry that is dirty and next in order lets it be harvested. */
function readRing(m: Machine, args: CommandArgs<"readDirtyRing">) {
  const ring = ringOf(m, args.vcpu);
  const window = ringWindow(ring, args.from, args.limit);
  for (const entry of window.entries) {
    const next = Math.max(ring.servedIndex, ring.harvestIndex);
    if (entry.index === next && entry.flags === KVM_DIRTY_GFN.DIRTY) ring.servedIndex = next + 1;
  }
  return window;
}

function kick(m: Machine, id: number): null {
  const vcpu = vcpuOf(m, id);
  m.kvm.vm.counters.values.kicks++;
  kickVcpu(m.kvm, vcpu);
  return null;
}

function setMpState(m: Machine, args: CommandArgs<"setMpState">): null {
  const vcpu = idleVcpu(m, args.vcpu);
  const { RUNNABLE, STOPPED, SUSPENDED } = KVM_MP_STATE;
  if (![RUNNABLE, STOPPED, SUSPENDED].some((state) => state === args.mpState)) {
    throw new KvmError("EINVAL", "KVM_SET_MP_STATE", "mpState must be 0, 5 or 10 on arm64");
  }
  vcpu.mpState = args.mpState;
  vcpu.wait.wake();
  return null;
}

function walk(m: Machine, ipa: bigint): CommandResult<"walkStage2"> {
  if (ipa >= 2n ** BigInt(m.kvm.vm.ipaBits)) {
    throw new ServiceError("out-of-range", `ipa must be below 2^${m.kvm.vm.ipaBits}`);
  }
  return { ipa, ...viewStage2(m.kvm.vm, Number(ipa)) };
}

export const COMMANDS: { readonly [K in CommandName]: Row<K> } = {
  describe: {
    now: (m) => ({ ...vmView(m.kvm, m.definition, false), ...m.tracking.lentCaps }),
  },
  checkExtension: { now: (m, { cap }) => checkExtension(cap, hostCaps(m.kvm), m.kvm.vm) },
  enableCap: {
    begin: (m, { cap, flags, args }) => {
      const op = enableCap(m.kvm.vm, cap, flags, args);
      return op === null ? { value: null } : { op };
    },
  },
  createVcpu: {
    now: (m, { id }) => {
      const vcpu = createVcpu(m.kvm.vm, id);
      m.shadow?.watch(vcpu);
      return vcpuView(vcpu);
    },
  },
  listVcpus: { now: (m) => m.kvm.vm.vcpus.map(vcpuView) },
  describeVcpu: { now: (m, { vcpu }) => vcpuView(vcpuOf(m, vcpu)) },
  listHostCpus: { now: (m) => hostCpuViews(m.kvm) },

  createMemoryObject: { now: (m, args) => memoryObjectView(m.kvm.vm.mm.map(args)) },
  listMemoryObjects: { now: (m) => m.kvm.vm.mm.list().map(memoryObjectView) },
  deleteMemoryObject: {
    *op(m, { id }) {
      yield* m.kvm.reclaim.unmapObject(memoryObject(m.kvm, id));
      return null;
    },
  },
  readMemoryObject: { now: (m, a) => readObject(m.kvm, a.id, a.offset, a.length) },
  writeMemoryObject: {
    now: (m, { id, offset, bytes }) => {
      writeObject(m.kvm, id, offset, bytes);
      return null;
    },
  },
  readPhysicalMemory: { now: (m, { gpa, length }) => readGuest(m.kvm, gpa, length) },
  writePhysicalMemory: {
    now: (m, { gpa, bytes }) => {
      writeGuest(m.kvm, gpa, bytes);
      return null;
    },
  },

  setUserMemoryRegion: {
    op: (m, args) => setRegion(m, { ...args, guestMemfd: 0, guestMemfdOffset: 0n }, true),
  },
  setUserMemoryRegion2: { op: (m, args) => setRegion(m, args, false) },
  listMemslots: {
    now: (m) => m.kvm.vm.slots.list().map((slot) => slotView(m, slot)),
  },
  createGuestMemfd: { now: (m, a) => guestMemfdView(m.kvm.vm.memfds.create(a.size, a.flags)) },
  listGuestMemfds: { now: (m) => m.kvm.vm.memfds.list().map(guestMemfdView) },
  closeGuestMemfd: {
    *op(m, { id }) {
      yield* m.kvm.reclaim.closeMemfd(memfdOf(m, id));
      return null;
    },
  },
  fallocateGuestMemfd: { op: fallocate },

  getDirtyLog: { op: (m, { slot }) => getDirtyLog(m, slot) },
  harvestDirtyLog: { op: harvestDirtyLog },
  getHarvest: { now: (m, { slot, id }) => m.harvests.get(slot, id) },
  acknowledgeHarvest: {
    now: (m, { slot, id }) => {
      m.harvests.acknowledge(slot, id);
      return null;
    },
  },
  clearDirtyLog: {
    *op(m, { slot, firstPage, numPages, bitmap }) {
      const cleared = yield* m.kvm.log.clear(slot, firstPage, numPages, bitmap);
      m.clearOwnWrites(slot, firstPage, bitmap);
      m.shadow?.cleared(slot, Number(firstPage), bitmap);
      return { cleared };
    },
  },
  deferDirtyLogClear: {
    *op(m, { slot, firstPage, numPages, bitmap }) {
      const done = yield* m.kvm.log.deferClear(slot, firstPage, numPages, bitmap);
      m.clearOwnWrites(slot, firstPage, bitmap);
      // What is deferred is acquired only with KVM_EXIT_CLEANED.
      if (done.deferred === 0) m.shadow?.cleared(slot, Number(firstPage), bitmap);
      else m.shadow?.deferred(slot, Number(firstPage), bitmap);
      return done;
    },
  },
  resetDirtyRings: {
    *op(m) {
      const reset = yield* m.kvm.rings.reset();
      m.shadow?.ringsReset();
      return { reset };
    },
  },
  readDirtyRing: { now: readRing },
  harvestDirtyRing: { now: harvestRing },
  setDirtyRingFlags: {
    now: (m, { vcpu, index, flags }) => {
      const ring = ringOf(m, vcpu);
      ring.setFlags(index, flags);
      const entry = ring.entry(index);
      return { ...entry, offset: BigInt(entry.offset) };
    },
  },

  registerCoalescedZone: {
    now: (m, { addr, size, pio }) => {
      m.kvm.vm.bus.registerZone(addr, size, pio);
      return null;
    },
  },
  unregisterCoalescedZone: {
    now: (m, { addr, size, pio }) => {
      m.kvm.vm.bus.unregisterZone(addr, size, pio);
      return null;
    },
  },
  listCoalescedZones: {
    now: (m) =>
      m.kvm.vm.bus.zones().map((zone) => ({
        addr: zone.addr,
        size: zone.length,
        pio: zone.bus === "pio" ? 1 : 0,
      })),
  },
  drainCoalescedRing: {
    now: (m, { key, after }) => {
      const taken = m.coalesced.take({ key, after }, () => m.kvm.vm.bus.drain());
      return { id: taken.id, repeated: taken.repeated, entries: taken.value };
    },
  },

  ioeventfd: {
    now: (m, args) => {
      m.kvm.vm.bus.ioeventfd(args);
      return null;
    },
  },
  listIoeventfds: {
    now: ({ kvm: { vm } }) =>
      vm.bus.ioeventfds().map((one) => ({ ...one, index: vm.eventfds.outside(one.eventfd) })),
  },
  irqfd: {
    now: (m, args) => {
      const id = m.kvm.vm.irqfds.irqfd(args);
      return settled(m, args.drain, { id });
    },
  },
  assignDevice: { now: (m, args) => settled(m, args.drain, m.assigned.assign(args)) },
  listAssignedDevices: { now: (m) => m.assigned.list() },
  raiseAssignedDevice: {
    now: (m, { id, drain }) => settled(m, drain, m.assigned.raise(id)),
  },
  releaseDevice: { now: (m, { id, drain }) => settled(m, drain, m.assigned.release(id)) },
  listIrqfds: {
    now: ({ kvm: { vm } }) =>
      vm.irqfds.list().map((one) => ({
        ...one,
        index: vm.eventfds.outside(one.eventfd),
        resampleIndex: one.resamplefd === null ? null : vm.eventfds.outside(one.resamplefd),
      })),
  },
  wakeEventfd: {
    now: (m, { fd, drain }) => {
      const isKnown = fd.index >= 0 && m.held.mayWake(fd.index);
      const woken = isKnown && m.kvm.vm.eventfds.wake(fd.index);
      return settled(m, drain, { woken });
    },
  },
  hangUpEventfd: {
    now: (m, { fd, drain }) => {
      if (fd.index >= 0) m.kvm.vm.eventfds.hangUp(fd.index);
      return settled(m, drain, null);
    },
  },
  setGsiRouting: {
    now: (m, { flags, entries }) => {
      m.kvm.vm.routing.set(flags, entries);
      return null;
    },
  },
  getGsiRouting: { now: (m) => m.kvm.vm.routing.list() },
  signalMsi: { now: (m, msi) => ({ delivered: signalMsi(m.kvm.vm, msi) }) },
  irqLine: {
    now: (m, { irq, level }) => {
      irqLine(m.kvm.vm, irq, level !== 0);
      return null;
    },
  },

  setProgram: {
    now: (m, { vcpu, program }) => {
      const { synthetic } = idleVcpu(m, vcpu);
      synthetic.start(programSource(program, m.kvm.vm.pageSize));
      m.programs.set(vcpu, program);
      return { completed: 0, finished: false };
    },
  },
  readProgram: {
    now: (m, { vcpu, from, limit }) => {
      const { synthetic } = vcpuOf(m, vcpu);
      const { program: kind, completed, finished } = synthetic;
      const loads = synthetic.loads.slice(from, from + Math.min(limit, LOADS_PAGE_MAX));
      return { kind, completed, finished, from, loads };
    },
  },
  run: { op: run, vcpu: (args) => args.vcpu },
  runVcpus: { op: (m, { vcpus }) => runVcpus(m, vcpus.map(Number)) },
  kick: { now: (m, { vcpu }) => kick(m, vcpu) },
  preferredTarget: { now: () => preferredTarget() },
  vcpuInit: {
    now: (m, { vcpu, target, features }) => {
      const idle = idleVcpu(m, vcpu);
      armVcpuInit(m.kvm.vm, idle, target, features.map(Number));
      return vcpuView(idle);
    },
  },
  getRegList: { now: (m, { vcpu }) => getRegList(m.kvm.vm, idleVcpu(m, vcpu)) },
  getRegs: {
    now: (m, { vcpu, regs }) => {
      const of = idleVcpu(m, vcpu);
      return regs.map((reg) => getOneReg(m.kvm.vm, of, reg).value);
    },
  },
  getOneReg: { now: (m, { vcpu, reg }) => getOneReg(m.kvm.vm, idleVcpu(m, vcpu), reg) },
  setOneReg: {
    now: (m, { vcpu, reg, value }) => {
      setOneReg(m.kvm.vm, idleVcpu(m, vcpu), reg, value);
      return null;
    },
  },
  setCounterOffset: {
    now: (m, { offset, reserved }) => {
      setCounterOffset(m.kvm.vm, offset, reserved);
      return null;
    },
  },
  setVcpuAttr: {
    now: (m, { vcpu, group, attr, value }) => {
      setVcpuAttr(m.kvm.vm, idleVcpu(m, vcpu), group, attr, value);
      return null;
    },
  },
  getVcpuAttr: {
    now: (m, { vcpu, group, attr }) => getVcpuAttr(m.kvm.vm, idleVcpu(m, vcpu), group, attr),
  },
  hasVcpuAttr: {
    now: (m, { vcpu, group, attr }) => {
      hasVcpuAttr(m.kvm.vm, idleVcpu(m, vcpu), group, attr);
      return null;
    },
  },
  getMpState: { now: (m, { vcpu }) => ({ mpState: idleVcpu(m, vcpu).mpState }) },
  setMpState: { now: setMpState },

  ...BOARD_COMMANDS,
  ...DEBUGGER_COMMANDS,
  ...DEVICE_COMMANDS,
  ...DIRTY_COMMANDS,
  ...GUEST_COMMANDS,
  ...STATE_COMMANDS,
  ...TRACKING_COMMANDS,

  disassemble: {
    now: (m, { vcpu, address, count }) => disassembleAt(m.kvm, idleVcpu(m, vcpu), address, count),
  },
  walkStage2: { now: (m, { ipa }) => walk(m, ipa) },
  startTrace: {
    now: (m, { categories }) => {
      m.kvm.vm.trace.start(categories);
      return traceView(m.kvm);
    },
  },
  stopTrace: {
    now: (m) => {
      m.kvm.vm.trace.stop();
      return null;
    },
  },
  describeTrace: { now: (m) => traceView(m.kvm) },
  readTrace: { now: (m) => traceFile(m.kvm) },
  counters: { now: (m) => ({ ...m.kvm.vm.counters.values }) },
  stats: { now: (m, { vcpu }) => statsFile(m.kvm.vm, vcpu === null ? null : vcpuOf(m, vcpu)) },
  digest: { now: (m) => m.digest() },
  shadowStart: {
    now: (m) => {
      m.shadow ??= new Shadow(m.kvm, m.board !== null);
      return null;
    },
  },
  shadowTake: { now: (m, { slot }) => m.shadow?.take(slot) ?? NO_SHADOW },
};
