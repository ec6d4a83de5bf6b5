// Owns: shapes of vCPU initialisation and registers. HTTP thread.
import Type from "typebox";
import { closed, pageOf, u64, vcpuParams } from "./common.schema.js";

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
        description: "features[0…6] of struct kvm_vcpu_init: bit 0 POWER_OFF, bit 2 PSCI_0_2.",
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
export const RegisterId = Type.Object(
  { id: u64("KVM's register id.", "0x6030000000100040") },
  { ...closed, $id: "RegisterId" },
);
export const RegisterPage = pageOf("RegisterPage", RegisterId);
export const RegisterParams = vcpuParams("reg", u64("KVM's register id.", "0x6030000000100040"));
