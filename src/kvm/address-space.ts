// Owns: the emulated VMM process's address space: memory objects at userspace addresses, and what
// physical memory is behind them (DESIGN 9). VM thread.
import { assert } from "../base/assert.js";
import { KvmError } from "../base/errors.js";
import type { Saved } from "../base/saved.js";
import { type Host, UnbackedMemory } from "../machine/index.js";
import type { Account } from "./account.js";
import { TASK_SIZE } from "./uapi/flags.js";

/** "device": pages of a passed-through device, VM_PFNMAP in Linux. */
type Backing = "ram" | "unbacked" | "device";

/** One mmap of RAM. Addresses are exact numbers below 2^48. */
export interface MemoryObject {
  readonly id: number;
  readonly userspaceAddr: number;
  readonly bytes: number;
  readonly backing: Backing;
  /** Whether the host backs it with the largest blocks that fit (transparent huge pages). */
  readonly hugePages: boolean;
  readonly pa: number;
  /** What the budget was charged for it. */
  readonly charged: number;
}

/** Told of the process's own stores: offset and length in the object. */
export type StoreListener = (object: MemoryObject, offset: number, length: number) => void;

/** Where objects without an address go, first fit from here up. */
const MMAP_BASE = 0x1000_0000_0000;

export class AddressSpace {
  readonly #host: Host;
  readonly #account: Account;
  /** Sorted by userspaceAddr. */
  readonly #objects: MemoryObject[] = [];
  #nextId = 1;
  /** KVM sees none of them: whoever keeps a log of memory listens here. */
  onStore: StoreListener | null = null;

  constructor(host: Host, account: Account) {
    this.#host = host;
    this.#account = account;
  }

  list(): readonly MemoryObject[] {
    return this.#objects;
  }

  byId(id: number): MemoryObject | undefined {
    return this.#objects.find((object) => object.id === id);
  }

