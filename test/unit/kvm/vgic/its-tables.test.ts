// Goal: what an ITS and its LPIs hold survives in guest memory, in KVM's layout, and is refused
// where the tables are wrong.
// Method: tables saved, read as words, and restored into another VM with the same memory.
import { describe, expect, it } from "vitest";
import { BASE, refusal } from "../../../support/inline.js";
import { CMD, ItsGuest, TABLE, u64, VALID } from "../../../support/its.js";

const REGISTERS = [0x80, 0x90, 0x100, 0x108, 0x88, 0] as const;
const NOWHERE = BASE - 0x10_0000;
const ITT_HIGH = TABLE.itt + 0x4000;

/** Devices 2 and 7, five events, three collections of which one is not mapped. */
function busy(indirect = false): ItsGuest {
  const guest = new ItsGuest();
  if (indirect) guest.write(TABLE.device, u64(VALID | BigInt(TABLE.level2)));
  guest.enableIts({ indirect });
  for (let lpi = 8192; lpi < 8200; lpi++) guest.configure(lpi, 0xa1);
  guest.issue(CMD.mapd(7, 8, ITT_HIGH), CMD.mapd(2, 5, TABLE.itt));
  guest.issue(CMD.mapc(3, 1), CMD.mapc(2, 0));
  guest.issue(CMD.mapti(7, 255, 8196, 2), CMD.mapti(2, 20, 8195, 3), CMD.mapti(2, 4, 8197, 3));
  guest.issue(CMD.mapti(2, 5, 8198, 2), CMD.mapti(7, 0, 8199, 9));
  return guest;
}

/** Memory and registers of one VM in another, as a migration carries them. */
function migrate(from: ItsGuest, change: (to: ItsGuest) => void = () => {}): ItsGuest {
  const to = new ItsGuest();
  to.write(BASE, from.read(BASE, TABLE.end - BASE));
  to.enableLpis();
  for (const at of REGISTERS.slice(0, -1)) to.setUser(at, from.user(at));
  change(to);
  to.control("RESTORE");
  to.setUser(0, from.user(0));
  return to;
}

function mappings(guest: ItsGuest) {
  const data = guest.its.save().data as { devices: { id: number; events: { id: number }[] }[] };
  const sorted = data.devices.map((device) => ({
    ...device,
    events: [...device.events].sort((a, b) => a.id - b.id),
  }));
  return sorted.sort((a, b) => a.id - b.id);
}

