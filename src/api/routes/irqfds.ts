// Owns: irqfds: KVM_IRQFD, and what is assigned. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import type { Irqfd as Entry } from "../bindings.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import {
  DrainQuery,
  Irqfd,
  IrqfdCreate,
  IrqfdParams,
  IrqfdQuery,
  Irqfds,
} from "../schemas/irqfds.schema.js";
import { created, LOCATION } from "../support.js";
import { vmPath } from "../views/vm.js";

/** KVM_IRQFD_FLAG_*. @source linux/kvm.h */
const DEASSIGN = 1;
const RESAMPLE = 2;

const common = { tag: "irq", path: "/v1/vms/{vm}/irqfds", params: VmParams } as const;

interface Request {
  readonly eventfd: string | null;
  readonly gsi: number;
  readonly flags: number;
  readonly resampleEventfd: string | null;
  readonly drain: boolean;
}

/** KVM_IRQFD. Ids are resolved here, and judged in KVM's order there. @returns its number */
async function ioctl({ services }: ApiDeps, vm: string, request: Request): Promise<number | null> {
  const { eventfds, vms } = services;
  const { gsi, flags, drain } = request;
  const fd = eventfds.resolve(request.eventfd);
  const resamplefd = eventfds.resolve(request.resampleEventfd);
  const args = { fd, gsi, flags, resamplefd, drain, found: null };
  return (await vms.command(vm, "irqfd", args)).value.id;
}

/** What KVM has, with the ids that it was given here. */
async function assigned({ services, bindings }: ApiDeps, vm: string): Promise<readonly Entry[]> {
  const { eventfds, vms } = services;
  const { value } = await vms.command(vm, "listIrqfds", {});
  const present = value.map(({ id: number, gsi, flags, index, resampleIndex }) => ({
    number,
    eventfd: eventfds.named(index)?.id ?? null,
    gsi,
    flags,
    resampleEventfd: eventfds.named(resampleIndex)?.id ?? null,
  }));
  return bindings.irqfds(vm, present);
}

async function require(deps: ApiDeps, vm: string, id: string): Promise<Entry> {
  const entry = (await assigned(deps, vm)).find((known) => known.id === id);
  if (entry !== undefined) return entry;
  throw new ServiceError("irqfd-not-found", `The VM has no irqfd ${id}.`);
}

function view({ id, eventfd, gsi, flags, resampleEventfd }: Entry) {
  return { id, eventfd, gsi, flags, resampleEventfd };
}

function assign(deps: ApiDeps): Operation {
  return operation({
    ...common,
    id: "createIrqfd",
    method: "POST",
    scope: "vm:write",
    summary: "Let an eventfd raise an interrupt",
    description:
      "KVM_IRQFD. EAGAIN until the interrupt controller is initialised. `flags` goes to KVM " +
      "as it is; DEASSIGN here does what DELETE does.",
    query: DrainQuery,
    body: IrqfdCreate,
    answers: { 201: withHeaders(json("Assigned.", Irqfd), LOCATION), 204: empty("De-assigned.") },
    problems: ["vm-not-found", "vm-not-active", "vgic-not-initialized", "kvm-errno"],
    handle: async ({ params, query, body, reply }) => {
      const resampleEventfd = body.resampleEventfd ?? null;
      const flags = body.flags ?? (resampleEventfd === null ? 0 : RESAMPLE);
      const { eventfd, gsi } = body;
      const request = { eventfd, gsi, flags, resampleEventfd, drain: query.drain ?? true };
      const number = await ioctl(deps, params.vm, request);
      if (number === null) return reply.code(204).send();
      const kept = (flags & RESAMPLE) === 0 ? null : resampleEventfd;
      const entry = deps.bindings.addIrqfd(params.vm, {
        number,
        eventfd,
        gsi,
        flags,
        resampleEventfd: kept,
      });
      return created(reply, `${vmPath(params.vm)}/irqfds/${entry.id}`).send(view(entry));
    },
  });
}

function read(deps: ApiDeps): readonly Operation[] {
  return [
    operation({
      ...common,
      id: "listIrqfds",
      method: "GET",
      scope: "vm:read",
      summary: "List irqfds",
      description: "In order of assignment. One whose eventfd was closed is gone.",
      answers: { 200: json("All of the VM.", Irqfds) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const entries = await assigned(deps, params.vm);
        return { items: entries.map(view), nextCursor: null };
      },
    }),
    operation({
      ...common,
      id: "getIrqfd",
      method: "GET",
      path: `${common.path}/{id}`,
      params: IrqfdParams,
      scope: "vm:read",
      summary: "Read an irqfd",
      description: "Under the id that its assignment was answered with.",
      answers: { 200: json("The irqfd.", Irqfd) },
      problems: ["vm-not-found", "irqfd-not-found", "vm-not-active"],
      handle: async ({ params }) => view(await require(deps, params.vm, params.id)),
    }),
  ];
}

function deassign(deps: ApiDeps): readonly Operation[] {
  const none = { resampleEventfd: null, flags: DEASSIGN };
  return [
    operation({
      ...common,
      id: "deleteIrqfd",
      method: "DELETE",
      path: `${common.path}/{id}`,
      params: IrqfdParams,
      query: DrainQuery,
      scope: "vm:write",
      summary: "De-assign an irqfd by its id",
      description: "KVM_IRQFD with DEASSIGN: every irqfd with the same eventfd and gsi.",
      answers: { 204: empty("De-assigned.") },
      problems: ["vm-not-found", "irqfd-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, query, reply }) => {
        const { eventfd, gsi } = await require(deps, params.vm, params.id);
        await ioctl(deps, params.vm, { ...none, eventfd, gsi, drain: query.drain ?? true });
        return reply.code(204).send();
      },
    }),
    operation({
      ...common,
      id: "deassignIrqfd",
      method: "DELETE",
      scope: "vm:write",
      summary: "De-assign an irqfd",
      description: "KVM_IRQFD with DEASSIGN: eventfd and gsi together; no match is no error.",
      query: IrqfdQuery,
      answers: { 204: empty("No such irqfd is left.") },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, query, reply }) => {
        const { eventfd, gsi } = query;
        await ioctl(deps, params.vm, { ...none, eventfd, gsi, drain: query.drain ?? true });
        return reply.code(204).send();
      },
    }),
  ];
}

export function irqfdOperations(deps: ApiDeps): readonly Operation[] {
  return [assign(deps), ...read(deps), ...deassign(deps)];
}
