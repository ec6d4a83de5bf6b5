// Owns: what else guest code needs of its host: events, finalisation, signals, ID register masks,
// memory tags, the SMCCC filter. HTTP thread.
import { hex } from "../../base/hex.js";
import { bytesHex, fromBase64, sendBytes, toBase64, wantsJson } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { bytesOrJson, empty, json, type Operation, operation } from "../operation.js";
import { VcpuParams, VmParams } from "../schemas/common.schema.js";
import {
  FinalizationCreate,
  GuestDebug,
  MteTagBytes,
  MteTags,
  MteTagsQuery,
  RangeParams,
  RegisterWritableMasks,
  SignalMask,
  SignalMaskSet,
  SmcccFilter,
  VcpuEvents,
  VcpuEventsSet,
  VmAttribute,
  VmAttributeParams,
} from "../schemas/guest.schema.js";
import { big, bigOr } from "../support.js";

const vm = "/v1/vms/{vm}";
const vcpu = `${vm}/vcpus/{n}`;
const VCPU_PROBLEMS = [
  "vm-not-found",
  "vcpu-not-found",
  "vm-not-active",
  "vcpu-running",
  "kvm-errno",
] as const;
const VM_PROBLEMS = ["vm-not-found", "vm-not-active", "kvm-errno"] as const;
/** Bytes of sigset_t. */
const SIGSET_BYTES = 8;
/** struct kvm_smccc_filter: base, nr_functions, action, padding. */
const FILTER_BYTES = 24;

function vcpuEvents({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { path: `${vcpu}/vcpu-events`, tag: "vcpus", params: VcpuParams } as const;
  return [
    operation({
      id: "createFinalization",
      method: "POST",
      path: `${vcpu}/finalizations`,
      tag: "vcpus",
      scope: "vm:write",
      summary: "Finish a vCPU feature's set-up",
      description: "KVM_ARM_VCPU_FINALIZE. Only SVE is ever finalised; without it KVM says EINVAL.",
      params: VcpuParams,
      body: FinalizationCreate,
      answers: { 204: empty("Finalised.") },
      problems: VCPU_PROBLEMS,
      handle: async ({ params, body, reply }) => {
        await vms.command(params.vm, "finalizeVcpu", { vcpu: params.n, feature: body.feature });
        return reply.code(204).send();
      },
    }),
    operation({
      ...at,
      id: "getVcpuEvents",
      method: "GET",
      scope: "vm:read",
      summary: "Read pending exceptions",
      description: "KVM_GET_VCPU_EVENTS.",
      answers: { 200: json("What waits.", VcpuEvents) },
      problems: VCPU_PROBLEMS,
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "getVcpuEvents", { vcpu: params.n });
        return { ...value, serrorEsr: hex(value.serrorEsr) };
      },
    }),
    operation({
      ...at,
      id: "setVcpuEvents",
      method: "PUT",
      scope: "vm:write",
      summary: "Inject exceptions",
      description:
        "KVM_SET_VCPU_EVENTS. extDabtPending takes an external data abort each time, in place of " +
        "an MMIO exit's completion; an SError that waits is not taken back.",
      body: VcpuEventsSet,
      answers: { 204: empty("Injected.") },
      problems: VCPU_PROBLEMS,
      handle: async ({ params, body, reply }) => {
        await vms.command(params.vm, "setVcpuEvents", {
          vcpu: params.n,
          serrorPending: body.serrorPending ?? false,
          serrorHasEsr: body.serrorHasEsr ?? false,
          extDabtPending: body.extDabtPending ?? false,
          serrorEsr: bigOr(body.serrorEsr, 0n),
        });
        return reply.code(204).send();
      },
    }),
  ];
}

