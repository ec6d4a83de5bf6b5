// The receiving end of a migration in small: a copy of each page taken at its last acquisition.
// Once the client has acquired everything, the copies equal memory, or a page was never sent.

import type { HostMemory } from "../../../src/machine/host-memory.js";
import { UNBACKED_BASE } from "../../../src/machine/index.js";
import type { MemoryModel } from "../oracle/model.js";

export class Content {
  readonly #memory: HostMemory;
  readonly #model: MemoryModel;
  readonly #isOn: boolean;
  /** By slot: page offset → bytes. A slot that is not here can't be compared. */
  readonly #copies = new Map<number, Map<number, Uint8Array>>();

  /** Pages that had really changed when they were acquired. */
  changed = 0;

  constructor(memory: HostMemory, model: MemoryModel, isOn: boolean) {
    this.#memory = memory;
    this.#model = model;
    this.#isOn = isOn;
  }

  #page(slot: number, offset: number): Uint8Array | null {
    const { current } = this.#model.slot(slot);
    if (current === null || offset >= current.npages) return null;
    const { pageSize } = this.#model;
    const pa = this.#model.hostPage(current.hvaPage + offset) * pageSize;
    if (pa < 0 || pa >= UNBACKED_BASE) return null;
    return this.#memory.u8.subarray(pa, pa + pageSize);
  }

  /** A slot's log is on: the first pass of a migration copies all of it. */
  begin(slot: number): void {
    if (!this.#isOn) return;
    const copies = new Map<number, Uint8Array>();
    const pages = this.#model.slot(slot).current?.npages ?? 0;
    for (let offset = 0; offset < pages; offset++) {
      const bytes = this.#page(slot, offset);
      if (bytes === null) return;
      copies.set(offset, bytes.slice());
    }
    this.#copies.set(slot, copies);
  }

  /** The slot is gone, does not log any more, or lost its memory. */
  forget(slot: number): void {
    this.#copies.delete(slot);
  }

  /** A page was acquired: its data is read now. */
  copy(slot: number, offset: number): void {
    const copies = this.#copies.get(slot);
    const bytes = copies === undefined ? null : this.#page(slot, offset);
    const old = copies?.get(offset);
    if (copies === undefined || bytes === null) return;
    if (old !== undefined && Buffer.compare(bytes, old) !== 0) this.changed++;
    copies.set(offset, bytes.slice());
  }

  /** The host's own store: the client knows of it. */
  patch(slot: number, at: number, bytes: Uint8Array): void {
    const { pageSize } = this.#model;
    for (const [i, byte] of bytes.entries()) {
      const copy = this.#copies.get(slot)?.get(Math.floor((at + i) / pageSize));
      if (copy !== undefined) copy[(at + i) % pageSize] = byte;
    }
  }

  /** @returns a page whose copy is old although no report is due for it, as a sentence, or null */
  compare(slot: number, isReported: (offset: number) => boolean): string | null {
    const copies = this.#copies.get(slot);
    if (copies === undefined) return null;
    for (const [offset, copy] of copies) {
      if (isReported(offset)) continue;
      const bytes = this.#page(slot, offset);
      if (bytes === null || Buffer.compare(bytes, copy) === 0) continue;
      return `page ${offset} of slot ${slot} differs from the client's copy`;
    }
    return null;
  }
}
