// Owns: one host CPU's stage-2 translation cache. VM thread.
// Entries are page-granular copies of leaves that remember their leaf's level, so an invalidation
// by address hits exactly the copies of the leaves it overlaps: nothing stays stale, nothing else
// goes missing.
import { levelSize, type PageGeometry } from "../../base/page.js";
import type { Saved } from "../../base/saved.js";
import { WalkCache } from "./walk-cache.js";

/** What a cached copy allows. */
export const TLB_PERM = {
  READ: 1,
  /** Stores pass without a look at the descriptor: writable-dirty or unmanaged. */
  WRITE: 2,
  /** DBM set, not writable: a store must update the descriptor first. */
  CLEAN: 4,
} as const;

const ENTRIES = 4096; // tidy: entries of the cache, not a page size
const EMPTY = -1;

export class Tlb {
  readonly #geometry: PageGeometry;
  /** IPA page number, or EMPTY. Shape [ENTRIES]. */
  readonly tags = new Float64Array(ENTRIES).fill(EMPTY);
  readonly vmids = new Uint16Array(ENTRIES);
  /** Physical address of the page. */
  readonly pages = new Float64Array(ENTRIES);
  readonly perms = new Uint8Array(ENTRIES);
  readonly levels = new Uint8Array(ENTRIES);
  /** Of the tables that walks go through; every invalidation forgets them. */
  readonly walks = new WalkCache();
  #blocks = 0;
  #count = 0;

  constructor(geometry: PageGeometry) {
    this.#geometry = geometry;
  }

  get count(): number {
    return this.#count;
  }

  /** @returns the set of an IPA page number; the caller compares tag and VMID. */
  static index(page: number): number {
    // Hashed: neighbouring 16 MiB windows must not all fall into the same sets.
    return (page ^ (page / ENTRIES)) & (ENTRIES - 1);
  }

  /** @returns index of a hit, or -1. */
  lookup(page: number, vmid: number): number {
    const at = Tlb.index(page);
    return this.tags[at] === page && this.vmids[at] === vmid ? at : -1;
  }

  fill(page: number, vmid: number, pa: number, perm: number, level: number): void {
    const at = Tlb.index(page);
    this.#drop(at);
    this.tags[at] = page;
    this.vmids[at] = vmid;
    this.pages[at] = pa;
    this.perms[at] = perm;
    this.levels[at] = level;
    this.#count++;
    if (level < 3) this.#blocks++;
  }

  #drop(at: number): void {
    if (this.tags[at] === EMPTY) return;
    if (this.levels[at]! < 3) this.#blocks--;
    this.#count--;
    this.tags[at] = EMPTY;
  }

  /** TLBI VMALLS12E1: everything of a VMID. */
  invalidateVmid(vmid: number): void {
    this.walks.forget();
    for (let at = 0; at < ENTRIES; at++) if (this.vmids[at] === vmid) this.#drop(at);
  }

  /** TLBI (R)IPAS2E1: every copy of a leaf that overlaps pages [first, first + count). */
  invalidateRange(vmid: number, first: number, count: number): void {
    this.walks.forget();
    if (this.#blocks === 0 && count <= ENTRIES / 8) {
      for (let page = first; page < first + count; page++) {
        const at = this.lookup(page, vmid);
        if (at >= 0) this.#drop(at);
      }
      return;
    }
    const end = first + count;
    for (let at = 0; at < ENTRIES; at++) {
      const tag = this.tags[at]!;
      if (tag === EMPTY || this.vmids[at] !== vmid) continue;
      const pages = levelSize(this.#geometry, this.levels[at]!) / this.#geometry.size;
      const leaf = tag - (tag % pages);
      if (leaf < end && leaf + pages > first) this.#drop(at);
    }
  }

  save(): Saved {
    const entries: number[][] = [];
    for (let at = 0; at < ENTRIES; at++) {
      if (this.tags[at] === EMPTY) continue;
      const row = [this.tags[at]!, this.vmids[at]!, this.pages[at]!];
      entries.push([...row, this.perms[at]!, this.levels[at]!]);
    }
    return { kind: "tlb", version: 1, data: { entries } };
  }

  load(saved: Saved): void {
    this.walks.forget();
    this.tags.fill(EMPTY);
    this.#blocks = 0;
    this.#count = 0;
    for (const row of (saved.data as { entries: number[][] }).entries) {
      this.fill(row[0]!, row[1]!, row[2]!, row[3]!, row[4]!);
    }
  }
}
