// Owns: shapes of memslots. HTTP thread.
import Type from "typebox";
import { closed, count, hexU64, nullable, pageOf, u32, u64 } from "./common.schema.js";

const flagName = Type.Union([
  Type.Literal("KVM_MEM_LOG_DIRTY_PAGES"),
  Type.Literal("KVM_MEM_READONLY"),
  Type.Literal("KVM_MEM_GUEST_MEMFD"),
]);
const FLAG_NAMES_MAX = 8;

export const MemslotSet = Type.Object(
  {
    flags: Type.Optional(
      Type.Union([u32("KVM_MEM_* bits.", 1), Type.Array(flagName, { maxItems: FLAG_NAMES_MAX })], {
        description: "The flags word, or names of flags. 0 when absent.",
        examples: [["KVM_MEM_LOG_DIRTY_PAGES"]],
      }),
    ),
    guestPhysAddr: u64("Guest-physical address.", "0x0"),
    memorySize: u64("Bytes; 0x0 deletes the slot with all of KVM's checks.", "0x200000"),
    userspaceAddr: Type.Optional(u64("User address, checked as Linux does.", "0x7f0000000000")),
    memoryObjectId: Type.Optional(u32("Sugar for userspaceAddr: a memory object.", 1)),
    offset: Type.Optional(u64("With memoryObjectId: first byte in it.", "0x0")),
    guestMemfdId: Type.Optional(
      Type.Integer({
        minimum: -1,
        maximum: 0x7fff_ffff,
        description: "guest_memfd; implies the second form of the ioctl.",
        examples: [1],
      }),
    ),
    guestMemfdOffset: Type.Optional(u64("With guestMemfdId.", "0x0")),
    region2: Type.Optional(
      Type.Boolean({ default: false, description: "Use KVM_SET_USER_MEMORY_REGION2." }),
    ),
  },
  {
    ...closed,
    $id: "MemslotSet",
    examples: [
      {
        flags: ["KVM_MEM_LOG_DIRTY_PAGES"],
        guestPhysAddr: "0x0",
        memorySize: "0x200000",
        memoryObjectId: 1,
      },
    ],
  },
);

export const Memslot = Type.Object(
  {
    slot: u32("Slot number."),
    flags: u32("KVM_MEM_* bits.", 1),
    flagNames: Type.Array(Type.String(), { examples: [["KVM_MEM_LOG_DIRTY_PAGES"]] }),
    guestPhysAddr: hexU64("", "0x0"),
    memorySize: hexU64("Bytes.", "0x200000"),
    userspaceAddr: hexU64("", "0x7f0000000000"),
    guestMemfdId: nullable(Type.Integer({ minimum: 0, examples: [1] })),
    guestMemfdOffset: hexU64("", "0x0"),
    npages: count("Pages of the slot.", 512),
  },
  { ...closed, $id: "Memslot" },
);
export const MemslotPage = pageOf("MemslotPage", Memslot);
