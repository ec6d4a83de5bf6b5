// Goal: the configuration frame of the host's IRS: what says that it can virtualise, what a store
// can't change. What the reference has is replayed in test/gicv5.
import { describe, expect, it } from "vitest";
import { Gicv5Host, spi } from "../../../support/gicv5.js";

const K64 = 2 ** 16;
const ONES = 0xffff_ffffn;

describe("the frame of an IRS that virtualises", () => {
  it("says so, and for how many CPUs, VMs and VPEs", () => {
    const { irs } = new Gicv5Host(3);
    expect(irs.read(0x000, 4)).toBe(0x5dn);
    expect(irs.read(0x004, 4)).toBe(0x4f_0003n);
    expect(irs.read(0x00c, 4)).toBe(8n << 5n);
    expect(irs.read(0x010, 4)).toBe(15n << 6n);
    expect(irs.read(0x214, 4)).toBe(1n);
  });

  it("keeps what software may not change, and has no register of one or two bytes", () => {
    const { irs } = new Gicv5Host();
    const read = () => {
      const words: bigint[] = [];
      for (let offset = 0; offset < K64; offset += 4) words.push(irs.read(offset, 4) as bigint);
      return words;
    };
    const before = read();
    for (let offset = 0; offset < K64; offset += 4) {
      const isTable = offset === 0x180 || offset === 0x184 || offset === 0x190;
      if (!isTable) irs.write(offset, 4, ONES);
    }
    const after = read();
    const changed = before.flatMap((word, at) => (word === after[at] ? [] : [4 * at]));
    // CR0, CR1, SPI_STATUSR follows SPI_SELR, PE_SELR and PE_STATUSR.
    expect(changed).toEqual([0x080, 0x084, 0x140, 0x144]);
    for (const bytes of [1, 2]) {
      expect(irs.read(0, bytes)).toBe("abort");
      expect(irs.write(0x80, bytes, 0n)).toBe("abort");
    }
  });

  it("hands nothing of a VM to the host's own domain", () => {
    const machine = new Gicv5Host();
    machine.addVm(1);
    machine.setUp(1, spi(4));
    machine.irs.vdpend(1, spi(4), true);
    expect(machine.irs.physical.config(spi(4))).toBe(0n);
    machine.irs.setSpiLine(4, true);
    expect(machine.irs.physical.config(spi(4))).toBe(1n << 2n);
  });
});