describe("saved tables", () => {
  it("have entries of eight bytes with the distance to the next", () => {
    const guest = busy();
    guest.control("SAVE");
    const dte = (next: bigint, itt: number, bits: number) =>
      VALID | (next << 49n) | ((BigInt(itt) >> 8n) << 5n) | BigInt(bits - 1);
    expect(guest.entry(TABLE.device + 2 * 8)).toBe(dte(5n, TABLE.itt, 5));
    expect(guest.entry(TABLE.device + 7 * 8)).toBe(dte(0n, ITT_HIGH, 8));
    const ite = (next: bigint, lpi: bigint, collection: bigint) =>
      (next << 48n) | (lpi << 16n) | collection;
    const itt = (base: number, event: number) => guest.entry(base + event * 8);
    expect(itt(TABLE.itt, 4)).toBe(ite(1n, 8197n, 3n));
    expect(itt(TABLE.itt, 5)).toBe(ite(15n, 8198n, 2n));
    expect(itt(TABLE.itt, 20)).toBe(ite(0n, 8195n, 3n));
    expect(itt(ITT_HIGH, 0)).toBe(ite(255n, 8199n, 9n));
    expect(itt(ITT_HIGH, 255)).toBe(ite(0n, 8196n, 2n));
    const cte = (target: bigint, id: bigint) => VALID | (target << 16n) | id;
    const collections = [0, 1, 2, 3].map((n) => guest.entry(TABLE.collection + n * 8));
    expect(collections).toEqual([cte(1n, 3n), cte(0n, 2n), cte(0xffff_ffffn, 9n), 0n]);
  });

  it.each([false, true])("come back byte for byte, two levels %s", (indirect) => {
    const source = busy(indirect);
    source.control("SAVE");
    const target = migrate(source);
    expect(mappings(target)).toEqual(mappings(source));
    expect([...target.its.collections]).toEqual([...source.its.collections]);
    for (const at of REGISTERS) expect(target.user(at)).toBe(source.user(at));
    const bytes = target.read(BASE, TABLE.end - BASE);
    target.control("SAVE");
    expect(Buffer.compare(target.read(BASE, TABLE.end - BASE), bytes)).toBe(0);
    target.issue(CMD.int(2, 20), CMD.int(7, 255), CMD.int(7, 0));
    expect([target.pending(0), target.pending(1)]).toEqual([[8196], [8195]]);
    // The collection that wasn't mapped survived too.
    target.issue(CMD.mapc(9, 1), CMD.invall(9), CMD.int(7, 0));
    expect(target.pending(1)).toEqual([8195, 8199]);
  });

  it("hold devices on several pages of the second level", () => {
    const guest = new ItsGuest();
    guest.write(TABLE.device, u64(VALID | BigInt(TABLE.level2)));
    guest.write(TABLE.device + 2 * 8, u64(VALID | BigInt(TABLE.level2 + 0x1_0000)));
    guest.enableIts({ indirect: true });
    guest.configure(8192, 0xa1);
    guest.issue(CMD.mapd(1, 1, TABLE.itt), CMD.mapd(16384 + 3, 1, ITT_HIGH), CMD.mapc(0, 0));
    guest.issue(CMD.mapti(16384 + 3, 1, 8192, 0));
    // Page 1 isn't there.
    guest.issue(CMD.mapd(8192, 1, TABLE.itt));
    expect([...guest.its.devices.keys()]).toEqual([1, 16387]);
    guest.control("SAVE");
    // The distance is cut to what its field holds.
    expect(guest.entry(TABLE.level2 + 8) >> 49n).toBe((1n << 14n) | 16383n);
    const target = migrate(guest);
    expect(mappings(target)).toEqual(mappings(guest));
  });

  it("a table whose register isn't valid is neither saved nor restored", () => {
    const guest = busy();
    guest.put(0, 0, 4);
    guest.put(0x108, 0);
    guest.control("SAVE");
    expect(guest.entry(TABLE.collection)).toBe(0n);
    expect(guest.entry(TABLE.device + 2 * 8)).not.toBe(0n);
    const empty = new ItsGuest();
    empty.control("SAVE");
    empty.control("RESTORE");
    expect(empty.its.devices.size).toBe(0);
  });

  it("EFAULT where memory is missing, EINVAL where a device has lost its entry", () => {
    const guest = busy();
    guest.issue(CMD.mapd(3, 5, NOWHERE));
    guest.control("SAVE");
    guest.put(0, 0, 4);
    guest.put(0x108, VALID | BigInt(NOWHERE));
    expect(refusal(() => guest.control("SAVE"))).toBe("EFAULT");
    guest.put(0x100, VALID | BigInt(NOWHERE));
    expect(refusal(() => guest.control("SAVE"))).toBe("EINVAL");
  });
});

