// Owns: "nothing is lost with a reply" (DESIGN 9) for one source that is read destructively.
// Runs on any thread; synchronous, so two reads of one source can't overlap.
//
//   empty ──take──▶ kept(h1) ──take{after:h1}──▶ kept(h2) ──acknowledge(h2)──▶ empty
//                    │  ▲
//                    └──┘ take with the same key, or naming the same predecessor: h1 again
import { assert } from "./assert.js";
import { ServiceError } from "./errors.js";
import type { Saved, Stateful } from "./saved.js";

/** How a consuming request identifies itself. */
export interface Consume {
  /** Idempotency-Key of the request, or null. */
  readonly key: string | null;
  /** Id of the result that this request acknowledges, or null. */
  readonly after: string | null;
}

export interface Taken<T> {
  readonly id: string;
  readonly value: T;
  /** True when this is the kept result, handed out again. */
  readonly repeated: boolean;
}

interface Kept<T> extends Consume {
  readonly id: string;
  readonly value: T;
}

interface SavedData<T> {
  readonly issued: number;
  readonly kept: Kept<T> | null;
}

/**
 * Keeps the last result of a destructive read until the reader says that it has it; at most one.
 * T must be plain data (JSON values, bigint, Uint8Array), so that it can be saved.
 */
export class Unacknowledged<T> implements Stateful {
  readonly #prefix: string;
  #issued = 0;
  #kept: Kept<T> | null = null;

  /** @param prefix letters in front of the counter in ids: "h" gives "h1", "h2", … */
  constructor(prefix = "h") {
    this.#prefix = prefix;
  }

  /** The result that waits for its acknowledgement. */
  get kept(): { readonly id: string; readonly value: T } | null {
    return this.#kept;
  }

  /**
   * Gives the kept result again or produces the next one. When `produce` throws, nothing changes:
   * a kept result that `after` named stays kept.
   * @param produce does the destructive read; called at most once
   * @throws ServiceError "harvest-unacknowledged" when another result is still kept
   */
  take(consume: Consume, produce: () => T): Taken<T> {
    const kept = this.#kept;
    if (kept !== null) {
      if (isSameRequest(kept, consume)) return { id: kept.id, value: kept.value, repeated: true };
      if (consume.after !== kept.id) {
        throw new ServiceError(
          "harvest-unacknowledged",
          `Result ${kept.id} is not acknowledged yet: name it in "after", or delete it first.`,
          { unacknowledged: kept.id },
        );
      }
    }
    const value = produce();
    this.#issued += 1;
    const id = `${this.#prefix}${this.#issued}`;
    this.#kept = { id, value, key: consume.key, after: consume.after };
    return { id, value, repeated: false };
  }

  /** @returns the kept result when it has this id. */
  find(id: string): Taken<T> | null {
    const kept = this.#kept;
    if (kept === null || kept.id !== id) return null;
    return { id: kept.id, value: kept.value, repeated: true };
  }

  /**
   * Forgets the kept result.
   * @returns false when no result of this id was ever issued; true also the second time
   */
  acknowledge(id: string): boolean {
    if (this.#kept?.id === id) this.#kept = null;
    return this.#wasIssued(id);
  }

  save(): Saved {
    const data: SavedData<T> = { issued: this.#issued, kept: this.#kept };
    return { kind: "unacknowledged", version: 1, data };
  }

  load(saved: Saved): void {
    assert(saved.kind === "unacknowledged" && saved.version === 1, "a saved unacknowledged result");
    const data = saved.data as SavedData<T>;
    this.#issued = data.issued;
    this.#kept = data.kept;
  }

  #wasIssued(id: string): boolean {
    if (!id.startsWith(this.#prefix)) return false;
    const digits = id.slice(this.#prefix.length);
    return /^[1-9][0-9]{0,15}$/.test(digits) && Number(digits) <= this.#issued;
  }
}

function isSameRequest(kept: Consume, asked: Consume): boolean {
  if (asked.key !== null && asked.key === kept.key) return true;
  if (asked.after !== kept.after) return false;
  // Naming the same predecessor is the same step, whatever the key. Without a predecessor only
  // the key tells two first readers apart.
  return asked.after !== null || asked.key === kept.key;
}
