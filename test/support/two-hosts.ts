// Owns: the compiled service as two processes that have each other in their lists, with tokens.
// Test process.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { systemClock } from "../../src/base/clock.js";
import { freePort, type RealService, startReal, temporary } from "./real-service.js";

export type Json = Record<string, unknown>;
export interface Migration extends Json {
  readonly id: string;
  readonly state: string;
  readonly point: string;
  readonly vmId: string;
  readonly failure: Json | null;
}

const TOKEN = "a-token-of-this-test";
const WAIT_MS = 60_000;
const POLL_MS = 50;
const NAMES = ["host-a", "host-b"] as const;
type Name = (typeof NAMES)[number];
const ENDED = ["completed", "failed", "cancelled"];

export class TwoHosts {
  readonly #hosts = new Map<Name, RealService>();
  readonly #ports = new Map<Name, number>();
  readonly #folder: { path: string; remove(): Promise<void> };

  static async start(what: string): Promise<TwoHosts> {
    const hosts = new TwoHosts(await temporary(what));
    for (const name of NAMES) hosts.#ports.set(name, await freePort());
    for (const name of NAMES) await hosts.start(name);
    return hosts;
  }

  private constructor(folder: { path: string; remove(): Promise<void> }) {
    this.#folder = folder;
  }

  async start(name: Name): Promise<void> {
    const dataDir = join(this.#folder.path, name);
    const port = this.#ports.get(name) ?? 0;
    this.#hosts.set(name, await startReal({ dataDir, port, env: this.#configure(name) }));
  }

  #configure(name: Name): Record<string, string> {
    const other = NAMES.find((one) => one !== name) ?? name;
    const file = (kind: string) => join(this.#folder.path, `${name}-${kind}`);
    const digest = createHash("sha256").update(TOKEN).digest("hex");
    writeFileSync(file("tokens"), `operator * ${digest}\n`);
    writeFileSync(file("token"), `${TOKEN}\n`);
    const url = `http://127.0.0.1:${this.#ports.get(other)}`;
    writeFileSync(
      file("peers.json"),
      JSON.stringify([{ name: other, url, tokenFile: file("token") }]),
    );
    return {
      INSTANCE_NAME: name,
      PEERS_FILE: file("peers.json"),
      TOKENS_FILE: file("tokens"),
    };
  }

  async crash(name: Name): Promise<void> {
    await this.#hosts.get(name)?.crash();
  }

  async stop(): Promise<void> {
    for (const host of this.#hosts.values()) await host.stop();
    await this.#folder.remove();
  }

  async fetch(host: Name, path: string): Promise<Response> {
    const headers = { authorization: `Bearer ${TOKEN}` };
    return fetch(`${this.#hosts.get(host)?.origin}${path}`, { headers });
  }

  async call(host: Name, method: string, path: string, body?: unknown) {
    const isBytes = body instanceof Uint8Array;
    const type = isBytes ? "application/octet-stream" : "application/json";
    const answer = await fetch(`${this.#hosts.get(host)?.origin}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${TOKEN}`,
        ...(body === undefined ? {} : { "content-type": type }),
      },
      ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
    });
    const text = await answer.text();
    const isJson = answer.headers.get("content-type")?.includes("json") === true;
    return { status: answer.status, body: (isJson ? JSON.parse(text) : { text }) as Json };
  }

  async get(host: Name, path: string): Promise<Json> {
    return (await this.call(host, "GET", path)).body;
  }

  /** A board with an image, running. */
  async boot(host: Name, name: string, image: Uint8Array, memoryMiB: number): Promise<string> {
    const put = await this.call(host, "PUT", `/v1/images/${name}`, image);
    expect(put.status).toBeLessThan(300);
    const board = { image: name, memoryMiB };
    const made = await this.call(host, "POST", "/v1/vms", { name: `${name}-guest`, board });
    expect([made.status, made.body]).toEqual([201, made.body]);
    const vm = `/v1/vms/${made.body["id"]}`;
    await this.call(host, "POST", `${vm}:start`);
    return vm;
  }

  /** @returns the session's id */
  async begin(from: Name, vm: string, body: Json): Promise<string> {
    const vmId = vm.split("/").at(-1);
    const made = await this.call(from, "POST", "/v1/migrations", { vmId, ...body });
    expect([made.status, made.body]).toEqual([202, made.body]);
    return String(made.body["id"]);
  }

  /** Until a session has ended, or is in one of these states. */
  async reached(host: Name, id: string, states: readonly string[] = ENDED): Promise<Migration> {
    return until(async () => {
      const found = (await this.get(host, `/v1/migrations/${id}`)) as Migration;
      return states.includes(found.state) || ENDED.includes(found.state) ? found : null;
    }, `was ${states}`);
  }
}

export async function until<T>(look: () => Promise<T | null>, what: string): Promise<T> {
  const end = systemClock.monotonicMs() + WAIT_MS;
  while (systemClock.monotonicMs() < end) {
    const found = await look();
    if (found !== null) return found;
    await systemClock.sleep(POLL_MS);
  }
  throw new Error(`never ${what}`);
}
