// Owns: environment → frozen typed configuration; the only reader of process.env. HTTP thread.
import { totalmem } from "node:os";
import envSchema from "env-schema";

const MIB = 1024 * 1024;

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  readonly logLevel: string;
  /** Bytes of the process-wide memory budget (DESIGN 5). */
  readonly memoryBudgetBytes: number;
  readonly maxVms: number;
  /** Whether a VM may get a GDB stub. */
  readonly gdb: boolean;
  /** Whether a VM may get a QMP socket. */
  readonly qmp: boolean;
  readonly inputLogEntries: number;
  /** Of all snapshots' files; null: as much as the disk has. */
  readonly snapshotBytes: number | null;
  /** Path of the token file, or null: no authentication, which only a loopback address may. */
  readonly tokensFile: string | null;
  /** 0: without limit. */
  readonly rateLimitPerMinute: number;
  readonly overloadDelayMs: number;
  readonly jsonBodyBytes: number;
  readonly binaryBodyBytes: number;
  /** Seed of a VM that names none. */
  readonly seed: bigint;
  /** Translations of guest code wait for a random number of runs up to this. */
  readonly translationDelay: number;
  /** Between readyz turning 503 and the socket closing, for load balancers to notice. */
  readonly drainMs: number;
  /** Open requests have this long to end; then the process exits anyway. */
  readonly shutdownMs: number;
  /** By which peers know this host; null: made of the port. */
  readonly instanceName: string | null;
  /** Path of the list of hosts that VMs may move to and come from; null: none. */
  readonly peersFile: string | null;
  /** Where pages arrive, beside HTTP (DESIGN 14). */
  readonly dataPlaneHost: string;
  readonly dataPlanePort: number;
  /** Paths of certificate and key, PEM, of both listeners; null: plain HTTP. */
  readonly tls: { readonly cert: string; readonly key: string } | null;
  /** Outgoing migrations that run at once; more wait. */
  readonly migrationsMax: number;
  /** Threads that wait for a VM, so that one that arrives finds its own at once. */
  readonly spareThreads: number;
}

const integer = (fallback: number, minimum: number, maximum: number, description: string) => ({
  type: "integer",
  default: fallback,
  minimum,
  maximum,
  description,
});
const text = (fallback: string, description: string) => ({
  type: "string",
  default: fallback,
  description,
});

const U64_TEXT = "^(0x[0-9a-fA-F]{1,16}|[0-9]{1,19})$";

/** Every switch of the process with its default. */
export const ENVIRONMENT = {
  type: "object",
  properties: {
    HOST: text("127.0.0.1", "Address to listen on; another than loopback needs TOKENS_FILE."),
    PORT: integer(8080, 0, 65_535, "Port to listen on; 0 takes a free one."),
    DATA_DIR: text("./data", "Directory of the database and the images."),
    LOG_LEVEL: {
      ...text("info", "trace, debug, info, warn, error, fatal or silent."),
      enum: ["trace", "debug", "info", "warn", "error", "fatal", "silent"],
    },
    MEMORY_BUDGET_MIB: integer(0, 0, 2 ** 30, "Memory of all VMs; 0: half of what there is."),
    MAX_VMS: integer(256, 1, 1000, "Active VMs at most; each is a thread."),
    INPUT_LOG_ENTRIES: integer(65_536, 0, 2 ** 24, "Commands kept of each VM for replay."),
    SNAPSHOTS_MIB: integer(0, 0, 2 ** 30, "Files of all snapshots; 0: as much as the disk has."),
    GDB: {
      ...text("off", "on: POST /v1/vms/{vm}/gdb opens a socket for a debugger."),
      enum: ["off", "on"],
    },
    QMP: {
      ...text("off", "on: POST /v1/vms/{vm}/qmp opens a socket for tools of QEMU's."),
      enum: ["off", "on"],
    },
    TOKENS_FILE: text("", "Bearer tokens: lines of name, scopes, SHA-256."),
    RATE_LIMIT_PER_MINUTE: integer(-1, -1, 2 ** 30, "Per client; 0: none; -1: none on loopback."),
    OVERLOAD_DELAY_MS: integer(2000, 0, 600_000, "Event-loop delay that sheds load; 0: never."),
    JSON_BODY_KIB: integer(1024, 16, 65_536, "JSON body at most."),
    BINARY_BODY_MIB: integer(64, 1, 1024, "octet-stream body or memory answer at most."),
    SEED: { ...text("0x1", "Seed of a VM that names none, a u64."), pattern: U64_TEXT },
    TRANSLATION_DELAY: integer(0, 0, 2 ** 20, "Runs that a translation waits at most, at random."),
    DRAIN_MS: integer(0, 0, 600_000, "Between readyz 503 and closing the socket."),
    SHUTDOWN_MS: integer(10_000, 100, 600_000, "Open requests get this long to end."),
    INSTANCE_NAME: {
      ...text("", "Name by which its peers know this host; none: tidemark-PORT."),
      pattern: "^([a-z0-9][a-z0-9.-]{0,62})?$",
    },
    PEERS_FILE: text("", "JSON list of the hosts that VMs may move to and come from."),
    DATA_PLANE_HOST: text("", "Address for the pages of migrations; none: HOST."),
    DATA_PLANE_PORT: integer(0, 0, 65_535, "Port for the pages of migrations; 0: a free one."),
    TLS_CERT: text("", "PEM file of a certificate: both ports then speak TLS."),
    TLS_KEY: text("", "PEM file of the certificate's key."),
    MIGRATIONS_MAX: integer(8, 1, 256, "Outgoing migrations that run at once; more wait."),
    SPARE_THREADS: integer(-1, -1, 16, "Threads that wait for a VM; -1: one where it has peers."),
  },
} as const;

