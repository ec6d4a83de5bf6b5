// Owns: request ids and W3C trace context: taking it from a request, making it, giving it back.
// HTTP thread. @source W3C Trace Context, traceparent version 00
import { randomFillSync } from "node:crypto";
import type { IncomingMessage } from "node:http";

export interface Trace {
  /** 32 hex digits. */
  readonly traceId: string;
  /** The caller's span, or null. */
  readonly parentId: string | null;
  /** Our span: 16 hex digits; also the request id. */
  readonly spanId: string;
  readonly flags: string;
}

/** 170 requests per call for random bytes. */
const POOL_BYTES = 170 * 24;
const pool = Buffer.alloc(POOL_BYTES);
let used = POOL_BYTES;

/** Random hex from a pool: one system call serves many requests. */
function randomHex(bytes: number): string {
  if (used + bytes > POOL_BYTES) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  return pool.toString("hex", used - bytes, used);
}

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const NO_TRACE = "0".repeat(32);
const NO_SPAN = "0".repeat(16);

/** Continues the caller's trace, or begins one when the header is absent or malformed. */
export function traceOf(header: string | string[] | undefined): Trace {
  if (typeof header === "string") {
    const match = TRACEPARENT.exec(header);
    const [, traceId, parentId, flags] = match ?? [];
    if (traceId !== undefined && parentId !== undefined && flags !== undefined) {
      if (traceId !== NO_TRACE && parentId !== NO_SPAN) {
        return { traceId, parentId, spanId: randomHex(8), flags };
      }
    }
  }
  return { traceId: randomHex(16), parentId: null, spanId: randomHex(8), flags: "00" };
}

export function traceparent(trace: Trace): string {
  return `00-${trace.traceId}-${trace.spanId}-${trace.flags}`;
}

const TRACE = Symbol("trace");

/** The one trace of a message, made when it is first asked for. */
export function traceOfMessage(message: IncomingMessage & { [TRACE]?: Trace }): Trace {
  message[TRACE] ??= traceOf(message.headers["traceparent"]);
  return message[TRACE];
}
