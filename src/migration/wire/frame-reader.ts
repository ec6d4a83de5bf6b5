// Owns: frames out of pieces of any size. Data-plane thread, or inline.
import { crc32 } from "node:zlib";
import {
  BARE_RUNS_MAX,
  decodeFrameHeader,
  decodeStreamHeader,
  FRAME_HEADER_BYTES,
  type Frame,
  type FrameHeader,
  RUN_BYTES,
  type StreamHeader,
} from "./frame.js";
import { copyBytes } from "./ram.js";
import { StreamError } from "./stream-error.js";

/** A stream header is shorter than this, whatever the session's id. */
const STREAM_HEADER_MAX = 256;
const HEAD_BYTES_MAX = Math.max(STREAM_HEADER_MAX, BARE_RUNS_MAX * RUN_BYTES);
const BUFFER_FIRST_BYTES = 65_536;

/** What has to stand in the stream header. */
export interface Expected {
  readonly version: number;
  readonly channel: number;
  readonly pageSize: number;
  readonly session: string;
}

/** Finds where content belongs before it has come. */
export interface Placer {
  /**
   * @returns windows that take the content one after the other; null: it has to be looked at whole
   * @throws StreamError
   */
  windows(header: FrameHeader, pairs: Uint32Array): readonly Uint8Array[] | null;
}

/**
 * Reads one channel. `offset` and `frames` count what was read whole; after `restart` it goes on
 * at the next frame's first byte, whatever part of it had arrived.
 */
export class FrameReader {
  readonly #expected: Expected;
  readonly #placer: Placer;
  readonly #head = new Uint8Array(HEAD_BYTES_MAX);
  #headBytes = 0;
  #stream: StreamHeader | null = null;
  #header: FrameHeader | null = null;
  #pairs: Uint32Array | null = null;
  /** Where the content goes: a buffer of our own, or its places. */
  #windows: readonly Uint8Array[] = [];
  #window = 0;
  #windowBytes = 0;
  #isPlaced = false;
  #buffer = new Uint8Array(0);
  #contentBytes = 0;
  #crc = 0;
  /** Bytes of frames and stream header that were read whole. */
  offset = 0;
  /** Frames that were read whole. */
  frames = 0;

  constructor(expected: Expected, placer: Placer) {
    this.#expected = expected;
    this.#placer = placer;
  }

  restart(): void {
    this.#headBytes = 0;
    this.#header = null;
    this.#pairs = null;
  }

  /**
   * Takes bytes of `chunk` from `at` on, up to the end of a frame.
   * @returns where the rest begins, and the frame if it is whole
   * @throws StreamError
   */
  take(chunk: Uint8Array, at: number): { next: number; frame: Frame | null } {
    let next = at;
    if (this.#stream === null) {
      next = this.#takeStreamHeader(chunk, next);
      if (this.#stream === null) return { next, frame: null };
    }
    if (this.#header === null) {
      next = this.#fillHead(chunk, next, FRAME_HEADER_BYTES);
      if (this.#headBytes < FRAME_HEADER_BYTES) return { next, frame: null };
      this.#header = this.#beginFrame(this.#stream);
    }
    const header = this.#header;
    if (this.#pairs === null) {
      next = this.#fillHead(chunk, next, header.runs * RUN_BYTES);
      if (this.#headBytes < header.runs * RUN_BYTES) return { next, frame: null };
      this.#pairs = this.#beginContent(header);
    }
    next = this.#takeContent(chunk, next, header);
    const isWhole = this.#contentBytes === header.payloadBytes - header.runs * RUN_BYTES;
    return { next, frame: isWhole ? this.#endFrame(header, this.#pairs) : null };
  }

  #fillHead(chunk: Uint8Array, at: number, bytes: number): number {
    const part = Math.min(bytes - this.#headBytes, chunk.length - at);
    this.#head.set(chunk.subarray(at, at + part), this.#headBytes);
    this.#headBytes += part;
    return at + part;
  }

  #takeStreamHeader(chunk: Uint8Array, at: number): number {
    const before = this.#headBytes;
    const next = this.#fillHead(chunk, at, STREAM_HEADER_MAX);
    const found = decodeStreamHeader(this.#head.subarray(0, this.#headBytes));
    if (found === null) return next;
    const { version, channel, pageSize, session } = this.#expected;
    const is = found.header;
    if (is.channel !== channel || is.session !== session || is.pageSize !== pageSize) {
      throw new StreamError("stream-mismatch", "The stream header is another stream's.", true);
    }
    if (is.version !== version) {
      const why = `Version ${version} was agreed on, version ${is.version} comes.`;
      throw new StreamError("stream-version", why, true);
    }
    this.#stream = is;
    this.#headBytes = 0;
    this.offset = found.bytes;
    return at + found.bytes - before;
  }

  #beginFrame(stream: StreamHeader): FrameHeader {
    const header = decodeFrameHeader(this.#head.subarray(0, FRAME_HEADER_BYTES), stream);
    if (header.number !== this.frames) {
      const why = `Frame ${header.number} came in place of frame ${this.frames}.`;
      throw new StreamError("frame-order", why, false);
    }
    this.#headBytes = 0;
    this.#pairs = null;
    return header;
  }

  /** Header and runs are known. */
  #beginContent(header: FrameHeader): Uint32Array {
    const runs = this.#head.subarray(0, header.runs * RUN_BYTES);
    if (crc32(runs) !== header.runsCrc) throw corrupt();
    const pairs =
      header.runs === 0
        ? Uint32Array.of(header.first, header.count)
        : new Uint32Array(this.#head.buffer, 0, header.runs * 2).slice();
    const bytes = header.payloadBytes - runs.length;
    const windows = this.#placer.windows(header, pairs);
    this.#isPlaced = windows !== null;
    if (windows === null && this.#buffer.length < bytes) {
      this.#buffer = new Uint8Array(Math.max(bytes, BUFFER_FIRST_BYTES));
    }
    this.#windows = windows ?? [this.#buffer];
    this.#window = 0;
    this.#windowBytes = 0;
    this.#contentBytes = 0;
    this.#crc = 0;
    return pairs;
  }

  #takeContent(chunk: Uint8Array, at: number, header: FrameHeader): number {
    const bytes = header.payloadBytes - header.runs * RUN_BYTES;
    const end = at + Math.min(bytes - this.#contentBytes, chunk.length - at);
    if (end === at) return at;
    this.#crc = crc32(chunk.subarray(at, end), this.#crc);
    this.#contentBytes += end - at;
    let next = at;
    while (next < end) {
      const window = this.#windows[this.#window] as Uint8Array;
      const part = Math.min(window.length - this.#windowBytes, end - next);
      const to = window.subarray(this.#windowBytes, this.#windowBytes + part);
      copyBytes(chunk.subarray(next, next + part), to);
      this.#windowBytes += part;
      next += part;
      if (this.#windowBytes < window.length) continue;
      this.#window += 1;
      this.#windowBytes = 0;
    }
    return end;
  }

  #endFrame(header: FrameHeader, pairs: Uint32Array): Frame {
    if (this.#crc !== header.contentCrc) throw corrupt();
    this.restart();
    this.offset += FRAME_HEADER_BYTES + header.payloadBytes;
    this.frames += 1;
    const content = this.#isPlaced ? null : this.#buffer.subarray(0, this.#contentBytes);
    return { ...header, pairs, content };
  }
}

function corrupt(): StreamError {
  const why = "The page stream is damaged: a frame's checksum is wrong.";
  return new StreamError("stream-corrupt", why, false);
}
