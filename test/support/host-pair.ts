// Owns: two hosts as processes of their own that have each other in their lists, with one token.
// Test process.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, type RealService, startReal, temporary } from "./real-service.js";

const NAMES = ["host-a", "host-b"] as const;
export type HostName = (typeof NAMES)[number];

export interface TwoHosts {
  /** A folder of the test's own, removed in the end. */
  readonly folder: string;
  readonly token: string;
  readonly tokenFile: string;
  /** As it runs now. */
  host(name: HostName): RealService;
  /** Its port, on loopback; the same in each of its lives. */
  port(name: HostName): number;
  start(name: HostName): Promise<void>;
  call(host: HostName, method: string, path: string, body?: unknown): Promise<Answer>;
  stop(): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
  /** {} where the answer is no JSON. */
  readonly body: Record<string, unknown>;
}

export async function startTwoHosts(name: string): Promise<TwoHosts> {
  const folder = await temporary(name);
  const token = `token-of-${name}`;
  const tokenFile = join(folder.path, "token");
  writeFileSync(tokenFile, `${token}\n`);
  const digest = createHash("sha256").update(token).digest("hex");
  writeFileSync(join(folder.path, "tokens"), `operator * ${digest}\n`);
  const ports = { "host-a": await freePort(), "host-b": await freePort() };
  const hosts = new Map<HostName, RealService>();
  const host = (one: HostName): RealService => {
    const found = hosts.get(one);
    if (found === undefined) throw new Error(`${one} was never started`);
    return found;
  };
  const start = async (one: HostName): Promise<void> => {
    const other = one === "host-a" ? "host-b" : "host-a";
    const peersFile = join(folder.path, `peers-of-${one}.json`);
    const peer = { name: other, url: `http://127.0.0.1:${ports[other]}`, tokenFile };
    writeFileSync(peersFile, JSON.stringify([peer]));
    const env = {
      INSTANCE_NAME: one,
      PEERS_FILE: peersFile,
      TOKENS_FILE: join(folder.path, "tokens"),
    };
    const dataDir = join(folder.path, one);
    hosts.set(one, await startReal({ dataDir, port: ports[one], env }));
  };
  for (const one of NAMES) await start(one);
  return {
    ...{ folder: folder.path, token, tokenFile, host, start },
    port: (one) => ports[one],
    call: (one, method, path, body) => call(host(one).origin, token, method, path, body),
    stop: async () => {
      for (const one of hosts.values()) await one.stop();
      await folder.remove();
    },
  };
}

async function call(
  origin: string,
  token: string,
  method: string,
  path: string,
  body: unknown,
): Promise<Answer> {
  const isBytes = body instanceof Uint8Array;
  const answer = await fetch(`${origin}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined
        ? {}
        : { "content-type": isBytes ? "application/octet-stream" : "application/json" }),
    },
    ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
  });
  const text = await answer.text();
  const isJson = answer.headers.get("content-type")?.includes("json") === true;
  return { status: answer.status, text, body: isJson ? JSON.parse(text) : {} };
}
