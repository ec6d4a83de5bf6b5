// Owns: putting the service room together over a store and a runtime. HTTP thread.
import { type Clock, timestamp } from "../base/clock.js";
import { newUuid } from "../base/ids.js";
import type { Log } from "../base/log.js";
import type { Runtime } from "../runtime/index.js";
import type { BootRecord, Store } from "../store/index.js";
import { DirtyRates } from "./dirty-rate-service.js";
import { EventLog } from "./event-log.js";
import { EventfdAttachments } from "./eventfd-attachments.js";
import { Eventfds } from "./eventfd-service.js";
import { Experiments } from "./experiment-service.js";
import { GdbStubs } from "./gdb-service.js";
import { type HostUapi, hostService } from "./host-service.js";
import { Idempotency } from "./idempotency-service.js";
import { Images } from "./image-service.js";
import { BOOTS_KEPT, DEFAULT_LIMITS, type ServiceLimits } from "./limits.js";
import { type MigrationConfig, openMigrations } from "./migration/open.js";
import { QmpSockets } from "./qmp-service.js";
import { reconcile } from "./reconcile.js";
import { Recorder } from "./recorder.js";
import { Runs } from "./run-service.js";
import type { Readiness, Services } from "./services.js";
import { ThreadSnapshotIo } from "./snapshots/io-thread.js";
import { openSnapshots } from "./snapshots/open.js";
import { SnapshotBook } from "./snapshots/snapshot-book.js";
import type { SnapshotIo } from "./snapshots/snapshot-io.js";
import { VmParts } from "./vm-parts.js";
import { VmRegistry } from "./vm-registry.js";
import { Vms } from "./vm-service.js";

export type { ServiceLimits } from "./limits.js";

interface ServiceDeps {
  /** Open; stays the caller's to close, after close() of the services. */
  readonly store: Store;
  /** Stays the caller's to close. */
  readonly runtime: Runtime;
  readonly uapi: HostUapi;
  readonly clock: Clock;
  readonly log: Log;
  /** In place of a thread of its own. */
  readonly snapshotIo?: SnapshotIo;
  readonly config: {
    /** Of this build, for the record of its lives. */
    readonly version: string;
    readonly limits?: Partial<ServiceLimits>;
    /** Directory of debuggers' sockets; null or absent: there are no debuggers. */
    readonly gdbDirectory?: string | null;
    /** The same of QMP's clients. */
    readonly qmpDirectory?: string | null;
    /** Absent: a host without peers. */
    readonly migration?: Partial<MigrationConfig>;
  };
}

/**
 * Builds the use cases and settles what the last life of the service left behind.
 * @throws ServiceError "store-unavailable"
 */
export async function createServices(deps: ServiceDeps): Promise<Services> {
  const { store, runtime, clock, log } = deps;
  const limits: ServiceLimits = { ...DEFAULT_LIMITS, ...deps.config.limits };
  const recorder = new Recorder(store, log);
  const last = await store.newestBoot();
  const hasCrashed = last !== null && last.endedAt === null;
  const boot = await recordBoot(recorder, last, deps.config.version, clock);
  const events = await EventLog.open({ store, recorder, clock, limits }, hasCrashed);
  const registry = new VmRegistry();
  const parts = new VmParts({ recorder, events, clock });
  const images = await Images.open({ store, recorder, registry, events, clock });
  const experiments = await Experiments.open({
    ...{ store, recorder, runtime, events, images, clock, log },
  });
  const bootId = boot.id;
  const vms = new Vms({
    ...{ registry, runtime, recorder, events, parts, images, clock, log, limits },
    bootId,
  });
  const data = { bootId, version: boot.version, afterCrash: hasCrashed };
  events.announce("server.started", "server", data);
  const common = { store, recorder, registry, vms, images, events, clock, log, bootId };
  const book = await SnapshotBook.open(common);
  await reconcile({ ...common, wayBack: (vmId) => book.wayBack(vmId) });
  const { eventfds, attachments } = openEventfds(runtime, registry, clock);
  const io = deps.snapshotIo ?? new ThreadSnapshotIo();
  const snapshots = await openSnapshots(book, io, { ...common, parts, attachments, limits });
  const moving = { ...common, runtime, eventfds, attachments, autosnapshots: snapshots.moving };
  const migrations = await openMigrations(deps.config.migration ?? {}, moving);
  const { version, qmpDirectory = null, gdbDirectory: directory = null } = deps.config;
  const qmp = new QmpSockets({
    ...{ registry, vms, events, clock, log, version },
    migrations: migrations.service,
    directory: qmpDirectory,
  });
  const idempotency = new Idempotency({ store, recorder, clock, limits, bootId });

  async function close(): Promise<void> {
    vms.drain();
    idempotency.close();
    await migrations.close();
    await qmp.closeAll();
    await experiments.close();
    await snapshots.close();
    await vms.stopAll();
    await parts.close();
    events.announce("server.stopped", "server", { bootId });
    await events.flush();
    // Without this the next life takes this one for crashed, so everything else comes first.
    const isComplete = recorder.failure === null && parts.unsaved === 0;
    if (isComplete) {
      const ended = { ...boot, endedAt: timestamp(clock) };
      await recorder.commit([{ kind: "put-boot", boot: ended }]);
    }
  }

  const runs = new Runs({ registry, clock, runsPerVcpu: limits.runsPerVcpu });

  let closing: Promise<void> | null = null;
  return {
    vms,
    images,
    experiments,
    snapshots,
    migrations: migrations.service,
    incoming: migrations.incoming,
    runs,
    dirtyRates: new DirtyRates({ vms, registry, clock }),
    gdb: new GdbStubs({ registry, runs, log, directory }),
    eventfds,
    qmp,
    events,
    host: hostService(deps.uapi, runtime),
    idempotency,
    readiness: () => readiness(recorder, parts, vms, runtime),
    drain: () => vms.drain(),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

function openEventfds(runtime: Runtime, registry: VmRegistry, clock: Clock) {
  const isOtherDescriptor = (id: string) => registry.has(id);
  const eventfds = new Eventfds({ table: runtime.eventfds, clock, isOtherDescriptor });
  return { eventfds, attachments: new EventfdAttachments(eventfds) };
}

async function recordBoot(
  recorder: Recorder,
  last: BootRecord | null,
  version: string,
  clock: Clock,
): Promise<BootRecord> {
  const boot: BootRecord = {
    id: newUuid(),
    seq: (last?.seq ?? 0) + 1,
    version,
    startedAt: timestamp(clock),
    endedAt: null,
  };
  await recorder.commit([
    { kind: "put-boot", boot },
    { kind: "trim-boots", keep: BOOTS_KEPT },
  ]);
  return boot;
}

function readiness(recorder: Recorder, parts: VmParts, vms: Vms, runtime: Runtime): Readiness {
  const usage = runtime.usage();
  const isSaved = recorder.failure === null && parts.unsaved === 0;
  const storeDetail = isSaved
    ? "Records are written."
    : `Records are not written: ${recorder.failure ?? `${parts.unsaved} VMs wait`}`;
  const checks = {
    store: { ok: isSaved, detail: storeDetail },
    runtime: { ok: true, detail: `${usage.vms} of ${usage.maxVms} VMs have a thread.` },
    accepting: {
      ok: !vms.isDraining,
      detail: vms.isDraining ? "The service is ending." : "New VMs are taken.",
    },
  };
  return { ready: Object.values(checks).every(({ ok }) => ok), checks };
}
