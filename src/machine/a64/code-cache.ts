// Owns: decoded code: a block of records for each page of guest code. VM thread.
//
//   page of code ──▶ block: RECORDS_PER_PAGE records, each decoded when it is reached first, and
//                    one that leads to the next page
//
// The arena is a ceiling: when it is full the oldest pages are dropped; what is needed comes back.
import { assert } from "../../base/assert.js";
import type { HostMemory } from "../host-memory.js";
import type { Insn } from "./insn.js";
import type { Operand } from "./operand.js";
import type { Decoder } from "./pattern.js";
import { type HandlerKey, handlerKey } from "./tier0/handlers.js";
import {
  BLOCK_BYTES,
  COUNTERS,
  HANDLER,
  LABELS,
  RECORD_BYTES,
  RECORD_IMM32,
  RECORD_IMM64,
  RECORD_REGS,
  RECORD_REGS_MAX,
  RECORD_SLOT,
  RECORD_WORD,
  RECORDS_PER_PAGE,
  TLB_PAGE_SHIFT,
} from "./window.js";

export interface Arena {
  /** Host address of the first byte; a multiple of 8. */
  readonly at: number;
  readonly bytes: number;
}

/** Records of words that were decoded lately: most code is made of few different words. */
const RECENT = 32_768;
const RECENT_SHIFT = 17;
/** Spreads words, whose registers are in their low bits, over the table. */
const SPREAD = 0x9e37_79b1;
const RECORD_WORDS = RECORD_BYTES / 4;
const SLOT_HALF = 0xffff_0000;

export class CodeCache {
  readonly #memory: HostMemory;
  /** Of the arena; the memory may grow, and the arena stays where it is. */
  readonly #view: DataView;
  readonly #arena: Arena;
  readonly #decoder: Decoder<Insn>;
  readonly #handlers: ReadonlyMap<HandlerKey, number>;
  /** Block of each page of code, by the page's host address. */
  readonly #blocks = new Map<number, number>();
  /** 1 for each page of memory that has a block. */
  #hasCode: Uint8Array;
  /** Host address of the code that a block was made from. */
  readonly #pages: number[] = [];
  /** Told when a block's records, or everybody's, are no longer of use. */
  onDrop: ((block: number) => void) | null = null;
  onDropAll: (() => void) | null = null;
  /** What jumps to a record are counted from: HOT less what makes it hot. */
  firstCount = 0;
  /** Blocks that may be used again. */
  readonly #free: number[] = [];
  /** RECENT records as they were when they had been decoded; a handler of 0 is no record. */
  readonly #recent = new Uint32Array(RECENT * RECORD_WORDS);

  constructor(
    memory: HostMemory,
    arena: Arena,
    decoder: Decoder<Insn>,
    handlers: ReadonlyMap<HandlerKey, number>,
  ) {
    assert(arena.bytes >= BLOCK_BYTES, "the arena holds a block");
    assert(arena.at + arena.bytes <= memory.bytes, "the arena lies within memory");
    this.#memory = memory;
    this.#view = new DataView(memory.memory.buffer);
    this.#arena = arena;
    this.#decoder = decoder;
    this.#handlers = handlers;
    this.#hasCode = new Uint8Array(memory.bytes >>> TLB_PAGE_SHIFT);
  }

  /** @returns whether code of the page at this host address is decoded */
  has(page: number): boolean {
    return this.#blocks.has(page);
  }

