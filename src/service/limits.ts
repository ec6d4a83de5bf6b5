// Owns: the bounds of the service room, with unit and reason. HTTP thread.

export interface ServiceLimits {
  /** Records of VMs, whatever their state. Lists are read from memory: about 2 KiB each. */
  readonly vmRecords: number;
  /** Events in the store; older ones are a gap. */
  readonly events: number;
  /** Events in memory, so that a follower that falls behind a little costs no query. */
  readonly eventsInMemory: number;
  /** Milliseconds that an Idempotency-Key is remembered. */
  readonly idempotencyMs: number;
  /** Idempotency records in the store, whatever their age. */
  readonly idempotencyRecords: number;
  /** Results of runs kept per vCPU; older ones are 410. */
  readonly runsPerVcpu: number;
  /** Bytes of all snapshots' files together. */
  readonly snapshotBytes: number;
}

export const DEFAULT_LIMITS: ServiceLimits = {
  vmRecords: 10_000,
  events: 100_000,
  eventsInMemory: 5_000,
  idempotencyMs: 24 * 3_600_000,
  idempotencyRecords: 100_000,
  runsPerVcpu: 64,
  snapshotBytes: Number.MAX_SAFE_INTEGER,
};

/** Labels of a VM, however many requests set them; as many as one request may carry. */
export const LABELS_MAX = 64;

/** Images; each is a file, and the list is read from memory. */
export const IMAGES_MAX = 1_000;

/** Bytes of images in memory, for VMs to come; what VMs have now is theirs beside it. */
export const IMAGE_CACHE_BYTES = 256 * 1024 * 1024;

/** Characters of an image's name, as the HTTP face takes them. */
export const IMAGE_NAME_MAX = 128;

/** Sessions of migrations, ended ones included; then the oldest ended give way. */
export const MIGRATIONS_KEPT = 1_000;

/** Milliseconds after its end that an incoming session doesn't give way: its source may ask yet. */
export const MIGRATION_ASKED_MS = 24 * 3_600_000;

/** Sessions with those that may be asked about; then the oldest ended of all give way. */
export const MIGRATIONS_ASKED_KEPT = 10_000;

/** Outgoing sessions that wait or run. */
export const MIGRATIONS_QUEUED_MAX = 256;

/**
 * VMs that are built for peers at the same time; the others wait in order, which their sources
 * don't notice: more would only take the processor from each other, and from every answer.
 */
export const ARRIVALS_AT_ONCE = 1;

/** Milliseconds after which a VM that isn't built yet keeps the next ones waiting no more. */
export const ARRIVAL_TURN_MS = 30_000;

/** Sessions to one peer that are being set up at the same time; the others wait in order. */
export const SETUPS_AT_ONCE = 1;

/** Rounds kept of a session; the first and the newest say most, so the middle gives way. */
export const ROUNDS_KEPT = 1_000;

/** Milliseconds that a round or progress may wait for the next batch to disk. */
export const ROUND_FLUSH_MS = 200;

/** Experiments, finished ones included; then the oldest finished give way. About 1 MiB each. */
export const EXPERIMENTS_KEPT = 100;

/** Experiments that wait or run. */
export const EXPERIMENTS_QUEUED_MAX = 16;

/** Lives of the process that are remembered. */
export const BOOTS_KEPT = 100;

/** Snapshots, whatever their state; the list is read from memory. */
export const SNAPSHOTS_MAX = 10_000;

/** Failed and cancelled snapshots, which are records only; then the oldest give way. */
export const SNAPSHOT_FAILURES_KEPT = 100;

/** Chains of snapshots that one VM tracks stores for; each is a bitmap of its memory. */
export const SNAPSHOT_CHAINS_MAX = 8;

/** Milliseconds that an event may wait for the next batch to disk. */
export const EVENT_FLUSH_MS = 100;

/** Events that start a batch at once. */
export const EVENT_FLUSH_COUNT = 500;

/**
 * Events that may wait for a store that refuses writes; then the oldest are dropped. Also the step
 * by which ids jump after a crash, so that no id that was lost with it is given twice.
 */
export const EVENTS_UNSAVED_MAX = 50_000;

/** Writes of events between two trims of their table. */
export const EVENTS_PER_TRIM = 1_000;

/** Milliseconds between two tries to write what the store refused. */
export const RESAVE_MS = 2_000;

/** Milliseconds between two removals of expired idempotency records. */
export const IDEMPOTENCY_TRIM_MS = 600_000;

/** Characters of an answer's body that an idempotency record keeps; beyond, its Location only. */
export const STORED_BODY_MAX = 262_144;
