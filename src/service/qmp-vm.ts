// Owns: a VM of this service as QMP's commands need it: its parts, dirty pages, news, and sessions
// that move it. HTTP thread.
import { ServiceError } from "../base/errors.js";
import type { CommandArgs } from "../runtime/index.js";
import type { EventLog } from "./event-log.js";
import type { MigrationResource, MigrationService, MigrationState } from "./migration/types.js";
import type { QmpDirty, QmpMigrations, QmpVm, RunState, SessionView, VmNews } from "./qmp/ports.js";
import type { ServiceEvent } from "./services.js";
import type { VmEntry } from "./vm-entry.js";
import type { Vms } from "./vm-service.js";

export interface QmpVmDeps {
  readonly vms: Vms;
  readonly migrations: MigrationService;
  readonly events: EventLog;
}

/** Before these, a VM that moves runs as ever. */
const RUNS_ON: ReadonlySet<MigrationState> = new Set([
  ...(["queued", "setup", "active", "pre-switchover"] as const),
  ...(["completed", "failed", "cancelling", "cancelled"] as const),
]);

/** A board's reason for what a client of the service did. */
const FROM_OUTSIDE = "from outside.";

export function qmpVm(entry: VmEntry, deps: QmpVmDeps): QmpVm {
  const { vms, events } = deps;
  const { id, record } = entry;
  const migrations = migrationsOf(entry, deps);
  return {
    id,
    uuid: record.uuid,
    name: record.name,
    pageSize: entry.definition.pageSize,
    migrations,
    dirty: dirtyOf(entry, deps),
    state: () => stateOf(entry, deps, migrations),
    vcpus: async () => {
      // A VM that went away has those that it took along.
      if (entry.record.state === "migrated") return keptVcpus(entry);
      return (await entryHandle(entry).call("listVcpus", {})).value.map((vcpu) => vcpu.id);
    },
    act: async (action) => void (await vms.command(id, "boardAction", { action })),
    stop: async () => {
      if (entry.record.state === "migrated") entry.endQmp();
      else await vms.stop(id);
    },
    onNews: (listener) =>
      events.subscribe((event) => {
        const news = newsOf(id, event);
        if (news !== null) listener(news);
      }),
  };
}

/** Of an incoming VM, too, which nobody else may touch. */
function entryHandle(entry: VmEntry) {
  return entry.handle ?? entry.requireHandle();
}

function keptVcpus({ shape, definition }: VmEntry): readonly number[] {
  const { board } = definition;
  if (board !== undefined) return Array.from({ length: board.vcpus }, (_, vcpu) => vcpu);
  return shape.records().vcpus.map(({ vcpuId }) => vcpuId);
}

async function stateOf(
  entry: VmEntry,
  { vms }: QmpVmDeps,
  migrations: QmpMigrations,
): Promise<RunState> {
  const { state } = entry.record;
  if (state === "migrated" || state === "incoming") return state;
  const isHeld = entry.isMoving && !RUNS_ON.has((await migrations.current())?.state ?? "queued");
  if (isHeld) return "held";
  if (entry.definition.board === undefined) return "client";
  return (await vms.command(entry.id, "describeBoard", {})).value.state;
}

// ── dirty pages ───────────────────────────────────────────────────────────────────────────────

function dirtyOf({ id }: VmEntry, { vms }: QmpVmDeps): QmpDirty {
  const track = async (args: CommandArgs<"trackDirty">) => {
    await vms.command(id, "trackDirty", args);
  };
  return {
    begin: (consumer, method) => track({ consumer, on: true, method }),
    end: (consumer) => track({ consumer, on: false, method: null }),
    harvest: async (consumer) => (await vms.command(id, "harvestDirty", { consumer })).value.pages,
    dirtied: async () => {
      const { vcpus = [] } = (await vms.command(id, "describeThrottle", {})).value;
      return new Map(vcpus.map(({ vcpu, dirtied }) => [vcpu, dirtied]));
    },
    limit: async (dirtyLimit) => {
      // How long vCPUs may run is not a client's affair here.
      const { percent } = (await vms.command(id, "describeThrottle", {})).value;
      await vms.command(id, "setThrottle", { percent, dirtyLimit });
    },
  };
}

// ── sessions ──────────────────────────────────────────────────────────────────────────────────

function migrationsOf(entry: VmEntry, { migrations }: QmpVmDeps): QmpMigrations {
  /** @throws ServiceError "migration-not-found" */
  const own = (): string => {
    if (entry.migrationId !== null) return entry.migrationId;
    throw new ServiceError("migration-not-found", "The VM has not been moved, nor is it moving.");
  };
  const find = async (): Promise<MigrationResource | null> => {
    const { migrationId } = entry;
    if (migrationId === null) return null;
    // The oldest ended ones are forgotten.
    return migrations.get(migrationId).catch(() => null);
  };
  return {
    start: async (peer, parameters) => {
      await migrations.create({ vmId: entry.id, peer, parameters });
    },
    current: async () => {
      const session = await find();
      return session === null ? null : viewOf(session, migrations);
    },
    cancel: async () => void (await migrations.cancel(own())),
    proceed: async () => void (await migrations.proceed(own())),
    startPostcopy: async () => void (await migrations.startPostcopy(own())),
    recover: async () => void (await migrations.recover(own())),
    adjust: async (change) => void (await migrations.adjust(own(), change, null)),
  };
}

async function viewOf(
  session: MigrationResource,
  migrations: MigrationService,
): Promise<SessionView> {
  const { id, state, parameters, progress, statistics, failure, startedAt, endedAt } = session;
  const isOver = statistics !== null && statistics.downtimeMs !== null;
  const rounds = isOver ? await migrations.rounds(id) : [];
  const held = rounds.find(
    ({ predictedDowntimeMs, decision }) =>
      predictedDowntimeMs === null && decision.action !== "push",
  );
  return {
    ...{ id, state, parameters, progress, statistics },
    isOutgoing: session.direction === "outgoing",
    failure: failure?.detail ?? null,
    startedMs: startedAt === null ? null : Date.parse(startedAt),
    endedMs: endedAt === null ? null : Date.parse(endedAt),
    downtimeBytes: held?.bytes ?? 0,
  };
}

// ── news ──────────────────────────────────────────────────────────────────────────────────────

/** @returns null: nothing that QMP tells */
function newsOf(vmId: string, event: ServiceEvent): VmNews | null {
  const { type, subject, data } = event;
  if (subject === `vms/${vmId}`) return boardNews(type, data);
  if (data["vmId"] !== vmId) return null;
  const state = data["state"] as MigrationState;
  if (type === "migration.round") return { kind: "round", round: Number(data["round"]), state };
  const tells = ["migration.created", "migration.state", "migration.ended"].includes(type);
  return tells ? { kind: "migration", state, isOutgoing: data["direction"] === "outgoing" } : null;
}

function boardNews(type: string, data: ServiceEvent["data"]): VmNews | null {
  const byGuest = !String(data["reason"]).endsWith(FROM_OUTSIDE);
  switch (type) {
    case "vm.running":
      return { kind: "running" };
    case "vm.paused":
      return { kind: "paused" };
    case "vm.crashed":
      return { kind: "crashed" };
    case "vm.shutdown":
      return { kind: "shutdown", byGuest };
    case "vm.reset":
      return { kind: "reset", byGuest };
    default:
      return null;
  }
}
