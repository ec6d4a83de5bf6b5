// Owns: GSI routing, MSIs and interrupt lines. HTTP thread.
import type { Static } from "typebox";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import {
  IrqLine,
  IrqLineLevel,
  IrqLineParams,
  IrqLinePulse,
  IrqLineQuery,
  Msi,
  MsiResult,
  Routing,
  RoutingSet,
} from "../schemas/io.schema.js";

const common = { tag: "irq", params: VmParams } as const;
const inVm = (name: string) => `/v1/vms/{vm}/${name}`;

function routingEntry(entry: Static<typeof RoutingSet>["entries"][number]) {
  return {
    gsi: entry.gsi,
    type: entry.type,
    flags: entry.flags ?? 0,
    irqchip: entry.irqchip ?? 0,
    pin: entry.pin ?? 0,
    addressLo: entry.addressLo ?? 0,
    addressHi: entry.addressHi ?? 0,
    data: entry.data ?? 0,
    devid: entry.devid ?? 0,
  };
}

/** Bytes of a routing table as JSON: 65,536 entries at about 120 bytes. */
const ROUTING_BYTES = 8 * 1024 * 1024;

function routing({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      ...common,
      id: "getGsiRouting",
      method: "GET",
      path: inVm("gsi-routing"),
      scope: "vm:read",
      summary: "Read the GSI routing table",
      description: "The last table that KVM took; KVM itself can't be asked.",
      answers: { 200: json("The table.", Routing) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => ({
        entries: (await vms.command(params.vm, "getGsiRouting", {})).value,
      }),
    }),
    operation({
      ...common,
      id: "setGsiRouting",
      method: "PUT",
      path: inVm("gsi-routing"),
      scope: "vm:write",
      summary: "Replace the GSI routing table",
      description: "KVM_SET_GSI_ROUTING: the whole table at once; a refusal keeps the old one.",
      body: RoutingSet,
      bodyLimit: ROUTING_BYTES,
      answers: { 200: json("The table.", Routing) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body }) => {
        const entries = body.entries.map(routingEntry);
        await vms.command(params.vm, "setGsiRouting", { flags: body.flags ?? 0, entries });
        return { entries };
      },
    }),
  ];
}

function injection({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      ...common,
      id: "createMsi",
      method: "POST",
      path: inVm("msis"),
      scope: "vm:write",
      summary: "Send an MSI",
      description: "KVM_SIGNAL_MSI.",
      body: Msi,
      answers: { 200: json("Whether the guest took it.", MsiResult) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body }) => {
        const args = { ...body, flags: body.flags ?? 0, devid: body.devid ?? 0 };
        const { value } = await vms.command(params.vm, "signalMsi", args);
        return { delivered: value.delivered > 0 };
      },
    }),
  ];
}

/** kvm_irq_level.irq of a path's `type:vcpu:number`. */
function irqOf(line: string): number {
  const [type = 0, vcpu = 0, num = 0] = line.split(":").map(Number);
  return (((vcpu >>> 8) << 28) | (type << 24) | ((vcpu & 0xff) << 16) | num) >>> 0;
}

function lines({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { tag: "irq", params: IrqLineParams, scope: "vm:write" } as const;
  const problems = ["vm-not-found", "vm-not-active", "kvm-errno"] as const;
  return [
    operation({
      ...at,
      id: "setIrqLine",
      method: "PUT",
      path: inVm("irq-lines/{line}"),
      summary: "Set an interrupt line's level",
      description:
        "KVM_IRQ_LINE. Without an in-kernel controller only type 0 is there: the vCPU's own IRQ " +
        "and FIQ inputs. With `status=true` it is KVM_IRQ_LINE_STATUS, which does the same and " +
        "gives its structure back: arm64 never says in it how the interrupt fared.",
      query: IrqLineQuery,
      body: IrqLineLevel,
      answers: { 200: json("The level as set.", IrqLine) },
      problems: [...problems, "owned-by-board"],
      handle: async ({ params, query, body }) => {
        const args = { irq: irqOf(params.line), level: body.level };
        if (query.status === true) {
          return (await vms.command(params.vm, "irqLineStatus", args)).value;
        }
        await vms.command(params.vm, "irqLine", args);
        return { level: body.level };
      },
    }),
    operation({
      ...at,
      id: "pulseIrqLine",
      method: "POST",
      path: inVm("irq-lines/{line}/pulses"),
      summary: "Pulse an interrupt line",
      description: "KVM_IRQ_LINE twice: up, then down. For lines that look at edges.",
      body: IrqLinePulse,
      bodyOptional: true,
      answers: { 204: empty("The line is low again.") },
      problems,
      handle: async ({ params, reply }) => {
        const irq = irqOf(params.line);
        await vms.command(params.vm, "irqLine", { irq, level: 1 });
        await vms.command(params.vm, "irqLine", { irq, level: 0 });
        return reply.code(204).send();
      },
    }),
  ];
}

export function irqOperations(deps: ApiDeps): readonly Operation[] {
  return [...routing(deps), ...injection(deps), ...lines(deps)];
}
