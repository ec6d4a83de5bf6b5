// Owns: answers where no operation is: unknown paths, wrong methods, messages that never became a
// request. HTTP thread.
import type { Socket } from "node:net";
import type { FastifyInstance } from "fastify";
import { ServiceError } from "../base/errors.js";
import type { Operation } from "./operation.js";
import { rawProblem, sendProblem } from "./problem.js";

/** Methods by path pattern; looked through only when a request missed every route. */
function patternsOf(operations: readonly Operation[]): readonly [RegExp, Set<string>][] {
  const byPath = new Map<string, Set<string>>();
  for (const { path, method } of operations) {
    const methods = byPath.get(path) ?? new Set<string>();
    methods.add(method);
    if (method === "GET") methods.add("HEAD");
    byPath.set(path, methods);
  }
  return [...byPath].map(([path, methods]) => {
    // A colon begins a verb, so an unknown verb is an unknown path.
    const pattern = path.replaceAll(".", "\\.").replace(/\{\w+\}/g, "[^/:]+");
    return [new RegExp(`^${pattern}$`), methods];
  });
}

/** Methods that a client may expect and KVM has no operation for. */
const NO_SUCH: readonly (readonly [method: string, path: RegExp, detail: string])[] = [
  [
    "DELETE",
    /^\/v1\/vms\/[^/]+\/vcpus\/[^/]+$/,
    "KVM can't delete a vCPU: it stays until its VM is deleted, DELETE /v1/vms/{vm}.",
  ],
];

/** What a request that missed every route is told. */
function refusalOf(method: string, path: string, allow: readonly string[]): ServiceError {
  if (allow.length === 0) {
    return new ServiceError("route-not-found", `There is no operation at ${path}.`);
  }
  const known = NO_SUCH.find(([verb, pattern]) => verb === method && pattern.test(path));
  if (known !== undefined) return new ServiceError("no-such-operation", known[2], { allow });
  return new ServiceError("method-not-allowed", `${method} is not offered at ${path}.`, { allow });
}

export function registerNotFound(app: FastifyInstance, operations: readonly Operation[]): void {
  const patterns = patternsOf(operations);
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?")[0] ?? "";
    const allow = new Set<string>();
    for (const [pattern, methods] of patterns) {
      if (pattern.test(path)) for (const method of methods) allow.add(method);
    }
    const error = refusalOf(request.method, path, [...allow].sort());
    return sendProblem(error, request, reply);
  });
}

/** Answers a message that the HTTP parser gave up on, then closes its connection. */
export function answerClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  if (socket.writable) socket.write(clientProblem(error.code));
  socket.destroySoon();
}

function clientProblem(code: string | undefined): string {
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") {
    return rawProblem("request-timeout", "The request did not arrive in time.");
  }
  if (code === "HPE_HEADER_OVERFLOW") {
    return rawProblem("headers-too-large", "The request's headers are too large.");
  }
  if (code === "HPE_INVALID_EOF_STATE") {
    return rawProblem("body-cut", "The connection was closed before the body had arrived.");
  }
  return rawProblem("bad-request", "The message is not HTTP/1.1.");
}
