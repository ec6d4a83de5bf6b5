// Owns: where a round of pages ends: with its last one, or before it, and what is left of it then.
// Data-plane thread, or inline.
import type { DirtyPages, MemoryMap } from "../../runtime/index.js";
import type { PageCounts } from "./page-counts.js";
import { setRun } from "./page-runs.js";

/** Bitmaps have whole 64-bit words, as KVM's. */
const WORD_PAGES = 64;

interface Part {
  readonly object: number;
  readonly bitmap: Uint8Array;
  pages: number;
}

/** One round, of all channels. */
export class RoundEnd {
  readonly #map: MemoryMap;
  readonly #counts: PageCounts;
  /** The round is over once so many pages have gone. */
  readonly #most: number;
  readonly #parts = new Map<number, Part>();
  #isEnded: boolean;

  /**
   * @param pages null: every page
   * @param leave of them so many need not go
   * @param counts what has gone, of all channels
   */
  constructor(map: MemoryMap, pages: DirtyPages | null, leave: number, counts: PageCounts) {
    this.#map = map;
    this.#counts = counts;
    const all = pages?.pages ?? pagesOf(map);
    // A whole round ends by itself, however its pages were counted.
    this.#most = leave === 0 ? Number.POSITIVE_INFINITY : all - leave;
    this.#isEnded = leave > 0 && this.#most <= 0;
  }

  /** Nothing more of it goes. */
  end(): void {
    this.#isEnded = true;
  }

  /** Whether the next pages are left, which `leaves` is then told of. */
  get isOver(): boolean {
    const { pagesSent, pagesZero } = this.#counts;
    return this.#isEnded || pagesSent + pagesZero >= this.#most;
  }

  /** Ended by somebody who waits for it, so that nothing more of it is looked at. */
  get isCutShort(): boolean {
    return this.#isEnded;
  }

  leaves(object: number, first: number, count: number): void {
    let part = this.#parts.get(object);
    if (part === undefined) {
      const block = this.#map.blocks.find((one) => one.object === object);
      const pages = (block?.bytes ?? 0) / this.#map.pageSize;
      const bitmap = new Uint8Array((Math.ceil(pages / WORD_PAGES) * WORD_PAGES) / 8);
      part = { object, bitmap, pages: 0 };
      this.#parts.set(object, part);
    }
    part.pages += count - setRun(part.bitmap, first, count);
  }

  get unsent(): DirtyPages {
    const blocks = [...this.#parts.values()].sort((a, b) => a.object - b.object);
    return { blocks, pages: blocks.reduce((sum, { pages }) => sum + pages, 0) };
  }
}

function pagesOf({ blocks, pageSize }: MemoryMap): number {
  const moving = blocks.filter(({ backing }) => backing !== "device");
  return moving.reduce((sum, { bytes }) => sum + bytes / pageSize, 0);
}
