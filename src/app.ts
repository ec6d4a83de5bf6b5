// Owns: the wiring: the only file that knows every room. HTTP thread. Knows no process: main.ts
// listens, prints and exits.
import { readFileSync } from "node:fs";
import { access, constants, mkdir, readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import {
  type Api,
  type ApiOptions,
  type ApiParts,
  buildApi,
  createLogger,
  readTokens,
  type TokenTable,
} from "./api/index.js";
import { type Clock, systemClock } from "./base/clock.js";
import { KvmError } from "./base/errors.js";
import { pageGeometry } from "./base/page.js";
import { type Config, ConfigError } from "./config.js";
import {
  CAPS,
  checkExtension,
  type HostCaps,
  IOCTLS,
  IPA_BITS_LIMIT,
  ioctlCode,
} from "./kvm/index.js";
import { createRuntime, type Runtime } from "./runtime/index.js";
import { createServices, type HostUapi } from "./service/index.js";
import { openStore, type Store } from "./store/index.js";

type Log = ReturnType<typeof createLogger>;
type Services = ApiParts["services"];

/** package.json's version; the same place from src/ and from dist/. */
export function serviceVersion(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** What the HTTP face is told of the configuration. */
export function apiOptions(config: Config, tokens: TokenTable | null): ApiOptions {
  return {
    version: serviceVersion(),
    tokens,
    rateLimitPerMinute: config.rateLimitPerMinute,
    overloadDelayMs: config.overloadDelayMs,
    jsonBodyBytes: config.jsonBodyBytes,
    binaryBodyBytes: config.binaryBodyBytes,
    defaultSeed: config.seed,
    heartbeatMs: HEARTBEAT_MS,
  };
}

/** Event streams promise a line at least every 15 s. */
const HEARTBEAT_MS = 10_000;

/** The HTTP face over given services, for tests and the document; nothing listens. */
export function buildApp(parts: {
  readonly config: Config;
  readonly services: Services;
  readonly clock: Clock;
  readonly log: Log;
  readonly tokens?: TokenTable | null;
}): Api {
  const { config, services, clock, log, tokens = null } = parts;
  return buildApi({ options: apiOptions(config, tokens), services, clock, log });
}

/** The system descriptor answers for a host of the default page size (DESIGN 6). */
const GEOMETRY = pageGeometry(4096);

/** KVM's tables as the service shows them; values of the system descriptor. */
export function hostUapi(): HostUapi {
  const caps: HostCaps = {
    hostCpus: availableParallelism(),
    leafSizes: GEOMETRY.leafSizes,
  };
  const check = (cap: number) => checkExtension(cap, caps, null);
  return {
    vcpuMmapSize: VCPU_MMAP_PAGES * GEOMETRY.size,
    ipaLimitBits: IPA_BITS_LIMIT,
    checkExtension: check,
    capabilities: () =>
      CAPS.map(({ name, number, summary }) => ({
        name,
        number,
        summary,
        value: valueOrZero(() => check(number)),
      })),
    ioctls: () =>
      IOCTLS.map((row) => ({
        name: row.name,
        fd: row.fd,
        code: ioctlCode(row),
        state: row.state,
        route: row.route,
        summary: row.summary,
      })),
  };
}

/** struct kvm_run and the coalesced ring, a page each. @source kvm-uapi.md 3.4 */
const VCPU_MMAP_PAGES = 2;

/** In a list, a capability that only a VM can answer shows as absent. */
function valueOrZero(read: () => number): number {
  try {
    return read();
  } catch (error) {
    if (error instanceof KvmError) return 0;
    throw error;
  }
}

async function loadTokens(path: string | null): Promise<TokenTable | null> {
  if (path === null) return null;
  try {
    return readTokens(await readFile(path, "utf8"));
  } catch (error) {
    throw new ConfigError(`TOKENS_FILE ${path} can't be used: ${(error as Error).message}.`);
  }
}

async function prepareDataDir(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new ConfigError(`DATA_DIR ${path} can't be written (${why}): name another directory.`);
  }
}

/** A whole host: HTTP face, services, VM threads, records. */
export interface Host extends Api {
  readonly config: Config;
  readonly log: Log;
  readonly services: Services;
  /** Ends everything in order; idempotent. Requests under way are answered first. */
  close(): Promise<void>;
}

interface Below {
  readonly store: Store;
  readonly runtime: Runtime;
  readonly services: Services;
}

async function openBelow(config: Config, clock: Clock, log: Log): Promise<Below> {
  const store = await openStore({ file: join(config.dataDir, "tidemark.db"), clock, log });
  const runtime = createRuntime(
    {
      memoryBudgetBytes: config.memoryBudgetBytes,
      inputLogEntries: config.inputLogEntries,
      maxVms: config.maxVms,
      translationDelay: config.translationDelay,
    },
    { clock, log },
  );
  try {
    const services = await createServices({
      store,
      runtime,
      uapi: hostUapi(),
      clock,
      log,
      config: {
        version: serviceVersion(),
        gdbDirectory: config.gdb ? join(config.dataDir, "gdb") : null,
      },
    });
    return { store, runtime, services };
  } catch (error) {
    await runtime.close();
    await store.close();
    throw error;
  }
}

/**
 * Builds a host from its configuration; nothing listens yet.
 * @throws ConfigError, StoreError: one sentence that says what to change
 */
export async function createHost(
  config: Config,
  log: Log = createLogger(config.logLevel),
): Promise<Host> {
  const clock = systemClock;
  const tokens = await loadTokens(config.tokensFile);
  await prepareDataDir(config.dataDir);
  const { store, runtime, services } = await openBelow(config, clock, log);
  const { app, lifecycle } = buildApp({ config, services, clock, log, tokens });
  let closing: Promise<void> | null = null;
  const close = async () => {
    services.drain();
    lifecycle.drain();
    const cut = clock.timer(config.shutdownMs, () => app.server.closeAllConnections());
    await app.close();
    cut();
    await services.close();
    await runtime.close();
    await store.close();
  };
  return {
    app,
    lifecycle,
    config,
    log,
    services,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}
