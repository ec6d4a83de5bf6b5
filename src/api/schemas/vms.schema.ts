// Owns: shapes of VMs: definition, resource, requests. HTTP thread.
import Type from "typebox";
import { PAGE_SIZES } from "../../base/page.js";
import { BoardCreate, BoardDefinition } from "./board.schema.js";
import {
  closed,
  count,
  hexU64,
  limit,
  nullable,
  cursor as pageCursor,
  pageOf,
  text,
  time,
  u64,
  wait,
} from "./common.schema.js";
import { DirtyCreate, DirtyDefinition } from "./dirty-settings.schema.js";

/** DESIGN 6: 4 KiB unless the VM says otherwise. */
export const PAGE_SIZE_DEFAULT = 4096;

const pageSize = Type.Union(
  PAGE_SIZES.map((size) => Type.Literal(size)),
  { description: "Page size of the emulated host, bytes.", examples: [4096] },
);
const dirtyTracking = Type.Union([Type.Literal("write-protect"), Type.Literal("dbm")], {
  description: "How stores to logged pages are noticed.",
  examples: ["write-protect"],
});
const labelValue = Type.String({ maxLength: 255 });
const labelName = "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$";
const LABELS_MAX = 64;
export const labels = Type.Record(Type.String({ pattern: labelName }), labelValue, {
  ...closed,
  maxProperties: LABELS_MAX,
  description: "Names and values for finding VMs again.",
  examples: [{ team: "migration" }],
});
export const name = Type.String({
  minLength: 1,
  maxLength: 128,
  description: "A name for people.",
  examples: ["guest-1"],
});
export const uuid = Type.String({
  pattern: "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
  examples: ["3e2c52ae-6a0d-4d0c-9d5b-8f3f4f4a2b10"],
});

export const NS_PER_INSTRUCTION_MAX = 1_000_000;
const mode = Type.Union([Type.Literal("virtual"), Type.Literal("wall")], {
  description: "virtual: time is what was executed; wall: time of the machine.",
  examples: ["virtual"],
});
const idle = Type.Union([Type.Literal("jump"), Type.Literal("paced")], {
  description: "In virtual time: jump to the next timer, or never ahead of real time.",
  examples: ["jump"],
});
const nsPerInstruction = Type.Integer({
  minimum: 1,
  maximum: NS_PER_INSTRUCTION_MAX,
  description: "Virtual nanoseconds of one retired access or instruction.",
  examples: [1],
});

export const VmDefinition = Type.Object(
  {
    type: hexU64("KVM_CREATE_VM's argument; bits 7:0 are the IPA size, 0 means 40.", "0x0"),
    pageSize,
    hostCpus: count("Host CPUs of the slice; 0 means as many as vCPUs.", 0),
    seed: hexU64("Seeds every pseudo-random choice of the VM.", "0x1"),
    clock: Type.Object({ mode, nsPerInstruction, idle }, closed),
    dirtyTracking,
    dirty: Type.Optional(DirtyDefinition),
    board: Type.Optional(BoardDefinition),
  },
  { ...closed, $id: "VmDefinition", description: "What the VM is made from." },
);

/** KVM's view of an active VM. */
export const VmView = Type.Object(
  {
    ipaBits: Type.Integer({ examples: [40] }),
    pageSize,
    startLevel: Type.Integer({ description: "First lookup level of stage 2.", examples: [1] }),
    vtcr: hexU64("VTCR_EL2.", "0x80023558"),
    vttbr: hexU64("VTTBR_EL2.", "0x1000000010000"),
    hostCpus: count("", 1),
    createdVcpus: count("", 1),
    runningVcpus: count("", 0),
    maxVcpus: count("", 512),
    memslotCount: count("", 1),
    hasRun: Type.Boolean({ description: "A vCPU has passed its first-run checks." }),
    dead: Type.Boolean({ description: "Every ioctl answers EIO." }),
    vgicInitialized: Type.Boolean(),
    manualDirtyLogProtect: Type.Integer({
      description: "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 as enabled: bit 0, bit 1 initially set.",
      examples: [0],
    }),
    dirtyRingBytes: count("Bytes of each vCPU's dirty ring; 0 without.", 0),
    dirtyRingWithBitmap: Type.Boolean(),
    eagerSplitChunkSize: hexU64("", "0x0"),
    haltPollNs: nullable(count("", 0)),
    dirtyTracking,
    instructions: count("Accesses and instructions retired; runs on, not part of the ETag.", 0),
    virtualNs: count("Virtual time; runs on, not part of the ETag.", 0),
    steps: count("Scheduler steps; runs on, not part of the ETag.", 0),
    replaying: Type.Boolean({ description: "An input log is being replayed." }),
  },
  { ...closed, $id: "VmKvmView", description: "What KVM says of an active VM." },
);

