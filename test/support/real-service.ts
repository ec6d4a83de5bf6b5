// Owns: the real service as a process of its own, which a test may end in any way. Test process.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../src/base/clock.js";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const START_MS = 60_000;
const STOP_MS = 20_000;
const POLL_MS = 25;
/** Characters kept of what it printed. */
const OUTPUT_MAX = 20_000;

export interface RealService {
  readonly origin: string;
  readonly port: number;
  readonly pid: number;
  /** The end of what it printed. */
  output(): string;
  isRunning(): boolean;
  /** Peak of resident memory so far, MiB; 0 where the system doesn't tell. */
  peakMib(): number;
  /** SIGTERM, then waits for the goodbye. @returns its exit code, or the signal that ended it */
  stop(): Promise<number | string>;
  /** SIGKILL: no goodbye. */
  crash(): Promise<void>;
}

export interface Options {
  readonly dataDir: string;
  /** 0: a free one. */
  readonly port?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Below what systems give out by themselves (32768 and up on Linux): whoever kills a host and
 * starts it again on its port must find nobody there who was given it meanwhile.
 */
const PORTS = { first: 20_000, count: 12_000 } as const;
/** Processes that test at the same time begin far from each other. */
let nextPort = process.pid * 97;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + (nextPort++ % PORTS.count);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** A directory under the system's temporary one, with its removal. */
export async function temporary(name: string): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), `tidemark-${name}-`));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/**
 * Starts `node dist/main.js` on loopback and waits until it is ready.
 * @throws Error with what it printed, when it ends or is not ready in time
 */
export async function startReal(options: Options): Promise<RealService> {
  const main = join(ROOT, "dist", "main.js");
  if (!existsSync(main)) throw new Error("dist/main.js is missing: npm run build makes it");
  const port = options.port ?? (await freePort());
  const child = spawn(process.execPath, [main], {
    cwd: ROOT,
    env: {
      PATH: process.env["PATH"],
      PORT: String(port),
      DATA_DIR: options.dataDir,
      LOG_LEVEL: "warn",
      // Other tests take the processor for seconds; that is not the load that a test is about.
      OVERLOAD_DELAY_MS: String(START_MS),
      ...options.env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString("utf8")).slice(-OUTPUT_MAX);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const origin = `http://127.0.0.1:${port}`;
  try {
    await untilReady(origin, child);
  } catch (error) {
    child.kill("SIGKILL");
    throw new Error(`${(error as Error).message}\n${output}`);
  }
  return {
    origin,
    port,
    pid: child.pid ?? 0,
    output: () => output,
    isRunning: () => !hasEnded(child),
    peakMib: () => peakMib(child.pid ?? 0),
    stop: () => end(child, "SIGTERM"),
    crash: async () => void (await end(child, "SIGKILL")),
  };
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function untilReady(origin: string, child: ChildProcess): Promise<void> {
  const deadline = systemClock.monotonicMs() + START_MS;
  while (systemClock.monotonicMs() < deadline) {
    if (hasEnded(child)) {
      throw new Error(`the service ended with ${child.exitCode ?? child.signalCode}`);
    }
    const answer = await fetch(`${origin}/readyz`).catch(() => null);
    await answer?.arrayBuffer();
    if (answer?.ok === true) return;
    await systemClock.sleep(POLL_MS);
  }
  throw new Error(`the service was not ready within ${START_MS} ms`);
}

async function end(child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<number | string> {
  if (!hasEnded(child)) {
    const ended = new Promise((resolve) => child.once("close", resolve));
    child.kill(signal);
    const cancel = systemClock.timer(STOP_MS, () => child.kill("SIGKILL"));
    await ended;
    cancel();
  }
  return child.exitCode ?? child.signalCode ?? "unknown";
}

function peakMib(pid: number): number {
  try {
    const kib = /^VmHWM:\s+([0-9]+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return Number(kib ?? 0) / 1024;
  } catch {
    return 0;
  }
}
