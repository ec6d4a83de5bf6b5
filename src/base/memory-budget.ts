// Owns: the process-wide budget for guest memory, bitmaps and tables (DESIGN 5). Any thread.
//
//   word      0        1         2          3       …
//          [ total | highest | account 0 | account 1 | … ]   signed 64-bit, little-endian
//
// What is used is the sum of the accounts: there is no second total that could disagree when a
// thread is ended between two writes. An account belongs to one VM (account 0 to the process), so
// after a thread's end its owner closes the account and exactly what the VM had charged is back.
import { assert } from "./assert.js";
import { MEMORY_ACCOUNTS_MAX } from "./limits.js";

const TOTAL = 0;
/** Highest account ever opened, so that a sum does not visit the whole table. */
const HIGHEST = 1;
const FIRST_ACCOUNT = 2;
/** Value of an account that nobody holds. */
const FREE = -1n;

/** A byte budget shared by all threads, seen through one of its accounts. */
export class MemoryBudget {
  readonly shared: SharedArrayBuffer;
  /** Which account `charge` and `release` book on; 0 is the process's own. */
  readonly accountIndex: number;
  readonly #words: BigInt64Array;

  /** @param totalBytes the whole budget, a safe integer */
  static create(totalBytes: number): MemoryBudget {
    assert(Number.isSafeInteger(totalBytes) && totalBytes >= 0, `budget of ${totalBytes} bytes`);
    const shared = new SharedArrayBuffer((FIRST_ACCOUNT + MEMORY_ACCOUNTS_MAX) * 8);
    const words = new BigInt64Array(shared);
    words.fill(FREE, FIRST_ACCOUNT);
    words[TOTAL] = BigInt(totalBytes);
    words[FIRST_ACCOUNT] = 0n;
    return new MemoryBudget(shared);
  }

  constructor(shared: SharedArrayBuffer, accountIndex = 0) {
    this.shared = shared;
    this.accountIndex = accountIndex;
    this.#words = new BigInt64Array(shared);
  }

  /**
   * Books bytes on this account; all or nothing.
   * @param bytes not negative; may be larger than any budget
   * @returns false, with nothing booked, when the budget would be exceeded
   */
  charge(bytes: number): boolean {
    if (bytes > this.totalBytes()) return false;
    assert(Number.isSafeInteger(bytes) && bytes >= 0, `charge of ${bytes} bytes`);
    const amount = BigInt(bytes);
    const total = Atomics.load(this.#words, TOTAL);
    const at = FIRST_ACCOUNT + this.accountIndex;
    // Book first, then look at the sum: of two threads at the edge at least one sees both bookings
    // and steps back, so the budget holds without a lock that an ended thread would keep for ever.
    // The look before it keeps a hopeless request from disturbing others by its booking.
    while (this.#sum() + amount <= total) {
      Atomics.add(this.#words, at, amount);
      if (this.#sum() <= total) return true;
      Atomics.sub(this.#words, at, amount);
    }
    return false;
  }

  /** Gives back bytes that this account had charged. */
  release(bytes: number): void {
    assert(Number.isSafeInteger(bytes) && bytes >= 0, `release of ${bytes} bytes`);
    const before = Atomics.sub(this.#words, FIRST_ACCOUNT + this.accountIndex, BigInt(bytes));
    assert(before >= BigInt(bytes), `released ${bytes} bytes of ${before} charged`);
  }

  /** Bytes booked by all accounts. */
  usedBytes(): number {
    return Number(this.#sum());
  }

  totalBytes(): number {
    return Number(Atomics.load(this.#words, TOTAL));
  }

  /** Bytes booked on this account. */
  chargedBytes(): number {
    return Number(Atomics.load(this.#words, FIRST_ACCOUNT + this.accountIndex));
  }

  /**
   * Opens an account of its own for one VM.
   * @returns the same budget seen through it, or null when every account is taken
   */
  account(): MemoryBudget | null {
    for (let index = 1; index < MEMORY_ACCOUNTS_MAX; index++) {
      const at = FIRST_ACCOUNT + index;
      if (Atomics.compareExchange(this.#words, at, FREE, 0n) !== FREE) continue;
      this.#raiseHighest(BigInt(index));
      return new MemoryBudget(this.shared, index);
    }
    return null;
  }

  /**
   * Gives back whatever this account still holds. Only once nobody can charge to it any more: for
   * a VM in a thread, after that thread has ended.
   */
  closeAccount(): void {
    assert(this.accountIndex > 0, "the process's own account stays open");
    Atomics.store(this.#words, FIRST_ACCOUNT + this.accountIndex, FREE);
  }

  #sum(): bigint {
    const end = FIRST_ACCOUNT + Number(Atomics.load(this.#words, HIGHEST));
    let sum = 0n;
    for (let at = FIRST_ACCOUNT; at <= end; at++) {
      const held = Atomics.load(this.#words, at);
      if (held > 0n) sum += held;
    }
    return sum;
  }

  #raiseHighest(index: bigint): void {
    let seen = Atomics.load(this.#words, HIGHEST);
    while (seen < index) {
      const found = Atomics.compareExchange(this.#words, HIGHEST, seen, index);
      if (found === seen) return;
      seen = found;
    }
  }
}
