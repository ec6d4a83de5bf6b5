// Owns: the wiring: the only file that knows every room. HTTP thread. Knows no process: main.ts
// listens, prints and exits.
import { readFileSync } from "node:fs";
import { access, constants, mkdir, readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
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
import { startDataPlane } from "./migration/index.js";
import { createRuntime, type Runtime } from "./runtime/index.js";
import { createServices, type HostUapi, lazyPlane, readPeers } from "./service/index.js";
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
  readonly tls?: Tls;
}): Api {
  const { config, services, clock, log, tokens = null, tls = null } = parts;
  return buildApi({ options: { ...apiOptions(config, tokens), tls }, services, clock, log });
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

/** Bounds of the page stream; a connection that stalls is made anew until it is given up. */
const STREAM_LIMITS = {
  giveUpMs: 20_000,
  stallMs: 10_000,
  connectionsMax: 512,
  sessionsMax: 256,
} as const;

async function textOf(name: string, path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new ConfigError(`${name} ${path} can't be read: ${(error as Error).message}.`);
  }
}

/** Certificate and key of both listeners, PEM. */
type Tls = { readonly certificate: string; readonly key: string } | null;

async function loadTls({ tls }: Config): Promise<Tls> {
  if (tls === null) return null;
  const certificate = await textOf("TLS_CERT", tls.cert);
  const key = await textOf("TLS_KEY", tls.key);
  try {
    createSecureContext({ cert: certificate, key });
  } catch (error) {
    throw new ConfigError(`TLS_CERT and TLS_KEY don't go together: ${(error as Error).message}.`);
  }
  return { certificate, key };
}

async function loadPeers(path: string | null) {
  if (path === null) return [];
  const text = await textOf("PEERS_FILE", path);
  try {
    return await readPeers(text);
  } catch (error) {
    throw new ConfigError(`PEERS_FILE ${path} can't be used: ${(error as Error).message}.`);
  }
}

/** How this host takes part in migrations. */
async function migrationParts(config: Config, tls: Tls, log: Log) {
  const { dataPlaneHost: host, dataPlanePort: port } = config;
  const settings = { host, port, tls, url: null, ...STREAM_LIMITS };
  return {
    instance: config.instanceName ?? `tidemark-${config.port}`,
    peers: await loadPeers(config.peersFile),
    certificate: tls?.certificate ?? null,
    plane: lazyPlane(() => startDataPlane(settings, log)),
    runningMax: config.migrationsMax,
  };
}

interface Below {
  readonly store: Store;
  readonly runtime: Runtime;
  readonly services: Services;
  readonly plane: { close(): Promise<void> };
}

async function openBelow(config: Config, tls: Tls, clock: Clock, log: Log): Promise<Below> {
  const migration = await migrationParts(config, tls, log);
  const store = await openStore({ file: join(config.dataDir, "tidemark.db"), clock, log });
  const runtime = createRuntime(
    {
      memoryBudgetBytes: config.memoryBudgetBytes,
      inputLogEntries: config.inputLogEntries,
      maxVms: config.maxVms,
      translationDelay: config.translationDelay,
      spareThreads: config.spareThreads,
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
        limits: config.snapshotBytes === null ? {} : { snapshotBytes: config.snapshotBytes },
        gdbDirectory: config.gdb ? join(config.dataDir, "gdb") : null,
        qmpDirectory: config.qmp ? join(config.dataDir, "qmp") : null,
        migration,
      },
    });
    return { store, runtime, services, plane: migration.plane };
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
  const tls = await loadTls(config);
  const { store, runtime, services, plane } = await openBelow(config, tls, clock, log);
  const { app, lifecycle } = buildApp({ config, services, clock, log, tokens, tls });
  let closing: Promise<void> | null = null;
  const close = async () => {
    services.drain();
    lifecycle.drain();
    const cut = clock.timer(config.shutdownMs, () => app.server.closeAllConnections());
    await app.close();
    cut();
    await services.close();
    await plane.close();
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
