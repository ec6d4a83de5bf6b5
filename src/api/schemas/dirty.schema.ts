// Owns: shapes of dirty logs, harvests and dirty rings. HTTP thread.
import Type from "typebox";
import {
  base64,
  binary,
  closed,
  count,
  hexU64,
  slotParams,
  text,
  u32,
  u64,
  VcpuParams,
  vcpuParams,
} from "./common.schema.js";

const ranges = Type.Array(
  Type.Array(Type.Integer({ minimum: 0 }), {
    minItems: 2,
    maxItems: 2,
    description: "First page and number of pages.",
  }),
  { description: "Runs of dirty pages: [first page, pages].", examples: [[[3, 5]]] },
);

const log = {
  npages: count("Pages of the slot.", 512),
  count: count("Dirty pages.", 5),
  ranges,
};

export const Bitmap = binary(
  "Little-endian 64-bit words; bit i of word w is page 64w + i. ceil(npages / 64) * 8 bytes.",
);
export const DirtyLog = Type.Object(log, { ...closed, $id: "DirtyLog" });
export const Harvest = Type.Object(
  {
    id: text("Name it in `after`, or DELETE it, to acknowledge.", "h1"),
    ...log,
    repeated: Type.Boolean({ description: "It was given out before." }),
  },
  { ...closed, $id: "Harvest" },
);

const after = Type.Optional(
  Type.String({
    minLength: 1,
    maxLength: 64,
    description: "The last result, which this request acknowledges.",
    examples: ["h1"],
  }),
);
export const AfterQuery = Type.Object({ after }, closed);
export const HarvestParams = slotParams(
  "harvest",
  Type.String({
    minLength: 1,
    maxLength: 64,
    description: "Id of the harvest.",
    examples: ["h1"],
  }),
);

export const ClearQuery = Type.Object(
  {
    firstPage: Type.Optional(u64("First page of the window; with an octet-stream body.", "0x0")),
    numPages: Type.Optional(u32("Pages of the window; with an octet-stream body.", 512)),
  },
  closed,
);
export const Clear = Type.Object(
  {
    firstPage: u64("First page of the window; a multiple of 64.", "0x0"),
    numPages: u32("Pages of the window.", 512),
    ranges: Type.Optional(
      Type.Array(
        Type.Array(Type.Integer({ minimum: 0, maximum: 0xffff_ffff }), {
          minItems: 2,
          maxItems: 2,
        }),
        {
          description: "Pages to clear, relative to firstPage: [first page, pages].",
          examples: [[[3, 5]]],
        },
      ),
    ),
    base64: Type.Optional({
      ...base64("Or the bitmap, bit 0 being firstPage."),
    }),
    defer: Type.Optional(
      Type.Boolean({
        description:
          "With clear.mode async-run: vCPUs clean while they run. The pages count as dirty until " +
          "a run ends with KVM_EXIT_CLEANED; don't copy them as final before. By default false.",
        examples: [false],
      }),
    ),
  },
  {
    ...closed,
    $id: "Clear",
    examples: [{ firstPage: "0x0", numPages: 512, ranges: [[3, 5]] }],
  },
);
export const Cleared = Type.Object(
  {
    cleared: count("Pages that went from dirty to clean.", 5),
    deferred: Type.Optional(count("With defer: pages that stay dirty until KVM_EXIT_CLEANED.", 5)),
  },
  { ...closed, $id: "Cleared" },
);

export const RingsReset = Type.Object(
  { reset: count("Entries that were taken back, of all vCPUs.", 3) },
  { ...closed, $id: "RingsReset" },
);
export const RingEntry = Type.Object(
  {
    index: count("Absolute index, counting up without wrap."),
    flags: u32("0 empty, 1 dirty, 2 harvested.", 1),
    slot: u32("Address space in bits 31:16, slot in 15:0."),
    offset: hexU64("Page in the slot.", "0x3"),
  },
  { ...closed, $id: "RingEntry" },
);
export const RingWindow = Type.Object(
  {
    entries: Type.Array(RingEntry),
    size: count("Entries of the ring.", 4096),
    dirtyIndex: count("Next entry that KVM writes.", 3),
    resetIndex: count("Next entry that a reset looks at."),
    harvestIndex: count("Next entry that userspace harvests."),
  },
  { ...closed, $id: "RingWindow" },
);
export const RingRecords = binary(
  "16-byte records as in the mapped ring: u32 flags, u32 slot, u64 offset, little-endian.",
);
const RING_LIMIT_MAX = 65_536;
export const RingQuery = Type.Object(
  {
    from: Type.Optional(count("Absolute index of the first entry; harvestIndex by default.")),
    limit: Type.Optional(
      Type.Integer({ minimum: 0, maximum: RING_LIMIT_MAX, default: 1000, description: "Entries." }),
    ),
  },
  closed,
);
export const RingHarvest = Type.Object(
  { upTo: count("Absolute index behind the last harvested entry.", 3) },
  { ...closed, $id: "RingHarvest" },
);
export const RingParams = VcpuParams;
export const RingEntryParams = vcpuParams("index", count("Absolute index of the entry.", 3));
export const RingFlags = Type.Object(
  { flags: u32("The entry's flags word.", 2) },
  { ...closed, $id: "RingFlags" },
);
