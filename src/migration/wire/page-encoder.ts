// Owns: pages into frames, for one channel of the source. Data-plane thread, or inline.
//
// A guest may store while a page is copied: then that page is dirty again, and a later round sends
// it. Checksums and changes are those of the copy.
import { constants, deflateRawSync } from "node:zlib";
import { fillUnbackedWords } from "../../base/unbacked-content.js";
import type { DirtyPages, MemoryMap } from "../../runtime/index.js";
import type { Sequences } from "../ports.js";
import type { Compression } from "../types.js";
import { encodeDelta } from "./delta.js";
import { FRAME } from "./frame.js";
import { BareBuilder, type Built, ContentBuilder } from "./frame-builder.js";
import type { FramePool } from "./frame-pool.js";
import type { PageCounts } from "./page-counts.js";
import { anyIn, nextRun, type Run, setRun } from "./page-runs.js";
import { Ram, type RamBlock } from "./ram.js";
import type { RoundEnd } from "./round-end.js";
import type { SentPages } from "./sent-pages.js";

/** Pages that stay with one channel, so that changes follow what they change. */
const CHUNK_PAGES = 1024;
/** The same of unbacked memory, and how many sequences are asked for at once. */
const SEQUENCES_AT_ONCE = 65_536;
/** Zero pages that are told of at once: the target looks at its own while we look for more. */
const ZERO_PAGES_MAX = 8192;
/** Copied at once: what a checksum then finds in the cache. */
const COPY_BYTES = 65_536;
/** Deflated content that is hardly smaller isn't worth the target's time. */
const DEFLATE_WORTH = 0.9;

/**
 * The first round: there is nothing yet that changes could refer to. A later one. Post-copy: no
 * page goes again.
 */
type Occasion = "first" | "later" | "push";

export interface EncoderParts {
  /** Of the stream. */
  readonly version: number;
  readonly map: MemoryMap;
  readonly sequences: Sequences;
  readonly compression: Compression;
  /** Which of how many. */
  readonly channel: number;
  readonly channels: number;
  readonly pool: FramePool;
  readonly sentPages: SentPages;
  /** Of each object, what was sent in this session; all channels share it. */
  readonly sentBefore: ReadonlyMap<number, Uint8Array>;
}

export class PageEncoder {
  readonly #parts: EncoderParts;
  readonly #ram: Ram;
  readonly #pages: ContentBuilder;
  readonly #delta: ContentBuilder;
  readonly #unbacked: ContentBuilder;
  readonly #zero = new BareBuilder(FRAME.zero);
  readonly #untouched = new BareBuilder(FRAME.untouched);
  readonly #run: Run = { first: 0, count: 0 };
  /** The page that goes next into a frame. */
  #page = 0;
  #occasion: Occasion = "first";

  constructor(parts: EncoderParts) {
    const { map, version, pool } = parts;
    this.#parts = parts;
    this.#ram = new Ram(map);
    this.#pages = new ContentBuilder(FRAME.pages, version, pool, map.pageSize);
    this.#delta = new ContentBuilder(FRAME.delta, version, pool, map.pageSize);
    this.#unbacked = new ContentBuilder(FRAME.unbacked, version, pool, map.pageSize, 4);
  }

  /**
   * Frames of this channel's share of the pages, as they are now.
   * @param pages null: every page of every block
   * @param counts added to
   * @param round told of what it leaves once it is over
   */
  async *frames(
    pages: DirtyPages | null,
    flags: number,
    counts: PageCounts,
    round: RoundEnd,
  ): AsyncGenerator<Built> {
    for (const block of this.#parts.map.blocks) {
      if (block.backing === "device") continue;
      const dirty = pages?.blocks.find(({ object }) => object === block.object);
      if (pages !== null && dirty === undefined) continue;
      const bitmap = dirty?.bitmap ?? null;
      this.#begin(block, flags);
      // Not by `yield*`: that waits for every frame once more.
      if (block.backing === "ram") {
        for (const built of this.#ramFrames(block, bitmap, counts, round)) yield built;
      } else yield* this.#unbackedFrames(block, bitmap, counts, round);
    }
  }

  /** Frames of some runs of one block, whatever channel they belong to. */
  async *runFrames(
    block: RamBlock,
    runs: readonly Run[],
    flags: number,
    counts: PageCounts,
  ): AsyncGenerator<Built> {
    const { sequences } = this.#parts;
    this.#begin(block, flags);
    for (const { first, count } of runs) {
      if (block.backing === "ram") {
        yield* this.#ramRun(block, first, first + count, "push", counts);
        continue;
      }
      const numbers = await sequences.read(block.object, first, count);
      yield* this.#unbackedRun(block, first, numbers, counts);
    }
    yield* this.#flush();
  }

  #begin(block: RamBlock, flags: number): void {
    const builders = [this.#pages, this.#delta, this.#unbacked, this.#zero, this.#untouched];
    for (const builder of builders) builder.begin(block.object, flags);
  }

  #pagesOf(block: RamBlock): number {
    return block.bytes / this.#parts.map.pageSize;
  }

