// Owns: runs of pages: of set bits in a bitmap, and as a frame carries them. Any thread.
import { popcount32 } from "../../base/bits.js";
import { RUN_BYTES } from "./frame.js";

/** A run of set bits, or the lack of one: then `count` is 0. */
export interface Run {
  first: number;
  count: number;
}

function bit(bitmap: Uint8Array, page: number): boolean {
  return (((bitmap[page >>> 3] as number) >>> (page & 7)) & 1) === 1;
}

/**
 * Finds the next run within [from, end).
 * @param bitmap null: every page
 */
export function nextRun(bitmap: Uint8Array | null, from: number, end: number, out: Run): boolean {
  out.first = from;
  out.count = Math.max(0, end - from);
  if (bitmap === null) return out.count > 0;
  let page = from;
  while (page < end && !bit(bitmap, page)) {
    // Whole bytes of zeros are the rule in a late round.
    page = (page & 7) === 0 && bitmap[page >>> 3] === 0 ? page + 8 : page + 1;
  }
  out.first = Math.min(page, end);
  while (page < end && bit(bitmap, page)) page += 1;
  out.count = Math.max(0, Math.min(page, end) - out.first);
  return out.count > 0;
}

/** Whether any bit of [from, end) is set. */
export function anyIn(bitmap: Uint8Array | null, from: number, end: number): boolean {
  return nextRun(bitmap, from, end, { first: 0, count: 0 });
}

/** Sets a run's bits. @returns how many were set before */
export function setRun(bitmap: Uint8Array, first: number, count: number): number {
  const end = first + count;
  let before = 0;
  let page = first;
  while (page < end) {
    const next = Math.min(end, (page | 7) + 1);
    const mask = ((1 << (next - page)) - 1) << (page & 7);
    const byte = bitmap[page >>> 3] as number;
    if ((byte & mask) !== 0) before += popcount32(byte & mask);
    bitmap[page >>> 3] = byte | mask;
    page = next;
  }
  return before;
}

/** Runs of a frame, growing: neighbours become one. */
export class RunList {
  readonly #words: Uint32Array;
  readonly #max: number;
  runs = 0;
  pages = 0;

  constructor(max: number) {
    this.#max = max;
    this.#words = new Uint32Array(max * 2);
  }

  get first(): number {
    return this.#words[0] ?? 0;
  }

  /** Bytes in a frame; a single run stands in its header. */
  get bytes(): number {
    return this.runs > 1 ? this.runs * RUN_BYTES : 0;
  }

  #isNext(first: number): boolean {
    const at = this.runs * 2 - 2;
    const next = (this.#words[at] as number) + (this.#words[at + 1] as number);
    return next === first;
  }

  /** Whether `add` of a page has room. */
  takes(first: number): boolean {
    return this.runs < this.#max || this.#isNext(first);
  }

  add(first: number, count: number): void {
    this.pages += count;
    if (this.runs > 0 && this.#isNext(first)) {
      (this.#words[this.runs * 2 - 1] as number) += count;
      return;
    }
    this.#words[this.runs * 2] = first;
    this.#words[this.runs * 2 + 1] = count;
    this.runs += 1;
  }

  /** Writes the pairs to `out`, of `bytes` bytes. */
  write(out: Uint8Array): void {
    out.set(new Uint8Array(this.#words.buffer, 0, this.bytes));
  }

  clear(): void {
    this.runs = 0;
    this.pages = 0;
  }
}
