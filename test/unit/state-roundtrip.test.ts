// Goal: every part with state comes back as it was saved, and the VM then goes on the same way.
// Method: a VM with something in each part is saved and loaded into a fresh one; both run on.

import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../src/base/assert.js";
import { Digest, type Saved } from "../../src/base/saved.js";
import {
  encodeVmte,
  INTID_TYPE,
  IRS32,
  IRS64,
  intidOf,
  VMTE_BYTES,
} from "../../src/machine/index.js";
import type { Access } from "../../src/vmm/commands.js";
import * as a64 from "../support/a64.js";
import { guestImage, InlineBoard } from "../support/board.js";
import { IRS_REG, lpiOf, spiOf, V5Vm } from "../support/gicv5-case.js";
import { BASE, Inline, type InlineOptions } from "../support/inline.js";
import { CMD, ItsGuest } from "../support/its.js";
import { DIST, ICC, mrs, msr, NOTES, v3Guest, World } from "./kvm/vgic/world.js";
import { ROUND_TRIPS } from "./state-roundtrip.table.js";

const K4 = 4096;
const MMIO = 0x900_0000;
const UART = MMIO;
const LOG = 1;
const UNBACKED = 0x9000_0000;
const HUGE = 0x1_0000_0000;

const LIST: readonly Access[] = [
  { op: "read", address: BigInt(BASE), length: 8 },
  { op: "write", address: BigInt(BASE + 5 * K4), length: 4, value: 7n },
  { op: "read", address: BigInt(MMIO), length: 2 },
  { op: "write", address: BigInt(BASE + 6 * K4), length: 8, value: 9n },
  { op: "read", address: BigInt(MMIO), length: 2 },
];

const TRACKED = {
  consumers: [{ name: "migrations/m1", charged: 8, pages: [[1, Uint32Array.of(5, 0)]] }],
  inForce: null,
  isOwner: false,
};

const ID_AA64ISAR0 = 0x6030_0000_0013_c030n;
const PC = 0x6030_0000_0010_0040n;

/** What both sides are built from: definition, capabilities, vCPUs, programs. */
function build(options: InlineOptions, isRing: boolean): Inline {
  const vm = new Inline(options);
  vm.enable(168, 1n);
  vm.enable(182, 1000n);
  if (isRing) {
    vm.enable(223, 4096n);
    vm.enable(225);
  }
  for (const id of [0, 1, 2]) vm.vcpu(id);
  vm.call("vcpuInit", { vcpu: 2, target: 5, features: [12n] });
  setPrograms(vm);
  return vm;
}

function setPrograms(vm: Inline): void {
  vm.list(0, LIST);
  vm.pattern(1, { base: BASE, bytes: 64 * K4, count: 0 }, { pattern: "zipf", skew: 80 });
}

/** Guest code stores, then loads from a device: its exit is left to complete. */
function runGuest(vm: Inline): void {
  const at = BigInt(BASE + 20 * K4);
  const words = [
    ...a64.mov(1, at + 4096n),
    a64.str(1, 1),
    ...a64.mov(2, BigInt(MMIO)),
    a64.ldrw(3, 2),
  ];
  vm.call("writePhysicalMemory", { gpa: at, bytes: a64.bytesOf(words) });
  const value = new Uint8Array(8);
  new DataView(value.buffer).setBigUint64(0, at, true);
  vm.call("setOneReg", { vcpu: 2, reg: PC, value });
  expect(vm.run(2).exitReason).toBe("KVM_EXIT_MMIO");
}

/** What userspace sets of guest code before it runs, and what waits for its next run. */
function setUpGuest(vm: Inline): void {
  const value = Uint8Array.from({ length: 24 }, (_, at) => (at === 3 ? 0xc6 : at === 4 ? 1 : 0));
  vm.call("setVmAttr", { group: 0, attr: 0n, value });
  vm.call("setOneReg", { vcpu: 2, reg: ID_AA64ISAR0, value: new Uint8Array(8) });
  const registers = { bcr: [1n], bvr: [2n], wcr: [], wvr: [] };
  vm.call("setGuestDebug", { vcpu: 2, control: 0x2_0001, ...registers });
  vm.call("setSignalMask", { vcpu: 2, len: 8, sigset: 0x200n });
  vm.call("setVcpuEvents", {
    vcpu: 2,
    serrorPending: true,
    serrorHasEsr: true,
    extDabtPending: false,
    serrorEsr: 77n,
  });
}

