// Goal: T-22 to T-29 of dirty-tracking.md 10: HACDBS cleans what an array names, stops where it
// must, and tells by ERR_REASON, INDEX and its interrupt. Method: arrays and tables by hand.
import { describe, expect, it } from "vitest";
import { PAGE_SIZES } from "../../src/base/page.js";
import {
  BASE,
  BIT,
  CLEAN,
  cons,
  DIRTY,
  EN,
  entryOf,
  K4,
  runAll,
  Silicon,
  TERMINATOR,
} from "./silicon.js";

const IPAF = 2;
const IPAHACF = 3;
const pagesFrom = (count: number, size = K4) =>
  Array.from({ length: count }, (_, n) => entryOf(BASE + n * size));

describe("a whole array", () => {
  it.each(PAGE_SIZES)("T-22: 512 dirty pages of %i bytes are clean; DBM and AF stay", (size) => {
    const silicon = new Silicon(size, 40);
    const at = silicon.pages(512, DIRTY);
    const before = at.map((descriptor) => silicon.read(descriptor));
    const cpu = silicon.cleaning(silicon.array(pagesFrom(512, size)));
    expect(cpu.hacdbs.irq).toBe(false);
    runAll(cpu);
    expect(cons(cpu)).toEqual({ index: 512, err: 0 });
    const after = at.map((descriptor) => silicon.read(descriptor));
    expect(after).toEqual(before.map((descriptor) => descriptor & ~BIT.S2AP_WRITE));
    expect(after.every((d) => (d & (BIT.DBM | BIT.AF)) === (BIT.DBM | BIT.AF))).toBe(true);
    expect([cpu.hacdbs.cleaned, cpu.hacdbs.alreadyClean, cpu.hacdbs.irq]).toEqual([512, 0, true]);
  });

  it("T-22: of each size, with every entry a page of its own", () => {
    for (let sz = 1; sz <= 9; sz++) {
      const silicon = new Silicon();
      const [at] = silicon.pages(1, DIRTY);
      const capacity = 512 << sz;
      const array = silicon.array([], sz);
      silicon.host.memory.write64(array + 8 * (capacity - 1), entryOf(BASE));
      const cpu = silicon.cleaning(array, sz);
      runAll(cpu, sz);
      expect(cons(cpu)).toEqual({ index: capacity, err: 0 });
      expect([cpu.hacdbs.skipped, silicon.isDirty(at!)]).toEqual([capacity - 1, false]);
    }
  });

  it("T-22: the time it takes is the entries it is given time for", () => {
    const silicon = new Silicon();
    const at = silicon.pages(100, DIRTY);
    const cpu = silicon.cleaning(silicon.array([...pagesFrom(100), TERMINATOR]));
    expect(cpu.hacdbs.process(30)).toBe(30);
    expect(cons(cpu)).toEqual({ index: 30, err: 0 });
    expect(at.map((descriptor) => silicon.isDirty(descriptor)).indexOf(true)).toBe(30);
    expect(cpu.hacdbs.irq).toBe(false);
  });

  it.each(["ipahacf", "ipaf"] as const)(
    "T-23: the terminator ends it with %s at INDEX n",
    (err) => {
      const silicon = new Silicon(K4, 36, { "hardware.terminatorErr": err });
      const at = silicon.pages(3, DIRTY);
      const cpu = silicon.cleaning(silicon.array([...pagesFrom(3), TERMINATOR, entryOf(BASE)]));
      runAll(cpu);
      expect(cons(cpu)).toEqual({ index: 3, err: err === "ipaf" ? IPAF : IPAHACF });
      expect(at.map((descriptor) => silicon.isDirty(descriptor))).toEqual([false, false, false]);
      expect([cpu.hacdbs.cleaned, cpu.hacdbs.terminators, cpu.hacdbs.irq]).toEqual([3, 1, true]);
    },
  );
});

