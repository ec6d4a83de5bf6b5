// Owns: whether the service stays deaf to nobody: latency of GET /v1/vms while one VM stores at
// full speed and another runs CLEARs of a 64 GiB slot that its own vCPU keeps dirtying. Requests
// leave at fixed times whatever became of the last one, and each is timed from when it should have
// left.
import { Api, Connection } from "./support/client.js";
import { GIB, Guest, MIB, storesFor } from "./support/guest.js";
import { type HostProcess, startHost } from "./support/host-process.js";
import { median, quantile } from "./support/measure.js";
import { paced } from "./support/paced.js";
import type { BenchContext } from "./support/subject.js";

async function measure(
  context: BenchContext,
  host: HostProcess,
  what: string,
): Promise<{ p50: number; p99: number }> {
  const connection = await Connection.open(host.port);
  const count = context.quick ? 200 : 1000;
  await paced(connection, 100);
  const p50: number[] = [];
  const p99: number[] = [];
  for (let round = 0; round < (context.quick ? 1 : 5); round++) {
    const times = await paced(connection, count);
    p50.push(quantile(times, 0.5));
    p99.push(quantile(times, 0.99));
  }
  connection.close();
  context.report({ what: `GET /v1/vms p50, ${what}`, figure: median(p50), unit: "ms" });
  context.report({ what: `GET /v1/vms p99, ${what}`, figure: median(p99), unit: "ms" });
  return { p50: median(p50), p99: median(p99) };
}

/** CLEARs of every page, one after the other, until told to stop. */
function clearing(guest: Guest, api: Api): { stop(): Promise<number[]> } {
  const bits = new Uint8Array(guest.bitmapBytes).fill(0xff);
  let goesOn = true;
  const times: number[] = [];
  const ended = (async () => {
    while (goesOn) {
      const start = performance.now();
      await api.bytes("POST", guest.clearPath, bits);
      times.push(performance.now() - start);
    }
  })();
  return {
    stop: async () => {
      goesOn = false;
      await ended;
      return times;
    },
  };
}

export default async function apiLatency(context: BenchContext): Promise<void> {
  const host = await startHost(context);
  try {
    const bytes = (context.quick ? 4 : 64) * GIB;
    const storing = await Guest.create(host.api, { bytes: GIB });
    const cleared = await Guest.create(host.api, { bytes });
    await cleared.program({ pattern: "uniform", bytes, count: storesFor(0.02, cleared.pages) });
    await cleared.finish();
    await measure(context, host, "idle");
    await storing.program({ pattern: "uniform", bytes: 64 * MIB, count: 0 });
    const first = await storing.start();
    await measure(context, host, "one VM stores");
    await cleared.program({ pattern: "uniform", bytes, count: 0 });
    const second = await cleared.start();
    const api = await Api.open(host.port);
    const clears = clearing(cleared, api);
    await measure(context, host, "one VM stores, one clears 64 GiB");
    const times = await clears.stop();
    context.note(`${times.length} CLEARs meanwhile, p50 ${quantile(times, 0.5).toFixed(0)} ms`);
    api.close();
    await storing.kick(first);
    await cleared.kick(second);
  } finally {
    await host.end();
  }
}
