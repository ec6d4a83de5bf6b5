// Goal: events of devices and wires become LPIs by tables in memory, of the host or of a VM.
import { describe, expect, it } from "vitest";
import { IRS32, IRS64 } from "../../../../src/machine/index.js";
import { Gicv5Host, lpi } from "../../../support/gicv5.js";

const VALID = 1n;
const PENDING = 1n << 2n;
const HM = 1n << 5n;
const IS_VALID = 1n << 31n;
const VIRTUAL = 1n << 30n;
const EVENT_BITS = 59n;
const STRUCT = 1n << 58n;
const SPAN = 60n;

const CR0 = 0x80;
const DT_BASER = 0xc0;
const DT_CFGR = 0xd0;
const DIDR = 0x100;
const EIDR = 0x108;
const INV_EVENTR = 0x10c;
const INV_DEVICER = 0x110;
const I = 1n << 31n;
const DEVICE = 5;
/** The wire bridge's. */
const BRIDGE = 0xfff;

interface Shape {
  readonly deep?: boolean;
  readonly device?: number;
}

/** A host with LPIs, and a device with 32 events. */
function ready({ deep = false, device = DEVICE }: Shape = {}) {
  const machine = new Gicv5Host();
  const { host, irs } = machine;
  const { its, memory } = host;
  const [ist, devices, events] = [16, 16, 1].map((pages) => host.frames.allocate(pages)) as [
    number,
    number,
    number,
  ];
  irs.write(IRS32.CR0, 4, 1n);
  irs.write(IRS32.IST_CFGR, 4, 14n);
  irs.write(IRS64.IST_BASER, 8, BigInt(ist) | VALID);
  let [dte, itt] = [devices + 8 * device, events];
  let structure = 0n;
  if (deep) {
    const [level2Devices, level2Events] = [host.frames.allocate(1), host.frames.allocate(1)];
    // 512 devices to a table; the event table has 8 of its 512.
    memory.write64(devices + 8 * (device >> 9), BigInt(level2Devices) | VALID | (9n << SPAN));
    memory.write64(events, BigInt(level2Events) | VALID | (3n << SPAN));
    [dte, itt, structure] = [level2Devices + 8 * (device % 512), level2Events, STRUCT];
  }
  memory.write64(dte, BigInt(events) | VALID | structure | (5n << EVENT_BITS));
  its.write(DT_CFGR, 4, 16n | (deep ? 1n << 16n : 0n));
  its.write(DT_BASER, 8, BigInt(devices));
  its.write(CR0, 4, 1n);
  const map = (event: number, entry: bigint) => memory.write64(itt + 8 * event, entry);
  const state = (id: number) => irs.physical.config(lpi(id));
  return { machine, its, map, state, dte };
}

