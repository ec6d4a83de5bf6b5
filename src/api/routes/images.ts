// Owns: /v1/images: what boards load, uploaded once. HTTP thread.
import { OCTETS, sendBytes } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { ifMatch, ifNoneMatch, makeEtag } from "../etag.js";
import { type Answer, empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { Image, ImageBytes, ImagePage, ImageParams } from "../schemas/board.schema.js";
import { LIMIT_DEFAULT, PageQuery } from "../schemas/common.schema.js";
import type { ImageResource } from "../services.js";
import {
  created,
  ETAG,
  IF_MATCH,
  IF_NONE_MATCH,
  LOCATION,
  linkNext,
  NEXT_LINK,
} from "../support.js";

const one = { tag: "images", path: "/v1/images/{image}", params: ImageParams } as const;
const ONLY_NEW = {
  "If-None-Match": {
    ...IF_NONE_MATCH["If-None-Match"],
    description: "`*`: only if there is no image of that name; 412 otherwise.",
  },
} as typeof IF_NONE_MATCH;
const BYTES: Answer = {
  description: "The bytes.",
  content: { [OCTETS]: { schema: ImageBytes } },
};

function imagePath(name: string): string {
  return `/v1/images/${encodeURIComponent(name)}`;
}

function view(image: ImageResource) {
  const { name, sha256, size, version, createdAt, updatedAt } = image;
  const self = imagePath(name);
  const links = { self, content: `${self}/content` };
  return { name, sha256, size, version, createdAt, updatedAt, links };
}

function etagOf({ version, sha256 }: ImageResource): string {
  return makeEtag(version, sha256);
}

function changes({ services, options }: ApiDeps): readonly Operation[] {
  const { images } = services;
  return [
    operation({
      ...one,
      id: "putImage",
      method: "PUT",
      scope: "vm:write",
      heavy: true,
      summary: "Upload an image",
      description:
        "A flat binary, a Linux arm64 Image or an initrd; on disk before the answer. The same " +
        "bytes again change nothing. Other bytes replace it, but not while a VM names it.",
      headers: { ...IF_MATCH, ...ONLY_NEW },
      octets: { schema: ImageBytes, limit: options.binaryBodyBytes },
      answers: {
        200: withHeaders(json("The image, replaced or as it was.", Image), ETAG),
        201: withHeaders(json("The image.", Image), { ...LOCATION, ...ETAG }),
      },
      problems: ["image-in-use", "image-limit", "precondition-failed", "body-too-large"],
      handle: async ({ params, body, request, reply }) => {
        const onlyNew = request.headers["if-none-match"]?.trim() === "*";
        const condition = { ifMatch: ifMatch(request), onlyNew };
        const bytes = body as unknown as Uint8Array;
        const { image, created: isNew } = await images.put(params.image, bytes, condition);
        reply.header("etag", etagOf(image));
        return isNew ? created(reply, imagePath(image.name)).send(view(image)) : view(image);
      },
    }),
    operation({
      ...one,
      id: "deleteImage",
      method: "DELETE",
      scope: "vm:write",
      summary: "Delete an image",
      description: "Not while a VM names it, whatever that VM's state: it may be started again.",
      headers: IF_MATCH,
      answers: { 204: empty("It is gone.") },
      problems: ["image-not-found", "image-in-use", "precondition-failed"],
      handle: async ({ params, request, reply }) => {
        await images.delete(params.image, ifMatch(request));
        return reply.code(204).send();
      },
    }),
  ];
}

function reads({ services }: ApiDeps): readonly Operation[] {
  const { images } = services;
  return [
    operation({
      id: "listImages",
      method: "GET",
      path: "/v1/images",
      tag: "images",
      scope: "vm:read",
      summary: "List images",
      description: "In order of their names.",
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", ImagePage), NEXT_LINK) },
      problems: ["cursor-invalid"],
      handle: async ({ query, request, reply }) => {
        const page = await images.list(query.limit ?? LIMIT_DEFAULT, query.cursor ?? null);
        linkNext(request, reply, "cursor", page.nextCursor);
        return { items: page.items.map(view), nextCursor: page.nextCursor };
      },
    }),
    operation({
      ...one,
      id: "getImage",
      method: "GET",
      scope: "vm:read",
      summary: "Read an image's record",
      description: "Hash and size; its bytes are under `/content`.",
      headers: IF_NONE_MATCH,
      answers: {
        200: withHeaders(json("The image.", Image), ETAG),
        304: empty("Nothing changed since the tag in If-None-Match."),
      },
      problems: ["image-not-found"],
      handle: async ({ params, request, reply }) => {
        const image = await images.get(params.image);
        reply.header("etag", etagOf(image));
        return ifNoneMatch(request, etagOf(image)) ? reply.code(304).send() : view(image);
      },
    }),
    operation({
      ...one,
      id: "getImageContent",
      method: "GET",
      path: `${one.path}/content`,
      scope: "vm:read",
      summary: "Read an image's bytes",
      description: "As they were uploaded, checked against their hash.",
      answers: { 200: withHeaders(BYTES, ETAG) },
      problems: ["image-not-found", "image-lost"],
      handle: async ({ params, reply }) => {
        reply.header("etag", etagOf(await images.get(params.image)));
        return sendBytes(reply, await images.content(params.image));
      },
    }),
  ];
}

export function imageOperations(deps: ApiDeps): readonly Operation[] {
  return [...changes(deps), ...reads(deps)];
}
