// Owns: a service started for one purpose as a process of its own, on a free port with a data
// directory that goes with it. Any thread.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.js";

const START_MS = 60_000;
const STOP_MS = 15_000;
const POLL_MS = 50;
/** Characters kept of what the service printed. */
const OUTPUT_MAX = 8000;

export interface ServiceProcess {
  readonly origin: string;
  /** The end of what it printed. */
  output(): string;
  /** Whether it has ended by itself. */
  hasEnded(): boolean;
  /** Ends it and removes its data. */
  stop(): Promise<void>;
}

/**
 * Starts `node dist/main.js` and waits until it is ready.
 * @param root the project's directory
 * @throws Error when it is not built, ends early or does not become ready in time
 */
export async function startService(root: string): Promise<ServiceProcess> {
  const main = join(root, "dist", "main.js");
  if (!existsSync(main)) throw new Error("dist/main.js is missing: run `npm run build` first");
  const dataDir = await mkdtemp(join(tmpdir(), "tidemark-conformance-"));
  const port = await freePort();
  const child = spawn(process.execPath, [main], {
    cwd: root,
    env: serviceEnvironment(port, dataDir),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString("utf8")).slice(-OUTPUT_MAX);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const origin = `http://127.0.0.1:${port}`;
  const stop = async (): Promise<void> => {
    await endProcess(child);
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    await waitUntilReady(origin, child);
  } catch (error) {
    await stop();
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${reason}\n${output}`);
  }
  return { origin, output: () => output, hasEnded: () => hasEnded(child), stop };
}

/** A replay sends many requests from one address; no limit may get in its way. */
function serviceEnvironment(port: number, dataDir: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env["PATH"],
    HOST: "127.0.0.1",
    PORT: String(port),
    DATA_DIR: dataDir,
    LOG_LEVEL: "warn",
    OVERLOAD_DELAY_MS: String(START_MS),
    NODE_ENV: "production",
  };
}

async function waitUntilReady(origin: string, child: ChildProcess): Promise<void> {
  const end = systemClock.monotonicMs() + START_MS;
  while (systemClock.monotonicMs() < end) {
    if (hasEnded(child)) {
      throw new Error(`the service ended with ${child.exitCode ?? child.signalCode}`);
    }
    const answer = await fetch(`${origin}/readyz`).catch(() => null);
    if (answer?.ok === true) return;
    await systemClock.sleep(POLL_MS);
  }
  throw new Error(`the service was not ready within ${START_MS} ms`);
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  const cancel = systemClock.timer(STOP_MS, () => child.kill("SIGKILL"));
  await ended;
  cancel();
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
