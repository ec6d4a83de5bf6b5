// Owns: a page as what changed since it was sent last, and the source's memory of what it sent.
// The target needs none: it has the page. Any thread.
//
//  page:   length u32, in words │ change … │ change
//  change: words that stay u16 (low half), words that follow u16 (high half) │ those words
import { StreamError } from "./stream-error.js";

/** Beyond this share of a page its changes aren't worth it. */
const WORTH = 0.75;

/**
 * Writes the changes that make `now` of `before`.
 * @param out at least a page long from `at` on, in words
 * @returns words written after the length; -1: too many, send the page
 */
export function encodeDelta(
  before: Uint32Array,
  now: Uint32Array,
  out: Uint32Array,
  at: number,
): number {
  const words = now.length;
  const limit = at + 1 + Math.floor(words * WORTH);
  let to = at + 1;
  let i = 0;
  while (i < words) {
    const from = i;
    while (i < words && before[i] === now[i]) i++;
    if (i === words) break;
    const start = i;
    // A single equal word inside a change costs as much as a new change would.
    while (i < words && (before[i] !== now[i] || (i + 1 < words && before[i + 1] !== now[i + 1]))) {
      i++;
    }
    if (to + 1 + (i - start) > limit) return -1;
    out[to] = (start - from) | ((i - start) << 16);
    out.set(now.subarray(start, i), to + 1);
    to += 1 + (i - start);
  }
  out[at] = to - at - 1;
  return to - at - 1;
}

/**
 * Checks the changes at `at` for a page of `pageWords`, and writes them unless `page` is null.
 * @returns where the next page's changes begin
 * @throws StreamError "frame-malformed"
 */
export function decodeDelta(
  body: Uint32Array,
  at: number,
  pageWords: number,
  page: Uint32Array | null,
): number {
  const length = body[at];
  if (length === undefined || at + 1 + length > body.length) throw malformed();
  const end = at + 1 + length;
  let from = at + 1;
  let to = 0;
  while (from < end) {
    const op = body[from] as number;
    const count = op >>> 16;
    to += op & 0xffff;
    if (to + count > pageWords || from + 1 + count > end) throw malformed();
    page?.set(body.subarray(from + 1, from + 1 + count), to);
    to += count;
    from += 1 + count;
  }
  return end;
}

function malformed(): StreamError {
  return new StreamError("frame-malformed", "Changes of a page leave its bounds.", true);
}

/** Pages as the target has them; the oldest gives way. */
export class SentPages {
  readonly #bytesMax: number;
  readonly #pages = new Map<number, Uint32Array>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(object: number, page: number): Uint32Array | undefined {
    return this.#pages.get(keyOf(object, page));
  }

  put(object: number, page: number, words: Uint32Array): void {
    const key = keyOf(object, page);
    const known = this.#pages.get(key);
    if (known !== undefined) {
      known.set(words);
      return;
    }
    let copy: Uint32Array | null = null;
    if (this.#bytes + words.byteLength > this.#bytesMax) {
      const oldest = this.#pages.entries().next().value;
      if (oldest === undefined) return;
      this.#pages.delete(oldest[0]);
      copy = oldest[1];
    } else {
      this.#bytes += words.byteLength;
    }
    copy ??= new Uint32Array(words.length);
    copy.set(words);
    this.#pages.set(key, copy);
  }

  forget(object: number, page: number): void {
    const key = keyOf(object, page);
    const known = this.#pages.get(key);
    if (known === undefined) return;
    this.#pages.delete(key);
    this.#bytes -= known.byteLength;
  }

  clear(): void {
    this.#pages.clear();
    this.#bytes = 0;
  }
}

function keyOf(object: number, page: number): number {
  return object * 2 ** 32 + page;
}
