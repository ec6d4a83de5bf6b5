// Owns: shapes of migrations: requests, sessions, rounds. HTTP thread.
import Type, { type TSchema } from "typebox";
import {
  closed,
  count,
  cursor,
  limit,
  nullable,
  pageOf,
  text,
  time,
  wait,
  word,
} from "./common.schema.js";
import { uuid } from "./vms.schema.js";

const STATES = [
  ...(["queued", "setup", "active", "pre-switchover", "device", "postcopy-active"] as const),
  ...(["postcopy-paused", "postcopy-recover", "completed", "failed", "cancelling"] as const),
  "cancelled",
] as const;
const state = word(STATES, "As QEMU names them, and queued.", "active");
const point = word(
  ["none", "ready", "released", "running", "aborted"],
  "Who may run the VM, as far as this side has decided: the target is ready, the source has " +
    "released it, the target runs it; aborted: the target never runs it by this session.",
  "none",
);
const direction = word(["outgoing", "incoming"], "Which side this host is.", "outgoing");
const STRATEGIES = ["stop-and-copy", "pre-copy", "post-copy", "hybrid"] as const;
const strategy = word(STRATEGIES, "When pages go, before or after the VM has moved.", "pre-copy");

const figure = (description: string, example: number) =>
  Type.Number({ minimum: 0, description, examples: [example] });
const integer = (minimum: number, maximum: number, description: string, example: number) =>
  Type.Integer({ minimum, maximum, description, examples: [example] });

const DAY_MS = 86_400_000;
const BYTES_PER_SECOND_MAX = 2 ** 40;
const PERCENT_MAX = 99;
/** A page of the largest size, and all that a guest can have. */
const DELTA_CACHE_BYTES_MIN = 2 ** 16;
const DELTA_CACHE_BYTES_MAX = 2 ** 32;
const DELTA_CACHE_BYTES = 2 ** 26;

/** What may change while a session runs. */
const live = {
  bandwidthBytesPerSecond: integer(
    0,
    BYTES_PER_SECOND_MAX,
    "Of pages while the VM runs here; 0: no limit. Unused time is worth a tenth of a second.",
    0,
  ),
  postcopyBandwidthBytesPerSecond: integer(
    0,
    BYTES_PER_SECOND_MAX,
    "Of pages that follow the VM in post-copy; 0: no limit. Those that it waits for have none.",
    0,
  ),
  downtimeMs: integer(0, DAY_MS, "Longest pause that may be planned.", 300),
  timeoutMs: integer(0, DAY_MS, "Longest time before the switchover, with setup; 0: none.", 0),
  onTimeout: word(
    ["cancel", "force", "postcopy"],
    "Then: give up, switch over whatever the downtime, or switch to post-copy; a pause before " +
      "the switchover ends as well.",
    "cancel",
  ),
  autoConverge: Type.Boolean({
    description: "Slows vCPUs down when rounds don't get smaller.",
    examples: [false],
  }),
  throttleInitial: integer(1, PERCENT_MAX, "First step of that, percent.", 20),
  throttleIncrement: integer(1, PERCENT_MAX, "Each further step, percent.", 10),
  throttleMax: integer(1, PERCENT_MAX, "The last, percent.", 99),
  dirtyLimitPagesPerSecond: integer(
    0,
    2 ** 32,
    "New dirty pages a second that each vCPU may make from the second round on; 0: no limit.",
    0,
  ),
};
const fixed = {
  tracking: word(
    ["auto", "bitmap", "manual-protect", "ring", "hdbss", "hdbss+hacdbs", "async-run"],
    "How dirty pages are noticed; auto: the best that the VM can do.",
    "auto",
  ),
  channels: integer(1, 8, "Connections that carry pages.", 1),
  compression: word(
    ["none", "deflate", "delta"],
    "Of pages; delta: against what was sent before.",
    "none",
  ),
  deltaCacheBytes: integer(
    DELTA_CACHE_BYTES_MIN,
    DELTA_CACHE_BYTES_MAX,
    "Pages that the source keeps as they were sent, for compression delta: memory of its " +
      "process, taken as it fills. Of a guest that dirties more than that the rest goes whole.",
    DELTA_CACHE_BYTES,
  ),
  pauseBeforeSwitchover: Type.Boolean({
    description: "Waits in pre-switchover for `:continue`.",
    examples: [false],
  }),
  verify: Type.Boolean({
    description: "Both sides compute a digest of all memory before the target is ready.",
    examples: [false],
  }),
};

const Parameters = Type.Object(
  { strategy, ...fixed, ...live },
  { ...closed, $id: "MigrationParameters", description: "As asked for, with every default." },
);

export { Parameters as MigrationParameters };

const asked = Type.Partial(Type.Object({ ...fixed, ...live })).properties;
const peer = text("Name of a peer of `/v1/peers`; `local` is this host itself.", "host-b", 63);

