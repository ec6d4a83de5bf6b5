// Owns: an experiment as asked for, completed and checked; its bounds. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { costModel } from "./cost-model.table.js";
import type { ExperimentRequest, ExperimentSpec, Strategy, Tracking, Workload } from "./types.js";

/** Bounds of one experiment, each with its reason. */
export const EXPERIMENT_LIMITS = {
  /** Each is a VM, one after the other. */
  strategies: 32,
  vcpus: 64,
  rounds: 100,
  /** Pages of all windows: 256 GiB of 4 KiB pages; the bitmap is 8 MiB. */
  pages: 2 ** 26,
  /** Bytes that are really kept, with "ram". */
  ramBytes: 2 ** 31,
  /** Over all vCPUs, rounds and strategies: about a quarter of an hour. */
  stores: 2 ** 30,
} as const;

const WORKLOAD_DEFAULTS = {
  sharedWindow: false,
  pattern: "uniform",
  skew: 100,
  strides: [],
  seed: "0x1",
  pageSize: 4096, // tidy: the host's default page size, as in the API
  backing: "unbacked",
  hugePages: false,
  populate: true,
  manualProtect: 1,
  clearPages: 0,
  splitChunk: 0,
  hostCpus: 0,
} as const satisfies Partial<Workload>;

const STRATEGY_DEFAULTS = {
  hdbssOrder: 0,
  ringEntries: 65_536,
  clean: "software",
  splitChunk: null,
  settings: {},
  seedBugs: [],
} as const satisfies Partial<Strategy>;

const SHORT: Readonly<Record<Tracking, string>> = {
  "write-protect": "write-protect",
  dbm: "DBM + scan",
  "dirty-ring": "dirty ring",
  hdbss: "HDBSS",
};

function nameOf(given: ExperimentRequest["strategies"][number]): string {
  const order = given.tracking === "hdbss" ? ` order ${given.hdbssOrder ?? 0}` : "";
  const settings = Object.entries(given.settings ?? {}).map(([key, value]) => `${key}=${value}`);
  const more = [...settings, ...(given.seedBugs ?? [])].map((text) => `, ${text}`);
  const clean = given.clean === "hacdbs" ? " + HACDBS" : "";
  return `${SHORT[given.tracking]}${order}${clean}${more.join("")}`;
}

function bad(pointer: string, detail: string): ServiceError {
  return new ServiceError("validation", `${pointer} ${detail}.`, { errors: [{ pointer, detail }] });
}

function checkWorkload(w: Workload, strategies: number): void {
  const { vcpus, bytesPerVcpu, pageSize, storesPerRound, rounds } = w;
  const limits = EXPERIMENT_LIMITS;
  if (bytesPerVcpu % pageSize !== 0) {
    throw bad("/workload/bytesPerVcpu", `is not a multiple of the page size ${pageSize}`);
  }
  const bytes = slotBytes(w);
  if (bytes / pageSize > limits.pages) {
    throw bad("/workload/bytesPerVcpu", `makes more than ${limits.pages} pages`);
  }
  if (w.backing === "ram" && bytes > limits.ramBytes) {
    throw bad("/workload/backing", `can be "ram" up to ${limits.ramBytes} bytes`);
  }
  const pages = w.populate ? bytes / pageSize : 0;
  const perRound = storesPerRound === 0 ? bytesPerVcpu / pageSize : storesPerRound;
  const stores = (perRound * vcpus * rounds + pages) * strategies;
  if (stores > limits.stores) {
    throw bad("/workload/storesPerRound", `makes ${stores} stores, more than ${limits.stores}`);
  }
  const odd = w.strides.findIndex((stride) => stride % pageSize !== 0);
  if (odd >= 0) throw bad(`/workload/strides/${odd}`, `is not a multiple of ${pageSize}`);
  if (w.clearPages % 64 !== 0) throw bad("/workload/clearPages", "is not a multiple of 64");
  if (w.pattern === "hot-set" && (w.skew < 1 || w.skew > 100)) {
    throw bad("/workload/skew", "of a hot set is its share in percent, 1 to 100");
  }
}

function checkStrategy(strategy: Strategy, at: number): void {
  const { tracking, clean, ringEntries } = strategy;
  if (clean === "hacdbs" && (tracking === "write-protect" || tracking === "dirty-ring")) {
    throw bad(`/strategies/${at}/clean`, `HACDBS needs leaves with DBM, so not ${tracking}`);
  }
  if (2 ** Math.floor(Math.log2(ringEntries)) !== ringEntries) {
    throw bad(`/strategies/${at}/ringEntries`, "is not a power of two");
  }
}

/** Bytes of the one slot. */
export function slotBytes(w: Workload): number {
  return w.sharedWindow ? w.bytesPerVcpu : w.bytesPerVcpu * w.vcpus;
}

/** @throws ServiceError "validation" */
export function completeSpec(request: ExperimentRequest): ExperimentSpec {
  const workload: Workload = { ...WORKLOAD_DEFAULTS, ...request.workload };
  const strategies = request.strategies.map((given): Strategy => {
    return { ...STRATEGY_DEFAULTS, name: nameOf(given), ...given };
  });
  const names = strategies.map(({ name }) => name);
  const twice = names.findIndex((name, at) => names.indexOf(name) !== at);
  if (twice >= 0) throw bad(`/strategies/${twice}/name`, "is there already");
  checkWorkload(workload, strategies.length);
  for (const [at, strategy] of strategies.entries()) checkStrategy(strategy, at);
  const overrides = request.costModel ?? {};
  costModel(overrides);
  return {
    name: request.name ?? "experiment",
    workload,
    strategies,
    costModel: overrides,
  };
}
