// Owns: pages of a VM's memory as frames and back. Any thread; the guest may run meanwhile, so what
// is looked at is always the copy.

import type { Frame } from "./file-reader.js";
import type { SnapshotWriter } from "./file-writer.js";
import { broken, FRAME, PAGES_PAYLOAD_MAX } from "./format.js";

/** Pages [from, to) of one memory object. */
export interface PageSource {
  readonly memory: WebAssembly.Memory;
  readonly pageSize: number;
  readonly object: number;
  /** Where the object's first page lies. */
  readonly pa: number;
  readonly from: number;
  readonly to: number;
  /** Bit i is page i of the object; null: all. */
  readonly bitmap: Uint8Array | null;
}

export interface Written {
  readonly stored: number;
  readonly zero: number;
}

/** Where pages of an object go; absent objects are skipped. */
export interface PageTarget {
  readonly memory: WebAssembly.Memory;
  readonly pageSize: number;
  readonly blocks: readonly {
    readonly object: number;
    readonly pa: number;
    readonly pages: number;
  }[];
}

export function isMarked(bitmap: Uint8Array | null, page: number): boolean {
  return bitmap === null || ((bitmap[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0;
}

/** Stretches of marked pages, each at most `most` long. */
function* stretches(source: PageSource, most: number): Generator<{ first: number; count: number }> {
  const { from, to, bitmap } = source;
  for (let page = from; page < to; ) {
    if (!isMarked(bitmap, page)) {
      // Eight at once where there are none.
      page = (page & 7) === 0 && bitmap?.[page >>> 3] === 0 ? page + 8 : page + 1;
      continue;
    }
    let end = page + 1;
    while (end < to && end - page < most && isMarked(bitmap, end)) end += 1;
    yield { first: page, count: end - page };
    page = end;
  }
}

export async function writePages(writer: SnapshotWriter, source: PageSource): Promise<Written> {
  const { pageSize, object } = source;
  const zeros = Buffer.alloc(pageSize);
  const most = Math.max(1, Math.floor(PAGES_PAYLOAD_MAX / pageSize));
  let stored = 0;
  let zero = 0;
  for (const { first, count } of stretches(source, most)) {
    // The buffer is another one after the memory has grown.
    const all = new Uint8Array(source.memory.buffer);
    const pages = Buffer.alloc(count * pageSize);
    const pa = source.pa + first * pageSize;
    pages.set(all.subarray(pa, pa + pages.length));
    const isZero = Array.from({ length: count }, (_, at) =>
      zeros.equals(pages.subarray(at * pageSize, (at + 1) * pageSize)),
    );
    for (let at = 0; at < count; ) {
      let end = at + 1;
      while (end < count && isZero[end] === isZero[at]) end += 1;
      if (isZero[at] === true) {
        await writer.payload(0);
        writer.put(FRAME.zero, object, first + at, end - at, 0);
        zero += end - at;
      } else {
        const bytes = (end - at) * pageSize;
        (await writer.payload(bytes)).set(pages.subarray(at * pageSize, end * pageSize));
        writer.put(FRAME.pages, object, first + at, end - at, bytes);
        stored += end - at;
      }
      at = end;
    }
  }
  return { stored, zero };
}

/** Sequences that are 0 between two others in one frame; more begin another. */
const GAP_MAX = 8;

/** Write sequences of an unbacked object's pages from `first` on; those that are 0 are left out. */
export async function writeSequences(
  writer: SnapshotWriter,
  object: number,
  first: number,
  sequences: Uint32Array,
): Promise<number> {
  let stored = 0;
  const most = PAGES_PAYLOAD_MAX / 4;
  for (let at = 0; at < sequences.length; ) {
    if (sequences[at] === 0) {
      at += 1;
      continue;
    }
    let end = at + 1;
    for (let look = end; look < sequences.length && look - at < most; look++) {
      if (sequences[look] !== 0) end = look + 1;
      else if (look - end >= GAP_MAX) break;
    }
    const payload = await writer.payload((end - at) * 4);
    for (let page = at; page < end; page++) {
      const sequence = sequences[page] ?? 0;
      payload.writeUInt32LE(sequence, (page - at) * 4);
      if (sequence !== 0) stored += 1;
    }
    writer.put(FRAME.sequences, object, first + at, end - at, payload.length);
    at = end;
  }
  return stored;
}

/** Puts a frame's pages into their places. @throws ServiceError "snapshot-broken" */
export function applyPages(frame: Frame, target: PageTarget): void {
  const { pageSize } = target;
  const block = target.blocks.find(({ object }) => object === frame.object);
  if (block === undefined) return;
  if (frame.first + frame.count > block.pages) throw broken("a page lies outside of its object");
  const all = new Uint8Array(target.memory.buffer);
  const pa = block.pa + frame.first * pageSize;
  const bytes = frame.count * pageSize;
  if (pa + bytes > all.length) throw broken("it has content of pages that have no bytes");
  if (frame.type === FRAME.zero) {
    all.fill(0, pa, pa + bytes);
  } else {
    if (frame.bytes !== bytes) throw broken("a frame's pages are not as many as it says");
    all.set(frame.payload, pa);
  }
}

/** @throws ServiceError "snapshot-broken" */
export function sequencesOf(frame: Frame): Uint32Array {
  if (frame.bytes !== frame.count * 4) throw broken("a frame's sequences are not as many as said");
  return Uint32Array.from({ length: frame.count }, (_, at) => frame.payload.readUInt32LE(at * 4));
}
