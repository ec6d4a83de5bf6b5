// Owns: what can be downloaded of a VM: input log, digest, counters, statistics. HTTP thread.
import type { FastifyReply, FastifyRequest } from "fastify";
import Type from "typebox";
import { sendBytes, wantsJson } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { bytesOrJson, json, type Operation, operation, withHeaders } from "../operation.js";
import { binary, VcpuParams, VmParams } from "../schemas/common.schema.js";
import { Counters, Digest, InputLog, Stats } from "../schemas/vms.schema.js";
import type { Services } from "../services.js";
import { decodeStats } from "../stats-layout.js";

const StatsFile = binary("The file of KVM_GET_STATS_FD, byte for byte.");
const common = { method: "GET", tag: "vms", scope: "vm:read", params: VmParams } as const;

async function sendStats(
  { vms }: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  vm: string,
  vcpu: number | null,
) {
  const asJson = wantsJson(request);
  const { value } = await vms.command(vm, "stats", { vcpu });
  reply.header("cache-control", "no-store");
  return asJson ? decodeStats(value) : sendBytes(reply, value);
}

function stats({ services }: ApiDeps): readonly Operation[] {
  const answers = { 200: bytesOrJson("The statistics.", StatsFile, Stats) };
  return [
    operation({
      ...common,
      id: "getVmStats",
      path: "/v1/vms/{vm}/stats",
      summary: "Read a VM's statistics",
      description: "KVM_GET_STATS_FD: the binary file, or decoded by Accept.",
      answers,
      problems: ["vm-not-found", "vm-not-active", "not-acceptable"],
      handle: ({ params, request, reply }) => sendStats(services, request, reply, params.vm, null),
    }),
    operation({
      ...common,
      id: "getVcpuStats",
      path: "/v1/vms/{vm}/vcpus/{n}/stats",
      tag: "vcpus",
      params: VcpuParams,
      summary: "Read a vCPU's statistics",
      description: "KVM_GET_STATS_FD: the binary file, or decoded by Accept.",
      answers,
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "not-acceptable"],
      handle: ({ params, request, reply }) =>
        sendStats(services, request, reply, params.vm, params.n),
    }),
  ];
}

function replayAndDigest({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      ...common,
      id: "getVmInputs",
      path: "/v1/vms/{vm}/inputs",
      summary: "Download a VM's input log",
      description:
        "Every command that entered the VM, and when. POST /v1/vms with `inputs` replays it.",
      answers: {
        200: withHeaders(json("The log.", InputLog), {
          "Content-Disposition": { description: "A file name.", schema: Type.String() },
        }),
      },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params, reply }) => {
        const log = await vms.inputLog(params.vm);
        const name = `${params.vm.replace(/[^\w-]/g, "_")}-inputs.json`;
        return reply.header("content-disposition", `attachment; filename="${name}"`).send(log);
      },
    }),
    operation({
      ...common,
      id: "getVmDigest",
      path: "/v1/vms/{vm}/digest",
      heavy: true,
      summary: "Digest a VM's whole state",
      description: "Two VMs that took the same inputs have the same digest.",
      answers: { 200: json("The digest, and each part's own.", Digest) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => (await vms.command(params.vm, "digest", {})).value,
    }),
    operation({
      ...common,
      id: "getVmCounters",
      path: "/v1/vms/{vm}/counters",
      summary: "Read a VM's counters",
      description: "What this implementation counts, beyond KVM's own statistics.",
      answers: { 200: json("The counters.", Counters) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => ({
        counters: (await vms.command(params.vm, "counters", {})).value,
      }),
    }),
  ];
}

export function inspectOperations(deps: ApiDeps): readonly Operation[] {
  return [...replayAndDigest(deps), ...stats(deps)];
}
