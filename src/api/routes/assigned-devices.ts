// Owns: emulated devices of the host that are assigned to a VM, as VFIO would. HTTP thread.
import { hex } from "../../base/hex.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation, withHeaders } from "../operation.js";
import {
  Assigned,
  AssignedCreate,
  AssignedPage,
  AssignedParams,
} from "../schemas/assigned.schema.js";
import { VmParams } from "../schemas/common.schema.js";
import { DrainQuery } from "../schemas/irqfds.schema.js";
import { big, created, LOCATION } from "../support.js";
import { vmPath } from "../views/vm.js";

const path = "/v1/vms/{vm}/assigned-devices";
const one = { tag: "irq", params: AssignedParams, query: DrainQuery } as const;

function view<T extends { readonly base: bigint }>(device: T) {
  return { ...device, base: hex(device.base) };
}

function collection({ services }: ApiDeps): readonly Operation[] {
  const { vms, eventfds } = services;
  return [
    operation({
      id: "assignDevice",
      method: "POST",
      path,
      tag: "irq",
      params: VmParams,
      scope: "vm:write",
      summary: "Assign an emulated device",
      description:
        "What VFIO does for a platform device whose line is a level: each interrupt is masked on " +
        "the host and signals the trigger eventfd, until the unmask eventfd is signalled. A " +
        "guest reaches its registers without an exit.",
      query: DrainQuery,
      body: AssignedCreate,
      answers: { 201: withHeaders(json("Assigned.", Assigned), LOCATION) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, query, body, reply }) => {
        const trigger = eventfds.resolve(body.triggerEventfd);
        const unmask = eventfds.resolve(body.unmaskEventfd);
        const more = { isHigh: body.isHigh ?? false, drain: query.drain ?? true, found: null };
        const args = { base: big(body.base), trigger, unmask, ...more };
        const { value } = await vms.command(params.vm, "assignDevice", args);
        const location = `${vmPath(params.vm)}/assigned-devices/${value.id}`;
        return created(reply, location).send(view(value));
      },
    }),
    operation({
      id: "listAssignedDevices",
      method: "GET",
      path,
      tag: "irq",
      params: VmParams,
      scope: "vm:read",
      summary: "List assigned devices",
      description: "In order of assignment.",
      answers: { 200: json("All of the VM.", AssignedPage) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "listAssignedDevices", {});
        return { items: value.map(view), nextCursor: null };
      },
    }),
  ];
}

function single({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      ...one,
      id: "raiseAssignedDevice",
      method: "POST",
      path: `${path}/{id}:raise`,
      scope: "vm:write",
      summary: "Let an assigned device assert its line",
      description: "Something happened outside. The line stays high until the driver lowers it.",
      answers: { 200: json("The device now.", Assigned) },
      problems: ["vm-not-found", "device-not-found", "vm-not-active"],
      handle: async ({ params, query }) => {
        const args = { id: params.id, drain: query.drain ?? true };
        return view((await vms.command(params.vm, "raiseAssignedDevice", args)).value);
      },
    }),
    operation({
      ...one,
      id: "releaseDevice",
      method: "DELETE",
      path: `${path}/{id}`,
      scope: "vm:write",
      summary: "Release an assigned device",
      description: "VFIO lets go of it. Nobody resets it: the answer tells how it was left.",
      answers: { 200: json("The device as it was left.", Assigned) },
      problems: ["vm-not-found", "device-not-found", "vm-not-active"],
      handle: async ({ params, query }) => {
        const args = { id: params.id, drain: query.drain ?? true };
        return view((await vms.command(params.vm, "releaseDevice", args)).value);
      },
    }),
  ];
}

export function assignedDeviceOperations(deps: ApiDeps): readonly Operation[] {
  return [...collection(deps), ...single(deps)];
}
