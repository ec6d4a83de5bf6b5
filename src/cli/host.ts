// Owns: the host that a command talks to: a given one, or one of its own for as long as it takes.
// CLI process.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "./client.js";
import { Failure } from "./failure.js";

export interface HostOptions {
  /** null: a host of its own. */
  readonly server: string | null;
  readonly tokenFile: string | null;
}

export interface OpenHost {
  readonly client: Client;
  close(): Promise<void>;
}

async function readToken(path: string | null): Promise<string | null> {
  if (path === null) return null;
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    throw new Failure(`--token-file ${path} can't be read: ${(error as Error).message}.`);
  }
}

/** On loopback, on a free port, with its records in a directory that goes with it. */
async function ownHost(): Promise<OpenHost> {
  const [{ createHost }, { loadConfig }] = await Promise.all([
    import("../app.js"),
    import("../config.js"),
  ]);
  const folder = await mkdtemp(join(tmpdir(), "tidemark-run-"));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const config = loadConfig({
      HOST: "127.0.0.1",
      PORT: "0",
      DATA_DIR: folder,
      LOG_LEVEL: "silent",
      // Nobody else is kept waiting.
      OVERLOAD_DELAY_MS: "0",
      BINARY_BODY_MIB: "1024",
    });
    const host = await createHost(config);
    const origin = await host.app.listen({ host: config.host, port: config.port });
    return {
      client: new Client(origin, null),
      close: async () => {
        await host.close();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

export async function openHost({ server, tokenFile }: HostOptions): Promise<OpenHost> {
  if (server === null) return ownHost();
  const client = new Client(server, await readToken(tokenFile));
  return { client, close: async () => {} };
}
