// Owns: an experiment as asked for, completed and checked; its bounds. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import type { ImageRef } from "../../runtime/index.js";
import { costModel } from "./cost-model.table.js";
import type {
  ImageRequest,
  ImageWorkload,
  Strategy,
  SyntheticWorkload,
  Tracking,
  TrackingRequest,
  TrackingSpec,
  Workload,
} from "./types.js";

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
  /** Of guest code, likewise: at 200 million in a second. */
  instructions: 2 ** 37,
} as const;

const TRACKED_DEFAULTS = {
  seed: "0x1",
  pageSize: 4096, // tidy: the host's default page size, as in the API
  manualProtect: 1,
  clearPages: 0,
  splitChunk: 0,
  hostCpus: 0,
} as const satisfies Partial<Workload>;

const SYNTHETIC_DEFAULTS = {
  ...TRACKED_DEFAULTS,
  kind: "synthetic",
  sharedWindow: false,
  pattern: "uniform",
  skew: 100,
  strides: [],
  backing: "unbacked",
  hugePages: false,
  populate: true,
} as const satisfies Partial<SyntheticWorkload>;

const IMAGE_DEFAULTS = {
  ...TRACKED_DEFAULTS,
  cmdline: "",
  memoryMiB: 128,
  vcpus: 1,
  warmUpInstructions: 0,
} as const satisfies Partial<ImageWorkload>;

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

function nameOf(given: TrackingRequest["strategies"][number]): string {
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
  if (w.clearPages % 64 !== 0) throw bad("/workload/clearPages", "is not a multiple of 64");
  if (w.kind === "image") checkImage(w, strategies);
  else checkSynthetic(w, strategies);
}

function checkImage(w: ImageWorkload, strategies: number): void {
  const { instructionsPerRound, warmUpInstructions, rounds } = w;
  const instructions = (instructionsPerRound * rounds + warmUpInstructions) * strategies;
  const most = EXPERIMENT_LIMITS.instructions;
  if (instructions <= most) return;
  const what = `makes ${instructions} instructions, more than ${most}`;
  throw bad("/workload/instructionsPerRound", what);
}

function checkSynthetic(w: SyntheticWorkload, strategies: number): void {
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
  if (w.kind === "image") return w.memoryMiB * 2 ** 20;
  return w.sharedWindow ? w.bytesPerVcpu : w.bytesPerVcpu * w.vcpus;
}

/** Whether something runs before logging begins. */
export function hasPopulate(w: Workload): boolean {
  return w.kind === "image" ? w.warmUpInstructions > 0 : w.populate;
}

function noImage(name: string): ImageRef {
  throw new ServiceError("image-unknown", `There is no image ${name}: upload it first.`);
}

function completeImage(asked: ImageRequest, find: (name: string) => ImageRef): ImageWorkload {
  const { image, initrd, ...rest } = asked;
  return {
    ...IMAGE_DEFAULTS,
    ...rest,
    image: find(image),
    ...(initrd === undefined ? {} : { initrd: find(initrd) }),
  };
}

/**
 * @param find finds an image by its name; there is none without
 * @throws ServiceError "validation", and as `find`
 */
export function completeSpec(
  request: TrackingRequest,
  find: (name: string) => ImageRef = noImage,
): TrackingSpec {
  const { workload: asked } = request;
  const odd = request.strategies.findIndex(({ tracking }) => tracking === undefined);
  if (odd >= 0) throw bad(`/strategies/${odd}`, "has no tracking, which this workload compares");
  const workload: Workload =
    asked.kind === "image" ? completeImage(asked, find) : { ...SYNTHETIC_DEFAULTS, ...asked };
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
