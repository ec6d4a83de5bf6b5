// Goal: what the architecture leaves open or calls unpredictable does as its switch says: spurious
// dirtying, unknown reset values, writes at the wrong time, delayed fetches; and ESR_EL2.HDBSSF.
// Method: the silicon alone, stores by synthetic vCPUs and by A64 code in both tiers.
import { describe, expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import {
  BASE,
  CLEAN,
  cons,
  DIRTY,
  EN,
  entryOf,
  K4,
  prod,
  runAll,
  Silicon,
  SiliconGuest,
  store,
  TERMINATOR,
} from "./silicon.js";

const ESR_HDBSSF = 1n << 43n;
const DFSC = 0x3fn;

describe("hardware.spuriousDirty", () => {
  it.each([false, true])("a store into a hole behind a clean page (switch %s)", (spurious) => {
    const silicon = new Silicon(K4, 36, { "hardware.spuriousDirty": spurious });
    const [at] = silicon.pages(1);
    const { cpu } = silicon.logging();
    expect(store(silicon, cpu, BASE + K4 - 4)).toBe(false);
    expect(cpu.fault).toMatchObject({ kind: "translation", ipa: BASE + K4 });
    expect([silicon.isDirty(at!), cpu.hdbss.appends]).toEqual([spurious, spurious ? 1 : 0]);
  });

  it("of two pages that fault the first is told, and both get done in the end", () => {
    const silicon = new Silicon();
    const { cpu } = silicon.logging();
    expect(store(silicon, cpu, BASE + K4 - 4)).toBe(false);
    expect(cpu.fault.ipa).toBe(BASE + K4 - 4);
    const at = silicon.pages(2);
    expect(store(silicon, cpu, BASE + K4 - 4)).toBe(true);
    expect(at.map((descriptor) => silicon.isDirty(descriptor))).toEqual([true, true]);
    expect(cpu.hdbss.appends).toBe(2);
  });

  it("a store whose second entry finds the buffer full: the first page is in the log", () => {
    const silicon = new Silicon();
    const at = silicon.pages(2);
    const { cpu, buffer } = silicon.logging();
    cpu.msr("HDBSSPROD_EL2", 511n);
    expect(store(silicon, cpu, BASE + K4 - 4)).toBe(false);
    expect([cpu.fault.hdbssf, prod(cpu).index]).toEqual([true, 512]);
    expect([silicon.isDirty(at[0]!), silicon.isDirty(at[1]!)]).toEqual([true, false]);
    expect(silicon.read(buffer + 511 * 8)).toBe(entryOf(BASE));
  });

  it.each([
    [false, false],
    [false, true],
    [true, false],
  ])("STP of A64 code into a hole (switch %s, translated %s)", (spurious, translated) => {
    const silicon = new Silicon(K4, 36, { "hardware.spuriousDirty": spurious });
    const [at] = silicon.pages(1);
    const { cpu } = silicon.logging();
    const words = [...a64.mov(0, BigInt(BASE + K4 - 8)), a64.stp(1, 2, 0), a64.b(0)];
    const guest = new SiliconGuest(silicon, words, { stage1Pages: 2, translated });
    expect(guest.engine.execute(cpu, 100)).toBe("abort");
    expect([guest.engine.far, cpu.fault.kind]).toEqual([BigInt(BASE + K4), "translation"]);
    expect([silicon.isDirty(at!), cpu.hdbss.appends]).toEqual([spurious, spurious ? 1 : 0]);
  });
});

describe("reset", () => {
  it("hardware.unknownAtReset leaves noise in PROD and CONS, the same for a seed", () => {
    const values = [0, 1].map(() => {
      const silicon = new Silicon(K4, 36, { "hardware.unknownAtReset": true });
      const [one, two] = [silicon.cpu(), silicon.cpu()];
      expect([one.mrs("HACDBSBR_EL2") & EN, one.hacdbs.irq]).toEqual([0n, false]);
      const cpus = [one, two];
      return cpus.flatMap((cpu) => [cpu.mrs("HDBSSPROD_EL2"), cpu.mrs("HACDBSCONS_EL2")]);
    });
    expect(values[0]).toEqual(values[1]);
    expect(new Set(values[0]).size).toBe(4);
    const known = new Silicon().cpu();
    expect([known.mrs("HDBSSPROD_EL2"), known.mrs("HACDBSCONS_EL2")]).toEqual([0n, 0n]);
  });
});

describe("writes of registers", () => {
  it("RES0 bits of BR and PROD read as zero", () => {
    const cpu = new Silicon().cpu();
    const all = 2n ** 64n - 1n;
    cpu.msr("HDBSSPROD_EL2", all);
    expect(cpu.mrs("HDBSSPROD_EL2")).toBe((0x3fn << 26n) | 0x7ffffn);
    cpu.msr("HACDBSCONS_EL2", all);
    expect(cpu.mrs("HACDBSCONS_EL2")).toBe((3n << 62n) | 0x7ffffn);
    cpu.msr("HDBSSBR_EL2", all);
    expect(cpu.mrs("HDBSSBR_EL2")).toBe(0xffff_ffff_f00fn);
    cpu.msr("HACDBSBR_EL2", all & ~EN);
    expect(cpu.mrs("HACDBSBR_EL2")).toBe(0xffff_ffff_f00fn);
    cpu.msr("HACDBSBR_EL2", all);
    expect(cpu.mrs("HACDBSBR_EL2")).toBe(0xffff_ffff_f80fn);
  });

  it("a base that isn't aligned to its size loses the bits below it, and that is told", () => {
    const silicon = new Silicon();
    silicon.pages(1);
    const { cpu, buffer } = silicon.logging({ sz: 2 });
    cpu.msr("HDBSSBR_EL2", BigInt(buffer + K4) | 2n);
    expect(silicon.wrong["hdbss-misaligned-base"]).toBe(1);
    cpu.translate(BASE, true);
    expect(silicon.read(buffer)).toBe(entryOf(BASE));
  });

  it("BADDR, SZ and CONS can't be written while EN=1 without an error; EN=0 always can", () => {
    const silicon = new Silicon();
    const at = silicon.pages(4, DIRTY);
    const entries = [0, 1, 2, 3].map((n) => entryOf(BASE + n * K4));
    const array = silicon.array([...entries, TERMINATOR]);
    const other = silicon.buffer();
    const cpu = silicon.cleaning(array);
    cpu.hacdbs.process(1);
    cpu.msr("HACDBSCONS_EL2", 3n);
    cpu.msr("HACDBSBR_EL2", BigInt(other) | EN);
    expect(silicon.wrong["hacdbs-write-while-running"]).toBe(2);
    runAll(cpu);
    expect(cons(cpu).index).toBe(4);
    expect(at.some((descriptor) => silicon.isDirty(descriptor))).toBe(false);
    cpu.msr("HACDBSBR_EL2", 0n);
    expect([cpu.mrs("HACDBSBR_EL2"), silicon.wrong["hacdbs-write-while-running"]]).toEqual([0n, 2]);
  });

  it("a start before HCR_EL2.VM is synchronised is ignored, and told", () => {
    const silicon = new Silicon();
    const [at] = silicon.pages(1, DIRTY);
    const array = silicon.array([entryOf(BASE), TERMINATOR]);
    const cpu = silicon.cpu();
    cpu.msr("HCR_EL2", 0n);
    cpu.isb();
    cpu.msr("HCR_EL2", 1n);
    cpu.msr("HACDBSBR_EL2", BigInt(array) | EN);
    runAll(cpu);
    expect([cons(cpu).index, silicon.isDirty(at!)]).toEqual([0, true]);
    expect(silicon.wrong["hacdbs-start-ignored"]).toBe(1);
    cpu.msr("HACDBSBR_EL2", 0n);
    cpu.isb();
    cpu.msr("HACDBSBR_EL2", BigInt(array) | EN);
    runAll(cpu);
    expect([cons(cpu).index, silicon.isDirty(at!)]).toEqual([1, false]);
  });

  it("a CPU without the features has no such registers", () => {
    const none = { "hardware.hdbss": false, "hardware.hacdbs": false };
    const cpu = new Silicon(K4, 36, none).cpu();
    expect(() => cpu.mrs("HDBSSPROD_EL2")).toThrow();
    expect(() => cpu.msr("HACDBSBR_EL2", 0n)).toThrow();
  });

  it("without HDBSS in the CPU, VTCR_EL2.HDBSS does nothing", () => {
    const silicon = new Silicon(K4, 36, { "hardware.hdbss": false });
    const [at] = silicon.pages(1);
    const cpu = silicon.cpu({ hdbss: true });
    expect(cpu.translate(BASE, true)).toBeGreaterThan(0);
    expect([silicon.isDirty(at!), cpu.hdbss.appends]).toEqual([true, 0]);
  });
});

describe("hardware.delayedFetch", () => {
  it.each([false, true])("an array that is used again before a DSB (DSB: %s)", (hasDsb) => {
    const model = { "hardware.lookahead": 4, "hardware.delayedFetch": true };
    const silicon = new Silicon(K4, 36, model);
    const at = silicon.pages(4, DIRTY);
    silicon.host.memory.write64(at[0]!, 0n);
    const array = silicon.array([entryOf(BASE), TERMINATOR]);
    const cpu = silicon.cleaning(array);
    runAll(cpu);
    cpu.msr("HACDBSBR_EL2", 0n);
    if (hasDsb) cpu.dsb();
    // The next batch: page 2 alone is wanted; what lies behind its end is not.
    const batch = [entryOf(BASE + 2 * K4), TERMINATOR, entryOf(BASE + 3 * K4)];
    for (const [n, entry] of batch.entries()) silicon.host.memory.write64(array + n * 8, entry);
    cpu.msr("HACDBSCONS_EL2", 0n);
    cpu.msr("HACDBSBR_EL2", BigInt(array) | EN);
    cpu.hacdbs.process(1);
    expect([silicon.isDirty(at[2]!), silicon.isDirty(at[3]!)]).toEqual([false, hasDsb]);
  });
});

describe("ESR_EL2 of an A64 vCPU", () => {
  const STORE = [...a64.mov(0, BigInt(BASE)), a64.str(1, 0), a64.b(0)];

  it.each([false, true])(
    "ISS2.HDBSSF for a full buffer, not for other faults (tier 1: %s)",
    (t) => {
      const silicon = new Silicon();
      const [at] = silicon.pages(1);
      const { cpu } = silicon.logging();
      cpu.msr("HDBSSPROD_EL2", 512n);
      const guest = new SiliconGuest(silicon, STORE, { stage1Pages: 1, translated: t });
      expect(guest.engine.execute(cpu, 100)).toBe("abort");
      expect(guest.engine.esr & ESR_HDBSSF).toBe(ESR_HDBSSF);
      expect(guest.engine.esr & DFSC).toBe(0xfn);
      expect(silicon.isDirty(at!)).toBe(false);
      cpu.msr("HDBSSPROD_EL2", 0n);
      silicon.host.memory.write64(at!, silicon.read(at!) & ~(1n << 51n));
      silicon.host.tlbiVmid(1);
      expect(guest.engine.execute(cpu, 100)).toBe("abort");
      expect(guest.engine.esr & ESR_HDBSSF).toBe(0n);
      expect(guest.engine.esr & DFSC).toBe(0xfn);
    },
  );

  it.each([
    ["hdbss-append-abort", "hardware.hdbssAbortReport", 0x17n],
    ["hdbss-append-gpf", "hardware.gpfReport", 0x27n],
  ] as const)("%s told synchronously: HDBSSF and its DFSC, in both tiers", (kind, key, dfsc) => {
    for (const translated of [false, true]) {
      const silicon = new Silicon(K4, 36, { [key]: "sync" });
      const at = silicon.pages(2);
      const { cpu } = silicon.logging();
      // A loop that tier 1 has by the time it comes to the second page.
      const words = [
        ...a64.mov(0, BigInt(BASE)),
        ...a64.mov(3, 300n),
        a64.str(1, 0),
        a64.subs(3, 3, 1),
        a64.bne(-2),
        ...a64.mov(3, 300n),
        a64.add(0, 0, K4 / 2),
        a64.add(0, 0, K4 / 2),
        a64.b(-6),
      ];
      const guest = new SiliconGuest(silicon, words, { stage1Pages: 2, translated });
      silicon.arm(kind, 2);
      // In short runs: code is translated between two of them.
      let stop = guest.engine.execute(cpu, 100);
      for (let n = 0; n < 30 && stop === "slice"; n++) stop = guest.engine.execute(cpu, 100);
      expect(stop).toBe("abort");
      expect(guest.engine.esr & (ESR_HDBSSF | DFSC)).toBe(ESR_HDBSSF | dfsc);
      expect(silicon.host.faults.total).toBe(1);
      expect([silicon.isDirty(at[0]!), silicon.isDirty(at[1]!)]).toEqual([true, false]);
      // The instruction is done again once KVM has looked.
      expect(guest.engine.execute(cpu, 200)).toBe("slice");
      expect(silicon.isDirty(at[1]!)).toBe(true);
    }
  });
});

describe("a PE's own TLB", () => {
  const LOAD_THEN_STORE = [
    ...a64.mov(0, BigInt(BASE)),
    ...a64.mov(3, 400n),
    a64.ldr(2, 0),
    a64.subs(3, 3, 1),
    a64.bne(-2),
    a64.str(1, 0),
    a64.b(-1),
  ];

  it.each([false, true])(
    "never lets a store to a clean page pass (translated %s)",
    (translated) => {
      const silicon = new Silicon();
      const [at] = silicon.pages(1, CLEAN);
      const { cpu, buffer } = silicon.logging();
      const options = { stage1Pages: 1, translated };
      const guest = new SiliconGuest(silicon, LOAD_THEN_STORE, options);
      guest.registers.setX(1, 0x77n);
      // Loads alone: hot, translated, and the page in every TLB.
      expect(guest.engine.execute(cpu, 1000)).toBe("slice");
      expect([cpu.hdbss.appends, silicon.isDirty(at!)]).toEqual([0, false]);
      expect(guest.engine.execute(cpu, 1000)).toBe("slice");
      expect(silicon.entries(buffer, prod(cpu).index)).toEqual([entryOf(BASE)]);
      // Hundreds of stores later it is still one entry; cleaned and invalidated, one more.
      for (let round = 2; round < 5; round++) {
        const cleaner = silicon.cleaning(silicon.array([entryOf(BASE), TERMINATOR]));
        runAll(cleaner);
        expect(silicon.isDirty(at!)).toBe(false);
        silicon.host.tlbiRange(1, BASE / K4, 1);
        expect(guest.engine.execute(cpu, 1000)).toBe("slice");
        expect([prod(cpu).index, silicon.isDirty(at!)]).toEqual([round, true]);
      }
    },
  );

  it("entries are alike in both tiers, page by page", () => {
    const seen = [false, true].map((translated) => {
      const silicon = new Silicon();
      silicon.pages(64);
      const { cpu, buffer } = silicon.logging();
      const words = [
        ...a64.mov(0, BigInt(BASE)),
        ...a64.mov(2, 1n),
        a64.ubfx(3, 2, 20, 6),
        a64.addReg(4, 0, 3, 12),
        a64.ldr(6, 4),
        a64.str(2, 4),
        a64.madd(2, 2, 5, 5),
        a64.b(-5),
      ];
      const guest = new SiliconGuest(silicon, words, { stage1Pages: 64, translated });
      guest.registers.setX(5, 0x5851_f42d_4c95_7f2dn);
      expect(guest.engine.execute(cpu, 20_000)).toBe("slice");
      return silicon.entries(buffer, prod(cpu).index);
    });
    expect(seen[0]).toHaveLength(64);
    expect(seen[1]).toEqual(seen[0]);
  });
});
