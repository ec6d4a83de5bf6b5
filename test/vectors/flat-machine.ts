// Owns: the smallest machine that a vector needs: one PE at EL0 over flat pages. Test process.
// Addresses are mapped where the vector says; everything else is a fault, and a fault is a failure.
// A store to a page of decoded code drops it, as the PE's MMU does.
import { CodeCache } from "../../src/machine/a64/code-cache.js";
import { A64Core, type CoreCode, type SystemResult } from "../../src/machine/a64/core.js";
import { newDecoder, tier0 } from "../../src/machine/a64/isa.js";
import { PeRegisters } from "../../src/machine/a64/pe/registers.js";
import {
  BOUNCE,
  EXCLUSIVE_VA,
  SLOT_SP,
  SLOW,
  TLB,
  TLB_ADDEND,
  TLB_BANK,
  TLB_ENTRIES,
  TLB_ENTRY_BYTES,
  TLB_PAGE_SHIFT,
  TLB_READ,
  TLB_WRITE,
  WINDOW_BYTES,
} from "../../src/machine/a64/window.js";
import { HostMemory } from "../../src/machine/host-memory.js";
import { SOON } from "../support/inline.js";

const PAGE = 2 ** TLB_PAGE_SHIFT;
const WINDOW = 0x10000;
const ARENA = { at: 0x80000, bytes: 0x80000 };
/** A page of guard bytes: code at every address that is not mapped. */
const ELSEWHERE = 0x60000;
/** Pages that a vector maps, one after the other. */
const PAGES = 0x100000;
const MEMORY_BYTES = 0x400000;
/** BRK #0: what a block ends with. */
export const END = 0xd4200000;
const SEV = 0xd503209f;
const SEVL = 0xd50320bf;
const ESB = 0xd503221f;
const GUARD = 0xa5;
const MASK_64 = 2n ** 64n - 1n;

let module: WebAssembly.Module | null = null;

export class FlatMachine {
  readonly u8: Uint8Array;
  readonly registers: PeRegisters;
  readonly #view: DataView;
  readonly #cache: CodeCache;
  readonly #core: A64Core;
  /** Host page of each mapped page of addresses. */
  readonly #mapped = new Map<number, number>();
  #bounced: { readonly va: number; readonly bytes: number } | null = null;
  /** What went wrong in the last run, or null. */
  problem: string | null = null;

