// Goal: an ITS does what its command queue says, and what it can't do it passes over in silence.
// Method: commands as bytes in guest memory, GITS_CWRITER moved; seen at LPIs, lists and tables.
import { describe, expect, it } from "vitest";
import { BASE } from "../../../support/inline.js";
import { CMD, ItsGuest, type ItsOptions, TABLE } from "../../../support/its.js";

function ready(options: ItsOptions = {}): ItsGuest {
  const guest = new ItsGuest(options);
  guest.enableIts();
  return guest;
}

function mapped(options: ItsOptions = {}): ItsGuest {
  const guest = ready(options);
  guest.mapOne();
  return guest;
}

/** What the queue has made so far; a command that does nothing leaves it alone. */
function made(guest: ItsGuest) {
  const its = guest.its.save();
  const {
    creadr: _creadr,
    cwriter: _cwriter,
    cache: _cache,
    ...data
  } = its.data as {
    creadr: number;
    cwriter: number;
    cache: unknown;
  };
  const lpis = [...guest.vgic.dist.lpis.values()].map((irq) => irq.save());
  return { data, lpis, pending: [guest.pending(0), guest.pending(1)] };
}

describe("commands", () => {
  it("MAPD, MAPC, MAPTI, INT: an event becomes an LPI of the collection's vCPU", () => {
    const guest = mapped();
    guest.issue(CMD.int(2, 20));
    expect(guest.pending(0)).toEqual([8195]);
    expect(guest.lpi(8195)).toMatchObject({ enabled: true, priority: 0xa0, pendingLatch: true });
    expect(guest.get(0x90)).toBe(4n * 32n);
  });

  it("MAPI: the EventID is the INTID", () => {
    const guest = ready();
    guest.configure(8200, 0x81);
    guest.issue(CMD.mapd(2, 14, TABLE.itt), CMD.mapc(0, 1), CMD.mapi(2, 8200, 0));
    guest.issue(CMD.int(2, 8200));
    expect(guest.pending(1)).toEqual([8200]);
  });

  it("MOVI: the event goes to another vCPU, and so does what comes after", () => {
    const guest = mapped();
    guest.issue(CMD.mapc(4, 1), CMD.movi(2, 20, 4), CMD.int(2, 20));
    expect(guest.pending(1)).toEqual([8195]);
    expect(guest.lpi(8195)?.target?.vcpuId).toBe(1);
  });

  it("MOVALL: every LPI of a vCPU, but no collection", () => {
    const guest = mapped();
    guest.issue(CMD.movall(0, 1), CMD.int(2, 20));
    expect(guest.pending(1)).toEqual([8195]);
    expect(guest.its.collections.get(3)?.target).toBe(0);
  });

  it("CLEAR ends what is pending; DISCARD ends the event with it, and its entry in memory", () => {
    const guest = mapped();
    guest.issue(CMD.int(2, 20), CMD.clear(2, 20));
    expect(guest.pending(0)).toEqual([]);
    guest.control("SAVE");
    expect(guest.entry(TABLE.itt + 20 * 8)).not.toBe(0n);
    guest.issue(CMD.int(2, 20), CMD.discard(2, 20));
    expect(guest.pending(0)).toEqual([]);
    expect(guest.cpu(0).apList).toEqual([]);
    expect(guest.lpi(8195)).toBeUndefined();
    expect(guest.entry(TABLE.itt + 20 * 8)).toBe(0n);
  });

  it("MAPD with V=0 drops a device with its events; mapping it again begins anew", () => {
    const guest = mapped();
    guest.issue(CMD.int(2, 20), CMD.mapd(2, 5, 0, false));
    expect(guest.pending(0)).toEqual([]);
    expect(guest.its.devices.size).toBe(0);
    guest.issue(CMD.mapd(2, 5, TABLE.itt), CMD.int(2, 20));
    expect(guest.pending(0)).toEqual([]);
    guest.issue(CMD.mapti(2, 20, 8195, 3), CMD.mapd(2, 6, TABLE.itt), CMD.int(2, 20));
    expect(guest.pending(0)).toEqual([]);
    expect(guest.its.devices.get(2)).toMatchObject({ eventBits: 6, events: new Map() });
  });

  it("T62: a configuration byte counts from INV or INVALL on, not before", () => {
    const guest = ready();
    guest.configure(8195, 0xa0);
    guest.issue(CMD.mapd(2, 5, TABLE.itt), CMD.mapc(3, 0), CMD.mapti(2, 20, 8195, 3));
    guest.configure(8195, 0x41);
    guest.issue(CMD.int(2, 20));
    expect(guest.pending(0)).toEqual([]);
    guest.issue(CMD.inv(2, 20));
    expect(guest.pending(0)).toEqual([8195]);
    expect(guest.lpi(8195)?.priority).toBe(0x40);
    guest.configure(8195, 0x40);
    guest.issue(CMD.invall(3));
    expect(guest.pending(0)).toEqual([]);
  });

  it("INVALL looks at the LPIs of the collection's vCPU alone", () => {
    const guest = mapped();
    guest.configure(8196, 0x80);
    guest.issue(CMD.mapc(4, 1), CMD.mapti(2, 21, 8196, 4), CMD.int(2, 21));
    guest.configure(8196, 0x81);
    guest.issue(CMD.invall(3));
    expect(guest.pending(1)).toEqual([]);
    guest.issue(CMD.invall(4));
    expect(guest.pending(1)).toEqual([8196]);
  });

  it("T63: MAPC with V=0 silences events; MAPC again gives them to the new vCPU", () => {
    const guest = mapped();
    guest.issue(CMD.mapc(3, 0, false), CMD.int(2, 20));
    expect(guest.pending(0)).toEqual([]);
    expect(guest.lpi(8195)?.pendingLatch).toBe(false);
    guest.issue(CMD.mapc(3, 1), CMD.int(2, 20));
    expect(guest.pending(1)).toEqual([8195]);
  });

  it("an unknown collection of MAPTI is there, not mapped, until MAPC", () => {
    const guest = ready();
    guest.configure(8195, 0xa1);
    guest.issue(CMD.mapd(2, 5, TABLE.itt), CMD.mapti(2, 20, 8195, 3), CMD.int(2, 20));
    expect(guest.lpi(8195)).toMatchObject({ pendingLatch: false, target: null });
    guest.issue(CMD.mapc(3, 1), CMD.int(2, 20));
    expect(guest.pending(1)).toEqual([8195]);
  });

  it("two events may share an LPI: it goes with the last of them", () => {
    const guest = mapped();
    guest.issue(CMD.mapti(2, 21, 8195, 3), CMD.discard(2, 20), CMD.int(2, 21));
    expect(guest.pending(0)).toEqual([8195]);
    guest.issue(CMD.discard(2, 21));
    expect(guest.vgic.dist.lpis.size).toBe(0);
  });

  it("mapping takes the LPI's bit out of the pending table", () => {
    const guest = ready();
    guest.configure(8195, 0xa1);
    guest.write(TABLE.pending + 8195 / 8 - 3 / 8, Uint8Array.of(0b1000_1010));
    guest.issue(CMD.mapd(2, 5, TABLE.itt), CMD.mapc(3, 0), CMD.mapti(2, 20, 8195, 3));
    expect(guest.pending(0)).toEqual([8195]);
    expect(guest.read(TABLE.pending + 1024, 1)).toEqual(Uint8Array.of(0b1000_0010));
  });
});