const PMCR = 0x6030_0000_0013_dce0n;
const PMCCNTR = 0x6030_0000_0013_dce8n;
const PMCNTENSET = 0x6030_0000_0013_dce1n;

/** Counters with an offset and a PMU that counts some events, for guest code. */
function setTime(vm: Inline): void {
  const u64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);
  const attr = (group: number, number: bigint, value: Uint8Array) =>
    vm.call("setVcpuAttr", { vcpu: 2, group, attr: number, value });
  attr(0, 3n, u64(8n));
  attr(0, 4n, u64(3n));
  attr(0, 2n, Uint8Array.of(8, 0, 1, 0, 1, 0, 0, 0));
  attr(0, 1n, new Uint8Array(0));
  attr(2, 0n, u64(BigInt(BASE + 30 * K4)));
  vm.call("setCounterOffset", { offset: 1000n, reserved: 0n });
  vm.call("irqLine", { irq: 2 << 16, level: 1 });
  vm.call("setOneReg", { vcpu: 2, reg: PMCNTENSET, value: u64(2n ** 31n) });
  vm.call("setOneReg", { vcpu: 2, reg: PMCR, value: u64(1n | (3n << 11n)) });
}

/** Dirty hardware with an entry appended and an array begun, and what watches both. */
function setDirtyHardware(vm: Inline): void {
  const { host } = vm.kvm.vm;
  const { faults, diagnostics } = host;
  const cpu = host.cpus[0]!;
  vm.kvm.hacdbs.cpuDown(0);
  const buffer = host.frames.allocate(1);
  cpu.msr("HDBSSBR_EL2", BigInt(buffer));
  diagnostics.own(buffer, K4, 0);
  host.model["hardware.weakHdbssOrdering"] = true;
  expect(cpu.hdbss.append(BASE, 3, K4, 0)).toBe("appended");
  cpu.msr("HACDBSBR_EL2", BigInt(buffer));
  cpu.msr("HACDBSCONS_EL2", 3n);
  diagnostics.report("hdbss-reserved-size", "SZ is 12");
  const armed = { nth: 1, vcpu: null, times: 1, delay: 0 } as const;
  faults.arm({ ...armed, kind: "hdbss-alloc", nth: 1000 });
  faults.arm({ ...armed, kind: "hacdbs-alloc" });
  expect(faults.hit("hacdbs-alloc", 0)).not.toBeNull();
}

