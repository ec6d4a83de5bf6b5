// Owns: Idempotency-Key bookkeeping (IETF draft-ietf-httpapi-idempotency-key-header). HTTP thread.
//
//   free ──begin──▶ running ──finish──▶ done ──begin──▶ the same answer again
//     ▲               │  │
//     └───abandon─────┘  └──the process ends──▶ outcome unknown
import { type Clock, timestamp } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import type { IdempotencyRecord, Store } from "../store/index.js";
import { IDEMPOTENCY_TRIM_MS, type ServiceLimits, STORED_BODY_MAX } from "./limits.js";
import type { Recorder } from "./recorder.js";
import type { IdempotencyService, StoredAnswer } from "./services.js";

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly clock: Clock;
  readonly limits: ServiceLimits;
  readonly bootId: string;
}

type Begun =
  | { readonly outcome: "new" }
  | { readonly outcome: "replay"; readonly answer: StoredAnswer };

export class Idempotency implements IdempotencyService {
  readonly #deps: Deps;
  /** Requests of this life that hold their key. */
  readonly #running = new Map<string, IdempotencyRecord>();
  /** Keys that are being looked up or given back; the next request for one waits. */
  readonly #busy = new Map<string, Promise<unknown>>();
  #cancelTimer: (() => void) | null = null;
  #closed = false;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#schedule();
  }

  async begin(key: string, fingerprint: string): Promise<Begun> {
    for (let other = this.#busy.get(key); other !== undefined; other = this.#busy.get(key)) {
      await other;
    }
    const running = this.#running.get(key);
    if (running !== undefined) {
      requireSame(running, fingerprint);
      throw new ServiceError(
        "idempotency-running",
        "A request with this Idempotency-Key is still running: repeat it a little later.",
      );
    }
    return this.#alone(key, () => this.#claim(key, fingerprint));
  }

  async finish(key: string, answer: StoredAnswer): Promise<void> {
    const record = this.#running.get(key);
    if (record === undefined) return;
    const tooLong = answer.body !== null && answer.body.length > STORED_BODY_MAX;
    const stored = tooLong ? { ...answer, body: null } : answer;
    await this.#alone(key, async () => {
      try {
        const done = { ...record, answer: stored };
        await this.#deps.recorder.commit([{ kind: "put-idempotency", record: done }]);
      } catch {
        // Logged by the recorder. The effect stands, so the answer must go out; a repetition
        // will hear that the outcome is unknown.
      }
      this.#running.delete(key);
    });
  }

  async abandon(key: string): Promise<void> {
    if (!this.#running.has(key)) return;
    await this.#alone(key, async () => {
      this.#running.delete(key);
      await this.#deps.recorder.commit([{ kind: "delete-idempotency", key }]).catch(() => {});
    });
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer?.();
  }

  async #claim(key: string, fingerprint: string): Promise<Begun> {
    const { clock, limits, bootId, store, recorder } = this.#deps;
    const now = timestamp(clock);
    const found = await store.findIdempotency(key);
    if (found !== null && found.expiresAt > now) {
      requireSame(found, fingerprint);
      if (found.answer !== null) return { outcome: "replay", answer: found.answer };
      throw new ServiceError(
        "outcome-unknown",
        "The outcome of the request with this Idempotency-Key was lost: look what it has done.",
        { startedAt: found.createdAt },
      );
    }
    const record: IdempotencyRecord = {
      key,
      fingerprint,
      bootId,
      createdAt: now,
      expiresAt: new Date(clock.nowMs() + limits.idempotencyMs).toISOString(),
      answer: null,
    };
    await recorder.commit([{ kind: "put-idempotency", record }]);
    this.#running.set(key, record);
    return { outcome: "new" };
  }

  async #alone<T>(key: string, step: () => Promise<T>): Promise<T> {
    const turn = step();
    const ended = turn.then(
      () => {},
      () => {},
    );
    this.#busy.set(key, ended);
    try {
      return await turn;
    } finally {
      if (this.#busy.get(key) === ended) this.#busy.delete(key);
    }
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#cancelTimer = this.#deps.clock.timer(IDEMPOTENCY_TRIM_MS, () => {
      const now = timestamp(this.#deps.clock);
      const keep = this.#deps.limits.idempotencyRecords;
      void this.#deps.recorder
        .commit([{ kind: "trim-idempotency", now, keep }])
        .catch(() => {})
        .then(() => this.#schedule());
    });
  }
}

function requireSame(record: IdempotencyRecord, fingerprint: string): void {
  if (record.fingerprint === fingerprint) return;
  throw new ServiceError(
    "idempotency-mismatch",
    "This Idempotency-Key was used for a different request: choose a new key.",
  );
}
