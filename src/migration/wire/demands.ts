// Owns: which pages the target's VM waits for, and who is told of it. Data-plane thread, or inline.
import type { Presence } from "./presence.js";

/** Asked for and not here: a vCPU waits for one page, so these are few. */
const WAITING_MAX = 2048;

export interface PageRequest {
  readonly object: number;
  readonly page: number;
}

export interface DemandListener {
  onRequest(request: PageRequest): void;
  /** Somebody else listens now. */
  onDisplaced(): void;
}

export class Demands {
  readonly #presence: Presence;
  readonly #wake: Int32Array | null;
  readonly #waiting = new Map<string, PageRequest>();
  #listener: DemandListener | null = null;

  constructor(presence: Presence, wake: Int32Array | null) {
    this.#presence = presence;
    this.#wake = wake;
  }

  request(object: number, page: number): void {
    const key = keyOf(object, page);
    if (this.#presence.has(object, page)) {
      // It came while it was being asked for.
      this.#wakeUp();
      return;
    }
    if (this.#waiting.has(key) || this.#waiting.size >= WAITING_MAX) return;
    const request = { object, page };
    this.#waiting.set(key, request);
    this.#listener?.onRequest(request);
  }

  /** The source listens; it is told of everything that is still waited for. */
  listen(listener: DemandListener): void {
    this.#listener?.onDisplaced();
    this.#listener = listener;
    for (const request of this.#waiting.values()) listener.onRequest(request);
  }

  leave(listener: DemandListener): void {
    if (this.#listener === listener) this.#listener = null;
  }

  /** Pages are here. */
  arrived(object: number, first: number, count: number): void {
    if (this.#waiting.size === 0) return;
    let found = 0;
    for (const [key, request] of this.#waiting) {
      const { page } = request;
      if (request.object !== object || page < first || page >= first + count) continue;
      this.#waiting.delete(key);
      found += 1;
    }
    if (found > 0) this.#wakeUp();
  }

  #wakeUp(): void {
    if (this.#wake === null) return;
    Atomics.add(this.#wake, 0, 1);
    Atomics.notify(this.#wake, 0);
  }
}

function keyOf(object: number, page: number): string {
  return `${object}:${page}`;
}
