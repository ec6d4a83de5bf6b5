// Owns: taking memory away from a running guest: munmap, punched holes, closed guest_memfds.
// VM thread. What an MMU notifier does in Linux: count the sequence up, unmap, invalidate, free.

import type { MemoryObject } from "./address-space.js";
import type { GuestMemfd } from "./guest-memfd.js";
import type { Memslot } from "./memslots.js";
import type { Op } from "./sched/scheduler.js";
import type { MemoryRegions } from "./set-memory-region.js";
import type { Vm } from "./vm.js";

export class Reclaim {
  readonly #vm: Vm;
  readonly #regions: MemoryRegions;

  constructor(vm: Vm, regions: MemoryRegions) {
    this.#vm = vm;
    this.#regions = regions;
  }

  /** munmap of a whole object; slots over it keep their place and become holes. */
  *unmapObject(object: MemoryObject): Op<void> {
    const vm = this.#vm;
    const epoch = this.#begin();
    vm.mm.detach(object);
    const end = object.userspaceAddr + object.bytes;
    for (const slot of [...vm.slots.list()]) {
      if (slot.guestMemfd !== null) continue;
      const from = Math.max(slot.userspaceAddr, object.userspaceAddr);
      const to = Math.min(slot.userspaceAddr + slot.npages * vm.pageSize, end);
      if (from >= to) continue;
      const first = slot.baseGfn + (from - slot.userspaceAddr) / vm.pageSize;
      const last = slot.baseGfn + (to - slot.userspaceAddr) / vm.pageSize;
      yield* this.#regions.unmapRange(slot, first, last);
    }
    vm.mm.free(object);
    this.#end(epoch);
  }

  /** fallocate(PUNCH_HOLE) on pages [first, end) of a file. */
  *punchHole(file: GuestMemfd, first: number, end: number): Op<void> {
    const vm = this.#vm;
    const epoch = this.#begin();
    for (const slot of this.#bound(file)) {
      const offset = slot.guestMemfd?.pageOffset ?? 0;
      const from = Math.max(first, offset);
      const to = Math.min(end, offset + slot.npages);
      if (from >= to) continue;
      const gfn = slot.baseGfn + (from - offset);
      yield* this.#regions.unmapRange(slot, gfn, gfn + (to - from));
    }
    yield* vm.memfds.punch(file, first, end);
    this.#end(epoch);
  }

  *closeMemfd(file: GuestMemfd): Op<void> {
    yield* this.punchHole(file, 0, Number.MAX_SAFE_INTEGER);
    this.#vm.memfds.close(file);
  }

  /**
   * From here on no fault may install what is about to go. Like a fault, a notifier reads the slots
   * under SRCU: a log that is turned on or off meanwhile waits, so what a vanishing leaf knew goes
   * to the slot's own bitmap, and that bitmap is not freed yet.
   * @returns the epoch for #end
   */
  #begin(): number {
    this.#vm.invalidateInProgress++;
    return this.#vm.srcu.readLock();
  }

  /** A fault that looked a page up before this must not install it any more. */
  #end(epoch: number): void {
    this.#vm.srcu.readUnlock(epoch);
    this.#vm.invalidateSeq++;
    this.#vm.invalidateInProgress--;
  }

  #bound(file: GuestMemfd): readonly Memslot[] {
    return this.#vm.slots.list().filter((slot) => slot.guestMemfd?.memfdId === file.id);
  }
}
