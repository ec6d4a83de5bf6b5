// Owns: shapes of in-kernel devices, their attributes, addresses, registers and operations, and of
// VFIO files. HTTP thread.
import Type from "typebox";
import {
  binary,
  bytesText,
  closed,
  count,
  hexU64,
  nullable,
  pageOf,
  text,
  u32,
  u64,
  vmParams,
  word,
} from "./common.schema.js";

export const DEVICE_NAMES = [
  "KVM_DEV_TYPE_VFIO",
  "KVM_DEV_TYPE_ARM_VGIC_V2",
  "KVM_DEV_TYPE_ARM_VGIC_V3",
  "KVM_DEV_TYPE_ARM_VGIC_ITS",
  "KVM_DEV_TYPE_ARM_VGIC_V5",
] as const;
export const DeviceCreate = Type.Object(
  {
    type: Type.Union(
      [Type.Union(DEVICE_NAMES.map((name) => Type.Literal(name))), u32("Number.", 7)],
      { description: "KVM_DEV_TYPE_… or its number.", examples: ["KVM_DEV_TYPE_ARM_VGIC_V3"] },
    ),
    test: Type.Optional(
      Type.Boolean({ default: false, description: "KVM_CREATE_DEVICE_TEST: only ask." }),
    ),
  },
  { ...closed, $id: "DeviceCreate", examples: [{ type: "KVM_DEV_TYPE_ARM_VGIC_V3" }] },
);
const type = u32("enum kvm_device_type.", 7);
const name = nullable(text("KVM_DEV_TYPE_…", "KVM_DEV_TYPE_ARM_VGIC_V3"));
export const DeviceTest = Type.Object(
  { type, name, test: Type.Literal(true) },
  { ...closed, $id: "DeviceTest" },
);
const device = u32("Number of the device: how many were created in its VM before it.", 0);
export const Device = Type.Object({ device, type, name }, { ...closed, $id: "Device" });
export const DevicePage = pageOf("DevicePage", Device);
export const DeviceParams = vmParams("device", device);

/** Path parameters of a device and more. */
const deviceParams = <T extends Parameters<typeof Type.Object>[0]>(more: T) =>
  Type.Object({ ...DeviceParams.properties, ...more }, closed);

const VALUE_BYTES_MAX = 64;
export const DeviceAttributeParams = deviceParams({
  group: u32(
    "KVM_DEV_ARM_VGIC_GRP_*: 0 ADDR, 1 DIST_REGS, 2 CPU_REGS, 3 NR_IRQS, 4 CTRL, 5 REDIST_REGS, " +
      "6 CPU_SYSREGS, 7 LEVEL_INFO, 8 ITS_REGS, 9 MAINT_IRQ, 10 IRS_REGS, 11 IST. " +
      "KVM_DEV_VFIO_FILE is 1.",
    3,
  ),
  attr: u64("Attribute of the group.", "0x0"),
});
export const DeviceAttribute = Type.Object(
  {
    value: bytesText(
      "What lies at the attribute's address, byte for byte; empty where KVM takes no address.",
      VALUE_BYTES_MAX,
    ),
  },
  { ...closed, $id: "DeviceAttribute", examples: [{ value: "60000000" }] },
);
export const DeviceAttributeBytes = binary("What lies at the attribute's address.");
export const DEVICE_ATTRIBUTE_BYTES = VALUE_BYTES_MAX;
export const DeviceAttributeQuery = Type.Object(
  {
    input: Type.Optional(
      bytesText(
        "What lies at the address before, eight zeros by default: some attributes read it, as " +
          "REDIST_REGION its index.",
        VALUE_BYTES_MAX,
      ),
    ),
  },
  closed,
);

export const DEVICE_OPERATIONS = [
  "init",
  "saveTables",
  "restoreTables",
  "savePendingTables",
  "reset",
] as const;
export const DeviceOperation = Type.Object(
  {
    op: word(
      DEVICE_OPERATIONS,
      "Attribute of group CTRL. vGIC: init, savePendingTables (v3). ITS: init, saveTables, " +
        "restoreTables, reset.",
      "init",
    ),
  },
  { ...closed, $id: "DeviceOperation" },
);

// ── by name ───────────────────────────────────────────────────────────────────────────────────