describe("what a command can't do it doesn't do", () => {
  const rows: readonly (readonly [string, Uint8Array])[] = [
    ["SYNC", CMD.sync(0)],
    ["an opcode that isn't one", CMD.unknown()],
    ["MAPD beyond the device table", CMD.mapd(8192, 5, TABLE.itt)],
    ["MAPD of more than 16 bits of EventID", CMD.mapd(3, 17, TABLE.itt)],
    ["MAPC to a vCPU that isn't there", CMD.mapc(5, 2)],
    ["MAPC beyond the collection table", CMD.mapc(8192, 0)],
    ["MAPTI of a device that isn't mapped", CMD.mapti(9, 1, 8200, 3)],
    ["MAPTI of an EventID beyond the device's", CMD.mapti(2, 32, 8200, 3)],
    ["MAPTI of an INTID below 8192", CMD.mapti(2, 1, 8191, 3)],
    ["MAPTI of an INTID beyond the tables", CMD.mapti(2, 1, 0x1_0000, 3)],
    ["MAPTI of an event that is mapped", CMD.mapti(2, 20, 8200, 3)],
    ["MAPTI to a collection beyond the table", CMD.mapti(2, 1, 8200, 8192)],
    ["MAPI of an EventID below 8192", CMD.mapi(2, 1, 3)],
    ["MOVI of an event that isn't mapped", CMD.movi(2, 1, 3)],
    ["MOVI to a collection that isn't there", CMD.movi(2, 20, 7)],
    ["MOVI to a collection that isn't mapped", CMD.movi(2, 20, 6)],
    ["INT of an event that isn't mapped", CMD.int(2, 1)],
    ["INT of an event whose collection isn't mapped", CMD.int(2, 19)],
    ["INT of a device that isn't mapped", CMD.int(9, 20)],
    ["CLEAR of an event that isn't mapped", CMD.clear(2, 1)],
    ["INV of an event that isn't mapped", CMD.inv(2, 1)],
    ["INVALL of a collection that isn't there", CMD.invall(9)],
    ["INVALL of a collection that isn't mapped", CMD.invall(6)],
    ["MOVALL from a vCPU that isn't there", CMD.movall(5, 1)],
    ["MOVALL to a vCPU that isn't there", CMD.movall(0, 5)],
    ["MOVALL to itself", CMD.movall(0, 0)],
    ["DISCARD of an event that isn't mapped", CMD.discard(2, 1)],
    ["DISCARD of an event whose collection isn't mapped", CMD.discard(2, 19)],
    ["MAPD with V=0 of a device that isn't mapped", CMD.mapd(9, 5, 0, false)],
    ["MAPC with V=0 of a collection that isn't there", CMD.mapc(9, 0, false)],
  ];

  it.each(rows)("%s", (_name, bytes) => {
    const guest = mapped();
    guest.configure(8300, 0xa1);
    guest.issue(CMD.mapti(2, 19, 8300, 6));
    const before = made(guest);
    guest.issue(bytes);
    expect(made(guest)).toEqual(before);
    expect(guest.get(0x90)).toBe(guest.get(0x88));
    // The next one is done.
    guest.issue(CMD.int(2, 20));
    expect(guest.pending(0)).toEqual([8195]);
  });

  it("MAPTI whose configuration byte is in no memory", () => {
    const guest = ready();
    guest.vgic.dist.propbaser = BigInt(BASE - 0x10_0000) | 15n;
    guest.issue(CMD.mapd(2, 5, TABLE.itt), CMD.mapti(2, 20, 8195, 3));
    expect(guest.vgic.dist.lpis.size).toBe(0);
    expect(guest.its.collections.size).toBe(0);
  });

  it("MAPTI whose pending bit is in no memory", () => {
    const guest = ready();
    guest.cpu(0).pendbaser = BigInt(BASE - 0x10_0000);
    guest.issue(CMD.mapd(2, 5, TABLE.itt), CMD.mapc(3, 0), CMD.mapti(2, 20, 8195, 3));
    expect(guest.vgic.dist.lpis.size).toBe(0);
    expect(guest.its.collections.size).toBe(1);
  });

  it("MAPTI whose entry of the translation table is in no memory", () => {
    const guest = ready();
    guest.issue(CMD.mapd(2, 5, TABLE.end), CMD.mapc(3, 0), CMD.mapti(2, 20, 8195, 3));
    expect(guest.its.devices.get(2)?.events.size).toBe(0);
  });

  it("a command that is in no memory is passed over", () => {
    const guest = ready();
    guest.put(0, 0, 4);
    guest.put(0x80, (1n << 63n) | BigInt(BASE - 0x10_0000));
    guest.put(0, 1, 4);
    guest.put(0x88, 96);
    expect(guest.get(0x90)).toBe(96n);
  });

  it("INT at a vCPU whose LPIs are off", () => {
    const guest = mapped();
    guest.setLpis(0, false);
    guest.issue(CMD.int(2, 20));
    expect(guest.lpi(8195)?.pendingLatch).toBe(false);
  });

  it("the queue wraps at its end", () => {
    const guest = mapped();
    const slots = 4096 / 32;
    for (let n = 3; n < slots - 1; n++) guest.issue(CMD.sync(0));
    expect(guest.get(0x90)).toBe(BigInt(4096 - 32));
    guest.issue(CMD.sync(0), CMD.int(2, 20));
    expect(guest.get(0x90)).toBe(32n);
    expect(guest.pending(0)).toEqual([8195]);
  });
});
