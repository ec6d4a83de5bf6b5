// Owns: ioeventfds: KVM_IOEVENTFD, assign and de-assign. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { hex } from "../../base/hex.js";
import { type Ioeventfd as Entry, IOEVENTFD_FLAG, type IoeventfdKey } from "../bindings.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import {
  Ioeventfd,
  IoeventfdCreate,
  IoeventfdParams,
  IoeventfdQuery,
  Ioeventfds,
} from "../schemas/io.schema.js";
import { big, bigOr, created, LOCATION } from "../support.js";
import { vmPath } from "../views/vm.js";

const { DATAMATCH, DEASSIGN } = IOEVENTFD_FLAG;

const common = { tag: "ioeventfds", path: "/v1/vms/{vm}/ioeventfds", params: VmParams } as const;

interface Given {
  readonly eventfd: string;
  readonly addr: string;
  readonly len: number;
  readonly datamatch?: string;
  readonly flags?: number;
}

function keyOf(given: Given): IoeventfdKey {
  return {
    eventfd: given.eventfd,
    addr: big(given.addr),
    len: given.len,
    datamatch: bigOr(given.datamatch, 0n),
    flags: given.flags ?? (given.datamatch === undefined ? 0 : DATAMATCH),
  };
}

function view(entry: Entry) {
  return {
    id: entry.id,
    eventfd: entry.eventfd,
    addr: hex(entry.addr),
    len: entry.len,
    datamatch: (entry.flags & DATAMATCH) === 0 ? null : hex(entry.datamatch),
    flags: entry.flags,
  };
}

/** KVM_IOEVENTFD with these members. An id is resolved here, and judged in KVM's order there. */
async function ioctl({ services }: ApiDeps, vm: string, key: IoeventfdKey): Promise<void> {
  const { addr, len, datamatch, flags } = key;
  const fd = services.eventfds.resolve(key.eventfd);
  await services.vms.command(vm, "ioeventfd", { datamatch, addr, len, fd, flags });
}

async function deassign(deps: ApiDeps, vm: string, key: IoeventfdKey): Promise<void> {
  await ioctl(deps, vm, { ...key, flags: (key.flags | DEASSIGN) >>> 0 });
  deps.bindings.removeIoeventfd(vm, { ...key, flags: (key.flags & ~DEASSIGN) >>> 0 });
}

/** What KVM has, with the ids that it was given here. */
async function assigned({ services, bindings }: ApiDeps, vm: string): Promise<readonly Entry[]> {
  const { eventfds, vms } = services;
  const { value } = await vms.command(vm, "listIoeventfds", {});
  const present = value.map(({ index, addr, len, datamatch, flags }) => ({
    eventfd: eventfds.named(index)?.id ?? null,
    addr,
    len,
    datamatch,
    flags,
  }));
  return bindings.ioeventfds(vm, present);
}

function assign(deps: ApiDeps): Operation {
  return operation({
    ...common,
    id: "createIoeventfd",
    method: "POST",
    scope: "vm:write",
    summary: "Let a guest's store signal an eventfd",
    description:
      "KVM_IOEVENTFD. `flags` goes to KVM as it is; with DEASSIGN the same members de-assign.",
    body: IoeventfdCreate,
    answers: {
      201: withHeaders(json("Assigned.", Ioeventfd), LOCATION),
      204: empty("De-assigned: flags had DEASSIGN."),
    },
    problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
    handle: async ({ params, body, reply }) => {
      const key = keyOf(body);
      if ((key.flags & DEASSIGN) !== 0) {
        await deassign(deps, params.vm, key);
        return reply.code(204).send();
      }
      await ioctl(deps, params.vm, key);
      const entry = deps.bindings.addIoeventfd(params.vm, key);
      return created(reply, `${vmPath(params.vm)}/ioeventfds/${entry.id}`).send(view(entry));
    },
  });
}

function listAndDelete(deps: ApiDeps): readonly Operation[] {
  return [
    operation({
      ...common,
      id: "listIoeventfds",
      method: "GET",
      scope: "vm:read",
      summary: "List ioeventfds",
      description:
        "In order of assignment; those that came with a restored or moved VM follow by address.",
      answers: { 200: json("All of the VM.", Ioeventfds) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { state } = await deps.services.vms.get(params.vm);
        const entries = state === "active" ? await assigned(deps, params.vm) : [];
        return { items: entries.map(view), nextCursor: null };
      },
    }),
    operation({
      ...common,
      id: "deleteIoeventfd",
      method: "DELETE",
      path: `${common.path}/{id}`,
      params: IoeventfdParams,
      scope: "vm:write",
      summary: "De-assign an ioeventfd by its id",
      description: "KVM_IOEVENTFD with DEASSIGN and the members it was assigned with.",
      answers: { 204: empty("De-assigned.") },
      problems: ["vm-not-found", "ioeventfd-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, reply }) => {
        const entries = await assigned(deps, params.vm);
        const entry = entries.find(({ id }) => id === params.id);
        if (entry === undefined) {
          throw new ServiceError("ioeventfd-not-found", `The VM has no ioeventfd ${params.id}.`);
        }
        await deassign(deps, params.vm, entry);
        return reply.code(204).send();
      },
    }),
    operation({
      ...common,
      id: "deassignIoeventfd",
      method: "DELETE",
      scope: "vm:write",
      summary: "De-assign an ioeventfd by its members",
      description: "KVM_IOEVENTFD with DEASSIGN; what matches nothing is ENOENT.",
      query: IoeventfdQuery,
      answers: { 204: empty("De-assigned.") },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, query, reply }) => {
        await deassign(deps, params.vm, keyOf(query));
        return reply.code(204).send();
      },
    }),
  ];
}

export function ioeventfdOperations(deps: ApiDeps): readonly Operation[] {
  return [assign(deps), ...listAndDelete(deps)];
}
