// Owns: KVM's locks as objects whose hold the scheduler sees (DESIGN 2). VM thread.
// An operation takes a lock with `yield* lock.lock()` and must give it back in a finally.
import { assert } from "../../base/assert.js";
import { type Op, Waitable } from "./scheduler.js";

/** Sleeping lock; first come first served among those awake. */
export class Mutex extends Waitable {
  #held = false;

  get held(): boolean {
    return this.#held;
  }

  *lock(): Op<void> {
    while (this.#held) yield this;
    this.#held = true;
  }

  unlock(): void {
    assert(this.#held, `${this.name} is held`);
    this.#held = false;
    this.wake();
  }
}

/** kvm->mmu_lock: many stage-2 faults at once, or one that changes tables for all. */
export class RwLock extends Waitable {
  #readers = 0;
  #writer = false;
  /** Contexts waiting to write; new readers let them go first, so a CLEAR can't starve. */
  #writersWaiting = 0;

  /** Takes it when nobody is in the way. */
  tryReadLock(): boolean {
    if (this.#writer || this.#writersWaiting > 0) return false;
    this.#readers++;
    return true;
  }

  *readLock(): Op<void> {
    while (this.#writer || this.#writersWaiting > 0) yield this;
    this.#readers++;
  }

  readUnlock(): void {
    assert(this.#readers > 0, `${this.name} is read-held`);
    this.#readers--;
    if (this.#readers === 0) this.wake();
  }

  *writeLock(): Op<void> {
    this.#writersWaiting++;
    try {
      while (this.#writer || this.#readers > 0) yield this;
    } finally {
      this.#writersWaiting--;
    }
    this.#writer = true;
  }

  writeUnlock(): void {
    assert(this.#writer, `${this.name} is write-held`);
    this.#writer = false;
    this.wake();
  }

  get writeHeld(): boolean {
    return this.#writer;
  }
}

/** kvm->srcu: readers of the slot table, and a writer that waits until the old readers are gone. */
export class Srcu extends Waitable {
  #epoch = 0;
  readonly #readers = [0, 0];

  /** @returns the epoch to give back to readUnlock. */
  readLock(): number {
    this.#readers[this.#epoch]!++;
    return this.#epoch;
  }

  readUnlock(epoch: number): void {
    assert(this.#readers[epoch]! > 0, "srcu reader count");
    this.#readers[epoch]!--;
    if (this.#readers[epoch] === 0) this.wake();
  }

  /** Waits for every reader that began before the call. */
  *synchronize(): Op<void> {
    const old = this.#epoch;
    this.#epoch = 1 - old;
    while (this.#readers[old]! > 0) yield this;
  }
}
