// Owns: shapes of snapshots: what is asked for, what stays, restores. HTTP thread.
import Type from "typebox";
import {
  binary,
  closed,
  count,
  cursor,
  limit,
  nullable,
  pageOf,
  text,
  time,
  word,
} from "./common.schema.js";

const id = Type.String({
  minLength: 1,
  maxLength: 64,
  description: "Id of the snapshot.",
  examples: ["snap_01hqs4ym8x"],
});
const name = Type.String({
  minLength: 1,
  maxLength: 128,
  description: "A name for people.",
  examples: ["before-upgrade"],
});
const uuid = Type.String({
  pattern: "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
  description: "Of the new VM; the snapshot's if absent and no VM has it, else a new one.",
  examples: ["3e2c52ae-6a0d-4d0c-9d5b-8f3f4f4a2b10"],
});
const paused = Type.Boolean({
  default: false,
  description: "A board that ran waits for :resume.",
});
const ms = Type.Number({ minimum: 0, examples: [2.5] });

export const SnapshotParams = Type.Object({ snapshot: id }, closed);

export const SnapshotCreate = Type.Object(
  {
    name: Type.Optional(nullable(name)),
    kind: Type.Optional(
      word(["full", "differential"], "All memory, or what changed since the parent.", "full"),
    ),
    parent: Type.Optional(
      nullable(
        text("Of a differential: the newest of a chain; the newest of all if absent.", "snap_1"),
      ),
    ),
    track: Type.Optional(
      Type.Boolean({
        description:
          "Of a full one: stores are tracked from then on, so that differentials can follow. " +
          "Absent: if that can be; true: refused if it can't.",
      }),
    ),
  },
  { ...closed, $id: "SnapshotCreate", examples: [{ name: "before-upgrade", kind: "full" }] },
);

export const Snapshot = Type.Object(
  {
    id,
    name: nullable(name),
    kind: word(["full", "differential"], "", "full"),
    state: word(
      ["creating", "complete", "failed", "cancelled", "broken"],
      "broken: its file, or one that it follows, is missing or was changed.",
      "complete",
    ),
    stateReason: nullable(text("Why it is in this state.", "It was cancelled.")),
    problem: nullable(text("Code of the problem that it failed with.", "disk-full")),
    origin: word(["request", "autosnapshot"], "Who asked for it.", "request"),
    vmId: text("The VM that it was taken of; it may be gone.", "vm_01hqs4ym8x"),
    vmUuid: text("", "3e2c52ae-6a0d-4d0c-9d5b-8f3f4f4a2b10"),
    vmName: nullable(text("", "guest-1")),
    parent: nullable(text("The snapshot that this one tells the differences to.", "snap_1")),
    chain: text("The full snapshot that the chain begins with.", "snap_1"),
    isTracked: Type.Boolean({ description: "A differential may follow it now." }),
    progress: Type.Object(
      {
        phase: word(["queued", "memory", "held", "sync", "done"], "", "done"),
        pagesDone: count("Pages looked at; more than the total where some are looked at again.", 1),
        pagesTotal: count("", 1),
      },
      closed,
    ),
    memoryBytes: count("Guest memory that it stands for.", 16_777_216),
    fileBytes: nullable(count("", 1_234_567)),
    sha256: nullable(text("Of the file without its last 64 bytes.", "0".repeat(64))),
    pages: Type.Object(
      { stored: count("Pages with content.", 300), zero: count("Pages of zeros.", 3796) },
      { ...closed, description: "In the file; a page that was stored to meanwhile counts again." },
    ),
    rounds: count("Times that memory was looked at.", 2),
    pauseMs: nullable({ ...ms, description: "How long no vCPU ran." }),
    version: Type.Integer({ minimum: 0, description: "Counts changes.", examples: [2] }),
    createdAt: time(""),
    finishedAt: nullable(time("")),
    links: Type.Record(Type.String(), Type.String(), {
      description: "Paths of what belongs to it.",
      examples: [{ self: "/v1/snapshots/snap_1" }],
    }),
  },
  { ...closed, $id: "Snapshot", description: "A VM's memory and state at one moment." },
);
export const SnapshotPage = pageOf("SnapshotPage", Snapshot);

export const SnapshotListQuery = Type.Object(
  { limit, cursor, vm: Type.Optional(text("Only those of this VM.", "vm_01hqs4ym8x", 64)) },
  closed,
);

export const SnapshotContent = binary("The snapshot's file, as docs/snapshots.md describes it.");

export const SnapshotRestore = Type.Object(
  {
    name: Type.Optional(nullable(name)),
    uuid: Type.Optional(nullable(uuid)),
    paused: Type.Optional(paused),
  },
  { ...closed, $id: "SnapshotRestore", examples: [{ name: "guest-1-again" }] },
);

export const VmRestore = Type.Object(
  {
    snapshot: Type.Optional(nullable(text("The VM's newest complete one if absent.", "snap_1"))),
    paused: Type.Optional(paused),
  },
  { ...closed, $id: "VmRestore", examples: [{ paused: false }] },
);

const SECONDS_MAX = 7 * 86_400;
const KEEP_MAX = 100;
const policy = {
  everySeconds: Type.Integer({
    minimum: 1,
    maximum: SECONDS_MAX,
    description: "From one's begin to the next's.",
    examples: [60],
  }),
  keep: Type.Integer({
    minimum: 1,
    maximum: KEEP_MAX,
    description: "Of the newest, at least so many stay; less than twice as many do.",
    examples: [3],
  }),
  differential: Type.Boolean({
    description: "Chains of a full one and differentials, so long as `keep`.",
    examples: [true],
  }),
};

export const AutosnapshotPut = Type.Object(policy, {
  ...closed,
  $id: "AutosnapshotPut",
  examples: [{ everySeconds: 60, keep: 3, differential: true }],
});
export const Autosnapshot = Type.Object(
  {
    ...policy,
    vmId: text("", "vm_01hqs4ym8x"),
    latest: nullable(text("Its newest complete snapshot.", "snap_1")),
    createdAt: time(""),
    updatedAt: time(""),
  },
  { ...closed, $id: "Autosnapshot", description: "A VM that is snapshotted by itself." },
);