function guestDebug({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = {
    path: `${vcpu}/guest-debug`,
    tag: "vcpus",
    scope: "vm:write",
    params: VcpuParams,
    problems: VCPU_PROBLEMS,
  } as const;
  const off = { control: 0, bcr: [], bvr: [], wcr: [], wvr: [] };
  return [
    operation({
      ...at,
      id: "setGuestDebug",
      method: "PUT",
      summary: "Debug the guest",
      description:
        "KVM_SET_GUEST_DEBUG. Runs end with KVM_EXIT_DEBUG; the guest's own debugging waits, and " +
        "every BRK exits, for as long as it is enabled.",
      body: GuestDebug,
      answers: { 204: empty("Set.") },
      handle: async ({ params, body, reply }) => {
        await vms.command(params.vm, "setGuestDebug", {
          vcpu: params.n,
          control: body.control,
          bcr: (body.dbgBcr ?? []).map(big),
          bvr: (body.dbgBvr ?? []).map(big),
          wcr: (body.dbgWcr ?? []).map(big),
          wvr: (body.dbgWvr ?? []).map(big),
        });
        return reply.code(204).send();
      },
    }),
    operation({
      ...at,
      id: "deleteGuestDebug",
      method: "DELETE",
      summary: "Stop debugging the guest",
      description: "KVM_SET_GUEST_DEBUG with control 0.",
      answers: { 204: empty("Off.") },
      handle: async ({ params, reply }) => {
        await vms.command(params.vm, "setGuestDebug", { vcpu: params.n, ...off });
        return reply.code(204).send();
      },
    }),
  ];
}

function signalMask({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { path: `${vcpu}/signal-mask`, tag: "vcpus", params: VcpuParams } as const;
  const view = ({ sigset }: { readonly sigset: bigint | null }) => ({
    sigset: sigset === null ? null : hex(sigset),
  });
  return [
    operation({
      ...at,
      id: "getSignalMask",
      method: "GET",
      scope: "vm:read",
      summary: "Read the signal mask of KVM_RUN",
      description: "The mask as KVM keeps it; KVM itself can't be asked.",
      answers: { 200: json("The mask.", SignalMask) },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active"],
      handle: async ({ params }) =>
        view((await vms.command(params.vm, "describeSignalMask", { vcpu: params.n })).value),
    }),
    operation({
      ...at,
      id: "setSignalMask",
      method: "PUT",
      scope: "vm:write",
      summary: "Set the signal mask of KVM_RUN",
      description:
        "KVM_SET_SIGNAL_MASK. SIGKILL and SIGSTOP are left out. The mask is kept and moves with " +
        "the VM, and blocks nothing: no signal of a number reaches a vCPU's thread here, and " +
        "DELETE of a run ends it whatever the mask says.",
      body: SignalMaskSet,
      answers: { 200: json("The mask as KVM keeps it.", SignalMask) },
      problems: [...VCPU_PROBLEMS, "owned-by-board"],
      handle: async ({ params, body }) => {
        const { len = SIGSET_BYTES, sigset } = body;
        const args = { vcpu: params.n, len, sigset: sigset === null ? null : big(sigset) };
        return view((await vms.command(params.vm, "setSignalMask", args)).value);
      },
    }),
  ];
}

function memoryTags({ services, options }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const why =
    "KVM_ARM_MTE_COPY_TAGS. No host here has MTE, KVM_CAP_ARM_MTE reads 0, and KVM says EINVAL.";
  const at = {
    path: `${vm}/mte-tags`,
    tag: "memory",
    params: VmParams,
    query: MteTagsQuery,
    description: why,
    problems: VM_PROBLEMS,
  } as const;
  return [
    operation({
      ...at,
      id: "getMteTags",
      method: "GET",
      scope: "vm:read",
      summary: "Read memory tags",
      answers: { 200: bytesOrJson("The tags.", MteTagBytes, MteTags) },
      handle: async ({ params, query, request, reply }) => {
        const asJson = wantsJson(request);
        const args = { ipa: big(query.gpa), length: big(query.length), tags: null };
        const { value } = await vms.command(params.vm, "copyMteTags", args);
        return asJson ? { base64: toBase64(value) } : sendBytes(reply, value);
      },
    }),
    operation({
      ...at,
      id: "setMteTags",
      method: "PUT",
      scope: "vm:write",
      summary: "Write memory tags",
      body: MteTags,
      octets: { schema: MteTagBytes, limit: options.binaryBodyBytes },
      answers: { 204: empty("Written.") },
      handle: async ({ params, query, body, reply }) => {
        const tags = body instanceof Uint8Array ? body : fromBase64(body.base64, "/base64");
        const args = { ipa: big(query.gpa), length: big(query.length), tags };
        await vms.command(params.vm, "copyMteTags", args);
        return reply.code(204).send();
      },
    }),
  ];
}

function vmAttributes({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = {
    path: `${vm}/attributes/{group}/{attr}`,
    tag: "vms",
    params: VmAttributeParams,
    problems: VM_PROBLEMS,
    /** The attribute is what the path names. */
    errnoStatus: { ENXIO: 404 },
  } as const;
  return [
    operation({
      ...at,
      id: "getVmAttribute",
      method: "GET",
      scope: "vm:read",
      summary: "Ask for a VM attribute",
      description:
        "KVM_GET_DEVICE_ATTR, which KVM refuses for every attribute of a VM. HEAD is " +
        "KVM_HAS_DEVICE_ATTR: 200, or 404 where there is none.",
      answers: { 200: json("The attribute.", VmAttribute) },
      handle: async ({ params, request }) => {
        const args = { group: params.group, attr: big(params.attr) };
        if (request.method === "HEAD") {
          await vms.command(params.vm, "hasVmAttr", args);
          return { value: "" };
        }
        return { value: bytesHex((await vms.command(params.vm, "getVmAttr", args)).value) };
      },
    }),
    operation({
      ...at,
      id: "setVmAttribute",
      method: "PUT",
      scope: "vm:write",
      summary: "Set a VM attribute",
      description: "KVM_SET_DEVICE_ATTR with the structure's bytes.",
      body: VmAttribute,
      answers: { 204: empty("Set.") },
      handle: async ({ params, body, reply }) => {
        const value = Uint8Array.from(Buffer.from(body.value, "hex"));
        const args = { group: params.group, attr: big(params.attr), value };
        await vms.command(params.vm, "setVmAttr", args);
        return reply.code(204).send();
      },
    }),
  ];
}

function firmware({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      id: "getRegisterWritableMasks",
      method: "GET",
      path: `${vm}/register-writable-masks/{range}`,
      tag: "vms",
      scope: "vm:read",
      summary: "Read which ID register bits can be written",
      description: "KVM_ARM_GET_REG_WRITABLE_MASKS.",
      params: RangeParams,
      answers: { 200: json("The masks.", RegisterWritableMasks) },
      problems: VM_PROBLEMS,
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "getRegWritableMasks", params);
        return { masks: value.map(hex) };
      },
    }),
    operation({
      id: "createSmcccFilter",
      method: "POST",
      path: `${vm}/smccc-filters`,
      tag: "vms",
      scope: "vm:write",
      summary: "Add an SMCCC filter range",
      description:
        "KVM_SET_DEVICE_ATTR of KVM_ARM_VM_SMCCC_FILTER. Ranges are only ever added, and none " +
        "once a vCPU has run.",
      params: VmParams,
      body: SmcccFilter,
      answers: { 201: json("The range.", SmcccFilter) },
      problems: VM_PROBLEMS,
      handle: async ({ params, body, reply }) => {
        const value = new Uint8Array(FILTER_BYTES);
        const view = new DataView(value.buffer);
        view.setUint32(0, body.base, true);
        view.setUint32(4, body.nrFunctions, true);
        view.setUint8(8, body.action);
        await vms.command(params.vm, "setVmAttr", { group: 0, attr: 0n, value });
        return reply.code(201).send(body);
      },
    }),
  ];
}

export function guestOperations(deps: ApiDeps): readonly Operation[] {
  return [
    ...vcpuEvents(deps),
    ...guestDebug(deps),
    ...signalMask(deps),
    ...memoryTags(deps),
    ...vmAttributes(deps),
    ...firmware(deps),
  ];
}
