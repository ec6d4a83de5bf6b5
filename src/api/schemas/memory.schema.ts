// Owns: shapes of memory: objects, content, guest-physical memory, guest_memfd. HTTP thread.
import Type from "typebox";
import {
  base64,
  binary,
  closed,
  count,
  hexU64,
  pageOf,
  u32,
  u64,
  vmParams,
} from "./common.schema.js";

const backing = Type.Union(
  [Type.Literal("ram"), Type.Literal("unbacked"), Type.Literal("device")],
  {
    description:
      "ram: bytes of this machine; unbacked: content computed from a seed, any size; " +
      "device: pages of a device, never logged.",
    examples: ["ram"],
  },
);

export const MemoryObjectCreate = Type.Object(
  {
    size: u64("Bytes; a multiple of the page size.", "0x200000"),
    userspaceAddr: Type.Optional(
      u64("Where in the VM's emulated process; chosen by the host when absent.", "0x7f0000000000"),
    ),
    backing: Type.Optional(backing),
    hugePages: Type.Optional(
      Type.Boolean({ default: true, description: "Stage 2 may map it by blocks." }),
    ),
  },
  { ...closed, $id: "MemoryObjectCreate", examples: [{ size: "0x200000" }] },
);

export const MemoryObject = Type.Object(
  {
    id: Type.Integer({ minimum: 0, examples: [1] }),
    userspaceAddr: hexU64("First byte in the emulated process.", "0x7f0000000000"),
    size: hexU64("Bytes.", "0x200000"),
    backing,
    hugePages: Type.Boolean(),
  },
  { ...closed, $id: "MemoryObject" },
);
export const MemoryObjectPage = pageOf("MemoryObjectPage", MemoryObject);

const id = u32("Id of the memory object.", 1);
export const MemoryObjectParams = vmParams("id", id);

/** Bytes of the JSON form when no length is named. */
export const JSON_LENGTH_DEFAULT = 4096;

export const ContentQuery = Type.Object(
  {
    offset: Type.Optional(u64("First byte; only for the JSON form.", "0x0")),
    length: Type.Optional(
      count(`Bytes; only for the JSON form. ${JSON_LENGTH_DEFAULT} by default.`, 4096),
    ),
  },
  closed,
);
export const ContentWriteQuery = Type.Object(
  {
    offset: Type.Optional(u64("First byte; required with an octet-stream body.", "0x0")),
  },
  closed,
);
export const Content = Type.Object(
  {
    offset: hexU64("First byte.", "0x0"),
    base64: base64("The bytes."),
  },
  { ...closed, $id: "Content", description: "Bytes of a memory object." },
);
export const ContentWrite = Type.Object(
  { offset: u64("First byte.", "0x0"), base64: base64("The bytes.") },
  { ...closed, $id: "ContentWrite" },
);
export const Bytes = binary("Bytes as they are in memory.");

export const PhysicalQuery = Type.Object(
  {
    gpa: u64("Guest-physical address.", "0x4000"),
    length: Type.Integer({
      minimum: 0,
      maximum: 0xffff_ffff,
      description: "Bytes.",
      examples: [4096],
    }),
  },
  closed,
);
export const PhysicalWriteQuery = Type.Object(
  { gpa: Type.Optional(u64("Guest-physical address; required with octet-stream.", "0x4000")) },
  closed,
);
export const Physical = Type.Object(
  { gpa: hexU64("Guest-physical address.", "0x4000"), base64: base64("The bytes.") },
  { ...closed, $id: "PhysicalMemory" },
);
export const PhysicalWrite = Type.Object(
  { gpa: u64("Guest-physical address.", "0x4000"), base64: base64("The bytes.") },
  { ...closed, $id: "PhysicalMemoryWrite" },
);

export const GuestMemfdCreate = Type.Object(
  {
    size: u64("Bytes; a multiple of the page size.", "0x200000"),
    flags: Type.Optional(u64("1 MMAP, 2 INIT_SHARED.", "0x1")),
  },
  { ...closed, $id: "GuestMemfdCreate" },
);
export const GuestMemfd = Type.Object(
  {
    id: Type.Integer({ minimum: 0, examples: [1] }),
    size: hexU64("Bytes.", "0x200000"),
    flags: hexU64("As given.", "0x1"),
    allocatedPages: count("Pages that hold content."),
  },
  { ...closed, $id: "GuestMemfd" },
);
export const GuestMemfdPage = pageOf("GuestMemfdPage", GuestMemfd);
export const GuestMemfdParams = vmParams("id", u32("Id of the guest_memfd.", 1));
export const FileRange = Type.Object(
  { offset: u64("First byte.", "0x0"), length: u64("Bytes.", "0x1000") },
  { ...closed, $id: "FileRange" },
);
