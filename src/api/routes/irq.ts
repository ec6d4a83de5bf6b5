// Owns: irqfds, GSI routing, MSIs and in-kernel devices. HTTP thread.
import type { Static } from "typebox";
import { newId } from "../../base/ids.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import {
  type DEVICE_NAMES,
  Device,
  DeviceCreate,
  Irqfd,
  IrqfdCreate,
  IrqfdQuery,
  IrqLineLevel,
  IrqLineParams,
  IrqLinePulse,
  Msi,
  MsiResult,
  Routing,
  RoutingSet,
} from "../schemas/io.schema.js";
import { created, LOCATION } from "../support.js";
import { vmPath } from "../views/vm.js";

/** KVM_IRQFD_FLAG_*. @source linux/kvm.h */
const DEASSIGN = 1;
const RESAMPLE = 2;
/** enum kvm_device_type. @source linux/kvm.h */
const DEVICE_TYPES: Readonly<Record<(typeof DEVICE_NAMES)[number], number>> = {
  KVM_DEV_TYPE_VFIO: 4,
  KVM_DEV_TYPE_ARM_VGIC_V2: 5,
  KVM_DEV_TYPE_ARM_VGIC_V3: 7,
  KVM_DEV_TYPE_ARM_VGIC_ITS: 8,
};
/** KVM_CREATE_DEVICE_TEST. @source linux/kvm.h */
const TEST = 1;

const common = { tag: "irq", params: VmParams } as const;
const inVm = (name: string) => `/v1/vms/{vm}/${name}`;

function irqfds({ services }: ApiDeps): readonly Operation[] {
  const { vms, eventfds } = services;
  return [
    operation({
      ...common,
      id: "createIrqfd",
      method: "POST",
      path: inVm("irqfds"),
      scope: "vm:write",
      summary: "Let an eventfd raise an interrupt",
      description:
        "KVM_IRQFD. EAGAIN until the interrupt controller is initialised. `flags` goes to KVM " +
        "as it is; DEASSIGN here does what DELETE does.",
      body: IrqfdCreate,
      answers: { 201: withHeaders(json("Assigned.", Irqfd), LOCATION), 204: empty("De-assigned.") },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body, reply }) => {
        const { gsi } = body;
        const resample = body.resampleEventfd ?? null;
        const flags = body.flags ?? (resample === null ? 0 : RESAMPLE);
        const fd = eventfds.resolve(body.eventfd);
        const resamplefd = eventfds.resolve(resample);
        await vms.command(params.vm, "irqfd", { fd, gsi, flags, resamplefd });
        if ((flags & DEASSIGN) !== 0) return reply.code(204).send();
        const entry = { id: newId("irq"), eventfd: body.eventfd, gsi, flags };
        const key = new URLSearchParams({ eventfd: body.eventfd, gsi: String(gsi) });
        return created(reply, `${vmPath(params.vm)}/irqfds?${key.toString()}`).send({
          ...entry,
          resampleEventfd: resample,
        });
      },
    }),
    operation({
      ...common,
      id: "deassignIrqfd",
      method: "DELETE",
      path: inVm("irqfds"),
      scope: "vm:write",
      summary: "De-assign an irqfd",
      description: "KVM_IRQFD with DEASSIGN: eventfd and gsi together; no match is no error.",
      query: IrqfdQuery,
      answers: { 204: empty("No such irqfd is left.") },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, query, reply }) => {
        const fd = eventfds.resolve(query.eventfd);
        const resamplefd = eventfds.resolve(null);
        const args = { fd, gsi: query.gsi, flags: DEASSIGN, resamplefd };
        await vms.command(params.vm, "irqfd", args);
        return reply.code(204).send();
      },
    }),
  ];
}

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
    operation({
      ...common,
      id: "createDevice",
      method: "POST",
      path: inVm("devices"),
      scope: "vm:write",
      summary: "Create an in-kernel device",
      description: "KVM_CREATE_DEVICE; ENODEV for a type that this host does not offer.",
      body: DeviceCreate,
      answers: { 200: json("With `test`: the type is offered.", Device), 201: json("It.", Device) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body, reply }) => {
        const type = typeof body.type === "number" ? body.type : DEVICE_TYPES[body.type];
        const test = body.test ?? false;
        await vms.command(params.vm, "createDevice", { type, flags: test ? TEST : 0 });
        return reply.code(test ? 200 : 201).send({ type, test });
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
        "and FIQ inputs.",
      body: IrqLineLevel,
      answers: { 200: json("The level as set.", IrqLineLevel) },
      problems,
      handle: async ({ params, body }) => {
        await vms.command(params.vm, "irqLine", { irq: irqOf(params.line), level: body.level });
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
  return [...irqfds(deps), ...routing(deps), ...injection(deps), ...lines(deps)];
}
