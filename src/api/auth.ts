// Owns: bearer tokens with scopes: reading the token file and checking one request. HTTP thread.
// Tokens are kept and compared as SHA-256 digests only; the file never holds a token itself.
import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyReply, FastifyRequest, onRequestHookHandler } from "fastify";
import { ServiceError } from "../base/errors.js";

export const SCOPES = [
  ...(["host:read", "vm:read", "vm:write", "migration:read", "migration:write"] as const),
  ...(["events:read", "metrics:read"] as const),
] as const;
export type Scope = (typeof SCOPES)[number];

export interface TokenRow {
  readonly name: string;
  readonly scopes: ReadonlySet<string>;
  /** SHA-256 of the token, 32 bytes. */
  readonly digest: Buffer;
}
export type TokenTable = readonly TokenRow[];

const LINE = /^(\S+)\s+(\S+)\s+([0-9a-fA-F]{64})$/;

/**
 * Reads a token file: one token per line, `name scope,scope sha256hex`; `*` stands for every scope,
 * `#` begins a comment line.
 * @throws Error with a sentence naming the line; an empty table is refused too
 */
export function readTokens(text: string): TokenTable {
  const rows: TokenRow[] = [];
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const match = LINE.exec(line);
    if (match === null) {
      throw new Error(`line ${index + 1} is not "name scope,scope sha256hex"`);
    }
    const [, name = "", scopeList = "", digest = ""] = match;
    const scopes = scopeList === "*" ? [...SCOPES] : scopeList.split(",");
    const unknown = scopes.find((scope) => !(SCOPES as readonly string[]).includes(scope));
    if (unknown !== undefined) {
      throw new Error(`line ${index + 1} has the unknown scope "${unknown}"`);
    }
    rows.push({ name, scopes: new Set(scopes), digest: Buffer.from(digest, "hex") });
  }
  if (rows.length === 0) throw new Error("it holds no token");
  return rows;
}

/** @returns the row of a token; looks at every row, whichever matches, in constant time each. */
export function findToken(table: TokenTable, token: string): TokenRow | null {
  const digest = createHash("sha256").update(token).digest();
  let found: TokenRow | null = null;
  for (const row of table) {
    if (timingSafeEqual(row.digest, digest)) found = row;
  }
  return found;
}

/**
 * The hook that admits a request: its route's scope must be among its token's.
 * @throws ServiceError "unauthorized", "insufficient-scope"
 */
export function authHook(table: TokenTable): onRequestHookHandler {
  return (request, reply, done) => done(refusal(table, request, reply));
}

function refusal(
  table: TokenTable,
  request: FastifyRequest,
  reply: FastifyReply,
): ServiceError | undefined {
  const scope = request.routeOptions.config.scope ?? null;
  if (scope === null) return undefined;
  const match = /^Bearer +([\x21-\x7e]+)$/i.exec(request.headers.authorization ?? "");
  const row = match?.[1] === undefined ? null : findToken(table, match[1]);
  if (row === null) {
    reply.header("www-authenticate", 'Bearer realm="tidemark"');
    return new ServiceError("unauthorized", "No known bearer token came with the request.");
  }
  request.principal = row.name;
  if (row.scopes.has(scope)) return undefined;
  const challenge = `Bearer realm="tidemark", error="insufficient_scope", scope="${scope}"`;
  reply.header("www-authenticate", challenge);
  const detail = `The token "${row.name}" lacks the scope ${scope}.`;
  return new ServiceError("insufficient-scope", detail, { scope });
}
