// Owns: everything that depends on the page size; no other file may know 12 or 4096 (DESIGN 6).
// Runs on any thread.
import { assert } from "./assert.js";

export type PageSize = 4096 | 16384 | 65536;
export const PAGE_SIZES: readonly PageSize[] = [4096, 16384, 65536];
export const SMALL_PAGE: PageSize = 4096;

/** WebAssembly's own page, the unit in which a memory grows; not a host page. */
export const WASM_PAGE_BYTES = 65536;

/**
 * The translation granule and what follows from it. One bitmap bit, one ring entry and one level 3
 * descriptor stand for one page of `size` bytes.
 * @source Arm ARM D8.2 (granules, lookup levels); KVM uses PAGE_SIZE as stage-2 granule
 */
export interface PageGeometry {
  readonly size: PageSize;
  /** log2(size): 12, 14 or 16. */
  readonly shift: number;
  /** Address bits that one table resolves: shift - 3. */
  readonly bitsPerLevel: number;
  /** Descriptors in one full table: 512, 2048 or 8192. */
  readonly entriesPerTable: number;
  /** Bytes that one entry at lookup level 0, 1, 2, 3 translates. */
  readonly levelSizes: readonly number[];
  /** Bytes that a stage-2 leaf may translate, ascending: page, level 2 block, level 1 block? */
  readonly leafSizes: readonly number[];
}

const LEAF_SIZES: Readonly<Record<PageSize, readonly number[]>> = {
  4096: [4096, 2 ** 21, 2 ** 30],
  16384: [16384, 2 ** 25],
  65536: [65536, 2 ** 29],
};

/** @returns the geometry of a page size; one object per size. */
export function pageGeometry(size: PageSize): PageGeometry {
  const found = GEOMETRIES.get(size);
  assert(found !== undefined, `page size ${size} is not 4096, 16384 or 65536`);
  return found;
}

const GEOMETRIES: ReadonlyMap<number, PageGeometry> = new Map(
  PAGE_SIZES.map((size) => {
    const shift = Math.log2(size);
    const geometry: PageGeometry = {
      size,
      shift,
      bitsPerLevel: shift - 3,
      entriesPerTable: 2 ** (shift - 3),
      levelSizes: [3, 2, 1, 0].map((up) => 2 ** (shift + (shift - 3) * up)),
      leafSizes: LEAF_SIZES[size],
    };
    return [size, geometry];
  }),
);

/**
 * Index of a page's entry in a table of `entries` (a power of two) at a lookup level.
 * Pages below 2^31, which is all that slots can hold, take integer arithmetic: this is on the path
 * of every fault.
 */
export function entryIndex(
  geometry: PageGeometry,
  page: number,
  level: number,
  entries: number,
): number {
  const up = geometry.bitsPerLevel * (3 - level);
  if (page <= 0x7fff_ffff) return up > 30 ? 0 : (page >> up) & (entries - 1);
  return Math.floor(page / 2 ** up) % entries;
}

/** Bytes that one entry at a lookup level translates. */
export function levelSize(geometry: PageGeometry, level: number): number {
  return geometry.levelSizes[level]!;
}
