// Owns: starting, asking and ending the measured process. Bench process.
import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Api } from "./client.js";
import type { BenchContext } from "./subject.js";

const HOST = fileURLToPath(new URL("./host.mjs", import.meta.url));
/** The service ends its VMs and closes its records in this time, or is killed. */
const END_MS = 20_000;

type Ask =
  | { readonly kind: "octets"; readonly bytes: number }
  | { readonly kind: "json"; readonly text: string }
  | { readonly kind: "usage" };

export interface HostProcess {
  /** Of the service, and of the bare Fastify in the same process. */
  readonly port: number;
  readonly barePort: number;
  /** A connection to the service; closed with it. */
  readonly api: Api;
  /** The bare route GET /octets sends this many bytes from now on. */
  sendOctets(bytes: number): Promise<void>;
  /** The bare route GET /json sends this from now on. */
  sendJson(text: string): Promise<void>;
  /** Resident bytes after a collection. */
  residentBytes(): Promise<number>;
  end(): Promise<void>;
}

export interface HostOptions {
  readonly memoryBudgetMib?: number;
  readonly maxVms?: number;
}

/** Starts the service as it starts by default, but for its port, data and what `options` say. */
export async function startHost(
  context: BenchContext,
  options: HostOptions = {},
): Promise<HostProcess> {
  const dataDir = mkdtempSync(join(tmpdir(), "tidemark-bench-"));
  const environment = {
    DATA_DIR: dataDir,
    PORT: "0",
    OVERLOAD_DELAY_MS: "0",
    MEMORY_BUDGET_MIB: String(options.memoryBudgetMib ?? 0),
    MAX_VMS: String(options.maxVms ?? 256),
  };
  const { profileDir } = context;
  const profiling = profileDir === null ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDir}`];
  const child = fork(HOST, [JSON.stringify(environment)], {
    execArgv: ["--expose-gc", ...profiling],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const answers = new Map<number, (value: unknown) => void>();
  let next = 0;
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const ready = new Promise<{ port: number; barePort: number }>((resolve, reject) => {
    answers.set(-1, resolve as (value: unknown) => void);
    child.once("exit", (code) => reject(new Error(`the service ended with ${code}`)));
  });
  child.on("message", ({ id, value }: { id: number; value: unknown }) => {
    answers.get(id)?.(value);
    answers.delete(id);
  });
  const ask = (message: Ask): Promise<unknown> =>
    new Promise((resolve) => {
      const id = next++;
      answers.set(id, resolve);
      child.send({ ...message, id });
    });
  const { port, barePort } = await ready;
  const api = await Api.open(port);
  return {
    port,
    barePort,
    api,
    sendOctets: async (bytes) => void (await ask({ kind: "octets", bytes })),
    sendJson: async (text) => void (await ask({ kind: "json", text })),
    residentBytes: async () => ((await ask({ kind: "usage" })) as { rss: number }).rss,
    end: async () => {
      api.close();
      child.send({ kind: "end" });
      const limit = setTimeout(() => child.kill("SIGKILL"), END_MS);
      await ended;
      clearTimeout(limit);
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
