// Owns: /v1/vms: create, list, read, change, delete. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { invalid, JSON_TYPE, MERGE_PATCH } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { ifMatch, ifNoneMatch, makeEtag } from "../etag.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import {
  Validated,
  Vm,
  VmCreate,
  VmGetQuery,
  VmListQuery,
  VmPage,
  VmPatch,
} from "../schemas/vms.schema.js";
import type { Services, VmResource } from "../services.js";
import {
  created,
  ETAG,
  IF_MATCH,
  IF_NONE_MATCH,
  LOCATION,
  linkNext,
  MS_PER_S,
  NEXT_LINK,
} from "../support.js";
import { etagState, type KvmView, kvmView, vmPath, vmSummary } from "../views/vm.js";
import { specOf } from "../views/vm-spec.js";
import { untilState } from "../wait.js";

/** KVM's view of an active VM; null for the others and for one that ended just now. */
async function kvmOf(services: Services, vm: VmResource): Promise<KvmView | null> {
  if (vm.state !== "active") return null;
  try {
    return (await services.vms.command(vm.id, "describe", {})).value;
  } catch (error) {
    const isGone = error instanceof ServiceError && /^vm-(not-active|gone)$/.test(error.code);
    if (isGone) return null;
    throw error;
  }
}

interface VmAnswer {
  readonly body: object;
  readonly etag: string;
}

/** A VM as GET, POST and PATCH answer it. */
export async function vmAnswer(services: Services, vm: VmResource): Promise<VmAnswer> {
  const kvm = await kvmOf(services, vm);
  return {
    body: { ...vmSummary(vm), kvm: kvm === null ? null : kvmView(kvm) },
    etag: makeEtag(vm.version, etagState(kvm)),
  };
}

/** One version for the service: the present one if it is admitted, else one that fails. */
async function versionToMatch(
  services: Services,
  id: string,
  admitted: readonly number[] | null,
): Promise<number | null> {
  if (admitted === null) return null;
  const [first = -1] = admitted;
  if (admitted.length < 2) return first;
  const { version } = await services.vms.get(id);
  return admitted.includes(version) ? version : first;
}

function createVm({ services, options }: ApiDeps): Operation {
  return operation({
    id: "createVm",
    method: "POST",
    path: "/v1/vms",
    tag: "vms",
    scope: "vm:write",
    heavy: true,
    summary: "Create a VM",
    description:
      "KVM_CREATE_VM. Durable before the answer. `type` goes to KVM as it is; `ipaBits` is sugar " +
      "for it. With `inputs` the VM replays a log and takes its definition from there. With " +
      "`board` the host is the VMM: it loads the image, and `:start` switches the guest on.",
    body: VmCreate,
    bodyOptional: true,
    bodyLimit: options.binaryBodyBytes,
    answers: {
      200: json("With `validateOnly`: nothing was created.", Validated),
      201: withHeaders(json("The VM, active.", Vm), { ...LOCATION, ...ETAG }),
    },
    problems: [
      ...["validation", "uuid-taken", "kvm-errno", "bad-input-log", "vm-limit", "draining"],
      ...["image-unknown", "image-format", "image-does-not-fit", "not-implemented"],
    ] as const,
    handle: async ({ body, reply }) => {
      const vm = await services.vms.create(specOf(body, options.defaultSeed));
      if (vm === null) return { valid: true };
      const answer = await vmAnswer(services, vm);
      return created(reply, vmPath(vm.id)).header("etag", answer.etag).send(answer.body);
    },
  });
}

function listVms({ services }: ApiDeps): Operation {
  return operation({
    id: "listVms",
    method: "GET",
    path: "/v1/vms",
    tag: "vms",
    scope: "vm:read",
    summary: "List VMs",
    description: "In order of creation, by label and state. Without KVM's view of each.",
    query: VmListQuery,
    answers: { 200: withHeaders(json("One page.", VmPage), NEXT_LINK) },
    problems: ["validation", "cursor-invalid"],
    handle: async ({ query, request, reply }) => {
      const labels = (query.label ?? []).map((text): [string, string] => {
        const at = text.indexOf("=");
        return [text.slice(0, at), text.slice(at + 1)];
      });
      const page = await services.vms.list({
        state: query.state ?? null,
        labels,
        limit: query.limit ?? VM_LIMIT_DEFAULT,
        cursor: query.cursor ?? null,
      });
      linkNext(request, reply, "cursor", page.nextCursor);
      return { items: page.items.map(vmSummary), nextCursor: page.nextCursor };
    },
  });
}

const VM_LIMIT_DEFAULT = 100;