describe("an ITS", () => {
  it("makes an LPI of the host of an MSI", () => {
    const { its, map, state } = ready();
    map(3, IS_VALID | 40n);
    its.writeTranslation(0, DEVICE, 3);
    expect(state(40)).toBe(PENDING);
    its.writeTranslation(64, DEVICE, 4);
    expect(state(0)).toBe(0n);
  });

  it("makes one of a VM, whose VPE hears it or whose doorbell rings", () => {
    const { machine, its, map, state } = ready();
    machine.addVm(2);
    machine.setUp(2, lpi(40));
    map(3, IS_VALID | VIRTUAL | (2n << 32n) | 40n);
    machine.enter(0, 2, 0);
    its.writeTranslation(0, DEVICE, 3);
    expect(machine.cpu(0).gicv5.acknowledge(false)).toBe((1n << 32n) | BigInt(lpi(40)));
    expect(state(40)).toBe(0n);
    const rung: number[] = [];
    machine.irs.onDoorbell = (vm) => rung.push(vm);
    machine.cpu(0).gicv5.perform("CDDI", BigInt(lpi(40)));
    machine.cpu(0).gicv5.setContext(null);
    its.writeTranslation(0, DEVICE, 3);
    expect(rung).toEqual([2]);
  });

  it("walks two levels of both tables, as far as SPAN says", () => {
    const { its, map, state } = ready({ deep: true, device: 1025 });
    map(7, IS_VALID | 40n);
    map(8, IS_VALID | 41n);
    its.writeTranslation(0, 1025, 7);
    its.writeTranslation(0, 1025, 8);
    its.writeTranslation(0, 1, 7);
    expect(state(40)).toBe(PENDING);
    expect(state(41)).toBe(0n);
  });

  it("loses what has no translation", () => {
    const { its, map, state, dte, machine } = ready();
    map(3, 40n);
    its.writeTranslation(0, DEVICE, 3);
    map(32, IS_VALID | 40n);
    its.writeTranslation(0, DEVICE, 32);
    its.writeTranslation(0, 2 ** 16, 3);
    map(3, IS_VALID | 40n);
    its.write(CR0, 4, 0n);
    its.writeTranslation(0, DEVICE, 3);
    its.write(CR0, 4, 1n);
    machine.host.memory.write64(dte, 0n);
    its.writeTranslation(0, DEVICE, 3);
    expect(state(40)).toBe(0n);
  });

  it("remembers a translation until it is told that it changed", () => {
    const { its, map, state } = ready();
    map(3, IS_VALID | 40n);
    its.writeTranslation(0, DEVICE, 3);
    map(3, IS_VALID | 41n);
    its.writeTranslation(0, DEVICE, 3);
    expect(state(41)).toBe(0n);
    its.write(DIDR, 8, BigInt(DEVICE));
    its.write(EIDR, 4, 4n);
    its.write(INV_EVENTR, 4, I);
    its.writeTranslation(0, DEVICE, 3);
    expect(state(41)).toBe(0n);
    its.write(EIDR, 4, 3n);
    its.write(INV_EVENTR, 4, 0n);
    its.writeTranslation(0, DEVICE, 3);
    expect(state(41)).toBe(0n);
    its.write(INV_EVENTR, 4, I);
    its.writeTranslation(0, DEVICE, 3);
    expect(state(41)).toBe(PENDING);
    map(3, IS_VALID | 42n);
    its.write(INV_DEVICER, 4, I);
    its.writeTranslation(0, DEVICE, 3);
    expect(state(42)).toBe(PENDING);
  });

  it("has its registers", () => {
    const { its } = ready();
    expect(its.read(0x4, 4)).toBe(16n | (1n << 6n) | (1n << 7n) | (7n << 8n));
    expect(its.read(0x8, 4)).toBe(16n);
    expect(its.read(CR0, 4)).toBe(3n);
    its.write(DT_BASER, 8, 0x1000n);
    its.write(DT_CFGR, 4, 9n);
    expect(its.read(DT_BASER, 8)).not.toBe(0x1000n);
    expect(its.read(DT_CFGR, 4)).toBe(16n);
    its.write(CR0, 4, 0n);
    its.write(DT_BASER, 8, ~0n & (2n ** 64n - 1n));
    expect(its.read(DT_BASER, 8)).toBe(0x00ff_ffff_ffff_fff8n);
    its.write(0x84, 4, 0xfffffn);
    expect(its.read(0x84, 4)).toBe(0xffn);
    expect([0x120, 0x148].map((at) => its.read(at, 4))).toEqual([1n, 1n]);
    expect(its.read(DIDR, 8)).toBe(0n);
    expect(its.read(0x44, 2)).toBe("abort");
    expect(its.write(CR0, 1, 1n)).toBe("abort");
  });
});

describe("a wire bridge", () => {
  const WENABLER = 0x2000;
  const WTMR = 0x4000;

  function bridge() {
    const made = ready({ device: BRIDGE });
    const { iwb } = made.machine.host;
    for (let wire = 0; wire < 32; wire++) made.map(wire, IS_VALID | BigInt(100 + wire));
    iwb.write(CR0, 4, 1n);
    return { ...made, iwb };
  }

  it("sends an edge once, and nothing when it falls", () => {
    const { iwb, state, machine } = bridge();
    iwb.write(WENABLER, 4, 1n << 9n);
    iwb.setWire(9, true);
    expect(state(109)).toBe(PENDING);
    machine.irs.physical.pend(lpi(109), false);
    iwb.setWire(9, true);
    iwb.setWire(9, false);
    expect(state(109)).toBe(0n);
  });

  it("keeps a level pending while the wire is high", () => {
    const { iwb, state } = bridge();
    iwb.write(WENABLER, 4, 1n << 9n);
    iwb.write(WTMR, 4, 1n << 9n);
    iwb.setWire(9, true);
    expect(state(109)).toBe(PENDING | HM);
    iwb.setWire(9, false);
    expect(state(109)).toBe(HM);
  });

  it("hears only what is enabled, and a level that was high when it is", () => {
    const { iwb, state } = bridge();
    iwb.write(WTMR, 4, 1n << 9n);
    iwb.setWire(9, true);
    iwb.setWire(10, true);
    expect(state(109)).toBe(0n);
    iwb.write(CR0, 4, 0n);
    iwb.write(WENABLER, 4, 3n << 9n);
    expect(state(109)).toBe(0n);
    iwb.write(CR0, 4, 1n);
    expect(state(109)).toBe(PENDING | HM);
    expect(state(110)).toBe(0n);
  });

  it("has its registers", () => {
    const { iwb } = bridge();
    expect(iwb.read(0, 4)).toBe(1n | (1n << 12n));
    expect(iwb.read(CR0, 4)).toBe(3n);
    expect(iwb.read(0xc0, 4)).toBe(1n);
    iwb.write(WENABLER + 4, 4, 5n);
    iwb.write(WENABLER + 8, 4, 6n);
    expect([WENABLER, WENABLER + 4, WENABLER + 8, WTMR].map((at) => iwb.read(at, 4))).toEqual([
      0n,
      5n,
      0n,
      0n,
    ]);
    expect(iwb.read(CR0, 1)).toBe("abort");
    iwb.setWire(64, true);
  });
});