export const MigrationCreate = Type.Object(
  {
    vmId: text("The VM that moves.", "vm_01hqs4ym8x", 64),
    peer,
    strategy: Type.Optional(strategy),
    parameters: Type.Optional(
      Type.Object(asked, {
        ...closed,
        $id: "MigrationParametersCreate",
        description: "What differs from the defaults.",
        examples: [{ downtimeMs: 300 }],
      }),
    ),
    validateOnly: Type.Optional(
      Type.Boolean({
        description: "A dry run: both hosts say what they would refuse, and nothing moves.",
        examples: [false],
      }),
    ),
  },
  {
    ...closed,
    $id: "MigrationCreate",
    examples: [{ vmId: "vm_01hqs4ym8x", peer: "local", strategy: "pre-copy" }],
  },
);

export const MigrationPatch = Type.Partial(Type.Object(live), {
  ...closed,
  $id: "MigrationPatch",
  description: "Limits that take effect while it runs.",
  examples: [{ downtimeMs: 500 }],
});

export const migrationId = Type.String({
  minLength: 1,
  maxLength: 64,
  description: "Id of the session at this host.",
  examples: ["mig_01hqs4ym8x"],
});
export const MigrationParams = Type.Object({ migration: migrationId }, closed);

const traffic = {
  pagesSent: count("Full pages.", 65_536),
  pagesZero: count("Pages of zeros, told without their bytes.", 12_000),
  pagesDuplicate: count("Pages that had been sent before.", 420),
  bytes: count("Frames with their headers.", 268_500_000),
};

const Decision = Type.Object(
  {
    action: word(
      ["next-round", "throttle", "switchover", "postcopy", "force", "cancel", "push"],
      "What the policy chose; push: these pages followed the VM in post-copy.",
      "switchover",
    ),
    why: text("From which figures.", "12.1 MiB are left, 96 ms at 126 MiB/s.", 2048),
    isConverging: Type.Boolean({
      description: "False once the guest dirties memory faster than it is sent.",
    }),
  },
  { ...closed, $id: "MigrationDecision" },
);

const Progress = Type.Object(
  {
    ...traffic,
    bytesTotal: count("Of all memory.", 268_435_456),
    bytesRemaining: figure("Still to be sent, as known now.", 0),
    round: count("From 1; 0 at the target.", 2),
    bytesPerSecond: figure("", 250_000_000),
    dirtyPagesPerSecond: figure("New ones.", 1200),
    throttlePercent: integer(0, PERCENT_MAX, "How much vCPUs are slowed down.", 0),
    predictedDowntimeMs: nullable(figure("Of a switchover now.", 12)),
    pagesRequested: count("Post-copy: pages that the target asked for.", 0),
    pagesPushed: count("Post-copy: pages that came without.", 0),
    vcpuWaitMs: Type.Optional(
      figure("Post-copy, at the target: time that vCPUs waited for pages, together.", 12),
    ),
  },
  { ...closed, $id: "MigrationProgress" },
);

export const Failure = Type.Object(
  {
    side: word(["source", "target", "wire", "operator"], "Which side failed.", "target"),
    during: state,
    code: text("Machine-readable kind; new ones may appear.", "peer-unreachable"),
    detail: text("What went wrong.", "Peer host-b can't be reached.", 65_536),
    causes: Type.Array(text("", "connect ECONNREFUSED 10.0.0.2:8080", 65_536), {
      description: "Innermost last.",
      examples: [[]],
    }),
  },
  { ...closed, $id: "MigrationFailure" },
);

const ms = (description: string, example: number) => nullable(figure(description, example));
const Statistics = Type.Object(
  {
    setupMs: ms("Until the target had built the VM and was connected.", 40),
    totalMs: figure("", 2100),
    downtimeMs: ms("From the first vCPU held to the target's word that it runs.", 45),
    holdMs: ms("vCPUs leave KVM_RUN.", 2),
    saveMs: ms("State of vCPUs and devices.", 6),
    lastRoundMs: ms("The last pages, those of the saved state too.", 12),
    finishMs: ms("The target takes the state and gets ready.", 15),
    releaseMs: ms(
      "What is left of giving the VM up, durably, once the target is ready; 0: it was sooner.",
      3,
    ),
    commitMs: ms("The target hears it, and runs.", 7),
    stateBytes: nullable(count("", 41_000)),
  },
  {
    ...closed,
    $id: "MigrationStatistics",
    description: "Milliseconds; null: not reached, or not this side's.",
  },
);

const Resolution = Type.Object(
  {
    runsOn: word(["source", "target"], "Where the VM runs.", "source"),
    reason: text("As the operator gave it.", "host-b burnt down"),
    at: time(""),
  },
  { ...closed, $id: "MigrationResolution" },
);

