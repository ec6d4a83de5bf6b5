// Owns: turning anything thrown into application/problem+json (RFC 9457). HTTP thread.
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { ERRNO } from "../base/errno.table.js";
import { KvmError, ServiceError } from "../base/errors.js";
import { PROBLEM_TYPE } from "./content.js";
import { ERRNO_STATUS, ERRNO_TITLE, type ProblemCode, problemRow } from "./problem.table.js";
import { traceOf, traceOfMessage, traceparent } from "./trace.js";

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly instance: string;
  readonly code: string;
  readonly traceId: string;
  readonly [extension: string]: unknown;
}

/** One place in the request that has not the documented shape. */
export interface ShapeError {
  /** JSON Pointer, into the body unless it begins with /query, /path or /header. */
  readonly pointer: string;
  readonly detail: string;
}

/** What of an error its problem says; `status` null means the row's. */
interface Facts {
  readonly code: string;
  readonly detail: string;
  readonly status: number | null;
  readonly title: string | null;
  readonly extensions: Readonly<Record<string, unknown>>;
}

const FRAMEWORK_CODES: Readonly<Record<string, ProblemCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "body-too-large",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "unsupported-media-type",
  FST_ERR_CTP_INVALID_JSON_BODY: "malformed-json",
  FST_ERR_CTP_EMPTY_JSON_BODY: "malformed-json",
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: "body-cut",
  FST_ERR_BAD_URL: "bad-url",
  FST_ERR_MAX_PARAM_LENGTH: "uri-too-long",
  FST_ERR_NOT_FOUND: "route-not-found",
  ECONNRESET: "body-cut",
};

function factsOf(error: unknown, request: FastifyRequest): Facts {
  if (error instanceof KvmError) {
    const override = request.routeOptions.config.errnoStatus?.[error.errno];
    const own = error.code === "kvm-errno" ? undefined : problemRow(error.code);
    return {
      code: own === undefined ? "kvm-errno" : error.code,
      detail: error.message,
      status: override ?? own?.status ?? ERRNO_STATUS[error.errno],
      title: own?.title ?? ERRNO_TITLE[error.errno],
      extensions: {
        ...error.extensions,
        ...{ errno: error.errno, errnoValue: error.errnoValue, ioctl: error.ioctl },
      },
    };
  }
  if (error instanceof ServiceError) {
    const errno = problemRow(error.code)?.errno;
    const own = errno === undefined ? {} : { errno, errnoValue: ERRNO[errno] };
    return {
      code: error.code,
      detail: error.message,
      status: null,
      title: null,
      extensions: { ...own, ...error.extensions },
    };
  }
  return frameworkFacts(error as Partial<FastifyError>, request);
}

function frameworkFacts(error: Partial<FastifyError>, request: FastifyRequest): Facts {
  const plain = { status: null, title: null, extensions: {} };
  const code = error.code === undefined ? undefined : FRAMEWORK_CODES[error.code];
  if (code === "body-too-large") {
    const limitBytes = request.routeOptions.bodyLimit;
    const detail = `The body may have at most ${limitBytes} bytes.`;
    return { ...plain, code, detail, extensions: { limitBytes } };
  }
  if (code !== undefined) return { ...plain, code, detail: `${error.message}.` };
  const status = error.statusCode ?? 500;
  if (status >= 400 && status < 500) {
    return { ...plain, code: "bad-request", detail: String(error.message) };
  }
  return { ...plain, code: "internal", detail: "The request hit a defect of this service." };
}

/** Builds the problem of an error; the caller's extensions never shadow the standard members. */
export function problemOf(error: unknown, request: FastifyRequest): Problem {
  const facts = factsOf(error, request);
  const row = problemRow(facts.code);
  if (row === undefined) {
    request.log.error({ code: facts.code }, "a refusal has no row in the problem table");
  }
  return {
    ...facts.extensions,
    type: `/problems/${facts.code}`,
    title: facts.title ?? row?.title ?? "Refused",
    status: facts.status ?? row?.status ?? 409,
    detail: facts.detail,
    instance: request.url,
    code: facts.code,
    traceId: traceOfMessage(request.raw).traceId,
  };
}

/** Answers an error. @returns the reply, already sent */
export function sendProblem(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const problem = problemOf(error, request);
  const row = problemRow(problem.code);
  if (problem.status >= 500 && problem.code === "internal") {
    request.log.error({ err: error, traceId: problem.traceId }, "a request hit a defect");
  }
  // Errors of the framework itself come before the hook that sets it.
  if (!reply.hasHeader("traceparent")) {
    reply.header("traceparent", traceparent(traceOfMessage(request.raw)));
  }
  // HEAD has no body that could say it.
  if (typeof problem["errno"] === "string") reply.header("errno", problem["errno"]);
  if (row?.retryAfter !== undefined && !reply.hasHeader("retry-after")) {
    reply.header("retry-after", row.retryAfter);
  }
  if (problem.code === "method-not-allowed" || problem.code === "no-such-operation") {
    const allow = problem["allow"];
    if (Array.isArray(allow)) reply.header("allow", allow.join(", "));
  }
  return reply
    .code(problem.status)
    .header("cache-control", "no-store")
    .type(PROBLEM_TYPE)
    .send(JSON.stringify(problem));
}

/**
 * A problem for a message that never became a request: cut, malformed, too slow or too large.
 * @returns the whole HTTP/1.1 answer
 */
export function rawProblem(code: ProblemCode, detail: string): string {
  const row = problemRow(code);
  const trace = traceOf(undefined);
  const status = row?.status ?? 400;
  const title = row?.title ?? "Bad request";
  const body = JSON.stringify({
    type: `/problems/${code}`,
    title,
    status,
    detail,
    instance: "/",
    code,
    traceId: trace.traceId,
  });
  return [
    `HTTP/1.1 ${status} ${title}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    `traceparent: ${traceparent(trace)}`,
    "Connection: close",
    "",
    body,
  ].join("\r\n");
}
