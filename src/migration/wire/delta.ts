// Owns: a page as what changed since it was sent last. Any thread.
//
//  page:   length u32, in words │ change … │ change
//  change: words that stay u16 (low half), words that follow u16 (high half) │ those words
import { StreamError } from "./stream-error.js";

/** Beyond this share of a page its changes aren't worth it. */
const WORTH = 0.75;

/** The first word from `from` on that differs; the length where none does. */
function nextChange(before: Uint32Array, now: Uint32Array, from: number): number {
  const words = now.length;
  let i = from;
  // Most of a page hasn't changed: eight words make one decision.
  for (; i + 8 <= words; i += 8) {
    const differs =
      ((before[i] as number) ^ (now[i] as number)) |
      ((before[i + 1] as number) ^ (now[i + 1] as number)) |
      ((before[i + 2] as number) ^ (now[i + 2] as number)) |
      ((before[i + 3] as number) ^ (now[i + 3] as number)) |
      ((before[i + 4] as number) ^ (now[i + 4] as number)) |
      ((before[i + 5] as number) ^ (now[i + 5] as number)) |
      ((before[i + 6] as number) ^ (now[i + 6] as number)) |
      ((before[i + 7] as number) ^ (now[i + 7] as number));
    if (differs !== 0) break;
  }
  while (i < words && before[i] === now[i]) i++;
  return i;
}

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
    i = nextChange(before, now, i);
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
