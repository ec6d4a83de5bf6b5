// Owns: the experiment service in a map, where every job is done at once, for tests of the HTTP
// face alone.
import { ServiceError } from "../../src/base/errors.js";
import type {
  ExperimentRequest,
  ExperimentResource,
  ExperimentResults,
  ExperimentService,
  ExperimentSpec,
} from "../../src/service/index.js";

const NOW = "2026-11-20T12:00:00.000Z";
const EXITS = { mapFault: 0, writeFault: 3, hdbssFull: 0, ringFull: 0, kick: 0, other: 1 };

/** Full sizes, as the real service would answer. */
const WORKLOAD = {
  ...{ vcpus: 1, bytesPerVcpu: 4096, storesPerRound: 1, rounds: 1 },
  ...{ sharedWindow: false, pattern: "uniform" as const, skew: 100, strides: [], seed: "0x1" },
  ...{ pageSize: 4096 as const, backing: "unbacked" as const, hugePages: false, populate: true },
  ...{ manualProtect: 1 as const, clearPages: 0, splitChunk: 0, hostCpus: 0 },
};
const STRATEGY = {
  ...{ name: "x", hdbssOrder: 0, ringEntries: 65_536, clean: "software" as const },
  ...{ splitChunk: null, settings: {}, seedBugs: [] },
};

export function fakeResults(experiment: ExperimentResource): ExperimentResults {
  const { id, name, state, spec } = experiment;
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
  const costModel = { s2WpFault: 6000 } as ExperimentResults["costModel"];
  return { id, name, state, workload: spec.workload, costModel, strategies };
}

function complete(asked: ExperimentRequest["workload"]): ExperimentSpec["workload"] {
  if (asked.kind !== "image") return { kind: "synthetic", ...WORKLOAD, ...asked };
  const { image, initrd, ...rest } = asked;
  const refTo = (name: string) => ({ name, sha256: "0".repeat(64), size: 584 });
  const { vcpus, seed, pageSize, manualProtect, clearPages, splitChunk, hostCpus } = WORKLOAD;
  const tracked = { vcpus, seed, pageSize, manualProtect, clearPages, splitChunk, hostCpus };
  return {
    ...{ ...tracked, cmdline: "", memoryMiB: 128, warmUpInstructions: 0, ...rest },
    image: refTo(image),
    ...(initrd === undefined ? {} : { initrd: refTo(initrd) }),
  };
}

export function fakeExperiments(): ExperimentService {
  const kept = new Map<string, ExperimentResource>();
  const require = (id: string) => {
    const found = kept.get(id);
    if (found !== undefined) return found;
    throw new ServiceError("experiment-not-found", `There is no experiment ${id}.`);
  };
  return {
    costModel: () => [{ key: "hwDirty", cycles: 80, min: 30, max: 300, says: "x", source: "y" }],
    create: async ({ name = "x", workload, strategies, costModel = {} }: ExperimentRequest) => {
      const full = strategies.map((strategy) => ({ ...STRATEGY, ...strategy }));
      const made: ExperimentResource = {
        ...{ id: `exp_${kept.size + 1}`, name, state: "done", stateReason: null, version: 1 },
        progress: { done: 4, total: 4, strategy: null },
        spec: { name, workload: complete(workload), strategies: full, costModel },
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
