// Owns: a VM's trace: start, stop, look, download. HTTP thread.
import { TRACE_CATEGORY_NAMES, traceMask } from "../../base/trace.table.js";
import { JSON_TYPE } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import { Trace, TraceFile, TraceStart } from "../schemas/trace.schema.js";

export function traceOperations({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const common = { path: "/v1/vms/{vm}/trace", tag: "vms", params: VmParams } as const;
  const problems = ["vm-not-found", "vm-not-active"] as const;
  return [
    operation({
      ...common,
      id: "startVmTrace",
      method: "POST",
      scope: "vm:write",
      summary: "Trace a VM",
      description:
        "Begins anew; what was recorded before is gone. It changes nothing in the VM and is no " +
        "input of it: a replay can be traced too.",
      body: TraceStart,
      bodyOptional: true,
      answers: { 200: json("The trace.", Trace) },
      problems,
      handle: async ({ params, body }) => {
        const asked = (body as { categories?: typeof TRACE_CATEGORY_NAMES } | undefined)
          ?.categories;
        const categories = traceMask(asked ?? TRACE_CATEGORY_NAMES);
        return (await vms.command(params.vm, "startTrace", { categories })).value;
      },
    }),
    operation({
      ...common,
      id: "stopVmTrace",
      method: "DELETE",
      scope: "vm:write",
      summary: "Stop tracing a VM",
      description: "What was recorded stays to be read until a trace begins anew.",
      answers: { 204: empty("It records nothing more.") },
      problems,
      handle: async ({ params, reply }) => {
        await vms.command(params.vm, "stopTrace", {});
        return reply.code(204).send();
      },
    }),
    operation({
      ...common,
      id: "getVmTraceStatus",
      path: "/v1/vms/{vm}/trace/status",
      method: "GET",
      scope: "vm:read",
      summary: "Read what a trace records",
      description: "Whether it is on, and how much it has seen.",
      answers: { 200: json("The trace.", Trace) },
      problems,
      handle: async ({ params }) => (await vms.command(params.vm, "describeTrace", {})).value,
    }),
    operation({
      ...common,
      id: "getVmTrace",
      method: "GET",
      scope: "vm:read",
      heavy: true,
      summary: "Download a VM's trace",
      description:
        "Chrome's trace format, for ui.perfetto.dev: Linux's KVM tracepoints, a track per vCPU " +
        "and one for ioctls. In a virtual clock the same inputs give the same bytes.",
      answers: { 200: json("The trace, oldest event first.", TraceFile) },
      problems,
      handle: async ({ params, reply }) => {
        const { value } = await vms.command(params.vm, "readTrace", {});
        const { buffer, byteOffset, byteLength } = value;
        reply.header("content-type", JSON_TYPE).header("cache-control", "no-store");
        return reply.send(Buffer.from(buffer, byteOffset, byteLength));
      },
    }),
  ];
}
