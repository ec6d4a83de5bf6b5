// Owns: pages of harvested ring entries cleaned by HACDBS. VM thread.
// One entry for each page that was taken back; what hardware doesn't do, software does at once, so
// nothing is in flight between two arrays.
// @source dirty-tracking.md 7.6
import type { Memslot } from "../memslots.js";
import type { Op } from "../sched/scheduler.js";
import type { Vm } from "../vm.js";
import type { HardwareClear } from "./clear.js";
import type { EntryArray } from "./entry-array.js";
import type { Hacdbs } from "./hacdbs.js";
import { type DirtyWords, firstBit } from "./words.js";

const LAST_LEVEL = 3;

export class RingClear {
  readonly #vm: Vm;
  readonly #log: DirtyWords;
  readonly #hacdbs: Hacdbs;
  readonly #hardware: HardwareClear;
  readonly #array: EntryArray;
  /** Slot whose pages the array holds. */
  #slot: Memslot | null = null;
  #hasFailed = false;

  constructor(
    vm: Vm,
    log: DirtyWords & { readonly hardware: HardwareClear },
    hacdbs: Hacdbs,
    array: EntryArray,
  ) {
    this.#vm = vm;
    this.#log = log;
    this.#hacdbs = hacdbs;
    this.#hardware = log.hardware;
    this.#array = array;
  }

  /** Takes pages of a slot: bit n is page + n. */
  *add(slot: Memslot, page: number, lo: number, hi: number): Op<void> {
    if (this.#slot !== slot) yield* this.#batch();
    this.#slot = slot;
    let low = lo;
    let high = hi;
    while ((low | high) !== 0) {
      const bit = firstBit(low, high);
      if (bit < 32) low &= low - 1;
      else high &= high - 1;
      this.#array.add(slot.baseGfn + page + bit, page + bit, LAST_LEVEL);
      if (this.#array.isFull) yield* this.#batch();
    }
  }

  *finish(): Op<void> {
    try {
      yield* this.#batch();
    } finally {
      this.#hardware.free(this.#array);
    }
    if (this.#hasFailed) this.#vm.counters.values.clearFallbacksEagain++;
  }

  *#batch(): Op<void> {
    const array = this.#array;
    const slot = this.#slot;
    const { count } = array;
    if (slot === null || count === 0) return;
    const { mmuLock } = this.#vm;
    yield* mmuLock.writeLock();
    try {
      this.#hacdbs.inFlight += count;
      const result = yield* this.#hacdbs.batch(array);
      for (const index of result.refused) this.#bySoftware(slot, array.pages[index]!);
      for (let at = result.done; at < count; at++) this.#bySoftware(slot, array.pages[at]!);
      if (result.done < count) this.#hasFailed = true;
    } finally {
      this.#hacdbs.inFlight -= count;
      array.count = 0;
      mmuLock.writeUnlock();
    }
  }

  #bySoftware(slot: Memslot, page: number): void {
    this.#log.protectMasked(slot, page, 1, 0);
  }
}
