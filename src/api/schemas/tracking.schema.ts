// Owns: shapes of dirty pages as the host tracks them, dirty rates and throttles. HTTP thread.
import Type from "typebox";
import { binary, closed, count, nullable, text, time, word } from "./common.schema.js";

const METHODS = ["bitmap", "manual-protect", "ring", "hdbss", "hdbss+hacdbs", "async-run"] as const;

const Method = word(
  METHODS,
  "bitmap: GET clears and protects. manual-protect: GET, CLEAR in pieces. ring: dirty rings. " +
    "hdbss: hardware records. hdbss+hacdbs: and hardware cleans. async-run: CLEARs wait.",
  "hdbss+hacdbs",
);

export const Tracking = Type.Object(
  {
    owner: word(
      ["client", "vmm", "none"],
      "Who may read and clear KVM's log; vmm: the host, for its consumers.",
      "vmm",
    ),
    method: nullable(Method),
    methods: Type.Array(
      Type.Object(
        { method: Method, whyNot: nullable(text("Why this VM can't.", "it has no rings")) },
        closed,
      ),
    ),
    consumers: Type.Array(
      Type.Object(
        {
          name: text("Its resource, below /v1.", "migrations/mig_1"),
          pages: count("Pages harvested for it that it has not taken.", 12),
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: "DirtyTracking" },
);

export const DirtyPagesQuery = Type.Object(
  {
    consumer: Type.String({
      minLength: 1,
      maxLength: 200,
      description: "Name of the consumer.",
      examples: ["migrations/mig_1"],
    }),
    memoryObject: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description: "Only this object's pages. As octet-stream it has to be given.",
        examples: [1],
      }),
    ),
  },
  closed,
);

export const PageBitmap = binary(
  "Little-endian 64-bit words; bit i of word w is page 64w + i of the object. Empty: none.",
);

const ranges = Type.Array(
  Type.Array(Type.Integer({ minimum: 0 }), {
    minItems: 2,
    maxItems: 2,
    description: "First page and number of pages.",
  }),
  { description: "Runs of dirty pages: [first page, pages].", examples: [[[3, 5]]] },
);

export const DirtyPages = Type.Object(
  {
    consumer: text("Name of the consumer.", "migrations/mig_1"),
    pages: count("Dirty pages of all objects listed.", 12),
    objects: Type.Array(
      Type.Object(
        {
          memoryObject: count("Id of the memory object.", 1),
          count: count("Its dirty pages.", 12),
          ranges,
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: "DirtyPages" },
);

export const DIRTY_RATE_MS_MAX = 10_000;

const number = (description: string, example: number) =>
  Type.Number({ minimum: 0, description, examples: [example] });

export const DirtyRateMeasure = Type.Object(
  {
    periodMs: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: DIRTY_RATE_MS_MAX,
        default: 1000,
        description: "Real time to measure for.",
      }),
    ),
  },
  { ...closed, $id: "DirtyRateMeasure", examples: [{ periodMs: 1000 }] },
);

export const DirtyRate = Type.Object(
  {
    method: Method,
    durationMs: number("Real time between the first look and the last.", 1000.4),
    pages: count("Pages that became dirty in that time; each counts once.", 12),
    pagesPerSecond: number("Pages over time.", 12),
    mibPerSecond: number("The same in MiB.", 0.05),
    vcpus: Type.Array(
      Type.Object(
        {
          vcpu: count("Id of the vCPU."),
          pagesPerSecond: number("A page that several store to is the first one's.", 12),
        },
        closed,
      ),
    ),
    measuredAt: time("When it was measured."),
  },
  { ...closed, $id: "DirtyRate" },
);

const percent = Type.Integer({
  minimum: 0,
  maximum: 99,
  description:
    "Share of time that each vCPU is kept from running: after each 10 ms it waits for so long " +
    "that the share is right. In the VM's own time.",
  examples: [20],
});
const dirtyLimit = Type.Integer({
  minimum: 0,
  maximum: Number.MAX_SAFE_INTEGER,
  description:
    "New dirty pages that each vCPU may make a second, while they are logged; 0 for no limit. A " +
    "vCPU that has made more waits until it may have.",
  examples: [1000],
});

export const ThrottleSet = Type.Object(
  { percent, dirtyLimitPagesPerSecond: dirtyLimit },
  {
    ...closed,
    $id: "ThrottleSet",
    examples: [{ percent: 20, dirtyLimitPagesPerSecond: 0 }],
  },
);

export const Throttle = Type.Object(
  {
    percent,
    dirtyLimitPagesPerSecond: dirtyLimit,
    vcpus: Type.Array(
      Type.Object(
        {
          vcpu: count("Id of the vCPU."),
          dirtied: count("Pages that it made dirty while they were logged, so far.", 12),
          throttledUs: count("Microseconds that it was kept from running, so far.", 5000),
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: "Throttle" },
);
