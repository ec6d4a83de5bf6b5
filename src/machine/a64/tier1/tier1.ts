// Owns: which code is translated: requests, batches, slots, eviction. VM thread.
//
//   hot record ──request──▶ waiting ──translate──▶ module of several regions ──▶ slots in the table
//                                                                └─ the records they are entered at
//
// A record names its slot in its own bytes, so a page that is dropped takes its slots with it.
// Code memory has a ceiling; past it everything is dropped, and what is still hot comes back.
import { ModuleBuilder } from "../../../base/wasm/module.js";
import type { CodeCache } from "../code-cache.js";
import type { Insn } from "../insn.js";
import type { Decoder } from "../pattern.js";
import { RECORD_BYTES } from "../window.js";
import { Tier1Linker } from "./linker.js";
import { findRegion, REGION_MAX, type Region } from "./region.js";
import {
  FUNCTION_SIGNATURE,
  leavesByAddress,
  needsFp,
  RegionWriter,
  type TranslatedFunction,
} from "./translate.js";

/** Guest instructions translated at most: about 270 bytes of V8's memory each. */
const INSTRUCTIONS_MAX = 200_000;
/**
 * Translated after few jumps, so that what gets hot together is translated together. A guest that
 * has more code than this pays for translation what it gains only where it runs often.
 */
const FIRST_INSTRUCTIONS = 4000;
/** What a record has room for. */
const SLOTS_MAX = 65_535;
/** Regions of one module at most. */
const BATCH_MAX = 50;
/** What any VM's memory is allowed to be, in pages of 64 KiB. */
const ANY_MEMORY = { initial: 1, maximum: 65_536 };

export interface Tier1Stats {
  modules: number;
  functions: number;
  regions: number;
  /** Guest instructions in them. */
  instructions: number;
  /** Bytes of WebAssembly. */
  bytes: number;
  /** Times that everything was dropped because the ceiling was reached. */
  evictions: number;
}

interface Found {
  readonly region: Region;
  /** First record of its page. */
  readonly block: number;
}
interface Translated {
  readonly regions: readonly Found[];
  readonly fn: TranslatedFunction;
  readonly slot: number;
}

/** When and how much is translated; the defaults are what is fastest. */
export interface Translation {
  /** For how many runs a translation waits. */
  readonly delay?: () => number;
  /** Jumps to a record that make it hot, HOT at most: few, so that short tests are translated. */
  readonly hotAfter?: number;
  /** Instructions of one region, and of one function, at most. */
  readonly regionMax?: number;
}

export interface Tier1Host {
  readonly translation: Translation;
  readonly cache: CodeCache;
  readonly decoder: Decoder<Insn>;
  readonly table: WebAssembly.Table;
  /** Place of the first slot in the table. */
  readonly slots: number;
  /** What modules import as "env". */
  readonly env: Record<string, unknown>;
}

export class Tier1 {
  readonly stats: Tier1Stats = {
    modules: 0,
    functions: 0,
    regions: 0,
    instructions: 0,
    bytes: 0,
    evictions: 0,
  };
  readonly #host: Tier1Host;
  readonly #waiting = new Set<number>();
  /** Slots in use: places of records that name them, by the first record of their page. */
  readonly #bySlot = new Map<number, { readonly slot: number; readonly record: number }[]>();
  readonly #free: number[] = [];
  /** How many records name a slot. */
  readonly #users = new Map<number, number>();
  #slots = 0;
  #live = 0;
  /** Calls of translate() until it does something. */
  #runsLeft = 0;

  constructor(host: Tier1Host) {
    this.#host = host;
  }

  get isWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** A record was jumped to often. */
  request(record: number): void {
    this.#waiting.add(record);
  }

