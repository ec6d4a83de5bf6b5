// Owns: vCPUs that run guest code: initialisation and registers. HTTP thread.
import { hex } from "../../base/hex.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { PageQuery, VcpuParams, VmParams } from "../schemas/common.schema.js";
import {
  DecodedRegisters,
  Disassembly,
  DisassemblyQuery,
  InitializationCreate,
  PreferredTarget,
  Register,
  RegisterPage,
  RegisterParams,
  RegistersSet,
  RegisterValue,
} from "../schemas/registers.schema.js";
import { Vcpu } from "../schemas/vcpus.schema.js";
import { big, NEXT_LINK, pageOfList, sendPage } from "../support.js";
import { decodedView } from "../views/register.js";
import { NAMED_REGISTERS } from "../views/register.table.js";

const vcpu = "/v1/vms/{vm}/vcpus/{n}";
const INSTRUCTIONS_DEFAULT = 16;
const SIZE_SHIFT = 52n;
/** A register has 256 bytes at most, as SVE's would. */
const SIZE_LOG_MAX = 8n;

function initialization({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      id: "getPreferredTarget",
      method: "GET",
      path: "/v1/vms/{vm}/preferred-target",
      tag: "vcpus",
      scope: "vm:read",
      summary: "Read the target for vCPU initialisation",
      description: "KVM_ARM_PREFERRED_TARGET.",
      params: VmParams,
      answers: { 200: json("The target.", PreferredTarget) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "preferredTarget", {});
        return { target: value.target, features: value.features.map(Number) };
      },
    }),
    operation({
      id: "createInitialization",
      method: "POST",
      path: `${vcpu}/initializations`,
      tag: "vcpus",
      scope: "vm:write",
      summary: "Initialise a vCPU for guest code, or reset it",
      description:
        "KVM_ARM_VCPU_INIT. The vCPU runs A64 code from then on; without it, it produces the " +
        "accesses of its program. Again, it is a warm reset: EL1h, DAIF masked, PC 0.",
      params: VcpuParams,
      body: InitializationCreate,
      answers: { 200: json("The vCPU.", Vcpu) },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "vcpu-running", "kvm-errno"],
      handle: async ({ params, body }) => {
        const features = (body.features ?? []).map(BigInt);
        const args = { vcpu: params.n, target: body.target, features };
        return (await vms.command(params.vm, "vcpuInit", args)).value;
      },
    }),
  ];
}

