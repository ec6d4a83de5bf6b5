// Owns: shapes of what one host asks another: passports, offers, states. HTTP thread.
import Type from "typebox";
import { imageName, sha256 } from "./board.schema.js";
import { binary, closed, count, hexU64, nullable, text, u32 } from "./common.schema.js";
import { Failure, Migration, MigrationParameters } from "./migrations.schema.js";
import { AutosnapshotPut } from "./snapshots.schema.js";
import { labels, name, uuid, VmDefinition } from "./vms.schema.js";

const PARTS_MAX = 65_536;
const LIST_MAX = 64;
const list = <T extends Parameters<typeof Type.Array>[0]>(item: T, maxItems = PARTS_MAX) =>
  Type.Array(item, { maxItems, examples: [[]] });

const Shape = Type.Object(
  {
    capabilities: list(
      Type.Object(
        {
          ordinal: count(""),
          cap: u32(""),
          flags: u32(""),
          args: list(hexU64(""), LIST_MAX),
          tentative: Type.Boolean(),
        },
        closed,
      ),
    ),
    memoryObjects: list(
      Type.Object(
        {
          ordinal: count(""),
          objectId: count(""),
          userspaceAddr: hexU64(""),
          size: hexU64(""),
          backing: Type.Union([
            Type.Literal("ram"),
            Type.Literal("unbacked"),
            Type.Literal("device"),
          ]),
          hugePages: Type.Boolean(),
        },
        closed,
      ),
    ),
    guestMemfds: list(
      Type.Object(
        {
          ordinal: count(""),
          memfdId: count(""),
          size: hexU64(""),
          flags: hexU64(""),
          closed: Type.Boolean(),
        },
        closed,
      ),
    ),
    memslots: list(
      Type.Object(
        {
          slot: u32(""),
          flags: u32(""),
          guestPhysAddr: hexU64(""),
          memorySize: hexU64(""),
          userspaceAddr: hexU64(""),
          guestMemfd: nullable(count("")),
          guestMemfdOffset: hexU64(""),
        },
        closed,
      ),
    ),
    vcpus: list(Type.Object({ ordinal: count(""), vcpuId: u32("") }, closed)),
  },
  { ...closed, $id: "VmShape", description: "What the VM has beside its definition." },
);

const EXAMPLE_DEFINITION = {
  type: "0x0",
  pageSize: 4096, // tidy: the host's default page size
  hostCpus: 0,
  seed: "0x1",
  clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
  dirtyTracking: "write-protect",
};
const EXAMPLE_SHAPE = {
  ...{ capabilities: [], memoryObjects: [], guestMemfds: [], memslots: [], vcpus: [] },
};
const EXAMPLE_PASSPORT = {
  version: 1,
  streams: [2, 1],
  source: { instance: "host-a", session: "mig_01hqs4ym8x", url: "http://host-a:8080" },
  vm: {
    uuid: "3e2c52ae-6a0d-4d0c-9d5b-8f3f4f4a2b10",
    name: "guest-1",
    labels: {},
    definition: EXAMPLE_DEFINITION,
    shape: EXAMPLE_SHAPE,
    images: [],
  },
  memory: [],
};