/** The host's own IRS in use, and a guest's context that has something under way. */
function setGicv5(vm: Inline): void {
  const { host } = vm.kvm.vm;
  const { irs } = host;
  const { gicv5 } = host.cpus[0]!;
  const [lpis, vms, spis] = [
    host.frames.allocate(16),
    host.frames.allocate(1),
    host.frames.allocate(1),
  ];
  irs.write(IRS32.CR0, 4, 1n);
  irs.write(IRS32.IST_CFGR, 4, 14n);
  irs.write(IRS64.IST_BASER, 8, BigInt(lpis) | 1n);
  irs.write(IRS32.SPI_SELR, 4, 7n);
  irs.write(IRS32.SPI_CFGR, 4, 1n);
  irs.setSpiLine(7, true);
  for (const intid of [intidOf(INTID_TYPE.SPI, 7), intidOf(INTID_TYPE.LPI, 9)]) {
    irs.physical.enable(intid, true);
    irs.physical.pend(intid, true);
  }
  irs.write(IRS32.VMT_CFGR, 4, 4n);
  irs.write(IRS64.VMT_BASER, 8, BigInt(vms) | 1n);
  const two = { isTwoLevel: false, level2Bytes: K4, entryBytes: 4 } as const;
  const entry = {
    spis: 64,
    vpet: null,
    lpi: null,
    spi: { base: spis, idBits: 6, count: 64, ...two },
  };
  for (const [n, word] of encodeVmte(entry).entries()) {
    host.memory.write64(vms + VMTE_BYTES * 3 + 8 * n, word);
  }
  host.its.write(0xd0, 4, 4n);
  host.its.write(0xc0, 8, BigInt(spis + 2048));
  host.memory.write64(spis + 2048, BigInt(spis + 3072) | 1n | (1n << 59n));
  host.memory.write64(spis + 3072, (1n << 31n) | 11n);
  host.its.write(0x80, 4, 1n);
  host.its.send(0, 0, "set-edge");
  host.iwb.setWire(3, true);
  host.model["hardware.vdpendLatency"] = 2;
  gicv5.setContext({ vm: 3, vpe: 0, isIrsEnabled: true, hasDoorbell: true, doorbellMask: 9 });
  irs.vdpend(3, intidOf(INTID_TYPE.SPI, 5), true);
  gicv5.traps.insn.add("CDDI");
  for (const name of ["ICC_PCR_EL1", "ICC_APR_EL1", "ICC_PPI_ENABLER0_EL1"] as const) {
    gicv5.poke(name, 0x18n);
  }
  gicv5.poke("ICC_PPI_PRIORITYR3_EL1", 0x0102_0304n);
  gicv5.perform("CDRCFG", 0x6000_0fffn);
  gicv5.setPpiLine(27, true);
}

/** Puts something into every part and leaves nothing under way. */
function makeBusy(vm: Inline): void {
  vm.kvm.vm.throttle.set(5, 1_000_000);
  vm.instance.machine.tracking.load({ kind: "tracking", version: 1, data: TRACKED });
  const fd = vm.eventfds.create(0n);
  const spare = vm.ram(3 * K4);
  vm.slot(0, 64, { flags: LOG });
  setTime(vm);
  setDirtyHardware(vm);
  setGicv5(vm);
  vm.slot(1, 64, { gpa: UNBACKED, backing: "unbacked" });
  vm.slot(2, 8, { gpa: 0xa000_0000, flags: 2 });
  vm.slot(3, 1024, { gpa: HUGE, huge: true });
  vm.call("deleteMemoryObject", { id: spare.id });
  const [file, closed] = [1n, 1n].map((flags) =>
    vm.call("createGuestMemfd", { size: 8n * 4096n, flags }),
  );
  vm.call("setUserMemoryRegion2", {
    slot: 4,
    flags: 4,
    guestPhysAddr: 0xb000_0000n,
    memorySize: 8n * 4096n,
    userspaceAddr: 0n,
    guestMemfd: file!.id,
    guestMemfdOffset: 0n,
  });
  vm.call("closeGuestMemfd", { id: closed!.id });
  const io = { datamatch: 5n, addr: BigInt(MMIO + 64), len: 4, flags: 1 };
  vm.call("ioeventfd", { ...io, fd: { index: fd, isEventfd: true } });
  vm.call("registerCoalescedZone", { addr: BigInt(MMIO + 128), size: 16, pio: 0 });
  const zero = { flags: 0, irqchip: 0, pin: 3, addressLo: 0, addressHi: 0, data: 0, devid: 0 };
  const routes = [
    { ...zero, gsi: 4, type: 1 },
    { ...zero, gsi: 5, type: 2, flags: 1, devid: 9 },
  ];
  vm.call("setGsiRouting", { flags: 0, entries: routes });
  setUpGuest(vm);
  vm.store(1, [UNBACKED, UNBACKED + K4, HUGE + 9 * K4, 0xb000_0000, MMIO + 128], 3n, 8);
  vm.call("drainCoalescedRing", { key: "a", after: null });
  vm.store(1, [MMIO + 136], 4n, 2);
  vm.store(1, [BASE, BASE + K4, BASE + 2 * K4], 6n);
  if (vm.kvm.vm.caps.dirtyRingBytes > 0) {
    vm.store(0, [BASE + 9 * K4, BASE + 10 * K4, BASE + 11 * K4]);
    vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 2 });
    vm.call("harvestDirtyRing", { vcpu: 0, upTo: 1 });
    vm.call("resetDirtyRings", {});
    vm.call("harvestDirtyRing", { vcpu: 0, upTo: 2 });
  }
  runGuest(vm);
  expect(vm.call("getOneReg", { vcpu: 2, reg: PMCCNTR }).value).toBeGreaterThan(0n);
  vm.call("harvestDirtyLog", { slot: 0, key: "h", after: null });
  setPrograms(vm);
  expect(vm.run(0).exitReason).toBe("KVM_EXIT_MMIO");
  const running = vm.beginRun(1);
  vm.pump(30);
  vm.call("kick", { vcpu: 1 });
  expect(vm.finish(running).errno).toBe("EINTR");
  const resamplefd = vm.eventfds.create(0n);
  const [trigger, unmask] = [0, 1].map(() => ({ index: vm.eventfds.create(0n), isEventfd: true }));
  const wires = { trigger: trigger!, unmask: unmask!, drain: true, found: null };
  vm.call("assignDevice", { base: BigInt(MMIO + 0x800), isHigh: true, ...wires });
  const irqfd = { id: 3, eventfd: vm.eventfds.create(0n), gsi: 4, resamplefd };
  const dead = { id: 2, eventfd: vm.eventfds.create(0n), gsi: 5, resamplefd: null };
  const irqfds = { items: [irqfd], dead: [dead], pins: [[4, -1]], nextId: 4 };
  vm.kvm.vm.irqfds.load({ kind: "irqfds", version: 1, data: irqfds });
  const { vfio } = vm.kvm.vm;
  vfio.resolve(vfio.open().fd)!.isAdded = true;
  vfio.close(vfio.open().fd);
  vm.kvm.vm.jobs.add("inject", 3);
  vm.kvm.vm.jobs.add("shutdown", 2);
  vm.kvm.nested.load({ kind: "nested-hacdbs", version: 1, data: { shadow: [0x20_0000] } });
  vm.kvm.vm.policies["clear.deferMaxUs"] = 1_000_000;
  const deferred = { slot: 1, firstPage: 0, numPages: 64 };
  vm.kvm.log.deferred.defer(vm.kvm.vm.slots.get(1)!, deferred, [3, 4], new Set());
}

