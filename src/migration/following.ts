// Owns: post-copy at the target: pages that follow a VM which may run already, until all are here.
// HTTP thread, or inline.
import type { Clock } from "../base/clock.js";
import type { MemoryMap } from "../runtime/index.js";
import type { Followed } from "./arriving.js";
import { Once } from "./control.js";
import { bytesOf } from "./dirty-pages.js";
import type { Demanding, Incoming, MovingVm } from "./ports.js";
import { pause, retry } from "./retry.js";

/** Whether everything is here is looked at so often. */
const LOOK_MS = 10;
/** A wire that brings nothing for so long is broken. */
const SILENT_MS = 1_000;
const WORD = 32;
const ALL = -1;

interface Parts {
  readonly vm: MovingVm;
  readonly incoming: Incoming & Demanding;
  readonly memory: MemoryMap;
  readonly clock: Clock;
}

export class Following {
  readonly #parts: Parts;
  readonly #ended = new Once<true>();
  /** Every page of these objects is here. */
  readonly #whole = new Set<number>();
  /** Of the object that is looked at: words before it are whole. Pages stay once they have come. */
  #word = 0;
  #bytes = 0;
  #movedMs: number;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#movedMs = parts.clock.monotonicMs();
  }

  /** The VM knows that nothing is missing any more. */
  get isOver(): boolean {
    return this.#ended.value !== null;
  }

  /** From here on the VM's vCPUs, and its loading, wait for pages. */
  async begin(): Promise<void> {
    const { vm, incoming } = this.#parts;
    const { present, requests, fetch } = incoming;
    const inline = fetch === undefined ? {} : { fetch };
    await vm.call("awaitPages", { present, requests, ...inline });
    void this.#wake();
  }

  /** News of the data plane go on to the VM's thread. */
  async #wake(): Promise<void> {
    const { vm, incoming, clock } = this.#parts;
    while (!this.isOver) {
      await Promise.race([incoming.arrival(), this.#ended.happened]);
      if (this.isOver) return;
      try {
        await vm.call("pagesArrived", {});
      } catch {
        // It is busy, or gone: then the session ends.
        await pause(clock, LOOK_MS);
      }
    }
  }

  /** After a while: whether all is here, and if not, whether anything still comes. */
  async look(): Promise<"all-here" | "moving" | "silent"> {
    const { clock, incoming } = this.#parts;
    await pause(clock, LOOK_MS);
    if (this.isWhole()) return "all-here";
    const { bytes } = incoming.received();
    const now = clock.monotonicMs();
    if (bytes !== this.#bytes) this.#movedMs = now;
    this.#bytes = bytes;
    if (now - this.#movedMs < SILENT_MS) return "moving";
    this.#movedMs = now;
    return "silent";
  }

  isWhole(): boolean {
    const { memory, incoming } = this.#parts;
    for (const { object, bytes, backing } of memory.blocks) {
      if (backing === "device" || this.#whole.has(object)) continue;
      const words = incoming.present.get(object);
      if (words === undefined || !this.#isHere(words, bytes / memory.pageSize)) return false;
      this.#whole.add(object);
      this.#word = 0;
    }
    return true;
  }

  #isHere(words: Int32Array, pages: number): boolean {
    const last = Math.floor(pages / WORD);
    while (this.#word < last) {
      if (Atomics.load(words, this.#word) !== ALL) return false;
      this.#word += 1;
    }
    const rest = 2 ** (pages % WORD) - 1;
    return rest === 0 || (Atomics.load(words, last) & rest) >>> 0 === rest;
  }

  /** All pages are here: the VM goes on as any other. @returns null: it is gone */
  async end(): Promise<Followed | null> {
    const { vm, memory, clock } = this.#parts;
    this.#ended.set(true);
    // A VM that is gone needs none.
    const tell = () => vm.call("allPagesHere", {});
    const view = await retry(clock, {}, tell).catch(() => null);
    if (view === null) return null;
    const { demanded: pagesRequested, waitedMs } = view.value;
    const pages = bytesOf(memory) / memory.pageSize;
    const pagesPushed = Math.max(0, pages - pagesRequested);
    return { pagesRequested, pagesPushed, vcpuWaitMs: Math.round(waitedMs) };
  }
}
