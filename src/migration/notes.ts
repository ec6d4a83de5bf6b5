// Owns: a session's state and commit point, and how they get into its journal. HTTP thread, or
// inline.
import type { Clock } from "../base/clock.js";
import type { Journal, PeerStatus } from "./ports.js";
import { FOR_EVER, retry } from "./retry.js";
import { type CommitPoint, ENDED, type Failure, type MigrationState } from "./types.js";

export class Notes {
  readonly #journal: Journal;
  readonly #clock: Clock;
  #state: MigrationState;
  #point: CommitPoint;
  #failure: Failure | null = null;

  constructor(journal: Journal, clock: Clock, state: MigrationState, point: CommitPoint) {
    this.#journal = journal;
    this.#clock = clock;
    this.#state = state;
    this.#point = point;
  }

  get status(): PeerStatus {
    return { state: this.#state, point: this.#point, failure: this.#failure };
  }

  get state(): MigrationState {
    return this.#state;
  }

  get point(): CommitPoint {
    return this.#point;
  }

  get isEnded(): boolean {
    return ENDED.has(this.#state);
  }

  /** Durable when it resolves. */
  async enter(state: MigrationState): Promise<void> {
    this.#state = state;
    await retry(this.#clock, {}, () => this.#journal.state(state, this.#failure));
  }

  /** Nobody waits for it: a later state, or a restart, tells the same. */
  pass(state: MigrationState, failure: Failure | null = this.#failure): void {
    this.#state = state;
    this.#failure = failure;
    this.#journal.passed(state, failure);
  }

  /** Nothing enters it any more; `end` writes it down. */
  close(state: MigrationState, failure: Failure): void {
    this.#state = state;
    this.#failure = failure;
  }

  /** Repeated until it is written. */
  async end(state: MigrationState, failure: Failure | null): Promise<void> {
    this.#state = state;
    this.#failure = failure;
    await retry(this.#clock, FOR_EVER, () => this.#journal.state(state, failure));
  }

  /** In force once it is durable. */
  async reach(point: CommitPoint): Promise<void> {
    await this.keep(point);
    this.stand(point);
  }

  /** Durable when it resolves. Nobody goes by it before `stand`, unless this host dies. */
  keep(point: CommitPoint): Promise<void> {
    const keeping = this.#journal.point(point);
    // Who has begun it early looks at it later.
    keeping.catch(() => {});
    return keeping;
  }

  stand(point: CommitPoint): void {
    this.#point = point;
  }

  /** In force at once: the VM is this host's again. Repeated until it is written. */
  async callOff(): Promise<void> {
    this.stand("aborted");
    await retry(this.#clock, FOR_EVER, () => this.keep("aborted"));
  }

  /** In force whatever the journal says: a restart comes to the same. */
  async reachAnyway(point: CommitPoint): Promise<void> {
    this.#point = point;
    await retry(this.#clock, {}, () => this.#journal.point(point)).catch(() => {});
  }
}
