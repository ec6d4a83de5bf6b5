// Owns: KVM_RUN as a resource: start, wait, list, kick. HTTP thread.
import Type from "typebox";
import { preferredWait } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation, withHeaders } from "../operation.js";
import { VcpuParams, vcpuParams, WAIT_MAX_S } from "../schemas/common.schema.js";
import { Run, RunCreate, RunGetQuery, RunPage } from "../schemas/vcpus.schema.js";
import type { RunResource } from "../services.js";
import { LOCATION, MS_PER_S } from "../support.js";
import { runView } from "../views/vcpu.js";
import { vmPath } from "../views/vm.js";

const RETRY_AFTER = {
  "Retry-After": { description: "Seconds until it is worth looking.", schema: Type.Integer() },
};
const PREFER = {
  Prefer: {
    description: `wait=N: answer with the exit if it comes in N seconds, ${WAIT_MAX_S} at most.`,
    schema: Type.String({ maxLength: 256 }),
  },
};
const APPLIED = {
  "Preference-Applied": { description: "The wait that was granted.", schema: Type.String() },
};

const path = "/v1/vms/{vm}/vcpus/{n}/runs";
const OneParams = vcpuParams(
  "run",
  Type.String({
    minLength: 1,
    maxLength: 64,
    description: "Id of the run.",
    examples: ["run_01hqs4ym8x"],
  }),
);

function runPath(run: RunResource): string {
  return `${vmPath(run.vmId)}/vcpus/${run.vcpu}/runs/${encodeURIComponent(run.id)}`;
}

/** Waits for the exit, but no longer than the service serves. */
function waitFor(deps: ApiDeps, run: RunResource, waitMs: number): Promise<RunResource> {
  const { runs } = deps.services;
  const look = (ms: number) => runs.get(run.vmId, run.vcpu, run.id, ms);
  return deps.lifecycle.unlessDraining(look(waitMs), () => look(0));
}

function createRun(deps: ApiDeps): Operation {
  const { runs } = deps.services;
  return operation({
    id: "createRun",
    method: "POST",
    path,
    tag: "runs",
    scope: "vm:write",
    summary: "Run a vCPU",
    description:
      "KVM_RUN. Answers 202 at once, or, with `Prefer: wait=N`, 200 with the exit if it comes in " +
      "time. A failing run is a result with `errno`, never a problem. One active run per vCPU.",
    params: VcpuParams,
    body: RunCreate,
    bodyOptional: true,
    headers: PREFER,
    answers: {
      200: withHeaders(json("It exited in time.", Run), { ...LOCATION, ...APPLIED }),
      202: withHeaders(json("It runs.", Run), { ...LOCATION, ...RETRY_AFTER }),
    },
    problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "vcpu-running"],
    handle: async ({ params, body, request, reply }) => {
      const { mmioData } = body;
      const run = await runs.start(params.vm, params.n, {
        immediateExit: body.immediateExit ?? false,
        mmioData: mmioData === undefined ? null : Uint8Array.from(Buffer.from(mmioData, "hex")),
        timeoutMs: body.timeoutMs ?? null,
      });
      reply.header("location", runPath(run));
      const waitS = preferredWait(request, WAIT_MAX_S);
      const now = waitS === null ? run : await waitFor(deps, run, waitS * MS_PER_S);
      if (waitS !== null) reply.header("preference-applied", `wait=${waitS}`);
      if (now.state === "exited" && waitS !== null) return reply.send(runView(now));
      return reply.code(202).header("retry-after", "1").send(runView(now));
    },
  });
}

function readRuns(deps: ApiDeps): readonly Operation[] {
  const { runs } = deps.services;
  return [
    operation({
      id: "listRuns",
      method: "GET",
      path,
      tag: "runs",
      scope: "vm:read",
      summary: "List a vCPU's last runs",
      description: "The active one and the last that exited, oldest first; older ones are gone.",
      params: VcpuParams,
      answers: { 200: json("All that are kept.", RunPage) },
      problems: ["vm-not-found", "vcpu-not-found"],
      handle: async ({ params }) => {
        const list = await runs.list(params.vm, params.n);
        return { items: list.map(runView), nextCursor: null };
      },
    }),
    operation({
      id: "getRun",
      method: "GET",
      path: `${path}/{run}`,
      tag: "runs",
      scope: "vm:read",
      summary: "Read a run, or wait for its exit",
      description: "With `wait` the answer comes at the exit, or after that many seconds.",
      params: OneParams,
      query: RunGetQuery,
      answers: { 200: json("The run.", Run) },
      problems: ["vm-not-found", "vcpu-not-found", "run-not-found", "run-gone"],
      handle: async ({ params, query }) => {
        const waitMs = (query.wait ?? 0) * MS_PER_S;
        const look = (ms: number) => runs.get(params.vm, params.n, params.run, ms);
        if (waitMs === 0) return runView(await look(0));
        return runView(await deps.lifecycle.unlessDraining(look(waitMs), () => look(0)));
      },
    }),
  ];
}

function deleteRun({ services }: ApiDeps): Operation {
  return operation({
    id: "deleteRun",
    method: "DELETE",
    path: `${path}/{run}`,
    tag: "runs",
    scope: "vm:write",
    summary: "Kick a run",
    description: "Like a signal to the thread in KVM_RUN: it exits with EINTR. Idempotent.",
    params: OneParams,
    answers: {
      200: json("It has exited.", Run),
      202: withHeaders(json("It was kicked and is about to exit.", Run), RETRY_AFTER),
    },
    problems: ["vm-not-found", "vcpu-not-found", "run-not-found", "run-gone"],
    handle: async ({ params, reply }) => {
      const { runs } = services;
      const kicked = await runs.kick(params.vm, params.n, params.run);
      const run = kicked ?? (await runs.get(params.vm, params.n, params.run, 0));
      if (run.state === "exited") return runView(run);
      return reply.code(202).header("retry-after", "1").send(runView(run));
    },
  });
}

export function runOperations(deps: ApiDeps): readonly Operation[] {
  return [createRun(deps), ...readRuns(deps), deleteRun(deps)];
}