const state = Type.String({
  description:
    'active, stopped, lost, failed, incoming or migrated. "active" has a thread; "incoming" is ' +
    'being moved here, "migrated" went to another host; the others are a record only.',
  examples: ["active"],
});

const record = {
  id: text("", "vm_01hqs4ym8x"),
  uuid,
  name: nullable(name),
  labels,
  state,
  stateReason: nullable(text("Why it is in this state; for lost, what was lost.", "")),
  version: Type.Integer({ minimum: 0, description: "Counts changes.", examples: [1] }),
  createdAt: time(""),
  updatedAt: time(""),
  definition: VmDefinition,
  links: Type.Record(Type.String(), Type.String(), {
    description: "Paths of what belongs to the VM.",
    examples: [{ self: "/v1/vms/vm_01hqs4ym8x" }],
  }),
};

export const VmSummary = Type.Object(record, { ...closed, $id: "VmSummary" });
export const Vm = Type.Object(
  { ...record, kvm: nullable(VmView) },
  { ...closed, $id: "Vm", description: "A VM; `kvm` is null unless it is active." },
);
export const VmPage = pageOf("VmPage", VmSummary);

export const InputLog = Type.Object(
  {},
  {
    additionalProperties: true,
    $id: "InputLog",
    description: "As GET /v1/vms/{vm}/inputs gave it; opaque.",
    examples: [{ version: 1 }],
  },
);

const IPA_BITS_MAX = 255;
const HOST_CPUS_MAX = 512;

export const VmCreate = Type.Object(
  {
    name: Type.Optional(nullable(name)),
    uuid: Type.Optional(nullable(uuid)),
    labels: Type.Optional(labels),
    type: Type.Optional(u64("KVM_CREATE_VM's argument, every bit of it.", "0x0")),
    ipaBits: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: IPA_BITS_MAX,
        description: "Sugar for `type`: bits 7:0. Not together with it.",
        examples: [40],
      }),
    ),
    pageSize: Type.Optional(pageSize),
    hostCpus: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: HOST_CPUS_MAX,
        default: 0,
        description: "Host CPUs of the slice; 0 means as many as vCPUs.",
      }),
    ),
    seed: Type.Optional(u64("Seeds every pseudo-random choice of the VM.", "0x1")),
    clock: Type.Optional(
      Type.Object(
        {
          mode: Type.Optional(mode),
          nsPerInstruction: Type.Optional(nsPerInstruction),
          idle: Type.Optional(idle),
        },
        closed,
      ),
    ),
    dirtyTracking: Type.Optional(dirtyTracking),
    dirty: Type.Optional(DirtyCreate),
    board: Type.Optional(BoardCreate),
    inputs: Type.Optional(
      Type.Object(
        { log: InputLog },
        { ...closed, description: "Replays a log; its definition is the VM's." },
      ),
    ),
    validateOnly: Type.Optional(
      Type.Boolean({ default: false, description: "Only say whether it would be created." }),
    ),
  },
  {
    ...closed,
    $id: "VmCreate",
    description: "A VM to create. Every field may be left out.",
    examples: [{ name: "guest-1", ipaBits: 40, labels: { team: "migration" } }],
  },
);

