// Owns: device attributes of vCPUs, and the offset of a VM's counters. HTTP thread.
import { bytesHex } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation } from "../operation.js";
import { CounterOffset, VcpuAttribute, VcpuAttributeParams } from "../schemas/attributes.schema.js";
import { VmParams } from "../schemas/common.schema.js";
import { big, bigOr } from "../support.js";

export function attributeOperations({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = {
    path: "/v1/vms/{vm}/vcpus/{n}/attributes/{group}/{attr}",
    tag: "vcpus",
    params: VcpuAttributeParams,
    problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "vcpu-running", "kvm-errno"],
  } as const;
  return [
    operation({
      ...at,
      id: "getVcpuAttribute",
      method: "GET",
      scope: "vm:read",
      summary: "Read a vCPU attribute",
      description:
        "KVM_GET_DEVICE_ATTR. HEAD is KVM_HAS_DEVICE_ATTR: 200, or KVM's refusal where there is " +
        "none; its errno is in the header `errno`, too.",
      answers: { 200: json("The attribute.", VcpuAttribute) },
      // The attribute is what the path names.
      errnoStatus: { ENXIO: 404 },
      handle: async ({ params, request }) => {
        const args = { vcpu: params.n, group: params.group, attr: big(params.attr) };
        if (request.method === "HEAD") {
          await vms.command(params.vm, "hasVcpuAttr", args);
          return { value: "" };
        }
        return { value: bytesHex((await vms.command(params.vm, "getVcpuAttr", args)).value) };
      },
    }),
    operation({
      ...at,
      id: "setVcpuAttribute",
      method: "PUT",
      scope: "vm:write",
      summary: "Set a vCPU attribute",
      description:
        "KVM_SET_DEVICE_ATTR with the structure's bytes. PMU_V3_CTRL: 1 INIT, which a run with " +
        "PMU_V3 needs, 2 FILTER, 3 SET_PMU (the host's is 8), 4 SET_NR_COUNTERS; TIMER_CTRL: " +
        "PPIs of the timers; PVTIME_CTRL 0: where the guest finds its stolen time.",
      body: VcpuAttribute,
      answers: { 204: empty("Set.") },
      handle: async ({ params, body, reply }) => {
        const value = Uint8Array.from(Buffer.from(body.value, "hex"));
        const where = { vcpu: params.n, group: params.group, attr: big(params.attr) };
        await vms.command(params.vm, "setVcpuAttr", { ...where, value });
        return reply.code(204).send();
      },
    }),
    operation({
      id: "setCounterOffset",
      method: "PUT",
      path: "/v1/vms/{vm}/counter-offset",
      tag: "vms",
      scope: "vm:write",
      summary: "Offset the guest's counters",
      description:
        "KVM_ARM_SET_COUNTER_OFFSET: CNTVCT and CNTPCT of every vCPU are the host's counter " +
        "minus this. From then on writes to the counters' registers are ignored.",
      params: VmParams,
      body: CounterOffset,
      answers: { 204: empty("Set.") },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body, reply }) => {
        const args = { offset: big(body.counterOffset), reserved: bigOr(body.reserved, 0n) };
        await vms.command(params.vm, "setCounterOffset", args);
        return reply.code(204).send();
      },
    }),
  ];
}
