// Owns: shapes of experiments: what is compared, and what came out. HTTP thread.
import Type from "typebox";
import { cmdline as boardCmdline, gic, ImageRef, imageName } from "./board.schema.js";
import { closed, count, nullable, pageOf, text, time } from "./common.schema.js";
import { given, seedBugs } from "./dirty-settings.schema.js";
import { integer, number, oneOf, seed } from "./experiment-fields.schema.js";
import {
  InterruptResult,
  InterruptStrategy,
  InterruptStrategyCreate,
  InterruptWorkload,
  InterruptWorkloadCreate,
} from "./interrupt-experiments.schema.js";

const BYTES_MAX = 2 ** 38;
const tracked = {
  vcpus: integer(1, 64, "vCPUs that store.", 4),
  rounds: integer(1, 100, "Times that the log is read and cleared.", 3),
  seed,
  pageSize: Type.Union([Type.Literal(4096), Type.Literal(16_384), Type.Literal(65_536)], {
    description: "Of the emulated host.",
    examples: [4096], // tidy: the host's default page size
  }),
  manualProtect: Type.Union([Type.Literal(0), Type.Literal(1), Type.Literal(3)], {
    description: "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: 0 reads and clears at once; 3 sets all first.",
    examples: [1],
  }),
  clearPages: integer(0, 2 ** 26, "Pages of one CLEAR; 0: the whole slot.", 0),
  splitChunk: integer(0, BYTES_MAX, "KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE; 0: left alone.", 0),
  hostCpus: integer(0, 512, "CPUs of the VM's slice; 0: as many as vCPUs.", 0),
};
const synthetic = {
  ...tracked,
  kind: Type.Literal("synthetic", {
    description: "Stores by a pattern, by vCPUs without code; what is meant where no kind is.",
    examples: ["synthetic"],
  }),
  bytesPerVcpu: integer(
    4096, // tidy: the smallest page that a host can have
    BYTES_MAX,
    "Window of each vCPU: whole pages, one after the other in one slot.",
    16_777_216,
  ),
  sharedWindow: Type.Boolean({ description: "All vCPUs store to one window.", examples: [false] }),
  pattern: oneOf(
    ["uniform", "zipf", "sequential", "hot-set"],
    "Which page each store goes to.",
    "uniform",
  ),
  skew: integer(0, 1000, "zipf exponent × 100, or the hot set's share in percent.", 100),
  strides: Type.Array(integer(1, BYTES_MAX, "Whole pages.", 65_536), {
    maxItems: 100,
    description:
      "Bytes between neighbouring stores of sequential, round by round in turn; a page if empty. " +
      "16 pages set 4 bits of a word.",
    examples: [[]],
  }),
  storesPerRound: integer(
    0,
    2 ** 30,
    "Stores of each vCPU and round; 0: one pass over its window.",
    256,
  ),
  backing: oneOf(["ram", "unbacked"], "What the guest's memory is.", "unbacked"),
  hugePages: Type.Boolean({ description: "The memory allows 2 MiB blocks.", examples: [false] }),
  populate: Type.Boolean({
    description: "Every page is stored to once before logging begins.",
    examples: [true],
  }),
};

const instructions = (minimum: number, description: string, example: number) =>
  integer(minimum, 2 ** 37, description, example);
const IMAGE_MEMORY_MIB = { minimum: 2, maximum: 256, default: 128 } as const;
const image = {
  ...tracked,
  kind: Type.Literal("image", {
    description: "A guest image on a board; what it stores is found by comparing memory.",
    examples: ["image"],
  }),
  cmdline: boardCmdline,
  gic: Type.Optional(gic),
  memoryMiB: Type.Integer({ ...IMAGE_MEMORY_MIB, description: "The board's RAM.", examples: [64] }),
  instructionsPerRound: instructions(
    1,
    "A round ends after so many of all vCPUs together; a nanosecond that all sleep counts as one.",
    1_000_000,
  ),
  warmUpInstructions: instructions(0, "Before logging begins, told as phase populate.", 0),
};

const strategy = {
  name: text("Shown in results; made of the rest if absent.", "HDBSS, 8 KiB", 128),
  tracking: oneOf(
    ["write-protect", "dbm", "dirty-ring", "hdbss"],
    "How stores are noticed: faults, a scan for hardware dirty state, rings, HDBSS buffers.",
    "hdbss",
  ),
  hdbssOrder: integer(0, 9, "HDBSS: 4 KiB << order is a vCPU's buffer.", 0),
  ringEntries: integer(256, 65_536, "Rings: entries of each, a power of two.", 65_536),
  clean: oneOf(["software", "hacdbs"], "Who makes pages clean again in CLEAR.", "software"),
  splitChunk: nullable(integer(0, BYTES_MAX, "In place of the workload's; null: that.", 0)),
  settings: given,
  seedBugs,
};