export const Migration = Type.Object(
  {
    id: migrationId,
    direction,
    vmId: text("The VM at this host.", "vm_01hqs4ym8x"),
    vmUuid: uuid,
    vmName: nullable(text("", "guest-1")),
    peer,
    peerSession: nullable(text("The peer's id of the session.", "mig_02k9")),
    state,
    stateReason: nullable(text("Why it waits, or failed.", "", 65_536)),
    queuePosition: nullable(count("From 1; null: it doesn't wait.", 1)),
    point,
    cancelRequested: Type.Boolean({ description: "Somebody wants it cancelled." }),
    parameters: Parameters,
    progress: nullable(Progress),
    decision: nullable(Decision),
    failure: nullable(Failure),
    resolution: nullable(Resolution),
    statistics: nullable(Statistics),
    version: Type.Integer({ minimum: 1, description: "Counts changes.", examples: [3] }),
    createdAt: time(""),
    startedAt: nullable(time("")),
    endedAt: nullable(time("")),
    links: Type.Record(Type.String(), Type.String(), {
      description: "Paths of the migration.",
      examples: [{ self: "/v1/migrations/mig_01hqs4ym8x" }],
    }),
  },
  { ...closed, $id: "Migration", description: "One side's session of a VM that moves, as a job." },
);
export const MigrationPage = pageOf("MigrationPage", Migration);

const filter = <T extends TSchema>(schema: T) => Type.Optional(schema);
export const MigrationListQuery = Type.Object(
  {
    limit,
    cursor,
    direction: filter(direction),
    state: filter(state),
    vmId: filter(text("Only of this VM.", "vm_01hqs4ym8x", 64)),
  },
  closed,
);
export const MigrationGetQuery = Type.Object({ wait }, closed);

const Round = Type.Object(
  {
    round: count("From 1; the last one is sent with every vCPU held, or after it has moved.", 1),
    startMs: figure("Since the session began.", 40),
    durationMs: figure("", 1010),
    pagesDirty: count("What the round had to send.", 65_536),
    ...traffic,
    dirtyPagesPerSecond: figure("New ones, over this round.", 1200),
    bytesPerSecond: figure("", 260_000_000),
    throttlePercent: integer(0, PERCENT_MAX, "", 0),
    dirtyLimitPagesPerSecond: count("What each vCPU was allowed; 0: no limit.", 0),
    predictedDowntimeMs: nullable(figure("Null in the last round.", 12)),
    downtimeMs: nullable(
      figure("In the last round before the target ran the VM: what it really was.", 14),
    ),
    decision: Decision,
  },
  { ...closed, $id: "MigrationRound" },
);
export const RoundList = Type.Object(
  { items: Type.Array(Round), nextCursor: Type.Null() },
  { ...closed, $id: "MigrationRounds", description: "Every round, in order." },
);

const Reason = Type.Object(
  {
    side: word(["source", "target"], "Which host would refuse.", "target"),
    code: text("Machine-readable kind.", "uuid-taken"),
    detail: text("", "Another VM of the target has the uuid.", 65_536),
  },
  closed,
);
export const Preflight = Type.Object(
  {
    possible: Type.Boolean({ description: "Nobody would refuse." }),
    reasons: Type.Array(Reason, { examples: [[]] }),
    memoryBytes: count("Of the guest.", 268_435_456),
    missingImages: Type.Array(text("SHA-256.", "e3b0c442"), {
      description: "Images that the target lacks and is sent first.",
      examples: [[]],
    }),
  },
  { ...closed, $id: "MigrationPreflight", description: "What a dry run found." },
);

export const MigrationResolve = Type.Object(
  {
    runsOn: word(["source", "target"], "Where the VM runs from now on.", "source"),
    reason: text("Kept with the session.", "host-b burnt down", 512),
  },
  { ...closed, $id: "MigrationResolve", examples: [{ runsOn: "source", reason: "b is gone" }] },
);

export const VerdictAnswer = Type.Object(
  {
    verdict: word(
      ["undecided", "released", "aborted", "lost"],
      "Released: the target may run the VM. Aborted: it never will. Lost: the source has died " +
        "with pages that the target may lack.",
      "undecided",
    ),
  },
  { ...closed, $id: "MigrationVerdict" },
);

export const MigrationChart = Type.String({
  description: "An SVG document.",
  examples: ['<svg xmlns="http://www.w3.org/2000/svg"></svg>'],
});
export const MigrationStream = Type.String({
  description: "Server-sent events; each data line is a Migration.",
  examples: ["event: migration\ndata: {}\n\n"],
});

export const PeerPage = Type.Object(
  {
    items: Type.Array(
      Type.Object(
        {
          name: peer,
          url: text("", "https://host-b:8080"),
          isPinned: Type.Boolean({ description: "Its certificate must have a known digest." }),
        },
        closed,
      ),
    ),
    nextCursor: Type.Null(),
  },
  { ...closed, $id: "PeerPage", description: "Hosts that VMs may move to and come from." },
);
