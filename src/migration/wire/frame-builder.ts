// Owns: a frame as it fills. Data-plane thread, or inline.
//
//   buffer:  … │ header │ runs │ content          the content's place is fixed, so that runs, whose
//            0 └────────┴──────┤ CONTENT_AT       number is known last, need no copy of it
import { crc32 } from "node:zlib";
import {
  BARE_RUNS_MAX,
  CONTENT_BYTES_MAX,
  CONTENT_RUNS_MAX,
  encodeFrameHeader,
  FRAME,
  FRAME_HEADER_BYTES,
  type FrameType,
  isBlockSummed,
  RUN_BYTES,
} from "./frame.js";
import { CONTENT_AT, type FrameBuffer, type FramePool } from "./frame-pool.js";
import { RunList } from "./page-runs.js";

/** A frame with no more content than this is copied out: it would hold a megabyte. */
const SMALL_BYTES = 65_536;

/** A frame but for its number, which the channel gives. */
export interface Built {
  readonly type: FrameType;
  readonly flags: number;
  readonly object: number;
  readonly first: number;
  readonly count: number;
  readonly runs: number;
  /** Room for the header, then the payload. */
  readonly bytes: Uint8Array;
  /** The pool's, to be given back once nobody reads `bytes`. */
  readonly buffer: FrameBuffer | null;
  /** Undefined: nobody has computed it. */
  readonly contentSum?: number;
}

/** A frame without pages. */
export function bareFrame(type: FrameType, number: number): Built {
  const bytes = new Uint8Array(FRAME_HEADER_BYTES);
  return { type, flags: 0, object: 0, first: number, count: 0, runs: 0, bytes, buffer: null };
}

/** Gives a frame its number and its checksums. */
export function seal(frame: Built, number: number): void {
  const { type, flags, object, first, count, runs, bytes } = frame;
  const header = { type, flags, object, first, count, runs, number };
  encodeFrameHeader(bytes, header, frame.contentSum);
}

/** Runs of pages without content. */
export class BareBuilder {
  readonly #type: FrameType;
  readonly #list = new RunList(BARE_RUNS_MAX);
  #object = 0;
  #flags = 0;

  constructor(type: FrameType) {
    this.#type = type;
  }

  /** Forgets what a round that broke off has left. */
  begin(object: number, flags: number): void {
    this.#list.clear();
    this.#object = object;
    this.#flags = flags;
  }

  get pages(): number {
    return this.#list.pages;
  }

  takes(first: number): boolean {
    return this.#list.takes(first);
  }

  add(first: number, count: number): void {
    this.#list.add(first, count);
  }

  /** @returns null when it is empty */
  build(): Built | null {
    const list = this.#list;
    if (list.pages === 0) return null;
    const bytes = new Uint8Array(FRAME_HEADER_BYTES + list.bytes);
    list.write(bytes.subarray(FRAME_HEADER_BYTES, bytes.length));
    const built: Built = {
      type: this.#type,
      flags: this.#flags,
      object: this.#object,
      first: list.first,
      count: list.pages,
      runs: list.bytes / RUN_BYTES,
      bytes,
      buffer: null,
    };
    list.clear();
    return built;
  }
}

/** Runs of pages with content of up to CONTENT_BYTES_MAX. */
export class ContentBuilder {
  readonly #pool: FramePool;
  readonly #list = new RunList(CONTENT_RUNS_MAX);
  readonly #max: number;
  readonly #isBlockSummed: boolean;
  readonly #type: FrameType;
  #buffer: FrameBuffer | null = null;
  #object = 0;
  #flags = 0;
  #used = 0;
  #sum = 0;

  /**
   * @param version of the stream
   * @param perPage bytes beside each page's content, of `pageSize`
   */
  constructor(type: FrameType, version: number, pool: FramePool, pageSize: number, perPage = 0) {
    this.#type = type;
    this.#isBlockSummed = isBlockSummed(version, type);
    this.#pool = pool;
    this.#max = CONTENT_BYTES_MAX + (CONTENT_BYTES_MAX / pageSize) * perPage;
  }

  /** Forgets what a round that broke off has left. */
  begin(object: number, flags: number): void {
    this.#list.clear();
    this.#used = 0;
    this.#sum = 0;
    this.#object = object;
    this.#flags = flags;
  }

  /** Bytes that still fit; none when the next page's run doesn't. */
  room(first: number): number {
    return this.#list.takes(first) ? this.#max - this.#used : 0;
  }

  /** Where content goes next; `taken` tells what of it was used. */
  get space(): Uint8Array {
    return this.#open().bytes.subarray(CONTENT_AT + this.#used);
  }

  /** The same in words. */
  get spaceWords(): Uint32Array {
    return this.#open().words.subarray((CONTENT_AT + this.#used) / 4);
  }

  #open(): FrameBuffer {
    this.#buffer ??= this.#pool.take();
    return this.#buffer;
  }

  /** What was written to `space` is the next content. It is summed while it is cached. */
  taken(bytes: number): void {
    const { at, bytes: buffer } = this.#open();
    const from = CONTENT_AT + this.#used;
    this.#sum = this.#isBlockSummed
      ? this.#pool.kernel.sum(at + from, bytes, this.#sum)
      : crc32(buffer.subarray(from, from + bytes), this.#sum);
    this.#used += bytes;
  }

  /** Pages whose content has been taken. */
  add(first: number, count: number): void {
    this.#list.add(first, count);
  }

  /**
   * @param deflate makes the content smaller, or says null
   * @returns null when it is empty
   */
  build(deflate?: (content: Uint8Array) => Uint8Array | null): Built | null {
    const list = this.#list;
    const buffer = this.#buffer;
    if (list.pages === 0 || buffer === null) return null;
    const { bytes: all } = buffer;
    let end = CONTENT_AT + this.#used;
    let type = this.#type;
    const smaller = deflate?.(all.subarray(CONTENT_AT, end)) ?? null;
    if (smaller !== null) {
      all.set(smaller, CONTENT_AT);
      end = CONTENT_AT + smaller.length;
      type = FRAME.deflate;
    }
    const start = CONTENT_AT - list.bytes - FRAME_HEADER_BYTES;
    if (list.bytes > 0) list.write(all.subarray(start + FRAME_HEADER_BYTES, CONTENT_AT));
    const isSmall = end - CONTENT_AT <= SMALL_BYTES;
    const built: Built = {
      type,
      flags: this.#flags,
      object: this.#object,
      first: list.first,
      count: list.pages,
      runs: list.bytes / RUN_BYTES,
      bytes: isSmall ? all.slice(start, end) : all.subarray(start, end),
      buffer: isSmall ? null : buffer,
      ...(smaller === null && { contentSum: this.#sum }),
    };
    list.clear();
    this.#used = 0;
    this.#sum = 0;
    if (!isSmall) this.#buffer = null;
    return built;
  }
}