const Workload = Type.Union(
  [
    Type.Object(synthetic, { ...closed, $id: "SyntheticWorkload" }),
    Type.Object(
      { ...image, image: ImageRef, initrd: Type.Optional(ImageRef) },
      { ...closed, $id: "ImageWorkload" },
    ),
    InterruptWorkload,
  ],
  { $id: "Workload" },
);
const Strategy = Type.Object(strategy, { ...closed, $id: "Strategy" });

const { vcpus, bytesPerVcpu, storesPerRound, rounds, ...syntheticRest } = synthetic;
const { kind, instructionsPerRound, rounds: imageRounds, ...imageRest } = image;
const { tracking, ...strategyRest } = strategy;
const costs = Type.Record(Type.String({ pattern: "^[a-zA-Z0-9]+$" }), number("Cycles.", 6000), {
  description: "Costs of events in cycles, by key of `/v1/cost-model`.",
  examples: [{ s2WpFault: 5000 }],
});

const SyntheticCreate = Type.Object(
  {
    ...{ vcpus, bytesPerVcpu, storesPerRound, rounds },
    ...Type.Partial(Type.Object(syntheticRest)).properties,
  },
  { ...closed, $id: "SyntheticWorkloadCreate" },
);
const ImageCreate = Type.Object(
  {
    ...{ kind, image: imageName, instructionsPerRound, rounds: imageRounds },
    initrd: Type.Optional(imageName),
    ...Type.Partial(Type.Object(imageRest)).properties,
  },
  { ...closed, $id: "ImageWorkloadCreate" },
);
const WorkloadCreate = Type.Union([SyntheticCreate, ImageCreate, InterruptWorkloadCreate], {
  $id: "WorkloadCreate",
  description: "What the guest does.",
});
const StrategyCreate = Type.Object(
  { tracking, ...Type.Partial(Type.Object(strategyRest)).properties },
  { ...closed, $id: "StrategyCreate", description: "One way to track the same stores." },
);
const AnyStrategy = Type.Union([Strategy, InterruptStrategy]);

export const ExperimentCreate = Type.Object(
  {
    name: Type.Optional(text("What it is about.", "which order?", 128)),
    workload: WorkloadCreate,
    strategies: Type.Array(Type.Union([StrategyCreate, InterruptStrategyCreate]), {
      minItems: 1,
      maxItems: 32,
      description: "Those that fit the workload's kind.",
    }),
    costModel: Type.Optional(costs),
  },
  {
    ...closed,
    $id: "ExperimentCreate",
    examples: [
      {
        name: "write protection or hardware",
        workload: { vcpus: 2, bytesPerVcpu: 1_048_576, storesPerRound: 256, rounds: 2 },
        strategies: [{ tracking: "write-protect" }, { tracking: "dbm" }],
      },
    ],
  },
);

const state = oneOf(
  ["queued", "running", "done", "failed", "cancelled", "lost"],
  "Where it stands; `lost`: the service ended before it was done.",
  "done",
);
const name = text("As it was given.", "which order?", 128);

export const experimentId = Type.String({
  minLength: 1,
  maxLength: 64,
  description: "Id of the experiment.",
  examples: ["exp_01hqs4ym8x"],
});
export const ExperimentParams = Type.Object({ experiment: experimentId }, closed);

export const Experiment = Type.Object(
  {
    id: experimentId,
    name,
    state,
    stateReason: nullable(text("Why it failed, was lost or cancelled.", "It was cancelled.")),
    progress: Type.Object(
      {
        done: count("Rounds done, of all strategies; populating and enabling count too.", 10),
        total: count("Of how many.", 10),
        strategy: nullable(text("The one that runs.", "HDBSS order 0")),
      },
      closed,
    ),
    spec: Type.Object(
      { name, workload: Workload, strategies: Type.Array(AnyStrategy), costModel: costs },
      { ...closed, $id: "ExperimentSpec", description: "As asked for, with every default." },
    ),
    version: Type.Integer({ minimum: 1, description: "Counts changes.", examples: [3] }),
    createdAt: time(""),
    startedAt: nullable(time("")),
    finishedAt: nullable(time("")),
    links: Type.Record(Type.String(), Type.String(), {
      description: "Paths of the experiment.",
      examples: [{ self: "/v1/experiments/exp_01hqs4ym8x" }],
    }),
  },
  { ...closed, $id: "Experiment", description: "A comparison, as a job." },
);
export const ExperimentPage = pageOf("ExperimentPage", Experiment);

