// Owns: migrations in a map, which end only when a test says so, for tests of the HTTP face alone.
import { ServiceError } from "../../src/base/errors.js";
import { DEFAULT_PARAMETERS } from "../../src/migration/types.js";
import type {
  IncomingService,
  MigrationResource,
  MigrationService,
  VmResource,
} from "../../src/service/index.js";

const NOW = "2026-11-20T12:00:00.000Z";
const TRAFFIC = { pagesSent: 10, pagesZero: 2, pagesDuplicate: 1, bytes: 41_000 };
const NO_TRAFFIC = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0, bytes: 0 };
const DECISION = {
  action: "switchover" as const,
  why: "12 KiB are left, 1 ms at 12 MiB/s.",
  isConverging: true,
};
const ROUND = {
  ...{ round: 1, startMs: 4, durationMs: 10.5, pagesDirty: 12, ...TRAFFIC },
  ...{ dirtyPagesPerSecond: 3.5, bytesPerSecond: 1e6, throttlePercent: 0 },
  ...{ dirtyLimitPagesPerSecond: 0, downtimeMs: 2 },
  ...{ predictedDowntimeMs: null, decision: DECISION },
};
const STATISTICS = {
  ...{ setupMs: 1, totalMs: 20, downtimeMs: 2, holdMs: 1, saveMs: 1, lastRoundMs: 1 },
  ...{ finishMs: 1, releaseMs: 1, commitMs: null, stateBytes: 4100 },
};

/** @param vmOf throws where there is none */
export function fakeMigrations(vmOf: (id: string) => VmResource): MigrationService {
  const kept = new Map<string, MigrationResource>();
  const listeners = new Map<string, Set<() => void>>();
  const require = (id: string) => {
    const found = kept.get(id);
    if (found !== undefined) return found;
    throw new ServiceError("migration-not-found", `There is no migration ${id}.`);
  };
  const change = (id: string, patch: Partial<MigrationResource>) => {
    const old = require(id);
    if (old.endedAt !== null) throw new ServiceError("migration-ended", "It has ended.");
    const next = { ...old, ...patch, version: old.version + 1 };
    kept.set(id, next);
    for (const listener of listeners.get(id) ?? []) listener();
    return next;
  };
  const known = (peer: string) => {
    if (peer !== "local") throw new ServiceError("peer-unknown", `There is no peer ${peer}.`);
  };
  return {
    peers: () => [{ name: "local", url: "/", isPinned: false }],
    create: async ({ vmId, peer, parameters }) => {
      const vm = vmOf(vmId);
      known(peer);
      const made: MigrationResource = {
        ...{ id: `mig_${kept.size + 1}`, direction: "outgoing", vmId, vmUuid: vm.uuid },
        ...{ vmName: vm.name, peer, peerSession: "mig_9", state: "active", stateReason: null },
        ...{ queuePosition: null, point: "none", cancelRequested: false },
        parameters: { ...DEFAULT_PARAMETERS, ...parameters },
        progress: {
          ...{ ...TRAFFIC, bytesTotal: 49_152, bytesRemaining: 0, round: 1 },
          ...{ bytesPerSecond: 1e6, dirtyPagesPerSecond: 0, throttlePercent: 0 },
          ...{ predictedDowntimeMs: 12.5, pagesRequested: 0, pagesPushed: 0 },
        },
        ...{ decision: DECISION, failure: null, resolution: null, statistics: STATISTICS },
        ...{ version: 1, createdAt: NOW, startedAt: NOW, endedAt: null },
      };
      kept.set(made.id, made);
      return made;
    },
    preflight: async ({ vmId, peer }) => {
      vmOf(vmId);
      known(peer);
      const reason = { side: "target" as const, code: "uuid-taken", detail: "It is taken." };
      return { possible: false, reasons: [reason], memoryBytes: 1, missingImages: [] };
    },
    get: async (id) => require(id),
    list: async ({ limit, state }) => ({
      items: [...kept.values()]
        .filter((one) => state === null || one.state === state)
        .slice(0, limit),
      nextCursor: null,
    }),
    rounds: async (id) => {
      require(id);
      return [ROUND];
    },
    adjust: async (id, patch, version) => {
      if (version !== null && version !== require(id).version) {
        throw new ServiceError("precondition-failed", "The migration has changed.");
      }
      return change(id, { parameters: { ...require(id).parameters, ...patch } });
    },
    cancel: async (id) => change(id, { state: "cancelled", cancelRequested: true, endedAt: NOW }),
    proceed: async (id) => change(id, { state: "device" }),
    startPostcopy: async (id) => change(id, { state: "postcopy-active" }),
    recover: async (id) => change(id, { state: "postcopy-recover" }),
    resolve: async (id, runsOn, reason) =>
      change(id, { resolution: { runsOn, reason, at: NOW }, state: "failed", endedAt: NOW }),
    delete: async (id) => {
      require(id);
      kept.delete(id);
      for (const listener of listeners.get(id) ?? []) listener();
    },
    subscribe: (id, listener) => {
      require(id);
      const own = listeners.get(id) ?? new Set();
      listeners.set(id, own.add(listener));
      return () => own.delete(listener);
    },
    verdict: async (id) => {
      require(id);
      return "undecided";
    },
    counts: () => ({
      states: [{ direction: "outgoing", state: "active", count: kept.size }],
      totals: {
        outgoing: { ...TRAFFIC, rounds: 1, completed: 0, failed: 0, cancelled: 0 },
        incoming: { ...NO_TRAFFIC, rounds: 0, completed: 0, failed: 0, cancelled: 0 },
      },
      notConverging: 0,
      bytesRemaining: 0,
    }),
  };
}

/** Knows the session "mig_in" without an offer. */
export function fakeIncoming(): IncomingService {
  const offered = new Set<string>();
  const status = async (id: string) => {
    if (id === "mig_in") return { state: "active" as const, point: "none" as const, failure: null };
    throw new ServiceError("migration-not-found", `There is no migration ${id}.`);
  };
  return {
    check: async () => ({ possible: true, reasons: [], memoryBytes: 0, missingImages: [] }),
    offer: async ({ source: { session } }) => {
      const isNew = !offered.has(session);
      offered.add(session);
      const dataPlane = { url: "http://127.0.0.1:1", secret: "s" };
      return { offer: { session: "mig_in", stream: 1, dataPlane }, isNew };
    },
    status,
    finish: async (id, state, digest) => {
      await status(id);
      if (state.length === 0) {
        throw new ServiceError("session-refused", "No state.", { reason: "state-mismatch" });
      }
      return digest;
    },
    commit: status,
    abort: status,
    putImage: async (sha256, _name, bytes) => {
      if (bytes.length === 0) throw new ServiceError("image-hash", `Not ${sha256}.`);
    },
  };
}
