// Owns: what of a memory the target lacks in post-copy, and which of it goes next. Data-plane
// thread, or inline.
import type { DirtyPages, MemoryMap } from "../../runtime/index.js";
import { nextRun, type Run } from "./page-runs.js";
import type { RamBlock } from "./ram.js";

/** Pages of one turn, and how far apart they may be. */
const TURN_PAGES = 256;
const TURN_SPAN = 8192;

/** Pages of one block that go together. */
export interface Turn {
  readonly block: RamBlock;
  readonly runs: readonly Run[];
}

interface Part {
  readonly block: RamBlock;
  readonly bitmap: Uint8Array;
  readonly pages: number;
}

export class PushQueue {
  readonly #parts: readonly Part[];
  #asked: { readonly part: Part; readonly page: number }[] = [];
  #part = 0;
  #page = 0;

  constructor(map: MemoryMap) {
    this.#parts = map.blocks
      .filter(({ backing }) => backing !== "device")
      .map((block) => {
        const pages = block.bytes / map.pageSize;
        return { block, pages, bitmap: new Uint8Array(Math.ceil(pages / 8)) };
      });
  }

  add(pages: DirtyPages): void {
    for (const { object, bitmap } of pages.blocks) {
      const mine = this.#parts.find(({ block }) => block.object === object)?.bitmap;
      if (mine === undefined) continue;
      for (let i = 0; i < mine.length; i++) (mine[i] as number) |= bitmap[i] ?? 0;
    }
  }

  /** What was taken and couldn't be sent. */
  giveBack({ block, runs }: Turn): void {
    const part = this.#parts.find((one) => one.block === block);
    for (const { first, count } of runs) {
      for (let page = first; page < first + count; page++) {
        if (part !== undefined) (part.bitmap[page >>> 3] as number) |= 1 << (page & 7);
      }
    }
  }

  /**
   * The target waits for this page.
   * @returns false when it has it, or it is on its way
   */
  ask(object: number, page: number): boolean {
    const at = this.#parts.findIndex(({ block }) => block.object === object);
    const part = this.#parts[at];
    if (part === undefined || page >= part.pages) return false;
    if (((part.bitmap[page >>> 3] as number) & (1 << (page & 7))) === 0) return false;
    this.#asked.push({ part, page });
    // Where one page is wanted, its neighbours will be.
    this.#part = at;
    this.#page = page;
    return true;
  }

  /** The page that was asked for first. @returns null: none */
  nextAsked(): Turn | null {
    for (;;) {
      const asked = this.#asked.shift();
      if (asked === undefined) return null;
      const { part, page } = asked;
      const run = { first: page, count: 1 };
      // It may have had its turn meanwhile.
      if (!nextRun(part.bitmap, page, page + 1, { first: 0, count: 0 })) continue;
      this.#take(part, run);
      return { block: part.block, runs: [run] };
    }
  }

  /** Whether anything is left. */
  hasNext(): boolean {
    for (let tries = 0; tries <= this.#parts.length; tries++) {
      const part = this.#parts[(this.#part + tries) % this.#parts.length];
      const from = tries === 0 ? this.#page : 0;
      if (part !== undefined && nextRun(part.bitmap, from, part.pages, { first: 0, count: 0 })) {
        return true;
      }
    }
    return false;
  }

  /** The next pages in order. @returns null: nothing is left */
  next(): Turn | null {
    // One more than there are: the first part's beginning comes last.
    for (let tries = 0; tries <= this.#parts.length; tries++) {
      const part = this.#parts[this.#part];
      if (part === undefined) return null;
      const runs = this.#collect(part);
      if (runs.length > 0) return { block: part.block, runs };
      this.#part = (this.#part + 1) % this.#parts.length;
      this.#page = 0;
    }
    return null;
  }

  #collect(part: Part): readonly Run[] {
    const runs: Run[] = [];
    const run: Run = { first: 0, count: 0 };
    let end = part.pages;
    let left = TURN_PAGES;
    while (left > 0 && nextRun(part.bitmap, this.#page, end, run)) {
      if (runs.length === 0) end = Math.min(part.pages, run.first + TURN_SPAN);
      const taken = { first: run.first, count: Math.min(run.count, left, end - run.first) };
      this.#take(part, taken);
      runs.push(taken);
      left -= taken.count;
      this.#page = taken.first + taken.count;
    }
    return runs;
  }

  #take({ bitmap }: Part, { first, count }: Run): void {
    for (let page = first; page < first + count; page++) {
      (bitmap[page >>> 3] as number) &= ~(1 << (page & 7));
    }
  }
}
