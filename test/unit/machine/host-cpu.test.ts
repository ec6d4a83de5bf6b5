// Goal: stage-2 accesses do what the Arm ARM says: permissions, AF, dirty state, TLB copies.
// Method: descriptors written as bytes, one access each, then descriptor, fault and TLB looked at.
import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import { HostCpu } from "../../../src/machine/host-cpu.js";
import { leafState } from "../../../src/machine/index.js";
import { BIT, Tables } from "./support.js";

const IPA = 0x1234_5000;

function oneLeaf(leaf: Parameters<Tables["map"]>[2], registers: Parameters<Tables["cpu"]>[0] = {}) {
  const tables = new Tables();
  const pa = tables.page();
  const at = tables.map(IPA, pa, leaf);
  return { tables, pa, at, cpu: tables.cpu(registers), before: tables.read(at) };
}

const CLEAN = { dbm: true, writable: false };

describe("the four states of dirty-tracking 1.3", () => {
  const STATES = [
    { dbm: false, writable: false, name: "read-only" },
    { dbm: true, writable: false, name: "writable-clean" },
    { dbm: true, writable: true, name: "writable-dirty" },
    { dbm: false, writable: true, name: "writable-unmanaged" },
  ] as const;
  const REGISTERS = [
    { ha: false, hd: false },
    { ha: true, hd: false },
    { ha: false, hd: true },
    { ha: true, hd: true },
  ];
  const rows = STATES.flatMap((state) => REGISTERS.map((registers) => ({ state, registers })));

  it.each(rows)("$state.name with $registers", ({ state, registers }) => {
    const { tables, pa, at, cpu, before } = oneLeaf(state, registers);
    expect(leafState(Number(before & 0xffff_ffffn), Number(before >> 32n))).toBe(state.name);
    expect(cpu.translate(IPA + 0x18, false)).toBe(pa + 0x18);
    expect(tables.read(at)).toBe(before);
    const managed = state.dbm && registers.ha && registers.hd;
    if (state.writable || managed) {
      expect(cpu.translate(IPA + 8, true)).toBe(pa + 8);
      expect(tables.read(at)).toBe(before | BIT.S2AP_WRITE);
      expect(cpu.hardwareDirtied).toBe(state.writable ? 0 : 1);
    } else {
      expect(cpu.translate(IPA + 8, true)).toBe(-1);
      expect(cpu.fault).toMatchObject({
        kind: "permission",
        level: 3,
        ipa: IPA + 8,
        isWrite: true,
      });
      expect(tables.read(at)).toBe(before);
    }
  });

  it.each([false, true])("a block is the same one level up (load first: %s)", (loadFirst) => {
    const tables = new Tables();
    const at = tables.map(0x1220_0000, 0, { ...CLEAN, level: 2 });
    const cpu = tables.cpu();
    if (loadFirst) expect(cpu.translate(0x1220_1234, false)).toBe(0x1234);
    expect(cpu.translate(0x1220_1234, true)).toBe(0x1234);
    expect(tables.read(at) & BIT.S2AP_WRITE).toBe(BIT.S2AP_WRITE);
    // Another page of the block goes through the same, now dirty, descriptor.
    expect(cpu.translate(0x123f_fff8, true)).toBe(0x1f_fff8);
    expect(cpu.hardwareDirtied).toBe(1);
  });

  it("no read permission: a store to a clean page passes, a load does not", () => {
    const { cpu, pa } = oneLeaf({ ...CLEAN, readable: false });
    expect(cpu.translate(IPA, false)).toBe(-1);
    expect(cpu.fault.kind).toBe("permission");
    expect(cpu.translate(IPA, true)).toBe(pa);
    expect(cpu.translate(IPA, false)).toBe(-1);
  });
});

