// Owns: dirty bitmaps as JSON: ranges of pages, out and in. HTTP thread.
// A bitmap is little-endian 64-bit words; bit i of word w is page 64 * w + i.
import type { Clock } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import { fromBase64, invalid } from "./content.js";

/** Ranges of a JSON answer at most: about 30 MB of text. */
const RANGES_MAX = 1_000_000;
/** Bytes looked at between two visits of the event loop. */
const SLICE_BYTES = 1024 * 1024;
const PAGES_PER_WORD = 64;
const WORD_BYTES = 8;

/** First page and number of pages. */
export type PageRange = [number, number];

export interface RangesOfBitmap {
  readonly count: number;
  readonly ranges: readonly PageRange[];
}

class Collector {
  readonly ranges: PageRange[] = [];
  count = 0;
  #first = -1;

  /** Sees page by page only where a byte is neither all zeros nor all ones. */
  byte(value: number, firstPage: number): void {
    if (value === 0) {
      if (this.#first >= 0) this.#end(firstPage);
      return;
    }
    if (value === 0xff) {
      if (this.#first < 0) this.#first = firstPage;
      return;
    }
    for (let bit = 0; bit < 8; bit++) {
      const isSet = ((value >>> bit) & 1) === 1;
      if (isSet && this.#first < 0) this.#first = firstPage + bit;
      else if (!isSet && this.#first >= 0) this.#end(firstPage + bit);
    }
  }

  finish(npages: number): void {
    if (this.#first >= 0) this.#end(npages);
  }

  #end(page: number): void {
    if (this.ranges.length === RANGES_MAX) {
      throw new ServiceError(
        "not-acceptable",
        `The bitmap has more than ${RANGES_MAX} ranges: ask for application/octet-stream.`,
      );
    }
    this.ranges.push([this.#first, page - this.#first]);
    this.count += page - this.#first;
    this.#first = -1;
  }
}

/**
 * Runs of set bits, ascending. Gives the event loop a turn now and then, since a bitmap of a large
 * slot takes longer to look through than a request should wait.
 * @throws ServiceError "not-acceptable" when there are too many for JSON
 */
export async function rangesOf(
  bitmap: Uint8Array,
  npages: number,
  clock: Clock,
): Promise<RangesOfBitmap> {
  const out = new Collector();
  const { length } = bitmap;
  for (let begin = 0; begin < length; begin += SLICE_BYTES) {
    if (begin > 0) await clock.yieldToLoop();
    const end = Math.min(length, begin + SLICE_BYTES);
    for (let i = begin; i < end; i++) out.byte(bitmap[i] ?? 0, i * 8);
  }
  out.finish(Math.max(npages, length * 8));
  return { count: out.count, ranges: out.ranges };
}

/** Bytes of a bitmap for so many pages. */
export function bitmapBytes(pages: number): number {
  return Math.ceil(pages / PAGES_PER_WORD) * WORD_BYTES;
}

function setRange(bits: Uint8Array, first: number, count: number): void {
  let page = first;
  const end = first + count;
  for (; page < end && page % 8 !== 0; page++) setBit(bits, page);
  const wholeEnd = end - (end % 8);
  if (wholeEnd > page) {
    bits.fill(0xff, page / 8, wholeEnd / 8);
    page = wholeEnd;
  }
  for (; page < end; page++) setBit(bits, page);
}

function setBit(bits: Uint8Array, page: number): void {
  const at = Math.floor(page / 8);
  bits[at] = (bits[at] ?? 0) | (1 << (page % 8));
}

/**
 * A bitmap from ranges relative to its first page. Only as long as its last set bit needs: zeros
 * behind it are implied, so that a huge numPages that KVM is about to refuse costs no memory.
 * @param numPages ranges may reach to the end of its last word, no further
 * @throws ServiceError "validation" pointing at the range
 */
export function bitmapOfRanges(ranges: readonly (readonly number[])[], numPages: number) {
  const pages = bitmapBytes(numPages) * 8;
  let end = 0;
  for (const [index, [first = 0, count = 0]] of ranges.entries()) {
    if (first + count > pages) {
      throw invalid(`/ranges/${index}`, `reaches beyond numPages, ${numPages}`);
    }
    if (count > 0) end = Math.max(end, first + count);
  }
  const bits = new Uint8Array(bitmapBytes(end));
  for (const [first = 0, count = 0] of ranges) setRange(bits, first, count);
  return bits;
}

/**
 * Checks a bitmap that came as bytes.
 * @throws ServiceError "bitmap-length"
 */
export function checkBitmap(bits: Uint8Array, numPages: number): Uint8Array {
  const expected = bitmapBytes(numPages);
  if (bits.length === expected) return bits;
  throw new ServiceError(
    "bitmap-length",
    `A bitmap for ${numPages} pages has ${expected} bytes; ${bits.length} came.`,
    { expectedBytes: expected },
  );
}

/** A bitmap that came as base64. */
export function bitmapOfBase64(text: string, numPages: number): Uint8Array {
  return checkBitmap(fromBase64(text, "/base64"), numPages);
}
