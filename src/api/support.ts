// Owns: the few steps that many routes share: created answers, pages, waits. HTTP thread.
import type { FastifyReply, FastifyRequest } from "fastify";
import Type from "typebox";
import { ServiceError } from "../base/errors.js";
import { parseU64 } from "../base/hex.js";
import { idempotencyKeyOf } from "./idempotency.js";
import type { HeaderDoc } from "./operation.js";
import { LIMIT_DEFAULT } from "./schemas/common.schema.js";

export const MS_PER_S = 1000;

export const LOCATION: Readonly<Record<string, HeaderDoc>> = {
  Location: { description: "Path of the resource.", schema: Type.String() },
};
export const ETAG: Readonly<Record<string, HeaderDoc>> = {
  ETag: { description: "Entity tag for If-Match and If-None-Match.", schema: Type.String() },
};
export const NEXT_LINK: Readonly<Record<string, HeaderDoc>> = {
  Link: { description: 'rel="next": the next page, if there is one.', schema: Type.String() },
};
export const IF_MATCH: Readonly<Record<string, HeaderDoc>> = {
  "If-Match": {
    description: "Only if the record still has this version; 412 otherwise.",
    schema: Type.String({ maxLength: 1024 }),
  },
};
export const IF_NONE_MATCH: Readonly<Record<string, HeaderDoc>> = {
  "If-None-Match": {
    description: "304 if the resource still has this tag.",
    schema: Type.String({ maxLength: 1024 }),
  },
};

/** Reads a u64 whose text a schema has checked. */
export function big(text: string): bigint {
  const value = parseU64(text);
  if (value === undefined) throw new ServiceError("validation", `${text} is not a u64.`);
  return value;
}

export function bigOr(text: string | undefined, otherwise: bigint): bigint {
  return text === undefined ? otherwise : big(text);
}

/** 201 with its Location. */
export function created(reply: FastifyReply, location: string): FastifyReply {
  return reply.code(201).header("location", location);
}

/** Request key and acknowledged predecessor of a consuming POST (DESIGN 9). */
export function consumeOf(request: FastifyRequest, after: string | undefined) {
  const key = idempotencyKeyOf(request);
  const own = key !== null && request.principal !== null ? `${request.principal} ${key}` : key;
  return { key: own, after: after ?? null };
}

/** Adds Link rel="next" with the same query but the next cursor. */
export function linkNext(
  request: FastifyRequest,
  reply: FastifyReply,
  name: string,
  value: string | null,
): void {
  if (value === null) return;
  const [path = "", search = ""] = request.url.split("?");
  const query = new URLSearchParams(search);
  query.set(name, value);
  reply.header("link", `<${path}?${query.toString()}>; rel="next"`);
}

export interface PageQuery {
  readonly limit?: number;
  readonly cursor?: string;
}

const CURSOR = /^k:(0x[0-9a-f]{1,16})$/;

/**
 * One page of a list that a VM gives as a whole, sorted by a key that never repeats.
 * @throws ServiceError "cursor-invalid"
 */
export function pageOfList<T>(
  list: readonly T[],
  query: PageQuery,
  keyOf: (item: T) => bigint,
): { items: readonly T[]; nextCursor: string | null } {
  const sorted = [...list].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  const after = query.cursor === undefined ? -1n : cursorKey(query.cursor);
  const rest = sorted.filter((item) => keyOf(item) > after);
  const limit = query.limit ?? LIMIT_DEFAULT;
  const items = rest.slice(0, limit);
  const last = items.at(-1);
  if (rest.length <= limit || last === undefined) return { items, nextCursor: null };
  const nextCursor = Buffer.from(`k:0x${keyOf(last).toString(16)}`).toString("base64url");
  return { items, nextCursor };
}

/** The key that a page ended with. @throws ServiceError "cursor-invalid" */
export function cursorKey(cursor: string): bigint {
  const match = CURSOR.exec(Buffer.from(cursor, "base64url").toString("latin1"));
  if (match?.[1] !== undefined) return BigInt(match[1]);
  throw new ServiceError("cursor-invalid", "The cursor did not come from this list.");
}

/** Answers a page of a VM's list, with its Link. */
export function sendPage<T, V>(
  call: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  page: { readonly items: readonly T[]; readonly nextCursor: string | null },
  view: (item: T) => V,
): { items: V[]; nextCursor: string | null } {
  linkNext(call.request, call.reply, "cursor", page.nextCursor);
  return { items: page.items.map(view), nextCursor: page.nextCursor };
}
