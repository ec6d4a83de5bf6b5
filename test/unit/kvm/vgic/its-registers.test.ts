// Goal: an ITS's registers behave for a guest and for userspace as KVM's do; so does its device.
// Method: accesses to the frame and to the device's attributes, one property each.
import { describe, expect, it } from "vitest";
import { createDevice } from "../../../../src/kvm/device.js";
import { Inline, refusal } from "../../../support/inline.js";
import { CMD, INDIRECT, ItsGuest, TABLE, u64, VALID } from "../../../support/its.js";

const OTHER = 0x900_0000;
const NONE = new Uint8Array();
const CTLR = 0;
const [CBASER, CWRITER, CREADR, BASER0, BASER1] = [0x80, 0x88, 0x90, 0x100, 0x108];
const INNER = 59n;
const OUTER = 53n;
const SHARE = 10n;
const QUIESCENT = 1n << 31n;

describe("a guest's view", () => {
  it("after reset", () => {
    const guest = new ItsGuest();
    expect(guest.get(CTLR, 4)).toBe(QUIESCENT);
    expect(guest.get(4, 4)).toBe(0x4b00_043bn);
    expect(guest.get(8)).toBe(0x1_ef71n);
    expect(guest.get(CBASER)).toBe(0n);
    const attributes = (3n << INNER) | (1n << SHARE) | (2n << 8n) | (7n << 48n);
    expect(guest.get(BASER0)).toBe(attributes | (1n << 56n));
    expect(guest.get(BASER1)).toBe(attributes | (4n << 56n));
    for (let at = 0x110; at < 0x140; at += 8) expect(guest.get(at)).toBe(0n);
  });

  it("identification registers, and nothing elsewhere", () => {
    const guest = new ItsGuest();
    const ids = [0xffd0, 0xffe0, 0xffe4, 0xffe8, 0xfff0, 0xfff4, 0xfff8, 0xfffc, 0xffd4];
    const values = ids.map((at) => Number(guest.get(at, 4)));
    expect(values).toEqual([0x40, 0x92, 0xb4, 0x3b, 0x0d, 0xf0, 0x05, 0xb1, 0]);
    guest.put(0xffe8, 0, 4);
    expect(guest.get(0xffe8, 4)).toBe(0x3bn);
    guest.put(0x1_0040, 1, 4);
    for (const at of [0x40, 0x98, 0x140, 0x1_0040]) expect(guest.get(at, 4)).toBe(0n);
  });

  it("64-bit registers by halves; other widths and places between read as zero", () => {
    const guest = new ItsGuest();
    guest.put(CBASER + 4, 0x8000_0001, 4);
    guest.put(CBASER, TABLE.queue | 3, 4);
    const queue = VALID | (1n << 32n) | BigInt(TABLE.queue | 3);
    expect(guest.get(CBASER)).toBe(queue | (3n << INNER));
    expect(guest.get(CBASER + 4, 4)).toBe(0x9800_0001n);
    expect(guest.get(8 + 4, 4)).toBe(0n);
    guest.put(CBASER, 0, 1);
    guest.put(CBASER, 0, 2);
    guest.put(CBASER + 2, 0, 4);
    guest.put(CTLR, 1, 8);
    expect(guest.get(CBASER)).toBe(queue | (3n << INNER));
    expect(guest.get(CTLR, 8)).toBe(0n);
  });

  it("attributes of memory become ones that fit; read-only fields stay", () => {
    const guest = new ItsGuest();
    guest.put(BASER0, VALID | INDIRECT | (2n << SHARE) | (7n << OUTER) | (7n << 56n) | 0x300n);
    const fixed = (1n << 56n) | (7n << 48n) | (2n << 8n);
    expect(guest.get(BASER0)).toBe(VALID | INDIRECT | fixed | (1n << SHARE) | (3n << INNER));
    guest.put(BASER1, VALID | INDIRECT | (5n << INNER) | (1n << OUTER));
    const collections = (4n << 56n) | (7n << 48n) | (2n << 8n);
    expect(guest.get(BASER1)).toBe(VALID | collections | (5n << INNER) | (1n << OUTER));
    guest.put(CBASER, VALID | BigInt(TABLE.queue) | 0xf0ffn | (2n << SHARE));
    expect(guest.get(CBASER)).toBe(
      VALID | BigInt(TABLE.queue) | 0xffn | (1n << SHARE) | (3n << INNER),
    );
  });

  it("GITS_CTLR.Enabled wants a queue and both tables", () => {
    const bases = [
      [BASER0, TABLE.device],
      [BASER1, TABLE.collection],
      [CBASER, TABLE.queue],
    ] as const;
    for (const missing of bases) {
      const guest = new ItsGuest();
      for (const [at, table] of bases) {
        guest.put(at, (at === missing[0] ? 0n : VALID) | BigInt(table));
      }
      guest.put(CTLR, 1, 4);
      expect(guest.get(CTLR, 4)).toBe(QUIESCENT);
      guest.put(missing[0], VALID | BigInt(missing[1]));
      guest.put(CTLR, 1, 4);
      expect(guest.get(CTLR, 4)).toBe(QUIESCENT | 1n);
    }
  });

  it("while it is enabled its bases stay; disabled, GITS_CBASER empties the queue", () => {
    const guest = new ItsGuest();
    guest.enableIts({ pages: 2 });
    const bases = [CBASER, BASER0, BASER1].map((at) => guest.get(at));
    for (const at of [CBASER, BASER0, BASER1]) guest.put(at, 0);
    expect([CBASER, BASER0, BASER1].map((at) => guest.get(at))).toEqual(bases);
    guest.issue(CMD.sync(0));
    guest.put(CREADR, 0);
    expect([guest.get(CWRITER), guest.get(CREADR)]).toEqual([32n, 32n]);
    guest.put(CWRITER, 0x2000);
    expect(guest.get(CWRITER)).toBe(32n);
    guest.put(CTLR, 0, 4);
    guest.put(CBASER, VALID | BigInt(TABLE.queue));
    expect([guest.get(CWRITER), guest.get(CREADR)]).toEqual([0n, 0n]);
  });

  it("commands wait for the ITS to be enabled", () => {
    const guest = new ItsGuest();
    guest.enableIts();
    guest.put(CTLR, 0, 4);
    guest.mapOne();
    expect(guest.get(CREADR)).toBe(0n);
    expect(guest.get(CTLR, 4)).toBe(0n);
    guest.put(CTLR, 1, 4);
    expect(guest.get(CREADR)).toBe(96n);
    expect(guest.lpi(8195)).toBeDefined();
  });

  it("clearing a table's Valid bit drops what it held", () => {
    const guest = new ItsGuest();
    guest.enableIts();
    guest.mapOne();
    guest.put(CTLR, 0, 4);
    guest.put(BASER0, 0);
    expect([guest.its.devices.size, guest.vgic.dist.lpis.size]).toEqual([0, 0]);
    expect(guest.its.collections.size).toBe(1);
    guest.put(BASER1, 0);
    expect(guest.its.collections.size).toBe(0);
  });
});

