// Owns: the bytes of the page stream: stream header and frame header, by version. Any thread.
//
//  stream header                                 frame header, then `payloadBytes` of payload
//   0  "TIDEPAGE"                                 0  type u8 │ 1  flags u8 │ 2  runs u16
//   8  version u32                                4  object u32
//  12  channel u32                                8  first page u32 (barrier: its number)
//  16  page size u32                             12  pages u32
//  20  length of the session's id u32            16  payload bytes u32
//  24  session id, UTF-8                         20  frame number u32, from 0 in each channel
//   …  CRC-32 of all that, u32                   24  sum of the content u32: CRC-32, or block sum
//                                                28  CRC-32 of the runs u32
//                                                32  CRC-32 of bytes 0 to 31 u32
//
// All little-endian. A payload is `runs` pairs of u32, first page and count, then the content;
// without any, the header's own pair is the only run. Header and runs have checksums of their own:
// they are trusted before the content has arrived, so a flipped length can't make the reader wait
// for bytes that nobody sends, and content can go where it belongs as it comes.
import { crc32 } from "node:zlib";
import { StreamError } from "./stream-error.js";

export const FRAME_HEADER_BYTES = 36;
export const RUN_BYTES = 8;
/** Content of one frame at most, beside its runs; a write is a frame. */
export const CONTENT_BYTES_MAX = 2 ** 20;
/** Runs that a frame with content has at most: one for each page of the smallest size. */
export const CONTENT_RUNS_MAX = 256;
/** Runs of a frame that carries no content. */
export const BARE_RUNS_MAX = 2048;

const MAGIC = "TIDEPAGE";
const SESSION_AT = 24;
const SESSION_BYTES_MAX = 200;

/** Frame types by name. Numbers are never used for another thing. */
export const FRAME = {
  /** Pages as they are. */
  pages: 1,
  /** Pages of zeros; nothing carried. */
  zero: 2,
  /** Unbacked pages that nobody stored to: their content follows from the seed. */
  untouched: 3,
  /** Unbacked pages: sequence u32 and content of each. */
  unbacked: 4,
  /** As pages, deflated. */
  deflate: 5,
  /** Pages as changes of what was sent before. */
  delta: 6,
  /** The target's copies are stale: they count as absent. */
  discard: 7,
  /** Everything before it is applied when this is. */
  barrier: 8,
  /** Nothing follows on this channel. */
  end: 9,
} as const;

export type FrameType = (typeof FRAME)[keyof typeof FRAME];

/** Flag: a page that the target has already stays as it is (post-copy: its guest has run on). */
export const FLAG_IF_ABSENT = 1;

interface StreamVersion {
  readonly types: ReadonlySet<number>;
  readonly flags: number;
  /** Types whose content has a block sum; that of all others is CRC-32. */
  readonly blockSummed: ReadonlySet<number>;
  /** A channel is no request's body, but what a connection becomes by HTTP's upgrade. */
  readonly isUpgraded: boolean;
}

const EVERY_TYPE: ReadonlySet<number> = new Set(Object.values(FRAME));

/** What each version may contain. A target accepts every version that was ever released. */
const VERSIONS: ReadonlyMap<number, StreamVersion> = new Map([
  [1, { types: EVERY_TYPE, flags: FLAG_IF_ABSENT, blockSummed: new Set(), isUpgraded: false }],
  [
    2,
    {
      types: EVERY_TYPE,
      flags: FLAG_IF_ABSENT,
      blockSummed: new Set([FRAME.pages]),
      isUpgraded: true,
    },
  ],
]);

/** Newest first: what a source offers and a target chooses from. */
export const STREAM_VERSIONS: readonly number[] = [...VERSIONS.keys()].sort((a, b) => b - a);

/** Types of frames that a stream of this version may hold. */
export function typesOf(version: number): ReadonlySet<number> {
  return VERSIONS.get(version)?.types ?? new Set();
}

/** Whether the content of these frames has a block sum (page-kernel.ts), not a CRC-32. */
export function isBlockSummed(version: number, type: number): boolean {
  return VERSIONS.get(version)?.blockSummed.has(type) ?? false;
}

/** Whether a channel's connection carries nothing but frames, once HTTP has let go of it. */
export function isUpgraded(version: number): boolean {
  return VERSIONS.get(version)?.isUpgraded ?? false;
}

export interface StreamHeader {
  readonly version: number;
  readonly channel: number;
  readonly pageSize: number;
  readonly session: string;
}

export interface FrameHeader {
  readonly type: number;
  readonly flags: number;
  readonly runs: number;
  readonly object: number;
  readonly first: number;
  readonly count: number;
  readonly payloadBytes: number;
  readonly number: number;
  readonly contentSum: number;
  readonly runsCrc: number;
}

export interface Frame extends FrameHeader {
  /** Pairs of first page and count. */
  readonly pairs: Uint32Array;
  /** Valid until the next frame is read; its buffer begins with it. Null: it is in its place. */
  readonly content: Uint8Array | null;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function encodeStreamHeader(header: StreamHeader): Uint8Array {
  const session = new TextEncoder().encode(header.session);
  const out = new Uint8Array(SESSION_AT + session.length + 4);
  const view = viewOf(out);
  out.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, header.version, true);
  // tidy: byte offset of the channel
  view.setUint32(12, header.channel, true);
  view.setUint32(16, header.pageSize, true);
  view.setUint32(20, session.length, true);
  out.set(session, SESSION_AT);
  const end = SESSION_AT + session.length;
  view.setUint32(end, crc32(out.subarray(0, end)), true);
  return out;
}

