// Goal: a resampling irqfd on SPIs of a GICv5 hears of each end once under `exact`, whatever comes
// in between; `none` and message 004's list fail in the ways that are written down, and the VM's
// counters say so.
// Method: a short `npm run sim -- --mode gicv5`: guests that take interrupts instruction by
// instruction, an oracle of its own beside, and defects that must be seen.
import { describe, expect, it } from "vitest";
import { catchGicPlant, runPolicy } from "./gicv5/campaign.js";
import { POLICIES } from "./gicv5/oracle.js";
import { GIC_PLANTS } from "./gicv5/plants.js";

const SEEDS = { first: 1, count: 192, step: 1 };
/** Found by few seeds, so that it costs little; `npm run sim` plants all. */
const QUICK = GIC_PLANTS.map(({ name }) => name);
const LONG = 240_000;

describe("interleavings of a resampling irqfd on a GICv5", () => {
  it(
    "exact: every end of a level SPI is told once, by the deactivation itself",
    () => {
      const { failures, totals } = runPolicy("exact", SEEDS);
      expect(failures).toEqual([]);
      const { oracle, counters, interleavings } = totals.exact;
      expect(interleavings).toBe(SEEDS.count);
      // A simulation in which nothing happens would pass too.
      expect(oracle.completions).toBeGreaterThan(SEEDS.count);
      expect([oracle.acks, oracle.onTime]).toEqual([oracle.completions, oracle.completions]);
      expect([oracle.lost, oracle.late, oracle.spurious, oracle.redelivered]).toEqual([0, 0, 0, 0]);
      expect(counters).toMatchObject({
        ...{ completions: oracle.completions, acks: oracle.acks },
        ...{ lateAcks: 0, missedAcks: 0, spuriousAcks: 0 },
      });
    },
    LONG,
  );

  it(
    "none: nobody is told, and a level comes again for ever",
    () => {
      const { failures, totals } = runPolicy("none", SEEDS);
      expect(failures).toEqual([]);
      const { oracle, counters } = totals.none;
      expect([oracle.acks, oracle.lost]).toEqual([0, oracle.completions]);
      expect(oracle.redelivered).toBeGreaterThan(SEEDS.count);
      expect(counters).toMatchObject({ acks: 0, vdrcfgCalls: 0, completions: oracle.completions });
      expect(counters["stormsDetected"]).toBeGreaterThan(0);
      expect(counters["missedAcks"]).toBeGreaterThan(0);
    },
    LONG,
  );

  it.each(["seed004", "seed004-notifier-only"] as const)(
    "%s: loses the ends of lines that are high, is late with others, tells of what was no end",
    (policy) => {
      const { failures, totals } = runPolicy(policy, SEEDS);
      expect(failures).toEqual([]);
      const { oracle, counters } = totals[policy];
      // R1; R14; R2, R3, R6.
      for (const what of ["lost", "late", "spurious", "redelivered"] as const) {
        expect([what, oracle[what] > 0]).toEqual([what, true]);
      }
      expect(oracle.onTime).toBe(0);
      expect(oracle.acks).toBe(oracle.late + oracle.spurious);
      expect(counters).toMatchObject({
        ...{ lateAcks: oracle.late, spuriousAcks: oracle.spurious, vdrcfgCalls: oracle.vdrcfg },
        vdrcfgSkippedNoNotifier: oracle.skipped,
      });
      expect(counters["stormsDetected"]).toBeGreaterThan(0);
    },
    LONG,
  );

  it(
    "reads of the list are those of plain seed004, less what is saved",
    () => {
      const short = { ...SEEDS, count: 60 };
      const plain = runPolicy("seed004", short).totals.seed004.oracle;
      const only = runPolicy("seed004-notifier-only", short).totals["seed004-notifier-only"].oracle;
      expect(only.vdrcfg + only.skipped).toBe(plain.vdrcfg);
      expect(only.skipped).toBeGreaterThan(0);
    },
    LONG,
  );
});

describe("a defect planted into a GICv5", () => {
  it("has a name of its own, and policies", () => {
    expect(new Set(QUICK).size).toBe(GIC_PLANTS.length);
    const known = GIC_PLANTS.flatMap(({ policies }) => policies);
    expect(known.every((policy) => POLICIES.includes(policy))).toBe(true);
  });

  it.each(GIC_PLANTS)(
    "is caught: $name",
    (plant) => {
      for (const { policy, seed, withoutPlant } of catchGicPlant(plant)) {
        expect([policy, seed]).toEqual([policy, expect.any(Number)]);
        expect([policy, withoutPlant]).toEqual([policy, null]);
      }
    },
    LONG,
  );
});
