// Owns: KVM's stage-2 tables of one VM: making, changing and freeing descriptors. VM thread.
// Everything is in units of guest pages (gfn); plain functions on bounded ranges, so that callers
// decide where to yield. Nothing here invalidates a TLB except break-before-make, which must.
// @source arch/arm64/kvm/hyp/pgtable.c by behaviour; dirty-tracking.md 1, 7
import { assert } from "../base/assert.js";
import { entryIndex } from "../base/page.js";
import {
  addressHi,
  addressLo,
  HI,
  type Host,
  LO,
  outputAddress,
  startEntriesFor,
  startLevelFor,
} from "../machine/index.js";
import type { Account } from "./account.js";

/** Attributes of every leaf: normal memory, inner shareable, accessed, readable. */
const LEAF_LO = LO.VALID | LO.MEMATTR_NORMAL | LO.S2AP_READ | LO.SH_INNER | LO.AF;

/** The same of a device's pages. */
const DEVICE_LO = (LEAF_LO & ~LO.MEMATTR_NORMAL) | LO.MEMATTR_DEVICE;

/** Pages that one word of a dirty log stands for. */
const WORD_PAGES = 64;

/** Where a descent ended: a level 3 entry, or the first entry that is no table. */
interface Place {
  level: number;
  /** Physical address of the descriptor. */
  pa: number;
  /** First page that the entry translates, and how many. */
  first: number;
  span: number;
}

export interface Protection {
  readonly writable: boolean;
  /** Hardware dirty management on (DBM). */
  readonly dbm: boolean;
  readonly isDevice?: boolean;
}

/** Told of each leaf that goes away, with the descriptor it had. */
export type LeafGone = (first: number, span: number, lo: number, hi: number) => void;

export class Stage2Tables {
  readonly root: number;
  readonly rootPages: number;
  readonly startLevel: number;
  readonly #host: Host;
  readonly #account: Account;
  readonly #startEntries: number;
  /** Pages translated by one entry of each level. */
  readonly #spans: readonly number[];
  readonly #place: Place = { level: 0, pa: 0, first: 0, span: 0 };
  /** Level 3 table found last, so that neighbouring pages skip the descent; -1 for none. */
  #cachedFirst = -1;
  #cachedTable = 0;
  /** What protect() does about a block's DBM. */
  blockRule: () => "strip" | "keep" | "set" = () => "strip";
  /** Tables that left the tree and wait for the TLB invalidation that makes them free. */
  readonly #detached: number[] = [];