/** State of one class inside a saved machine. */
function stateAt(saved: readonly Saved[], at: readonly string[]): unknown {
  const [kind, ...members] = at;
  if (kind === undefined) return saved;
  let found: unknown = saved.find((part) => part.kind === kind);
  for (const member of members) {
    const inside = Array.isArray(found) ? found : (found as Saved).data;
    found = (inside as Record<string, unknown>)[member];
  }
  return found;
}

function digestOf(value: unknown): string {
  const digest = new Digest();
  digest.value(value);
  return digest.hex();
}

/** The same inputs for both sides after the round trip. */
function goOn(vm: Inline): unknown {
  const seen: unknown[] = [];
  seen.push(vm.run(0, { mmioData: [0x34, 0x12] }));
  seen.push(vm.call("readProgram", { vcpu: 0, from: 0, limit: 9 }).loads);
  seen.push(vm.run(2, { mmioData: [1, 2, 3, 4], immediateExit: true }));
  for (const reg of vm.call("getRegList", { vcpu: 2 })) {
    seen.push(vm.call("getOneReg", { vcpu: 2, reg }).value);
  }
  const running = vm.beginRun(1);
  vm.pump(25);
  vm.call("kick", { vcpu: 1 });
  seen.push(vm.finish(running));
  seen.push(vm.call("harvestDirtyLog", { slot: 0, key: "h", after: null }));
  seen.push(vm.call("harvestDirtyLog", { slot: 0, key: "i", after: "h1" }));
  seen.push(vm.call("drainCoalescedRing", { key: "b", after: "d1" }));
  seen.push(vm.clear(0, 0, 64, [1, 2, 5]));
  if (vm.kvm.vm.caps.dirtyRingBytes > 0) seen.push(vm.call("resetDirtyRings", {}));
  seen.push(vm.load(0, [BASE + K4, HUGE + 9 * K4, 0xb000_0000, UNBACKED]));
  vm.store(0, [MMIO + 64], 5n, 4);
  seen.push(vm.ram(2 * K4));
  const slots = vm.call("listMemslots", {}).map(({ slot }) => slot);
  for (const slot of slots) vm.deleteSlot(slot);
  for (const { id } of vm.call("listMemoryObjects", {})) vm.call("deleteMemoryObject", { id });
  for (const { id } of vm.call("listGuestMemfds", {})) vm.call("closeGuestMemfd", { id });
  seen.push(vm.call("counters", {}), vm.digest());
  return seen;
}

