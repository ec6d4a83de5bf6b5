// Owns: two hosts that are each other's peers, as processes of their own. Tool, test and bench
// process; starts them and ends them by id.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "../../dist/cli/client.js";
import {
  freePort,
  type RealService,
  startReal,
  temporary,
} from "../../test/support/real-service.js";

export type Name = "a" | "b";
export const other = (name: Name): Name => (name === "a" ? "b" : "a");

interface Place {
  readonly directory: Awaited<ReturnType<typeof temporary>>;
  readonly port: number;
  readonly dataPort: number;
  service: RealService | null;
}

export interface Pair {
  client(name: Name): Client;
  service(name: Name): RealService;
  /** SIGKILL. */
  crash(name: Name): Promise<void>;
  /** On the same port, with the same data. */
  start(name: Name): Promise<void>;
  close(): Promise<void>;
}

async function place(name: Name): Promise<Place> {
  const directory = await temporary(`host-${name}`);
  return { directory, port: await freePort(), dataPort: await freePort(), service: null };
}

export async function startPair(env: Readonly<Record<string, string>> = {}): Promise<Pair> {
  const places = { a: await place("a"), b: await place("b") };
  const start = async (name: Name): Promise<void> => {
    const { directory, port, dataPort } = places[name];
    const peers = join(directory.path, "peers.json");
    const url = `http://127.0.0.1:${places[other(name)].port}`;
    writeFileSync(peers, JSON.stringify([{ name: `host-${other(name)}`, url }]));
    places[name].service = await startReal({
      dataDir: directory.path,
      port,
      env: {
        INSTANCE_NAME: `host-${name}`,
        PEERS_FILE: peers,
        DATA_PLANE_PORT: String(dataPort),
        ...env,
      },
    });
  };
  const running = (name: Name): RealService => {
    const { service } = places[name];
    if (service === null) throw new Error(`host-${name} doesn't run`);
    return service;
  };
  await Promise.all([start("a"), start("b")]);
  return {
    client: (name) => new Client(running(name).origin, null),
    service: running,
    start,
    crash: async (name) => {
      await running(name).crash();
      places[name].service = null;
    },
    close: async () => {
      for (const { service, directory } of Object.values(places)) {
        await service?.stop();
        await directory.remove();
      }
    },
  };
}
