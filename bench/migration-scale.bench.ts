// Owns: how migrations grow: 64 GiB of which 4 GiB were stored to, carried in full and compared by
// the target, with what both hosts' processes need for it; and 20 migrations at once, with how long
// anybody else waits. --part large, or many. Bench process.
import { systemClock } from "../dist/base/clock.js";
import type { Client } from "../dist/cli/client.js";
import { NAMES, type Name, TwoHosts } from "../test/support/two-hosts.js";
import { type Asked, type Migration, migrate, vmOf } from "../tools/migrate/move.js";
import { Connection } from "./support/client.js";
import { GIB, MIB, PAGE } from "./support/guest.js";
import { quantile } from "./support/measure.js";
import { paced } from "./support/paced.js";
import type { BenchContext } from "./support/subject.js";

const PEAK_BAR = { on: "figure", at: "most", value: 600 } as const;
const P99_BAR = { on: "figure", at: "most", value: 50 } as const;
const MOVE_MS = 900_000;
const AT_ONCE = 20;
const POLL_MS = 100;
/** One in so many stores without end; the others have stored to every page once. */
const BUSY_EVERY = 5;
const SWEEP = { pattern: "sequential", bytes: 64 * MIB } as const;

const hex = (value: number): string => `0x${value.toString(16)}`;

interface Stores {
  readonly pattern: "sequential" | "uniform";
  readonly bytes: number;
  /** 0: without end. */
  readonly count: number;
}

/** @returns the VM's id; its vCPUs are there */
async function vmWith(client: Client, bytes: number, backing: "ram" | "unbacked", vcpus: number) {
  const { id: vm } = await client.call("createVm", {}, {});
  const object = { size: hex(bytes), backing };
  const { id: memoryObjectId } = await client.call("createMemoryObject", { vm }, object);
  const slot = { guestPhysAddr: "0x0", memorySize: hex(bytes), memoryObjectId };
  await client.call("setMemslot", { vm, slot: "0" }, slot);
  for (let n = 0; n < vcpus; n++) await client.call("createVcpu", { vm, n: String(n) }, {});
  return vm;
}

async function store(client: Client, vm: string, n: string, stores: Stores): Promise<string> {
  const { pattern, bytes, count } = stores;
  const window = { base: "0x0", bytes: hex(bytes), count, seed: hex(Number(n) + 1) };
  await client.call("setProgram", { vm, n }, { kind: "pattern", pattern, ...window });
  return (await client.call("createRun", { vm, n }, {})).id;
}

async function untilExited(client: Client, vm: string, run: string): Promise<void> {
  for (;;) {
    const found = await client.call("getRun", { vm, n: "0", run }, undefined, { wait: "30" });
    if (found.state === "exited") return;
  }
}

function requireCompleted({ state, failure }: Migration): void {
  if (state !== "completed") throw new Error(`${state}: ${failure?.detail ?? "no reason"}`);
}

async function large(context: BenchContext): Promise<void> {
  const [all, stored] = context.quick ? [8 * GIB, GIB / 4] : [64 * GIB, 4 * GIB];
  const hosts = await TwoHosts.start("scale");
  try {
    const client = hosts.client("host-a");
    const vm = await vmWith(client, all, "unbacked", 2);
    const pages = stored / PAGE;
    const run = await store(client, vm, "0", {
      pattern: "sequential",
      bytes: stored,
      count: pages,
    });
    await untilExited(client, vm, run);
    // While it moves another vCPU goes on with a part of them.
    await store(client, vm, "1", { pattern: "uniform", bytes: 32 * MIB, count: 0 });
    const peaks = () => NAMES.map((name) => hosts.host(name).peakMib());
    const before = peaks();
    const parameters = { downtimeMs: 2000, channels: 2 };
    const moved = await migrate(client, { vmId: vm, peer: "host-b", parameters }, MOVE_MS);
    requireCompleted(moved);
    const { uuid } = await client.call("getVm", { vm });
    await vmOf(hosts.client("host-b"), uuid);
    const { pagesSent = 0, pagesZero = 0, round = 0, bytes = 0 } = moved.progress ?? {};
    if (pagesSent < pages) throw new Error(`${pagesSent} pages went, ${pages} were stored to`);
    const totalMs = moved.statistics?.totalMs ?? 0;
    const downtimeMs = moved.statistics?.downtimeMs ?? 0;
    const what = `${all / GIB} GiB, ${stored / GIB} GiB of it stored to`;
    context.note(`${what}: ${pagesSent} pages in full, ${pagesZero} told, ${round} rounds`);
    context.report({ what: `${what}, total`, figure: totalMs / 1000, unit: "s" });
    context.report({ what: `${what}, pause`, figure: downtimeMs, unit: "ms" });
    const rate = bytes / MIB / (totalMs / 1000);
    context.report({ what: `${what}, stream`, figure: rate, unit: "MiB/s" });
    for (const [i, figure] of peaks().entries()) {
      const side = i === 0 ? "source" : "target";
      context.note(`${side}: peak ${Math.round(before[i] ?? 0)} MiB before it moved`);
      context.report({ what: `peak of the ${side}`, figure, unit: "MiB", bar: PEAK_BAR });
    }
  } finally {
    await hosts.stop();
  }
}

