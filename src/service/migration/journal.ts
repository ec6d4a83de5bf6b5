// Owns: what the engine tells of a session, on its way to record, events and figures. HTTP thread.
import { timestamp } from "../../base/clock.js";
import {
  type CommitPoint,
  type Decision,
  ENDED,
  type Failure,
  type Journal,
  type MigrationState,
  type Progress,
  type RoundRecord,
  type Statistics,
} from "../../migration/index.js";
import type { JsonObject } from "../../store/index.js";
import { ROUNDS_KEPT } from "../limits.js";
import type { PreparedChange } from "../vm-service.js";
import type { Session, SessionBook, SessionChange } from "./session-book.js";

/** What becomes of the VM with a point, in the same write. */
export type PointEffect = PreparedChange;

/** Runs `write` with what becomes of the VM, while no other change of the VM does. */
export type AtPoint = (
  point: CommitPoint,
  write: (effect: PointEffect | null) => Promise<void>,
) => Promise<void>;

const toJson = (value: object | null): JsonObject | null => value as JsonObject | null;

export class Journalist implements Journal {
  readonly #book: SessionBook;
  readonly #session: Session;
  readonly #atPoint: AtPoint;
  readonly #onEnded: () => void;

  constructor(
    book: SessionBook,
    session: Session,
    atPoint: AtPoint,
    onEnded: () => void = () => {},
  ) {
    this.#book = book;
    this.#session = session;
    this.#atPoint = atPoint;
    this.#onEnded = onEnded;
  }

  async state(state: MigrationState, failure: Failure | null): Promise<void> {
    const session = this.#session;
    // An operator's word, or a cancel that was quicker, stands.
    if (session.isEnded) return;
    const change = this.#changeTo(state, failure);
    session.note = null;
    await this.#book.change(session, change, ENDED.has(state) ? "ended" : "state");
    if (ENDED.has(state)) this.#onEnded();
  }

  passed(state: MigrationState, failure: Failure | null): void {
    const session = this.#session;
    if (session.isEnded) return;
    session.note = null;
    this.#book.changeLater(session, this.#changeTo(state, failure), "state");
  }

  #changeTo(state: MigrationState, failure: Failure | null): SessionChange {
    const now = timestamp(this.#book.deps.clock);
    const { startedAt } = this.#session.record;
    return {
      state,
      // What was in the way for a while is no failure of what ended well.
      ...(failure === null && !ENDED.has(state) ? {} : { failure: toJson(failure) }),
      ...(startedAt === null && state !== "queued" ? { startedAt: now } : {}),
      ...(ENDED.has(state) ? { endedAt: now } : {}),
    };
  }

  async point(point: CommitPoint): Promise<void> {
    await this.#atPoint(point, async (effect) => {
      try {
        const more = effect?.changes ?? [];
        await this.#book.change(this.#session, { point }, "point", more);
      } catch (error) {
        effect?.failed();
        throw error;
      }
      effect?.done();
    });
  }

  async peer(session: string): Promise<void> {
    await this.#book.change(this.#session, { peerSession: session }, null);
  }

  round(record: RoundRecord): void {
    const session = this.#session;
    session.unsavedRounds.push(record);
    this.#book.saveLater(session);
    const known = session.rounds.findLastIndex(({ round }) => round === record.round);
    if (known >= 0) {
      session.rounds[known] = record;
      session.tell();
      return;
    }
    session.rounds.push(record);
    this.#book.countRound(session);
    if (session.rounds.length > ROUNDS_KEPT) session.rounds.splice(ROUNDS_KEPT / 2, 1);
    this.#book.announce(session, "round", { round: record.round, why: record.decision.why });
    session.tell();
  }

  progress(progress: Progress): void {
    const session = this.#session;
    this.#book.countTraffic(session, progress);
    session.record = { ...session.record, progress: toJson(progress) };
    // Nothing else would take it to the disk any more.
    if (session.isEnded) this.#book.saveLater(session);
    session.tell();
  }

  decided(decision: Decision): void {
    const session = this.#session;
    session.record = { ...session.record, decision: toJson(decision) };
    session.tell();
  }

  statistics(statistics: Statistics): void {
    this.#session.record = { ...this.#session.record, statistics: toJson(statistics) };
    this.#session.tell();
  }
}
