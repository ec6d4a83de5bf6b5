// Owns: what a VM costs to have: create and delete over HTTP, durable before each answer, and the
// resident memory of VMs that do nothing.
import { Api } from "./support/client.js";
import { MIB } from "./support/guest.js";
import { type HostProcess, startHost } from "./support/host-process.js";
import { median, quantile, timedAsync } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

const IDLE_VMS = 50;
const CLIENTS = 4;

async function create(api: Api): Promise<string> {
  const { id } = await api.json<{ id: string }>("POST", "/v1/vms", {});
  return `/v1/vms/${id}`;
}

/** One after the other. */
async function latency(context: BenchContext, host: HostProcess, count: number): Promise<void> {
  const creates: number[] = [];
  const deletes: number[] = [];
  for (let n = 0; n < count; n++) {
    let path = "";
    creates.push(
      await timedAsync(async () => {
        path = await create(host.api);
      }),
    );
    deletes.push(await timedAsync(() => host.api.json("DELETE", path)));
  }
  for (const [what, times] of [
    ["create", creates],
    ["delete", deletes],
  ] as const) {
    context.report({ what: `${what}, p50`, figure: quantile(times, 0.5), unit: "ms" });
    context.report({ what: `${what}, p99`, figure: quantile(times, 0.99), unit: "ms" });
  }
}

/** Several clients at once. */
async function throughput(context: BenchContext, host: HostProcess, count: number): Promise<void> {
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => Api.open(host.port)));
  const creates: number[] = [];
  const deletes: number[] = [];
  for (let round = 0; round < (context.quick ? 1 : 5); round++) {
    const paths: string[] = [];
    const created = await timedAsync(() =>
      Promise.all(
        clients.map(async (api) => {
          for (let n = 0; n < count / CLIENTS; n++) paths.push(await create(api));
        }),
      ),
    );
    const deleted = await timedAsync(() =>
      Promise.all(
        clients.map(async (api) => {
          for (let path = paths.pop(); path !== undefined; path = paths.pop()) {
            await api.json("DELETE", path);
          }
        }),
      ),
    );
    creates.push((count / created) * 1000);
    deletes.push((count / deleted) * 1000);
  }
  for (const api of clients) api.close();
  context.report({ what: `create, ${CLIENTS} clients`, figure: median(creates), unit: "VMs/s" });
  context.report({ what: `delete, ${CLIENTS} clients`, figure: median(deletes), unit: "VMs/s" });
}

async function memory(context: BenchContext, host: HostProcess): Promise<void> {
  const count = context.quick ? 10 : IDLE_VMS;
  const before = await host.residentBytes();
  const paths: string[] = [];
  for (let n = 0; n < count; n++) paths.push(await create(host.api));
  const after = await host.residentBytes();
  for (const path of paths) await host.api.json("DELETE", path);
  const left = await host.residentBytes();
  const figure = (after - before) / count / MIB;
  context.report({ what: `resident memory of an idle VM, ${count} VMs`, figure, unit: "MiB" });
  const rest = (left - before) / count / MIB;
  context.report({ what: "resident memory left by a deleted VM", figure: rest, unit: "MiB" });
}

export default async function vmLifecycle(context: BenchContext): Promise<void> {
  const host = await startHost(context);
  try {
    await latency(context, host, context.quick ? 5 : 100);
    await throughput(context, host, context.quick ? 8 : 40);
    await memory(context, host);
  } finally {
    await host.end();
  }
}