  /** @param decoder what tier 1 takes instructions for; another one is a planted defect */
  constructor(translation: CoreCode["translation"] = null, decoder = newDecoder()) {
    const memory = new HostMemory(MEMORY_BYTES);
    memory.ensure(MEMORY_BYTES);
    this.u8 = memory.u8;
    this.registers = new PeRegisters(memory, WINDOW);
    this.#view = new DataView(memory.memory.buffer);
    const { bytes, handlers, slots } = tier0();
    module ??= new WebAssembly.Module(bytes);
    this.#cache = new CodeCache(memory, ARENA, newDecoder(), handlers);
    const soon = translation === null ? null : { hotAfter: SOON, ...translation };
    const code = { module, slots, decoder, translation: soon } as const;
    this.#core = new A64Core(memory, code, this.#cache, {
      fetchPage: (_, low, high) => this.#fetchPage(low, high),
      access: (_, low, high, flags) => this.#access(low, high, flags),
      commit: () => this.#commit(),
      system: (_, word, why) => this.#system(word, why),
    });
    this.#view.setUint32(WINDOW + TLB_BANK, WINDOW + TLB, true);
    this.u8.fill(0xff, WINDOW + TLB, WINDOW + WINDOW_BYTES);
    this.u8.fill(GUARD, ELSEWHERE, ELSEWHERE + PAGE);
  }

  /** Forgets every mapping and all code. */
  reset(): void {
    this.#mapped.clear();
    this.#cache.dropAll();
    this.#core.forgetJumps(WINDOW);
    this.#forgetTranslations();
    this.#view.setBigUint64(WINDOW + EXCLUSIVE_VA, MASK_64, true);
    this.problem = null;
  }

  #forgetTranslations(): void {
    this.u8.fill(0xff, WINDOW + TLB, WINDOW + TLB + TLB_ENTRIES * TLB_ENTRY_BYTES);
  }

  /** Maps the page of an address, filled with the guard. @returns host address of the page */
  map(va: number): number {
    const page = Math.floor(va / PAGE);
    const known = this.#mapped.get(page);
    if (known !== undefined) return known;
    const host = PAGES + this.#mapped.size * PAGE;
    this.#mapped.set(page, host);
    this.u8.fill(GUARD, host, host + PAGE);
    return host;
  }

  /** Host address of a mapped byte, or -1. */
  host(va: number): number {
    const page = this.#mapped.get(Math.floor(va / PAGE));
    return page === undefined ? -1 : page + (va % PAGE);
  }

  writeWord(va: number, word: number): void {
    this.map(va);
    this.#view.setUint32(this.host(va), word, true);
  }

  writeBytes(va: number, bytes: Uint8Array): void {
    for (const [i, byte] of bytes.entries()) this.u8[this.map(va + i) + ((va + i) % PAGE)] = byte;
  }

  readBytes(va: number, count: number): Uint8Array {
    return Uint8Array.from({ length: count }, (_, i) => this.u8[this.host(va + i)]!);
  }

  /** Translates the code at PC, as far as there is a tier 1. */
  translate(): void {
    this.#core.translateHere(WINDOW);
  }

  /** What was translated so far; null without tier 1. */
  get translated(): A64Core["translated"] {
    return this.#core.translated;
  }

  /** Runs at most `budget` instructions. @returns how many retired */
  run(budget: number): number {
    return this.#core.run(WINDOW, budget);
  }

  // ── state ───────────────────────────────────────────────────────────────────────────────────

  get sp(): bigint {
    return this.registers.u64(SLOT_SP);
  }
  set sp(value: bigint) {
    this.registers.setU64(SLOT_SP, value);
  }
  get pc(): bigint {
    return this.registers.pc;
  }
  set pc(value: bigint) {
    this.registers.pc = value;
  }
  x(n: number): bigint {
    return this.registers.x(n);
  }
  setX(n: number, value: bigint): void {
    this.registers.setX(n, value);
  }

  // ── hooks ───────────────────────────────────────────────────────────────────────────────────

  #fail(problem: string): void {
    this.problem ??= problem;
  }

  #fetchPage(low: number, high: number): number {
    const va = (high >>> 0) * 2 ** 32 + (low >>> 0);
    // A branch may go anywhere; what lies there is UNDEFINED, should it be executed.
    const page = this.#mapped.get(Math.floor(va / PAGE)) ?? ELSEWHERE;
    // From now on a store to it must be seen.
    if (!this.#cache.has(page)) this.#forgetTranslations();
    return page;
  }

  #access(low: number, high: number, flags: number): number {
    const isAttempt = (flags & SLOW.attempt) !== 0;
    const bytes = flags & SLOW.bytes;
    const va = (high >>> 0) * 2 ** 32 + (low >>> 0);
    if (bytes === 0) return this.#faults(`misaligned SP 0x${va.toString(16)}`);
    const [first, last] = [this.host(va), this.host(va + bytes - 1)];
    const name = (flags & SLOW.write) !== 0 ? "store to" : "load from";
    if (isAttempt && (first < 0 || last < 0)) return 0;
    if (first < 0 || last < 0) return this.#faults(`${name} 0x${va.toString(16)}`);
    const element = 1 << ((flags >>> 12) & 7); // tidy: SLOW_ELEMENT_SHIFT
    if ((flags & SLOW.aligned) !== 0 && va % element !== 0) {
      return isAttempt ? 0 : this.#faults(`unaligned ${name} 0x${va.toString(16)}`);
    }
    const isWrite = (flags & SLOW.write) !== 0;
    const crosses = Math.floor(va / PAGE) !== Math.floor((va + bytes - 1) / PAGE);
    if (crosses && isAttempt) return 0;
    if (isWrite) for (const host of crosses ? [first, last] : [first]) this.#dropCode(host);
    if (crosses) {
      const at = WINDOW + BOUNCE;
      for (let i = 0; i < bytes; i++) this.u8[at + i] = this.u8[this.host(va + i)]!;
      this.#bounced = isWrite ? { va, bytes } : null;
      return at;
    }
    this.#fill(va, first, isWrite);
    return first;
  }

  #faults(problem: string): 0 {
    this.#fail(problem);
    return 0;
  }

  #dropCode(host: number): void {
    if (this.#cache.drop(host - (host % PAGE))) this.#core.forgetJumps(WINDOW);
  }

  #fill(va: number, host: number, isWrite: boolean): void {
    const page = Math.floor(va / PAGE);
    const hash = (page ^ Math.floor(page / TLB_ENTRIES)) & (TLB_ENTRIES - 1);
    const entry = WINDOW + TLB + hash * TLB_ENTRY_BYTES;
    const known = this.#view.getBigUint64(entry + TLB_READ, true) === BigInt(page);
    this.#view.setBigUint64(entry + TLB_READ, BigInt(page), true);
    const write = isWrite ? BigInt(page) : MASK_64;
    if (isWrite || !known) this.#view.setBigUint64(entry + TLB_WRITE, write, true);
    this.#view.setInt32(entry + TLB_ADDEND, host - va, true);
  }

  #commit(): void {
    const { va, bytes } = this.#bounced!;
    for (let i = 0; i < bytes; i++) this.u8[this.host(va + i)] = this.u8[WINDOW + BOUNCE + i]!;
  }

  #system(word: number, why: number): SystemResult {
    // Cache maintenance (SYS with CRn 7) changes nothing that a vector sees.
    if (why === 0 && (word & 0xfff8_f000) >>> 0 === 0xd508_7000) return "next";
    // SEV and SEVL tell other PEs, ESB waits for SErrors, and there are none.
    if (word === SEV || word === SEVL || word === ESB) return "next";
    if (word !== END) this.#fail(why === 1 ? "UNDEFINED" : `system side was asked (${why})`);
    return "leave";
  }
}
