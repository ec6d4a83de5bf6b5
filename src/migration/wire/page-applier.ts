// Owns: frames into the target's memory. Data-plane thread, or inline. A frame is checked whole
// before its first byte lands, so a refused one changes nothing; only whole pages land as they
// come, and don't count as present until their checksum held.
import { inflateRawSync } from "node:zlib";
import { assert } from "../../base/assert.js";
import { isUnbacked } from "../../base/unbacked-content.js";
import type { MemoryMap } from "../../runtime/index.js";
import type { Sequences } from "../ports.js";
import { decodeDelta } from "./delta.js";
import {
  CONTENT_BYTES_MAX,
  FLAG_IF_ABSENT,
  FRAME,
  type Frame,
  type FrameHeader,
  RUN_BYTES,
} from "./frame.js";
import type { Placer } from "./frame-reader.js";
import type { PageCounts } from "./page-counts.js";
import type { Presence } from "./presence.js";
import { copyBytes, type Landing, Ram, type RamBlock } from "./ram.js";
import { StreamError } from "./stream-error.js";

/** Frames of sequences that are on their way to the VM at a time. */
const WRITES_MAX = 16;

/** A frame's pages after the checks; `pairs` are first page and count. */
interface Place {
  readonly block: RamBlock;
  readonly pairs: readonly (readonly [first: number, count: number])[];
}

