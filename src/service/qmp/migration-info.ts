// Owns: a session of a migration in QEMU's words: MigrationInfo and what is in it. HTTP thread.
// @source QEMU 7.2 qapi/migration.json: MigrationStatus, MigrationInfo, MigrationStats
import type { MigrationState } from "../../migration/index.js";
import type { JsonObject } from "./json.js";
import type { SessionView } from "./ports.js";
import { arrayOf, INT, NUMBER, object, oneOf, STR } from "./qapi.js";

const STATES = [
  ...["setup", "active", "pre-switchover", "device", "completed", "failed"],
  ...["postcopy-active", "postcopy-paused", "postcopy-recover", "cancelling", "cancelled"],
];

export const MIGRATION_STATUS = oneOf("none", ...STATES);

/** QEMU has no queue: what waits in ours is being set up. */
export function statusOf(state: MigrationState): string {
  return state === "queued" ? "setup" : state;
}

const COUNTS = [
  ...["transferred", "remaining", "total", "duplicate", "skipped", "normal", "normal-bytes"],
  ...["dirty-pages-rate", "dirty-sync-count", "postcopy-requests", "page-size", "multifd-bytes"],
  ...["pages-per-second", "precopy-bytes", "downtime-bytes", "postcopy-bytes"],
  "dirty-sync-missed-zero-copy",
];

const STATS = object({ ...Object.fromEntries(COUNTS.map((name) => [name, INT])), mbps: NUMBER });

export const MIGRATION_INFO = object({
  "status?": MIGRATION_STATUS,
  "ram?": STATS,
  "total-time?": INT,
  "expected-downtime?": INT,
  "downtime?": INT,
  "setup-time?": INT,
  "cpu-throttle-percentage?": INT,
  "error-desc?": STR,
  "blocked-reasons?": arrayOf(STR),
});

const BITS_PER_BYTE = 8;
const MEGA = 1_000_000;

/** Milliseconds as a client of QEMU's reads them. */
const whole = (ms: number): number => Math.max(0, Math.round(ms));

function ramOf(session: SessionView, pageSize: number): JsonObject | null {
  const { progress, parameters, downtimeBytes } = session;
  if (progress === null) return null;
  const { bytes, bytesTotal, bytesRemaining, bytesPerSecond, pagesSent } = progress;
  const hasSwitched = session.state.startsWith("postcopy") || progress.pagesPushed > 0;
  const postcopyPages = progress.pagesRequested + progress.pagesPushed;
  const postcopyBytes = hasSwitched ? Math.min(bytes, postcopyPages * pageSize) : 0;
  const isMultifd = parameters.channels > 1;
  return {
    transferred: bytes,
    remaining: bytesRemaining,
    total: bytesTotal,
    // What QEMU calls so are pages of one byte's value: ours are of zeros.
    duplicate: progress.pagesZero,
    skipped: 0,
    normal: pagesSent,
    "normal-bytes": pagesSent * pageSize,
    "dirty-pages-rate": whole(progress.dirtyPagesPerSecond),
    mbps: (bytesPerSecond * BITS_PER_BYTE) / MEGA,
    "dirty-sync-count": progress.round,
    "postcopy-requests": progress.pagesRequested,
    "page-size": pageSize,
    "multifd-bytes": isMultifd ? bytes : 0,
    "pages-per-second": whole(bytesPerSecond / pageSize),
    "precopy-bytes": Math.max(0, bytes - downtimeBytes - postcopyBytes),
    "downtime-bytes": downtimeBytes,
    "postcopy-bytes": postcopyBytes,
    "dirty-sync-missed-zero-copy": 0,
  };
}

function timesOf(session: SessionView, nowMs: number): JsonObject {
  const { state, statistics, progress, startedMs, endedMs } = session;
  const totalMs = startedMs === null ? null : (endedMs ?? nowMs) - startedMs;
  const predicted = progress?.predictedDowntimeMs ?? null;
  const downtime = statistics?.downtimeMs ?? null;
  const setup = statistics?.setupMs ?? null;
  const isUnderWay = state === "active" || state === "pre-switchover" || state === "device";
  return {
    ...(totalMs === null ? {} : { "total-time": whole(totalMs) }),
    ...(isUnderWay && predicted !== null ? { "expected-downtime": whole(predicted) } : {}),
    ...(downtime === null ? {} : { downtime: whole(downtime) }),
    ...(setup === null ? {} : { "setup-time": whole(setup) }),
  };
}

/** @param session null: there was none yet, which QEMU tells by saying nothing */
export function migrationInfo(
  session: SessionView | null,
  pageSize: number,
  nowMs: number,
): JsonObject {
  if (session === null) return {};
  const status = statusOf(session.state);
  // QEMU's target knows of a migration only how it stands.
  if (!session.isOutgoing) return { status, ...errorOf(session) };
  const ram = ramOf(session, pageSize);
  const { autoConverge } = session.parameters;
  const throttle = session.progress?.throttlePercent ?? 0;
  return {
    status,
    ...(ram === null ? {} : { ram }),
    ...timesOf(session, nowMs),
    ...(autoConverge && throttle > 0 ? { "cpu-throttle-percentage": throttle } : {}),
    ...errorOf(session),
  };
}

function errorOf({ failure }: SessionView): JsonObject {
  return failure === null ? {} : { "error-desc": failure };
}
