// Goal: the cost model says of real counts what dirty-tracking.md expects of HDBSS.
// Method: experiments over VM threads, 10^5 pages of 8 vCPUs, every page stored to once a round.
import { afterAll, describe, expect, it } from "vitest";
import { systemClock } from "../../dist/base/clock.js";
import { silentLog } from "../../dist/base/log.js";
import { createRuntime } from "../../dist/runtime/index.js";
import { runExperiment } from "../../dist/service/experiments/runner.js";
import { completeSpec } from "../../dist/service/experiments/spec.js";
import type { StrategyResult, TrackingRequest } from "../../dist/service/experiments/types.js";

const PAGE = 4096;
const VCPUS = 8;
const PAGES = 100_000;
const SHARE = PAGES / VCPUS;
const ENTRIES = 512;

const runtime = createRuntime(
  { memoryBudgetBytes: 2 ** 32, inputLogEntries: 1000, maxVms: 2 },
  { clock: systemClock, log: silentLog },
);
afterAll(() => runtime.close());

async function resultsOf(request: TrackingRequest): Promise<readonly StrategyResult[]> {
  const results: StrategyResult[] = [];
  const deps = { runtime, clock: systemClock, images: null };
  await runExperiment(completeSpec(request), deps, {
    isCancelled: () => false,
    progress: () => {},
    running: () => {},
    result: (result) => void results.push(result),
  });
  return results;
}

const fromStart = { "hdbss.dbm": "all-writable-from-start" };
const every = {
  ...{ vcpus: VCPUS, bytesPerVcpu: SHARE * PAGE, storesPerRound: SHARE, rounds: 1 },
  pattern: "sequential" as const,
};

function roundOf(result: StrategyResult | undefined, round = 1) {
  const row = result?.rows.find((one) => one.phase === "round" && one.round === round);
  if (row === undefined) throw new Error(`no round ${round}: ${result?.error}`);
  return row;
}

describe("the cost of a first pass", () => {
  it("T-81: write protection stalls the guest at least 4 times as long as HDBSS", async () => {
    const strategies = [
      { tracking: "write-protect" },
      { tracking: "hdbss", settings: fromStart },
      { tracking: "hdbss", hdbssOrder: 1, settings: fromStart },
      { tracking: "hdbss", hdbssOrder: 2, settings: fromStart },
    ] as const;
    const [software, ...hardware] = await resultsOf({ workload: every, strategies });
    const rows = [software, ...hardware].map((result) => roundOf(result));
    for (const { dirtied, reported, lost, falsePositives } of rows) {
      expect([dirtied, reported, lost, falsePositives]).toEqual([PAGES, PAGES, 0, 0]);
    }
    const [before, after] = rows;
    const ratio = (before?.cycles.guestStall ?? 0) / (after?.cycles.guestStall ?? 1);
    expect(ratio).toBeGreaterThanOrEqual(4);

    for (const [order, { fullFaults, drains }] of rows.slice(1).entries()) {
      const needed = Math.ceil(SHARE / (ENTRIES << order));
      // The last buffer is never found full: it is drained when its vCPU leaves KVM_RUN.
      expect([fullFaults, drains]).toEqual([VCPUS * (needed - 1), VCPUS * needed]);
    }
    const [, order0, order1, order2] = rows;
    expect(order1?.fullFaults).toBe((order0?.fullFaults ?? 0) / 2);
    expect(order2?.fullFaults).toBe((order1?.fullFaults ?? 0) / 2);
  });

  it("T-81: formula and counted events agree within a hundredth", async () => {
    const strategies = [
      { tracking: "write-protect" },
      { tracking: "hdbss" },
      { tracking: "hdbss", settings: fromStart, name: "from the start" },
      { tracking: "hdbss", settings: fromStart, clean: "hacdbs" },
    ] as const;
    const results = await resultsOf({ workload: { ...every, rounds: 2 }, strategies });
    for (const result of results) {
      for (const round of [1, 2]) {
        const { expected, counted } = roundOf(result, round).formula ?? { expected: 0, counted: 1 };
        expect(counted / expected, `${result.strategy.name}, round ${round}`).toBeCloseTo(1, 2);
      }
    }
  });

  it("T-81: a defect of the seeds shows as lost pages", async () => {
    const [right, wrong] = await resultsOf({
      workload: { ...every, bytesPerVcpu: 2 ** 22, storesPerRound: 1024, hugePages: true },
      strategies: [
        { tracking: "hdbss", settings: { ...fromStart, "hdbss.split": "expand-ttwl" } },
        {
          tracking: "hdbss",
          settings: { ...fromStart, "hdbss.split": "none" },
          seedBugs: ["B13"],
        },
      ],
    });
    const lost = (result: StrategyResult | undefined) =>
      (result?.rows ?? []).reduce((sum, row) => sum + row.lost, 0);
    expect([right?.error, right?.state, lost(right)]).toEqual([null, "done", 0]);
    // 2 MiB blocks: one page of 512 is told.
    expect(lost(wrong)).toBe(VCPUS * (1024 - 2));
  });
});
