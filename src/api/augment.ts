// Owns: what the HTTP face adds to Fastify's request and route types. Types only. HTTP thread.
import type { Scope } from "./auth.js";
import type { Trace } from "./trace.js";

declare module "fastify" {
  interface FastifyRequest {
    /** Name of the token, or null without authentication. */
    principal: string | null;
    readonly trace: Trace;
    /** Location of the first answer, when this request repeats it and must read it again. */
    replayedLocation: string | null;
    /** Set while this request holds its Idempotency-Key. */
    idempotencyKey: string | null;
  }
  interface FastifyContextConfig {
    /** Scope that a token needs; null: public. */
    scope?: Scope | null;
    /** Media types of the body; none when absent. */
    consumes?: readonly string[];
    /** Whether the body may be absent. */
    bodyOptional?: boolean;
    /** Bytes of an octet-stream body at most. */
    binaryLimit?: number;
    /** Statuses that differ from the errno table: for the resource of the path. */
    errnoStatus?: Readonly<Record<string, number>>;
    /** "location": an idempotent repeat is answered from the Location, not from the stored body. */
    idempotency?: "body" | "location" | "none";
    operationId?: string;
  }
}
