// Owns: memslots: KVM_SET_USER_MEMORY_REGION and KVM_SET_USER_MEMORY_REGION2. HTTP thread.
import type { Static } from "typebox";
import { ServiceError } from "../../base/errors.js";
import { U64_MAX } from "../../base/hex.js";
import { invalid } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { PageQuery, SlotParams, VmParams } from "../schemas/common.schema.js";
import { Memslot, MemslotPage, MemslotSet } from "../schemas/memslots.schema.js";
import type { ArgsOf, ResultOf, Services } from "../services.js";
import { big, bigOr, LOCATION, NEXT_LINK, pageOfList, sendPage } from "../support.js";
import { memFlagsOf, memslotView } from "../views/memory.js";
import { vmPath } from "../views/vm.js";

type Body = Static<typeof MemslotSet>;
type Region = ArgsOf<"setUserMemoryRegion">;

/** A descriptor that is not open: KVM answers EBADF if it looks at it. */
const NO_DESCRIPTOR = -1;

const path = "/v1/vms/{vm}/memslots/{slot}";
const one = { tag: "memslots", path, params: SlotParams } as const;

/** The user address of a memory object plus offset, modulo 2^64 as a C program would add it. */
async function addressInObject(
  { vms }: Services,
  vm: string,
  id: number,
  offset: bigint,
): Promise<bigint> {
  const { value } = await vms.command(vm, "listMemoryObjects", {});
  const object = value.find((known) => known.id === id);
  if (object !== undefined) return (object.userspaceAddr + offset) & U64_MAX;
  throw new ServiceError("memory-object-unknown", `The VM has no memory object ${id}.`, {
    errors: [{ pointer: "/memoryObjectId", detail: "names no memory object of the VM" }],
  });
}

function checkTogether(body: Body): void {
  if (body.userspaceAddr !== undefined && body.memoryObjectId !== undefined) {
    throw invalid("/memoryObjectId", "can't be given together with userspaceAddr");
  }
  if (body.offset !== undefined && body.memoryObjectId === undefined) {
    throw invalid("/offset", "belongs to memoryObjectId");
  }
  const hasBacking = body.userspaceAddr ?? body.memoryObjectId ?? body.guestMemfdId;
  if (hasBacking === undefined && big(body.memorySize) !== 0n) {
    throw invalid("/userspaceAddr", "or memoryObjectId is required");
  }
}

async function setSlot(
  services: Services,
  vm: string,
  slot: number,
  body: Body,
): Promise<ResultOf<"setUserMemoryRegion">> {
  checkTogether(body);
  const flags = body.flags ?? 0;
  const { memoryObjectId } = body;
  const userspaceAddr =
    memoryObjectId === undefined
      ? bigOr(body.userspaceAddr, 0n)
      : await addressInObject(services, vm, memoryObjectId, bigOr(body.offset, 0n));
  const region: Region = {
    slot,
    flags: typeof flags === "number" ? flags : memFlagsOf(flags),
    guestPhysAddr: big(body.guestPhysAddr),
    memorySize: big(body.memorySize),
    userspaceAddr,
  };
  if (body.region2 !== true && body.guestMemfdId === undefined) {
    return (await services.vms.command(vm, "setUserMemoryRegion", region)).value;
  }
  const second = {
    ...region,
    guestMemfd: body.guestMemfdId ?? NO_DESCRIPTOR,
    guestMemfdOffset: bigOr(body.guestMemfdOffset, 0n),
  };
  return (await services.vms.command(vm, "setUserMemoryRegion2", second)).value;
}

function setMemslot({ services }: ApiDeps): Operation {
  return operation({
    ...one,
    id: "setMemslot",
    method: "PUT",
    scope: "vm:write",
    summary: "Create, change, move or delete a memslot",
    description:
      "KVM_SET_USER_MEMORY_REGION, or its second form with `region2` or `guestMemfdId`. KVM " +
      "decides: a new slot is created, another gpa moves it, other flags change it, the same " +
      "values do nothing, memorySize 0x0 deletes it. A refusal leaves slot and log untouched.",
    body: MemslotSet,
    answers: {
      200: json("Changed, moved, or the same as before.", Memslot),
      201: withHeaders(json("Created.", Memslot), LOCATION),
      204: empty("Deleted: memorySize was 0x0."),
    },
    problems: [
      "vm-not-found",
      "vm-not-active",
      "dirty-log-owned",
      "kvm-errno",
      "memory-object-unknown",
    ],
    handle: async ({ params, body, reply }) => {
      const result = await setSlot(services, params.vm, params.slot, body);
      if (result.slot === null) return reply.code(204).send();
      if (result.created) {
        reply.code(201).header("location", `${vmPath(params.vm)}/memslots/${params.slot}`);
      }
      return reply.send(memslotView(result.slot));
    },
  });
}

function readSlots({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  return [
    operation({
      id: "listMemslots",
      method: "GET",
      path: "/v1/vms/{vm}/memslots",
      tag: "memslots",
      scope: "vm:read",
      summary: "List memslots",
      description: "In order of their guest-physical addresses.",
      params: VmParams,
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", MemslotPage), NEXT_LINK) },
      problems: ["vm-not-found", "vm-not-active", "cursor-invalid"],
      handle: async (call) => {
        const { value } = await vms.command(call.params.vm, "listMemslots", {});
        const page = pageOfList(value, call.query, (slot) => slot.guestPhysAddr);
        return sendPage(call, page, memslotView);
      },
    }),
    operation({
      ...one,
      id: "getMemslot",
      method: "GET",
      scope: "vm:read",
      summary: "Read a memslot",
      description: "As it was last set.",
      answers: { 200: json("The slot.", Memslot) },
      problems: ["vm-not-found", "memslot-not-found", "vm-not-active"],
      handle: async ({ params }) => {
        const { value } = await vms.command(params.vm, "listMemslots", {});
        const slot = value.find((known) => known.slot === params.slot);
        if (slot !== undefined) return memslotView(slot);
        throw new ServiceError("memslot-not-found", `The VM has no memslot ${params.slot}.`);
      },
    }),
  ];
}

function deleteMemslot({ services }: ApiDeps): Operation {
  return operation({
    ...one,
    id: "deleteMemslot",
    method: "DELETE",
    scope: "vm:write",
    summary: "Delete a memslot",
    description:
      "KVM_SET_USER_MEMORY_REGION with zeros. KVM refuses an absent slot with EINVAL, which is " +
      "404 here since the path names it.",
    answers: { 204: empty("It is gone, and its dirty log with it.") },
    problems: ["vm-not-found", "vm-not-active"],
    errnoStatus: { EINVAL: 404, ENOENT: 404 },
    handle: async ({ params, reply }) => {
      await services.vms.command(params.vm, "setUserMemoryRegion", {
        slot: params.slot,
        flags: 0,
        guestPhysAddr: 0n,
        memorySize: 0n,
        userspaceAddr: 0n,
      });
      return reply.code(204).send();
    },
  });
}

export function memslotOperations(deps: ApiDeps): readonly Operation[] {
  return [setMemslot(deps), ...readSlots(deps), deleteMemslot(deps)];
}
