// Owns: guest_memfd files: create, list, close, fallocate. HTTP thread.
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { PageQuery, VmParams } from "../schemas/common.schema.js";
import {
  FileRange,
  GuestMemfd,
  GuestMemfdCreate,
  GuestMemfdPage,
  GuestMemfdParams,
} from "../schemas/memory.schema.js";
import { big, bigOr, created, LOCATION, NEXT_LINK, pageOfList, sendPage } from "../support.js";
import { guestMemfdView } from "../views/memory.js";
import { vmPath } from "../views/vm.js";

const path = "/v1/vms/{vm}/guest-memfds";
/** Modes of fallocate. @source linux/falloc.h */
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;

function collection({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const common = { tag: "memory", path, params: VmParams } as const;
  return [
    operation({
      ...common,
      id: "createGuestMemfd",
      method: "POST",
      scope: "vm:write",
      summary: "Create a guest_memfd",
      description: "KVM_CREATE_GUEST_MEMFD.",
      body: GuestMemfdCreate,
      answers: { 201: withHeaders(json("The file.", GuestMemfd), LOCATION) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body, reply }) => {
        const args = { size: big(body.size), flags: bigOr(body.flags, 0n) };
        const { value } = await vms.command(params.vm, "createGuestMemfd", args);
        const location = `${vmPath(params.vm)}/guest-memfds/${value.id}`;
        return created(reply, location).send(guestMemfdView(value));
      },
    }),
    operation({
      ...common,
      id: "listGuestMemfds",
      method: "GET",
      scope: "vm:read",
      summary: "List guest_memfds",
      description: "The open ones, in order of their ids.",
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", GuestMemfdPage), NEXT_LINK) },
      problems: ["vm-not-found", "vm-not-active", "cursor-invalid"],
      handle: async (call) => {
        const { value } = await vms.command(call.params.vm, "listGuestMemfds", {});
        const page = pageOfList(value, call.query, (memfd) => BigInt(memfd.id));
        return sendPage(call, page, guestMemfdView);
      },
    }),
  ];
}

function fallocate({ services }: ApiDeps, name: "allocations" | "holes"): Operation {
  const isHole = name === "holes";
  const mode = isHole ? KEEP_SIZE + PUNCH_HOLE : KEEP_SIZE;
  return operation({
    id: isHole ? "punchGuestMemfd" : "allocateGuestMemfd",
    method: "POST",
    path: `${path}/{id}/${name}`,
    tag: "memory",
    scope: "vm:write",
    summary: isHole ? "Free pages of a guest_memfd" : "Allocate pages of a guest_memfd",
    description: isHole
      ? "fallocate with PUNCH_HOLE and KEEP_SIZE: the content is gone and the guest unmapped."
      : "fallocate with KEEP_SIZE.",
    params: GuestMemfdParams,
    body: FileRange,
    answers: { 204: empty("Done.") },
    problems: ["vm-not-found", "guest-memfd-not-found", "vm-not-active", "kvm-errno"],
    handle: async ({ params, body, reply }) => {
      const range = { offset: big(body.offset), length: big(body.length) };
      await services.vms.command(params.vm, "fallocateGuestMemfd", {
        id: params.id,
        mode,
        ...range,
      });
      return reply.code(204).send();
    },
  });
}

function closeMemfd({ services }: ApiDeps): Operation {
  return operation({
    id: "deleteGuestMemfd",
    method: "DELETE",
    path: `${path}/{id}`,
    tag: "memory",
    scope: "vm:write",
    summary: "Close a guest_memfd",
    description: "A memslot that was made from it keeps it alive.",
    params: GuestMemfdParams,
    answers: { 204: empty("Closed.") },
    problems: ["vm-not-found", "guest-memfd-not-found", "vm-not-active"],
    handle: async ({ params, reply }) => {
      await services.vms.command(params.vm, "closeGuestMemfd", { id: params.id });
      return reply.code(204).send();
    },
  });
}

export function guestMemfdOperations(deps: ApiDeps): readonly Operation[] {
  return [
    ...collection(deps),
    closeMemfd(deps),
    fallocate(deps, "allocations"),
    fallocate(deps, "holes"),
  ];
}
