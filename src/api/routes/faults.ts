// Owns: faults to inject into a VM's dirty hardware, and mistakes that it reports. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { DIRTY_DIAGNOSTICS } from "../../service/index.js";
import { invalid } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import { Diagnostics, Fault, FaultCreate, FaultParams, Faults } from "../schemas/faults.schema.js";
import { created, LOCATION } from "../support.js";
import { vmPath } from "../views/vm.js";

const common = { path: "/v1/vms/{vm}/faults", tag: "dirty-hardware", params: VmParams } as const;

function armFault({ services }: ApiDeps): Operation {
  return operation({
    ...common,
    id: "createFault",
    method: "POST",
    scope: "vm:write",
    summary: "Arm a fault",
    description:
      "The nth event of a kind goes wrong, once or again and again. An input of the VM; each hit " +
      "is a `vm.fault-injected` event.",
    body: FaultCreate,
    answers: { 201: withHeaders(json("It is armed.", Fault), LOCATION) },
    problems: ["validation", "vm-not-found", "fault-limit", "vm-not-active"],
    handle: async ({ params, body, reply }) => {
      const { kind, nth = 1, vcpu = null, times = 1, delay = 0 } = body;
      if (delay !== 0 && kind !== "kick-delayed") {
        throw invalid("/delay", "is for kick-delayed only");
      }
      const args = { kind, nth, vcpu, times, delay };
      const { value } = await services.vms.command(params.vm, "armFault", args);
      return created(reply, `${vmPath(params.vm)}/faults/${value.id}`).send(value);
    },
  });
}

function lookAndDisarm({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const one = { ...common, path: `${common.path}/{fault}`, params: FaultParams } as const;
  return [
    operation({
      ...common,
      id: "listFaults",
      method: "GET",
      scope: "vm:read",
      summary: "List faults",
      description: "What is armed, what each has seen and hit, and the last ones that are spent.",
      answers: { 200: json("The faults.", Faults) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => ({
        items: (await vms.command(params.vm, "listFaults", {})).value,
        nextCursor: null,
      }),
    }),
    operation({
      ...one,
      id: "getFault",
      method: "GET",
      scope: "vm:read",
      summary: "Read a fault",
      description: "What it has seen and hit.",
      answers: { 200: json("The fault.", Fault) },
      problems: ["vm-not-found", "fault-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "listFaults", {});
        const fault = value.find(({ id }) => id === params.fault);
        if (fault !== undefined) return fault;
        throw new ServiceError("fault-not-found", `The VM has no fault ${params.fault}.`);
      },
    }),
    operation({
      ...one,
      id: "deleteFault",
      method: "DELETE",
      scope: "vm:write",
      summary: "Take a fault back",
      description: "It hits no more, and is listed no more.",
      answers: { 204: empty("It is gone.") },
      problems: ["vm-not-found", "fault-not-found", "vm-not-active"],
      handle: async ({ params, reply }) => {
        await vms.command(params.vm, "disarmFault", { id: params.fault });
        return reply.code(204).send();
      },
    }),
  ];
}

export function faultOperations(deps: ApiDeps): readonly Operation[] {
  const { vms } = deps.services;
  return [
    armFault(deps),
    ...lookAndDisarm(deps),
    operation({
      ...common,
      path: "/v1/vms/{vm}/diagnostics",
      id: "getVmDiagnostics",
      method: "GET",
      scope: "vm:read",
      summary: "Read what the machine reports of software",
      description:
        "Mistakes that real hardware would let pass: how often each was made, and the last one.",
      answers: { 200: json("Every kind.", Diagnostics) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "describeDiagnostics", {});
        const items = value.map((one) => ({ ...one, says: DIRTY_DIAGNOSTICS[one.kind] ?? "" }));
        return { items, nextCursor: null };
      },
    }),
  ];
}
