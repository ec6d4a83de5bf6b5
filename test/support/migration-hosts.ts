// Owns: two whole hosts in one process whose ways to each other, stores and clocks a test can put
// out of order. Test process; runs compiled code, whose threads are the service's own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createLogger } from "../../dist/api/index.js";
import { buildApp, hostUapi } from "../../dist/app.js";
import { type Clock, systemClock } from "../../dist/base/clock.js";
import { Client } from "../../dist/cli/client.js";
import { loadConfig } from "../../dist/config.js";
import { startDataPlane } from "../../dist/migration/index.js";
import { createRuntime } from "../../dist/runtime/index.js";
import { createServices } from "../../dist/service/index.js";
import { type Change, openStore, type Store } from "../../dist/store/index.js";
import type { Migration } from "../../tools/migrate/move.js";
import { CuttingProxy } from "./cutting-proxy.js";
import { freePort, ROOT, temporary } from "./real-service.js";
import { type Answered, RequestProxy } from "./request-proxy.js";
import { until } from "./two-hosts.js";

/** A cut of the pages' way is given up so soon. */
const GIVE_UP_MS = 3_000;
/** A target that hears nothing asks so soon. */
const SILENCE_MS = 2_000;
const MIB = 2 ** 20;

export type Name = "a" | "b";

export interface TestHost {
  readonly origin: string;
  readonly client: Client;
  readonly databaseFile: string;
  /** Stands before its API, for the other host. */
  readonly proxy: RequestProxy;
  /** Before its pages, once it has made an offer. */
  pages: CuttingProxy | null;
  /** Commits with such a change fail as on a full disk; null: none. */
  full: ((change: Change) => boolean) | null;
  /** Milliseconds that its wall clock is wrong by. */
  jumpMs: number;
  close(): Promise<void>;
}

export interface Hosts {
  readonly a: TestHost;
  readonly b: TestHost;
  close(): Promise<void>;
}

/** Its wall clock jumps; timers and monotonic time don't, as on Linux. */
function jumpingClock(jump: () => number): Clock {
  return { ...systemClock, nowMs: () => systemClock.nowMs() + jump() };
}

function guarded(store: Store, isFull: (change: Change) => boolean): Store {
  const commit: Store["commit"] = (changes) =>
    changes.some(isFull)
      ? Promise.reject(new Error("database or disk is full"))
      : store.commit(changes);
  return new Proxy(store, {
    get: (target, key) => {
      if (key === "commit") return commit;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

async function startHost(name: Name, port: number, proxy: RequestProxy, other: RequestProxy) {
  const directory = await temporary(`outcomes-${name}`);
  const state = { full: null as TestHost["full"], jumpMs: 0 };
  const clock = jumpingClock(() => state.jumpMs);
  const log = createLogger("silent");
  const databaseFile = join(directory.path, "tidemark.db");
  const store = await openStore({ file: databaseFile, clock, log });
  const bounds = { memoryBudgetBytes: 512 * MIB, inputLogEntries: 1000, maxVms: 16 };
  const runtime = createRuntime({ ...bounds, translationDelay: 0 }, { clock, log });
  const address = { host: "127.0.0.1", port: 0, tls: null, url: null };
  const patience = { giveUpMs: GIVE_UP_MS, stallMs: GIVE_UP_MS };
  const many = { connectionsMax: 64, sessionsMax: 64 };
  const plane = await startDataPlane({ ...address, ...patience, ...many }, log);
  const peer = { name: name === "a" ? "host-b" : "host-a", url: other.url };
  const migration = {
    instance: `host-${name}`,
    peers: [{ ...peer, token: null, certificatePin: null, ca: null }],
    plane,
    runningMax: 8,
    silenceMs: SILENCE_MS,
  };
  const services = await createServices({
    store: guarded(store, (change) => state.full?.(change) ?? false),
    ...{ runtime, clock, log },
    uapi: hostUapi(),
    config: { version: "0.0.0", migration },
  });
  const config = loadConfig({ OVERLOAD_DELAY_MS: "0" });
  const { app } = buildApp({ config, services, clock, log });
  const origin = await app.listen({ host: "127.0.0.1", port });
  return Object.assign(state, {
    ...{ databaseFile, proxy, pages: null as CuttingProxy | null },
    origin,
    client: new Client(origin, null),
    close: async () => {
      app.server.closeAllConnections();
      await app.close();
      await services.close();
      await plane.close();
      await runtime.close();
      await store.close();
      await directory.remove();
    },
  });
}

export async function startHosts(): Promise<Hosts> {
  const ports = { a: await freePort(), b: await freePort() };
  const before = async (name: Name) => RequestProxy.start(`http://127.0.0.1:${ports[name]}`);
  const proxies = { a: await before("a"), b: await before("b") };
  const a = await startHost("a", ports.a, proxies.a, proxies.b);
  const b = await startHost("b", ports.b, proxies.b, proxies.a);
  return {
    a,
    b,
    close: async () => {
      for (const host of [a, b]) {
        await host.pages?.close();
        await host.proxy.close();
        await host.close();
      }
    },
  };
}

/** An offer whose pages go through a proxy that can be cut. */
export async function throughPages(host: TestHost, answered: Answered): Promise<Answered> {
  if (answered.status >= 300) return answered;
  const offer = JSON.parse(answered.body.toString()) as { dataPlane: { url: string } };
  host.pages ??= await CuttingProxy.start(offer.dataPlane.url);
  offer.dataPlane.url = host.pages.url;
  return { ...answered, body: Buffer.from(JSON.stringify(offer)) };
}

const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

/** The session of a VM at a host, once it has ended. */
export function ended(host: TestHost, uuid: string): Promise<Migration> {
  return until(async () => {
    const { items } = await host.client.call("listMigrations", {}, undefined, { limit: "1000" });
    const found = items.find(({ vmUuid }) => vmUuid === uuid);
    return found !== undefined && ENDED.has(found.state) ? found : null;
  }, "ended");
}

const LOCKER = `
const [file, ms] = process.argv.slice(1);
const database = require("better-sqlite3")(file);
database.exec("BEGIN IMMEDIATE");
console.log("locked");
setTimeout(() => database.exec("ROLLBACK"), Number(ms));
`;

/** Another process has the database's write lock when this resolves, for so long. */
export async function lockDatabase(file: string, ms: number): Promise<{ ended: Promise<unknown> }> {
  const args = ["-e", LOCKER, file, String(ms)];
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "close");
  await once(child.stdout, "data");
  return { ended };
}