describe("numbered cases of dirty-tracking 10", () => {
  it("T-01 a store to a clean page sets S2AP[1] and leaves DBM, without a fault", () => {
    const { tables, pa, at, cpu } = oneLeaf(CLEAN);
    expect(cpu.translate(IPA, true)).toBe(pa);
    const after = tables.read(at);
    expect(after & BIT.S2AP_WRITE).not.toBe(0n);
    expect(after & BIT.AF).not.toBe(0n);
    expect(after & BIT.DBM).not.toBe(0n);
  });

  it("T-02 with HD=0 it is a permission fault of level 3 and the descriptor stays", () => {
    const { tables, at, cpu, before } = oneLeaf(CLEAN, { hd: false });
    expect(cpu.translate(IPA, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "permission", level: 3 });
    expect(tables.read(at)).toBe(before);
  });

  it("T-03 an unmanaged writable page takes stores without any dirty update", () => {
    const { tables, at, cpu, before } = oneLeaf({ writable: true });
    expect(cpu.translate(IPA, true)).toBeGreaterThan(0);
    expect(tables.read(at)).toBe(before);
    expect(cpu.hardwareDirtied).toBe(0);
  });

  it("T-04 AF=0 with HA=0 is an access-flag fault, before any permission fault", () => {
    for (const isWrite of [false, true]) {
      const { tables, at, cpu, before } = oneLeaf({ ...CLEAN, af: false }, { ha: false });
      expect(cpu.translate(IPA, isWrite)).toBe(-1);
      expect(cpu.fault).toMatchObject({ kind: "access-flag", level: 3, ipa: IPA, isWrite });
      expect(tables.read(at)).toBe(before);
    }
  });

  it("T-05 AF=0 with HA=HD=1: one update sets AF and S2AP[1]", () => {
    const { tables, at, cpu, before } = oneLeaf({ ...CLEAN, af: false });
    cpu.translate(IPA, true);
    expect(tables.read(at)).toBe(before | BIT.AF | BIT.S2AP_WRITE);
    expect(cpu.walks).toBe(1);
  });

  it("T-05 a store that is refused does not set AF by itself either", () => {
    const { tables, at, cpu, before } = oneLeaf({ af: false });
    expect(cpu.translate(IPA, true)).toBe(-1);
    expect(cpu.fault.kind).toBe("permission");
    expect(tables.read(at)).toBe(before);
  });

  it("a load with HA=1 sets AF and nothing else", () => {
    const { tables, at, cpu, before } = oneLeaf({ ...CLEAN, af: false });
    cpu.translate(IPA, false);
    expect(tables.read(at)).toBe(before | BIT.AF);
  });

  it("T-08 two CPUs store to one clean page: dirty once, and both pass", () => {
    const { tables, pa, at, cpu } = oneLeaf(CLEAN);
    const other = tables.cpu();
    // Both hold a clean copy before the first store.
    expect([cpu.translate(IPA, false), other.translate(IPA, false)]).toEqual([pa, pa]);
    expect([cpu.translate(IPA, true), other.translate(IPA, true)]).toEqual([pa, pa]);
    expect(tables.read(at) & BIT.S2AP_WRITE).not.toBe(0n);
    expect(cpu.hardwareDirtied + other.hardwareDirtied).toBe(1);
  });

  it("T-09 a clean copy in the TLB is checked against memory before a store", () => {
    const { tables, at, cpu } = oneLeaf(CLEAN);
    cpu.translate(IPA, false);
    tables.host.memory.write64(at, 0n);
    expect(cpu.translate(IPA, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "translation", level: 3 });
    expect(tables.read(at)).toBe(0n);
    expect(cpu.hardwareDirtied).toBe(0);
  });
});

