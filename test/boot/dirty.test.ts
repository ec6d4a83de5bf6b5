// Goal: a log of dirty pages loses nothing of a booted Linux: every page whose content changed is
// reported, in each way of tracking.
// Method: `dirty` rewrites pages under Debian's 6.1 in an experiment on a real service; rounds of
// 50 ms; the oracle compares pages with copies. `experiments/linux.json` is the long form.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client } from "../../dist/cli/client.js";
import type { Operations } from "../../dist/generated/client.js";
import { LIMIT_MS } from "../../tools/linux/boot.js";
import { initramfs, kernelFile, missingLinux, TUNED } from "../../tools/linux/initramfs.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

type Results = Operations["getExperimentResults"]["answer"];
type Strategy = Extract<Results["strategies"][number], { bufferBytes: number }>;

const KERNEL = "6.1";
const ROUNDS = 3;
const ROUND_MS = 50;
/** Pages that `dirty` rewrites in a second. */
const RATE = 20_000;
const NS_PER_MS = 1_000_000;
const PER_ROUND = (RATE * ROUND_MS) / 1000;
/** Its memory: every page comes up again after two rounds. */
const WINDOW_MIB = 8;

const WORKLOAD = {
  ...({ kind: "image", image: "kernel", initrd: "initramfs", gic: 3 } as const),
  ...{ memoryMiB: 128, vcpus: 1 },
  cmdline: `${TUNED} g.dirty=${WINDOW_MIB},${RATE},0`,
  // `dirty` begins at about 170 ms.
  warmUpInstructions: 300 * NS_PER_MS,
  instructionsPerRound: ROUND_MS * NS_PER_MS,
  rounds: ROUNDS,
};
const hdbss = {
  tracking: "hdbss",
  settings: { "hdbss.dbm": "all-writable-from-start" },
} as const;

async function resultsOf(
  client: Client,
  strategies: Operations["createExperiment"]["body"]["strategies"],
): Promise<readonly Strategy[]> {
  const body = { workload: WORKLOAD, strategies };
  const { id: experiment } = await client.call("createExperiment", {}, body);
  for (;;) {
    const { state } = await client.call("getExperiment", { experiment });
    if (state !== "queued" && state !== "running") break;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const results = await client.call("getExperimentResults", { experiment });
  return results.strategies.filter((one): one is Strategy => "bufferBytes" in one);
}

describe("Debian's Linux 6.1 that dirties its pages", () => {
  const why = missingLinux(KERNEL);
  if (why !== null) {
    it("is not booted", (context) => context.skip(why));
    return;
  }
  let service: RealService;
  let folder: Awaited<ReturnType<typeof temporary>>;
  let client: Client;
  beforeAll(async () => {
    folder = await temporary("linux-dirty");
    service = await startReal({ dataDir: folder.path });
    client = new Client(service.origin, null);
    const kernel = Uint8Array.from(readFileSync(kernelFile(KERNEL) ?? ""));
    await client.call("putImage", { image: "kernel" }, kernel);
    await client.call("putImage", { image: "initramfs" }, initramfs(KERNEL));
  });
  afterAll(async () => {
    expect(await service.stop()).toBe(0);
    await folder.remove();
  });

  it(
    "has every changed page in every log",
    async () => {
      const strategies = await resultsOf(client, [
        { tracking: "write-protect" },
        { tracking: "dirty-ring" },
        hdbss,
        { ...hdbss, clean: "hacdbs" },
      ]);
      expect(strategies.map(({ state, error }) => [state, error])).toEqual(
        new Array(4).fill(["done", null]),
      );
      for (const { rows } of strategies) {
        const rounds = rows.filter(({ phase }) => phase === "round");
        expect(rounds).toHaveLength(ROUNDS);
        expect(rows.map(({ lost, late }) => [lost, late])).toEqual(
          new Array(rows.length).fill([0, 0]),
        );
        for (const { dirtied, reported } of rounds) {
          // The kernel's own pages come on top; `dirty` sleeps a tick now and then.
          expect(dirtied).toBeGreaterThan(PER_ROUND / 2);
          expect(reported).toBeGreaterThanOrEqual(dirtied);
          expect(reported).toBeLessThan(4 * PER_ROUND);
        }
      }
      const [software, , buffers, cleaned] = strategies.map(({ rows }) =>
        rows.filter(({ phase }) => phase === "round"),
      );
      for (const { exits, dirtied } of software ?? []) {
        expect(exits.writeFault + exits.mapFault).toBeGreaterThanOrEqual(dirtied);
      }
      for (const { drainedEntries } of buffers ?? []) {
        expect(drainedEntries).toBeGreaterThan(PER_ROUND / 2);
      }
      for (const { batches, fallbacks } of cleaned ?? []) {
        expect([batches > 0, fallbacks]).toEqual([true, 0]);
      }
    },
    LIMIT_MS,
  );

  it(
    "loses pages with a drain that waits for no entry, and the oracle sees it",
    async () => {
      const settings = { ...hdbss.settings, "hardware.weakHdbssOrdering": true };
      const [only] = await resultsOf(client, [{ ...hdbss, settings, seedBugs: ["B12"] }]);
      const lost = (only?.rows ?? []).reduce((sum, row) => sum + row.lost, 0);
      expect([only?.state, lost > 0]).toEqual(["done", true]);
    },
    LIMIT_MS,
  );
});