interface Environment {
  readonly HOST: string;
  readonly PORT: number;
  readonly DATA_DIR: string;
  readonly LOG_LEVEL: string;
  readonly MEMORY_BUDGET_MIB: number;
  readonly MAX_VMS: number;
  readonly INPUT_LOG_ENTRIES: number;
  readonly SNAPSHOTS_MIB: number;
  readonly GDB: string;
  readonly QMP: string;
  readonly TOKENS_FILE: string;
  readonly RATE_LIMIT_PER_MINUTE: number;
  readonly OVERLOAD_DELAY_MS: number;
  readonly JSON_BODY_KIB: number;
  readonly BINARY_BODY_MIB: number;
  readonly SEED: string;
  readonly TRANSLATION_DELAY: number;
  readonly DRAIN_MS: number;
  readonly SHUTDOWN_MS: number;
  readonly INSTANCE_NAME: string;
  readonly PEERS_FILE: string;
  readonly DATA_PLANE_HOST: string;
  readonly DATA_PLANE_PORT: number;
  readonly TLS_CERT: string;
  readonly TLS_KEY: string;
  readonly MIGRATIONS_MAX: number;
  readonly SPARE_THREADS: number;
}

/** Requests per minute of one client on an address that others reach. */
const RATE_DEFAULT = 6000;

/** A configuration that can't be used; its message is one sentence for people. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.[0-9]{1,3}){3}$/.test(host);
}

/** Bytes that this process may use: the machine's, or the container's limit if there is one. */
function availableBytes(): number {
  const limit = process.constrainedMemory();
  const total = totalmem();
  return limit > 0 && limit < total ? limit : total;
}

function tlsOf({ TLS_CERT: cert, TLS_KEY: key }: Environment): Config["tls"] {
  if ((cert === "") !== (key === "")) {
    throw new ConfigError("TLS needs both: set TLS_CERT and TLS_KEY, or neither.");
  }
  return cert === "" ? null : { cert, key };
}

function migrationConfig(read: Environment) {
  const orNull = (text: string) => (text === "" ? null : text);
  return {
    instanceName: orNull(read.INSTANCE_NAME),
    peersFile: orNull(read.PEERS_FILE),
    dataPlaneHost: read.DATA_PLANE_HOST === "" ? read.HOST : read.DATA_PLANE_HOST,
    dataPlanePort: read.DATA_PLANE_PORT,
    tls: tlsOf(read),
    migrationsMax: read.MIGRATIONS_MAX,
    spareThreads: read.SPARE_THREADS >= 0 ? read.SPARE_THREADS : Number(read.PEERS_FILE !== ""),
  };
}

/**
 * Reads the environment.
 * @throws ConfigError with one sentence per process: what is wrong and what to set
 */
export function loadConfig(env: NodeJS.ProcessEnv = process.env): Config {
  let read: Environment;
  try {
    read = envSchema<Environment>({ schema: ENVIRONMENT, data: { ...env }, env: false });
  } catch (error) {
    throw new ConfigError(`The environment is not usable: ${(error as Error).message}.`);
  }
  const loopback = isLoopback(read.HOST);
  const tokensFile = read.TOKENS_FILE === "" ? null : read.TOKENS_FILE;
  if (!loopback && tokensFile === null) {
    throw new ConfigError(
      `HOST=${read.HOST} can be reached from other machines, so TOKENS_FILE must name a file of ` +
        "bearer tokens (npm run token makes one); or leave HOST at 127.0.0.1.",
    );
  }
  const budgetMib = read.MEMORY_BUDGET_MIB;
  const rate = read.RATE_LIMIT_PER_MINUTE;
  return Object.freeze({
    host: read.HOST,
    port: read.PORT,
    dataDir: read.DATA_DIR,
    logLevel: read.LOG_LEVEL,
    memoryBudgetBytes: budgetMib === 0 ? Math.floor(availableBytes() / 2) : budgetMib * MIB,
    maxVms: read.MAX_VMS,
    inputLogEntries: read.INPUT_LOG_ENTRIES,
    snapshotBytes: read.SNAPSHOTS_MIB === 0 ? null : read.SNAPSHOTS_MIB * MIB,
    gdb: read.GDB === "on",
    qmp: read.QMP === "on",
    tokensFile,
    rateLimitPerMinute: rate >= 0 ? rate : loopback ? 0 : RATE_DEFAULT,
    overloadDelayMs: read.OVERLOAD_DELAY_MS,
    jsonBodyBytes: read.JSON_BODY_KIB * 1024,
    binaryBodyBytes: read.BINARY_BODY_MIB * MIB,
    seed: BigInt(read.SEED),
    translationDelay: read.TRANSLATION_DELAY,
    drainMs: read.DRAIN_MS,
    shutdownMs: read.SHUTDOWN_MS,
    ...migrationConfig(read),
  });
}