export const ADDRESS_KINDS = [
  "v2-dist",
  "v2-cpu",
  "v3-dist",
  "v3-redist",
  "its",
  "v3-redist-region",
  "v5-irs",
] as const;
export const DeviceAddressParams = deviceParams({
  kind: word(ADDRESS_KINDS, "Which frame, in the order of its attributes.", "v3-dist"),
});
const FIELD_12 = 0xfff; // tidy: bits of a field
const FIELD_4 = 15;
const field = (maximum: number, description: string, example: number) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum, description, examples: [example] }));
const region = {
  count: field(FIELD_12, "v3-redist-region: redistributors that it has room for.", 4),
  index: field(FIELD_12, "v3-redist-region: its number, from 0 in order.", 0),
  flags: field(FIELD_4, "v3-redist-region: KVM wants 0.", 0),
};
export const DeviceAddressSet = Type.Object(
  { address: u64("First guest-physical byte.", "0x8000000"), ...region },
  { ...closed, $id: "DeviceAddressSet", examples: [{ address: "0x8000000" }] },
);
export const DeviceAddress = Type.Object(
  {
    address: nullable(hexU64("First guest-physical byte; null: not set.", "0x8000000")),
    ...region,
  },
  { ...closed, $id: "DeviceAddress" },
);
export const DeviceAddressQuery = Type.Object(
  { index: field(FIELD_12, "v3-redist-region: which one.", 0) },
  closed,
);

export const NrIrqs = Type.Object(
  {
    nrIrqs: u32(
      "SGIs, PPIs and SPIs together: a multiple of 32. GET is 32 before it is set. A vGICv5 " +
        "counts its SPIs alone, and GET is 0 before.",
      96,
    ),
  },
  { ...closed, $id: "NrIrqs" },
);

export const REGISTER_KINDS = ["dist", "redist", "cpu", "sysreg", "level", "its", "irs"] as const;
const kind = word(
  REGISTER_KINDS,
  "dist, redist (v3), cpu (v2), sysreg (v3, v5: offset is op0…op2 of an ICC register), level " +
    "(v3: offset is an INTID), its, irs (v5).",
  "dist",
);
const mpidr = Type.Optional(
  u32("v3, v5: Aff3 to Aff0 of the vCPU, a byte each; v2: its id. 0 by default.", 0),
);
const offset = u32("In the frame.", 8);
export const DeviceRegisterQuery = Type.Object({ kind, mpidr, offset }, closed);
const registerOf = { kind, mpidr: u32("", 0), offset };
export const DeviceRegister = Type.Object(
  { ...registerOf, value: hexU64("Of 64 bits for sysreg, its and irs, else 32.", "0x43b") },
  { ...closed, $id: "DeviceRegister" },
);
const REGISTERS_MAX = 1024;
export const DeviceRegistersSet = Type.Object(
  {
    registers: Type.Array(
      Type.Object({ kind, mpidr, offset, value: u64("To be written.", "0x1") }, closed),
      { maxItems: REGISTERS_MAX, description: "Written in this order up to the first refusal." },
    ),
  },
  {
    ...closed,
    $id: "DeviceRegistersSet",
    examples: [{ registers: [{ kind: "dist", offset: 8, value: "0x3000043b" }] }],
  },
);
export const DeviceRegistersWritten = Type.Object(
  {
    written: count("Registers that were written.", 1),
    refused: nullable(
      Type.Object(
        {
          index: count("Of the first that KVM refused; those behind it were not tried.", 1),
          errno: text("", "ENXIO"),
          detail: text("", "No such register."),
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: "DeviceRegistersWritten" },
);

// ── before device descriptors ─────────────────────────────────────────────────────────────────

export const IrqchipCreate = Type.Object(
  { model: Type.Optional(Type.Literal("gic-v2", { description: "The only one." })) },
  { ...closed, $id: "IrqchipCreate", examples: [{ model: "gic-v2" }] },
);
export const Irqchip = Type.Object(
  { model: Type.Literal("gic-v2") },
  { ...closed, $id: "Irqchip" },
);
export const IrqchipAddressParams = vmParams(
  "kind",
  word(["dist", "cpu"], "Distributor or CPU interface.", "dist"),
);
export const IrqchipAddress = Type.Object(
  { address: u64("First guest-physical byte.", "0x8000000") },
  { ...closed, $id: "IrqchipAddress" },
);

// ── VFIO ──────────────────────────────────────────────────────────────────────────────────────

const fd = u32("Its descriptor in the VMM's process.", 1_048_576);
export const VfioFileCreate = Type.Object(
  {},
  { ...closed, $id: "VfioFileCreate", description: "Nothing to say.", examples: [{}] },
);
export const VfioFile = Type.Object(
  { fd, isAdded: Type.Boolean({ description: "KVM was told of it." }) },
  { ...closed, $id: "VfioFile", description: "A file that stands for an assigned device." },
);
export const VfioFilePage = pageOf("VfioFilePage", VfioFile);
export const VfioFileParams = vmParams("fd", fd);
