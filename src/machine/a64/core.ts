// Owns: running A64 code of one VM: tier 0's instance, the window's run state, and the way back to
// TypeScript for what is slow. VM thread.
import type { HostMemory } from "../host-memory.js";
import type { CodeCache } from "./code-cache.js";
import type { Insn } from "./insn.js";
import type { Decoder } from "./pattern.js";
import { Tier1, type Tier1Stats, type Translation } from "./tier1/tier1.js";
import {
  BUDGET,
  CODE_BASE,
  CODE_VA,
  EXIT,
  EXIT_REASON,
  FETCH_TAG,
  HOT,
  HOT_FIRST,
  JUMP_CACHE,
  JUMP_ENTRIES,
  JUMP_ENTRY_BYTES,
  PC,
  RECORD,
  RECORD_BYTES,
  RECORD_WORD,
  REFUND,
  SLOW,
  TLB_PAGE_SHIFT,
} from "./window.js";

const INSTRUCTION_BYTES = 4;
/** Pages whose code a PE fetched lately: its instruction TLB. */
const FETCH_PAGES = 512;
/** An address's page with the tag of its exception level, both halves, and the block. */
const FETCH_PAGE_WORDS = 3;

/** What the PE's system side answers. A 0 leaves the run; PC then says where to go on. */
export interface CoreHooks {
  /**
   * Translates a fetch.
   * @returns host address of the page of code, or -1 after an abort was taken
   */
  fetchPage(cpu: number, vaLow: number, vaHigh: number): number;
  /**
   * An access that the TLB doesn't know. PC is that of the instruction.
   * @param flags SLOW of window.ts; with `attempt` nothing happens when it isn't plain memory
   * @returns host address, BOUNCE of the window, or 0 after an abort or exit
   */
  access(cpu: number, vaLow: number, vaHigh: number, flags: number): number;
  /** The store that BOUNCE stood for was done. */
  commit(cpu: number): void;
  /**
   * An instruction of the system side; PC is its own.
   * @param why WHY of window.ts
   * @returns "next", "jump" when PC was set, "leave" when the run ends
   */
  system(cpu: number, word: number, why: number): SystemResult;
}
export type SystemResult = "next" | "jump" | "leave" | "leave-retired";

interface Exports {
  flags(cpu: number): number;
  readonly table: WebAssembly.Table;
  run(cpu: number, record: number, budget: number): number;
}

/** What a core is made of; tier0() and newDecoder() of isa.ts give it. */
export interface CoreCode {
  /** Tier 0. */
  readonly module: WebAssembly.Module;
  readonly slots: number;
  readonly decoder: Decoder<Insn>;
  /** How hot code is translated; null: never, tier 0 does everything. */
  readonly translation: Translation | null;
}

export class A64Core {
  /** Its views change when it grows: a window may lie beyond what there was at the beginning. */
  readonly #memory: HostMemory;
  readonly #cache: CodeCache;
  readonly #hooks: CoreHooks;
  readonly #run: Exports["run"];
  /** Writes the window's flags, wherever tier 1 left them. */
  readonly #flags: Exports["flags"];
  #tier1: Tier1 | null = null;
  /** Of all PEs, each of which begins by forgetting its jumps: pages that its jumps lead to. */
  readonly #jumpsTo = new Map<number, Set<number>>();
  /** Of all PEs, forgotten with their jumps. */
  readonly #pages = new Map<number, Int32Array>();
  /** Window of the run under way, what it was asked for, and what had retired before. */
  #running = 0;
  #asked = 0;
  #before = 0;

