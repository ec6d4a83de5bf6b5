// Owns: shapes of HACDBS's firmware tables and of its nested model. HTTP thread.
import Type from "typebox";
import { closed, count, hexU64, nullable, u64 } from "./common.schema.js";

const vncr = u64("Guest-physical address of L1's VNCR page.", "0x40000000");

export const NestedWrite = Type.Object(
  {
    vncr,
    register: Type.Union(
      [
        Type.Literal("HDBSSBR_EL2"),
        Type.Literal("HACDBSBR_EL2"),
        Type.Literal("HDBSSPROD_EL2"),
        Type.Literal("HACDBSCONS_EL2"),
      ],
      { description: "What L1 writes.", examples: ["HACDBSBR_EL2"] },
    ),
    value: u64("What it writes; a HACDBSBR_EL2 whose EN goes from 0 to 1 starts.", "0x40001800"),
  },
  {
    ...closed,
    $id: "NestedWrite",
    examples: [{ vncr: "0x40000000", register: "HACDBSBR_EL2", value: "0x40001800" }],
  },
);

export const NestedStore = Type.Object(
  { vncr, ipa: u64("L2's guest-physical address.", "0x80001000") },
  { ...closed, $id: "NestedStore", examples: [{ vncr: "0x40000000", ipa: "0x80001000" }] },
);

const registers = Type.Object(
  {
    HDBSSBR_EL2: hexU64("VNCR offset 0x2e0.", "0x0"),
    HACDBSBR_EL2: hexU64("VNCR offset 0x2f0.", "0x40001800"),
    HDBSSPROD_EL2: hexU64("VNCR offset 0x300.", "0x0"),
    HACDBSCONS_EL2: hexU64("VNCR offset 0x308: ERR_REASON in 63:62, INDEX in 18:0.", "0x200"),
  },
  closed,
);

export const NestedResult = Type.Object(
  {
    model: Type.Literal("synthetic-l1", {
      description:
        "No guest runs at EL2 here: the client is L1. Its VNCR page, stage 2 and entry array are " +
        "real bytes in the VM's memory, and the loop is KVM's, in software.",
    }),
    outcome: Type.Union(
      (["undefined", "written", "ran", "stored", "fault"] as const).map((one) => Type.Literal(one)),
      {
        description:
          "undefined: the access is UNDEF (nested.hacdbs is hidden). fault: L2's store goes to " +
          "L1 as a stage-2 abort.",
        examples: ["ran"],
      },
    ),
    idField: count("ID_AA64MMFR4_EL1.HACDBS as L1 reads it.", 1),
    registers: nullable(registers),
    cleaned: count("Descriptors of L1's stage 2 that became writable-clean.", 3),
    invalidated: count("Entries of L0's shadow stage 2 that went with them.", 2),
    irq: Type.Boolean({ description: "L1's HACDBSIRQ, level sensitive.", examples: [true] }),
  },
  { ...closed, $id: "NestedResult" },
);
