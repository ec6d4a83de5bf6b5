// Owns: reading JSON bodies: what is refused before or instead of parsing. HTTP thread.
import type { FastifyInstance } from "fastify";
import { ServiceError } from "../base/errors.js";
import { JSON_TYPE, MERGE_PATCH } from "./content.js";

/** Levels of arrays and objects; code behind, such as fingerprints, descends recursively. */
const DEPTH_MAX = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING = new Set(["[".charCodeAt(0), "{".charCodeAt(0)]);
const CLOSING = new Set(["]".charCodeAt(0), "}".charCodeAt(0)]);

/** Whether a text, if it is JSON, nests deeper than any body of the document may. */
function isTooDeep(text: string): boolean {
  let depth = 0;
  let isInText = false;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (isInText) {
      if (char === BACKSLASH) i++;
      else if (char === QUOTE) isInText = false;
    } else if (char === QUOTE) isInText = true;
    else if (CLOSING.has(char)) depth--;
    else if (OPENING.has(char) && ++depth > DEPTH_MAX) return true;
  }
  return false;
}

function refused(detail: string): ServiceError {
  const errors = [{ pointer: "", detail }];
  return new ServiceError("validation", `The body ${detail}.`, { errors });
}

/** JSON as Fastify reads it, but an empty body is no body, and null is none that is allowed. */
export function registerJsonParser(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser("error", "error");
  app.addContentTypeParser(
    [JSON_TYPE, MERGE_PATCH],
    { parseAs: "string" },
    (request, body: string, done) => {
      if (body.length === 0) done(null, undefined);
      // Parsed it would pass for "no body" where one may be left out.
      else if (body.trim() === "null") done(refused("must not be null"), undefined);
      else if (isTooDeep(body)) {
        done(refused(`nests deeper than ${DEPTH_MAX} levels`), undefined);
      } else void parseJson(request, body, done);
    },
  );
}