describe("TLB copies", () => {
  it("a writable copy lets stores pass unseen until it is invalidated", () => {
    const { tables, pa, at, cpu } = oneLeaf({ dbm: true, writable: true });
    cpu.translate(IPA, true);
    tables.host.memory.write64(at, tables.read(at) & ~BIT.S2AP_WRITE);
    expect(cpu.translate(IPA, true)).toBe(pa);
    expect(tables.read(at) & BIT.S2AP_WRITE).toBe(0n);
    tables.host.tlbiRange(1, IPA / 4096, 1);
    expect(cpu.translate(IPA, true)).toBe(pa);
    expect(tables.read(at) & BIT.S2AP_WRITE).not.toBe(0n);
  });

  it("a read-only copy faults without a walk until it is invalidated on that CPU", () => {
    const { tables, pa, at, cpu } = oneLeaf({});
    const other = tables.cpu();
    cpu.translate(IPA, false);
    tables.host.memory.write64(at, tables.read(at) | BIT.S2AP_WRITE);
    expect(cpu.translate(IPA, true)).toBe(-1);
    expect([cpu.fault.kind, cpu.walks]).toEqual(["permission", 1]);
    expect(other.translate(IPA, true)).toBe(pa);
    tables.host.tlbiLocal(cpu, 1, IPA / 4096);
    expect(cpu.translate(IPA, true)).toBe(pa);
    expect(other.tlb.count).toBe(1);
  });

  it("hits cost no walk, and another VMID never hits", () => {
    const { tables, pa, cpu } = oneLeaf({ writable: true });
    for (let i = 0; i < 5; i++) cpu.translate(IPA + i * 8, true);
    expect(cpu.walks).toBe(1);
    cpu.msr("VTTBR_EL2", (2n << 48n) | BigInt(tables.root));
    expect(cpu.translate(IPA, false)).toBe(pa);
    expect(cpu.walks).toBe(2);
    tables.host.tlbiVmid(1);
    expect(cpu.tlb.count).toBe(1);
  });

  it("copies of a block go with any page of it", () => {
    const tables = new Tables();
    const cpu = tables.cpu();
    tables.map(0x20_0000, 0, { writable: true, level: 2 });
    tables.map(0x40_0000, 0, { writable: true, level: 2 });
    for (const ipa of [0x20_0000, 0x21_0000, 0x3f_f000, 0x40_0000]) cpu.translate(ipa, true);
    tables.host.tlbiRange(1, 0x25_0000 / 4096, 1);
    expect(cpu.tlb.count).toBe(1);
  });
});

describe("faults without a leaf", () => {
  it.each([
    [0x0, 2],
    [0x4000_0000, 1],
    [IPA + 0x1000, 3],
  ])("IPA %d ends at level %d", (ipa, level) => {
    const tables = new Tables(4096, 38);
    tables.map(IPA, tables.page());
    const cpu = tables.cpu();
    expect(cpu.translate(ipa, false)).toBe(-1);
    expect(cpu.fault).toMatchObject({
      kind: "translation",
      level,
      ipa,
      isWrite: false,
      hdbssf: false,
    });
    expect(cpu.tlb.count).toBe(0);
  });

  it("an IPA beyond VTCR_EL2's size is an address-size fault", () => {
    const { cpu } = oneLeaf({});
    expect(cpu.translate(2 ** 36 - 8, false)).toBe(-1);
    expect(cpu.fault.kind).toBe("translation");
    expect(cpu.translate(2 ** 36, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "address-size", ipa: 2 ** 36 });
  });

  it("stage 2 must be on", () => {
    const { tables } = oneLeaf({});
    const cpu = new HostCpu(
      9,
      tables.host.memory,
      tables.host.geometry,
      tables.host,
      tables.host.irs,
    );
    expect(() => cpu.translate(0, false)).toThrow(AssertionFailed);
  });
});

it.each([4096, 16384, 65536] as const)("translates %d-byte pages to the byte", (size) => {
  const tables = new Tables(size, 40);
  const cpu = tables.cpu();
  const pa = tables.page();
  const ipa = 0x7_0000_0000 + 5 * size;
  tables.map(ipa, pa, { writable: true });
  expect(cpu.translate(ipa + size - 1, true)).toBe(pa + size - 1);
  expect(cpu.translate(ipa + size, true)).toBe(-1);
  expect(cpu.translate(ipa - 1, true)).toBe(-1);
});
