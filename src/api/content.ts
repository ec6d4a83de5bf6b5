// Owns: media types: which representation a client asked for, and reading octet-stream bodies.
// HTTP thread.
import type { FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../base/errors.js";
import { giveBack } from "../base/lent-bytes.js";

export const JSON_TYPE = "application/json";
export const OCTETS = "application/octet-stream";
export const PROBLEM_TYPE = "application/problem+json";
export const MERGE_PATCH = "application/merge-patch+json";
export const TEXT_TYPE = "text/plain";
export const EVENT_STREAM = "text/event-stream";

interface Range {
  readonly type: string;
  readonly subtype: string;
  readonly quality: number;
}

function parseAccept(accept: string): readonly Range[] {
  return accept.split(",").flatMap((part) => {
    const [name = "", ...parameters] = part.split(";").map((text) => text.trim().toLowerCase());
    const [type, subtype] = name.split("/");
    if (type === undefined || subtype === undefined) return [];
    const q = parameters.find((parameter) => parameter.startsWith("q="));
    const quality = q === undefined ? 1 : Number(q.slice(2));
    return [{ type, subtype, quality: Number.isNaN(quality) ? 0 : quality }];
  });
}

/** Quality of one media type: the most specific range that covers it decides. */
function qualityOf(ranges: readonly Range[], mediaType: string): number {
  const [type, subtype] = mediaType.split("/");
  let quality = 0;
  let specificity = -1;
  for (const range of ranges) {
    const covers =
      (range.type === type && (range.subtype === subtype || range.subtype === "*")) ||
      (range.type === "*" && range.subtype === "*");
    const specific = range.type === "*" ? 0 : range.subtype === "*" ? 1 : 2;
    if (covers && specific > specificity) {
      specificity = specific;
      quality = range.quality;
    }
  }
  return quality;
}

/**
 * Chooses among the media types that an operation offers; the first is the default and wins ties.
 * @throws ServiceError "not-acceptable"
 */
export function negotiate<T extends string>(request: FastifyRequest, offers: readonly T[]): T {
  const accept = request.headers.accept;
  const first = offers[0];
  if (first !== undefined && (accept === undefined || accept === "" || accept === "*/*")) {
    return first;
  }
  const ranges = parseAccept(accept ?? "");
  let best: T | null = null;
  let bestQuality = 0;
  for (const offer of offers) {
    const quality = qualityOf(ranges, offer);
    if (quality > bestQuality) {
      best = offer;
      bestQuality = quality;
    }
  }
  if (best !== null) return best;
  const detail = `This operation answers ${offers.join(" or ")}.`;
  throw new ServiceError("not-acceptable", detail, { offers });
}

/** @returns whether JSON is wanted where octet-stream is the default. */
export function wantsJson(request: FastifyRequest): boolean {
  return negotiate(request, [OCTETS, JSON_TYPE]) === JSON_TYPE;
}

/**
 * Sends bytes as they are, without a copy: the Buffer shares the view's memory. Lent bytes go back
 * when the answer has left, or its reader is gone.
 */
export function sendBytes(reply: FastifyReply, bytes: Uint8Array): FastifyReply {
  if (reply.raw.closed) giveBack(bytes);
  else reply.raw.once("close", () => giveBack(bytes));
  return reply
    .type(OCTETS)
    .send(Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength));
}

/**
 * Reads an octet-stream body into memory of its own, which may therefore move to another thread.
 * Counts while it reads, so that neither a false Content-Length nor a chunked body passes the
 * limit of the route. With the framework's own parser a small body would be a view of a pool.
 */
export async function readOctets(
  request: FastifyRequest,
  payload: AsyncIterable<Uint8Array>,
): Promise<Uint8Array> {
  const limit = request.routeOptions.config.binaryLimit ?? 0;
  const announced = Number(request.headers["content-length"] ?? Number.NaN);
  if (announced > limit) throw bodyTooLarge(limit);
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of payload) {
      length += chunk.length;
      if (length > limit) throw bodyTooLarge(limit);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    throw new ServiceError("body-cut", `The body ended after ${length} bytes.`);
  }
  if (!Number.isNaN(announced) && announced !== length) {
    throw new ServiceError("body-cut", `${announced} bytes were announced, ${length} came.`);
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}

export function bodyTooLarge(limitBytes: number): ServiceError {
  const detail = `The body may have at most ${limitBytes} bytes.`;
  return new ServiceError("body-too-large", detail, { limitBytes });
}

/**
 * Decodes standard base64.
 * @throws ServiceError "validation" pointing at the field
 */
export function fromBase64(text: string, pointer: string): Uint8Array {
  const bytes = Uint8Array.from(Buffer.from(text, "base64"));
  if (Buffer.byteLength(text, "base64") === bytes.length && text.length % 4 === 0) return bytes;
  throw invalid(pointer, "is not base64");
}

export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

/** Bytes as two hex digits each, in memory order. */
export function bytesHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** A shape error that no schema can say. */
export function invalid(pointer: string, detail: string): ServiceError {
  return new ServiceError("validation", `${pointer} ${detail}.`, { errors: [{ pointer, detail }] });
}

/** The request's "prefer: wait=N" in seconds, at most `max`; null when there is none. */
export function preferredWait(request: FastifyRequest, max: number): number | null {
  const header = request.headers["prefer"];
  const text = Array.isArray(header) ? header.join(",") : (header ?? "");
  const match = /(?:^|[,;\s])wait\s*=\s*"?([0-9]{1,9})"?(?:$|[,;\s])/i.exec(text);
  return match === null ? null : Math.min(Number(match[1]), max);
}
