// Owns: the Range request header, and sending large memory piece by piece. HTTP thread.
import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../base/errors.js";
import { OCTETS, sendBytes } from "./content.js";

/** Bytes fetched from a VM at a time: large enough for speed, small enough for its other work. */
const PIECE_BYTES = 4 * 1024 * 1024;

export interface ByteRange {
  readonly first: bigint;
  /** Inclusive. */
  readonly last: bigint;
}

function notSatisfiable(size: bigint, detail: string): ServiceError {
  return new ServiceError("range-not-satisfiable", detail, { size: `0x${size.toString(16)}` });
}

/**
 * Reads the Range header.
 * @param size of the whole, bytes
 * @returns null when there is none, or it is in another unit
 * @throws ServiceError "range-not-satisfiable": nothing of it inside, more than one, malformed
 * @source RFC 9110 section 14.1.2
 */
export function byteRange(request: FastifyRequest, size: bigint): ByteRange | null {
  const header = request.headers.range;
  if (header === undefined || !/^bytes=/i.test(header)) return null;
  const match = /^bytes=\s*([0-9]{0,20})-([0-9]{0,20})\s*$/i.exec(header);
  const [, from = "", to = ""] = match ?? [];
  if (match === null || (from === "" && to === "")) {
    throw notSatisfiable(size, "One range is served per request: bytes=first-last.");
  }
  if (from === "") {
    const length = BigInt(to);
    if (length === 0n || size === 0n) throw notSatisfiable(size, "The range is empty.");
    return { first: length > size ? 0n : size - length, last: size - 1n };
  }
  const first = BigInt(from);
  const last = to === "" || BigInt(to) >= size ? size - 1n : BigInt(to);
  if (to !== "" && BigInt(to) < first)
    throw notSatisfiable(size, "The range ends before it begins.");
  if (first >= size) throw notSatisfiable(size, "The range begins behind the end.");
  return { first, last };
}

type Read = (offset: bigint, length: number) => Promise<Uint8Array>;

async function* pieces(read: Read, { first, last }: ByteRange): AsyncGenerator<Uint8Array> {
  let offset = first;
  while (offset <= last) {
    const left = last - offset + 1n;
    const length = left > BigInt(PIECE_BYTES) ? PIECE_BYTES : Number(left);
    yield await read(offset, length);
    offset += BigInt(length);
  }
}

/**
 * Answers 200 or 206 with bytes of a whole that is `size` long.
 * @throws ServiceError "range-required" when Content-Length could not be exact
 */
export async function sendRange(
  request: FastifyRequest,
  reply: FastifyReply,
  size: bigint,
  read: Read,
): Promise<FastifyReply> {
  reply.header("accept-ranges", "bytes").header("cache-control", "no-store");
  let range: ByteRange | null;
  try {
    range = byteRange(request, size);
  } catch (error) {
    reply.header("content-range", `bytes */${size}`);
    throw error;
  }
  const { first, last } = range ?? { first: 0n, last: size - 1n };
  const length = last - first + 1n;
  if (length > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new ServiceError("range-required", `${length} bytes are too many for one answer.`);
  }
  if (range !== null) {
    reply.code(206).header("content-range", `bytes ${first}-${last}/${size}`);
  }
  if (length <= BigInt(PIECE_BYTES)) {
    return sendBytes(reply, length === 0n ? new Uint8Array(0) : await read(first, Number(length)));
  }
  const stream = Readable.from(pieces(read, { first, last }), { objectMode: false });
  return reply.type(OCTETS).header("content-length", String(length)).send(stream);
}
