// Owns: how one HTTP operation is declared: its route, its checks and its page in the document are
// one object, so that none can drift from the others. HTTP thread.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import Type, { type Static, type TSchema } from "typebox";
import "./augment.js";
import type { Scope } from "./auth.js";
import { JSON_TYPE, OCTETS } from "./content.js";
import type { ProblemCode } from "./problem.table.js";

export type Method = "GET" | "PUT" | "POST" | "PATCH" | "DELETE";

/** One media type of an answer or a body. */
export interface Content {
  readonly schema: TSchema;
  readonly example?: unknown;
}

export interface HeaderDoc {
  readonly description: string;
  readonly schema: TSchema;
}

export interface Answer {
  readonly description: string;
  /** Absent: an answer without a body. */
  readonly content?: Readonly<Record<string, Content>>;
  readonly headers?: Readonly<Record<string, HeaderDoc>>;
}

type Value<S> = S extends TSchema ? Static<S> : undefined;

/** What a handler gets: checked path, query and body. */
export interface Call<P, Q, B> {
  readonly params: Value<P>;
  readonly query: Value<Q>;
  readonly body: Value<B>;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

type Schema = TSchema | undefined;

export interface Spec<P extends Schema, Q extends Schema, B extends Schema> {
  /** operationId. */
  readonly id: string;
  readonly method: Method;
  /** With parameters in braces: "/v1/vms/{vm}:start". */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description: string;
  /** Scope that a token needs; null: public. */
  readonly scope: Scope | null;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  /** Media type of a structured body; JSON when absent. */
  readonly bodyType?: string;
  /** Schema of the octet-stream form of the body and its limit in bytes. */
  readonly octets?: { readonly schema: TSchema; readonly limit: number };
  readonly bodyOptional?: boolean;
  /** Bytes of a JSON body at most, where it differs from the configured limit. */
  readonly bodyLimit?: number;
  /** Request headers that the operation reads, besides the common ones. */
  readonly headers?: Readonly<Record<string, HeaderDoc>>;
  readonly answers: Readonly<Record<number, Answer>>;
  /** Problems worth naming in the document; validation and the common ones are added. */
  readonly problems?: readonly ProblemCode[];
  /** errno → status where the path's resource is meant. */
  readonly errnoStatus?: Readonly<Record<string, number>>;
  readonly idempotency?: "body" | "location" | "none";
  /** Can answer as an event stream. */
  readonly sse?: boolean;
  /** Costs much: gets a tenth of the rate limit. */
  readonly heavy?: boolean;
  readonly handle: (call: Call<P, Q, B>) => unknown;
}

/** An operation with its types forgotten, for tables of operations. */
export type Operation = Omit<Spec<Schema, Schema, Schema>, "handle"> & {
  readonly handle: (call: Call<never, never, never>) => unknown;
};

/** Declares an operation; infers the handler's types from its schemas. */
export function operation<
  P extends Schema = undefined,
  Q extends Schema = undefined,
  B extends Schema = undefined,
>(spec: Spec<P, Q, B>): Operation {
  return spec as unknown as Operation;
}

export function json(description: string, schema: TSchema, example?: unknown): Answer {
  const content = example === undefined ? { schema } : { schema, example };
  return { description, content: { [JSON_TYPE]: content } };
}

/** Octet-stream alone. */
export function bytes(description: string, schema: TSchema): Answer {
  return { description, content: { [OCTETS]: { schema } } };
}

/** Octet-stream by default, JSON by Accept. */
export function bytesOrJson(description: string, bytes: TSchema, schema: TSchema): Answer {
  return { description, content: { [OCTETS]: { schema: bytes }, [JSON_TYPE]: { schema } } };
}

export function empty(description: string): Answer {
  return { description };
}

export function withHeaders(answer: Answer, headers: Readonly<Record<string, HeaderDoc>>): Answer {
  return { ...answer, headers: { ...answer.headers, ...headers } };
}

/** Media types that the operation's body may have. */
export function consumes(op: Operation): readonly string[] {
  const types: string[] = [];
  if (op.octets !== undefined) types.push(OCTETS);
  if (op.body !== undefined) types.push(op.bodyType ?? JSON_TYPE);
  return types;
}

/**
 * "/v1/vms/{vm}:start" → the router's "/v1/vms/:vm(^[^:]+)::start". A parameter in front of a verb
 * must not swallow the colon; elsewhere it may hold one.
 */
export function routerPath(path: string): string {
  return path
    .replace(/:/g, "::")
    .replace(/\{(\w+)\}::/g, ":$1(^[^:]+)::")
    .replace(/\{(\w+)\}/g, ":$1");
}

const NO_QUERY = Type.Object({}, { additionalProperties: false });

function bodySchema(op: Operation): unknown {
  if (op.octets === undefined) return op.body;
  const content: Record<string, { schema: TSchema }> = { [OCTETS]: { schema: op.octets.schema } };
  if (op.body !== undefined) content[op.bodyType ?? JSON_TYPE] = { schema: op.body };
  return { content };
}

/** What @fastify/rate-limit takes of a route: its own limit, or false for none. */
export type RateLimit = false | { readonly max: number; readonly timeWindow: number };

/**
 * Adds the operation's route. HEAD comes with every GET.
 * @param rate null: the limit that all routes share
 */
export function addRoute(app: FastifyInstance, op: Operation, rate: RateLimit | null): void {
  const schema: Record<string, unknown> = {};
  if (op.params !== undefined) schema["params"] = op.params;
  // A misspelt query name is refused even where none is taken; health checks let probes add some.
  const isOpen = op.scope === null || op.tag === "not-yet";
  if (op.query !== undefined || !isOpen) schema["querystring"] = op.query ?? NO_QUERY;
  const body = bodySchema(op);
  if (body !== undefined) schema["body"] = body;
  app.route({
    method: op.method,
    url: routerPath(op.path),
    schema,
    ...(op.bodyLimit === undefined ? {} : { bodyLimit: op.bodyLimit }),
    ...(op.sse === true ? { sse: { kind: "dual" } } : {}),
    config: {
      operationId: op.id,
      scope: op.scope,
      consumes: consumes(op),
      bodyOptional: op.bodyOptional ?? false,
      ...(op.octets === undefined ? {} : { binaryLimit: op.octets.limit }),
      ...(op.errnoStatus === undefined ? {} : { errnoStatus: op.errnoStatus }),
      idempotency: op.method === "POST" ? (op.idempotency ?? "body") : "none",
      ...(rate === null ? {} : { rateLimit: rate }),
    },
    handler: (request, reply) =>
      op.handle({
        params: request.params,
        query: request.query,
        body: request.body ?? undefined,
        request,
        reply,
      } as unknown as Call<never, never, never>),
  });
}