  /** The object that holds a userspace address, or undefined: a hole. */
  find(hva: number): MemoryObject | undefined {
    let low = 0;
    let high = this.#objects.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const object = this.#objects[middle]!;
      if (hva < object.userspaceAddr) high = middle - 1;
      else if (hva >= object.userspaceAddr + object.bytes) low = middle + 1;
      else return object;
    }
    return undefined;
  }

  /** A store of the process's own, not of a vCPU and not of KVM. The object has bytes. */
  store(object: MemoryObject, offset: number, bytes: Uint8Array): void {
    this.#host.writePhysical(object.pa + offset, bytes);
    this.onStore?.(object, offset, bytes.length);
  }

  /**
   * mmap of RAM.
   * @throws KvmError EINVAL size zero or not pages, address not aligned; EEXIST overlap
   *   (MAP_FIXED_NOREPLACE); ENOMEM outside the address space or over the budget
   */
  map(options: {
    size: bigint;
    userspaceAddr: bigint | null;
    backing: Backing;
    hugePages: boolean;
  }): MemoryObject {
    const page = BigInt(this.#host.geometry.size);
    const { size, userspaceAddr } = options;
    if (size === 0n || size % page !== 0n) {
      throw new KvmError("EINVAL", "mmap", `size must be a positive multiple of ${page} bytes`);
    }
    if (userspaceAddr !== null && userspaceAddr % page !== 0n) {
      throw new KvmError("EINVAL", "mmap", `userspaceAddr must be a multiple of ${page}`);
    }
    if (size > TASK_SIZE || (userspaceAddr !== null && userspaceAddr + size > TASK_SIZE)) {
      throw new KvmError("ENOMEM", "mmap", "the range does not end below 2^48");
    }
    const bytes = Number(size);
    const at = userspaceAddr === null ? this.#place(bytes) : Number(userspaceAddr);
    const clash = this.#objects.find(
      (o) => at < o.userspaceAddr + o.bytes && o.userspaceAddr < at + bytes,
    );
    if (clash !== undefined) {
      throw new KvmError("EEXIST", "mmap", `memory object ${clash.id} already lies in that range`);
    }
    return this.#insert(at, bytes, options.backing, options.hugePages);
  }

  #insert(at: number, bytes: number, backing: Backing, huge: boolean): MemoryObject {
    const pages = bytes / this.#host.geometry.size;
    const tables = worstCaseTableBytes(this.#host, pages);
    const own = backing === "unbacked" ? UnbackedMemory.bookkeepingBytes(pages) : bytes;
    const charged = own + tables;
    if (!this.#account.charge(charged)) {
      throw new KvmError(
        "ENOMEM",
        "mmap",
        `${charged} bytes for the object and its stage-2 tables are over the memory budget`,
      );
    }
    const pa = this.#allocate(bytes, pages, backing);
    if (pa < 0) {
      this.#account.release(charged);
      throw new KvmError("ENOMEM", "mmap", "physical memory of the VM's slice is used up");
    }
    this.#account.reserveTables(tables);
    const object: MemoryObject = {
      id: this.#nextId++,
      userspaceAddr: at,
      bytes,
      backing,
      hugePages: huge,
      pa,
      charged,
    };
    const after = this.#objects.findIndex((o) => o.userspaceAddr > at);
    this.#objects.splice(after < 0 ? this.#objects.length : after, 0, object);
    return object;
  }

  /** Aligned to a block where the object can hold one, so that blocks can map it. */
  #allocate(bytes: number, pages: number, backing: Backing): number {
    const { leafSizes, size } = this.#host.geometry;
    const block = leafSizes[1]!;
    const align = bytes >= block ? block : size;
    if (backing === "unbacked") return this.#host.unbacked.allocate(bytes, align);
    return this.#host.frames.allocate(pages, align / size);
  }

  #place(bytes: number): number {
    const align = this.#host.geometry.leafSizes[1]!;
    let at = MMAP_BASE;
    for (const object of this.#objects) {
      if (object.userspaceAddr + object.bytes <= at) continue;
      if (object.userspaceAddr >= at + bytes) break;
      at = Math.ceil((object.userspaceAddr + object.bytes) / align) * align;
    }
    if (at + bytes > Number(TASK_SIZE)) {
      throw new KvmError("ENOMEM", "mmap", "no free range below 2^48 is large enough");
    }
    return at;
  }

  /** First half of munmap: from here on nobody finds the object, and its address is free. */
  detach(object: MemoryObject): void {
    const at = this.#objects.indexOf(object);
    assert(at >= 0, `memory object ${object.id} is taken away once`);
    this.#objects.splice(at, 1);
  }

  /** Second half: the caller has torn down every stage-2 mapping of a detached object. */
  free(object: MemoryObject): void {
    const pages = object.bytes / this.#host.geometry.size;
    if (object.backing === "ram") this.#host.frames.release(object.pa, pages);
    else this.#host.unbacked.release(object.pa, object.bytes);
    const tables = worstCaseTableBytes(this.#host, pages);
    this.#account.unreserveTables(tables);
    this.#account.release(object.charged);
  }

  save(): Saved {
    const data = { nextId: this.#nextId, objects: this.#objects.map((o) => ({ ...o })) };
    return { kind: "address-space", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as { nextId: number; objects: MemoryObject[] };
    this.#nextId = data.nextId;
    this.#objects.splice(0, this.#objects.length, ...data.objects.map((o) => ({ ...o })));
  }
}

/** Bytes of tables that map `pages` pages one by one, in a range that is not aligned. */
export function worstCaseTableBytes(host: Host, pages: number): number {
  const { entriesPerTable, size } = host.geometry;
  let tables = 0;
  let entries = pages;
  for (let level = 3; level > 0; level--) {
    entries = Math.ceil(entries / entriesPerTable) + 1;
    tables += entries;
  }
  return tables * size;
}