  /**
   * Translates what waits, unless it is to wait longer. Called between two runs.
   * @param everything also what was never executed
   */
  translate(everything = false): void {
    const { cache, decoder, translation } = this.#host;
    if (this.#runsLeft-- > 0) return;
    this.#runsLeft = translation.delay?.() ?? 0;
    if (this.#live > INSTRUCTIONS_MAX || this.#slots + BATCH_MAX > SLOTS_MAX) this.#evict();
    const batch: Found[] = [];
    const entered = new Set<number>();
    for (const [block, records] of this.#takeWaiting()) {
      const words = cache.words(block);
      for (const record of records) {
        if (batch.length === BATCH_MAX) {
          this.#waiting.add(record);
          continue;
        }
        if (entered.has(record) || cache.slotOf(record) !== 0) continue;
        const place = (record - block) / RECORD_BYTES;
        const wasExecuted = (at: number): boolean =>
          everything || cache.isDecoded(block + at * RECORD_BYTES);
        const region = findRegion(decoder, words, wasExecuted, place, translation.regionMax);
        if (region.blocks.length === 0) continue;
        for (const { isEntry, insns } of region.blocks) {
          if (isEntry) entered.add(block + insns[0]!.at * RECORD_BYTES);
        }
        batch.push({ region, block });
      }
    }
    if (batch.length > 0) this.#install(batch);
    const isMuch = this.stats.instructions > FIRST_INSTRUCTIONS;
    if (isMuch && translation.hotAfter === undefined) cache.countFrom(0);
  }

  /**
   * Regions that share a function: those that branch by address, and got hot together, which are
   * likely to call each other.
   */
  #groups(batch: readonly Found[]): Found[][] {
    const { regionMax = REGION_MAX } = this.#host.translation;
    const groups: Found[][] = [];
    /** Of those with FP and those without: the one that may still grow. */
    const open = new Map<boolean, { readonly group: Found[]; room: number }>();
    for (const found of batch) {
      const { region } = found;
      if (!leavesByAddress(region)) {
        groups.push([found]);
        continue;
      }
      const last = open.get(needsFp(region));
      if (last !== undefined && last.room >= region.instructions) {
        last.group.push(found);
        last.room -= region.instructions;
        continue;
      }
      const group = [found];
      groups.push(group);
      open.set(needsFp(region), { group, room: regionMax - region.instructions });
    }
    return groups;
  }

  #takeWaiting(): Map<number, number[]> {
    const byBlock = new Map<number, number[]>();
    for (const record of this.#waiting) {
      const block = this.#host.cache.liveBlockOf(record);
      if (block === 0) continue;
      const records = byBlock.get(block);
      if (records === undefined) byBlock.set(block, [record]);
      else records.push(record);
    }
    this.#waiting.clear();
    return byBlock;
  }

  #install(batch: readonly Found[]): void {
    const { env, table, slots } = this.#host;
    const linker = new Tier1Linker();
    const functions = this.#groups(batch).map((regions): Translated => {
      const slot = this.#free.pop() ?? ++this.#slots;
      const code = regions.map(({ region }) => region);
      return { regions, slot, fn: new RegionWriter(linker, code, slot).write() };
    });
    const builder = new ModuleBuilder(ANY_MEMORY);
    linker.importInto(builder);
    for (const [n, { fn }] of functions.entries()) {
      const index = builder.declare(FUNCTION_SIGNATURE);
      builder.define(index, fn.locals, fn.code);
      builder.exportFunction(`r${n}`, index);
    }
    const bytes = builder.build() as Uint8Array<ArrayBuffer>;
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env });
    this.stats.modules++;
    this.stats.bytes += bytes.length;
    for (const [n, { regions, slot, fn }] of functions.entries()) {
      const place = slots + slot - 1;
      if (place >= table.length) table.grow(Math.max(64, table.length >> 1));
      table.set(place, instance.exports[`r${n}`]);
      this.stats.functions++;
      this.#nameAll(regions, slot, fn.labels);
    }
  }

  /** Lets the records of all entries name their function. */
  #nameAll(regions: readonly Found[], slot: number, labels: readonly number[]): void {
    let n = 0;
    for (const { region, block } of regions) {
      this.stats.regions++;
      this.stats.instructions += region.instructions;
      this.#live += region.instructions;
      for (const { isEntry, insns } of region.blocks) {
        const record = block + insns[0]!.at * RECORD_BYTES;
        const isFree = this.#host.cache.slotOf(record) === 0;
        if (isEntry && isFree) this.#name(block, record, slot, labels[n]!);
        n++;
      }
    }
  }

  #name(block: number, record: number, slot: number, label: number): void {
    this.#host.cache.setSlot(record, slot, label);
    this.#users.set(slot, (this.#users.get(slot) ?? 0) + 1);
    const named = this.#bySlot.get(block);
    if (named === undefined) this.#bySlot.set(block, [{ slot, record }]);
    else named.push({ slot, record });
  }

  /** The page of this block was dropped. */
  dropped(block: number): void {
    const named = this.#bySlot.get(block);
    if (named === undefined) return;
    this.#bySlot.delete(block);
    const { cache, table, slots } = this.#host;
    for (const { slot, record } of named) {
      cache.setSlot(record, 0);
      const left = this.#users.get(slot)! - 1;
      this.#users.set(slot, left);
      if (left > 0) continue;
      // Nobody is in the function any more when the slot gets its next one: that is between runs.
      this.#users.delete(slot);
      table.set(slots + slot - 1, null);
      this.#free.push(slot);
    }
  }

  /** All pages were dropped. */
  droppedAll(): void {
    for (const block of [...this.#bySlot.keys()]) this.dropped(block);
    this.#waiting.clear();
    this.#live = 0;
  }

  #evict(): void {
    this.stats.evictions++;
    const { cache } = this.#host;
    for (const block of [...this.#bySlot.keys()]) {
      this.dropped(block);
      cache.resetCounters(block);
    }
    this.#live = 0;
  }
}
