// Goal: events become the cycles that dirty-tracking.md 8.2 says, paid by whom it hurts, and the
// formulas of 8.3 agree with events counted by hand.
// Method: numbers worked out on paper from the table's defaults.
import { describe, expect, it } from "vitest";
import {
  addCounts,
  type CostContext,
  type Counts,
  countsBetween,
  cyclesOf,
} from "../../../../src/service/experiments/cost.js";
import {
  COST_KEYS,
  COST_MODEL,
  costModel,
} from "../../../../src/service/experiments/cost-model.table.js";
import {
  type FormulaInput,
  formulaTerms,
  total,
} from "../../../../src/service/experiments/formula.js";

const MODEL = costModel({});
const CONTEXT: CostContext = {
  model: MODEL,
  vcpus: 1,
  hostCpus: 4,
  words: 16,
  refills: 0,
  completion: "poll-quantum",
  quantumUs: 10,
};
const run = (counts: Counts, more: Partial<CostContext> = {}) =>
  cyclesOf(counts, {}, { ...CONTEXT, ...more });
const ioctl = (counts: Counts, more: Partial<CostContext> = {}) =>
  cyclesOf({}, counts, { ...CONTEXT, ...more });

describe("the cost model", () => {
  it("has each default within its range, and a source", () => {
    for (const key of COST_KEYS) {
      const { cycles, min, max, says, source } = COST_MODEL[key];
      expect(cycles >= min && cycles <= max, key).toBe(true);
      expect(says.length > 0 && source.length > 0, key).toBe(true);
    }
  });

  it("takes a caller's figures in place of its own", () => {
    const model = costModel({ s2WpFault: 1 });
    expect([model.s2WpFault, model.swWpPage]).toEqual([1, 55]);
  });

  it("charges the guest for what happens while it runs", () => {
    expect(run({ s2WriteFaults: 10 }).guestStall).toBe(60_000);
    // 6000 × (1 + 0.15 × 7)
    expect(run({ s2WriteFaults: 10 }, { vcpus: 8 }).guestStall).toBeCloseTo(123_000, 6);
    expect(run({ hwDirtied: 3, hdbssAppends: 2 }).guestStall).toBe(3 * 80 + 2 * 20);
    const drained = { hdbssFullFaults: 2, hdbssDrainsFault: 2, hdbssDrainedEntries: 1024 };
    expect(run({ ...drained, dirtyMarked: 1024 }).guestStall).toBe(5000 + 800 + 25_600);
    expect(run({}, { refills: 7 }).byEvent).toEqual({ tlbRefill: 700 });
    expect(run({ s2WriteFaults: 10 }).ioctl).toBe(0);
  });

  it("charges two cycles for each page more that the entry of a block stands for", () => {
    const blocks = { hdbssDrainsPut: 1, hdbssDrainedEntries: 1, dirtyMarked: 512 };
    expect(run(blocks).byEvent).toEqual({
      drainFixed: 400,
      drainPerEntry: 25,
      drainTtwlBlock: 1022,
    });
  });

  it("charges the caller for a software CLEAR, with the lock but for the invalidation", () => {
    const { guestStall, ioctl: caller, lockHeld } = ioctl({ pagesProtected: 100, tlbiRange: 1 });
    expect([guestStall, lockHeld, caller]).toEqual([0, 5500 + 16 * 150, 5500 + 2400 + 2400]);
    // 3000 + 200 × 4
    expect(ioctl({ tlbiVmid: 1 }).ioctl).toBe(3800);
    expect(ioctl({ pagesScanned: 1000 }).ioctl).toBe(7000);
  });

  it("shares a kick between who kicks and who leaves", () => {
    const { guestStall, ioctl: caller } = ioctl({ kicks: 3 });
    expect([guestStall, caller]).toEqual([7500, 1500]);
  });

  it("charges a ring's reset once, protection included", () => {
    expect(ioctl({ ringReset: 10, pagesProtected: 10 }).byEvent).toEqual({ ringReset: 600 });
  });

  const batch = { hacdbsBatches: 2, hacdbsEntries: 1024 };
  it.each([
    // 2 × 1200 + 1024 × (40 + 8); a batch works 20,480 cycles and is looked at after 30,000
    ["poll-quantum", 10, 51_552 + 2 * (30_000 - 20_480)],
    ["poll-quantum", 5, 51_552 + 2 * (30_000 - 20_480)],
    ["poll-quantum", 1, 51_552 + 2 * (21_000 - 20_480)],
    ["poll-tight", 10, 51_552],
    ["irq-wfi", 10, 51_552 + 2 * 2000],
    ["irq-or-poll", 10, 51_552 + 2 * 2000],
  ])("waits for HACDBS by %s of %i us", (completion, quantumUs, cycles) => {
    expect(ioctl(batch, { completion, quantumUs }).ioctl).toBe(cycles);
  });

  it("lets HACDBS work beside a guest that runs", () => {
    expect(run(batch).byEvent).toEqual({ hacdbsStart: 2400 });
  });

  it("takes differences of counters, whichever names they have", () => {
    expect(countsBetween({ a: 1 }, { a: 4, b: 2 })).toEqual({ a: 3, b: 2 });
    expect(addCounts({ a: 1 }, { a: 4, b: 2 })).toEqual({ a: 5, b: 2 });
  });
});

describe("the formulas", () => {
  const input: FormulaInput = {
    model: MODEL,
    tracking: "write-protect",
    clean: "software",
    pages: 1000,
    vcpus: 8,
    hostCpus: 8,
    entries: 512,
    arrayEntries: 512,
    slotPages: 6400,
    completion: 9520,
    faultsFirst: false,
    running: true,
  };
  const clear = 1000 * 55 + 100 * 150;
  const tlbi = 2000 + 800;

  it("of write protection", () => {
    expect(total(formulaTerms(input))).toBeCloseTo(1000 * 12_300 + clear + tlbi, 3);
  });

  it("of DBM and a scan", () => {
    const terms = formulaTerms({ ...input, tracking: "dbm" });
    expect(total(terms)).toBe(1000 * 80 + 6400 * 7 + clear + tlbi);
  });

  it("of HDBSS", () => {
    const hdbss = { ...input, tracking: "hdbss" } as const;
    const appended = 1000 * 100 + 2 * 2900 + 1000 * 25;
    expect(total(formulaTerms(hdbss))).toBe(appended + 8 * 3000 + clear + tlbi);
    expect(total(formulaTerms({ ...hdbss, running: false }))).toBe(appended + clear + tlbi);
  });

  it("of HDBSS whose leaves get DBM by a fault, in the first round", () => {
    const terms = formulaTerms({ ...input, tracking: "hdbss", faultsFirst: true });
    expect(total(terms)).toBeCloseTo(1000 * 12_300 + clear + tlbi, 3);
  });

  it("of HDBSS and HACDBS", () => {
    const terms = formulaTerms({ ...input, tracking: "hdbss", clean: "hacdbs", running: false });
    const appended = 1000 * 100 + 2 * 2900 + 1000 * 25;
    expect(total(terms)).toBe(appended + 2 * 1200 + 1000 * 48 + 2 * 9520 + tlbi);
  });
});
