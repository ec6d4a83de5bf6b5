// Goal: dirty-log-perf measures what it says, for every strategy, and leaves nothing behind.
// Method: the compiled command with little memory; pages and events that have to come out.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RealService, startReal } from "../support/real-service.js";
import { type Command, openCommand } from "./command.js";

interface Phase {
  readonly name: string;
  readonly iteration: number | null;
  readonly realS: number;
  readonly modelledS: number;
  readonly cycles: { readonly guest: number; readonly ioctl: number };
  readonly pages: number | null;
  readonly counters: Readonly<Record<string, number>>;
}

interface Result {
  readonly costs: Readonly<Record<string, number>>;
  readonly strategies: readonly { readonly strategy: string; readonly phases: readonly Phase[] }[];
}

let command: Command;
let service: RealService;
beforeAll(async () => {
  command = await openCommand("perf");
  service = await startReal({ dataDir: `${command.folder}/data` });
});
afterAll(async () => {
  expect(await service.stop()).toBe(0);
  await command.close();
});

async function perf(...args: string[]): Promise<Result> {
  const server = ["--server", service.origin];
  const { code, out, err } = await command.runToEnd("dirty-log-perf", "--json", ...server, ...args);
  expect([code, err]).toEqual([0, ""]);
  return JSON.parse(out) as Result;
}

/** Counters of one phase. */
function counted(result: Result, strategy: string, name: string, iteration: number | null) {
  const phases = result.strategies.find((one) => one.strategy === strategy)?.phases ?? [];
  const phase = phases.find((one) => one.name === name && one.iteration === iteration);
  if (phase === undefined) throw new Error(`${strategy} has no ${name} ${iteration}`);
  return phase;
}

