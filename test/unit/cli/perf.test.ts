// Goal: dirty-log-perf reads its arguments strictly and computes cycles as experiments do. Method:
// figures by hand, and the same counters through both computations. Test process.
import { describe, expect, it } from "vitest";
import { costsWith, cyclesOf, secondsOf } from "../../../src/cli/perf/model.js";
import { perfOptions, sizeOf } from "../../../src/cli/perf/options.js";
import { strategyOf } from "../../../src/cli/perf/strategy.js";
import { COUNTERS } from "../../../src/kvm/counters.js";
import { cyclesOf as experimentCycles } from "../../../src/service/experiments/cost.js";
import { costModel } from "../../../src/service/experiments/cost-model.table.js";

const costs = costModel({});
const plain = { vcpus: 8, words: 100, completion: "poll-quantum", quantumUs: 10 };

describe("modelled cycles", () => {
  it("are those of the formulas, by hand", () => {
    // 6000 cycles for one vCPU, and 15 % more for each of the seven others.
    const faults = { s2WriteFaults: 1000, dirtyMarked: 1000 };
    const run = cyclesOf({ ...plain, kind: "run", counters: faults }, costs);
    expect(run).toEqual({ guest: 12_300_000, ioctl: 0 });
    expect(secondsOf(run, 8)).toBeCloseTo(12_300_000 / 8 / 3e9, 12);
    const appends = { hwDirtied: 1024, hdbssAppends: 1024, hdbssFullFaults: 1 };
    const drained = { hdbssDrainsFault: 1, hdbssDrainedEntries: 512, dirtyMarked: 512 };
    const counters = { ...appends, ...drained };
    expect(cyclesOf({ ...plain, kind: "run", counters }, costs).guest).toBe(
      1024 * (80 + 20) + 2500 + 400 + 512 * 25,
    );
    const clear = { hacdbsBatches: 2, hacdbsEntries: 1025, hacdbsTerminators: 1, tlbiVmid: 1 };
    // Two batches of about 20,500 cycles wait for one quantum of 30,000 each.
    expect(cyclesOf({ ...plain, kind: "ioctl", counters: clear }, costs).ioctl).toBe(
      2 * 1200 + 1024 * 8 + 2 * 30_000 + 3000 + 8 * 200,
    );
  });

  it("are those of an experiment, whatever was counted", () => {
    const names = Object.keys(COUNTERS);
    for (let round = 0; round < 50; round++) {
      const counters = Object.fromEntries(
        names.map((name, at) => [name, (round * 7919 + at * 104_729) % 1000]),
      );
      for (const completion of ["poll-quantum", "poll-tight", "irq-wfi", "irq-or-poll"]) {
        const context = { ...plain, completion, model: costs, hostCpus: 8, refills: 0 };
        const run = cyclesOf({ ...plain, completion, kind: "run", counters }, costs);
        expect(run.guest).toBe(Math.round(experimentCycles(counters, {}, context).guestStall));
        const ioctl = cyclesOf({ ...plain, completion, kind: "ioctl", counters }, costs);
        const theirs = experimentCycles({}, counters, context);
        expect(ioctl).toEqual({
          guest: Math.round(theirs.guestStall),
          ioctl: Math.round(theirs.ioctl),
        });
      }
    }
  });

  it("take the caller's costs, if there are such", () => {
    expect(costsWith({ hwDirty: 1 }, costs)).toMatchObject({ hwDirty: 1, hdbssAppend: 20 });
    expect(() => costsWith({ hwDirt: 1 }, costs)).toThrow("no hwDirt");
  });
});

describe("arguments", () => {
  it("are sizes, strategies and settings", () => {
    expect(["64M", "1g", "4096", "2GiB"].map(sizeOf)).toEqual([
      64 * 2 ** 20,
      2 ** 30,
      4096, // tidy: bytes as given
      2 ** 31,
    ]);
    expect(strategyOf("hdbss:3")).toMatchObject({ name: "hdbss:3", hdbssOrder: 3 });
    expect(strategyOf("hdbss+hacdbs").settings).toEqual({ "hacdbs.use": "with-hdbss" });
    const set = ["--set", "hacdbs.completion=irq-wfi", "--set", "hardware.lookahead=8"];
    const options = perfOptions(["-v", "4", "-b", "1G", "-s", "hdbss:3,dbm", ...set]);
    expect(options).toMatchObject({
      vcpus: 4,
      bytesPerVcpu: 2 ** 30,
      pagesPerVcpu: 2 ** 18,
      manualProtect: 3,
      settings: { "hacdbs.completion": "irq-wfi", "hardware.lookahead": 8 },
    });
    expect(options?.strategies?.map(({ name }) => name)).toEqual(["hdbss:3", "dbm"]);
    expect(perfOptions(["--help"])).toBeNull();
  });

  it.each([
    [["-b", "1X"]],
    [["-b", "1000"]],
    [["-v", "256", "-b", "2G"]],
    [["-i", "0"]],
    [["-w", "101"]],
    [["-s", "hdbss:10"]],
    [["-s", "dbm:1"]],
    [["-s", "toString"]],
    [["--pages", "99999999"]],
    [["--page-size", "8K"]],
    [["--set", "x"]],
    [["--cost", "hwDirty"]],
    [["--server", "ftp://x"]],
    [["more"]],
  ])("are refused where they make no sense: %j", (args) => {
    expect(() => perfOptions(args)).toThrow(/usage: tidemark dirty-log-perf|There is no|takes/);
  });
});
