// Owns: shapes of a vCPU's device attributes and of the counter offset. HTTP thread.
import Type from "typebox";
import { closed, u32, u64, vcpuParams } from "./common.schema.js";

export const VcpuAttributeParams = Type.Object(
  {
    ...vcpuParams("attr", u64("Attribute of the group.", "0x0")).properties,
    group: u32("KVM_ARM_VCPU_*: 0 PMU_V3_CTRL, 1 TIMER_CTRL, 2 PVTIME_CTRL.", 1),
  },
  closed,
);
const VALUE_BYTES_MAX = 64;
export const VcpuAttribute = Type.Object(
  {
    value: Type.String({
      pattern: "^([0-9a-fA-F]{2})*$",
      maxLength: 2 * VALUE_BYTES_MAX,
      description: "The attribute's structure as it lies in memory; empty where KVM takes none.",
      examples: ["1b000000"],
    }),
  },
  { ...closed, $id: "VcpuAttribute" },
);

export const CounterOffset = Type.Object(
  {
    counterOffset: u64("What the guest's counters are behind the host's, in ticks.", "0x3b9aca00"),
    reserved: Type.Optional(u64("Must be 0.", "0x0")),
  },
  { ...closed, $id: "CounterOffset" },
);
