// Goal: T-01 to T-09 of dirty-tracking.md 10: what a store does to a stage-2 descriptor, and what
// HDBSS then logs. Method: descriptors as bytes, stores by hand, by a synthetic vCPU, by A64 code.
import { describe, expect, it } from "vitest";
import { PAGE_SIZES } from "../../src/base/page.js";
import * as a64 from "../support/a64.js";
import { BASE, BIT, CLEAN, entryOf, K4, prod, Silicon, SiliconGuest, store } from "./silicon.js";

describe.each(PAGE_SIZES)("pages of %i bytes", (pageSize) => {
  it("T-01: a store to a clean page sets S2AP[1] and AF, keeps DBM, and faults not", () => {
    const silicon = new Silicon(pageSize, 40);
    const [at] = silicon.pages(1);
    const before = silicon.read(at!);
    const cpu = silicon.cpu();
    expect(store(silicon, cpu, BASE)).toBe(true);
    expect(silicon.read(at!)).toBe(before | BIT.S2AP_WRITE | BIT.AF);
    expect(silicon.read(at!) & BIT.DBM).toBe(BIT.DBM);
    expect([cpu.hardwareDirtied, cpu.hdbss.appends]).toEqual([1, 0]);
  });

  it("T-02: with HD=0 it is a permission fault of level 3, HDBSSF=0, nothing changed", () => {
    for (const hdbss of [false, true]) {
      const silicon = new Silicon(pageSize, 40);
      const [at] = silicon.pages(1);
      const before = silicon.read(at!);
      const cpu = silicon.cpu({ hd: false, hdbss });
      expect(cpu.translate(BASE, true)).toBe(-1);
      expect(cpu.fault).toMatchObject({ kind: "permission", level: 3, hdbssf: false });
      expect([silicon.read(at!), cpu.hdbss.appends]).toEqual([before, 0]);
      expect(silicon.wrong["illegal-vtcr-combination"]).toBe(hdbss ? 1 : undefined);
    }
  });

  it("T-03: a writable page without DBM takes stores, and nothing is appended", () => {
    const silicon = new Silicon(pageSize, 40);
    const [at] = silicon.pages(1, { writable: true });
    const before = silicon.read(at!);
    const { cpu } = silicon.logging();
    expect(store(silicon, cpu, BASE)).toBe(true);
    expect([silicon.read(at!), cpu.hdbss.appends, prod(cpu).index]).toEqual([before, 0, 0]);
  });

  it("T-04: AF=0 with HA=0 is an access-flag fault, before any permission fault", () => {
    const silicon = new Silicon(pageSize, 40);
    const [at] = silicon.pages(1, { ...CLEAN, af: false });
    const before = silicon.read(at!);
    const cpu = silicon.cpu({ ha: false, hdbss: true });
    expect(cpu.translate(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "access-flag", level: 3, hdbssf: false });
    expect([silicon.read(at!), cpu.hdbss.appends]).toEqual([before, 0]);
  });

  it("T-05: AF and S2AP[1] come with one update; AF alone appends nothing", () => {
    const silicon = new Silicon(pageSize, 40);
    const [at, other] = silicon.pages(2, { ...CLEAN, af: false });
    const before = silicon.read(at!);
    const { cpu } = silicon.logging();
    cpu.translate(BASE + pageSize, false);
    expect(silicon.read(other!)).toBe(silicon.read(other!) | BIT.AF);
    expect(cpu.hdbss.appends).toBe(0);
    expect(cpu.translate(BASE, true)).toBeGreaterThan(0);
    expect(silicon.read(at!)).toBe(before | BIT.AF | BIT.S2AP_WRITE);
    expect([cpu.hdbss.appends, cpu.walks]).toEqual([1, 2]);
  });

  it("T-08: two vCPUs store to one clean page: one entry, and the page is dirty once", () => {
    const silicon = new Silicon(pageSize, 40);
    const [at] = silicon.pages(1);
    const one = silicon.logging({ vcpu: 0 });
    const two = silicon.logging({ vcpu: 1 });
    // Both hold a clean copy before either stores.
    one.cpu.translate(BASE, false);
    two.cpu.translate(BASE, false);
    expect([store(silicon, one.cpu, BASE), store(silicon, two.cpu, BASE + 8)]).toEqual([
      true,
      true,
    ]);
    const entries = one.cpu.hdbss.appends + two.cpu.hdbss.appends;
    expect(entries).toBeGreaterThanOrEqual(1);
    expect(entries).toBeLessThanOrEqual(2);
    expect(silicon.isDirty(at!)).toBe(true);
    expect(silicon.entries(one.buffer, 1)).toEqual([entryOf(BASE)]);
    expect(silicon.wrong).toEqual({});
  });

  it("T-09: a clean copy is checked against memory: an unmapped page faults, unlogged", () => {
    const silicon = new Silicon(pageSize, 40);
    const [at] = silicon.pages(1);
    const { cpu, buffer } = silicon.logging();
    cpu.translate(BASE, false);
    silicon.host.memory.write64(at!, 0n);
    expect(cpu.translate(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "translation", level: 3, hdbssf: false });
    expect([silicon.read(at!), prod(cpu).index]).toEqual([0n, 0]);
    expect(silicon.entries(buffer, 1)).toEqual([0n]);
  });
});

