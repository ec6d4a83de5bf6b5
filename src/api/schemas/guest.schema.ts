// Owns: shapes of vCPU events, feature finalisation, VM attributes and ID register masks.
// HTTP thread.
import Type from "typebox";
import {
  base64,
  binary,
  bytesText,
  closed,
  hexU64,
  nullable,
  u32,
  u64,
  vmParams,
} from "./common.schema.js";

export const FinalizationCreate = Type.Object(
  {
    feature: Type.Integer({
      minimum: -0x8000_0000,
      maximum: 0x7fff_ffff,
      description: "KVM_ARM_VCPU_*: 4 is SVE.",
      examples: [4],
    }),
  },
  { ...closed, $id: "FinalizationCreate" },
);

const events = {
  serrorPending: Type.Boolean({ description: "An SError waits, or is to be injected." }),
  serrorHasEsr: Type.Boolean({ description: "serrorEsr counts." }),
  extDabtPending: Type.Boolean({
    description: "Inject a synchronous external data abort; reads as false.",
    examples: [false],
  }),
};
export const VcpuEvents = Type.Object(
  { ...events, serrorEsr: hexU64("ISS of the SError.", "0x1d1") },
  { ...closed, $id: "VcpuEvents" },
);
export const VcpuEventsSet = Type.Partial(
  Type.Object({ ...events, serrorEsr: u64("ISS of the SError: bits 24:0.", "0x1d1") }),
  {
    ...closed,
    $id: "VcpuEventsSet",
    examples: [{ serrorPending: true, serrorHasEsr: true, serrorEsr: "0x1d1" }],
  },
);

const DEBUG_REGISTERS = 16;
const debugRegisters = (name: string, example: string) =>
  Type.Optional(
    Type.Array(u64(`${name}<n>_EL1.`, example), {
      maxItems: DEBUG_REGISTERS,
      description: `${name}0 and on; the others are 0.`,
      examples: [[example]],
    }),
  );
export const GuestDebug = Type.Object(
  {
    control: u32("KVM_GUESTDBG_*: 1 enable, 2 single step, 0x10000 BRK, 0x20000 hardware.", 3),
    dbgBcr: debugRegisters("DBGBCR", "0x1e7"),
    dbgBvr: debugRegisters("DBGBVR", "0x40080000"),
    dbgWcr: debugRegisters("DBGWCR", "0x1ff7"),
    dbgWvr: debugRegisters("DBGWVR", "0x40090000"),
  },
  { ...closed, $id: "GuestDebug", examples: [{ control: 3 }] },
);

const sigset = "Blocked signals: signal n is bit n - 1.";
export const SignalMask = Type.Object(
  { sigset: nullable(hexU64(sigset, "0x200")) },
  { ...closed, $id: "SignalMask", description: "null: KVM_RUN installs none." },
);
export const SignalMaskSet = Type.Object(
  {
    sigset: nullable(u64(`${sigset} null takes the mask away.`, "0x200")),
    len: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 0xffff_ffff,
        default: 8,
        description: "Bytes of the set, which KVM wants to be 8; without a set it isn't looked at.",
        examples: [8],
      }),
    ),
  },
  { ...closed, $id: "SignalMaskSet", examples: [{ sigset: "0x200", len: 8 }] },
);

const tagRange = {
  gpa: u64("First guest-physical byte; a multiple of the page size.", "0x40000000"),
  length: u64("Bytes of guest memory; a multiple of the page size.", "0x1000"),
};
export const MteTagsQuery = Type.Object(tagRange, closed);
const TAG_BYTES = "One byte for each 16 bytes of memory, the tag in its low four bits.";
export const MteTagBytes = binary(TAG_BYTES);
export const MteTags = Type.Object(
  { base64: base64(TAG_BYTES) },
  { ...closed, $id: "MteTags", description: "Memory tags." },
);

export const RangeParams = vmParams("range", u32("The only range is 0, feature ID registers."));
export const RegisterWritableMasks = Type.Object(
  {
    masks: Type.Array(hexU64("Writable bits; 0: none.", "0xf"), {
      description:
        "192 masks of op0 3, CRn 0: index is op1 (0, 1; 2 for op1 3) · 64 + CRm · 8 + op2.",
    }),
  },
  { ...closed, $id: "RegisterWritableMasks" },
);

export const VmAttributeParams = Type.Object(
  {
    vm: vmParams("attr", u64("")).properties.vm,
    group: u32("0 is KVM_ARM_VM_SMCCC_CTRL."),
    attr: u64("0 is KVM_ARM_VM_SMCCC_FILTER.", "0"),
  },
  closed,
);
export const VmAttribute = Type.Object(
  { value: bytesText("The attribute's structure as it lies in memory.", 256) },
  {
    ...closed,
    $id: "VmAttribute",
    examples: [{ value: "000000c60100000002000000000000000000000000000000" }],
  },
);
export const SmcccFilter = Type.Object(
  {
    base: u32("First function identifier.", 0xc600_0000),
    nrFunctions: u32("How many from there on.", 1),
    action: Type.Integer({
      minimum: 0,
      maximum: 255,
      description: "KVM_SMCCC_FILTER_*: 0 handle, 1 deny, 2 forward to userspace.",
      examples: [2],
    }),
  },
  { ...closed, $id: "SmcccFilter" },
);
