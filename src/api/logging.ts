// Owns: the process's logger and one line per request. HTTP thread.
// info: a state changed; warn: refused; error: somebody must look; reads are debug, so that a
// polling client does not fill the log.
import type { FastifyReply, FastifyRequest } from "fastify";
import { pino } from "pino";

/** Never written, wherever a log line mentions headers. */
const SECRET_PATHS = [
  "authorization",
  "headers.authorization",
  'headers["proxy-authorization"]',
  "headers.cookie",
  "req.headers.authorization",
  'req.headers["proxy-authorization"]',
  "req.headers.cookie",
];

/** JSON lines on standard output, or on `destination`. */
export function createLogger(level: string, destination?: pino.DestinationStream): pino.Logger {
  const options: pino.LoggerOptions = {
    level,
    base: { name: "tidemark" },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: { paths: SECRET_PATHS, censor: "[redacted]" },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

function levelOf(request: FastifyRequest, status: number): "debug" | "info" | "warn" | "error" {
  if (status >= 500 && status !== 501 && status !== 503 && status !== 507) return "error";
  if (status >= 400) return "warn";
  return request.method === "GET" || request.method === "HEAD" ? "debug" : "info";
}

/** Writes the line of an answered request. @param durationMs from its first byte to its last */
export function logAnswer(request: FastifyRequest, reply: FastifyReply, durationMs: number): void {
  const level = levelOf(request, reply.statusCode);
  const log = request.log as pino.Logger;
  if (!log.isLevelEnabled(level)) return;
  log[level](
    {
      room: "api",
      method: request.method,
      url: request.url,
      operation: request.routeOptions.config.operationId ?? null,
      status: reply.statusCode,
      durationMs: Math.round(durationMs * 1000) / 1000,
      traceId: request.trace.traceId,
      principal: request.principal ?? undefined,
    },
    "answered",
  );
}