const Passport = Type.Object(
  {
    version: Type.Integer({
      minimum: 1,
      maximum: 65_535,
      description: "Another is refused.",
      examples: [1],
    }),
    streams: Type.Array(Type.Integer({ minimum: 1, maximum: 65_535 }), {
      minItems: 1,
      maxItems: LIST_MAX,
      description: "Versions of the page stream that the source sends.",
    }),
    source: Type.Object(
      {
        instance: text("Name of the source's host.", "host-a", 63),
        session: text("Its id of the session.", "mig_01hqs4ym8x", 64),
        url: text("Not used: a host calls peers of its own list alone.", "", 512),
      },
      closed,
    ),
    vm: Type.Object(
      {
        uuid,
        name: nullable(name),
        labels,
        definition: VmDefinition,
        shape: Shape,
        images: list(Type.Object({ sha256, size: count("") }, closed), LIST_MAX),
        autosnapshot: Type.Optional(AutosnapshotPut),
      },
      closed,
    ),
    parts: Type.Optional(
      list(
        Type.Object(
          {
            kind: text("Of the state to come.", "vcpus", 64),
            version: Type.Integer({ minimum: 1, maximum: 65_535, examples: [2] }),
          },
          closed,
        ),
        LIST_MAX,
      ),
    ),
    eventfds: Type.Optional(
      list(
        Type.Object(
          {
            name: nullable(text("Its id at the source; null: no client knows it.", "efd_01", 64)),
            isTrigger: Type.Boolean({ description: "An irqfd waits on it." }),
          },
          closed,
        ),
      ),
    ),
    memory: list(
      Type.Object(
        {
          object: count(""),
          bytes: count(""),
          contentPage: count("As of which page unbacked content is computed; else 0."),
        },
        closed,
      ),
    ),
  },
  {
    ...closed,
    $id: "MigrationPassport",
    description: "What a target builds a VM from.",
    examples: [EXAMPLE_PASSPORT],
  },
);

const DEFAULTS = {
  ...{ strategy: "pre-copy", tracking: "auto", channels: 1, compression: "none" },
  ...{ deltaCacheBytes: 2 ** 26, postcopyBandwidthBytesPerSecond: 0 },
  ...{ bandwidthBytesPerSecond: 0, downtimeMs: 300, timeoutMs: 0, onTimeout: "cancel" },
  ...{ autoConverge: false, throttleInitial: 20, throttleIncrement: 10, throttleMax: 99 },
  ...{ dirtyLimitPagesPerSecond: 0, pauseBeforeSwitchover: false, verify: false },
};

export const IncomingCreate = Type.Object(
  {
    passport: Passport,
    parameters: Type.Optional(MigrationParameters),
    validateOnly: Type.Optional(
      Type.Boolean({ description: "Says what would be refused, and builds nothing." }),
    ),
  },
  {
    ...closed,
    $id: "IncomingMigrationCreate",
    examples: [{ passport: EXAMPLE_PASSPORT, parameters: DEFAULTS }],
  },
);

export const MigrationOffer = Type.Object(
  {
    session: text("Id of the target's session.", "mig_02k9"),
    stream: Type.Integer({ description: "Version of the page stream.", examples: [1] }),
    dataPlane: Type.Object(
      {
        url: text("Where pages go.", "http://127.0.0.1:41234"),
        secret: text("Bearer token of this session's stream.", "c2VjcmV0"),
      },
      closed,
    ),
    takesPacked: Type.Optional(
      Type.Boolean({
        description: "The VM's state may come as one part of bytes. Absent: it may not.",
        examples: [true],
      }),
    ),
  },
  { ...closed, $id: "MigrationOffer", description: "The VM is built and held." },
);

export const IncomingFinishQuery = Type.Object(
  {
    digest: Type.Optional(
      text("Of all memory at the source; the target compares its own.", "8f3f4f4a", 256),
    ),
  },
  closed,
);
export const IncomingFinished = Type.Object(
  { digest: nullable(text("Of all memory here; null: none was asked for.", "8f3f4f4a", 256)) },
  { ...closed, $id: "IncomingFinished" },
);
export const MigrationState = binary("State of vCPUs and devices.");

export const IncomingAbort = Type.Object(
  {
    why: text("Kept with the session.", "The source was cancelled.", 1024),
    unlessReady: Type.Optional(
      Type.Boolean({ description: "Refused where the target has everything already." }),
    ),
  },
  { ...closed, $id: "IncomingAbort", examples: [{ why: "It was cancelled." }] },
);

export const IncomingStatus = Type.Object(
  {
    state: Migration.properties.state,
    point: Migration.properties.point,
    failure: nullable(Failure),
  },
  { ...closed, $id: "IncomingStatus", description: "How far the target is." },
);

export const IncomingImageParams = Type.Object({ sha256 }, closed);
export const IncomingImageQuery = Type.Object({ name: imageName }, closed);
export const IncomingImageBytes = binary("The image.");