describe("userspace's view", () => {
  it("T64: GITS_CREADR is written while the ITS is disabled, within the queue", () => {
    const guest = new ItsGuest();
    guest.enableIts();
    expect(refusal(() => guest.setUser(CREADR, 32))).toBe("EBUSY");
    guest.setUser(CTLR, 0);
    expect(refusal(() => guest.setUser(CREADR, 4096))).toBe("EINVAL");
    guest.setUser(CREADR, 64);
    expect(guest.user(CREADR)).toBe(64n);
  });

  it("GITS_IIDR takes revision 0; other registers as a guest writes them", () => {
    const guest = new ItsGuest();
    guest.setUser(4, 0x4b00_043b);
    expect(refusal(() => guest.setUser(4, 0x4b00_143b))).toBe("EINVAL");
    guest.setUser(8, 0);
    expect(guest.user(8)).toBe(0x1_ef71n);
    guest.setUser(CBASER, VALID | BigInt(TABLE.queue));
    expect(guest.user(CBASER) & VALID).toBe(VALID);
    expect(guest.user(0xffe8)).toBe(0x3bn);
  });

  it("refuses offsets that aren't aligned before those that aren't there", () => {
    const guest = new ItsGuest();
    const offsets = [2, 4 + 8, 0x84, 0x98, 0xffd2, 0x2_0000, 0x1_0040];
    const expected = ["EINVAL", "EINVAL", "EINVAL", "ENXIO", "EINVAL", "ENXIO", "ENXIO"];
    expect(offsets.map((at) => refusal(() => guest.user(at)))).toEqual(expected);
    expect(offsets.map((at) => refusal(() => guest.device.has(8, BigInt(at))))).toEqual(expected);
    expect(offsets.map((at) => refusal(() => guest.setUser(at, 0)))).toEqual(expected);
    for (const at of [0, 4, 8, 0x80, 0x88, 0x90, 0x100, 0x138, 0xffd0, 0xfffc]) {
      guest.device.has(8, BigInt(at));
    }
  });

  it("EFAULT without an address, EBUSY while a vCPU runs", () => {
    const guest = new ItsGuest();
    expect(refusal(() => guest.device.get(8, 0n, NONE))).toBe("EFAULT");
    expect(refusal(() => guest.device.set(8, 0n, NONE))).toBe("EFAULT");
    expect(refusal(() => guest.device.set(0, 4n, NONE))).toBe("EFAULT");
    const vcpu = guest.kvm.vm.vcpus[1];
    if (vcpu === undefined) throw new Error("there is a second vCPU");
    vcpu.running = true;
    expect(refusal(() => guest.user(0))).toBe("EBUSY");
    for (const attr of [1n, 2n, 4n, 77n]) {
      expect(refusal(() => guest.device.set(4, attr, NONE))).toBe("EBUSY");
    }
    guest.device.set(4, 0n, NONE);
  });
});