  constructor(host: Host, account: Account, ipaBits: number) {
    this.#host = host;
    this.#account = account;
    const { geometry } = host;
    this.startLevel = startLevelFor(geometry, ipaBits);
    this.#startEntries = startEntriesFor(geometry, ipaBits, this.startLevel);
    this.#spans = geometry.levelSizes.map((bytes) => bytes / geometry.size);
    this.rootPages = Math.max(1, Math.ceil((this.#startEntries * 8) / geometry.size));
    this.root = host.frames.allocate(this.rootPages, this.rootPages);
    assert(this.root >= 0, "the root table fits");
  }

  get #u32(): Uint32Array {
    return this.#host.memory.u32;
  }

  /** Descends as far as tables go. The result is overwritten by the next call. */
  #descend(page: number): Place {
    const place = this.#place;
    const perTable = this.#host.geometry.entriesPerTable;
    const cached = page - this.#cachedFirst;
    if (this.#cachedFirst >= 0 && cached >= 0 && cached < perTable) {
      place.level = 3;
      place.pa = this.#cachedTable + cached * 8;
      place.first = page;
      place.span = 1;
      return place;
    }
    const words = this.#u32;
    let table = this.root;
    for (let level = this.startLevel; ; level++) {
      const span = this.#spans[level]!;
      const entries = level === this.startLevel ? this.#startEntries : perTable;
      const index = entryIndex(this.#host.geometry, page, level, entries);
      const pa = table + index * 8;
      place.level = level;
      place.pa = pa;
      place.first = page - (page % span);
      place.span = span;
      if (level === 3) {
        this.#cachedFirst = page - index;
        this.#cachedTable = table;
        return place;
      }
      const lo = words[pa >>> 2]!;
      if ((lo & LO.VALID) === 0 || (lo & LO.TYPE) === 0) return place;
      table = outputAddress(lo, words[(pa >>> 2) + 1]!, this.#host.geometry.size);
    }
  }

  /** The tables' bytes changed under us: a restored VM. */
  forgetCache(): void {
    this.#cachedFirst = -1;
  }

  /**
   * First page at or after `page` that may be mapped, below `end`; skips whole invalid entries.
   * @returns end when nothing is left
   */
  nextMapped(page: number, end: number): number {
    let at = page;
    while (at < end) {
      const place = this.#descend(at);
      if (place.level === 3) return at;
      if ((this.#u32[place.pa >>> 2]! & LO.VALID) !== 0) return at;
      at = place.first + place.span;
    }
    return end;
  }

  /**
   * First page at or after `page`, below `end`, that a block translates; skips whole tables of
   * pages, so that a range that is split already costs next to nothing.
   * @returns end when there is none
   */
  nextBlock(page: number, end: number): number {
    const perTable = this.#host.geometry.entriesPerTable;
    for (let at = page; at < end; ) {
      const place = this.#descend(at);
      if (place.level === 3) at = this.#cachedFirst + perTable;
      else if ((this.#u32[place.pa >>> 2]! & LO.VALID) !== 0) return at;
      else at = place.first + place.span;
    }
    return end;
  }

  /** The leaf over a page: level, span and halves; null when there is none. */
  leaf(
    page: number,
  ): { level: number; first: number; span: number; lo: number; hi: number } | null {
    const { level, pa, first, span } = this.#descend(page);
    const lo = this.#u32[pa >>> 2]!;
    if ((lo & LO.VALID) === 0) return null;
    return { level, first, span, lo, hi: this.#u32[(pa >>> 2) + 1]! };
  }

  #newTable(): number {
    const { size } = this.#host.geometry;
    if (!this.#account.takeTable(size)) return -1;
    const pa = this.#host.frames.allocate(1);
    if (pa < 0) this.#account.returnTable(size);
    return pa;
  }

  /** Frees what was detached; call only after the TLB invalidation. */
  freeDetached(): void {
    const { size } = this.#host.geometry;
    for (const table of this.#detached) {
      this.#host.frames.release(table, 1);
      this.#account.returnTable(size);
    }
    this.#detached.length = 0;
  }

  #write(pa: number, lo: number, hi: number): void {
    const words = this.#u32;
    words[pa >>> 2] = lo;
    words[(pa >>> 2) + 1] = hi;
  }

  /**
   * Maps one leaf of `span` pages (a page or a block) at `page`.
   * An entry in the way is broken first: made invalid, `flush` called, then replaced.
   * @param flush invalidates the TLBs for [first, first + span)
   * @returns "mapped"; "same" when this page was mapped there already, with whatever permissions;
   *   "nomem"
   */
  map(
    page: number,
    span: number,
    pa: number,
    protection: Protection,
    flush: (first: number, span: number) => void,
  ): "mapped" | "same" | "nomem" {
    const level = this.#spans.indexOf(span);
    assert(level > 0 && page % span === 0, "a leaf lies on its own boundary");
    for (;;) {
      const place = this.#descendTo(page, level);
      const lo = this.#u32[place.pa >>> 2]!;
      const isTable = place.level < 3 && (lo & (LO.VALID | LO.TYPE)) === (LO.VALID | LO.TYPE);
      if (place.level === level && !isTable) return this.#install(place, pa, protection, flush);
      if (place.level === level) {
        this.#collapse(place, flush);
        continue;
      }
      const table = this.#newTable();
      if (table < 0) {
        // Tables made on the way here hold nothing, and nobody would ever look for them.
        this.unmap(page, page + span);
        this.freeDetached();
        return "nomem";
      }
      const { pa: entry, first, span: broken } = place;
      if ((lo & LO.VALID) !== 0) {
        this.#write(entry, 0, 0);
        flush(first, broken);
      }
      this.#write(entry, addressLo(table) | LO.VALID | LO.TYPE, addressHi(table));
    }
  }

  /** Like #descend, but stops at `level` even when a table is there. */
  #descendTo(page: number, level: number): Place {
    if (level === 3) return this.#descend(page);
    const place = this.#place;
    let table = this.root;
    for (let at = this.startLevel; ; at++) {
      const span = this.#spans[at]!;
      const entries =
        at === this.startLevel ? this.#startEntries : this.#host.geometry.entriesPerTable;
      const pa = table + entryIndex(this.#host.geometry, page, at, entries) * 8;
      place.level = at;
      place.pa = pa;
      place.first = page - (page % span);
      place.span = span;
      const lo = this.#u32[pa >>> 2]!;
      if (at === level || (lo & LO.VALID) === 0 || (lo & LO.TYPE) === 0) return place;
      table = outputAddress(lo, this.#u32[(pa >>> 2) + 1]!, this.#host.geometry.size);
    }
  }

  #install(
    place: Place,
    pa: number,
    protection: Protection,
    flush: (first: number, span: number) => void,
  ): "mapped" | "same" {
    const { pa: entry, first, span, level } = place;
    let lo = addressLo(pa) | (protection.isDevice === true ? DEVICE_LO : LEAF_LO);
    let hi = addressHi(pa);
    if (level === 3) lo |= LO.TYPE;
    if (protection.writable) lo |= LO.S2AP_WRITE;
    if (protection.dbm) hi |= HI.DBM;
    const oldLo = this.#u32[entry >>> 2]!;
    const oldHi = this.#u32[(entry >>> 2) + 1]!;
    // Only permissions would change: not here. A fault that was overtaken must not take back what
    // another vCPU's store, or hardware, has made writable and dirty since.
    const isSamePage = ((oldLo ^ lo) & ~LO.S2AP_WRITE) === 0 && ((oldHi ^ hi) & ~HI.DBM) === 0;
    if (isSamePage) return "same";
    if ((oldLo & LO.VALID) !== 0) {
      this.#write(entry, 0, 0);
      flush(first, span);
    }
    this.#write(entry, lo, hi);
    return "mapped";
  }

  /** Takes a table out so that a block can take its place. */
  #collapse(place: Place, flush: (first: number, span: number) => void): void {
    const { pa: entry, first, span, level } = place;
    const lo = this.#u32[entry >>> 2]!;
    const table = outputAddress(lo, this.#u32[(entry >>> 2) + 1]!, this.#host.geometry.size);
    this.#write(entry, 0, 0);
    this.forgetCache();
    this.#detachTree(table, level + 1);
    flush(first, span);
    this.freeDetached();
  }

  #detachTree(table: number, level: number): void {
    if (level < 3) {
      const { entriesPerTable, size } = this.#host.geometry;
      for (let i = 0; i < entriesPerTable; i++) {
        const at = (table >>> 2) + i * 2;
        const lo = this.#u32[at]!;
        if ((lo & (LO.VALID | LO.TYPE)) !== (LO.VALID | LO.TYPE)) continue;
        this.#detachTree(outputAddress(lo, this.#u32[at + 1]!, size), level + 1);
      }
    }
    this.#detached.push(table);
  }

  /**
   * Gives a leaf write permission, whatever its size.
   * @param dbm it becomes writable-dirty: hardware manages it from here on
   * @returns false when there is no leaf any more
   */
  relax(page: number, dbm = false): boolean {
    const { pa } = this.#descend(page);
    const at = pa >>> 2;
    const lo = this.#u32[at]!;
    if ((lo & LO.VALID) === 0) return false;
    if (dbm) this.#u32[at + 1]! |= HI.DBM;
    this.#u32[at] = lo | LO.S2AP_WRITE;
    return true;
  }

  /**
   * Takes write permission from every leaf that touches pages [first, end).
   * @param dbm pages that lose it become writable-clean instead of read-only; blocks as blockRule
   *   says, by default never, so that a store to one still faults and gets split
   * @returns number of leaves changed
   */
  protect(first: number, end: number, dbm: boolean): number {
    let changed = 0;
    let page = first;
    const words = this.#u32;
    const perTable = this.#host.geometry.entriesPerTable;
    while (page < end) {
      const place = this.#descend(page);
      const at = place.pa >>> 2;
      if (place.level < 3) {
        const lo = words[at]!;
        if ((lo & (LO.VALID | LO.S2AP_WRITE)) === (LO.VALID | LO.S2AP_WRITE)) {
          words[at] = lo & ~LO.S2AP_WRITE;
          this.#ruleBlock(at, dbm);
          changed++;
        }
        page = place.first + place.span;
        continue;
      }
      const stop = Math.min(this.#cachedFirst + perTable, end);
      const entryEnd = at + (stop - page) * 2;
      for (let entry = at; entry < entryEnd; entry += 2) {
        const lo = words[entry]!;
        // S2AP[1] is never set in an invalid entry, so one test is enough.
        if ((lo & LO.S2AP_WRITE) === 0) continue;
        words[entry] = lo & ~LO.S2AP_WRITE;
        if (dbm) words[entry + 1]! |= HI.DBM;
        changed++;
      }
      page = stop;
    }
    return changed;
  }

  #ruleBlock(at: number, dbm: boolean): void {
    const rule = this.blockRule();
    if (rule === "strip") this.#u32[at + 1]! &= ~HI.DBM;
    else if (rule === "set" && dbm) this.#u32[at + 1]! |= HI.DBM;
  }

  /**
   * Finds the level 3 entries of the pages that a word of a dirty log names; does not look at them.
   * @param page page of bit 0
   * @param lo bits 31:0, hi bits 63:32
   * @param out takes the entries' u32 indexes from `count` on; 64 at most
   * @returns the new count; -1 when the word's pages have no level 3 table in common
   */
  entriesOf(page: number, lo: number, hi: number, out: Uint32Array, count: number): number {
    const { level, pa } = this.#descend(page);
    const tableEnd = this.#cachedFirst + this.#host.geometry.entriesPerTable;
    if (level < 3 || page + WORD_PAGES > tableEnd) return -1;
    const at = pa >>> 2;
    let next = count;
    for (let rest = lo | 0; rest !== 0; rest &= rest - 1) {
      out[next++] = at + (31 - Math.clz32(rest & -rest)) * 2;
    }
    for (let rest = hi | 0; rest !== 0; rest &= rest - 1) {
      out[next++] = at + WORD_PAGES + (31 - Math.clz32(rest & -rest)) * 2;
    }
    return next;
  }

  /**
   * Like protect(), for `count` level 3 entries. They lie apart, so the time goes into waiting for
   * memory, and a loop as short as this one waits for many of them at once.
   */
  protectEntries(entries: Uint32Array, count: number, dbm: boolean): number {
    const words = this.#u32;
    let changed = 0;
    for (let i = 0; i < count; i++) {
      const at = entries[i]!;
      const lo = words[at]!;
      if ((lo & LO.S2AP_WRITE) === 0) continue;
      words[at] = lo & ~LO.S2AP_WRITE;
      if (dbm) words[at + 1]! |= HI.DBM;
      changed++;
    }
    return changed;
  }

  /**
   * Looks for writable-dirty pages in [first, end); `found` is told of each.
   * Blocks are never managed by hardware while logging, so only level 3 counts.
   */
  scanDirty(first: number, end: number, found: (page: number) => void): void {
    let page = first;
    const words = this.#u32;
    const perTable = this.#host.geometry.entriesPerTable;
    while (page < end) {
      const place = this.#descend(page);
      if (place.level < 3) {
        page = place.first + place.span;
        continue;
      }
      const at = place.pa >>> 2;
      const stop = Math.min(this.#cachedFirst + perTable, end);
      // Counting entries alone, not pages too, makes this twice as fast: it sees every one of them.
      const entryEnd = at + (stop - page) * 2;
      for (let entry = at; entry < entryEnd; entry += 2) {
        if ((words[entry]! & LO.S2AP_WRITE) === 0) continue;
        if ((words[entry + 1]! & HI.DBM) !== 0) found(page + (entry - at) / 2);
      }
      page = stop;
    }
  }

  /**
   * Makes every leaf that lies in [first, end) invalid and detaches tables that became empty.
   * A block that reaches out of the range goes too, as in KVM: its pages fault in again.
   * The caller invalidates the TLBs, then calls freeDetached().
   * @returns number of leaves removed
   */
  unmap(first: number, end: number, gone?: LeafGone): number {
    this.forgetCache();
    const removed = this.#unmapTable(this.root, this.startLevel, 0, first, end, gone);
    this.forgetCache();
    return removed;
  }

  #unmapTable(
    table: number,
    level: number,
    base: number,
    first: number,
    end: number,
    gone: LeafGone | undefined,
  ): number {
    const span = this.#spans[level]!;
    const entries =
      level === this.startLevel ? this.#startEntries : this.#host.geometry.entriesPerTable;
    const from = Math.max(0, Math.floor((first - base) / span));
    const to = Math.min(entries - 1, Math.floor((end - 1 - base) / span));
    let removed = 0;
    for (let i = from; i <= to; i++) {
      const at = (table >>> 2) + i * 2;
      const lo = this.#u32[at]!;
      if ((lo & LO.VALID) === 0) continue;
      const hi = this.#u32[at + 1]!;
      const start = base + i * span;
      if (level < 3 && (lo & LO.TYPE) !== 0) {
        const child = outputAddress(lo, hi, this.#host.geometry.size);
        removed += this.#unmapTable(child, level + 1, start, first, end, gone);
        if (this.#isEmpty(child)) {
          this.#write(at * 4, 0, 0);
          this.#detached.push(child);
        }
      } else {
        this.#write(at * 4, 0, 0);
        removed++;
        gone?.(start, span, lo, hi);
      }
    }
    return removed;
  }

  #isEmpty(table: number): boolean {
    const words = this.#u32;
    const from = table >>> 2;
    const to = from + this.#host.geometry.entriesPerTable * 2;
    for (let at = from; at < to; at += 2) if ((words[at]! & LO.VALID) !== 0) return false;
    return true;
  }

  /**
   * Replaces the block over `page`, if there is one, by a full table of the next level with the
   * same attributes (break-before-make).
   * @param dbm the parts are managed by hardware; those of a managed block always are
   * @returns "split", "none" when there is no block, "nomem"
   */
  splitBlock(
    page: number,
    flush: (first: number, span: number) => void,
    dbm = false,
  ): "split" | "none" | "nomem" {
    const place = this.#descend(page);
    const { pa: entry, first, span, level } = place;
    const lo = this.#u32[entry >>> 2]!;
    const hi = this.#u32[(entry >>> 2) + 1]!;
    if (level === 3 || (lo & LO.VALID) === 0) return "none";
    const table = this.#newTable();
    if (table < 0) return "nomem";
    const { geometry } = this.#host;
    const base = outputAddress(lo, hi, geometry.levelSizes[level]!);
    const attributes = lo & (LEAF_LO | LO.S2AP_WRITE);
    const managed = dbm ? HI.DBM : hi & HI.DBM;
    const step = geometry.levelSizes[level + 1]!;
    for (let i = 0; i < geometry.entriesPerTable; i++) {
      const pa = base + i * step;
      const type = level + 1 === 3 ? LO.TYPE : 0;
      this.#write(table + i * 8, addressLo(pa) | attributes | type, addressHi(pa) | managed);
    }
    this.#write(entry, 0, 0);
    flush(first, span);
    this.#write(entry, addressLo(table) | LO.VALID | LO.TYPE, addressHi(table));
    return "split";
  }
}
