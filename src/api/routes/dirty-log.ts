// Owns: dirty logs: KVM_GET_DIRTY_LOG, harvests that survive a lost reply, KVM_CLEAR_DIRTY_LOG.
// HTTP thread.
import type { FastifyReply, FastifyRequest } from "fastify";
import Type, { type Static } from "typebox";
import { ServiceError } from "../../base/errors.js";
import { giveBack } from "../../base/lent-bytes.js";
import { bitmapOfBase64, bitmapOfRanges, checkBitmap, rangesOf } from "../bitmap-json.js";
import { invalid, sendBytes, wantsJson } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { bytesOrJson, empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { SlotParams } from "../schemas/common.schema.js";
import {
  AfterQuery,
  Bitmap,
  Clear,
  Cleared,
  ClearQuery,
  DirtyLog,
  Harvest,
  HarvestParams,
} from "../schemas/dirty.schema.js";
import type { ArgsOf, ResultOf, Services } from "../services.js";
import { big, consumeOf, LOCATION } from "../support.js";
import { vmPath } from "../views/vm.js";

const path = "/v1/vms/{vm}/memslots/{slot}/dirty-log";
const common = { tag: "dirty-log", path, params: SlotParams } as const;
/** An absent slot, or one without a log, is what the path names. */
const errnoStatus = { ENOENT: 404 };

type HarvestResult = ResultOf<"harvestDirtyLog">;

const PAGES = {
  "Tidemark-Pages": { description: "Pages of the slot.", schema: Type.Integer() },
};
const HARVEST_HEADERS = {
  ...PAGES,
  "Tidemark-Harvest-Id": { description: "Id of the harvest.", schema: Type.String() },
  "Tidemark-Repeated": {
    description: "true: it was given out before.",
    schema: Type.String(),
  },
};

/** Answers a harvest in the form that was asked for. */
async function sendHarvest(
  deps: ApiDeps,
  reply: FastifyReply,
  harvest: HarvestResult,
  asJson: boolean,
): Promise<FastifyReply> {
  reply
    .header("cache-control", "no-store")
    .header("tidemark-pages", harvest.npages)
    .header("tidemark-harvest-id", encodeURIComponent(harvest.id))
    .header("tidemark-repeated", String(harvest.repeated));
  if (!asJson) return sendBytes(reply, harvest.bitmap);
  const { count, ranges } = await rangesOf(harvest.bitmap, harvest.npages, deps.clock);
  const { id, npages, repeated } = harvest;
  return reply.send({ id, npages, count, ranges, repeated });
}

function getDirtyLog({ services, clock }: ApiDeps): Operation {
  return operation({
    ...common,
    id: "getDirtyLog",
    method: "GET",
    scope: "vm:read",
    summary: "Read a slot's dirty log",
    description:
      "KVM_GET_DIRTY_LOG where it clears nothing: with KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. " +
      "Without it the ioctl destroys what it reads, and this is 409: use harvests.",
    answers: { 200: withHeaders(bytesOrJson("The bitmap.", Bitmap, DirtyLog), PAGES) },
    problems: [
      "vm-not-found",
      "vm-not-active",
      "destructive-read",
      "dirty-log-owned",
      "not-acceptable",
    ],
    errnoStatus,
    handle: async ({ params, request, reply }) => {
      const asJson = wantsJson(request);
      const { value } = await services.vms.command(params.vm, "getDirtyLog", { slot: params.slot });
      reply.header("cache-control", "no-store").header("tidemark-pages", value.npages);
      if (!asJson) return sendBytes(reply, value.bitmap);
      try {
        const { count, ranges } = await rangesOf(value.bitmap, value.npages, clock);
        return { npages: value.npages, count, ranges };
      } finally {
        giveBack(value.bitmap);
      }
    },
  });
}

/** A new harvest, or the one that this Idempotency-Key made before. */
async function harvestOf(
  { vms }: Services,
  params: { readonly vm: string; readonly slot: number },
  request: FastifyRequest,
  after: string | undefined,
): Promise<HarvestResult> {
  const { vm, slot } = params;
  const id = request.replayedLocation?.split("/").at(-1);
  if (id === undefined) {
    const args = { slot, ...consumeOf(request, after) };
    return (await vms.command(vm, "harvestDirtyLog", args)).value;
  }
  try {
    return (await vms.command(vm, "getHarvest", { slot, id })).value;
  } catch (error) {
    if (!(error instanceof ServiceError) || error.code !== "harvest-not-found") throw error;
    throw new ServiceError("harvest-acknowledged", `Harvest ${id} was acknowledged since.`);
  }
}

function createHarvest(deps: ApiDeps): Operation {
  return operation({
    ...common,
    id: "createHarvest",
    method: "POST",
    path: `${path}/harvests`,
    scope: "vm:write",
    summary: "Take a slot's dirty log, and keep it until it is acknowledged",
    description:
      "KVM_GET_DIRTY_LOG in any mode. The result is kept, so that a lost reply loses no page: " +
      "repeat with the same Idempotency-Key or the same `after` and it comes again. The next " +
      "harvest must name this one in `after`, or this one is deleted first.",
    query: AfterQuery,
    idempotency: "location",
    answers: {
      201: withHeaders(bytesOrJson("The bitmap, kept as a resource.", Bitmap, Harvest), {
        ...LOCATION,
        ...HARVEST_HEADERS,
      }),
    },
    problems: [
      "vm-not-found",
      "vm-not-active",
      "harvest-unacknowledged",
      "dirty-log-owned",
      "harvest-acknowledged",
      "not-acceptable",
    ],
    errnoStatus,
    handle: async ({ params, query, request, reply }) => {
      const asJson = wantsJson(request);
      const harvest = await harvestOf(deps.services, params, request, query.after);
      const log = `${vmPath(params.vm)}/memslots/${params.slot}/dirty-log`;
      const self = `${log}/harvests/${encodeURIComponent(harvest.id)}`;
      reply.code(201).header("location", self);
      return sendHarvest(deps, reply, harvest, asJson);
    },
  });
}

function oneHarvest(deps: ApiDeps): readonly Operation[] {
  const { vms } = deps.services;
  const at = {
    tag: "dirty-log",
    path: `${path}/harvests/{harvest}`,
    params: HarvestParams,
  } as const;
  return [
    operation({
      ...at,
      id: "getHarvest",
      method: "GET",
      scope: "vm:read",
      summary: "Read a kept harvest again",
      description: "The same bytes as the first time, until it is acknowledged.",
      answers: { 200: withHeaders(bytesOrJson("The bitmap.", Bitmap, Harvest), HARVEST_HEADERS) },
      problems: ["vm-not-found", "harvest-not-found", "vm-not-active", "not-acceptable"],
      errnoStatus,
      handle: async ({ params, request, reply }) => {
        const asJson = wantsJson(request);
        const args = { slot: params.slot, id: params.harvest };
        const { value } = await vms.command(params.vm, "getHarvest", args);
        return sendHarvest(deps, reply, value, asJson);
      },
    }),
    operation({
      ...at,
      id: "deleteHarvest",
      method: "DELETE",
      scope: "vm:write",
      summary: "Acknowledge a harvest",
      description: "Its bytes are safe with you and may be forgotten. Idempotent.",
      answers: { 204: empty("Acknowledged.") },
      problems: ["vm-not-found", "harvest-not-found", "vm-not-active"],
      errnoStatus,
      handle: async ({ params, reply }) => {
        const args = { slot: params.slot, id: params.harvest };
        await vms.command(params.vm, "acknowledgeHarvest", args);
        return reply.code(204).send();
      },
    }),
  ];
}

type ClearArgs = ArgsOf<"clearDirtyLog">;

/** Window and bitmap of a CLEAR, from either form of body. */
function clearArgs(
  slot: number,
  query: Static<typeof ClearQuery>,
  body: Uint8Array | Static<typeof Clear> | undefined,
): ClearArgs {
  if (body === undefined || body instanceof Uint8Array) {
    if (query.firstPage === undefined) throw invalid("/query/firstPage", "is required");
    if (query.numPages === undefined) throw invalid("/query/numPages", "is required");
    const bitmap = checkBitmap(body ?? new Uint8Array(0), query.numPages);
    return { slot, firstPage: big(query.firstPage), numPages: query.numPages, bitmap };
  }
  if (query.firstPage !== undefined) throw invalid("/query/firstPage", "is in the JSON body");
  if (query.numPages !== undefined) throw invalid("/query/numPages", "is in the JSON body");
  const { ranges, base64, numPages } = body;
  if ((ranges === undefined) === (base64 === undefined)) {
    throw invalid("/ranges", "or base64 is required, not both");
  }
  const bitmap =
    base64 === undefined
      ? bitmapOfRanges(ranges ?? [], numPages)
      : bitmapOfBase64(base64, numPages);
  return { slot, firstPage: big(body.firstPage), numPages, bitmap };
}

function clearDirtyLog({ services, options }: ApiDeps): Operation {
  return operation({
    ...common,
    id: "clearDirtyLog",
    method: "POST",
    path: `${path}/clears`,
    scope: "vm:write",
    summary: "Clear dirty bits and protect the pages again",
    description:
      "KVM_CLEAR_DIRTY_LOG: octet-stream with `firstPage` and `numPages` in the query, or JSON. " +
      "Ranges are relative to firstPage, as the bits of the ioctl's bitmap are. Clear before you " +
      "copy a page, or a store in between is lost.",
    query: ClearQuery,
    body: Clear,
    bodyOptional: true,
    octets: { schema: Bitmap, limit: options.binaryBodyBytes },
    answers: { 200: json("What was cleared.", Cleared) },
    problems: [
      "vm-not-found",
      "vm-not-active",
      "bitmap-length",
      "body-too-large",
      "dirty-log-owned",
    ],
    errnoStatus,
    handle: async ({ params, query, body, request }) => {
      const given = request.body === undefined ? undefined : body;
      const args = clearArgs(params.slot, query, given);
      const defers = given !== undefined && !(given instanceof Uint8Array) && given.defer === true;
      const name = defers ? "deferDirtyLogClear" : "clearDirtyLog";
      return (await services.vms.command(params.vm, name, args)).value;
    },
  });
}

export function dirtyLogOperations(deps: ApiDeps): readonly Operation[] {
  return [getDirtyLog(deps), createHarvest(deps), ...oneHarvest(deps), clearDirtyLog(deps)];
}
