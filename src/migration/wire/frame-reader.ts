// Owns: frames out of pieces of any size. Data-plane thread, or inline.
import { crc32 } from "node:zlib";
import { WASM_PAGE_BYTES } from "../../base/page.js";
import {
  BARE_RUNS_MAX,
  CONTENT_BYTES_MAX,
  CONTENT_RUNS_MAX,
  decodeFrameHeader,
  decodeStreamHeader,
  FRAME_HEADER_BYTES,
  type Frame,
  type FrameHeader,
  isBlockSummed,
  RUN_BYTES,
  type StreamHeader,
} from "./frame.js";
import { BLOCK_BYTES, pageKernel } from "./page-kernel.js";
import { copyBytes, type Landing } from "./ram.js";
import { StreamError } from "./stream-error.js";

/** A stream header is shorter than this, whatever the session's id. */
const STREAM_HEADER_MAX = 256;
const HEAD_BYTES_MAX = Math.max(STREAM_HEADER_MAX, BARE_RUNS_MAX * RUN_BYTES);
/** Any frame's content is shorter. */
const CONTENT_MAX = CONTENT_BYTES_MAX + CONTENT_RUNS_MAX * (RUN_BYTES + 4);

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
   * @returns where the content lands piece after piece; null: it has to be looked at whole
   * @throws StreamError
   */
  landings(header: FrameHeader, pairs: Uint32Array): readonly Landing[] | null;
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
  /** Where the content lands: a buffer of our own, or its places. */
  #landings: readonly Landing[] = [];
  #landing = 0;
  #landed = 0;
  /** Bytes of the present landing that are summed. */
  #summed = 0;
  #isPlaced = false;
  #isBlockSummed = false;
  #buffer: Landing | null = null;
  #contentBytes = 0;
  #sum = 0;
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
    const landings = this.#placer.landings(header, pairs);
    this.#isPlaced = landings !== null;
    this.#isBlockSummed = isBlockSummed(this.#expected.version, header.type);
    const bytes = header.payloadBytes - runs.length;
    if (this.#isBlockSummed && bytes % BLOCK_BYTES !== 0) throw malformed();
    this.#buffer ??= landings === null && bytes > 0 ? ownLanding() : null;
    this.#landings = landings ?? (this.#buffer === null ? [] : [this.#buffer]);
    this.#landing = 0;
    this.#landed = 0;
    this.#summed = 0;
    this.#contentBytes = 0;
    this.#sum = 0;
    return pairs;
  }

  #takeContent(chunk: Uint8Array, at: number, header: FrameHeader): number {
    const bytes = header.payloadBytes - header.runs * RUN_BYTES;
    const end = at + Math.min(bytes - this.#contentBytes, chunk.length - at);
    if (end === at) return at;
    if (!this.#isBlockSummed) this.#sum = crc32(chunk.subarray(at, end), this.#sum);
    this.#contentBytes += end - at;
    let next = at;
    while (next < end) {
      const landing = this.#landings[this.#landing] as Landing;
      const part = Math.min(landing.bytes.length - this.#landed, end - next);
      const to = landing.bytes.subarray(this.#landed, this.#landed + part);
      copyBytes(chunk.subarray(next, next + part), to);
      this.#landed += part;
      next += part;
      if (this.#isBlockSummed) this.#sumBlocks(landing);
      if (this.#landed < landing.bytes.length) continue;
      this.#landing += 1;
      this.#landed = 0;
      this.#summed = 0;
    }
    return end;
  }

  /** Sums where it has landed what is a whole block, while it is cached. */
  #sumBlocks({ at, kernel }: Landing): void {
    const more = this.#landed - this.#summed;
    const whole = more - (more % BLOCK_BYTES);
    if (whole === 0) return;
    this.#sum = kernel.sum(at + this.#summed, whole, this.#sum);
    this.#summed += whole;
  }

  #endFrame(header: FrameHeader, pairs: Uint32Array): Frame {
    if (this.#sum !== header.contentSum) throw corrupt();
    this.restart();
    this.offset += FRAME_HEADER_BYTES + header.payloadBytes;
    this.frames += 1;
    const content = this.#buffer?.bytes.subarray(0, this.#contentBytes) ?? NOTHING;
    return { ...header, pairs, content: this.#isPlaced ? null : content };
  }
}

const NOTHING = new Uint8Array(0);

/** Room for any frame's content. */
function ownLanding(): Landing {
  const pages = Math.ceil(CONTENT_MAX / WASM_PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  return { bytes: new Uint8Array(memory.buffer), at: 0, kernel: pageKernel(memory) };
}

function malformed(): StreamError {
  return new StreamError("frame-malformed", "A frame's content isn't whole pages.", true);
}

function corrupt(): StreamError {
  const why = "The page stream is damaged: a frame's checksum is wrong.";
  return new StreamError("stream-corrupt", why, false);
}
