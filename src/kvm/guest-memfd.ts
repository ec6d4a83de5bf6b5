// Owns: guest_memfd files of a VM: pages that only the guest (and a memslot) can name. VM thread.
// @source virt/kvm/guest_memfd.c by behaviour; kvm-uapi.md 5.6
import { KvmError } from "../base/errors.js";
import type { Saved } from "../base/saved.js";
import type { Host } from "../machine/index.js";
import type { Account } from "./account.js";
import type { Memslot } from "./memslots.js";
import { POINT } from "./preemption.table.js";
import type { Op } from "./sched/scheduler.js";
import { GUEST_MEMFD_FLAG } from "./uapi/flags.js";

const IOCTL = "KVM_CREATE_GUEST_MEMFD";
/** Pages allocated or freed at most between two preemption points. */
const BATCH_PAGES = 512;
/** Largest file, our choice: what one slot can hold. */
const BYTES_MAX = 2n ** 43n;

export interface GuestMemfd {
  readonly id: number;
  readonly bytes: number;
  readonly flags: bigint;
  /** Page of the file → physical address; only pages that exist. */
  readonly pages: Map<number, number>;
  /** Descriptor closed by its owner; slots keep the file's ranges but can't fault pages in. */
  closed: boolean;
}

export class GuestMemfds {
  readonly #host: Host;
  readonly #account: Account;
  readonly #files = new Map<number, GuestMemfd>();
  #nextId = 1;

  constructor(host: Host, account: Account) {
    this.#host = host;
    this.#account = account;
  }

  list(): readonly GuestMemfd[] {
    return [...this.#files.values()].filter((file) => !file.closed);
  }

  /** The open file of an id. */
  open(id: number): GuestMemfd | undefined {
    const file = this.#files.get(id);
    return file === undefined || file.closed ? undefined : file;
  }

  create(size: bigint, flags: bigint): GuestMemfd {
    const { geometry } = this.#host;
    if ((flags & ~(GUEST_MEMFD_FLAG.MMAP | GUEST_MEMFD_FLAG.INIT_SHARED)) !== 0n) {
      throw new KvmError("EINVAL", IOCTL, "flags may hold only MMAP (1) and INIT_SHARED (2)");
    }
    if (size === 0n || size % BigInt(geometry.size) !== 0n || size > BYTES_MAX) {
      throw new KvmError("EINVAL", IOCTL, `size must be a positive multiple of ${geometry.size}`);
    }
    const file: GuestMemfd = {
      id: this.#nextId++,
      bytes: Number(size),
      flags,
      pages: new Map(),
      closed: false,
    };
    this.#files.set(file.id, file);
    return file;
  }

  /**
   * Checks a binding for SET_USER_MEMORY_REGION2.
   * @throws KvmError EBADF no such file; EINVAL out of range or overlapping
   */
  checkBinding(id: number, offset: bigint, size: bigint, slots: readonly Memslot[]): GuestMemfd {
    const ioctl = "KVM_SET_USER_MEMORY_REGION2";
    const file = this.open(id);
    if (file === undefined) throw new KvmError("EBADF", ioctl, `no open guest_memfd has id ${id}`);
    const page = BigInt(this.#host.geometry.size);
    if (offset < 0n || offset % page !== 0n || offset + size > BigInt(file.bytes)) {
      throw new KvmError("EINVAL", ioctl, "the bound range must lie in the file, page by page");
    }
    const first = Number(offset / page);
    const last = first + Number(size / page) - 1;
    for (const slot of slots) {
      const bound = slot.guestMemfd;
      if (bound === null || bound.memfdId !== id) continue;
      if (first < bound.pageOffset + slot.npages && bound.pageOffset <= last) {
        throw new KvmError("EINVAL", ioctl, `slot ${slot.id} already binds part of that range`);
      }
    }
    return file;
  }

  /** Physical page of a file page, allocated at the first use; -1 when memory is used up. */
  page(file: GuestMemfd, index: number): number {
    const known = file.pages.get(index);
    if (known !== undefined) return known;
    const { size } = this.#host.geometry;
    if (!this.#account.charge(size)) return -1;
    const pa = this.#host.frames.allocate(1);
    if (pa < 0) {
      this.#account.release(size);
      return -1;
    }
    file.pages.set(index, pa);
    return pa;
  }

  /** Frees pages [first, end), batch by batch; the caller has unmapped them from stage 2. */
  *punch(file: GuestMemfd, first: number, end: number): Op<void> {
    const { size } = this.#host.geometry;
    let freed = 0;
    for (const [index, pa] of file.pages) {
      if (index < first || index >= end) continue;
      file.pages.delete(index);
      this.#host.frames.release(pa, 1);
      this.#account.release(size);
      if (++freed % BATCH_PAGES === 0) yield POINT["memfd-batch"];
    }
  }

  /**
   * Allocates pages [first, end), batch by batch.
   * @returns false when memory is used up; what was allocated until then stays, as in Linux
   */
  *allocate(file: GuestMemfd, first: number, end: number): Op<boolean> {
    for (let index = first; index < end; index++) {
      if (this.page(file, index) < 0) return false;
      if ((index - first) % BATCH_PAGES === BATCH_PAGES - 1) yield POINT["memfd-batch"];
    }
    return true;
  }

  /** The descriptor is closed: nothing names the file any more. Its pages were punched before. */
  close(file: GuestMemfd): void {
    file.closed = true;
  }

  byId(id: number): GuestMemfd | undefined {
    return this.#files.get(id);
  }

  save(): Saved {
    const files = [...this.#files.values()].map((f) => ({ ...f, pages: [...f.pages.entries()] }));
    return { kind: "guest-memfds", version: 1, data: { nextId: this.#nextId, files } };
  }

  load(saved: Saved): void {
    type Row = Omit<GuestMemfd, "pages"> & { pages: [number, number][] };
    const data = saved.data as { nextId: number; files: Row[] };
    this.#nextId = data.nextId;
    this.#files.clear();
    for (const row of data.files) this.#files.set(row.id, { ...row, pages: new Map(row.pages) });
  }
}