describe("entries that stop it", () => {
  it.each([0, 1, 8])("T-24: an unmapped page: IPAF there; lookahead %i", (lookahead) => {
    const silicon = new Silicon(K4, 36, { "hardware.lookahead": lookahead });
    const at = silicon.pages(3, DIRTY);
    silicon.host.memory.write64(at[1]!, 0n);
    const cpu = silicon.cleaning(silicon.array([...pagesFrom(3), TERMINATOR]));
    runAll(cpu);
    expect(cons(cpu)).toEqual({ index: 1, err: IPAF });
    expect([silicon.isDirty(at[0]!), silicon.isDirty(at[2]!)]).toEqual([false, lookahead === 0]);
    expect(cpu.hacdbs.irq).toBe(true);
  });

  it("T-24: an address beyond the input size is an IPAF as well", () => {
    const silicon = new Silicon();
    const cpu = silicon.cleaning(silicon.array([entryOf(2 ** 36)]));
    runAll(cpu);
    expect(cons(cpu)).toEqual({ index: 0, err: IPAF });
  });

  it("T-25: the level of a block for a page, or of a page for a block: IPAHACF", () => {
    const silicon = new Silicon();
    const [at] = silicon.pages(2, DIRTY);
    const cpu = silicon.cleaning(silicon.array([entryOf(BASE + K4), entryOf(BASE, 2)]));
    runAll(cpu);
    expect(cons(cpu)).toEqual({ index: 1, err: IPAHACF });
    expect(silicon.isDirty(at!)).toBe(true);
    const block = silicon.map(0x1220_0000, 0, { ...DIRTY, level: 2 });
    const other = silicon.cleaning(silicon.array([entryOf(0x1220_0000, 2), entryOf(0x1220_0000)]));
    runAll(other);
    expect(cons(other)).toEqual({ index: 1, err: IPAHACF });
    expect(silicon.isDirty(block)).toBe(false);
  });

  it("T-26: a leaf with the Contiguous bit: IPAHACF", () => {
    const silicon = new Silicon();
    const [at] = silicon.pages(1, DIRTY);
    silicon.host.memory.write64(at!, silicon.read(at!) | (1n << 52n));
    const cpu = silicon.cleaning(silicon.array(pagesFrom(1)));
    runAll(cpu);
    expect(cons(cpu)).toEqual({ index: 0, err: IPAHACF });
    expect(silicon.isDirty(at!)).toBe(true);
  });

  it("T-27: read-only and unmanaged leaves stop it, a clean one doesn't, AF=0 doesn't", () => {
    const silicon = new Silicon();
    for (const leaf of [{}, { writable: true }]) {
      const [at] = silicon.pages(1, leaf);
      const before = silicon.read(at!);
      const cpu = silicon.cleaning(silicon.array(pagesFrom(1)));
      runAll(cpu);
      expect(cons(cpu)).toEqual({ index: 0, err: IPAHACF });
      expect(silicon.read(at!)).toBe(before);
    }
    const [clean] = silicon.pages(1, CLEAN);
    const before = silicon.read(clean!);
    const [dirty] = silicon.pages(1, { ...DIRTY, af: false }, BASE + K4);
    const cpu = silicon.cleaning(silicon.array([...pagesFrom(2), TERMINATOR]));
    runAll(cpu);
    expect(cons(cpu).index).toBe(2);
    expect(silicon.read(clean!)).toBe(before);
    expect(silicon.read(dirty!) & (BIT.S2AP_WRITE | BIT.AF)).toBe(0n);
    expect([cpu.hacdbs.cleaned, cpu.hacdbs.alreadyClean]).toEqual([1, 1]);
  });

  it("T-27: needs DBM, and not VTCR_EL2.HD", () => {
    const silicon = new Silicon();
    const [at] = silicon.pages(1, DIRTY);
    const array = silicon.array([...pagesFrom(1), TERMINATOR]);
    const cpu = silicon.cpu({ hd: false });
    cpu.msr("HACDBSCONS_EL2", 0n);
    cpu.msr("HACDBSBR_EL2", BigInt(array) | EN);
    runAll(cpu);
    expect([cons(cpu).index, silicon.isDirty(at!)]).toEqual([1, false]);
    // Now the page is simply read-only to the guest.
    expect(cpu.translate(BASE, true)).toBe(-1);
    expect(cpu.fault).toMatchObject({ kind: "permission", hdbssf: false });
  });

  it("T-28: invalid entries in between are skipped and counted by INDEX", () => {
    const silicon = new Silicon();
    const at = silicon.pages(2, DIRTY);
    const entries = [0n, entryOf(BASE), 0n, 0x1234_5006n, entryOf(BASE + K4), TERMINATOR];
    const cpu = silicon.cleaning(silicon.array(entries));
    runAll(cpu);
    expect(cons(cpu)).toEqual({ index: 5, err: IPAHACF });
    expect(at.some((descriptor) => silicon.isDirty(descriptor))).toBe(false);
    expect([cpu.hacdbs.skipped, cpu.hacdbs.entries]).toEqual([3, 6]);
  });
});