const byEvent = Type.Record(Type.String(), number("Cycles.", 6000), {
  description: "By key of the cost model; what did not occur is left out.",
  examples: [{ s2WpFault: 6000 }],
});
const ResultRow = Type.Object(
  {
    phase: oneOf(["populate", "enable", "round", "final"], "What was done.", "round"),
    round: count("From 1; 0 in other phases.", 1),
    dirtied: count("Pages truly stored to.", 256),
    reported: count("Pages that the log told of.", 256),
    falsePositives: count("Reported, but not stored to since they were reported last.", 0),
    lost: count("Stored to, and told by no log with every vCPU stopped.", 0),
    late: count("Stored to and not told in this round, but not lost.", 0),
    exits: Type.Object(
      {
        mapFault: count("Translation faults.", 0),
        writeFault: count("Write-protection faults.", 256),
        hdbssFull: count("Faults for a full HDBSS buffer.", 0),
        ringFull: count("Full rings.", 0),
        kick: count("Runs that a kick ended.", 0),
        other: count("The rest; a program's end is one.", 2),
      },
      closed,
    ),
    drains: count("HDBSS buffers emptied.", 0),
    drainedEntries: count("Entries that came out of them.", 0),
    fullFaults: count("As exits.hdbssFull.", 0),
    batches: count("HACDBS batches.", 0),
    fallbacks: count("Times that software cleaned in its place.", 0),
    tlbis: count("TLB invalidations, whole VMID or range.", 1),
    splits: count("Blocks split.", 0),
    pagesProtected: count("Leaves that software took write permission from.", 256),
    runErrors: count("Runs that failed with an errno.", 0),
    cycles: Type.Object(
      {
        guestStall: number("Taken from the guest, all vCPUs together.", 1_536_000),
        ioctl: number("Of the thread that asks for the log.", 14_280),
        lockHeld: number("Of that, with mmu_lock held for writing.", 14_080),
        byEvent,
      },
      { ...closed, description: "By the cost model." },
    ),
    formula: nullable(
      Type.Object(
        {
          expected: number("By the formula of the strategy.", 1_550_280),
          counted: number("The same events, as they occurred.", 1_550_280),
        },
        { ...closed, description: "dirty-tracking.md 8.3 beside what was counted." },
      ),
    ),
    runMs: number("Real milliseconds here, for the stores.", 1.5),
    ioctlMs: number("Real milliseconds here, for GET, CLEAR and resets.", 0.5),
  },
  { ...closed, $id: "ExperimentRow" },
);

const StrategyResult = Type.Object(
  {
    strategy: Strategy,
    state: oneOf(["done", "failed", "cancelled"], "How it ended.", "done"),
    error: nullable(text("Why it failed.", "Out of memory.", 4096)), // tidy: characters
    bufferBytes: count("Of HDBSS buffers, or of rings.", 0),
    rows: Type.Array(ResultRow),
  },
  { ...closed, $id: "StrategyResult" },
);

export const ExperimentResults = Type.Object(
  {
    id: experimentId,
    name,
    state,
    workload: Workload,
    costModel: costs,
    strategies: Type.Array(Type.Union([StrategyResult, InterruptResult])),
  },
  { ...closed, $id: "ExperimentResults", description: "Per strategy and per round." },
);

export const ExperimentCsv = Type.String({
  description: "RFC 4180: a header, then a line per strategy and round.",
  examples: ["strategy,phase,round,dirtied\r\nwrite-protect,round,1,256\r\n"],
});

export const CHART_METRICS = ["cycles", "per-page", "exits", "pages", "wall"] as const;
export const ChartQuery = Type.Object(
  {
    metric: Type.Optional(
      oneOf(
        CHART_METRICS,
        "cycles of guest and caller, in all or per page; exits; pages told and lost; real time.",
        "cycles",
      ),
    ),
  },
  closed,
);
export const ChartImage = Type.String({
  description: "An SVG document.",
  examples: ['<svg xmlns="http://www.w3.org/2000/svg"></svg>'],
});

export const CostModelList = Type.Object(
  {
    items: Type.Array(
      Type.Object(
        {
          key: text("", "s2WpFault"),
          cycles: number("The default, at 3 GHz; a factor where `says` calls it one.", 6000),
          min: number("Lowest that is believable.", 3000),
          max: number("Highest.", 20_000),
          says: text("What it is.", "A write-protection fault from exit to re-entry, alone."),
          source: text("Where the figure comes from.", "Our choice, between P9 and P1."),
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: "CostModel", description: "What events cost on silicon nobody has measured." },
);
