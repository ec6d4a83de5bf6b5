// Owns: what Prometheus is told of migrations and snapshots: counts as the service keeps them, and
// histograms of what has ended. HTTP thread.
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { MigrationResource, ServiceEvent, Services } from "./services.js";

/** Seconds; from a pause that nobody notices to one that breaks connections. */
const BLACKOUT_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30];
/** Seconds; from an idle guest within one host to a large one over a slow line. */
const TOTAL_BUCKETS = [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600];
const MS_PER_S = 1000;

const DIRECTIONS = ["outgoing", "incoming"] as const;
const ENDS = ["completed", "failed", "cancelled"] as const;

type Listener = (event: ServiceEvent) => void;

/** @returns what is to be told of events */
export function registerMigrations(registry: Registry, services: Services): Listener {
  const counts = () => services.migrations.counts();
  const registers = [registry];
  new Gauge({
    name: "tidemark_migrations",
    help: "Sessions of migrations that are kept, by direction and state.",
    labelNames: ["direction", "state"],
    registers,
    collect() {
      this.reset();
      for (const { direction, state, count } of counts().states) {
        this.set({ direction, state }, count);
      }
    },
  });
  new Counter({
    name: "tidemark_migrations_ended_total",
    help: "Sessions that ended, by direction and how.",
    labelNames: ["direction", "state"],
    registers,
    collect() {
      this.reset();
      const { totals } = counts();
      // Zeros too: a counter that appears with its first failure shows no increase.
      for (const direction of DIRECTIONS) {
        for (const state of ENDS) this.inc({ direction, state }, totals[direction][state]);
      }
    },
  });
  new Gauge({
    name: "tidemark_migrations_not_converging",
    help: "Outgoing migrations whose guest dirties memory faster than it is sent.",
    registers,
    collect() {
      this.set(counts().notConverging);
    },
  });
  registerTraffic(registry, services);
  return registerHistograms(registry, services);
}

/** Counted where they are sent: a target counts nothing twice. */
function registerTraffic(registry: Registry, services: Services): void {
  const sent = () => services.migrations.counts().totals.outgoing;
  const registers = [registry];
  new Counter({
    name: "tidemark_migration_bytes_total",
    help: "Bytes of page streams that were sent, frames with their headers.",
    registers,
    collect() {
      this.reset();
      this.inc(sent().bytes);
    },
  });
  new Counter({
    name: "tidemark_migration_pages_total",
    help: "Pages that were sent: in full, or told to be zero.",
    labelNames: ["kind"],
    registers,
    collect() {
      this.reset();
      const { pagesSent, pagesZero } = sent();
      this.inc({ kind: "full" }, pagesSent);
      this.inc({ kind: "zero" }, pagesZero);
    },
  });
  new Counter({
    name: "tidemark_migration_pages_resent_total",
    help: "Of these, pages that had been sent before.",
    registers,
    collect() {
      this.reset();
      this.inc(sent().pagesDuplicate);
    },
  });
  new Counter({
    name: "tidemark_migration_rounds_total",
    help: "Rounds of outgoing migrations.",
    registers,
    collect() {
      this.reset();
      this.inc(sent().rounds);
    },
  });
  new Gauge({
    name: "tidemark_migration_remaining_bytes",
    help: "Guest memory that outgoing migrations have still to send.",
    registers,
    collect() {
      this.set(services.migrations.counts().bytesRemaining);
    },
  });
}

/** What has ended since the service listens; the sessions' figures are their sources'. */
function registerHistograms(registry: Registry, services: Services): Listener {
  const histogram = (name: string, help: string, buckets: readonly number[]) =>
    new Histogram({ name, help, buckets: [...buckets], registers: [registry] });
  const blackout = histogram(
    "tidemark_migration_blackout_seconds",
    "From the first vCPU held to the target's word that it runs.",
    BLACKOUT_BUCKETS,
  );
  const total = histogram(
    "tidemark_migration_duration_seconds",
    "Completed migrations, from their start to their end.",
    TOTAL_BUCKETS,
  );
  const observe = ({ direction, state, statistics }: MigrationResource): void => {
    if (direction !== "outgoing" || state !== "completed" || statistics === null) return;
    const { downtimeMs, totalMs } = statistics;
    if (downtimeMs !== null) blackout.observe(downtimeMs / MS_PER_S);
    total.observe(totalMs / MS_PER_S);
  };
  return ({ type, subject }) => {
    if (type !== "migration.ended") return;
    const id = subject.slice(subject.indexOf("/") + 1);
    // Whoever deletes it at once has seen its figures.
    services.migrations.get(id).then(observe, () => {});
  };
}

/** @returns what is to be told of events */
export function registerSnapshots(registry: Registry, services: Services): Listener {
  const usage = () => services.snapshots.usage();
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  gauge("tidemark_snapshots", "Snapshots, whatever their state.", () => usage().count);
  gauge("tidemark_snapshots_creating", "Snapshots being taken.", () => usage().creating);
  gauge("tidemark_snapshots_failed", "Failed snapshots that are kept.", () => usage().failed);
  gauge("tidemark_snapshot_files_bytes", "All snapshots' files.", () => usage().bytes);
  gauge("tidemark_snapshot_pause_seconds", "How long the newest held its VM.", () => {
    return usage().lastPauseMs / MS_PER_S;
  });
  return registerSnapshotEnds(registry);
}

function registerSnapshotEnds(registry: Registry): Listener {
  const registers = [registry];
  const ended = new Counter({
    name: "tidemark_snapshots_ended_total",
    help: "Snapshots that ended, by how.",
    labelNames: ["state"],
    registers,
  });
  for (const state of ENDS) ended.inc({ state }, 0);
  const blackout = new Histogram({
    name: "tidemark_snapshot_blackout_seconds",
    help: "How long complete snapshots held their VMs.",
    buckets: [...BLACKOUT_BUCKETS],
    registers,
  });
  return ({ type, data: { pauseMs } }) => {
    const state = ENDS.find((end) => type === `snapshot.${end}`);
    if (state === undefined) return;
    ended.inc({ state });
    if (state === "completed" && typeof pauseMs === "number") blackout.observe(pauseMs / MS_PER_S);
  };
}
