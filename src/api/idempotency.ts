// Owns: Idempotency-Key on POSTs: claiming a key, replaying an answer, storing one. HTTP thread.
// Runs after validation, so that a malformed request never claims a key. A refusal changes
// nothing, so it frees the key; only answers below 400 are stored.
import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../base/errors.js";
import { JSON_TYPE } from "./content.js";
import type { IdempotencyService, StoredAnswer } from "./services.js";

/** Bytes of a body that is stored; a larger answer keeps its Location only. */
const STORED_BODY_MAX = 65_536;

const KEPT_HEADERS = ["location", "etag", "content-type", "retry-after", "preference-applied"];

/** @returns the request's key, or null. @throws ServiceError "idempotency-key" */
export function idempotencyKeyOf(request: FastifyRequest): string | null {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return null;
  if (typeof key === "string" && /^[!-~]{1,255}$/.test(key)) return key;
  throw new ServiceError("idempotency-key", "The key must be 1 to 255 visible ASCII characters.");
}

/** Method, path and body in one digest; equal requests have equal fingerprints. */
export function fingerprintOf(request: FastifyRequest): string {
  const hash = createHash("sha256");
  hash.update(`${request.method} ${request.url}\n`);
  const body: unknown = request.body;
  if (body instanceof Uint8Array) hash.update(body);
  else if (body !== undefined && body !== null) hash.update(JSON.stringify(body));
  return hash.digest("hex");
}

function storedOf(reply: FastifyReply, payload: unknown, keepBody: boolean): StoredAnswer {
  const headers: Record<string, string> = {};
  for (const name of KEPT_HEADERS) {
    const value = reply.getHeader(name);
    if (value !== undefined) headers[name] = String(value);
  }
  const isText = typeof payload === "string" && payload.length <= STORED_BODY_MAX;
  return { status: reply.statusCode, headers, body: keepBody && isText ? payload : null };
}

/** Answers as the first time. A binary answer is only its Location. */
function replay(reply: FastifyReply, answer: StoredAnswer): FastifyReply {
  reply.code(answer.status).headers(answer.headers).header("idempotency-replayed", "true");
  if (answer.body === null) reply.removeHeader("content-type");
  return answer.body === null ? reply.send() : reply.send(answer.body);
}

export interface IdempotencyHooks {
  readonly preHandler: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
  readonly onSend: (
    request: FastifyRequest,
    reply: FastifyReply,
    payload: unknown,
  ) => Promise<unknown>;
}

/** The two hooks of every POST route. Keys of different tokens never meet. */
export function idempotencyHooks(service: IdempotencyService): IdempotencyHooks {
  return {
    preHandler: async (request, reply) => {
      const own = idempotencyKeyOf(request);
      const mode = request.routeOptions.config.idempotency ?? "none";
      if (own === null || mode === "none") return undefined;
      const key = request.principal === null ? own : `${request.principal} ${own}`;
      const begun = await service.begin(key, fingerprintOf(request));
      if (begun.outcome === "new") {
        request.idempotencyKey = key;
        return undefined;
      }
      const location = begun.answer.headers["location"];
      if (mode === "location" && location !== undefined && begun.answer.body === null) {
        // The bytes are still with the resource that the first answer named.
        request.replayedLocation = location;
        reply.header("idempotency-replayed", "true");
        return undefined;
      }
      return replay(reply, begun.answer);
    },
    onSend: async (request, reply, payload) => {
      const key = request.idempotencyKey;
      if (key === null) return payload;
      request.idempotencyKey = null;
      if (reply.statusCode >= 400) {
        await service.abandon(key);
      } else {
        const keepBody = String(reply.getHeader("content-type") ?? "").startsWith(JSON_TYPE);
        const isLocationOnly = request.routeOptions.config.idempotency === "location";
        await service.finish(key, storedOf(reply, payload, keepBody && !isLocationOnly));
      }
      return payload;
    },
  };
}
