// Owns: memory objects of a VM's emulated process, and memory by guest-physical address.
// HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { hex } from "../../base/hex.js";
import { sendRange } from "../byte-range.js";
import { bodyTooLarge, fromBase64, invalid, sendBytes, toBase64, wantsJson } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { bytesOrJson, empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { PageQuery, VmParams } from "../schemas/common.schema.js";
import {
  Bytes,
  Content,
  ContentQuery,
  ContentWrite,
  ContentWriteQuery,
  JSON_LENGTH_DEFAULT,
  MemoryObject,
  MemoryObjectCreate,
  MemoryObjectPage,
  MemoryObjectParams,
  Physical,
  PhysicalQuery,
  PhysicalWrite,
  PhysicalWriteQuery,
} from "../schemas/memory.schema.js";
import type { Services } from "../services.js";
import { big, bigOr, created, LOCATION, NEXT_LINK, pageOfList, sendPage } from "../support.js";
import { memoryObjectView } from "../views/memory.js";
import { vmPath } from "../views/vm.js";

const path = "/v1/vms/{vm}/memory-objects";

async function objectOf({ vms }: Services, vm: string, id: number) {
  const { value } = await vms.command(vm, "listMemoryObjects", {});
  const object = value.find((known) => known.id === id);
  if (object !== undefined) return object;
  throw new ServiceError("memory-object-not-found", `The VM has no memory object ${id}.`);
}

function createAndRead({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const common = { tag: "memory", params: VmParams, path } as const;
  return [
    operation({
      ...common,
      id: "createMemoryObject",
      method: "POST",
      scope: "vm:write",
      summary: "Map memory into the VM's process",
      description:
        "What mmap does for a VMM: memory at a user address, for memslots to refer to. Charged " +
        "to the host's memory budget before it exists.",
      body: MemoryObjectCreate,
      answers: { 201: withHeaders(json("The object.", MemoryObject), LOCATION) },
      problems: ["vm-not-found", "vm-not-active", "kvm-errno"],
      handle: async ({ params, body, reply }) => {
        const { value } = await vms.command(params.vm, "createMemoryObject", {
          size: big(body.size),
          userspaceAddr: body.userspaceAddr === undefined ? null : big(body.userspaceAddr),
          backing: body.backing ?? "ram",
          hugePages: body.hugePages ?? true,
        });
        const location = `${vmPath(params.vm)}/memory-objects/${value.id}`;
        return created(reply, location).send(memoryObjectView(value));
      },
    }),
    operation({
      ...common,
      id: "listMemoryObjects",
      method: "GET",
      scope: "vm:read",
      summary: "List memory objects",
      description: "In order of their ids.",
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", MemoryObjectPage), NEXT_LINK) },
      problems: ["vm-not-found", "vm-not-active", "cursor-invalid"],
      handle: async (call) => {
        const { value } = await vms.command(call.params.vm, "listMemoryObjects", {});
        const page = pageOfList(value, call.query, (object) => BigInt(object.id));
        return sendPage(call, page, memoryObjectView);
      },
    }),
  ];
}

function one({ services }: ApiDeps): readonly Operation[] {
  const common = { tag: "memory", params: MemoryObjectParams, path: `${path}/{id}` } as const;
  return [
    operation({
      ...common,
      id: "getMemoryObject",
      method: "GET",
      scope: "vm:read",
      summary: "Read a memory object",
      description: "Where it is and how large; its bytes are under content.",
      answers: { 200: json("The object.", MemoryObject) },
      problems: ["vm-not-found", "memory-object-not-found", "vm-not-active"],
      handle: async ({ params }) =>
        memoryObjectView(await objectOf(services, params.vm, params.id)),
    }),
    operation({
      ...common,
      id: "deleteMemoryObject",
      method: "DELETE",
      scope: "vm:write",
      summary: "Unmap a memory object",
      description:
        "munmap. Memslots that refer to it stay; a guest access there fails with EFAULT, as in " +
        "Linux.",
      answers: { 204: empty("It is gone.") },
      problems: ["vm-not-found", "memory-object-not-found", "vm-not-active"],
      handle: async ({ params, reply }) => {
        await services.vms.command(params.vm, "deleteMemoryObject", { id: params.id });
        return reply.code(204).send();
      },
    }),
  ];
}

function content({ services, options }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const limit = options.binaryBodyBytes;
  const at = {
    tag: "memory",
    params: MemoryObjectParams,
    path: `${path}/{id}/content`,
  } as const;
  return [
    operation({
      ...at,
      id: "readMemoryObject",
      method: "GET",
      scope: "vm:read",
      summary: "Read a memory object's bytes",
      description:
        "octet-stream, whole or by `Range`; or, with Accept: application/json, `offset` and " +
        "`length` bytes as base64. Large answers are read piece by piece while the VM runs.",
      query: ContentQuery,
      answers: {
        200: bytesOrJson("The bytes.", Bytes, Content),
        206: { ...bytesOrJson("The range.", Bytes, Content) },
      },
      problems: [
        "vm-not-found",
        "memory-object-not-found",
        "range-not-satisfiable",
        "range-required",
      ],
      handle: async ({ params, query, request, reply }) => {
        const read = async (offset: bigint, length: number) =>
          (await vms.command(params.vm, "readMemoryObject", { id: params.id, offset, length }))
            .value;
        if (!wantsJson(request)) {
          const { size } = await objectOf(services, params.vm, params.id);
          return sendRange(request, reply, size, read);
        }
        const offset = bigOr(query.offset, 0n);
        const length = query.length ?? JSON_LENGTH_DEFAULT;
        if (length > limit) throw invalid("/query/length", `is above ${limit}`);
        reply.header("cache-control", "no-store");
        return { offset: hex(offset), base64: toBase64(await read(offset, length)) };
      },
    }),
    operation({
      ...at,
      id: "writeMemoryObject",
      method: "PUT",
      scope: "vm:write",
      summary: "Write a memory object's bytes",
      description:
        "As a VMM writes through its own mapping: never logged as dirty. octet-stream at " +
        "`offset`, or JSON with base64.",
      query: ContentWriteQuery,
      body: ContentWrite,
      octets: { schema: Bytes, limit },
      answers: { 204: empty("Written.") },
      problems: ["vm-not-found", "memory-object-not-found", "out-of-range", "body-too-large"],
      handle: async ({ params, query, body, reply }) => {
        const { at: offset, bytes } = placed(body, query.offset, "offset");
        await vms.command(params.vm, "writeMemoryObject", { id: params.id, offset, bytes });
        return reply.code(204).send();
      },
    }),
  ];
}

/** Address and bytes of a write, from either form of body. */
function placed(
  body: Uint8Array | { readonly base64: string; readonly [name: string]: string },
  fromQuery: string | undefined,
  name: "offset" | "gpa",
): { at: bigint; bytes: Uint8Array } {
  if (body instanceof Uint8Array) {
    if (fromQuery === undefined) throw invalid(`/query/${name}`, "is required with octet-stream");
    return { at: big(fromQuery), bytes: body };
  }
  if (fromQuery !== undefined) throw invalid(`/query/${name}`, "is in the JSON body already");
  return { at: big(body[name] ?? ""), bytes: fromBase64(body.base64, "/base64") };
}

function physical({ services, options }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const limit = options.binaryBodyBytes;
  const at = { tag: "memory", params: VmParams, path: "/v1/vms/{vm}/physical-memory" } as const;
  return [
    operation({
      ...at,
      id: "readPhysicalMemory",
      method: "GET",
      scope: "vm:read",
      summary: "Read memory by guest-physical address",
      description: "Through the memslots, as a VMM resolves an address. Dirties nothing.",
      query: PhysicalQuery,
      answers: { 200: bytesOrJson("The bytes.", Bytes, Physical) },
      problems: ["vm-not-found", "vm-not-active", "gpa-not-mapped", "body-too-large"],
      handle: async ({ params, query, request, reply }) => {
        const asJson = wantsJson(request);
        if (query.length > limit) throw bodyTooLarge(limit);
        const gpa = big(query.gpa);
        const args = { gpa, length: query.length };
        const { value } = await vms.command(params.vm, "readPhysicalMemory", args);
        reply.header("cache-control", "no-store");
        return asJson ? { gpa: hex(gpa), base64: toBase64(value) } : sendBytes(reply, value);
      },
    }),
    operation({
      ...at,
      id: "writePhysicalMemory",
      method: "PUT",
      scope: "vm:write",
      summary: "Write memory by guest-physical address",
      description: "Through the memslots, by the VMM's mapping: never logged as dirty.",
      query: PhysicalWriteQuery,
      body: PhysicalWrite,
      octets: { schema: Bytes, limit },
      answers: { 204: empty("Written.") },
      problems: ["vm-not-found", "vm-not-active", "gpa-not-mapped", "body-too-large"],
      handle: async ({ params, query, body, reply }) => {
        const { at: gpa, bytes } = placed(body, query.gpa, "gpa");
        await vms.command(params.vm, "writePhysicalMemory", { gpa, bytes });
        return reply.code(204).send();
      },
    }),
  ];
}

export function memoryObjectOperations(deps: ApiDeps): readonly Operation[] {
  return [...createAndRead(deps), ...one(deps), ...content(deps), ...physical(deps)];
}