function getVm(deps: ApiDeps): Operation {
  const { services } = deps;
  return operation({
    id: "getVm",
    method: "GET",
    path: "/v1/vms/{vm}",
    tag: "vms",
    scope: "vm:read",
    summary: "Read a VM",
    description:
      "The record, and KVM's view of it while it is active. With `wait` and `untilState` the " +
      "answer waits for a state. The entity tag covers everything but running counters.",
    params: VmParams,
    query: VmGetQuery,
    headers: IF_NONE_MATCH,
    answers: {
      200: withHeaders(json("The VM.", Vm), ETAG),
      304: empty("Nothing changed since the tag in If-None-Match."),
    },
    problems: ["vm-not-found"],
    handle: async ({ params, query, request, reply }) => {
      const wanted = query.untilState;
      if (wanted === undefined && (query.wait ?? 0) > 0) {
        throw invalid("/query/untilState", "is required with wait");
      }
      const vm =
        wanted === undefined
          ? await services.vms.get(params.vm)
          : await untilState(deps, params.vm, wanted, (query.wait ?? 0) * MS_PER_S);
      const answer = await vmAnswer(services, vm);
      reply.header("etag", answer.etag);
      if (ifNoneMatch(request, answer.etag)) return reply.code(304).send();
      return answer.body;
    },
  });
}

function patchVm({ services }: ApiDeps): Operation {
  return operation({
    id: "patchVm",
    method: "PATCH",
    path: "/v1/vms/{vm}",
    tag: "vms",
    scope: "vm:write",
    summary: "Change a VM's name and labels",
    description: "RFC 7396 merge patch: absent stays, null removes.",
    params: VmParams,
    body: VmPatch,
    bodyType: MERGE_PATCH,
    headers: IF_MATCH,
    answers: { 200: withHeaders(json("The VM as it is now.", Vm), ETAG) },
    problems: ["vm-not-found", "precondition-failed", "unsupported-media-type"],
    handle: async ({ params, body, request, reply }) => {
      const match = await versionToMatch(services, params.vm, ifMatch(request));
      const vm = await services.vms.patch(params.vm, body, match);
      const answer = await vmAnswer(services, vm);
      return reply.header("etag", answer.etag).type(JSON_TYPE).send(answer.body);
    },
  });
}

function deleteVm({ services, bindings }: ApiDeps): Operation {
  return operation({
    id: "deleteVm",
    method: "DELETE",
    path: "/v1/vms/{vm}",
    tag: "vms",
    scope: "vm:write",
    summary: "Delete a VM",
    description: "Closes every descriptor of the VM: kicks its vCPUs, ends its thread.",
    params: VmParams,
    headers: IF_MATCH,
    answers: { 204: empty("It is gone.") },
    problems: ["vm-not-found", "precondition-failed"],
    handle: async ({ params, request, reply }) => {
      const match = await versionToMatch(services, params.vm, ifMatch(request));
      await services.vms.delete(params.vm, match);
      bindings.forget(params.vm);
      return reply.code(204).send();
    },
  });
}

function verb(deps: ApiDeps, name: "start" | "stop"): Operation {
  const { services, bindings } = deps;
  const isStart = name === "start";
  return operation({
    id: `${name}Vm`,
    method: "POST",
    path: `/v1/vms/{vm}:${name}`,
    tag: "vms",
    scope: "vm:write",
    heavy: true,
    summary: isStart ? "Start a VM anew" : "Stop a VM",
    description: isStart
      ? "Builds a stopped, lost or failed VM from its records: same shape, empty memory, and no " +
        "in-kernel device but a board's. A board that is off is switched on."
      : "Ends the VM's thread; guest memory and KVM's state are gone, the record stays.",
    params: VmParams,
    answers: { 200: withHeaders(json("The VM.", Vm), ETAG) },
    problems: isStart ? ["vm-not-found", "vm-limit"] : ["vm-not-found", "vm-not-active"],
    handle: async ({ params, reply }) => {
      // Started while it is active, a VM keeps its thread and with it what is bound.
      const { state } = await services.vms.get(params.vm);
      const vm = isStart ? await services.vms.start(params.vm) : await services.vms.stop(params.vm);
      if (!isStart || state !== "active") bindings.forget(params.vm);
      const answer = await vmAnswer(services, vm);
      return reply.header("etag", answer.etag).send(answer.body);
    },
  });
}

export function vmOperations(deps: ApiDeps): readonly Operation[] {
  return [
    createVm(deps),
    listVms(deps),
    getVm(deps),
    patchVm(deps),
    deleteVm(deps),
    verb(deps, "start"),
    verb(deps, "stop"),
  ];
}
