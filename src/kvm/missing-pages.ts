// Owns: pages of a moved VM that have not come yet, and who waits for them (post-copy). VM thread.
//
//   stage-2 fault ─ absent ─▶ asked for, once ─▶ the vCPU waits ─▶ page here ─▶ it tries again
//   a command that only reads or writes memory ─▶ its context waits, and begins again
//   KVM's own accesses, a device's ─▶ the thread stands still until the page is here
// @source Linux userfaultfd (missing pages), QEMU post-copy, by behaviour; DESIGN 14
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { MemoryObject } from "./address-space.js";
import { type Op, Waitable } from "./sched/scheduler.js";
import type { Vcpu } from "./vcpu.js";

/** Where pages come from. */
export interface PageSource {
  /** Of each memory object, one bit a page; set once its bytes are in place. */
  readonly present: ReadonlyMap<number, Int32Array>;
  /** @returns false: it can't take the request now, ask again */
  ask(object: number, page: number): boolean;
  /** Brings a page at once, where the thread that would bring it is this one; null: another's. */
  readonly fetch: ((object: number, page: number) => void) | null;
}

export interface MissingPagesView {
  /** Pages that somebody waited for. */
  readonly demanded: number;
  /** Time that vCPUs waited for pages, together. */
  readonly waitedMs: number;
}

/** To whoever can begin again once a page is here. */
class PageAbsent extends Error {
  override readonly name = "PageAbsent";
}

interface Block {
  readonly object: MemoryObject;
  readonly words: Int32Array;
}

/** Bits of a word of presence. */
const WORD = 32;
/** The thread looks up so often while it stands still. */
const SLICE_MS = 100;

export class MissingPages {
  readonly #source: PageSource;
  readonly #pageSize: number;
  readonly #clock: Clock;
  readonly #blocks: readonly Block[];
  /** By physical address, asked for and not here. */
  readonly #asked = new Set<number>();
  readonly #waiting = new Map<Vcpu, { readonly pa: number; readonly sinceMs: number }>();
  readonly #arrived = new Waitable("page");
  /** What runs now begins again when a page is absent. */
  #mayBeginAgain = false;
  #demanded = 0;
  #waitedMs = 0;

  constructor(
    objects: readonly MemoryObject[],
    source: PageSource,
    pageSize: number,
    clock: Clock,
  ) {
    this.#source = source;
    this.#pageSize = pageSize;
    this.#clock = clock;
    this.#blocks = objects.flatMap((object) => {
      const words = source.present.get(object.id);
      return words === undefined ? [] : [{ object, words }];
    });
  }

  get view(): MissingPagesView {
    return { demanded: this.#demanded, waitedMs: this.#waitedMs };
  }

  #blockOf(pa: number): Block | undefined {
    return this.#blocks.find(({ object }) => pa >= object.pa && pa < object.pa + object.bytes);
  }

  #isHere({ object, words }: Block, pa: number): boolean {
    const page = Math.floor((pa - object.pa) / this.#pageSize);
    return ((Atomics.load(words, Math.floor(page / WORD)) >>> (page % WORD)) & 1) === 1;
  }

  /** Whether the page of a physical address hasn't come. */
  lacks(pa: number): boolean {
    const block = this.#blockOf(pa);
    return block !== undefined && !this.#isHere(block, pa);
  }

  /** Once, as long as the request is taken. */
  #ask({ object }: Block, pa: number): void {
    const page = Math.floor((pa - object.pa) / this.#pageSize);
    const key = object.pa + page * this.#pageSize;
    if (this.#asked.has(key) || !this.#source.ask(object.id, page)) return;
    this.#asked.add(key);
    this.#demanded += 1;
  }

  // ── vCPUs ───────────────────────────────────────────────────────────────────────────────────

  /** The vCPU's access found the page absent. */
  wait(vcpu: Vcpu, pa: number): void {
    this.#waiting.set(vcpu, { pa, sinceMs: this.#clock.monotonicMs() });
  }

  /** @returns whether the vCPU may not enter the guest yet; it is woken when pages have come */
  holds(vcpu: Vcpu): boolean {
    const wait = this.#waiting.get(vcpu);
    if (wait === undefined) return false;
    const block = this.#blockOf(wait.pa);
    if (block !== undefined && !this.#isHere(block, wait.pa)) {
      this.#ask(block, wait.pa);
      return true;
    }
    this.leave(vcpu);
    return false;
  }

  /** The vCPU goes on, or out of KVM_RUN. */
  leave(vcpu: Vcpu): void {
    const wait = this.#waiting.get(vcpu);
    if (wait === undefined) return;
    this.#waiting.delete(vcpu);
    this.#waitedMs += this.#clock.monotonicMs() - wait.sinceMs;
  }

  /** Pages have come: whoever waits looks again. */
  arrived(): void {
    for (const pa of [...this.#asked]) if (!this.lacks(pa)) this.#asked.delete(pa);
    for (const vcpu of this.#waiting.keys()) vcpu.wait.wake();
    this.#arrived.wake();
  }

  // ── everybody else ──────────────────────────────────────────────────────────────────────────

  /**
   * Before bytes of a physical range are touched by anybody but a guest: they are here when it
   * returns.
   * @throws PageAbsent to what begins again
   */
  require(pa: number, length: number): void {
    const block = this.#blockOf(pa);
    if (block === undefined) return;
    const first = pa - ((pa - block.object.pa) % this.#pageSize);
    for (let at = first; at < pa + length; at += this.#pageSize) {
      if (!this.#isHere(block, at)) this.#bring(block, at);
    }
  }

  #bring(block: Block, pa: number): void {
    const { object, words } = block;
    if (this.#mayBeginAgain) {
      this.#ask(block, pa);
      throw new PageAbsent();
    }
    // Its sequences come by commands, which this thread would never take in.
    assert(object.backing === "ram", "only memory with bytes is waited for at once");
    const page = Math.floor((pa - object.pa) / this.#pageSize);
    const sinceMs = this.#clock.monotonicMs();
    if (this.#source.fetch !== null) this.#source.fetch(object.id, page);
    else {
      const at = Math.floor(page / WORD);
      // In slices, so that a thread that is to end does.
      while (!this.#isHere(block, pa)) {
        this.#ask(block, pa);
        const seen = Atomics.load(words, at);
        if (!this.#isHere(block, pa)) Atomics.wait(words, at, seen, SLICE_MS);
      }
    }
    this.#waitedMs += this.#clock.monotonicMs() - sinceMs;
  }

  /** Does what only touches memory, and may be done twice, once all of its pages are here. */
  *whenHere<T>(act: () => T): Op<T> {
    for (;;) {
      const done = this.attempt(act);
      if (done !== null) return done.value;
      yield this.#arrived;
    }
  }

  /** @returns null: a page is absent, and asked for */
  attempt<T>(act: () => T): { readonly value: T } | null {
    this.#mayBeginAgain = true;
    try {
      return { value: act() };
    } catch (error) {
      if (error instanceof PageAbsent) return null;
      throw error;
    } finally {
      this.#mayBeginAgain = false;
    }
  }
}
