// Owns: vCPUs: create, read, MP state, programs, kicks. HTTP thread.
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation, withHeaders } from "../operation.js";
import { PageQuery, VcpuParams, VmParams } from "../schemas/common.schema.js";
import {
  Kick,
  MpState,
  Program,
  ProgramProgress,
  ProgramQuery,
  ProgramState,
  Vcpu,
  VcpuCreate,
  VcpuPage,
} from "../schemas/vcpus.schema.js";
import { created, LOCATION, NEXT_LINK, pageOfList, sendPage } from "../support.js";
import { programOf, programStateView, runView } from "../views/vcpu.js";
import { vmPath } from "../views/vm.js";

const LOADS_DEFAULT = 1000;
/** Bytes of a program as JSON: 65,536 accesses at about 100 bytes. */
const PROGRAM_BYTES = 8 * 1024 * 1024;

const one = { tag: "vcpus", path: "/v1/vms/{vm}/vcpus/{n}", params: VcpuParams } as const;

function createAndRead({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      ...one,
      id: "createVcpu",
      method: "PUT",
      scope: "vm:write",
      summary: "Create a vCPU",
      description:
        "KVM_CREATE_VCPU. The id is the client's choice and can never be used again in this VM: " +
        "a second PUT is 409 with EEXIST, as in KVM. KVM can't delete a vCPU: DELETE is 405.",
      body: VcpuCreate,
      bodyOptional: true,
      answers: { 201: withHeaders(json("The vCPU.", Vcpu), LOCATION) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, reply }) => {
        const { value } = await vms.command(params.vm, "createVcpu", { id: params.n });
        return created(reply, `${vmPath(params.vm)}/vcpus/${params.n}`).send(value);
      },
    }),
    operation({
      id: "listVcpus",
      method: "GET",
      path: "/v1/vms/{vm}/vcpus",
      tag: "vcpus",
      scope: "vm:read",
      summary: "List vCPUs",
      description: "In order of their ids.",
      params: VmParams,
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", VcpuPage), NEXT_LINK) },
      problems: ["vm-not-found", "vm-not-active", "cursor-invalid"],
      handle: async (call) => {
        const { value } = await vms.command(call.params.vm, "listVcpus", {});
        const page = pageOfList(value, call.query, (vcpu) => BigInt(vcpu.id));
        return sendPage(call, page, (vcpu) => vcpu);
      },
    }),
    operation({
      ...one,
      id: "getVcpu",
      method: "GET",
      scope: "vm:read",
      summary: "Read a vCPU",
      description: "Its state, what it retired, and the indexes of its dirty ring.",
      answers: { 200: json("The vCPU.", Vcpu) },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active"],
      handle: async ({ params }) =>
        (await vms.command(params.vm, "describeVcpu", { vcpu: params.n })).value,
    }),
  ];
}

function mpState({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { ...one, path: `${one.path}/mp-state` } as const;
  return [
    operation({
      ...at,
      id: "getMpState",
      method: "GET",
      scope: "vm:read",
      summary: "Read the MP state",
      description: "KVM_GET_MP_STATE.",
      answers: { 200: json("The state.", MpState) },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "vcpu-running", "kvm-errno"],
      handle: async ({ params }) =>
        (await vms.command(params.vm, "getMpState", { vcpu: params.n })).value,
    }),
    operation({
      ...at,
      id: "setMpState",
      method: "PUT",
      scope: "vm:write",
      summary: "Set the MP state",
      description: "KVM_SET_MP_STATE.",
      body: MpState,
      answers: { 200: json("The state as set.", MpState) },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "vcpu-running", "kvm-errno"],
      handle: async ({ params, body }) => {
        await vms.command(params.vm, "setMpState", { vcpu: params.n, mpState: body.mpState });
        return { mpState: body.mpState };
      },
    }),
  ];
}

function programs({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { ...one, path: `${one.path}/program` } as const;
  return [
    operation({
      ...at,
      id: "setProgram",
      method: "PUT",
      scope: "vm:write",
      summary: "Give a synthetic vCPU a program",
      description:
        "An explicit list of accesses, or a seeded pattern. Replaces an unfinished program; the " +
        "next run begins it.",
      body: Program,
      bodyLimit: PROGRAM_BYTES,
      answers: { 200: json("Its progress: none yet.", ProgramProgress) },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "vcpu-running", "kvm-errno"],
      handle: async ({ params, body }) => {
        const { definition } = await vms.get(params.vm);
        const program = programOf(body, definition.pageSize, definition.seed);
        return (await vms.command(params.vm, "setProgram", { vcpu: params.n, program })).value;
      },
    }),
    operation({
      ...at,
      id: "getProgram",
      method: "GET",
      scope: "vm:read",
      summary: "Read a program's progress and loads",
      description: "How far it came, and the values that its loads read.",
      query: ProgramQuery,
      answers: { 200: json("Progress and loads.", ProgramState) },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active"],
      handle: async ({ params, query }) => {
        const window = { from: query.from ?? 0, limit: query.limit ?? LOADS_DEFAULT };
        const args = { vcpu: params.n, ...window };
        return programStateView((await vms.command(params.vm, "readProgram", args)).value);
      },
    }),
  ];
}

function kicks({ services }: ApiDeps): Operation {
  return operation({
    ...one,
    id: "createKick",
    method: "POST",
    path: `${one.path}/kicks`,
    scope: "vm:write",
    summary: "Kick a vCPU",
    description: "Like a signal: its active run exits with EINTR. Without a run nothing happens.",
    answers: { 202: json("The kicked run, or null.", Kick) },
    problems: ["vm-not-found", "vcpu-not-found", "vm-not-active"],
    handle: async ({ params, reply }) => {
      const run = await services.runs.kick(params.vm, params.n, null);
      return reply.code(202).send({ run: run === null ? null : runView(run) });
    },
  });
}

export function vcpuOperations(deps: ApiDeps): readonly Operation[] {
  return [...createAndRead(deps), ...mpState(deps), ...programs(deps), kicks(deps)];
}
