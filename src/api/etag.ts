// Owns: entity tags of VMs: making them, and reading If-Match and If-None-Match. HTTP thread.
// A tag is "<version>-<state>": version counts changes of the record (name, labels, state),
// state is a hash of what KVM says of the VM except its running counters. If-Match compares the
// version alone, so that a running guest never defeats a change of the record; If-None-Match
// compares the whole tag, so that a 304 never hides a change.
import type { FastifyRequest } from "fastify";

/** @param state what besides the version must change the tag */
export function makeEtag(version: number, state: string): string {
  let h = 0x811c9dc5;
  for (let i = 0; i < state.length; i++) {
    h = Math.imul(h ^ state.charCodeAt(i), 0x01000193);
  }
  return `"${version}-${(h >>> 0).toString(16)}"`;
}

function listOf(header: string): readonly string[] {
  return header.match(/(?:W\/)?"[^"]*"/g) ?? [];
}

/**
 * The versions that If-Match admits: null when any will do, an empty list when none can match.
 * @source RFC 9110 section 13.1.1: strong comparison, so weak tags never match
 */
export function ifMatch(request: FastifyRequest): readonly number[] | null {
  const header = request.headers["if-match"];
  if (header === undefined || header.trim() === "*") return null;
  return listOf(header).flatMap((tag) => {
    const match = /^"([0-9]{1,15})(?:-[0-9a-f]+)?"$/.exec(tag);
    return match === null ? [] : [Number(match[1])];
  });
}

/** @returns whether If-None-Match names this tag, so that 304 is due. Weak comparison. */
export function ifNoneMatch(request: FastifyRequest, etag: string): boolean {
  const header = request.headers["if-none-match"];
  if (header === undefined) return false;
  if (header.trim() === "*") return true;
  return listOf(header).some((tag) => tag.replace(/^W\//, "") === etag);
}