describe("resume, switch off, and what EL3 withholds", () => {
  it("T-29: after an error INDEX + 1 and ERR 0 go on; the line is low meanwhile", () => {
    const silicon = new Silicon();
    const at = silicon.pages(4, DIRTY);
    silicon.host.memory.write64(at[1]!, 0n);
    const cpu = silicon.cleaning(silicon.array([...pagesFrom(4), TERMINATOR]));
    runAll(cpu);
    expect([cons(cpu), cpu.hacdbs.irq]).toEqual([{ index: 1, err: IPAF }, true]);
    cpu.msr("HACDBSCONS_EL2", 2n);
    expect(cpu.hacdbs.irq).toBe(false);
    runAll(cpu);
    expect([cons(cpu), cpu.hacdbs.irq]).toEqual([{ index: 4, err: IPAHACF }, true]);
    expect([silicon.isDirty(at[2]!), silicon.isDirty(at[3]!)]).toEqual([false, false]);
    cpu.msr("HACDBSBR_EL2", 0n);
    expect(cpu.hacdbs.irq).toBe(false);
    expect(silicon.wrong).toEqual({});
  });

  it("T-29: with HCR_EL2.VM=0 it never runs and never asserts", () => {
    const silicon = new Silicon();
    const [at] = silicon.pages(1, DIRTY);
    const array = silicon.array(pagesFrom(1));
    const cpu = silicon.cpu();
    cpu.msr("HCR_EL2", 0n);
    cpu.isb();
    cpu.msr("HACDBSCONS_EL2", 0n);
    cpu.msr("HACDBSBR_EL2", BigInt(array) | EN);
    runAll(cpu);
    expect([cons(cpu), cpu.hacdbs.irq]).toEqual([{ index: 0, err: 0 }, false]);
    expect(silicon.isDirty(at!)).toBe(true);
  });

  it("T-29: with SCR_EL3.HACDBSEn=0 EN reads as written and does nothing", () => {
    const silicon = new Silicon(K4, 36, { "hardware.scrHacdbsEn": false });
    const [at] = silicon.pages(1, DIRTY);
    const array = silicon.array(pagesFrom(1));
    const cpu = silicon.cleaning(array);
    runAll(cpu);
    expect(cpu.mrs("HACDBSBR_EL2")).toBe(BigInt(array) | EN);
    expect([cons(cpu), cpu.hacdbs.irq]).toEqual([{ index: 0, err: 0 }, false]);
    expect(silicon.isDirty(at!)).toBe(true);
  });

  it("T-29: EN=0 stops it where it is", () => {
    const silicon = new Silicon();
    silicon.pages(10, DIRTY);
    const cpu = silicon.cleaning(silicon.array(pagesFrom(10)));
    cpu.hacdbs.process(4);
    cpu.msr("HACDBSBR_EL2", 0n);
    cpu.dsb();
    runAll(cpu);
    expect([cons(cpu), cpu.hacdbs.irq]).toEqual([{ index: 4, err: 0 }, false]);
  });

  it("a cleaned page keeps its copies in TLBs until they are invalidated", () => {
    const silicon = new Silicon();
    const [at] = silicon.pages(1, CLEAN);
    const { cpu: guest } = silicon.logging();
    guest.translate(BASE, true);
    const cpu = silicon.cleaning(silicon.array([...pagesFrom(1), TERMINATOR]));
    runAll(cpu);
    expect(silicon.isDirty(at!)).toBe(false);
    expect(guest.translate(BASE, true)).toBeGreaterThan(0);
    expect([silicon.isDirty(at!), guest.hdbss.appends]).toEqual([false, 1]);
    silicon.host.tlbiRange(1, BASE / K4, 1);
    guest.translate(BASE, true);
    expect([silicon.isDirty(at!), guest.hdbss.appends]).toEqual([true, 2]);
  });
});

describe("injected errors", () => {
  it.each([
    ["hacdbs-structf", 1],
    ["hacdbs-ipaf", 2],
    ["hacdbs-ipahacf", 3],
  ] as const)("%s at the third entry: ERR %i, INDEX 2, resumed after it", (kind, err) => {
    const silicon = new Silicon();
    const at = silicon.pages(5, DIRTY);
    const cpu = silicon.cleaning(silicon.array([...pagesFrom(5), TERMINATOR]));
    silicon.arm(kind, 3);
    runAll(cpu);
    expect(cons(cpu)).toEqual({ index: 2, err });
    expect(at.map((descriptor) => silicon.isDirty(descriptor)).indexOf(true)).toBe(2);
    cpu.msr("HACDBSCONS_EL2", 3n);
    runAll(cpu);
    expect(cons(cpu).index).toBe(5);
    expect(at.filter((descriptor) => silicon.isDirty(descriptor))).toEqual([at[2]]);
  });

  it("an array where there is no memory: STRUCTF at entry 0", () => {
    const silicon = new Silicon();
    const cpu = silicon.cleaning(0xffff_f000);
    runAll(cpu);
    expect(cons(cpu)).toEqual({ index: 0, err: 1 });
  });
});
