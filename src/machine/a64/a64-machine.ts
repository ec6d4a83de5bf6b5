// Owns: the A64 side of one VM: code cache, core, PEs. Made with the first a64 vCPU. VM thread.
import { alignUp } from "../../base/bits.js";
import type { Host } from "../host.js";
import { CodeCache } from "./code-cache.js";
import { A64Core, type CoreCode } from "./core.js";
import { newDecoder } from "./isa.js";
import { Pe, type PeHost } from "./pe/pe.js";
import { tier0Code } from "./tier0/code.js";
import {
  BLOCK_BYTES,
  STATE,
  SYSREGS,
  SYSREGS_BYTES,
  TLB_PAGE_SHIFT,
  WINDOW_BYTES,
} from "./window.js";

/** Pages of decoded code at most: the ceiling of code memory. */
const CODE_PAGES = 1024;
const ARENA_BYTES = CODE_PAGES * BLOCK_BYTES;

/** Host pages that a VM's first a64 vCPU needs, and each of them. */
export function a64Pages(pageSize: number): { readonly arena: number; readonly window: number } {
  return {
    arena: alignUp(ARENA_BYTES, pageSize) / pageSize,
    window: alignUp(WINDOW_BYTES, pageSize) / pageSize,
  };
}

export class A64Machine implements PeHost {
  readonly pes: Pe[] = [];
  virtualOffset = 0n;
  physicalOffset = 0n;
  readonly #host: Host;
  readonly #cache: CodeCache;
  readonly #core: A64Core;
  readonly #counter: (instructions: number) => bigint;
  /** The PE that was asked for last. */
  #last: Pe | null = null;
  /** Retired in the present slice before the run under way; the engine keeps it. */
  retiredBefore = 0;
  #isRunning = false;
  /** By the window's host address. */
  readonly #byWindow = new Map<number, Pe>();

  /**
   * @param arenaPa host address of as many pages as a64Pages() says
   * @param counter ticks after so many instructions of the run under way
   * @param translation when hot code goes to tier 1; null for never
   */
  constructor(
    host: Host,
    arenaPa: number,
    counter: (instructions: number) => bigint,
    translation: CoreCode["translation"] = {},
  ) {
    this.#host = host;
    this.#counter = counter;
    const { module, handlers, slots } = tier0Code();
    host.codeWatcher = (pa, count) => this.#written(pa, count);
    const arena = { at: arenaPa, bytes: ARENA_BYTES };
    host.memory.caches.push(arena);
    this.#cache = new CodeCache(host.memory, arena, newDecoder(), handlers);
    const code = { module, slots, decoder: newDecoder(), translation } as const;
    this.#core = new A64Core(host.memory, code, this.#cache, {
      fetchPage: (window, low, high) => this.#pe(window).mmu.fetchPage(low, high),
      access: (window, low, high, flags) => this.#pe(window).mmu.access(low, high, flags),
      commit: (window) => this.#pe(window).mmu.commit(),
      system: (window, word, why) => this.#pe(window).system(word, why),
    });
  }

  #pe(window: number): Pe {
    if (this.#last?.window !== window) this.#last = this.#byWindow.get(window)!;
    return this.#last;
  }

  /** @param windowPa host address of as many pages as a64Pages() says */
  addPe(windowPa: number): Pe {
    const { caches } = this.#host.memory;
    const kept = [...STATE, [SYSREGS, SYSREGS + SYSREGS_BYTES] as const];
    for (const [i, [, to]] of kept.entries()) {
      const next = kept[i + 1]?.[0] ?? WINDOW_BYTES;
      caches.push({ at: windowPa + to, bytes: next - to });
    }
    const pe = new Pe(this.#host.memory, windowPa, this.#cache, this);
    this.pes.push(pe);
    this.#byWindow.set(windowPa, pe);
    this.forgetJumps(windowPa);
    return pe;
  }

  counter(): bigint {
    return this.#counter(this.retiredBefore + this.retiredInRun);
  }

  get retiredInRun(): number {
    return this.#isRunning ? this.#core.retiredInRun : 0;
  }

  /** What was translated; null without tier 1. */
  get translated(): A64Core["translated"] {
    return this.#core.translated;
  }

  forgetJumps(window: number): void {
    this.#core.forgetJumps(window);
  }

  forgetJumpsTo(window: number, vaLow: number, vaHigh: number): void {
    this.#core.forgetJumpsTo(window, vaLow, vaHigh);
  }

  /** After the memory was restored: what is cached in it is gone. */
  forgetCode(): void {
    this.#cache.dropAll();
  }

  /** Runs one PE. @returns instructions retired; pe.stop says what stopped it, or null */
  run(pe: Pe, budget: number): number {
    this.#isRunning = true;
    const retired = this.#core.run(pe.window, budget);
    this.#isRunning = false;
    return retired;
  }

  /** Somebody else wrote to these bytes: code in them is decoded anew. */
  #written(pa: number, bytes: number): void {
    const page = 2 ** TLB_PAGE_SHIFT;
    let dropped = false;
    for (let at = pa - (pa % page); at < pa + bytes; at += page) {
      dropped = this.#cache.drop(at) || dropped;
    }
    if (!dropped) return;
    for (const pe of this.pes) this.forgetJumps(pe.window);
  }
}
