// Owns: requests per second of trivial GETs against a bare Fastify route of the same process that
// answers the same JSON. autocannon in a process of its own, ten keep-alive connections, both sides
// in turns of a second or two.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { Guest, MIB } from "./support/guest.js";
import { type HostProcess, startHost } from "./support/host-process.js";
import { compare } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

const BAR = { on: "ratio", at: "least", value: 0.7 } as const;
const CONNECTIONS = 10;
const AUTOCANNON = createRequire(import.meta.url).resolve("autocannon");

interface Shot {
  readonly requests: { readonly average: number };
  readonly non2xx: number;
  readonly errors: number;
}

/** @returns requests per second */
async function fire(url: string, seconds: number): Promise<number> {
  const args = ["--json", "-c", String(CONNECTIONS), "-d", String(seconds), url];
  const child = spawn(process.execPath, [AUTOCANNON, ...args], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await new Promise<void>((resolve) => child.once("close", () => resolve()));
  const shot = JSON.parse(text) as Shot;
  if (shot.non2xx > 0 || shot.errors > 0) throw new Error(`${url}: ${text}`);
  return shot.requests.average;
}

async function measure(
  context: BenchContext,
  host: HostProcess,
  path: string,
  what: string,
  held: boolean,
): Promise<void> {
  const answer = await host.api.connection.request("GET", path, { keep: true });
  await host.sendJson(answer.body.toString("utf8"));
  const seconds = context.quick ? 1 : 2;
  const ours = () => fire(`http://127.0.0.1:${host.port}${path}`, seconds);
  const theirs = () => fire(`http://127.0.0.1:${host.barePort}/json`, seconds);
  await ours();
  await theirs();
  const compared = await compare(context.quick ? 2 : 7, ours, theirs);
  context.note(`${what}: ${answer.bytes} bytes, bare ${Math.round(compared.theirs)} /s`);
  context.report({
    what,
    figure: compared.ours,
    unit: "req/s",
    ratio: compared.ratio,
    ...(held ? { bar: BAR } : {}),
  });
}

export default async function httpTrivial(context: BenchContext): Promise<void> {
  const host = await startHost(context);
  try {
    const guest = await Guest.create(host.api, { bytes: 64 * MIB });
    await measure(context, host, "/version", "GET /version", true);
    await measure(context, host, "/v1/host", "GET /v1/host", true);
    // These do more than answer: one reads the registry, the other visits the VM's thread.
    await measure(context, host, "/v1/vms", "GET /v1/vms, one VM", false);
    await measure(context, host, guest.path, "GET /v1/vms/{vm}", false);
  } finally {
    await host.end();
  }
}
