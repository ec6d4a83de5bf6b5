// Owns: whether guests that spin keep anybody waiting: latency of GET /v1/vms while four VMs run
// guest code without end, and how soon a kick ends one of them.

import { Connection } from "./support/client.js";
import { MIB } from "./support/guest.js";
import { type HostProcess, startHost } from "./support/host-process.js";
import { median, quantile } from "./support/measure.js";
import { paced } from "./support/paced.js";
import type { BenchContext } from "./support/subject.js";

const VMS = 4;
const CODE_AT = "0x40000000";
const PC = "0x6030000000100040";
const BAR = { on: "figure", at: "most", value: 20 } as const;

/** What the four do: nothing, arithmetic, stores to one page, exceptions without end. */
const LOOPS: readonly (readonly number[])[] = [
  // B .
  [0x1400_0000],
  // ADD X0, X0, #1; EOR X1, X1, X0; B
  [0x9100_0400, 0xca00_0021, 0x17ff_fffe],
  // ADR X2, .; STR X0, [X2, #2048]; ADD X0, X0, #1; B
  [0x1000_0002, 0xf904_0040, 0x9100_0400, 0x17ff_fffe],
  // SVC #0, with vectors where nothing is mapped
  [0xd400_0001],
];

function bytesOf(words: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * words.length);
  for (const [i, word] of words.entries()) bytes.writeUInt32LE(word, 4 * i);
  return bytes;
}

/** A VM whose only vCPU runs this. @returns the path of its run */
async function spinning({ api }: HostProcess, words: readonly number[]): Promise<string> {
  const { id } = await api.json<{ id: string }>("POST", "/v1/vms", {});
  const at = `/v1/vms/${id}`;
  const size = `0x${MIB.toString(16)}`;
  const object = await api.json<{ id: number }>("POST", `${at}/memory-objects`, { size });
  const slot = { guestPhysAddr: CODE_AT, memorySize: size, memoryObjectId: object.id };
  await api.json("PUT", `${at}/memslots/0`, slot);
  const base64 = bytesOf(words).toString("base64");
  await api.json("PUT", `${at}/physical-memory`, { gpa: CODE_AT, base64 });
  await api.json("PUT", `${at}/vcpus/0`, {});
  await api.json("POST", `${at}/vcpus/0/initializations`, { target: 5, features: [4] });
  await api.json("PUT", `${at}/vcpus/0/registers/${PC}`, { value: CODE_AT });
  const run = await api.json<{ id: string; state: string }>("POST", `${at}/vcpus/0/runs`, {});
  if (run.state !== "running") throw new Error(`the guest doesn't spin: ${run.state}`);
  return `${at}/vcpus/0/runs/${run.id}`;
}

async function latency(context: BenchContext, host: HostProcess, what: string): Promise<void> {
  const connection = await Connection.open(host.port);
  await paced(connection, 100);
  const p50: number[] = [];
  const p99: number[] = [];
  for (let round = 0; round < (context.quick ? 1 : 5); round++) {
    const times = await paced(connection, context.quick ? 200 : 1000);
    p50.push(quantile(times, 0.5));
    p99.push(quantile(times, 0.99));
  }
  connection.close();
  context.report({ what: `GET /v1/vms p50, ${what}`, figure: median(p50), unit: "ms" });
  context.report({ what: `GET /v1/vms p99, ${what}`, figure: median(p99), unit: "ms", bar: BAR });
}

export default async function spin(context: BenchContext): Promise<void> {
  const host = await startHost(context);
  try {
    await latency(context, host, "idle");
    const runs: string[] = [];
    for (let n = 0; n < VMS; n++) runs.push(await spinning(host, LOOPS[n % LOOPS.length]!));
    await latency(context, host, `${VMS} VMs spin`);
    const times: number[] = [];
    for (const run of runs) {
      const start = performance.now();
      await host.api.json("DELETE", run);
      const { state } = await host.api.json<{ state: string }>("GET", `${run}?wait=30`);
      if (state !== "exited") throw new Error(`a kicked guest goes on: ${state}`);
      times.push(performance.now() - start);
    }
    const what = `DELETE of a run to its exit, ${VMS} VMs spin, most`;
    context.report({ what, figure: Math.max(...times), unit: "ms" });
  } finally {
    await host.end();
  }
}
