// Owns: the experiment service in a map, where every job is done at once, for tests of the HTTP
// face alone.
import { ServiceError } from "../../src/base/errors.js";
import { completeInterrupts } from "../../src/service/experiments/interrupts/spec.js";
import { completeSpec } from "../../src/service/experiments/spec.js";
import { isInterrupts } from "../../src/service/experiments/types.js";
import type {
  ExperimentRequest,
  ExperimentResource,
  ExperimentResults,
  ExperimentService,
  InterruptResults,
  InterruptSpec,
  TrackingResults,
  TrackingSpec,
} from "../../src/service/index.js";

const NOW = "2026-11-20T12:00:00.000Z";
const EXITS = { mapFault: 0, writeFault: 3, hdbssFull: 0, ringFull: 0, kick: 0, other: 1 };

const COST_MODEL = { s2WpFault: 6000 } as ExperimentResults["costModel"];

function fakeInterrupts({ id, name, state }: ExperimentResource, spec: InterruptSpec) {
  const row: InterruptResults["strategies"][number]["rows"][number] = {
    ...{ round: 1, raised: 3, roundTrips: 2, coalesced: 1, unserved: 0, forNothing: 0, storms: 0 },
    ...{ exits: 9, acks: 2, lateAcks: 0, missedAcks: 0, needlessAcks: 0 },
    ...{ ackLatencyNs: { mean: 2.5, max: 3 }, vdrcfgReads: 0, vdrcfgSaved: 0, listLocks: 0 },
    ...{
      maintenanceExits: 2,
      deactivationTraps: 0,
      kvm: null,
      inFlightMax: 0,
      guestNs: 1000,
      runMs: 1.5,
    },
    cycles: { total: 13_500, perRoundTrip: 6750, byEvent: { exitEntry: 13_500 } },
  };
  const strategies = spec.strategies.map((strategy) => {
    return { strategy, state: "done" as const, error: null, rows: [row] };
  });
  return { id, name, state, workload: spec.workload, costModel: COST_MODEL, strategies };
}

export function fakeResults(experiment: ExperimentResource): ExperimentResults {
  const { spec } = experiment;
  return isInterrupts(spec) ? fakeInterrupts(experiment, spec) : fakeTracking(experiment, spec);
}

function fakeTracking(experiment: ExperimentResource, spec: TrackingSpec): TrackingResults {
  const { id, name, state } = experiment;
  const row = {
    ...{ phase: "round" as const, round: 1, dirtied: 3, reported: 4, falsePositives: 1, lost: 0 },
    ...{ late: 0, exits: EXITS, drains: 0, drainedEntries: 0, fullFaults: 0, batches: 0 },
    ...{ fallbacks: 0, tlbis: 1, splits: 0, pagesProtected: 3, runErrors: 0 },
    cycles: { guestStall: 18_000, ioctl: 500, lockHeld: 400, byEvent: { s2WpFault: 18_000 } },
    ...{ formula: null, runMs: 1.5, ioctlMs: 0.25 },
  };
  const strategies = spec.strategies.map((strategy) => {
    return { strategy, state: "done" as const, error: null, bufferBytes: 0, rows: [row] };
  });
  return { id, name, state, workload: spec.workload, costModel: COST_MODEL, strategies };
}

/** Every image is there. */
const imageNamed = (name: string) => ({ name, sha256: "0".repeat(64), size: 584 });

export function fakeExperiments(): ExperimentService {
  const kept = new Map<string, ExperimentResource>();
  const require = (id: string) => {
    const found = kept.get(id);
    if (found !== undefined) return found;
    throw new ServiceError("experiment-not-found", `There is no experiment ${id}.`);
  };
  return {
    costModel: () => [{ key: "hwDirty", cycles: 80, min: 30, max: 300, says: "x", source: "y" }],
    create: async (request: ExperimentRequest) => {
      const spec = isInterrupts(request)
        ? completeInterrupts(request)
        : completeSpec(request, imageNamed);
      const { name } = spec;
      const made: ExperimentResource = {
        ...{ id: `exp_${kept.size + 1}`, name, state: "done", stateReason: null, version: 1 },
        progress: { done: 4, total: 4, strategy: null },
        spec,
        ...{ createdAt: NOW, startedAt: NOW, finishedAt: NOW },
      };
      kept.set(made.id, made);
      return made;
    },
    get: async (id) => require(id),
    list: async (limit) => ({ items: [...kept.values()].slice(0, limit), nextCursor: null }),
    results: async (id) => fakeResults(require(id)),
    cancel: async (id) => require(id),
    delete: async (id) => {
      require(id);
      kept.delete(id);
    },
  };
}