describe("on a host of its own", () => {
  it("prints the phases of every strategy", async () => {
    const { code, out, err } = await command.runToEnd("dirty-log-perf", "-b", "1M", "-i", "2");
    expect([code, err]).toEqual([0, ""]);
    for (const strategy of ["write-protect", "dbm", "dirty-ring", "hdbss", "hdbss+hacdbs"]) {
      const [, section = ""] = out.split(`Strategy: ${strategy}\n`);
      const labels = section
        .split("\n\n")[0]
        ?.split("\n")
        .map((line) => line.split(" time:")[0]);
      expect(labels?.slice(1, 10)).toEqual([
        "Populate memory",
        "Enabling dirty logging",
        "Iteration 1 dirty memory",
        "Iteration 1 get dirty log",
        "Iteration 1 clear dirty log",
        "Iteration 2 dirty memory",
        "Iteration 2 get dirty log",
        "Iteration 2 clear dirty log",
        "Disabling dirty logging",
      ]);
    }
    expect(out).toMatch(/Get dirty log over 2 iterations took .*\(Avg /);
    expect(out).toMatch(/Last iteration \(2\)(.|\n)*write-protect(.|\n)*dbm(.|\n)*dirty-ring/);
    expect(await command.leftovers()).toEqual([]);
  });

  it("ends with 124 when time is up", async () => {
    const late = await command.runToEnd(
      "dirty-log-perf",
      "-b",
      "256G",
      "-i",
      "9",
      "--timeout",
      "1",
    );
    expect([late.code, late.err]).toEqual([124, "tidemark: The test ran longer than 1 s.\n"]);
    expect(await command.leftovers()).toEqual([]);
  });
});

describe("on a given host", () => {
  it("finds the pages that were written, and what it took to notice them", async () => {
    const each = 256; // tidy: pages of 1 MiB
    const args = ["-v", "2", "-b", "1M", "--no-initially-set", "-s"];
    const result = await perf(
      ...args,
      "write-protect,dbm,dbm+hacdbs,dirty-ring:4096,hdbss",
      "-i",
      "3",
    );
    for (const { strategy, phases } of result.strategies) {
      const pages = phases.filter(({ name }) => name === "get dirty log");
      expect([strategy, pages.map((phase) => phase.pages)]).toEqual([
        strategy,
        [2 * each, 2 * each, 2 * each],
      ]);
      expect(phases.every(({ realS }) => realS >= 0)).toBe(true);
    }
    const [wp, dbm] = ["write-protect", "dbm"].map((one) =>
      counted(result, one, "dirty memory", 3),
    );
    expect(wp?.counters["s2WriteFaults"]).toBe(2 * each);
    // 6000 cycles each, and 15 % more for the second vCPU.
    expect(wp?.cycles).toEqual({ guest: 2 * each * 6900, ioctl: 0 });
    expect(wp?.modelledS).toBeCloseTo((each * 6900) / 3e9, 9);
    expect(dbm?.counters).toMatchObject({ hwDirtied: 2 * each });
    expect(dbm?.cycles.guest).toBe(2 * each * 80);
    const hdbss = counted(result, "hdbss", "dirty memory", 3);
    expect(hdbss.counters).toMatchObject({ hdbssAppends: 2 * each, hdbssDrainedEntries: 2 * each });
    const clear = counted(result, "dbm+hacdbs", "clear dirty log", 3);
    expect(clear.counters).toMatchObject({ hacdbsCleaned: 2 * each, hacdbsBatches: 1 });
    expect(clear.counters).not.toHaveProperty("pagesProtected");
    const ring = counted(result, "dirty-ring:4096", "dirty memory", 3);
    expect(ring.counters).toMatchObject({ ringPushed: 2 * each });
  });

  it("empties rings that are full", async () => {
    const result = await perf("-b", "8M", "-i", "1", "-s", "dirty-ring:1024");
    const { counters } = counted(result, "dirty-ring:1024", "dirty memory", 1);
    expect(counters["dirtyRingExits"]).toBeGreaterThan(1);
    // A reset protects the whole span of a word, so some pages are pushed twice.
    const { pages } = counted(result, "dirty-ring:1024", "get dirty log", 1);
    expect(pages).toBeGreaterThanOrEqual(2048);
    expect(pages).toBeLessThan(2200);
  });

  it("clears by reading where the log is a legacy one, and takes other costs", async () => {
    const result = await perf("-g", "-b", "1M", "-i", "2", "-s", "dbm", "--cost", "scanLeaf=11");
    const get = counted(result, "dbm", "get dirty log", 2);
    expect(get.pages).toBe(256); // tidy: pages of 1 MiB
    expect(get.counters).toMatchObject({ pagesScanned: 256, getDirtyLog: 1 }); // tidy: pages
    expect(result.costs["scanLeaf"]).toBe(11);
    expect(result.strategies[0]?.phases.map(({ name }) => name)).not.toContain("clear dirty log");
  });

  it("writes some pages, at random or all vCPUs the same", async () => {
    const some = await perf("-b", "4M", "--pages", "64", "-i", "1", "-s", "write-protect");
    expect(counted(some, "write-protect", "get dirty log", 1).pages).toBe(1024);
    const args = ["-b", "4M", "--no-initially-set", "-i", "1", "-s", "write-protect"];
    const spread = await perf(...args, "--pages", "64");
    expect(counted(spread, "write-protect", "get dirty log", 1).pages).toBe(64);
    const same = await perf(...args, "-v", "2", "-o", "--page-size", "16K");
    expect(counted(same, "write-protect", "get dirty log", 1).pages).toBe(256); // tidy: pages
    const random = await perf(...args, "-a", "-w", "50");
    const { pages } = counted(random, "write-protect", "get dirty log", 1);
    expect(pages).toBeGreaterThan(200);
    expect(pages).toBeLessThan(600);
  });

  it("says what it takes and what it doesn't", async () => {
    const wrong = [
      ["-b", "5000"],
      ["-b", "512G"],
      ["-s", "pml"],
      ["--cost", "no=1"],
      ["-v", "0"],
    ];
    for (const args of wrong) {
      const { code, err } = await command.runToEnd("dirty-log-perf", ...args);
      expect([args, code, err]).toEqual([args, 125, expect.stringMatching(/^tidemark: /)]);
    }
    const help = await command.runToEnd("dirty-log-perf", "--help");
    expect([help.code, help.out]).toEqual([0, expect.stringContaining("dirty-ring[:ENTRIES]")]);
  });
  it("takes its VMs back, after Ctrl-C too", async () => {
    const vms = async () =>
      ((await (await fetch(`${service.origin}/v1/vms`)).json()) as { items: unknown[] }).items;
    const server = ["--server", service.origin];
    await perf("-b", "1M", "-i", "1");
    expect(await vms()).toEqual([]);
    const { child, ended } = command.start("dirty-log-perf", "-b", "2G", ...server);
    while ((await vms()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ code: 130, err: "tidemark: Interrupted.\n" });
    expect(await vms()).toEqual([]);
  });
});