async function latency(context: BenchContext, hosts: TwoHosts, name: Name, what: string) {
  const connection = await Connection.open(hosts.host(name).port);
  const times = await paced(connection, context.quick ? 200 : 1000, hosts.headers);
  connection.close();
  const side = name === "host-a" ? "source" : "target";
  const p99 = quantile(times, 0.99);
  const bar = what === "before" ? {} : { bar: P99_BAR };
  context.report({ what: `GET /v1/vms p99, ${side}, ${what}`, figure: p99, unit: "ms", ...bar });
}

async function active(client: Client): Promise<number> {
  const query = { state: "active", limit: "1000" };
  return (await client.call("listMigrations", {}, undefined, query)).items.length;
}

/** Each is slow enough to be under way until all are measured. */
async function many(context: BenchContext): Promise<void> {
  const hosts = await TwoHosts.start("many", {
    MIGRATIONS_MAX: String(AT_ONCE),
    OVERLOAD_DELAY_MS: "0",
  });
  try {
    const client = hosts.client("host-a");
    const vms: string[] = [];
    for (let n = 0; n < AT_ONCE; n++) vms.push(await vmWith(client, 64 * MIB, "ram", 1));
    for (const [n, vm] of vms.entries()) {
      const isBusy = n % BUSY_EVERY === 0;
      const count = isBusy ? 0 : (64 * MIB) / PAGE;
      const run = await store(client, vm, "0", { ...SWEEP, count });
      if (!isBusy) await untilExited(client, vm, run);
    }
    for (const name of NAMES) await latency(context, hosts, name, "before");
    const parameters = { bandwidthBytesPerSecond: 2 * MIB, downtimeMs: 50_000 };
    const asked: readonly Asked[] = vms.map((vmId) => ({ vmId, peer: "host-b", parameters }));
    const start = systemClock.monotonicMs();
    const moving = Promise.all(asked.map((one) => migrate(client, one, MOVE_MS)));
    moving.catch(() => {});
    const begins = `${AT_ONCE} migrations begin`;
    await Promise.all(NAMES.map((name) => latency(context, hosts, name, begins)));
    context.note(`${await active(client)} of ${AT_ONCE} under way when it had been measured`);
    while ((await active(client)) < AT_ONCE) await systemClock.sleep(POLL_MS);
    const underWay = `${AT_ONCE} migrations`;
    await Promise.all(NAMES.map((name) => latency(context, hosts, name, underWay)));
    context.note(`${await active(client)} of ${AT_ONCE} under way when it had been measured`);
    for (const moved of await moving) requireCompleted(moved);
    const seconds = (systemClock.monotonicMs() - start) / 1000;
    context.report({ what: `${AT_ONCE} migrations at once, total`, figure: seconds, unit: "s" });
  } finally {
    await hosts.stop();
  }
}

export default async function migrationScale(context: BenchContext): Promise<void> {
  const { part } = context;
  for (const [name, measure] of Object.entries({ large, many })) {
    if (part === null || part === name) await measure(context);
  }
}
