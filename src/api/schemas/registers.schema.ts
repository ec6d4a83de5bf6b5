// Owns: shapes of vCPU initialisation and registers. HTTP thread.
import Type from "typebox";
import { closed, hexU64, pageOf, u64, vcpuParams } from "./common.schema.js";

export const PreferredTarget = Type.Object(
  {
    target: Type.Integer({ description: "KVM_ARM_TARGET_GENERIC_V8.", examples: [5] }),
    features: Type.Array(Type.Integer(), { description: "None is set.", examples: [[0]] }),
  },
  { ...closed, $id: "PreferredTarget" },
);

const FEATURE_WORDS = 7;
export const InitializationCreate = Type.Object(
  {
    target: Type.Integer({
      minimum: 0,
      maximum: 0xffff_ffff,
      description: "Of the preferred target.",
      examples: [5],
    }),
    features: Type.Optional(
      Type.Array(Type.Integer({ minimum: 0, maximum: 0xffff_ffff }), {
        maxItems: FEATURE_WORDS,
        description:
          "features[0…6] of struct kvm_vcpu_init: bit 0 POWER_OFF, bit 2 PSCI_0_2, bit 3 PMU_V3.",
        examples: [[4]],
      }),
    ),
  },
  { ...closed, $id: "InitializationCreate", examples: [{ target: 5, features: [4] }] },
);

const registerValue = Type.String({
  pattern: "^0x[0-9a-fA-F]{1,32}$",
  description: "The register as one number of as many bytes as its id says.",
  examples: ["0x40080000"],
});
export const RegisterValue = Type.Object(
  { value: registerValue },
  { ...closed, $id: "RegisterValue" },
);
export const Register = Type.Object(
  { id: u64("KVM's register id.", "0x6030000000100040"), value: registerValue },
  { ...closed, $id: "Register" },
);
const REGISTERS_MAX = 1024;
export const RegistersSet = Type.Object(
  {
    registers: Type.Array(
      Type.Object(
        { id: u64("KVM's register id.", "0x6030000000100040"), value: registerValue },
        closed,
      ),
      { maxItems: REGISTERS_MAX, description: "Written in this order up to the first refusal." },
    ),
  },
  {
    ...closed,
    $id: "RegistersSet",
    examples: [{ registers: [{ id: "0x6030000000100040", value: "0x40080000" }] }],
  },
);
export const RegisterId = Type.Object(
  { id: u64("KVM's register id.", "0x6030000000100040") },
  { ...closed, $id: "RegisterId" },
);
export const RegisterPage = pageOf("RegisterPage", RegisterId);
export const RegisterParams = vcpuParams("reg", u64("KVM's register id.", "0x6030000000100040"));

const RegisterField = Type.Object(
  {
    name: Type.String({ description: "As in the Arm ARM.", examples: ["EC"] }),
    bits: Type.String({ description: "Highest and lowest bit.", examples: ["31:26"] }),
    value: hexU64("Of the field.", "0x25"),
    meaning: Type.Optional(
      Type.String({
        description: "Where the value has a name.",
        examples: ["data abort, same level"],
      }),
    ),
  },
  { ...closed, $id: "RegisterField" },
);
const DecodedRegister = Type.Object(
  {
    name: Type.String({ description: "As in the Arm ARM.", examples: ["ESR_EL1"] }),
    id: u64("KVM's register id.", "0x603000000013c290"),
    value: registerValue,
    fields: Type.Array(RegisterField, { description: "None where it is one number." }),
  },
  { ...closed, $id: "DecodedRegister" },
);
export const DecodedRegisters = Type.Object(
  { items: Type.Array(DecodedRegister), nextCursor: Type.Null() },
  { ...closed, $id: "DecodedRegisters" },
);

const INSTRUCTIONS_MAX = 1024;
const INSTRUCTIONS = 16;
export const DisassemblyQuery = Type.Object(
  {
    address: Type.Optional(
      u64("Virtual address of the first instruction; the PC by default.", "0x40080000"),
    ),
    count: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: INSTRUCTIONS_MAX,
        default: INSTRUCTIONS,
        description: "Instructions.",
        examples: [INSTRUCTIONS],
      }),
    ),
  },
  closed,
);
const Instruction = Type.Object(
  {
    address: hexU64("Virtual.", "0x40080000"),
    word: hexU64("The instruction.", "0xd503201f"),
    text: Type.String({
      description: "As the Arm ARM writes it; .word for what is no instruction.",
      examples: ["nop"],
    }),
  },
  { ...closed, $id: "Instruction" },
);
export const Disassembly = Type.Object(
  { items: Type.Array(Instruction), nextCursor: Type.Null() },
  { ...closed, $id: "Disassembly" },
);