describe("restoring", () => {
  const saved = () => {
    const guest = busy();
    guest.control("SAVE");
    return guest;
  };
  const at = {
    dte2: TABLE.device + 2 * 8,
    cte: TABLE.collection,
    ite4: TABLE.itt + 4 * 8,
  };
  const rows: readonly (readonly [string, string, number, bigint])[] = [
    ["an INTID that is no LPI", "EINVAL", at.ite4, (1n << 48n) | (8191n << 16n) | 3n],
    ["a collection that isn't there", "EINVAL", at.ite4, (1n << 48n) | (8197n << 16n) | 77n],
    ["a next event out of range", "EINVAL", at.ite4, (28n << 48n) | (8197n << 16n) | 3n],
    ["a vCPU that isn't there", "EINVAL", at.cte, VALID | (2n << 16n) | 3n],
    ["a collection beyond its table", "EINVAL", at.cte, VALID | (1n << 16n) | 8192n],
    ["a collection twice", "EEXIST", at.cte, VALID | (1n << 16n) | 2n],
    ["a translation table in no memory", "EFAULT", at.dte2, VALID | (BigInt(NOWHERE) >> 3n) | 4n],
  ];

  it.each(rows)("refuses %s with %s, and nothing is mapped then", (_name, errno, ipa, entry) => {
    const source = saved();
    let target: ItsGuest | null = null;
    const act = () =>
      migrate(source, (to) => {
        to.write(ipa, u64(entry));
        target = to;
      });
    expect(refusal(act)).toBe(errno);
    const { its, vgic } = target ?? source;
    expect(its).not.toBe(source.its);
    expect([its.devices.size, its.collections.size, vgic.dist.lpis.size]).toEqual([0, 0, 0]);
  });

  it("refuses a table that isn't in memory, and a second restore", () => {
    const source = saved();
    const gone = (to: ItsGuest) => to.setUser(0x108, VALID | BigInt(NOWHERE));
    expect(refusal(() => migrate(source, gone))).toBe("EFAULT");
    const target = migrate(source);
    expect(refusal(() => target.control("RESTORE"))).toBe("EEXIST");
  });

  it("refuses an LPI whose configuration can't be read", () => {
    const source = saved();
    const gone = (to: ItsGuest) => {
      to.vgic.dist.propbaser = BigInt(NOWHERE) | 15n;
    };
    expect(refusal(() => migrate(source, gone))).toBe("EFAULT");
  });
});

describe("pending tables", () => {
  it("hold the LPIs that were pending, and give them to the restored VM once", () => {
    const source = busy();
    source.issue(CMD.int(2, 20), CMD.int(7, 255));
    source.savePending();
    source.control("SAVE");
    expect(source.read(TABLE.pending + 1024, 1)).toEqual(Uint8Array.of(1 << 4));
    expect(source.read(TABLE.pending + 0x1_0000 + 1024, 1)).toEqual(Uint8Array.of(1 << 3));
    expect(source.read(TABLE.pending, 1024)).toEqual(new Uint8Array(1024));
    const target = migrate(source);
    expect([target.pending(0), target.pending(1)]).toEqual([[8196], [8195]]);
    expect(target.read(TABLE.pending + 1024, 1)).toEqual(Uint8Array.of(0));
  });

  it("lose the bits of LPIs that are not pending any more", () => {
    const guest = busy();
    guest.write(TABLE.pending + 1024, Uint8Array.of(0xff));
    guest.savePending();
    // vCPU 0 has 8196 and 8198.
    expect(guest.read(TABLE.pending + 1024, 1)).toEqual(Uint8Array.of(0xaf));
  });

  it("EFAULT where one is in no memory", () => {
    const guest = busy();
    guest.cpu(1).pendbaser = BigInt(NOWHERE);
    expect(refusal(() => guest.savePending())).toBe("EFAULT");
  });

  it("EnableLPIs 0→1 reads them unless PTZ says that they are empty", () => {
    for (const ptz of [0n, 1n << 62n]) {
      const guest = busy();
      guest.setLpis(1, false);
      guest.write(TABLE.pending + 0x1_0000 + 1024, Uint8Array.of(1 << 3));
      guest.redist(1, 0x78, BigInt(TABLE.pending + 0x1_0000) | ptz);
      guest.setLpis(1, true);
      expect(guest.pending(1)).toEqual(ptz === 0n ? [8195] : []);
    }
  });

  it("EnableLPIs 1→0 drops what was pending there, and no other vCPU's", () => {
    const guest = busy();
    guest.issue(CMD.int(2, 20), CMD.int(7, 255));
    guest.setLpis(1, false);
    expect([guest.pending(0), guest.cpu(1).apList]).toEqual([[8196], []]);
    expect(guest.lpi(8195)?.pendingLatch).toBe(false);
  });
});
