// Owns: the compiled service as two processes that have each other in their lists, with a token.
// Test, tool and bench process; starts them and ends them by id.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "../../dist/cli/client.js";
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

export interface Answer {
  readonly status: number;
  readonly text: string;
  /** {} where the answer is no JSON. */
  readonly body: Json;
}

export const NAMES = ["host-a", "host-b"] as const;
export type Name = (typeof NAMES)[number];
export const other = (name: Name): Name => (name === "host-a" ? "host-b" : "host-a");

const WAIT_MS = 60_000;
const POLL_MS = 20;
const ENDED = ["completed", "failed", "cancelled"];

/** The same in each of a host's lives. */
interface Place {
  readonly port: number;
  readonly dataPort: number;
  service: RealService | null;
}

export class TwoHosts {
  /** A folder of whoever started them, removed in the end. */
  readonly folder: string;
  readonly tokenFile: string;
  readonly #token: string;
  readonly #places: Readonly<Record<Name, Place>>;
  readonly #env: Readonly<Record<string, string>>;
  readonly #remove: () => Promise<void>;

  /**
   * @param what names the folder
   * @param env more of the environment of both
   */
  static async start(what: string, env: Readonly<Record<string, string>> = {}): Promise<TwoHosts> {
    const folder = await temporary(what);
    const [a, b] = [await freePlace(), await freePlace()];
    const hosts = new TwoHosts(what, folder, { "host-a": a, "host-b": b }, env);
    const started = await Promise.allSettled(NAMES.map((name) => hosts.start(name)));
    const failed = started.find(({ status }) => status === "rejected");
    if (failed === undefined) return hosts;
    await hosts.stop();
    throw (failed as PromiseRejectedResult).reason;
  }

  private constructor(
    what: string,
    folder: { path: string; remove(): Promise<void> },
    places: Readonly<Record<Name, Place>>,
    env: Readonly<Record<string, string>>,
  ) {
    this.folder = folder.path;
    this.#token = `token-of-${what}`;
    this.tokenFile = join(folder.path, "token");
    this.#places = places;
    this.#env = env;
    this.#remove = folder.remove;
    const digest = createHash("sha256").update(this.#token).digest("hex");
    writeFileSync(this.tokenFile, `${this.#token}\n`);
    writeFileSync(this.#tokensFile, `operator * ${digest}\n`);
  }

  get #tokensFile(): string {
    return join(this.folder, "tokens");
  }

  /** On the same ports, with the same data. */
  async start(name: Name): Promise<void> {
    const place = this.#places[name];
    const peersFile = join(this.folder, `peers-of-${name}.json`);
    const url = `http://127.0.0.1:${this.port(other(name))}`;
    const peer = { name: other(name), url, tokenFile: this.tokenFile };
    writeFileSync(peersFile, JSON.stringify([peer]));
    place.service = await startReal({
      dataDir: join(this.folder, name),
      port: place.port,
      env: {
        INSTANCE_NAME: name,
        PEERS_FILE: peersFile,
        TOKENS_FILE: this.#tokensFile,
        DATA_PLANE_PORT: String(place.dataPort),
        ...this.#env,
      },
    });
  }

  /** SIGKILL. */
  async crash(name: Name): Promise<void> {
    await this.host(name).crash();
    this.#places[name].service = null;
  }

  async stop(): Promise<void> {
    for (const { service } of Object.values(this.#places)) await service?.stop();
    await this.#remove();
  }

  /** As it runs now. */
  host(name: Name): RealService {
    const { service } = this.#places[name];
    if (service === null) throw new Error(`${name} doesn't run`);
    return service;
  }

  port(name: Name): number {
    return this.#places[name].port;
  }

  client(name: Name): Client {
    return new Client(this.host(name).origin, this.#token);
  }

  get headers(): { readonly authorization: string } {
    return { authorization: `Bearer ${this.#token}` };
  }

  fetch(host: Name, path: string): Promise<Response> {
    return fetch(`${this.host(host).origin}${path}`, { headers: this.headers });
  }

  async call(host: Name, method: string, path: string, body?: unknown): Promise<Answer> {
    const isBytes = body instanceof Uint8Array;
    const json = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    const type = isBytes ? "application/octet-stream" : json;
    const answer = await fetch(`${this.host(host).origin}${path}`, {
      method,
      headers: { ...this.headers, ...(body === undefined ? {} : { "content-type": type }) },
      ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
    });
    const text = await answer.text();
    const isJson = answer.headers.get("content-type")?.includes("json") === true;
    return { status: answer.status, text, body: (isJson ? JSON.parse(text) : {}) as Json };
  }

  async get(host: Name, path: string): Promise<Json> {
    return (await this.call(host, "GET", path)).body;
  }

  /** @throws Error unless it is answered with one of these statuses; none: with success */
  async ok(
    host: Name,
    method: string,
    path: string,
    body?: unknown,
    statuses: readonly number[] = [],
  ): Promise<Json> {
    const answer = await this.call(host, method, path, body);
    const { status, text } = answer;
    if (statuses.includes(status) || (statuses.length === 0 && status < 300)) return answer.body;
    throw new Error(`${method} ${path} at ${host}: ${status} ${text}`);
  }

  /** A board with an image, running. */
  async boot(
    host: Name,
    name: string,
    image: Uint8Array,
    { memoryMiB = 16, labels = {} }: { memoryMiB?: number; labels?: Record<string, string> } = {},
  ): Promise<string> {
    await this.ok(host, "PUT", `/v1/images/${name}`, image);
    const board = { image: name, memoryMiB };
    const body = { name: `${name}-guest`, labels, board };
    const vm = `/v1/vms/${(await this.ok(host, "POST", "/v1/vms", body, [201]))["id"]}`;
    await this.ok(host, "POST", `${vm}:start`);
    return vm;
  }

  /** @returns the session's id */
  async begin(from: Name, vm: string, body: Json): Promise<string> {
    const asked = { vmId: vm.split("/").at(-1), ...body };
    return String((await this.ok(from, "POST", "/v1/migrations", asked, [202]))["id"]);
  }

  /** Until a session has ended, or is in one of these states. */
  reached(host: Name, id: string, states: readonly string[] = ENDED): Promise<Migration> {
    const path = `/v1/migrations/${id}${states === ENDED ? "?wait=5" : ""}`;
    return until(async () => {
      const found = (await this.get(host, path)) as Migration;
      return states.includes(found.state) || ENDED.includes(found.state) ? found : null;
    }, `was ${states}`);
  }

  /** From its beginning to its end. */
  async move(from: Name, vm: string, body: Json): Promise<Migration> {
    return this.reached(from, await this.begin(from, vm, body));
  }
}

async function freePlace(): Promise<Place> {
  return { port: await freePort(), dataPort: await freePort(), service: null };
}

/** Waits until something is so. @throws Error when it is too late */
export async function until<T>(
  look: () => Promise<T | null>,
  what: string,
  withinMs = WAIT_MS,
): Promise<T> {
  const end = systemClock.monotonicMs() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (systemClock.monotonicMs() > end) throw new Error(`never ${what}`);
    await systemClock.sleep(POLL_MS);
  }
}