const MODES: readonly (readonly [string, InlineOptions, boolean])[] = [
  ["bitmap, round robin", { schedule: "round-robin" }, false],
  ["hardware dirty state, seeded", { schedule: "seeded", dirtyTracking: "dbm" }, false],
  ["ring with bitmap, seeded", { schedule: "seeded", seed: 99n }, true],
];

describe.each(MODES)("%s", (_name, options, isRing) => {
  function saved() {
    const original = build(options, isRing);
    const fresh = build({ ...options, eventfds: original.eventfds }, isRing);
    const before = fresh.instance.machine.save();
    makeBusy(original);
    const state = structuredClone(original.instance.machine.save());
    return { original, fresh, before, state };
  }

  it("each part comes back as it was, and was not what a fresh one has", () => {
    const { original, fresh, before, state } = saved();
    fresh.instance.machine.load(state);
    const after = fresh.instance.machine.save();
    for (const { part, at, on } of ROUND_TRIPS) {
      if ((part === "DirtyRing" && !isRing) || on !== undefined) continue;
      const wanted = digestOf(stateAt(state, at));
      // A list's own state is the list, which the program gave; its place is the engine's.
      if (part !== "ListSource") {
        expect([part, digestOf(stateAt(before, at))]).not.toEqual([part, wanted]);
      }
      expect([part, digestOf(stateAt(after, at))]).toEqual([part, wanted]);
    }
    expect(fresh.instance.digest()).toEqual(original.instance.digest());
  });

  it("and then goes on as the original does, to the last byte charged", () => {
    const { original, fresh, state } = saved();
    fresh.instance.machine.load(state);
    expect(fresh.budget.usedBytes()).toBe(original.budget.usedBytes());
    expect(goOn(fresh)).toEqual(goOn(original));
    for (const vm of [original, fresh]) {
      vm.instance.close();
      expect(vm.budget.usedBytes()).toBe(0);
    }
  });

  it("a second save is the same as the first", () => {
    const { original, state } = saved();
    expect(digestOf(original.instance.machine.save())).toBe(digestOf(state));
  });
});

/** A queue of one descriptor, and a buffer; then the driver notifies. */
function useQueue(vm: InlineBoard, at: number, bytes: readonly number[], flags: number): void {
  const base = 0xa00_0000 + 0x200 * at;
  const desc = BASE + 0x40_0000 + 0x1_0000 * at;
  const poke = (address: number, data: readonly number[]) =>
    vm.call("writePhysicalMemory", { gpa: BigInt(address), bytes: Uint8Array.from(data) });
  poke(desc + 0x100, bytes);
  const rows = [desc + 0x100, 0, bytes.length, flags, desc + 0x200, 0, 512, 0x2_0001];
  const words = Uint32Array.of(...rows, desc + 0x400, 0, 1, 2);
  poke(desc, [...new Uint8Array(words.buffer)]);
  // The available ring, behind four descriptors.
  poke(desc + 64, [0, 0, 1, 0, 0, 0]);
  const queue = at === 1 ? 1 : 0;
  for (const [offset, value] of [
    [0x28, K4],
    [0x30, queue],
    [0x38, 4],
    [0x3c, K4],
    [0x40, desc / K4],
    [0x70, 7],
    [0x50, queue],
  ] as const) {
    vm.toDevice(base + offset, value);
  }
}

