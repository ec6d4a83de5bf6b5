// Owns: physical memory above 4 GiB, which has addresses but no bytes (DESIGN 5). VM thread.
//
// A page's content is a function of (seed, page number, write sequence): every page is distinct and
// not zero, a store makes new content, and a migration's target can check what it got.
// Our choice: the page number is the host page's, not the gfn, because two slots may share a page.
import { assert } from "../base/assert.js";
import type { PageGeometry } from "../base/page.js";
import { mix32 } from "../base/prng.js";
import type { Saved } from "../base/saved.js";
import { UNBACKED_BASE } from "./host-memory.js";

/** Pages whose write sequences are kept together; allocated at the first store among them. */
const CHUNK_PAGES = 1024;
/** Output addresses of a descriptor end at bit 47. */
const END = 2 ** 48;

export class UnbackedMemory {
  readonly #geometry: PageGeometry;
  readonly #seed: number;
  #top = UNBACKED_BASE;
  readonly #sequences = new Map<number, Uint32Array>();

  constructor(geometry: PageGeometry, seed: bigint) {
    this.#geometry = geometry;
    this.#seed = Number((seed ^ (seed >> 32n)) & 0xffff_ffffn);
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
  }

  #page(pa: number): number {
    return Math.floor((pa - UNBACKED_BASE) / this.#geometry.size);
  }

  /** A store to the page: its content becomes new. */
  store(pa: number): void {
    const page = this.#page(pa);
    const at = Math.floor(page / CHUNK_PAGES);
    let chunk = this.#sequences.get(at);
    if (chunk === undefined) {
      chunk = new Uint32Array(CHUNK_PAGES);
      this.#sequences.set(at, chunk);
    }
    chunk[page % CHUNK_PAGES]!++;
  }

  /** Stores so far to the page of a physical address. */
  sequence(pa: number): number {
    const page = this.#page(pa);
    return this.#sequences.get(Math.floor(page / CHUNK_PAGES))?.[page % CHUNK_PAGES] ?? 0;
  }

  /** Fills `out` with the content from `pa` on; may cross pages. */
  read(pa: number, out: Uint8Array): void {
    assert(pa >= UNBACKED_BASE, "a backed address has real bytes");
    const { size } = this.#geometry;
    for (let i = 0; i < out.length; i++) {
      const at = pa + i;
      const offset = at % size;
      const word = mix32(this.#seed ^ this.#page(at), this.sequence(at), offset >>> 2);
      // Never zero, so that a page that was not copied cannot pass for one that was.
      out[i] = ((word | 0x0101_0101) >>> ((offset & 3) * 8)) & 0xff;
    }
  }

  save(): Saved {
    const chunks = [...this.#sequences.entries()]
      .sort((a, b) => a[0] - b[0])
      .map(([at, words]) => [at, [...words]]);
    return { kind: "unbacked", version: 1, data: { top: this.#top, chunks } };
  }

  load(saved: Saved): void {
    const data = saved.data as { top: number; chunks: [number, number[]][] };
    this.#top = data.top;
    this.#sequences.clear();
    for (const [at, words] of data.chunks) this.#sequences.set(at, Uint32Array.from(words));
  }
}
