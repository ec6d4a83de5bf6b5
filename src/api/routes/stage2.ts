// Owns: looking into the machine below a VM: stage-2 walks and host CPUs. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { hex } from "../../base/hex.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import { HostCpu, HostCpuParams, HostCpus, Stage2Query, Stage2Walk } from "../schemas/io.schema.js";
import type { ResultOf } from "../services.js";
import { big } from "../support.js";

type Walk = ResultOf<"walkStage2">;
type Cpu = ResultOf<"listHostCpus">[number];

function walkView(walk: Walk) {
  const { leaf } = walk;
  return {
    ipa: hex(walk.ipa),
    startLevel: walk.startLevel,
    steps: walk.steps.map((step) => ({
      level: step.level,
      tableAddress: hex(step.tableAddress),
      index: step.index,
      descriptor: hex(step.descriptor),
      kind: step.kind,
      descriptorAddress: hex(step.descriptorAddress),
      bits: { ...step.bits, outputAddress: hex(step.bits.outputAddress) },
      state: step.state,
    })),
    leaf:
      leaf === null
        ? null
        : { ...leaf, outputAddress: hex(leaf.outputAddress), size: hex(leaf.size) },
  };
}

function cpuView(cpu: Cpu) {
  return { ...cpu, vttbr: hex(cpu.vttbr), vtcr: hex(cpu.vtcr), hcr: hex(cpu.hcr) };
}

export function stage2Operations({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const common = { method: "GET", tag: "stage2", scope: "vm:read" } as const;
  return [
    operation({
      ...common,
      id: "walkStage2",
      path: "/v1/vms/{vm}/stage2",
      summary: "Walk the stage-2 tables",
      description:
        "The descriptors that the MMU would read for one IPA, as they are in memory: each with " +
        "its address, its raw value, its fields, and a leaf's state of dirty tracking.",
      params: VmParams,
      query: Stage2Query,
      answers: { 200: json("The walk.", Stage2Walk) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, query }) =>
        walkView((await vms.command(params.vm, "walkStage2", { ipa: big(query.ipa) })).value),
    }),
    operation({
      ...common,
      id: "listHostCpus",
      path: "/v1/vms/{vm}/host-cpus",
      summary: "List the host CPUs of a VM's slice",
      description: "Their EL2 registers and what is loaded on them.",
      params: VmParams,
      answers: { 200: json("All of them.", HostCpus) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "listHostCpus", {});
        return { items: value.map(cpuView), nextCursor: null };
      },
    }),
    operation({
      ...common,
      id: "getHostCpu",
      path: "/v1/vms/{vm}/host-cpus/{n}",
      summary: "Read a host CPU",
      description: "Its EL2 registers and what is loaded on it.",
      params: HostCpuParams,
      answers: { 200: json("The host CPU.", HostCpu) },
      problems: ["vm-not-found", "host-cpu-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "listHostCpus", {});
        const cpu = value.find(({ index }) => index === params.n);
        if (cpu !== undefined) return cpuView(cpu);
        throw new ServiceError("host-cpu-not-found", `The slice has no host CPU ${params.n}.`);
      },
    }),
  ];
}
