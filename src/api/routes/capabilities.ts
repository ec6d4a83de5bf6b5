// Owns: a VM's capabilities: KVM_CHECK_EXTENSION and KVM_ENABLE_CAP. HTTP thread.
import { hex } from "../../base/hex.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { vmParams } from "../schemas/common.schema.js";
import { Capability, CapParams } from "../schemas/host.schema.js";
import { CapabilityEnable, CapabilityEnabled } from "../schemas/vms.schema.js";
import { big } from "../support.js";
import { capabilityNumber, capabilityView } from "./host.js";

const Params = vmParams("cap", CapParams.properties.cap);
/** Length of args in struct kvm_enable_cap. @source linux/kvm.h */
const ARGS = 4;

export function capabilityOperations({ services }: ApiDeps): readonly Operation[] {
  const { vms, host } = services;
  return [
    operation({
      id: "getVmCapability",
      method: "GET",
      path: "/v1/vms/{vm}/capabilities/{cap}",
      tag: "vms",
      scope: "vm:read",
      summary: "Check one capability of a VM",
      description: "KVM_CHECK_EXTENSION on the VM's descriptor; may differ from the host's value.",
      params: Params,
      answers: { 200: json("The capability.", Capability) },
      problems: ["vm-not-found", "capability-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params }) => {
        const cap = capabilityNumber(host, params.cap);
        const { value } = await vms.command(params.vm, "checkExtension", { cap });
        return capabilityView(host, cap, value);
      },
    }),
    operation({
      id: "enableVmCapability",
      method: "PUT",
      path: "/v1/vms/{vm}/capabilities/{cap}",
      tag: "vms",
      scope: "vm:write",
      summary: "Enable a capability of a VM",
      description:
        "KVM_ENABLE_CAP. Most capabilities can be enabled once and only in a certain order; " +
        "KVM's errno says what stood against it.",
      params: Params,
      body: CapabilityEnable,
      bodyOptional: true,
      answers: { 200: json("Enabled with these arguments.", CapabilityEnabled) },
      problems: ["vm-not-found", "capability-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body }) => {
        const cap = capabilityNumber(host, params.cap);
        const given = (body.args ?? []).map(big);
        const args = [...given, ...Array<bigint>(ARGS - given.length).fill(0n)];
        await vms.command(params.vm, "enableCap", { cap, flags: body.flags ?? 0, args });
        const { name } = capabilityView(host, cap, 0);
        return { name, number: cap, flags: body.flags ?? 0, args: args.map(hex) };
      },
    }),
  ];
}
