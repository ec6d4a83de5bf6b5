// Goal: T-10 to T-21 of dirty-tracking.md 10: entries, all ten sizes, full buffers, errors.
// Method: stores on tables written by hand; registers and entries read as bits.
import { describe, expect, it } from "vitest";
import { PAGE_SIZES, pageGeometry } from "../../src/base/page.js";
import type { HostCpu } from "../../src/machine/index.js";
import { BASE, CLEAN, entryOf, K4, prod, Silicon, store } from "./silicon.js";

const FULL = { kind: "permission", level: 3, isWrite: true, hdbssf: true };
const NO_PAGE_ENTRIES = 512;

/** Stores to `count` clean pages, of which a few are made clean again and again. */
function fill(silicon: Silicon, cpu: HostCpu, leaves: readonly number[], count: number): number {
  const { memory, geometry } = silicon.host;
  let done = 0;
  while (done < count) {
    for (let n = 0; n < leaves.length && done < count; n++, done++) {
      if (cpu.translate(BASE + n * geometry.size, true) < 0) return done;
    }
    for (const at of leaves) memory.u32[at >>> 2]! &= ~(1 << 7);
    silicon.host.tlbiVmid(1);
  }
  return done;
}

describe("a buffer", () => {
  it("T-10: of SZ 0 takes 512 entries; the 513th store faults, and nothing of it happens", () => {
    const silicon = new Silicon();
    const at = silicon.pages(NO_PAGE_ENTRIES + 1);
    const { cpu, buffer } = silicon.logging();
    for (let n = 0; n < NO_PAGE_ENTRIES; n++) {
      expect(store(silicon, cpu, BASE + n * K4)).toBe(true);
    }
    expect(prod(cpu)).toEqual({ index: NO_PAGE_ENTRIES, fsc: 0 });
    const last = at[NO_PAGE_ENTRIES]!;
    const before = silicon.read(last);
    const pa = Number(before & 0xffff_f000n);
    expect(store(silicon, cpu, BASE + NO_PAGE_ENTRIES * K4)).toBe(false);
    expect(cpu.fault).toMatchObject({ ...FULL, ipa: BASE + NO_PAGE_ENTRIES * K4 });
    expect([silicon.read(last), silicon.read(pa)]).toEqual([before, 0n]);
    expect(prod(cpu)).toEqual({ index: NO_PAGE_ENTRIES, fsc: 0 });
    const expected = at.slice(0, -1).map((_, n) => entryOf(BASE + n * K4));
    expect(silicon.entries(buffer, NO_PAGE_ENTRIES)).toEqual(expected);
    expect(silicon.wrong).toEqual({});
  });

  it("T-11: once it was drained the same store succeeds, as entry 0", () => {
    const silicon = new Silicon();
    silicon.pages(NO_PAGE_ENTRIES + 1);
    const { cpu, buffer } = silicon.logging();
    for (let n = 0; n <= NO_PAGE_ENTRIES; n++) cpu.translate(BASE + n * K4, true);
    expect(cpu.fault.hdbssf).toBe(true);
    cpu.msr("HDBSSPROD_EL2", 0n);
    const again = BASE + NO_PAGE_ENTRIES * K4;
    expect(store(silicon, cpu, again)).toBe(true);
    expect(silicon.entries(buffer, 1)).toEqual([entryOf(again)]);
    expect(prod(cpu)).toEqual({ index: 1, fsc: 0 });
  });

  it.each(PAGE_SIZES)("T-12: pages of %i bytes, each SZ: capacity is 512 << SZ", (pageSize) => {
    for (let sz = 0; sz <= 9; sz++) {
      const silicon = new Silicon(pageSize, 40);
      const leaves = silicon.pages(64);
      const { cpu, buffer } = silicon.logging({ sz });
      const capacity = NO_PAGE_ENTRIES << sz;
      expect(fill(silicon, cpu, leaves, capacity + 1)).toBe(capacity);
      expect(cpu.fault).toMatchObject(FULL);
      expect(prod(cpu)).toEqual({ index: capacity, fsc: 0 });
      const lastEntry = entryOf(BASE + ((capacity - 1) % 64) * pageSize);
      expect(silicon.read(buffer + 8 * (capacity - 1))).toBe(lastEntry);
      expect(silicon.wrong).toEqual({});
    }
  });

  it.each([10, 11, 15])("T-13: a reserved SZ (%i) is full from the start, and told", (sz) => {
    const silicon = new Silicon();
    const [at] = silicon.pages(1);
    const { cpu, buffer } = silicon.logging();
    cpu.msr("HDBSSBR_EL2", BigInt(buffer) | BigInt(sz));
    expect(cpu.translate(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject(FULL);
    expect(silicon.isDirty(at!)).toBe(false);
    expect(silicon.wrong["hdbss-reserved-size"]).toBe(1);
  });
});

describe("an entry", () => {
  it("T-14: of page 0x12345000 is 0x12345007", () => {
    const silicon = new Silicon();
    silicon.map(0x1234_5000, silicon.page(), CLEAN);
    const { cpu, buffer } = silicon.logging();
    cpu.translate(0x1234_5678, true);
    expect(silicon.read(buffer)).toBe(0x1234_5007n);
  });

  it("T-14: of an address above 2^40 keeps its upper bits", () => {
    const silicon = new Silicon(K4, 48);
    const ipa = 0x8a12_3456_7000;
    silicon.map(ipa, silicon.page(), CLEAN);
    const { cpu, buffer } = silicon.logging();
    cpu.translate(ipa + 8, true);
    expect(silicon.read(buffer)).toBe(0x8a12_3456_7007n);
  });

  it("T-15: of a block names the block and its level; later stores in it are silent", () => {
    const silicon = new Silicon();
    silicon.map(0x1220_0000, 0, { ...CLEAN, level: 2 });
    const { cpu, buffer } = silicon.logging();
    cpu.translate(0x1220_1234, true);
    for (let n = 0; n < 1000; n++) cpu.translate(0x1220_0000 + ((n * 7 * K4) % 2 ** 21), true);
    expect(silicon.read(buffer)).toBe(0x1220_0005n);
    expect(prod(cpu).index).toBe(1);
  });

  it.each(PAGE_SIZES)("T-15: of each block size with pages of %i bytes", (pageSize) => {
    for (const [level, size] of pageGeometry(pageSize).levelSizes.entries()) {
      if (level === 3 || size > 2 ** 32) continue;
      const silicon = new Silicon(pageSize, 40);
      const { leafSizes } = silicon.host.geometry;
      if (!leafSizes.includes(size)) continue;
      const ipa = 3 * size;
      silicon.map(ipa, 0, { ...CLEAN, level });
      const { cpu, buffer } = silicon.logging();
      cpu.translate(ipa + size - 8, true);
      expect(silicon.read(buffer)).toBe(entryOf(ipa, level));
    }
  });
});

describe("errors", () => {
  it.each([0x10n, 0x28n])("T-16: FSC %i refuses every append", (fsc) => {
    const silicon = new Silicon();
    const [at] = silicon.pages(1);
    const { cpu } = silicon.logging();
    cpu.msr("HDBSSPROD_EL2", 7n | (fsc << 26n));
    expect(cpu.translate(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject(FULL);
    expect(prod(cpu)).toEqual({ index: 7, fsc: Number(fsc) });
    expect([silicon.isDirty(at!), cpu.hdbss.appends]).toEqual([false, 0]);
  });

  it("T-17: an abort at the fifth append: FSC 0x10, INDEX 4, four entries intact", () => {
    const silicon = new Silicon();
    const at = silicon.pages(8);
    const { cpu, buffer } = silicon.logging();
    silicon.arm("hdbss-append-abort", 5);
    for (let n = 0; n < 5; n++) expect(cpu.translate(BASE + n * K4, true)).toBeGreaterThan(0);
    expect(prod(cpu)).toEqual({ index: 4, fsc: 0x10 });
    // The fifth page is dirty and in no entry: that is what is lost.
    expect(silicon.isDirty(at[4]!)).toBe(true);
    const four = [0, 1, 2, 3].map((n) => entryOf(BASE + n * K4));
    expect(silicon.entries(buffer, 5)).toEqual([...four, 0n]);
    expect(cpu.translate(BASE + 5 * K4, true)).toBe(-1);
    expect(cpu.fault).toMatchObject(FULL);
    expect(cpu.hdbss.aborts).toBe(1);
  });

  it("T-17: told synchronously it is an external abort, and nothing is lost", () => {
    const silicon = new Silicon(K4, 36, { "hardware.hdbssAbortReport": "sync" });
    const [at] = silicon.pages(1);
    const { cpu } = silicon.logging();
    silicon.arm("hdbss-append-abort");
    expect(cpu.translate(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "external-abort", level: 3, hdbssf: true });
    expect([prod(cpu), silicon.isDirty(at!)]).toEqual([{ index: 0, fsc: 0 }, false]);
    expect(cpu.translate(BASE, true)).toBeGreaterThan(0);
  });

  it("T-17: a buffer where there is no memory aborts too", () => {
    const silicon = new Silicon();
    silicon.pages(1);
    const { cpu } = silicon.logging();
    cpu.msr("HDBSSBR_EL2", 0xffff_f000n);
    cpu.translate(BASE, true);
    expect(prod(cpu)).toEqual({ index: 0, fsc: 0x10 });
  });

  it("T-18: a granule protection fault: FSC 0x28, and the page is not dirtied", () => {
    const silicon = new Silicon();
    const [at] = silicon.pages(1);
    const { cpu } = silicon.logging();
    silicon.arm("hdbss-append-gpf");
    expect(cpu.translate(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject(FULL);
    expect([prod(cpu), silicon.isDirty(at!)]).toEqual([{ index: 0, fsc: 0x28 }, false]);
    expect(cpu.hdbss.gpfs).toBe(1);
  });

  it("T-18: told synchronously it is a granule protection exception", () => {
    const silicon = new Silicon(K4, 36, { "hardware.gpfReport": "sync" });
    const [at] = silicon.pages(1);
    const { cpu } = silicon.logging();
    silicon.arm("hdbss-append-gpf");
    expect(cpu.translate(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "gpf", hdbssf: true });
    expect([prod(cpu), silicon.isDirty(at!)]).toEqual([{ index: 0, fsc: 0 }, false]);
  });
});

describe("what the PE may and may not do", () => {
  it("T-19: with HDBSS=0 a senseless BADDR is never accessed", () => {
    const silicon = new Silicon();
    silicon.pages(64);
    const victim = silicon.page();
    silicon.host.memory.u8.fill(0xa5, victim, victim + K4);
    const cpu = silicon.cpu();
    cpu.msr("HDBSSBR_EL2", BigInt(victim));
    for (let n = 0; n < 64; n++) cpu.translate(BASE + n * K4, true);
    cpu.dsb();
    const bytes = silicon.host.memory.u8.subarray(victim, victim + K4);
    expect(bytes.every((byte) => byte === 0xa5)).toBe(true);
    expect([cpu.hdbss.appends, prod(cpu).index, silicon.wrong]).toEqual([0, 0, {}]);
  });

  it("T-19: with HDBSS=1 it is written to, and that is told", () => {
    const silicon = new Silicon();
    silicon.pages(1);
    const { cpu } = silicon.logging();
    const victim = silicon.page();
    cpu.msr("HDBSSBR_EL2", BigInt(victim));
    cpu.translate(BASE, true);
    expect(silicon.read(victim)).toBe(entryOf(BASE));
    expect(silicon.wrong["hdbss-write-outside-owned-buffer"]).toBe(1);
  });

  it("T-20: zeroAhead clears slots from INDEX on, and no entry", () => {
    for (const zeroAhead of [false, true]) {
      const silicon = new Silicon(K4, 36, { "hardware.zeroAhead": zeroAhead });
      silicon.pages(3);
      const { cpu, buffer } = silicon.logging();
      silicon.host.memory.u8.fill(0xff, buffer, buffer + K4);
      for (let n = 0; n < 3; n++) cpu.translate(BASE + n * K4, true);
      cpu.dsb();
      const entries = [0, 1, 2].map((n) => entryOf(BASE + n * K4));
      expect(silicon.entries(buffer, 3)).toEqual(entries);
      expect(silicon.read(buffer + 3 * 8)).toBe(zeroAhead ? 0n : 2n ** 64n - 1n);
      expect(silicon.read(buffer + 500 * 8)).toBe(2n ** 64n - 1n);
    }
  });

  it("T-20: zeroAhead stays within the buffer", () => {
    const silicon = new Silicon(K4, 36, { "hardware.zeroAhead": true });
    silicon.pages(1);
    const { cpu, buffer } = silicon.logging();
    silicon.host.memory.u8.fill(0xff, buffer, buffer + 2 * K4);
    cpu.msr("HDBSSPROD_EL2", 510n);
    cpu.translate(BASE, true);
    cpu.dsb();
    expect(silicon.read(buffer + 511 * 8)).toBe(0n);
    expect(silicon.read(buffer + 512 * 8)).toBe(2n ** 64n - 1n);
  });

  it("T-21: weak ordering: entries are seen after a DSB, and not for certain before", () => {
    for (const weak of [false, true]) {
      const silicon = new Silicon(K4, 36, { "hardware.weakHdbssOrdering": weak });
      silicon.pages(10);
      const { cpu, buffer } = silicon.logging();
      silicon.host.memory.write64(buffer, entryOf(0x7000));
      for (let n = 0; n < 10; n++) cpu.translate(BASE + n * K4, true);
      // INDEX counts them all already; the slots still hold what was there before.
      expect(prod(cpu).index).toBe(10);
      const stale = silicon.entries(buffer, 10);
      expect(stale[0]).toBe(weak ? entryOf(0x7000) : entryOf(BASE));
      expect(stale.filter((entry) => entry === 0n).length).toBe(weak ? 9 : 0);
      cpu.dsb();
      const all = Array.from({ length: 10 }, (_, n) => entryOf(BASE + n * K4));
      expect(silicon.entries(buffer, 10)).toEqual(all);
    }
  });

  it("T-21: what is held back reaches memory in order, and survives a save", () => {
    const silicon = new Silicon(K4, 36, { "hardware.weakHdbssOrdering": true });
    silicon.pages(200);
    const { cpu, buffer } = silicon.logging();
    for (let n = 0; n < 200; n++) cpu.translate(BASE + n * K4, true);
    const seen = silicon.entries(buffer, 200).indexOf(0n);
    expect(seen).toBeGreaterThan(0);
    expect(
      silicon
        .entries(buffer, 200)
        .slice(seen)
        .every((entry) => entry === 0n),
    ).toBe(true);
    const saved = cpu.save();
    cpu.load(saved);
    cpu.dsb();
    expect(silicon.entries(buffer, 200).at(-1)).toBe(entryOf(BASE + 199 * K4));
  });
});
