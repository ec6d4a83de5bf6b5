// Owns: `tidemark dirty-log-perf` from its options to its report. CLI process.
import { type Client, Refused } from "../client.js";
import { Cleanup, endings, type Terminal } from "../ending.js";
import { EXIT } from "../failure.js";
import { openHost } from "../host.js";
import { HDBSS_CAP, PerfGuest } from "./guest.js";
import { measure } from "./measure.js";
import { type Costs, costsWith } from "./model.js";
import { PERF_USAGE, perfOptions } from "./options.js";
import { type Measured, textOf } from "./report.js";
import { allStrategies, type Strategy } from "./strategy.js";

const NOT_FOUND = 404;

/** Every strategy that the host's CPUs are able to. */
async function strategiesOf(client: Client): Promise<readonly Strategy[]> {
  const hasHdbss = await client.call("getHostCapability", { cap: HDBSS_CAP }).then(
    ({ value }) => value > 0,
    (error: unknown) => {
      if (error instanceof Refused && error.status === NOT_FOUND) return false;
      throw error;
    },
  );
  return allStrategies().filter(({ hdbssOrder }) => hdbssOrder === null || hasHdbss);
}

async function costModel(client: Client): Promise<Costs> {
  const { items } = await client.call("getCostModel");
  return Object.fromEntries(items.map(({ key, cycles }) => [key, cycles]));
}

/** @returns the exit code */
export async function dirtyLogPerf(args: readonly string[], terminal: Terminal): Promise<number> {
  const options = perfOptions(args);
  if (options === null) {
    terminal.write(PERF_USAGE);
    return EXIT.ok;
  }
  const { ending, stop } = endings("The test", options.timeoutS, terminal);
  const { signal } = ending.controller;
  const host = await openHost(options);
  const all: Measured[] = [];
  let costs: Costs = {};
  try {
    costs = costsWith(options.costs, await costModel(host.client));
    for (const strategy of options.strategies ?? (await strategiesOf(host.client))) {
      const cleanup = new Cleanup();
      try {
        const onCreated = (vm: string) => cleanup.add(() => host.client.call("deleteVm", { vm }));
        const guest = await PerfGuest.create(host.client, options, strategy, onCreated);
        signal.throwIfAborted();
        const phases = await measure(guest, options, costs, signal);
        all.push({ strategy: strategy.name, phases });
      } finally {
        await cleanup.run();
      }
    }
  } catch (error) {
    throw ending.cause ?? error;
  } finally {
    stop();
    await host.close();
  }
  const { server, tokenFile, asJson, strategies, ...asked } = options;
  const json = { ...asked, costs, strategies: all };
  terminal.write(asJson ? `${JSON.stringify(json, null, 2)}\n` : textOf(options, all));
  return EXIT.ok;
}
