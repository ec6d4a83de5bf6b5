// Owns: coalesced MMIO zones and draining their ring. HTTP thread.
import { hex } from "../../base/hex.js";
import { bytesHex } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import { AfterQuery } from "../schemas/dirty.schema.js";
import {
  CoalescedZone,
  CoalescedZoneCreate,
  CoalescedZoneQuery,
  CoalescedZones,
  Drain,
} from "../schemas/io.schema.js";
import { big, consumeOf, created, LOCATION } from "../support.js";
import { vmPath } from "../views/vm.js";

const common = {
  tag: "coalesced",
  path: "/v1/vms/{vm}/coalesced-zones",
  params: VmParams,
} as const;

function zones({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      ...common,
      id: "createCoalescedZone",
      method: "POST",
      scope: "vm:write",
      summary: "Register a coalesced MMIO zone",
      description:
        "KVM_REGISTER_COALESCED_MMIO: stores wholly inside are queued instead of exiting.",
      body: CoalescedZoneCreate,
      answers: { 201: withHeaders(json("The zone.", CoalescedZone), LOCATION) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body, reply }) => {
        const zone = { addr: big(body.addr), size: body.size, pio: body.pio ?? 0 };
        await vms.command(params.vm, "registerCoalescedZone", zone);
        const { addr, size, pio } = { ...zone, addr: hex(zone.addr) };
        const key = new URLSearchParams({ addr, size: String(size), pio: String(pio) });
        const location = `${vmPath(params.vm)}/coalesced-zones?${key.toString()}`;
        return created(reply, location).send({ addr, size, pio });
      },
    }),
    operation({
      ...common,
      id: "listCoalescedZones",
      method: "GET",
      scope: "vm:read",
      summary: "List coalesced zones",
      description: "In order of registration.",
      answers: { 200: json("The zones.", CoalescedZones) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "listCoalescedZones", {});
        const items = value.map(({ addr, size, pio }) => ({ addr: hex(addr), size, pio }));
        return { items, nextCursor: null };
      },
    }),
    operation({
      ...common,
      id: "deleteCoalescedZone",
      method: "DELETE",
      scope: "vm:write",
      summary: "Unregister coalesced zones",
      description: "KVM_UNREGISTER_COALESCED_MMIO: every zone that lies inside; none is no error.",
      query: CoalescedZoneQuery,
      answers: { 204: empty("No such zone is left.") },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, query, reply }) => {
        const zone = { addr: big(query.addr), size: query.size, pio: query.pio ?? 0 };
        await vms.command(params.vm, "unregisterCoalescedZone", zone);
        return reply.code(204).send();
      },
    }),
  ];
}

function drain({ services }: ApiDeps): Operation {
  return operation({
    ...common,
    id: "drainCoalescedRing",
    method: "POST",
    path: "/v1/vms/{vm}/coalesced-ring/drains",
    scope: "vm:write",
    summary: "Take what the coalesced ring holds",
    description:
      "Kept until acknowledged: repeat with the same Idempotency-Key or `after` and the same " +
      "entries come again.",
    query: AfterQuery,
    answers: { 200: json("The entries, oldest first.", Drain) },
    problems: ["vm-not-found", "vm-not-active", "harvest-unacknowledged"],
    handle: async ({ params, query, request }) => {
      const args = consumeOf(request, query.after);
      const { value } = await services.vms.command(params.vm, "drainCoalescedRing", args);
      const entries = value.entries.map((entry) => ({
        physAddr: hex(entry.physAddr),
        len: entry.len,
        pio: entry.pio,
        data: bytesHex(entry.data.subarray(0, entry.len)),
      }));
      return { id: value.id, repeated: value.repeated, entries };
    },
  });
}

export function coalescedOperations(deps: ApiDeps): readonly Operation[] {
  return [...zones(deps), drain(deps)];
}
