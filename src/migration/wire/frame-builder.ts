// Owns: a frame as it fills, and the buffers of frames. Data-plane thread, or inline.
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
  RUN_BYTES,
} from "./frame.js";
import { RunList } from "./page-runs.js";

const CONTENT_AT = FRAME_HEADER_BYTES + CONTENT_RUNS_MAX * RUN_BYTES;
const BUFFER_BYTES = CONTENT_AT + CONTENT_BYTES_MAX + CONTENT_RUNS_MAX * 4;

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
  readonly buffer: Uint8Array | null;
  /** Undefined: nobody has computed it. */
  readonly contentCrc?: number;
}

/** Buffers of one megabyte are mapped and unmapped by every allocation; these are kept. */
export class FramePool {
  readonly #free: Uint8Array[] = [];
  readonly #keep: number;

  constructor(keep: number) {
    this.#keep = keep;
  }

  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(BUFFER_BYTES);
  }

  give(buffer: Uint8Array): void {
    if (this.#free.length < this.#keep) this.#free.push(buffer);
  }
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
  encodeFrameHeader(bytes, header, frame.contentCrc);
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
  #type: FrameType;
  #buffer: Uint8Array | null = null;
  #words: Uint32Array = new Uint32Array(0);
  #object = 0;
  #flags = 0;
  #used = 0;
  #crc = 0;

  /** @param perPage bytes beside each page's content, of `pageSize` */
  constructor(type: FrameType, pool: FramePool, pageSize: number, perPage = 0) {
    this.#type = type;
    this.#pool = pool;
    this.#max = CONTENT_BYTES_MAX + (CONTENT_BYTES_MAX / pageSize) * perPage;
  }

  /** Forgets what a round that broke off has left. */
  begin(object: number, flags: number): void {
    this.#list.clear();
    this.#used = 0;
    this.#crc = 0;
    this.#object = object;
    this.#flags = flags;
  }

  /** Bytes that still fit; none when the next page's run doesn't. */
  room(first: number): number {
    return this.#list.takes(first) ? this.#max - this.#used : 0;
  }

  /** Where content goes next; `taken` tells what of it was used. */
  get space(): Uint8Array {
    return this.#open().subarray(CONTENT_AT + this.#used);
  }

  /** The same in words. */
  get spaceWords(): Uint32Array {
    this.#open();
    return this.#words.subarray((CONTENT_AT + this.#used) / 4);
  }

  #open(): Uint8Array {
    if (this.#buffer === null) {
      this.#buffer = this.#pool.take();
      this.#words = new Uint32Array(this.#buffer.buffer);
    }
    return this.#buffer;
  }

  /** What was written to `space` is the next content. Its checksum is taken while it is cached. */
  taken(bytes: number): void {
    const from = CONTENT_AT + this.#used;
    this.#crc = crc32(this.#open().subarray(from, from + bytes), this.#crc);
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
    let end = CONTENT_AT + this.#used;
    let type = this.#type;
    const smaller = deflate?.(buffer.subarray(CONTENT_AT, end)) ?? null;
    if (smaller !== null) {
      buffer.set(smaller, CONTENT_AT);
      end = CONTENT_AT + smaller.length;
      type = FRAME.deflate;
    }
    const start = CONTENT_AT - list.bytes - FRAME_HEADER_BYTES;
    if (list.bytes > 0) list.write(buffer.subarray(start + FRAME_HEADER_BYTES, CONTENT_AT));
    const built: Built = {
      type,
      flags: this.#flags,
      object: this.#object,
      first: list.first,
      count: list.pages,
      runs: list.bytes / RUN_BYTES,
      bytes: buffer.subarray(start, end),
      buffer,
      ...(smaller === null && { contentCrc: this.#crc }),
    };
    list.clear();
    this.#used = 0;
    this.#crc = 0;
    this.#buffer = null;
    return built;
  }
}
