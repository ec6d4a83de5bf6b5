// Owns: the Prometheus registry: what is counted and under which names (base units, `_total` on
// counters only; `promtool check metrics` is the judge). HTTP thread.
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { registerMigrations, registerSnapshots } from "./migration-metrics.js";
import type { ServiceEvent, Services } from "./services.js";

/** Seconds; from a trivial GET to the slowest long-poll. */
const DURATION_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10, 60];

export interface Metrics {
  readonly registry: Registry;
  /** One answered request. `route` is the operation's path, so the label stays bounded. */
  answered(method: string, route: string, status: number, seconds: number): void;
  /** +1 when an event stream opens, -1 when it ends. */
  streams(change: 1 | -1): void;
  /** Of what the service announces. */
  told(event: ServiceEvent): void;
}

/** Numbers that are read only when somebody scrapes. */
function registerReadings(registry: Registry, services: Services, version: string): void {
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  const facts = () => services.host.facts();
  gauge("tidemark_memory_budget_bytes", "Memory budget of the host.", () => {
    return facts().capacity.memoryBytes;
  });
  gauge("tidemark_memory_allocatable_bytes", "Memory budget that is left.", () => {
    return facts().allocatable.memoryBytes;
  });
  gauge("tidemark_vms_max", "Active VMs that the host may have.", () => facts().capacity.vms);
  gauge("tidemark_vms_active", "Active VMs.", () => {
    return facts().capacity.vms - facts().allocatable.vms;
  });
  gauge("tidemark_event_id", "Id of the newest event.", () => services.events.newest());
  gauge("tidemark_ready", "1 when /readyz is 200.", () => (services.readiness().ready ? 1 : 0));
  gauge("process_resident_memory_bytes", "Resident memory.", () => process.memoryUsage.rss());
  gauge("process_heap_bytes", "JavaScript heap in use.", () => process.memoryUsage().heapUsed);
  new Counter({
    name: "process_cpu_seconds_total",
    help: "User and system CPU time, all threads.",
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  new Gauge({
    name: "tidemark_build_info",
    help: "Always 1; the labels say what runs.",
    labelNames: ["version", "node"],
    registers: [registry],
  }).set({ version, node: process.version }, 1);
}

const VM_STATES = ["active", "stopped", "lost", "failed", "incoming", "migrated"] as const;

/** Their labels are known beforehand, so a series is there before its first VM is. */
function registerStates(registry: Registry, services: Services): void {
  new Gauge({
    name: "tidemark_vms",
    help: "VMs by state.",
    labelNames: ["state"],
    registers: [registry],
    collect() {
      const counted = services.vms.counts();
      for (const state of VM_STATES) this.set({ state }, counted.get(state) ?? 0);
    },
  });
  new Gauge({
    name: "tidemark_ready_check",
    help: "1 for each check of /readyz that is passed.",
    labelNames: ["check"],
    registers: [registry],
    collect() {
      for (const [check, { ok }] of Object.entries(services.readiness().checks)) {
        this.set({ check }, ok ? 1 : 0);
      }
    },
  });
}

export function createMetrics(services: Services, version: string): Metrics {
  const registry = new Registry();
  registerReadings(registry, services, version);
  registerStates(registry, services);
  const listeners = [registerMigrations(registry, services), registerSnapshots(registry, services)];
  const requests = new Counter({
    name: "tidemark_http_requests_total",
    help: "Answered requests.",
    labelNames: ["method", "route", "status"],
    registers: [registry],
  });
  const durations = new Histogram({
    name: "tidemark_http_request_duration_seconds",
    help: "Time from the request's arrival to the end of its answer.",
    labelNames: ["method", "route"],
    buckets: DURATION_BUCKETS,
    registers: [registry],
  });
  const streams = new Gauge({
    name: "tidemark_event_streams",
    help: "Open event streams.",
    registers: [registry],
  });
  return {
    registry,
    answered: (method, route, status, seconds) => {
      requests.inc({ method, route, status });
      durations.observe({ method, route }, seconds);
    },
    streams: (change) => streams.inc(change),
    told: (event) => {
      for (const listener of listeners) listener(event);
    },
  };
}
