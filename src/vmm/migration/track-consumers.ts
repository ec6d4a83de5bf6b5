// Owns: the consumers of dirty pages: each one's bitmaps, charged to the VM, and how a dirty page
// of a slot or of an object gets into all of them. VM thread.
import { KvmError, ServiceError } from "../../base/errors.js";
import type { Kvm, MemoryObject, Memslot } from "../../kvm/index.js";
import type { TrackingView } from "./commands.js";
import { orBits, PageSet, stretchesOf } from "./track-pages.js";

interface Consumer {
  readonly pages: PageSet;
  /** What its bitmaps cost; an object that comes later adds nothing to it. */
  readonly charged: number;
}

/** One of them as it is saved. */
export interface SavedConsumer {
  readonly name: string;
  readonly charged: number;
  readonly pages: readonly (readonly [number, Uint32Array])[];
}

export class Consumers {
  readonly #vm: Kvm["vm"];
  readonly #all = new Map<string, Consumer>();

  constructor({ vm }: Kvm) {
    this.#vm = vm;
  }

  get names(): readonly string[] {
    return [...this.#all.keys()];
  }

  get size(): number {
    return this.#all.size;
  }

  has(name: string): boolean {
    return this.#all.has(name);
  }

  views(): TrackingView["consumers"] {
    return [...this.#all].map(([name, { pages }]) => ({ name, pages: pages.count }));
  }

  /** @throws KvmError ENOMEM */
  add(name: string): void {
    const { mm, account, pageSize } = this.#vm;
    const charged = PageSet.bytesFor(mm.list(), pageSize);
    if (!account.charge(charged)) {
      throw new KvmError("ENOMEM", "mmap", `no room for a bitmap of all memory, ${charged} bytes`);
    }
    this.#all.set(name, { pages: new PageSet(pageSize), charged });
  }

  drop(name: string): void {
    const known = this.#all.get(name);
    if (known === undefined) return;
    this.#vm.account.release(known.charged);
    this.#all.delete(name);
  }

  /** @throws ServiceError "consumer-not-found" */
  pagesOf(name: string): PageSet {
    const known = this.#all.get(name);
    if (known !== undefined) return known.pages;
    throw new ServiceError("consumer-not-found", `Nobody tracks dirty pages as ${name}.`);
  }

  // ── a page is dirty ─────────────────────────────────────────────────────────────────────────

  /** Bytes of an object. */
  stored(object: MemoryObject, offset: number, length: number): void {
    if (length === 0) return;
    const { pageSize } = this.#vm;
    const first = Math.floor(offset / pageSize);
    const end = Math.floor((offset + length - 1) / pageSize) + 1;
    for (const { pages } of this.#all.values()) pages.addPages(object, first, end - first);
  }

  /** Pages of a slot, as KVM's bitmap has them. */
  slot(slot: Memslot, bitmap: Uint8Array): void {
    const { mm, pageSize } = this.#vm;
    const bits = new Uint32Array(bitmap.buffer, bitmap.byteOffset, bitmap.length / 4);
    for (const { object, slotPage, objectPage, pages } of stretchesOf(mm, slot, pageSize)) {
      for (const each of this.#all.values()) {
        orBits(each.pages.words(object), objectPage, bits, slotPage, pages);
      }
    }
  }

  /** One page of a slot. */
  page(slot: Memslot, page: number): void {
    const { mm, pageSize } = this.#vm;
    const hva = slot.userspaceAddr + page * pageSize;
    const object = mm.find(hva);
    if (object === undefined) return;
    const at = (hva - object.userspaceAddr) / pageSize;
    for (const { pages } of this.#all.values()) pages.addPage(object, at);
  }

  /** Every page of a slot. */
  allOf(slot: Memslot): void {
    const { mm, pageSize } = this.#vm;
    for (const { object, objectPage, pages } of stretchesOf(mm, slot, pageSize)) {
      for (const each of this.#all.values()) each.pages.addPages(object, objectPage, pages);
    }
  }

  save(): SavedConsumer[] {
    return [...this.#all].map(([name, { pages, charged }]) => ({
      name,
      charged,
      pages: pages.entries(),
    }));
  }

  /** What they are charged comes back with the account. */
  restore(saved: readonly SavedConsumer[]): void {
    this.#all.clear();
    for (const { name, charged, pages } of saved) {
      const set = new PageSet(this.#vm.pageSize);
      set.restore(pages);
      this.#all.set(name, { pages: set, charged });
    }
  }
}
