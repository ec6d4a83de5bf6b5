// Owns: HACDBS beside the dirty log: what firmware says of its interrupt, and what a guest
// hypervisor sees. HTTP thread.
import type { FastifyReply } from "fastify";
import { hex } from "../../base/hex.js";
import { sendBytes } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { bytes, json, type Operation, operation } from "../operation.js";
import { binary, VmParams } from "../schemas/common.schema.js";
import { NestedResult, NestedStore, NestedWrite } from "../schemas/hacdbs.schema.js";
import type { ResultOf } from "../services.js";
import { big } from "../support.js";

const Madt = binary("The host's MADT, byte for byte.");
const DeviceTree = binary("The host's flattened device tree, byte for byte.");
const problems = ["vm-not-found", "vm-not-active"] as const;

function resultView({ registers, ...rest }: ResultOf<"writeNestedRegister">) {
  const names = ["HDBSSBR_EL2", "HACDBSBR_EL2", "HDBSSPROD_EL2", "HACDBSCONS_EL2"] as const;
  const asHex = (all: NonNullable<typeof registers>) =>
    Object.fromEntries(names.map((name) => [name, hex(all[name])])) as Record<
      (typeof names)[number],
      string
    >;
  const model = "synthetic-l1" as const;
  return { model, ...rest, registers: registers === null ? null : asHex(registers) };
}

function firmware({ services }: ApiDeps): readonly Operation[] {
  const common = { method: "GET", tag: "dirty-hardware", scope: "vm:read" } as const;
  const send = async (reply: FastifyReply, vm: string, table: string) => {
    const { value } = await services.vms.command(vm, "readFirmware", { table });
    reply.header("cache-control", "no-store");
    return sendBytes(reply, value);
  };
  return [
    operation({
      ...common,
      id: "getVmMadt",
      path: "/v1/vms/{vm}/host-firmware/madt",
      summary: "Download the host's MADT",
      description:
        "As hacdbs.discovery acpi reads it. HACDBSIRQ is a GSIV at offset 84 of each GICC, where " +
        "hacdbs.madtLength leaves room for it: our choice, ACPI has no published field.",
      params: VmParams,
      answers: { 200: bytes("The table.", Madt) },
      problems,
      handle: ({ params, reply }) => send(reply, params.vm, "madt"),
    }),
    operation({
      ...common,
      id: "getVmHostDeviceTree",
      path: "/v1/vms/{vm}/host-firmware/device-tree",
      summary: "Download the host's device tree",
      description:
        "As hacdbs.discovery dt reads it: a node compatible with arm,armv9-hacdbs, our choice.",
      params: VmParams,
      answers: { 200: bytes("The blob.", DeviceTree) },
      problems,
      handle: ({ params, reply }) => send(reply, params.vm, "device-tree"),
    }),
  ];
}

function nested({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const common = { method: "POST", tag: "dirty-hardware", scope: "vm:write" } as const;
  return [
    operation({
      ...common,
      id: "writeNestedHacdbs",
      path: "/v1/vms/{vm}/nested-hacdbs/writes",
      summary: "Write a register of HACDBS as a guest hypervisor",
      description:
        "The access traps, and KVM does in software what hardware would do: with L1's HCR_EL2, " +
        "VTCR_EL2 and VTTBR_EL2 from its VNCR page.",
      params: VmParams,
      body: NestedWrite,
      answers: { 200: json("What it led to.", NestedResult) },
      problems,
      handle: async ({ params, body }) => {
        const { register } = body;
        const args = { vncr: big(body.vncr), register, value: big(body.value) };
        return resultView((await vms.command(params.vm, "writeNestedRegister", args)).value);
      },
    }),
    operation({
      ...common,
      id: "storeNestedHacdbs",
      path: "/v1/vms/{vm}/nested-hacdbs/stores",
      summary: "Store as a guest of the guest hypervisor",
      description: "By way of KVM's shadow of L1's stage 2; a clean descriptor of L1's gets dirty.",
      params: VmParams,
      body: NestedStore,
      answers: { 200: json("What it led to.", NestedResult) },
      problems,
      handle: async ({ params, body }) => {
        const args = { vncr: big(body.vncr), ipa: big(body.ipa) };
        return resultView((await vms.command(params.vm, "storeNested", args)).value);
      },
    }),
  ];
}

export function hacdbsOperations(deps: ApiDeps): readonly Operation[] {
  return [...firmware(deps), ...nested(deps)];
}