/** AT S1E1W of the address in x0. */
const AT_S1E1W = 0xd508_7820;

describe("instructions", () => {
  it("T-06: AT asks for permission to write, and dirties nothing", () => {
    const silicon = new Silicon();
    const [at, next] = silicon.pages(2, CLEAN);
    const before = silicon.read(at!);
    const { cpu } = silicon.logging();
    const words = [...a64.mov(0, BigInt(BASE)), AT_S1E1W, a64.b(0)];
    const guest = new SiliconGuest(silicon, words, { stage1Pages: 2, managed: true });
    const stage1 = silicon.read(guest.descriptor);
    expect(guest.engine.execute(cpu, 100)).toBe("slice");
    expect(guest.registers.get("PAR_EL1") & 1n).toBe(0n);
    expect(guest.registers.get("PAR_EL1") & 0xffff_f000n).toBe(BigInt(BASE));
    expect([silicon.read(at!), cpu.hdbss.appends]).toEqual([before, 0]);
    // Hardware has set AF there, and cleared no read-only bit.
    expect(silicon.read(guest.descriptor)).toBe(stage1 | BIT.AF);
    // AT S12E1W at EL2: the page that a store would dirty stays clean.
    expect(cpu.at(BASE + K4 + 8, true)).toBeGreaterThan(0);
    expect([silicon.isDirty(next!), cpu.hdbss.appends, cpu.tlb.count > 0]).toEqual([
      false,
      0,
      true,
    ]);
  });

  it("T-06: with a full buffer AT at EL2 tells of the permission fault", () => {
    const silicon = new Silicon();
    silicon.pages(2);
    const { cpu } = silicon.logging();
    cpu.msr("HDBSSPROD_EL2", 512n);
    expect(cpu.at(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "permission", level: 3 });
    expect(cpu.at(BASE, false)).toBeGreaterThan(0);
    cpu.msr("HDBSSPROD_EL2", 511n);
    expect(cpu.at(BASE, true)).toBeGreaterThan(0);
    expect(prod(cpu).index).toBe(511);
  });

  it("T-07: a walk of stage 1 that sets AF logs the page that holds the table", () => {
    const silicon = new Silicon();
    const [data] = silicon.pages(1);
    const { cpu, buffer } = silicon.logging();
    const words = [...a64.mov(0, BigInt(BASE)), a64.ldr(1, 0), a64.b(0)];
    const guest = new SiliconGuest(silicon, words, { stage1Pages: 1, managed: true });
    // Stage 2 of the table's page becomes clean; stage 1's descriptor of BASE has AF=0.
    const table = silicon.entry(guest.tablePage);
    silicon.host.memory.write64(table, (silicon.read(table) | BIT.DBM) & ~BIT.S2AP_WRITE);
    expect(guest.engine.execute(cpu, 100)).toBe("slice");
    expect(silicon.isDirty(table)).toBe(true);
    expect(silicon.isDirty(data!)).toBe(false);
    expect(silicon.entries(buffer, prod(cpu).index)).toEqual([entryOf(guest.tablePage)]);
  });
});