/**
 * Reads a stream header from what has arrived.
 * @returns null while bytes are missing
 * @throws StreamError "stream-corrupt", "stream-foreign", "stream-version"
 */
export function decodeStreamHeader(
  bytes: Uint8Array,
): { header: StreamHeader; bytes: number } | null {
  const magic = new TextDecoder("latin1").decode(bytes.subarray(0, MAGIC.length));
  if (!MAGIC.startsWith(magic)) {
    throw new StreamError("stream-foreign", "These bytes are no page stream.", true);
  }
  if (bytes.length < SESSION_AT) return null;
  const view = viewOf(bytes);
  const length = view.getUint32(20, true);
  if (length > SESSION_BYTES_MAX) throw corrupt("the stream header has an impossible length");
  const end = SESSION_AT + length;
  if (bytes.length < end + 4) return null;
  if (view.getUint32(end, true) !== crc32(bytes.subarray(0, end))) {
    throw corrupt("the stream header's checksum is wrong");
  }
  const version = view.getUint32(8, true);
  if (!VERSIONS.has(version)) {
    const why = `Version ${version} of the page stream is not known here.`;
    throw new StreamError("stream-version", why, true);
  }
  const header = {
    version,
    // tidy: byte offset of the channel
    channel: view.getUint32(12, true),
    pageSize: view.getUint32(16, true),
    session: new TextDecoder().decode(bytes.subarray(SESSION_AT, end)),
  };
  return { header, bytes: end + 4 };
}

/**
 * Writes a header whose payload, already in place, follows it directly.
 * @param contentSum if it is known; else it is a CRC-32
 */
export function encodeFrameHeader(
  out: Uint8Array,
  header: Omit<FrameHeader, "payloadBytes" | "contentSum" | "runsCrc">,
  contentSum = crc32(out.subarray(FRAME_HEADER_BYTES + header.runs * RUN_BYTES)),
): void {
  const view = viewOf(out);
  const payload = out.subarray(FRAME_HEADER_BYTES);
  const runsBytes = header.runs * RUN_BYTES;
  view.setUint8(0, header.type);
  view.setUint8(1, header.flags);
  view.setUint16(2, header.runs, true);
  view.setUint32(4, header.object, true);
  view.setUint32(8, header.first, true);
  // tidy: byte offset of the count
  view.setUint32(12, header.count, true);
  view.setUint32(16, payload.length, true);
  view.setUint32(20, header.number, true);
  view.setUint32(24, contentSum, true);
  view.setUint32(28, crc32(payload.subarray(0, runsBytes)), true);
  view.setUint32(32, crc32(out.subarray(0, 32)), true);
}

/** Largest payload that a frame may have, by its type. */
function payloadMax(type: number, pageSize: number): number {
  const pages = CONTENT_BYTES_MAX / pageSize;
  switch (type) {
    case FRAME.zero:
    case FRAME.untouched:
    case FRAME.discard:
      return BARE_RUNS_MAX * RUN_BYTES;
    case FRAME.barrier:
    case FRAME.end:
      return 0;
    default:
      // Sequences, or lengths of changes, beside each page.
      return CONTENT_RUNS_MAX * RUN_BYTES + CONTENT_BYTES_MAX + pages * 4;
  }
}

/**
 * Reads a frame's header.
 * @throws StreamError "stream-corrupt", "frame-unknown"
 */
export function decodeFrameHeader(bytes: Uint8Array, stream: StreamHeader): FrameHeader {
  const view = viewOf(bytes);
  if (view.getUint32(32, true) !== crc32(bytes.subarray(0, 32))) {
    throw corrupt("a frame header's checksum is wrong");
  }
  const header = {
    type: view.getUint8(0),
    flags: view.getUint8(1),
    runs: view.getUint16(2, true),
    object: view.getUint32(4, true),
    first: view.getUint32(8, true),
    // tidy: byte offset of the count
    count: view.getUint32(12, true),
    payloadBytes: view.getUint32(16, true),
    number: view.getUint32(20, true),
    contentSum: view.getUint32(24, true),
    runsCrc: view.getUint32(28, true),
  };
  const allowed = VERSIONS.get(stream.version);
  if (allowed?.types.has(header.type) !== true || (header.flags & ~allowed.flags) !== 0) {
    const what = `type ${header.type}, flags ${header.flags}`;
    throw new StreamError("frame-unknown", `Version ${stream.version} has no frame ${what}.`, true);
  }
  const isTooLong = header.payloadBytes > payloadMax(header.type, stream.pageSize);
  if (isTooLong || header.runs * RUN_BYTES > header.payloadBytes) {
    throw new StreamError("frame-malformed", "A frame's lengths contradict each other.", true);
  }
  return header;
}

function corrupt(what: string): StreamError {
  return new StreamError("stream-corrupt", `The page stream is damaged: ${what}.`, false);
}