  constructor(host: HostMemory, code: CoreCode, cache: CodeCache, hooks: CoreHooks) {
    this.#memory = host;
    this.#cache = cache;
    this.#hooks = hooks;
    const env = {
      memory: host.memory,
      fetch: (cpu: number, low: number, high: number) => this.#fetch(cpu, low, high),
      slow: (cpu: number, low: number, high: number, flags: number) =>
        this.#slow(cpu, low, high, flags),
      commit: (cpu: number) => this.#hooks.commit(cpu),
      system: (cpu: number, record: number, why: number) => this.#system(cpu, record, why),
      hot: (_: number, record: number) => this.#tier1?.request(record),
      decode: (_: number, record: number) => this.#cache.decode(record),
    };
    const instance = new WebAssembly.Instance(code.module, { env });
    const exports = instance.exports as unknown as Exports;
    this.#run = exports.run;
    this.#flags = exports.flags;
    if (code.translation === null) return;
    cache.firstCount = HOT - Math.min(HOT, code.translation.hotAfter ?? HOT_FIRST);
    const attempt = (cpu: number, low: number, high: number, flags: number): number =>
      this.#hooks.access(cpu, low, high, flags | SLOW.attempt);
    this.#tier1 = new Tier1({
      translation: code.translation,
      cache,
      decoder: code.decoder,
      table: exports.table,
      slots: code.slots,
      env: { ...instance.exports, memory: host.memory, attempt },
    });
    const tier1 = this.#tier1;
    cache.onDrop = (block) => tier1.dropped(block);
    cache.onDropAll = () => tier1.droppedAll();
  }

  /**
   * Runs from PC until `budget` instructions have retired or a hook leaves.
   * @returns instructions retired; PC is that of the next one
   */
  run(cpu: number, budget: number): number {
    let retired = 0;
    while (retired < budget) {
      this.#begin(cpu, retired, budget);
      const record = this.#fetch(
        cpu,
        this.#memory.u32[(cpu + PC) / 4]!,
        this.#memory.u32[(cpu + PC) / 4 + 1]!,
      );
      if (record === 0) return retired;
      if (this.#tier1?.isWaiting === true) this.#tier1.translate();
      const asked = budget - retired;
      const left = this.#run(cpu, record, asked);
      this.#flags(cpu);
      retired += asked - left - this.#memory.u32[(cpu + REFUND) / 4]!;
      if (this.#memory.u32[(cpu + EXIT) / 4] === EXIT_REASON.left) return retired;
      this.#setPc(cpu, this.#memory.u32[(cpu + RECORD) / 4]!);
    }
    return retired;
  }

  /** Translates the code at PC now, hot or not: for tests, which can't wait. */
  translateHere(cpu: number): void {
    const at = (cpu + PC) / 4;
    const record = this.#fetch(cpu, this.#memory.u32[at]!, this.#memory.u32[at + 1]!);
    if (record === 0 || this.#tier1 === null) return;
    this.#tier1.request(record);
    this.#tier1.translate(true);
  }

  /** What was translated so far; null without tier 1. */
  get translated(): Tier1Stats | null {
    return this.#tier1?.stats ?? null;
  }

  /** So that an abort of the first fetch finds the right count. */
  #begin(cpu: number, retired: number, budget: number): void {
    this.#running = cpu;
    this.#before = retired;
    this.#asked = budget - retired;
    this.#memory.u32[(cpu + BUDGET) / 4] = this.#asked - 1;
    this.#memory.u32[(cpu + REFUND) / 4] = 0;
  }

  /** Within a hook: instructions of the present run that retired before this one. */
  get retiredInRun(): number {
    const at = this.#running / 4;
    const done = this.#asked - this.#memory.u32[at + BUDGET / 4]! - 1;
    return this.#before + done - this.#memory.u32[at + REFUND / 4]!;
  }

  /** After TLB invalidation, a change of regime, or a change of code. */
  forgetJumps(cpu: number): void {
    this.#jumpsTo.set(cpu, new Set());
    const pages = this.#pages.get(cpu);
    // A block of 0 is none.
    if (pages === undefined) this.#pages.set(cpu, new Int32Array(FETCH_PAGES * FETCH_PAGE_WORDS));
    else pages.fill(0);
    const bytes = JUMP_ENTRIES * JUMP_ENTRY_BYTES;
    // No instruction has an odd address, so no tag of all ones.
    this.#memory.u8.fill(0xff, cpu + JUMP_CACHE, cpu + JUMP_CACHE + bytes);
  }

  /** After a TLB invalidation by address: nothing to do where no jump leads there. */
  forgetJumpsTo(cpu: number, low: number, high: number): void {
    if (this.#jumpsTo.get(cpu)?.has(pageOf(low, high)) === true) this.forgetJumps(cpu);
  }

  /** PC from a record of the page in use. */
  #setPc(cpu: number, record: number): void {
    const at = cpu / 4;
    // Within a page, so the low word doesn't carry; the record past the last one may carry out.
    const low = this.#memory.u32[at + CODE_VA / 4]!;
    const past =
      ((record - this.#memory.u32[at + CODE_BASE / 4]!) / RECORD_BYTES) * INSTRUCTION_BYTES;
    const sum = low + past;
    this.#memory.u32[at + PC / 4] = sum;
    this.#memory.u32[at + PC / 4 + 1] =
      this.#memory.u32[at + CODE_VA / 4 + 1]! + (sum > 0xffff_ffff ? 1 : 0);
  }

  #refund(cpu: number): void {
    const at = (cpu + REFUND) / 4;
    this.#memory.u32[at] = this.#memory.u32[at]! + 1;
  }

  #fetch(cpu: number, low: number, high: number): number {
    const known = this.#recall(cpu, low, high);
    return known === 0 ? this.#look(cpu, low, high) : known;
  }

  /** A jump that is new, mostly into a page that isn't. */
  #look(cpu: number, low: number, high: number): number {
    const page = pageOf(low, high);
    const pages = this.#pages.get(cpu)!;
    const at = (page & (FETCH_PAGES - 1)) * FETCH_PAGE_WORDS;
    const inPage = low & (2 ** TLB_PAGE_SHIFT - 1);
    const tag = (low - inPage) | this.#memory.u32[(cpu + FETCH_TAG) / 4]!;
    const block = pages[at + 2]!;
    const isAligned = (low & (INSTRUCTION_BYTES - 1)) === 0;
    if (block !== 0 && isAligned && pages[at] === tag && pages[at + 1] === (high | 0)) {
      return this.#enter(cpu, low, high, block);
    }
    const record = this.#find(cpu, low, high);
    if (record === 0) return 0;
    pages[at] = tag;
    pages[at + 1] = this.#memory.u32[(cpu + CODE_VA) / 4 + 1]! | 0;
    pages[at + 2] = this.#memory.u32[(cpu + CODE_BASE) / 4]! | 0;
    return record;
  }

  /** @returns the record of an address, in a block that is its page's */
  #enter(cpu: number, low: number, high: number, block: number): number {
    const inPage = (low >>> 0) & (2 ** TLB_PAGE_SHIFT - 1);
    const at = cpu / 4;
    this.#memory.u32[at + CODE_VA / 4] = low - inPage;
    this.#memory.u32[at + CODE_VA / 4 + 1] = high;
    this.#memory.u32[at + CODE_BASE / 4] = block;
    const record = block + (inPage / INSTRUCTION_BYTES) * RECORD_BYTES;
    this.#remember(cpu, low, high, record, block);
    return record;
  }

  /** What the jump cache has, as lib/jump.ts asks it; after each exit the same place is wanted. */
  #recall(cpu: number, low: number, high: number): number {
    const { u32 } = this.#memory;
    const entry = jumpEntry(cpu, low, high) / 4;
    const tag = (low | u32[(cpu + FETCH_TAG) / 4]!) >>> 0;
    const isAligned = (low & (INSTRUCTION_BYTES - 1)) === 0;
    if (!isAligned || u32[entry] !== tag || u32[entry + 1] !== high >>> 0) return 0;
    const at = cpu / 4;
    u32[at + CODE_VA / 4] = low - (low & (2 ** TLB_PAGE_SHIFT - 1));
    u32[at + CODE_VA / 4 + 1] = high;
    u32[at + CODE_BASE / 4] = u32[entry + 3]!;
    return u32[entry + 2]!;
  }

  /** Translates the fetch and finds, or makes, the page's records. @returns 0 after an abort */
  #find(cpu: number, low: number, high: number): number {
    const at = cpu / 4;
    this.#memory.u32[at + PC / 4] = low;
    this.#memory.u32[at + PC / 4 + 1] = high;
    // An abort wants the flags.
    this.#flags(cpu);
    const page = this.#hooks.fetchPage(cpu, low, high);
    if (page < 0) return 0;
    // Without the tag of an address whose top byte is ignored.
    high = this.#memory.u32[at + PC / 4 + 1]!;
    let block = this.#cache.block(page);
    if (block === 0) {
      this.#cache.dropOldest();
      // Every PE's: its blocks are about to be other pages'.
      for (const window of this.#jumpsTo.keys()) this.forgetJumps(window);
      block = this.#cache.block(page);
    }
    return this.#enter(cpu, low, high, block);
  }

  /** Fills the jump cache, as lib/jump.ts looks it up. */
  #remember(cpu: number, low: number, high: number, record: number, block: number): void {
    this.#jumpsTo.get(cpu)?.add(pageOf(low, high));
    const entry = jumpEntry(cpu, low, high);
    this.#memory.u32[entry / 4] = low | this.#memory.u32[(cpu + FETCH_TAG) / 4]!;
    this.#memory.u32[entry / 4 + 1] = high;
    this.#memory.u32[entry / 4 + 2] = record;
    this.#memory.u32[entry / 4 + 3] = block;
  }

  #slow(cpu: number, low: number, high: number, flags: number): number {
    this.#setPc(cpu, this.#memory.u32[(cpu + RECORD) / 4]!);
    const host = this.#hooks.access(cpu, low, high, flags);
    if (host === 0) this.#refund(cpu);
    return host;
  }

  #system(cpu: number, record: number, why: number): number {
    this.#setPc(cpu, record);
    const word = this.#memory.u32[(record + RECORD_WORD) / 4]!;
    const result = this.#hooks.system(cpu, word, why);
    switch (result) {
      case "next":
        return record + RECORD_BYTES;
      case "jump":
        return this.#fetch(
          cpu,
          this.#memory.u32[(cpu + PC) / 4]!,
          this.#memory.u32[(cpu + PC) / 4 + 1]!,
        );
      case "leave":
        this.#refund(cpu);
        return 0;
      default:
        return 0;
    }
  }
}

/** Lower bits of the number of an address's page. */
function pageOf(low: number, high: number): number {
  return (low >>> TLB_PAGE_SHIFT) | (high << (32 - TLB_PAGE_SHIFT));
}

/** Place of an address in the jump cache. */
function jumpEntry(cpu: number, low: number, high: number): number {
  const page = pageOf(low, high);
  const index = ((low >>> 2) | (high << 30)) ^ page;
  return cpu + JUMP_CACHE + (index & (JUMP_ENTRIES - 1)) * JUMP_ENTRY_BYTES;
}