it("the parts of a board come back as they were", () => {
  const built = () =>
    InlineBoard.with(guestImage("hello"), {
      firmware: guestImage("hello"),
      disk: new Uint8Array(4096).fill(3),
      board: { rtc: true, pci: true, rng: true, console: "testdev", virtio: "legacy" },
      vm: { budgetBytes: 512 * 2 ** 20 },
    });
  const original = built();
  original.act("start");
  original.until("type a line\n");
  original.act("reset");
  original.typed("ab");
  original.act("pause");
  original.call("logBoard", { on: true });
  // The UART's receive interrupts go out.
  original.toDevice(UART + 0x38, 0x50);
  original.toDevice(0x901_0008, 5);
  original.toDevice(0x901_0004, 9);
  original.toDevice(0x3f00_8014, 0x300);
  original.toDevice(0x3f00_8004, 1, 2);
  original.toDevice(0x3eff_0300, 2, 1);
  original.toDevice(0x902_0008, 0x1100, 2);
  original.fromDevice(0x902_0000);
  // A store to the disk: header, data, status.
  useQueue(original, 0, [1, ...new Array<number>(15).fill(0)], 0x1_0001);
  useQueue(original, 1, [0x37], 0);
  useQueue(original, 2, [0], 2);
  original.toDevice(0x400_0000, 0x20);
  original.act("resume");
  original.pump(20);
  original.act("pause");
  const state = structuredClone(original.instance.machine.save());
  const fresh = built();
  const before = fresh.instance.machine.save();
  fresh.instance.machine.load(state);
  const after = fresh.instance.machine.save();
  for (const { part, at } of ROUND_TRIPS.filter(({ on }) => on === "board")) {
    const wanted = digestOf(stateAt(state, at));
    expect([part, digestOf(stateAt(before, at))]).not.toEqual([part, wanted]);
    expect([part, digestOf(stateAt(after, at))]).toEqual([part, wanted]);
  }
  expect(fresh.instance.digest()).toEqual(original.instance.digest());
});

it("an ITS comes back with what its queue has made", () => {
  const original = new ItsGuest();
  original.enableIts();
  original.mapOne();
  original.issue(CMD.mapti(2, 5, 8200, 9), CMD.mapti(2, 6, 8195, 3));
  original.msi(2, 20);
  const state = structuredClone(original.instance.machine.save());
  const fresh = new ItsGuest();
  const before = fresh.instance.machine.save();
  fresh.instance.machine.load(state);
  const after = fresh.instance.machine.save();
  for (const { part, at } of ROUND_TRIPS.filter(({ on }) => on === "its")) {
    const wanted = digestOf(stateAt(state, at));
    expect([part, digestOf(stateAt(before, at))]).not.toEqual([part, wanted]);
    expect([part, digestOf(stateAt(after, at))]).toEqual([part, wanted]);
  }
  expect(fresh.instance.digest()).toEqual(original.instance.digest());
  expect(fresh.pending(0)).toEqual([8195]);
  for (const guest of [original, fresh]) {
    guest.issue(CMD.clear(2, 6), CMD.discard(2, 20));
    expect(guest.pending(0)).toEqual([]);
    expect(guest.msi(2, 6)).toBe(1);
    expect(guest.pending(0)).toEqual([8195]);
  }
  expect(fresh.instance.digest()).toEqual(original.instance.digest());
});