export const VmPatch = Type.Object(
  {
    name: Type.Optional(nullable(name)),
    labels: Type.Optional(
      Type.Record(Type.String({ pattern: labelName }), nullable(labelValue), {
        ...closed,
        maxProperties: LABELS_MAX,
        description: "Changes of labels; null removes one.",
        examples: [{ team: null }],
      }),
    ),
  },
  {
    ...closed,
    $id: "VmPatch",
    description: "RFC 7396 merge patch.",
    examples: [{ name: "guest-2", labels: { team: null } }],
  },
);

export const VmListQuery = Type.Object(
  {
    limit,
    cursor: pageCursor,
    state: Type.Optional(
      Type.Union(
        [
          Type.Literal("active"),
          Type.Literal("stopped"),
          Type.Literal("lost"),
          Type.Literal("failed"),
          Type.Literal("incoming"),
          Type.Literal("migrated"),
        ],
        { description: "Only VMs in this state." },
      ),
    ),
    label: Type.Optional(
      Type.Array(Type.String({ pattern: "^[^=]{1,63}=.{0,255}$", examples: ["team=migration"] }), {
        maxItems: 16,
        description: "Only VMs with this label, name=value; repeat for more, all must match.",
      }),
    ),
  },
  closed,
);

export const VmGetQuery = Type.Object(
  {
    wait,
    untilState: Type.Optional(
      Type.String({
        maxLength: 32,
        description: "With `wait`: answer as soon as the VM is in this state.",
        examples: ["stopped"],
      }),
    ),
  },
  closed,
);

export const Validated = Type.Object(
  { valid: Type.Literal(true) },
  { ...closed, $id: "Validated", description: "It would be created." },
);

export const Digest = Type.Object(
  {
    digest: Type.String({ pattern: "^[0-9a-f]{16}$", examples: ["cbf29ce484222325"] }),
    parts: Type.Record(Type.String(), Type.String(), {
      description: "Digest of each stateful part.",
      examples: [{ memslots: "cbf29ce484222325" }],
    }),
  },
  { ...closed, $id: "Digest", description: "A digest over the whole state of the VM." },
);

export const Counters = Type.Object(
  {
    counters: Type.Record(Type.String(), Type.Number(), {
      description: "Counts since the VM's thread began; names may be added.",
      examples: [{ stage2Faults: 12 }],
    }),
  },
  { ...closed, $id: "Counters" },
);

export const Stats = Type.Object(
  {
    id: text("Id string of the file.", "kvm-vm"),
    stats: Type.Array(
      Type.Object(
        {
          name: text("", "exits"),
          type: text("cumulative, instant, peak, linear-histogram or log-histogram", "cumulative"),
          unit: text("none, bytes, seconds, cycles or boolean", "none"),
          base: Type.Union([Type.Literal(10), Type.Literal(2)]),
          exponent: Type.Integer({ examples: [0] }),
          bucketSize: Type.Integer({ examples: [0] }),
          values: Type.Array(hexU64("", "0x2a")),
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: "Stats", description: "KVM_GET_STATS_FD's file, decoded." },
);

const ARGS_MAX = 4;

export const CapabilityEnable = Type.Object(
  {
    flags: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 0xffff_ffff, default: 0, description: "KVM's flags." }),
    ),
    args: Type.Optional(
      Type.Array(u64("", "0x1"), {
        maxItems: ARGS_MAX,
        description: "KVM's args[4]; missing ones are 0.",
      }),
    ),
  },
  { ...closed, $id: "CapabilityEnable", examples: [{ args: ["0x1"] }] },
);

export const CapabilityEnabled = Type.Object(
  {
    name: nullable(text("Name in linux/kvm.h.", "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2")),
    number: Type.Integer({ minimum: 0, examples: [168] }),
    flags: Type.Integer({ minimum: 0, examples: [0] }),
    args: Type.Array(hexU64("", "0x1"), { examples: [["0x1", "0x0", "0x0", "0x0"]] }),
  },
  { ...closed, $id: "CapabilityEnabled", description: "What KVM_ENABLE_CAP was given." },
);