/** Little-endian bytes of a value, as many as the id says; more, and KVM refuses them. */
function bytesOf(id: bigint, value: bigint): Uint8Array {
  const log = (id >> SIZE_SHIFT) & 15n;
  let size = 2 ** Number(log < SIZE_LOG_MAX ? log : SIZE_LOG_MAX);
  while (value >> BigInt(8 * size) !== 0n) size *= 2;
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

function registers({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const problems = [
    "vm-not-found",
    "vcpu-not-found",
    "vm-not-active",
    "vcpu-running",
    "kvm-errno",
  ] as const;
  const one = {
    path: `${vcpu}/registers/{reg}`,
    tag: "vcpus",
    params: RegisterParams,
    /** The register is what the path names. */
    errnoStatus: { ENOENT: 404 },
  } as const;
  return [
    operation({
      id: "listRegisters",
      method: "GET",
      path: `${vcpu}/registers`,
      tag: "vcpus",
      scope: "vm:read",
      summary: "List a vCPU's registers",
      description: "KVM_GET_REG_LIST: ids in the order of their numbers.",
      params: VcpuParams,
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", RegisterPage), NEXT_LINK) },
      problems: [...problems, "cursor-invalid"],
      handle: async (call) => {
        const { vm, n } = call.params;
        const { value } = await vms.command(vm, "getRegList", { vcpu: n });
        const sorted = [...value].sort((a, b) => (a < b ? -1 : 1));
        const page = pageOfList(sorted, call.query, (id) => id);
        return sendPage(call, page, (id) => ({ id: hex(id) }));
      },
    }),
    operation({
      ...one,
      id: "getRegister",
      method: "GET",
      scope: "vm:read",
      summary: "Read a register",
      description: "KVM_GET_ONE_REG.",
      answers: { 200: json("The register.", Register) },
      problems,
      handle: async ({ params }) => {
        const id = big(params.reg);
        const { value } = await vms.command(params.vm, "getOneReg", { vcpu: params.n, reg: id });
        return { id: hex(id), value: hex(value.value) };
      },
    }),
    operation({
      ...one,
      id: "setRegister",
      method: "PUT",
      scope: "vm:write",
      summary: "Write a register",
      description: "KVM_SET_ONE_REG.",
      body: RegisterValue,
      answers: { 204: empty("Written.") },
      problems,
      handle: async ({ params, body, reply }) => {
        const id = big(params.reg);
        const value = bytesOf(id, BigInt(body.value));
        await vms.command(params.vm, "setOneReg", { vcpu: params.n, reg: id, value });
        return reply.code(204).send();
      },
    }),
  ];
}

function severalRegisters({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      id: "patchRegisters",
      method: "PATCH",
      path: `${vcpu}/registers`,
      tag: "vcpus",
      scope: "vm:write",
      summary: "Write several registers",
      description:
        "KVM_SET_ONE_REG for each, in order. If an id or a size is wrong, none is written. A " +
        "value that KVM refuses ends it: `index` and `register` of the problem say which, and " +
        "`written` of `partly-written` names those that were written before it.",
      params: VcpuParams,
      body: RegistersSet,
      answers: { 204: empty("All are written.") },
      problems: [
        ...(["vm-not-found", "vcpu-not-found", "vm-not-active", "vcpu-running"] as const),
        ...(["kvm-errno", "partly-written", "owned-by-board"] as const),
      ],
      handle: async ({ params, body, reply }) => {
        const registers = body.registers.map(({ id, value }) => {
          const reg = big(id);
          return { reg, value: bytesOf(reg, BigInt(value)) };
        });
        await vms.command(params.vm, "setRegs", { vcpu: params.n, registers });
        return reply.code(204).send();
      },
    }),
  ];
}

function decoded({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      id: "getDecodedRegisters",
      method: "GET",
      path: `${vcpu}/decoded-registers`,
      tag: "vcpus",
      scope: "vm:read",
      summary: "Read a vCPU's registers by name",
      description:
        "General and system registers at one moment, with the fields of PSTATE, SPSR, ESR, " +
        "SCTLR, TCR and others taken apart.",
      params: VcpuParams,
      answers: { 200: json("The registers.", DecodedRegisters) },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "vcpu-running", "kvm-errno"],
      handle: async ({ params }) => {
        const regs = NAMED_REGISTERS.map(({ id }) => id);
        const { value } = await vms.command(params.vm, "getRegs", { vcpu: params.n, regs });
        const items = NAMED_REGISTERS.map((row, at) => decodedView(row, value[at] ?? 0n));
        return { items, nextCursor: null };
      },
    }),
  ];
}

function disassembly({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      id: "getDisassembly",
      method: "GET",
      path: `${vcpu}/disassembly`,
      tag: "vcpus",
      scope: "vm:read",
      summary: "Disassemble the code of a vCPU",
      description:
        "Instructions from a virtual address on, translated as stage 1 of the vCPU says now. The " +
        "list ends early where nothing can be read. Nothing in the guest changes.",
      params: VcpuParams,
      query: DisassemblyQuery,
      answers: { 200: json("The instructions.", Disassembly) },
      problems: [
        "vm-not-found",
        "vcpu-not-found",
        "vm-not-active",
        "vcpu-running",
        "vcpu-not-initialised",
        "va-not-mapped",
        "out-of-range",
      ],
      handle: async ({ params, query }) => {
        const address = query.address === undefined ? null : big(query.address);
        const args = { vcpu: params.n, address, count: query.count ?? INSTRUCTIONS_DEFAULT };
        const { value } = await vms.command(params.vm, "disassemble", args);
        const items = value.map((line) => ({
          address: hex(line.address),
          word: hex(BigInt(line.word)),
          text: line.text,
        }));
        return { items, nextCursor: null };
      },
    }),
  ];
}

export function registerOperations(deps: ApiDeps): readonly Operation[] {
  return [
    ...initialization(deps),
    ...registers(deps),
    ...severalRegisters(deps),
    ...decoded(deps),
    ...disassembly(deps),
  ];
}
