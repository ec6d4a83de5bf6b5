// Owns: the phase of the HTTP face between start and exit, and who must hear of its change.
// HTTP thread.
//
//   serving ──drain()──▶ draining ──close()──▶ closing
//   draining: readyz is 503, waits end early, event streams end; requests are still served.
//   closing: every request but the health checks is 503.

export type Phase = "serving" | "draining" | "closing";

export class Lifecycle {
  #phase: Phase = "serving";
  readonly #listeners = new Set<() => void>();

  get phase(): Phase {
    return this.#phase;
  }

  drain(): void {
    if (this.#phase !== "serving") return;
    this.#phase = "draining";
    for (const listener of [...this.#listeners]) listener();
    this.#listeners.clear();
  }

  close(): void {
    this.drain();
    this.#phase = "closing";
  }

  /**
   * Calls once when draining begins, at once when it has begun.
   * @returns a function that withdraws the call
   */
  onDrain(listener: () => void): () => void {
    if (this.#phase !== "serving") {
      listener();
      return () => {};
    }
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Settles with `waiting`, or with `instead()` when draining begins first. */
  async unlessDraining<T>(waiting: Promise<T>, instead: () => Promise<T>): Promise<T> {
    let withdraw = () => {};
    const drained = new Promise<"drained">((resolve) => {
      withdraw = this.onDrain(() => resolve("drained"));
    });
    try {
      const first = await Promise.race([waiting.then((value) => ({ value })), drained]);
      if (first !== "drained") return first.value;
      waiting.catch(() => {});
      return await instead();
    } finally {
      withdraw();
    }
  }
}
