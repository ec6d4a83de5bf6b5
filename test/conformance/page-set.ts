// Owns: the set notation of recordings (a page, or [a, b] for a run) and its bitmaps. Any thread.

/** One element of a set or list of pages: an index, or a run with both ends included. */
export type PageItem = number | readonly [number, number];

/** Guard against a list that a mistyped line would blow up to the whole memory of this process. */
const PAGES_MAX = 2 ** 26;

/**
 * Writes a set or list out as single page indexes, in the order given.
 * @throws Error when an element is neither an index nor a run, or the list is absurdly long
 */
export function expandPages(items: readonly unknown[]): number[] {
  const pages: number[] = [];
  for (const item of items) {
    const [first, last] = runOf(item);
    if (pages.length + (last - first) >= PAGES_MAX) throw new Error("page list is too long");
    for (let page = first; page <= last; page++) pages.push(page);
  }
  return pages;
}

/** The elements as runs, both ends included. */
export function runOf(item: unknown): readonly [number, number] {
  if (isIndex(item)) return [item, item];
  if (Array.isArray(item) && item.length === 2 && isIndex(item[0]) && isIndex(item[1])) {
    if (item[0] <= item[1]) return [item[0], item[1]];
  }
  throw new Error(`not a page or a run of pages: ${JSON.stringify(item)}`);
}

function isIndex(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}

/** The shortest form of an ascending set: neighbouring pages become one run. */
export function compressPages(ascending: Iterable<number>): PageItem[] {
  const items: PageItem[] = [];
  let first = -1;
  let last = -2;
  const close = (): void => {
    if (first >= 0) items.push(first === last ? first : [first, last]);
  };
  for (const page of ascending) {
    if (page !== last + 1) {
      close();
      first = page;
    }
    last = page;
  }
  close();
  return items;
}

/**
 * The set as KVM's bitmap: bit i of byte b is page 8b + i.
 * @param pageCount pages covered; the result is whole 64-bit words. Bits of the last word beyond
 * `pageCount` are kept as the set has them, elements beyond that word are dropped.
 * @returns shape [ceil(pageCount / 64) * 8] bytes
 */
export function bitmapOf(items: readonly unknown[], pageCount: number): Uint8Array {
  const bitmap = new Uint8Array(Math.ceil(pageCount / 64) * 8);
  const bits = bitmap.length * 8;
  for (const item of items) {
    const [first, last] = runOf(item);
    for (let page = first; page <= last && page < bits; page++) {
      const byte = Math.floor(page / 8);
      bitmap[byte] = bitmap[byte]! | (1 << (page % 8));
    }
  }
  return bitmap;
}

/** Set bits of a bitmap, ascending. */
export function pagesOfBitmap(bitmap: Uint8Array): number[] {
  const pages: number[] = [];
  for (let byte = 0; byte < bitmap.length; byte++) {
    const value = bitmap[byte]!;
    if (value === 0) continue;
    for (let bit = 0; bit < 8; bit++) {
      if ((value & (1 << bit)) !== 0) pages.push(byte * 8 + bit);
    }
  }
  return pages;
}