describe("its device", () => {
  /** An ITS without an address, in a VM of 40 bits of IPA. */
  function bare() {
    const inline = new Inline();
    const { vm } = inline.kvm;
    expect(createDevice(vm, 8, 1)).toBeNull();
    expect(vm.msi).toBeNull();
    const number = createDevice(vm, 8, 0);
    const device = vm.devices[number ?? -1];
    if (device === undefined) throw new Error("the ITS was created");
    return { vm, device };
  }

  it("has an address once, aligned and within the IPA space", () => {
    const { device } = bare();
    const get = () => new DataView(device.get(0, 4n, new Uint8Array(8)).buffer);
    expect(get().getBigUint64(0, true)).toBe(2n ** 64n - 1n);
    const set = (at: bigint) => refusal(() => device.set(0, 4n, u64(at)));
    expect(set(0x1000n)).toBe("EINVAL");
    expect(set(2n ** 64n - 0x2_0000n)).toBe("EINVAL");
    expect(set(2n ** 40n)).toBe("E2BIG");
    expect(set(2n ** 40n - 0x1_0000n)).toBe("E2BIG");
    expect(set(2n ** 40n - 0x2_0000n)).toBeNull();
    expect(set(0x1000n)).toBe("EEXIST");
    expect(get().getBigUint64(0, true)).toBe(2n ** 40n - 0x2_0000n);
  });

  it("knows its attributes", () => {
    const { device } = bare();
    const has = (group: number, attr: bigint) => refusal(() => device.has(group, attr));
    expect(has(0, 4n)).toBeNull();
    for (const attr of [0n, 1n, 2n, 4n]) expect(has(4, attr)).toBeNull();
    expect([has(0, 2n), has(4, 3n), has(4, 9n), has(3, 0n)]).toEqual(Array(4).fill("ENXIO"));
    expect(refusal(() => device.set(0, 3n, u64(0)))).toBe("ENODEV");
    expect(refusal(() => device.get(0, 3n, u64(0)))).toBe("ENODEV");
    expect(refusal(() => device.get(4, 0n, u64(0)))).toBe("ENXIO");
    expect(refusal(() => device.set(3, 0n, u64(0)))).toBe("ENXIO");
    // As KVM does: an operation it doesn't know succeeds.
    device.set(4, 9n, NONE);
  });

  it("has no registers before its address", () => {
    const { device } = bare();
    expect(refusal(() => device.get(8, 0n, u64(0)))).toBe("ENXIO");
  });

  it("resets to an ITS that knows nothing but its address and layout", () => {
    const guest = new ItsGuest();
    guest.enableIts();
    guest.mapOne();
    guest.control("RESET");
    expect(guest.get(CTLR, 4)).toBe(QUIESCENT);
    expect([CBASER, CWRITER, CREADR].map((at) => guest.get(at))).toEqual([0n, 0n, 0n]);
    expect(guest.get(BASER0) & VALID).toBe(0n);
    expect(guest.get(BASER1) & VALID).toBe(0n);
    expect(guest.its.devices.size + guest.its.collections.size).toBe(0);
    expect(guest.vgic.dist.lpis.size).toBe(0);
  });

  it("two ITSes: each has its frames and its own mappings, LPIs are the VM's", () => {
    const guest = new ItsGuest();
    guest.addIts(OTHER);
    guest.enableIts();
    guest.mapOne();
    expect(guest.msi(2, 20)).toBe(1);
    const other = { address: OTHER + 0x1_0040 };
    expect(refusal(() => guest.msi(2, 20, other))).toBe("EBUSY");
    const vcpu = guest.kvm.vm.vcpus[0];
    if (vcpu === undefined) throw new Error("there is a vCPU");
    const beyond = guest.vgic.mmio(vcpu, OTHER + 0x2_0000, 4, null);
    expect(beyond).toBeNull();
    expect(guest.vgic.mmio(vcpu, OTHER + 4, 4, null)).toEqual(u64(0x4b00_043b).slice(0, 4));
  });
});