  /**
   * @param page host address of a page of code, TLB_PAGE_SHIFT aligned
   * @returns host address of its first record, or 0 when everything must be dropped first
   */
  block(page: number): number {
    const known = this.#blocks.get(page);
    if (known !== undefined) return this.#blockAt(known);
    const index = this.#free.pop() ?? this.#pages.length;
    if ((index + 1) * BLOCK_BYTES > this.#arena.bytes) return 0;
    const at = this.#blockAt(index);
    this.#memory.u8.fill(0, at, at + BLOCK_BYTES);
    this.resetCounters(at);
    this.#view.setInt32(at + RECORDS_PER_PAGE * RECORD_BYTES, HANDLER.pageEnd, true);
    this.#blocks.set(page, index);
    this.#mark(page);
    this.#pages[index] = page;
    return at;
  }

  /** @returns first record of the block that a record is in, or 0 when that was dropped */
  liveBlockOf(record: number): number {
    const index = this.#indexOf(record);
    const page = this.#pages[index];
    return page !== undefined && this.#blocks.get(page) === index ? this.#blockAt(index) : 0;
  }

  /** Instructions of the page that a block was made from. */
  words(block: number): Uint32Array {
    const at = this.#pages[this.#indexOf(block)]! / 4;
    return this.#memory.u32.subarray(at, at + RECORDS_PER_PAGE);
  }

  /** Whether tier 0 has been at a record. */
  isDecoded(record: number): boolean {
    return this.#view.getUint16(record, true) !== HANDLER.decode;
  }

  /** A record's slot in tier 1, 0 for none. */
  slotOf(record: number): number {
    return this.#view.getUint16(record + RECORD_SLOT, true);
  }

  /** @param label of the block that the slot's function begins at for this record */
  setSlot(record: number, slot: number, label = 0): void {
    this.#view.setUint16(record + RECORD_SLOT, slot, true);
    const block = this.#blockAt(this.#indexOf(record));
    const place = (record - block) / RECORD_BYTES;
    this.#view.setUint16(block + LABELS + 2 * place, label, true);
  }

  /** All jumps count anew, from here. */
  countFrom(first: number): void {
    if (this.firstCount === first) return;
    this.firstCount = first;
    for (const index of this.#blocks.values()) this.resetCounters(this.#blockAt(index));
  }

  /** The jumps to a block's records count from the start again. */
  resetCounters(block: number): void {
    const { u32 } = this.#memory;
    const both = this.firstCount | (this.firstCount << 16);
    u32.fill(both, (block + COUNTERS) / 4, (block + LABELS) / 4);
  }

  #indexOf(record: number): number {
    return Math.floor((record - this.#arena.at) / BLOCK_BYTES);
  }

  #blockAt(index: number): number {
    return this.#arena.at + index * BLOCK_BYTES;
  }

  /** Whether a store to this host address has to look for code: mostly not, and quickly. */
  mayHaveCode(host: number): boolean {
    return this.#hasCode[host >>> TLB_PAGE_SHIFT] === 1;
  }

  /** Forgets a page's records; whoever holds addresses of them must look again. */
  drop(page: number): boolean {
    const index = this.#blocks.get(page);
    if (index === undefined) return false;
    this.#blocks.delete(page);
    this.#hasCode[page >>> TLB_PAGE_SHIFT] = 0;
    this.#free.push(index);
    this.onDrop?.(this.#blockAt(index));
    return true;
  }

  /** The memory may have grown. */
  #mark(page: number): void {
    const at = page >>> TLB_PAGE_SHIFT;
    if (at >= this.#hasCode.length) {
      const larger = new Uint8Array(this.#memory.bytes >>> TLB_PAGE_SHIFT);
      larger.set(this.#hasCode);
      this.#hasCode = larger;
    }
    this.#hasCode[at] = 1;
  }

  /** Makes room: the pages that were reached first go, a quarter of all. */
  dropOldest(): void {
    let left = Math.ceil(this.#blocks.size / 4);
    for (const page of this.#blocks.keys()) {
      if (left-- === 0) return;
      this.drop(page);
    }
  }

  dropAll(): void {
    this.#hasCode.fill(0);
    this.#blocks.clear();
    this.#pages.length = 0;
    this.#free.length = 0;
    this.onDropAll?.();
  }

  /** Decodes one record in place. */
  decode(record: number): void {
    const index = this.#indexOf(record);
    const place = (record - this.#blockAt(index)) / RECORD_BYTES;
    const word = this.#memory.u32[this.#pages[index]! / 4 + place]!;
    const to = record / 4;
    const from = (Math.imul(word, SPREAD) >>> RECENT_SHIFT) * RECORD_WORDS;
    const recent = this.#recent;
    const { u32 } = this.#memory;
    // A slot of tier 1's, in the upper half of the first word, is the record's and not the word's.
    if (recent[from] !== 0 && recent[from + RECORD_WORD / 4] === word) {
      u32[to] = (u32[to]! & SLOT_HALF) | recent[from]!;
      for (let i = 1; i < RECORD_WORDS; i++) u32[to + i] = recent[from + i]!;
      return;
    }
    this.#decode(record, word);
    recent[from] = u32[to]! & ~SLOT_HALF;
    for (let i = 1; i < RECORD_WORDS; i++) recent[from + i] = u32[to + i]!;
  }

  #decode(record: number, word: number): void {
    const view = this.#view;
    view.setUint32(record + RECORD_WORD, word, true);
    const found = this.#decoder.find(word);
    if (found === null) {
      view.setUint16(record, HANDLER.undefined, true);
      return;
    }
    const { row, fields } = found;
    let regs = 0;
    for (const operand of Object.values(row.spec.ops(fields)) as Operand[]) {
      if (operand.kind === "imm64") view.setBigInt64(record + RECORD_IMM64, operand.value, true);
      else if (operand.kind === "imm32") view.setInt32(record + RECORD_IMM32, operand.value, true);
      else view.setUint16(record + RECORD_REGS + 2 * regs++, operand.offset, true);
    }
    assert(regs <= RECORD_REGS_MAX, "a record has room for its operands");
    const handler = this.#handlers.get(handlerKey(row, fields));
    assert(handler !== undefined, "every decodable word has a handler");
    view.setUint16(record, handler, true);
  }
}
