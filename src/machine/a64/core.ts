// Owns: running A64 code of one VM: tier 0's instance, the window's run state, and the way back to
// TypeScript for what is slow. VM thread.
import type { HostMemory } from "../host-memory.js";
import type { CodeCache } from "./code-cache.js";
import {
  BUDGET,
  CODE_BASE,
  CODE_VA,
  EXIT,
  EXIT_REASON,
  FETCH_TAG,
  JUMP_CACHE,
  JUMP_ENTRIES,
  JUMP_ENTRY_BYTES,
  PC,
  RECORD,
  RECORD_BYTES,
  RECORD_WORD,
  REFUND,
  TLB_PAGE_SHIFT,
} from "./window.js";

const INSTRUCTION_BYTES = 4;

/** What the PE's system side answers. A 0 leaves the run; PC then says where to go on. */
export interface CoreHooks {
  /**
   * Translates a fetch.
   * @returns host address of the page of code, or -1 after an abort was taken
   */
  fetchPage(cpu: number, vaLow: number, vaHigh: number): number;
  /**
   * An access that the TLB doesn't know. PC is that of the instruction.
   * @param flags SLOW of window.ts
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
  run(cpu: number, record: number, budget: number): number;
}

export class A64Core {
  /** Its views change when it grows: a window may lie beyond what there was at the beginning. */
  readonly #memory: HostMemory;
  readonly #cache: CodeCache;
  readonly #hooks: CoreHooks;
  readonly #run: Exports["run"];
  /** Window of the run under way, what it was asked for, and what had retired before. */
  #running = 0;
  #asked = 0;
  #before = 0;

  constructor(host: HostMemory, module: WebAssembly.Module, cache: CodeCache, hooks: CoreHooks) {
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
      decode: (_: number, record: number) => this.#cache.decode(record),
    };
    const instance = new WebAssembly.Instance(module, { env });
    this.#run = (instance.exports as unknown as Exports).run;
  }

  /**
   * Runs from PC until `budget` instructions have retired or a hook leaves.
   * @returns instructions retired; PC is that of the next one
   */
  run(cpu: number, budget: number): number {
    let retired = 0;
    while (retired < budget) {
      const record = this.#fetch(
        cpu,
        this.#memory.u32[(cpu + PC) / 4]!,
        this.#memory.u32[(cpu + PC) / 4 + 1]!,
      );
      if (record === 0) return retired;
      this.#memory.u32[(cpu + REFUND) / 4] = 0;
      const asked = budget - retired;
      this.#running = cpu;
      this.#asked = asked;
      this.#before = retired;
      const left = this.#run(cpu, record, asked);
      retired += asked - left - this.#memory.u32[(cpu + REFUND) / 4]!;
      if (this.#memory.u32[(cpu + EXIT) / 4] === EXIT_REASON.left) return retired;
      this.#setPc(cpu, this.#memory.u32[(cpu + RECORD) / 4]!);
    }
    return retired;
  }

  /** Within a hook: instructions of the present run that retired before this one. */
  get retiredInRun(): number {
    const at = this.#running / 4;
    const done = this.#asked - this.#memory.u32[at + BUDGET / 4]! - 1;
    return this.#before + done - this.#memory.u32[at + REFUND / 4]!;
  }

  /** After TLB invalidation, a change of regime, or a change of code. */
  forgetJumps(cpu: number): void {
    const bytes = JUMP_ENTRIES * JUMP_ENTRY_BYTES;
    // No instruction has an odd address, so no tag of all ones.
    this.#memory.u8.fill(0xff, cpu + JUMP_CACHE, cpu + JUMP_CACHE + bytes);
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
    const at = cpu / 4;
    this.#memory.u32[at + PC / 4] = low;
    this.#memory.u32[at + PC / 4 + 1] = high;
    const page = this.#hooks.fetchPage(cpu, low, high);
    if (page < 0) return 0;
    let block = this.#cache.block(page);
    if (block === 0) {
      this.#cache.dropAll();
      this.forgetJumps(cpu);
      block = this.#cache.block(page);
    }
    const inPage = (low >>> 0) & (2 ** TLB_PAGE_SHIFT - 1);
    this.#memory.u32[at + CODE_VA / 4] = low - inPage;
    this.#memory.u32[at + CODE_VA / 4 + 1] = high;
    this.#memory.u32[at + CODE_BASE / 4] = block;
    const record = block + (inPage / INSTRUCTION_BYTES) * RECORD_BYTES;
    this.#remember(cpu, low, high, record, block);
    return record;
  }

  /** Fills the jump cache, as lib/jump.ts looks it up. */
  #remember(cpu: number, low: number, high: number, record: number, block: number): void {
    const page = (low >>> TLB_PAGE_SHIFT) | (high << (32 - TLB_PAGE_SHIFT));
    const index = ((low >>> 2) | (high << 30)) ^ page;
    const entry = cpu + JUMP_CACHE + (index & (JUMP_ENTRIES - 1)) * JUMP_ENTRY_BYTES;
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