export class PageApplier implements Placer {
  readonly #map: MemoryMap;
  readonly #ram: Ram;
  readonly #sequences: Sequences;
  readonly #presence: Presence;
  readonly #writes = new Set<Promise<void>>();
  readonly #told: (object: number, first: number, count: number) => void;
  #failure: unknown = null;
  readonly counts: PageCounts = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0 };

  /** @param arrived told of pages that are here now */
  constructor(
    map: MemoryMap,
    sequences: Sequences,
    presence: Presence,
    arrived: (object: number, first: number, count: number) => void = () => {},
  ) {
    this.#told = arrived;
    this.#map = map;
    this.#ram = new Ram(map);
    this.#sequences = sequences;
    this.#presence = presence;
  }

  /**
   * Applies a frame whose checksum held.
   * @returns a promise when the next frame has to wait
   * @throws StreamError
   */
  apply(frame: Frame): Promise<void> | null {
    if (this.#failure !== null) throw this.#failure;
    switch (frame.type) {
      case FRAME.pages:
        this.#applyPages(frame, frame.content);
        return null;
      case FRAME.deflate:
        this.#applyPages(frame, inflated(contentOf(frame)));
        return null;
      case FRAME.delta:
        this.#applyDelta(frame);
        return null;
      case FRAME.zero:
        this.#applyZero(frame);
        return null;
      case FRAME.untouched:
        this.#applyUntouched(frame);
        return null;
      case FRAME.unbacked:
        return this.#applyUnbacked(frame);
      case FRAME.discard:
        this.#applyDiscard(frame);
        return null;
      default:
        // A barrier or the end: everything before it is where it belongs.
        return this.#writes.size > 0 ? this.#written() : null;
    }
  }

  async #written(): Promise<void> {
    await Promise.all(this.#writes);
    if (this.#failure !== null) throw this.#failure;
  }

  #place(frame: FrameHeader, pairs: Uint32Array, backing: RamBlock["backing"] | null): Place {
    const block = this.#map.blocks.find(({ object }) => object === frame.object);
    if (block === undefined || block.backing === "device") {
      throw misplaced(`Memory object ${frame.object} isn't here.`);
    }
    if (backing !== null && block.backing !== backing) {
      throw misplaced(`Memory object ${frame.object} is ${block.backing} here, not ${backing}.`);
    }
    const pages = block.bytes / this.#map.pageSize;
    const list: [number, number][] = [];
    let count = 0;
    for (let i = 0; i < pairs.length; i += 2) {
      const pair: [number, number] = [pairs[i] as number, pairs[i + 1] as number];
      if (pair[1] === 0 || pair[0] + pair[1] > pages)
        throw malformed("names pages that aren't there");
      count += pair[1];
      list.push(pair);
    }
    if (count !== frame.count) throw malformed("counts its pages wrong");
    if (block.backing === "ram" && !this.#ram.holds(block)) {
      throw misplaced(`Memory object ${frame.object} has no bytes yet.`);
    }
    return { block, pairs: list };
  }

  /** Whole pages land as they come; meanwhile they count as absent. */
  landings(header: FrameHeader, pairs: Uint32Array): readonly Landing[] | null {
    if (header.type !== FRAME.pages || header.flags !== 0) return null;
    const place = this.#place(header, pairs, "ram");
    const { pageSize } = this.#map;
    const content = header.payloadBytes - header.runs * RUN_BYTES;
    if (content !== header.count * pageSize) throw malformed("has another length than its pages");
    return place.pairs.map(([first, count]) => {
      this.counts.pagesDuplicate += this.#presence.clear(place.block.object, first, count);
      return this.#ram.landing(place.block.pa + first * pageSize, count * pageSize);
    });
  }

  /** @param content null: it is in its place */
  #applyPages(frame: Frame, content: Uint8Array | null): void {
    const { block, pairs } = this.#place(frame, frame.pairs, "ram");
    const { pageSize } = this.#map;
    if (content !== null && content.length !== frame.count * pageSize) {
      throw malformed("has another length than its pages");
    }
    const ifAbsent = (frame.flags & FLAG_IF_ABSENT) !== 0;
    let from = 0;
    for (const [first, count] of pairs) {
      for (let page = first; content !== null && page < first + count; page++, from += pageSize) {
        if (ifAbsent && this.#presence.has(block.object, page)) continue;
        const to = this.#ram.bytes(block.pa + page * pageSize, pageSize);
        copyBytes(content.subarray(from, from + pageSize), to);
      }
      this.#arrived(block.object, first, count);
    }
    this.counts.pagesSent += frame.count;
  }

  #applyZero(frame: Frame): void {
    const { block, pairs } = this.#place(frame, frame.pairs, "ram");
    const { pageSize } = this.#map;
    if (contentOf(frame).length > 0) throw malformed("has content but needs none");
    const ifAbsent = (frame.flags & FLAG_IF_ABSENT) !== 0;
    for (const [first, count] of pairs) {
      const end = first + count;
      for (let page = first; page < end; page += 1) {
        // Storing zeros over zeros would make the machine find memory for them.
        page += this.#ram.zeroPages(block.pa + page * pageSize, end - page);
        if (page === end || (ifAbsent && this.#presence.has(block.object, page))) continue;
        this.#ram.bytes(block.pa + page * pageSize, pageSize).fill(0);
      }
      this.#arrived(block.object, first, count);
    }
    this.counts.pagesZero += frame.count;
  }

  #applyDelta(frame: Frame): void {
    const { block, pairs } = this.#place(frame, frame.pairs, "ram");
    const content = contentOf(frame);
    const { pageSize } = this.#map;
    if (content.length % 4 !== 0) throw malformed("has another length than its pages");
    const body = new Uint32Array(content.buffer, content.byteOffset, content.length / 4);
    const pageWords = pageSize / 4;
    for (const isCheck of [true, false]) {
      let at = 0;
      for (const [first, count] of pairs) {
        for (let page = first; page < first + count; page += 1) {
          if (isCheck && !this.#presence.has(block.object, page)) {
            throw malformed("changes a page that isn't here");
          }
          const words = isCheck ? null : this.#ram.words(block.pa + page * pageSize, pageSize);
          at = decodeDelta(body, at, pageWords, words);
        }
      }
      if (at !== body.length) throw malformed("has another length than its pages");
    }
    this.counts.pagesSent += frame.count;
    this.counts.pagesDuplicate += frame.count;
  }

  #applyUntouched(frame: Frame): void {
    const { block, pairs } = this.#place(frame, frame.pairs, "unbacked");
    if (contentOf(frame).length > 0) throw malformed("has content but needs none");
    for (const [first, count] of pairs) this.#arrived(block.object, first, count);
    this.counts.pagesZero += frame.count;
  }

  #applyUnbacked(frame: Frame): Promise<void> | null {
    const { block, pairs } = this.#place(frame, frame.pairs, "unbacked");
    const content = contentOf(frame);
    const { pageSize, unbackedSeed } = this.#map;
    const stride = pageSize / 4 + 1;
    if (content.length !== frame.count * stride * 4) {
      throw malformed("has another length than its pages");
    }
    const body = new Uint32Array(content.buffer, content.byteOffset, content.length / 4);
    const pages = new Uint32Array(frame.count);
    const numbers = new Uint32Array(frame.count);
    const ifAbsent = (frame.flags & FLAG_IF_ABSENT) !== 0;
    let at = 0;
    let taken = 0;
    for (const [first, count] of pairs) {
      for (let page = first; page < first + count; page += 1, at += stride) {
        const sequence = body[at] as number;
        const words = body.subarray(at + 1, at + stride);
        if (!isUnbacked(words, unbackedSeed, block.contentPage + page, sequence)) {
          const why = `Page ${page} of memory object ${block.object} isn't what it has to be.`;
          throw new StreamError("content-mismatch", why, true);
        }
        if (ifAbsent && this.#presence.has(block.object, page)) continue;
        pages[taken] = page;
        numbers[taken] = sequence;
        taken += 1;
      }
    }
    this.counts.pagesSent += frame.count;
    const written = this.#sequences.write(
      block.object,
      pages.subarray(0, taken),
      numbers.subarray(0, taken),
    );
    return this.#follow(
      written.then(() => {
        for (const [first, count] of pairs) this.#arrived(block.object, first, count);
      }),
    );
  }

  /** Sequences are on their way; only so many at a time. */
  #follow(write: Promise<void>): Promise<void> | null {
    const done = write.then(
      () => void this.#writes.delete(done),
      (error: unknown) => {
        this.#writes.delete(done);
        this.#failure ??= error;
      },
    );
    this.#writes.add(done);
    return this.#writes.size < WRITES_MAX ? null : Promise.race(this.#writes);
  }

  #applyDiscard(frame: Frame): void {
    const { block, pairs } = this.#place(frame, frame.pairs, null);
    for (const [first, count] of pairs) this.#presence.clear(block.object, first, count);
  }

  #arrived(object: number, first: number, count: number): void {
    this.counts.pagesDuplicate += this.#presence.set(object, first, count);
    this.#told(object, first, count);
  }
}

function contentOf(frame: Frame): Uint8Array {
  assert(frame.content !== null, "only whole pages are placed as they come");
  return frame.content;
}

function inflated(content: Uint8Array): Uint8Array {
  try {
    return inflateRawSync(content, { maxOutputLength: CONTENT_BYTES_MAX });
  } catch {
    throw malformed("can't be inflated");
  }
}

function malformed(what: string): StreamError {
  return new StreamError("frame-malformed", `A frame ${what}.`, true);
}

function misplaced(why: string): StreamError {
  return new StreamError("frame-object", why, true);
}