  *#flush(): Generator<Built> {
    // Each is built when it is wanted: a frame that nobody takes would keep its buffer.
    yield* some(this.#buildPages());
    yield* some(this.#delta.build());
    yield* some(this.#unbacked.build());
    yield* some(this.#zero.build());
    yield* some(this.#untouched.build());
  }

  *#ramFrames(
    block: RamBlock,
    bitmap: Uint8Array | null,
    counts: PageCounts,
    round: RoundEnd,
  ): Generator<Built> {
    const { channel, channels } = this.#parts;
    const pages = this.#pagesOf(block);
    const occasion = bitmap === null ? "first" : "later";
    const step = CHUNK_PAGES * channels;
    for (let chunk = channel * CHUNK_PAGES; chunk < pages; chunk += step) {
      const end = Math.min(chunk + CHUNK_PAGES, pages);
      let page = chunk;
      while (nextRun(bitmap, page, end, this.#run)) {
        const { first, count } = this.#run;
        page = first + count;
        if (round.isOver) yield* this.#ramLeft(block, first, page, occasion, counts, round);
        else yield* this.#ramRun(block, first, page, occasion, counts);
      }
    }
    yield* this.#flush();
  }

  *#ramRun(
    block: RamBlock,
    first: number,
    end: number,
    occasion: Occasion,
    counts: PageCounts,
  ): Generator<Built> {
    this.#ram.refresh();
    this.#count(block.object, first, end - first, counts);
    this.#occasion = occasion;
    this.#page = first;
    while (this.#page < end) {
      const built = this.#take(block, end, counts);
      if (built !== null) yield built;
    }
  }

  /**
   * What a round that is over leaves. Of the first one that are no pages of zeros: they cost
   * nothing now, and would stand in the place of others that the guest may dirty again.
   */
  *#ramLeft(
    block: RamBlock,
    first: number,
    end: number,
    occasion: Occasion,
    counts: PageCounts,
    round: RoundEnd,
  ): Generator<Built> {
    const { object, pa } = block;
    if (occasion !== "first" || round.isCutShort) {
      round.leaves(object, first, end - first);
      return;
    }
    const { pageSize } = this.#parts.map;
    this.#ram.refresh();
    this.#page = first;
    while (this.#page < end) {
      const from = this.#page;
      const built = this.#zeroPages(block, end, counts);
      this.#count(object, from, this.#page - from, counts);
      if (built !== null) {
        yield built;
        continue;
      }
      const left = this.#ram.dataPages(pa + this.#page * pageSize, end - this.#page);
      round.leaves(object, this.#page, left);
      this.#page += left;
    }
  }

  /** Takes some of the pages from `#page` to `end`. @returns a frame that is full */
  #take(block: RamBlock, end: number, counts: PageCounts): Built | null {
    const zeros = this.#zeroPages(block, end, counts);
    if (zeros !== null || this.#page === end) return zeros;
    const isDelta = this.#parts.compression === "delta";
    if (isDelta && this.#occasion === "later") return this.#changedPage(block, counts);
    return this.#wholePages(block, end, isDelta && this.#occasion === "first", counts);
  }

  /** Takes the zero pages that come next, if there are any. @returns a frame that is full */
  #zeroPages(block: RamBlock, end: number, counts: PageCounts): Built | null {
    const { pageSize } = this.#parts.map;
    const page = this.#page;
    const count = this.#ram.zeroPages(block.pa + page * pageSize, end - page);
    if (count === 0) return null;
    if (!this.#zero.takes(page) || this.#zero.pages >= ZERO_PAGES_MAX) return this.#zero.build();
    this.#zero.add(page, count);
    counts.pagesZero += count;
    if (this.#parts.compression === "delta") {
      for (let i = page; i < page + count; i++) this.#parts.sentPages.forget(block.object, i);
    }
    this.#page += count;
    return null;
  }

  /**
   * Takes pages that come next, as many as are no zeros and fit.
   * @returns a frame that is full
   */
  #wholePages(block: RamBlock, end: number, remembers: boolean, counts: PageCounts): Built | null {
    const { pageSize } = this.#parts.map;
    const page = this.#page;
    const fit = Math.floor(this.#pages.room(page) / pageSize);
    if (fit === 0) return this.#buildPages();
    const from = block.pa + page * pageSize;
    // A page that was zero a moment ago, and isn't now, comes with the next look.
    const count = this.#ram.dataPages(from, Math.min(end - page, fit));
    const bytes = count * pageSize;
    for (let at = 0; at < bytes; at += COPY_BYTES) {
      const part = Math.min(COPY_BYTES, bytes - at);
      const copy = this.#pages.space.subarray(0, part);
      this.#ram.copyOut(from + at, copy);
      if (remembers) this.#remember(block.object, page + at / pageSize, copy);
      this.#pages.taken(part);
    }
    if (count > 0) this.#pages.add(page, count);
    counts.pagesSent += count;
    this.#page += count;
    return null;
  }

  /** @param copy of pages from `first` on */
  #remember(object: number, first: number, copy: Uint8Array): void {
    const { map, sentPages } = this.#parts;
    const words = map.pageSize / 4;
    const all = new Uint32Array(copy.buffer, copy.byteOffset, copy.length / 4);
    for (let at = 0, page = first; at < all.length; at += words, page++) {
      sentPages.put(object, page, all.subarray(at, at + words));
    }
  }

  /** Takes the next page by its changes, if they are worth it. @returns a frame that is full */
  #changedPage(block: RamBlock, counts: PageCounts): Built | null {
    const { map, sentPages } = this.#parts;
    const { object } = block;
    const page = this.#page;
    if (this.#delta.room(page) < map.pageSize + 4) return this.#delta.build();
    if (this.#pages.room(page) < map.pageSize) return this.#buildPages();
    const before = sentPages.get(object, page);
    // The copy is what is sent and what is remembered: the page may change while we look.
    const copy = this.#copy.subarray(0, map.pageSize / 4);
    this.#ram.copyOut(block.pa + page * map.pageSize, new Uint8Array(copy.buffer, 0, map.pageSize));
    const length = before === undefined ? -1 : encodeDelta(before, copy, this.#delta.spaceWords, 0);
    sentPages.put(object, page, copy);
    if (length >= 0) {
      this.#delta.taken((length + 1) * 4);
      this.#delta.add(page, 1);
    } else {
      this.#pages.spaceWords.set(copy);
      this.#pages.taken(map.pageSize);
      this.#pages.add(page, 1);
    }
    counts.pagesSent += 1;
    this.#page += 1;
    return null;
  }

  readonly #copy = new Uint32Array(WORDS_MAX);

  async *#unbackedFrames(
    block: RamBlock,
    bitmap: Uint8Array | null,
    counts: PageCounts,
    round: RoundEnd,
  ): AsyncGenerator<Built> {
    const { channel, channels, sequences } = this.#parts;
    const pages = this.#pagesOf(block);
    const step = SEQUENCES_AT_ONCE * channels;
    for (let piece = channel * SEQUENCES_AT_ONCE; piece < pages; piece += step) {
      const end = Math.min(piece + SEQUENCES_AT_ONCE, pages);
      if (!anyIn(bitmap, piece, end)) continue;
      const numbers = round.isOver
        ? NO_NUMBERS
        : await sequences.read(block.object, piece, end - piece);
      let page = piece;
      while (nextRun(bitmap, page, end, this.#run)) {
        const { first, count } = this.#run;
        page = first + count;
        if (round.isOver) {
          round.leaves(block.object, first, count);
          continue;
        }
        yield* this.#unbackedRun(
          block,
          first,
          numbers.subarray(first - piece, page - piece),
          counts,
        );
      }
    }
    yield* this.#flush();
  }

  /** @param numbers write sequences of the run's pages */
  *#unbackedRun(
    block: RamBlock,
    first: number,
    numbers: Uint32Array,
    counts: PageCounts,
  ): Generator<Built> {
    this.#count(block.object, first, numbers.length, counts);
    let at = 0;
    while (at < numbers.length) {
      // Most of a large VM was never stored to.
      const from = at;
      while (at < numbers.length && numbers[at] === 0) at++;
      if (at > from) {
        if (!this.#untouched.takes(first + from)) yield* some(this.#untouched.build());
        this.#untouched.add(first + from, at - from);
        counts.pagesZero += at - from;
      }
      if (at === numbers.length) return;
      yield* this.#unbackedPage(block, first + at, numbers[at] as number);
      counts.pagesSent += 1;
      at += 1;
    }
  }

  *#unbackedPage(block: RamBlock, page: number, sequence: number): Generator<Built> {
    const { pageSize, unbackedSeed } = this.#parts.map;
    const bytes = pageSize + 4;
    if (this.#unbacked.room(page) < bytes) yield* some(this.#unbacked.build());
    const space = this.#unbacked.spaceWords;
    space[0] = sequence;
    const words = space.subarray(1, bytes / 4);
    fillUnbackedWords(unbackedSeed, block.contentPage + page, sequence, words);
    this.#unbacked.taken(bytes);
    this.#unbacked.add(page, 1);
  }

  #buildPages(): Built | null {
    return this.#pages.build(this.#parts.compression === "deflate" ? deflated : undefined);
  }

  #count(object: number, first: number, count: number, counts: PageCounts): void {
    const bitmap = this.#parts.sentBefore.get(object);
    if (bitmap !== undefined) counts.pagesDuplicate += setRun(bitmap, first, count);
  }
}

const NO_NUMBERS = new Uint32Array(0);
/** Words of the largest page. */
const WORDS_MAX = 65_536 / 4;

function* some(built: Built | null): Generator<Built> {
  if (built !== null) yield built;
}

function deflated(content: Uint8Array): Uint8Array | null {
  const smaller = deflateRawSync(content, { level: constants.Z_BEST_SPEED });
  return smaller.length < content.length * DEFLATE_WORTH ? smaller : null;
}
