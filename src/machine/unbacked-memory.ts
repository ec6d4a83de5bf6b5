// Owns: physical memory above 4 GiB, which has addresses but no bytes (DESIGN 5). VM thread.
//
// A page's content is a function of (seed, page number, write sequence): every page is distinct and
// not zero, a store makes new content, and a migration's target can check what it got.
// Our choice: the page number is the host page's, not the gfn, because two slots may share a page.
import { assert } from "../base/assert.js";
import type { PageGeometry } from "../base/page.js";
import type { Saved } from "../base/saved.js";
import { fillUnbackedPage } from "../base/unbacked-content.js";
import { UNBACKED_BASE } from "./host-memory.js";

/** Pages whose write sequences are kept together; allocated at the first store among them. */
const CHUNK_PAGES = 1024;
/** Output addresses of a descriptor end at bit 47. */
const END = 2 ** 48;

/** Pages whose content is computed as of others' numbers: they came from another host. */
interface Moved {
  readonly first: number;
  readonly count: number;
  /** Number of the page that the first one is computed as. */
  readonly content: number;
}

export class UnbackedMemory {
  readonly #geometry: PageGeometry;
  #top = UNBACKED_BASE;
  readonly #sequences = new Map<number, Uint32Array>();
  /** By `first`; they don't overlap. */
  #moved: readonly Moved[] = [];
  /** What content is computed with. */
  readonly seed: number;

  constructor(geometry: PageGeometry, seed: bigint) {
    this.#geometry = geometry;
    this.seed = Number((seed ^ (seed >> 32n)) & 0xffff_ffffn);
  }

  /** Bytes that the write sequences of `pages` can come to need; what the budget is charged. */
  static bookkeepingBytes(pages: number): number {
    return Math.ceil(pages / CHUNK_PAGES) * CHUNK_PAGES * Uint32Array.BYTES_PER_ELEMENT;
  }

  /** @returns physical address of a fresh range aligned to `align` bytes, or -1. */
  allocate(bytes: number, align: number): number {
    const start = Math.ceil(this.#top / align) * align;
    if (start + bytes > END) return -1;
    this.#top = start + bytes;
    return start;
  }

  /** Forgets the sequences of a range; its addresses are not handed out again. */
  release(pa: number, bytes: number): void {
    const first = this.#page(pa);
    const last = this.#page(pa + bytes - 1);
    for (let page = first; page <= last; page += 1) {
      const chunk = this.#sequences.get(Math.floor(page / CHUNK_PAGES));
      if (chunk === undefined) {
        page = (Math.floor(page / CHUNK_PAGES) + 1) * CHUNK_PAGES - 1;
      } else {
        chunk[page % CHUNK_PAGES] = 0;
      }
    }
    this.#moved = this.#moved.filter((range) => range.first > last || range.first < first);
  }

  #page(pa: number): number {
    return Math.floor((pa - UNBACKED_BASE) / this.#geometry.size);
  }

  /** A store to the page: its content becomes new. */
  store(pa: number): void {
    const page = this.#page(pa);
    this.#chunk(page)[page % CHUNK_PAGES]!++;
  }

  #chunk(page: number): Uint32Array {
    const at = Math.floor(page / CHUNK_PAGES);
    let chunk = this.#sequences.get(at);
    if (chunk === undefined) {
      chunk = new Uint32Array(CHUNK_PAGES);
      this.#sequences.set(at, chunk);
    }
    return chunk;
  }

  /** Stores so far to the page of a physical address. */
  sequence(pa: number): number {
    const page = this.#page(pa);
    return this.#sequences.get(Math.floor(page / CHUNK_PAGES))?.[page % CHUNK_PAGES] ?? 0;
  }

  /** Of a range whose pages came with so many stores; as many as there are. */
  sequences(pa: number, count: number): Uint32Array {
    const { size } = this.#geometry;
    return Uint32Array.from({ length: count }, (_, n) => this.sequence(pa + n * size));
  }

  setSequence(pa: number, sequence: number): void {
    const page = this.#page(pa);
    if (sequence === 0 && !this.#sequences.has(Math.floor(page / CHUNK_PAGES))) return;
    this.#chunk(page)[page % CHUNK_PAGES] = sequence;
  }

  /** Number of the page that the content at a physical address is computed as. */
  contentPage(pa: number): number {
    const page = this.#page(pa);
    const moved = this.#moved.find(({ first, count }) => page >= first && page < first + count);
    return moved === undefined ? page : moved.content + (page - moved.first);
  }

  /** A whole range of allocate() is computed as of other pages from now on. */
  setContentPage(pa: number, bytes: number, content: number): void {
    const first = this.#page(pa);
    const count = bytes / this.#geometry.size;
    const others = this.#moved.filter((range) => range.first !== first);
    this.#moved = content === first ? others : [...others, { first, count, content }];
  }

  /** Fills `out` with the content from `pa` on; may cross pages. */
  read(pa: number, out: Uint8Array): void {
    assert(pa >= UNBACKED_BASE, "a backed address has real bytes");
    const { size } = this.#geometry;
    const page = new Uint8Array(size);
    for (let done = 0; done < out.length; ) {
      const at = pa + done;
      const offset = at % size;
      const bytes = Math.min(out.length - done, size - offset);
      const end = Math.ceil((offset + bytes) / 4) * 4;
      fillUnbackedPage(this.seed, this.contentPage(at), this.sequence(at), page.subarray(0, end));
      out.set(page.subarray(offset, offset + bytes), done);
      done += bytes;
    }
  }

  save(): Saved {
    const chunks = [...this.#sequences.entries()]
      .sort((a, b) => a[0] - b[0])
      .map(([at, words]) => [at, [...words]]);
    return { kind: "unbacked", version: 1, data: { top: this.#top, chunks, moved: this.#moved } };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      top: number;
      chunks: [number, number[]][];
      moved: readonly Moved[];
    };
    this.#top = data.top;
    this.#moved = data.moved;
    this.#sequences.clear();
    for (const [at, words] of data.chunks) this.#sequences.set(at, Uint32Array.from(words));
  }
}
