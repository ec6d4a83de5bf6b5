// Owns: the stage-2 table walk over descriptor bytes. VM thread.
// @source Arm ARM D8.2 (translation process), D8.3 (descriptors)

import { entryIndex, levelSize } from "../../base/page.js";
import type { HostMemory } from "../host-memory.js";
import { LO, outputAddress } from "./descriptor.js";
import type { Stage2Regime } from "./regime.js";
import type { WalkCache } from "./walk-cache.js";

/** Where a walk ended. Overwritten by each walk: the hot path allocates nothing. */
export interface WalkResult {
  /** True when a valid leaf was found. */
  found: boolean;
  /** Level of the last descriptor read. */
  level: number;
  /** Physical address of that descriptor. */
  descriptorPa: number;
  lo: number;
  hi: number;
  /** Bytes that the leaf translates. */
  size: number;
}

export function emptyWalk(): WalkResult {
  return { found: false, level: 0, descriptorPa: 0, lo: 0, hi: 0, size: 0 };
}

/**
 * Walks to the leaf of an IPA (below 2^ipaBits, exact number).
 * @param out overwritten; `found` false means a translation fault at `out.level`
 * @param cache of this regime's last tables, kept up to date here
 * @param visit called for each descriptor read, root first; for the API's walk view
 */
export function walkStage2(
  memory: HostMemory,
  regime: Stage2Regime,
  ipa: number,
  out: WalkResult,
  cache: WalkCache | null = null,
  visit?: (level: number, table: number, index: number, lo: number, hi: number) => void,
): void {
  const { geometry } = regime;
  const page = Math.floor(ipa / geometry.size);
  // What the last level's tables are known by.
  const key = Math.floor(page / geometry.entriesPerTable);
  const known = cache === null ? -1 : cache.find(key);
  let table = known < 0 ? regime.root : cache!.tableAt(known);
  for (let level = known < 0 ? regime.startLevel : 3; ; level++) {
    const entries = level === regime.startLevel ? regime.startEntries : geometry.entriesPerTable;
    const isLast = level === 3 && level !== regime.startLevel;
    const index = isLast ? page - key * entries : entryIndex(geometry, page, level, entries);
    const pa = table + index * 8;
    const lo = memory.u32[pa >>> 2]!;
    const hi = memory.u32[(pa >>> 2) + 1]!;
    visit?.(level, table, index, lo, hi);
    out.level = level;
    out.descriptorPa = pa;
    out.lo = lo;
    out.hi = hi;
    out.size = geometry.levelSizes[level]!;
    if ((lo & LO.VALID) === 0) {
      out.found = false;
      return;
    }
    const isTable = (lo & LO.TYPE) !== 0;
    if (level === 3 || !isTable) {
      out.found = level < 3 ? leafAllowed(regime, level) : isTable;
      return;
    }
    table = outputAddress(lo, hi, geometry.size);
    if (level === 2) cache?.fill(key, table);
  }
}

/** A block descriptor at a level where the granule has no blocks is a translation fault. */
function leafAllowed(regime: Stage2Regime, level: number): boolean {
  return regime.geometry.leafSizes.includes(levelSize(regime.geometry, level));
}