it("a GICv5 comes back with an SPI in flight, and its end is told as it would have been", () => {
  const settings = ["vgicV5.spiTracking=seed004-notifier-only"];
  const original = new V5Vm({ settings, vcpus: 2 });
  const { cpu } = original;
  cpu.write(IRS_REG.IST_CFGR, 14);
  cpu.write64(IRS_REG.IST_BASER, 0x4100_0001n);
  cpu.route(lpiOf(9), 20);
  cpu.claim(5);
  cpu.claim(6);
  const { resample } = original.resampler(5);
  original.line(5, 1);
  original.line(6, 1);
  cpu.cdia();
  original.line(5, 0);
  cpu.pend(lpiOf(9), true);
  original.ppi(3, 1);
  const state = structuredClone(original.instance.machine.save());
  const fresh = new V5Vm({ settings, vcpus: 2, eventfds: original.eventfds });
  const before = fresh.instance.machine.save();
  original.kvm.vm.irqfds.close();
  fresh.instance.machine.load(state);
  const after = fresh.instance.machine.save();
  for (const { part, at } of ROUND_TRIPS.filter(({ on }) => on === "vgic-v5")) {
    const wanted = digestOf(stateAt(state, at));
    expect([part, digestOf(stateAt(before, at))]).not.toEqual([part, wanted]);
    expect([part, digestOf(stateAt(after, at))]).toEqual([part, wanted]);
  }
  expect(digestOf(after)).toEqual(digestOf(state));
  expect([fresh.v5.inFlight(), fresh.count(resample)]).toEqual([[5], 0]);
  const end = fresh.cpu.words("CDDI", BigInt(spiOf(5)));
  fresh.words(fresh.cpu.base + 0x2000, [...fresh.cpu.words("CDEOI"), ...end, a64.RET]);
  expect(fresh.run(0).errno).toBe(null);
  expect([fresh.v5.inFlight(), fresh.count(resample)]).toEqual([[], 1]);
});

it("a vGIC comes back in the middle of an interrupt", () => {
  const built = () => new World({ vcpus: 2 });
  const original = built();
  original.map();
  original.store(DIST, 2);
  original.store(DIST + 0x104, 0xffff_ffff);
  original.store(DIST + 0x6000 + 8 * 41, 1);
  for (const intid of [40, 41, 42]) original.inject(null, intid);
  // Takes one and leaves it active.
  const handler = [mrs(1, ICC.IAR1), a64.str(1, 20), a64.b(0)];
  v3Guest(original, 0, { count: 1, handler });
  const { vm } = original;
  const run = vm.beginRun();
  vm.pump(60);
  vm.call("kick", { vcpu: 0 });
  vm.finish(run);
  const state = structuredClone(vm.instance.machine.save());
  const fresh = built();
  const before = fresh.vm.instance.machine.save();
  fresh.vm.instance.machine.load(state);
  const after = fresh.vm.instance.machine.save();
  for (const { part, at } of ROUND_TRIPS.filter(({ on }) => on === "vgic")) {
    const wanted = digestOf(stateAt(state, at));
    expect([part, digestOf(stateAt(before, at))]).not.toEqual([part, wanted]);
    expect([part, digestOf(stateAt(after, at))]).toEqual([part, wanted]);
  }
  expect(fresh.vm.instance.digest()).toEqual(vm.instance.digest());
  for (const world of [original, fresh]) {
    const lists = world.vgic.dist.cpus.map(({ apList }) => apList.map(({ intid }) => intid));
    expect(lists).toEqual([[42, 40], [41]]);
    expect(world.load(DIST + 0x304)).toBe(1 << 8);
    // The guest ends the one and takes the other.
    v3Guest(world, 0, { count: 1, before: [...a64.mov(1, 40n), msr(ICC.EOIR1, 1)] });
    expect(world.vm.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(world.words64(NOTES(0), 1)).toEqual([42]);
  }
  expect(fresh.vm.instance.digest()).toEqual(vm.instance.digest());
});

it("the table names every part of a machine", () => {
  const vm = build({}, true);
  const kinds = vm.instance.machine.save().map(({ kind }) => kind.replace(/[1-9]$/, "0"));
  const named = new Set(ROUND_TRIPS.map(({ at }) => at[0]?.replace(/[1-9]$/, "0")));
  expect(kinds.filter((kind) => !named.has(kind))).toEqual([]);
  const parts = ROUND_TRIPS.map(({ part }) => part);
  expect(new Set(parts).size).toBe(parts.length);
});

it("a VM that was built otherwise is refused, not corrupted silently", () => {
  const original = build({}, false);
  makeBusy(original);
  const state = original.instance.machine.save();
  const other = build({ eventfds: original.eventfds }, false);
  other.pattern(0, { base: BASE, bytes: 4096, count: 1 });
  expect(() => other.instance.machine.load(state)).toThrow(AssertionFailed);
  const fewer = new Inline({ eventfds: original.eventfds });
  expect(() => fewer.instance.machine.load(state)).toThrow(AssertionFailed);
});
