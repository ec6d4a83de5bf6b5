// Goal: experiments on interrupts find what is told of each SPI tracking: exact and a GICv3 hear
// every end at once, none and message 004 lose a VFIO device, and who is late or needless is
// counted.
// Method: experiments over VM threads, small ones, and once more for the same counts.
import { afterAll, describe, expect, it } from "vitest";
import { systemClock } from "../../dist/base/clock.js";
import { silentLog } from "../../dist/base/log.js";
import { createRuntime } from "../../dist/runtime/index.js";
import { runInterrupts } from "../../dist/service/experiments/interrupts/runner.js";
import { completeInterrupts } from "../../dist/service/experiments/interrupts/spec.js";
import type { InterruptRequest, InterruptResult } from "../../dist/service/experiments/types.js";

const MS = 240_000;
const RAISED = 120;
const SPIS = 4;
const TRACKINGS = ["exact", "none", "seed004", "seed004-notifier-only"] as const;
const ALL: InterruptRequest["strategies"] = [
  { gic: 3 },
  ...TRACKINGS.map((spiTracking) => ({ gic: 5, spiTracking }) as const),
];
const STORM = 20;

const runtime = createRuntime(
  { memoryBudgetBytes: 2 ** 32, inputLogEntries: 1000, maxVms: 2 },
  { clock: systemClock, log: silentLog },
);
afterAll(() => runtime.close());

type Asked = Partial<InterruptRequest["workload"]>;

async function resultsOf(
  asked: Asked,
  strategies: InterruptRequest["strategies"] = ALL,
): Promise<readonly InterruptResult[]> {
  const results: InterruptResult[] = [];
  const workload = {
    ...({ kind: "interrupts", rounds: 1, interruptsPerRound: RAISED } as const),
    ...{ spis: SPIS, vcpus: 2, stormLimit: STORM },
    ...asked,
  };
  const spec = completeInterrupts({ workload, strategies });
  await runInterrupts(
    spec,
    { runtime, clock: systemClock },
    {
      isCancelled: () => false,
      progress: () => {},
      running: () => {},
      result: (result) => void results.push(result),
    },
  );
  expect(results.map(({ error }) => error)).toEqual(strategies.map(() => null));
  return results;
}

const rowOf = ({ rows: [row] }: InterruptResult) => {
  if (row === undefined) throw new Error("a round has a row");
  return row;
};
const unserved = RAISED - SPIS;

describe("a VFIO device on each SPI", () => {
  it(
    "is heard of by a GICv3 and by exact, and is dead after one interrupt under the others",
    async () => {
      const [v3, exact, ...others] = (await resultsOf({})).map(rowOf);
      for (const row of [v3, exact]) {
        expect(row).toMatchObject({ raised: RAISED, roundTrips: RAISED, acks: RAISED, storms: 0 });
        expect(row).toMatchObject({ lateAcks: 0, missedAcks: 0, needlessAcks: 0, unserved: 0 });
        expect(row?.ackLatencyNs?.max).toBeLessThan(100);
      }
      expect([v3?.kvm, v3?.maintenanceExits]).toEqual([null, RAISED]);
      expect(exact).toMatchObject({ deactivationTraps: RAISED, maintenanceExits: 0 });
      for (const row of others) {
        expect(row).toMatchObject({ roundTrips: SPIS, acks: 0, missedAcks: SPIS, storms: SPIS });
        expect(row).toMatchObject({ forNothing: SPIS * STORM, unserved });
        // KVM's own word: each of them a storm, and no end was told.
        expect(row.kvm).toMatchObject({ stormsDetected: SPIS, acks: 0 });
      }
      const [none, seed004, only] = others;
      expect([none?.vdrcfgReads, only?.vdrcfgReads]).toEqual([0, seed004?.vdrcfgReads]);
      expect(seed004?.inFlightMax).toBe(SPIS);
      // R5: what nobody takes any more is read at every exit.
      expect(seed004?.vdrcfgReads).toBeGreaterThan(seed004?.exits ?? 0);
    },
    MS,
  );
});

describe("lines that userspace lowers", () => {
  it(
    "are acknowledged late by message 004, and read for nobody but where that is saved",
    async () => {
      const asked = { trigger: "level-quieted", notifierPercent: 50 } as const;
      const [v3, exact, none, seed004, only] = (await resultsOf(asked)).map(rowOf);
      const ends = v3?.acks ?? 0;
      expect(ends).toBeGreaterThan(0);
      expect(exact).toMatchObject({ acks: ends, lateAcks: 0, missedAcks: 0, roundTrips: RAISED });
      expect(none).toMatchObject({ acks: 0, missedAcks: ends, roundTrips: RAISED });
      for (const row of [seed004, only]) {
        expect(row).toMatchObject({ acks: ends, lateAcks: ends, missedAcks: 0 });
        expect(row?.kvm?.["lateAcks"]).toBe(ends);
      }
      expect(only?.vdrcfgSaved).toBeGreaterThan(0);
      expect((only?.vdrcfgReads ?? 0) + (only?.vdrcfgSaved ?? 0)).toBe(seed004?.vdrcfgReads);
    },
    MS,
  );
});

describe("edges", () => {
  it(
    "are nobody's business but message 004's; the same seed gives the same counts",
    async () => {
      const strategies = [{ gic: 3 }, { gic: 5 }, { gic: 5, spiTracking: "seed004" }] as const;
      const results = await resultsOf({ trigger: "edge" }, strategies);
      const [v3, exact, seed004] = results.map(rowOf);
      expect([v3?.acks, exact?.acks, seed004?.needlessAcks]).toEqual([0, 0, RAISED]);
      const again = await resultsOf({ trigger: "edge" }, strategies);
      const strip = (of: readonly InterruptResult[]) =>
        of.map(rowOf).map((row) => ({ ...row, runMs: 0 }));
      expect(strip(again)).toEqual(strip(results));
    },
    MS,
  );
});
