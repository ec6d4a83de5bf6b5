// Owns: the service's way to the store: one kind of refusal, and whether the store is well.
// HTTP thread.
import { ServiceError } from "../base/errors.js";
import type { Log } from "../base/log.js";
import type { Change, Store } from "../store/index.js";

export class Recorder {
  readonly #store: Store;
  readonly #log: Log;
  #failure: string | null = null;

  constructor(store: Store, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /** Why the last commit failed, or null when it did not. */
  get failure(): string | null {
    return this.#failure;
  }

  /**
   * Durable when it resolves.
   * @throws ServiceError "store-unavailable": nothing of it was written
   */
  async commit(changes: readonly Change[]): Promise<void> {
    try {
      await this.#store.commit(changes);
      this.#failure = null;
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      // The driver's sentence comes last; what stands before it can quote the record itself.
      const why = text.trim().split("\n").at(-1) ?? text;
      this.#failure = why;
      const kinds = changes.map((change) => change.kind);
      this.#log.error({ kinds, why }, "A record was not written.");
      throw new ServiceError(
        "store-unavailable",
        "The service can't write its records now. Look at /readyz, and repeat the request later.",
      );
    }
  }
}
