// Owns: every session of a migration, both directions: in memory, in the store, told of. HTTP
// thread.
//
//   queued ─▶ setup ─▶ active ─▶ (pre-switchover) ─▶ device ─▶ completed
//      └─────────┴────────┴────────────┴──▶ cancelling ─▶ cancelled, or failed
//
// States and points are on disk before the engine goes on; rounds and progress follow in batches.
import { type Clock, timestamp } from "../../base/clock.js";
import { ServiceError } from "../../base/errors.js";
import type { Log } from "../../base/log.js";
import {
  type CommitPoint,
  type Direction,
  ENDED,
  type Failure,
  type MigrationState,
  type RoundRecord,
  type Traffic,
} from "../../migration/index.js";
import type { Change, JsonObject, MigrationRecord, Store } from "../../store/index.js";
import { ChangeQueue } from "../change-queue.js";
import { cursorOf, readCursor } from "../cursor.js";
import type { EventLog } from "../event-log.js";
import {
  MIGRATION_ASKED_MS,
  MIGRATIONS_ASKED_KEPT,
  MIGRATIONS_KEPT,
  ROUND_FLUSH_MS,
} from "../limits.js";
import type { Page } from "../page.js";
import type { Recorder } from "../recorder.js";
import type { ResumedRun, SourceRun, TargetRun } from "./engine-port.js";
import { roundOf, roundRecordOf } from "./round-records.js";
import type { MigrationFilter, MigrationTotals } from "./types.js";

export interface BookDeps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly log: Log;
  readonly bootId: string;
}

export type SessionChange = Partial<
  Pick<
    MigrationRecord,
    | "peerSession"
    | "state"
    | "point"
    | "cancelRequested"
    | "parameters"
    | "failure"
    | "resolution"
    | "startedAt"
    | "endedAt"
  >
>;

const NO_TRAFFIC: Traffic = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0, bytes: 0 };
const noTotals = () => ({ ...NO_TRAFFIC, rounds: 0, completed: 0, failed: 0, cancelled: 0 });

/** One session as the service holds it. */
export class Session {
  record: MigrationRecord;
  /** Of this life of the service; older ones are in the store alone. */
  rounds: RoundRecord[] = [];
  unsavedRounds: RoundRecord[] = [];
  /** Why it waits, beside what the record says. */
  note: string | null = null;
  source: SourceRun | null = null;
  /** Of a source that a restart found open. */
  resumed: ResumedRun | null = null;
  target: TargetRun | null = null;
  /** Of its traffic, in the book's totals. */
  counted: Traffic = NO_TRAFFIC;
  readonly changes = new ChangeQueue();
  readonly listeners = new Set<() => void>();

  constructor(record: MigrationRecord) {
    this.record = record;
  }

  get id(): string {
    return this.record.id;
  }

  get state(): MigrationState {
    return this.record.state as MigrationState;
  }

  get point(): CommitPoint {
    return this.record.point as CommitPoint;
  }

  get isEnded(): boolean {
    return ENDED.has(this.state);
  }

  get failure(): Failure | null {
    return this.record.failure as Failure | null;
  }

  tell(): void {
    for (const listener of [...this.listeners]) listener();
  }
}

export class SessionBook {
  readonly deps: BookDeps;
  readonly #byId = new Map<string, Session>();
  /** Since the service started, by direction. */
  readonly #totals = { outgoing: noTotals(), incoming: noTotals() };
  #nextSeq = 1;
  #cancelTimer: (() => void) | null = null;
  readonly #unsaved = new Set<Session>();
  #onForgotten: (session: Session) => void = () => {};

  private constructor(deps: BookDeps) {
    this.deps = deps;
  }

  static async open(deps: BookDeps): Promise<SessionBook> {
    const book = new SessionBook(deps);
    for (const record of await deps.store.loadMigrations()) {
      book.#byId.set(record.id, new Session(record));
      book.#nextSeq = record.seq + 1;
    }
    return book;
  }

  /** @param listener told of each session that is deleted or gives way */
  onForgotten(listener: (session: Session) => void): void {
    this.#onForgotten = listener;
  }

  all(): readonly Session[] {
    return [...this.#byId.values()];
  }

  find(id: string): Session | null {
    return this.#byId.get(id) ?? null;
  }

  /** @throws ServiceError "migration-not-found" */
  require(id: string): Session {
    const session = this.#byId.get(id);
    if (session !== undefined) return session;
    throw new ServiceError("migration-not-found", `There is no migration ${id}.`);
  }

  list(filter: MigrationFilter): Page<Session> {
    const after = filter.cursor === null ? 0 : readCursor(filter.cursor);
    const items: Session[] = [];
    for (const session of this.#byId.values()) {
      const { seq, direction, state, vmId } = session.record;
      const fits =
        seq > after &&
        (filter.direction === null || filter.direction === direction) &&
        (filter.state === null || filter.state === state) &&
        (filter.vmId === null || filter.vmId === vmId);
      if (!fits) continue;
      const last = items.at(-1);
      if (items.length === filter.limit && last !== undefined) {
        return { items, nextCursor: cursorOf(last.record.seq) };
      }
      items.push(session);
    }
    return { items, nextCursor: null };
  }

  /** Durable when it resolves; the oldest ended ones give way. */
  async add(
    first: Omit<MigrationRecord, "seq" | "version" | "bootId" | "createdAt">,
  ): Promise<Session> {
    const { recorder, clock, bootId } = this.deps;
    const record = {
      ...first,
      seq: this.#nextSeq++,
      version: 1,
      bootId,
      createdAt: timestamp(clock),
    };
    const session = new Session(record);
    const surplus = this.#surplus();
    await recorder.commit([
      { kind: "put-migration", migration: record },
      ...surplus.map(({ id }) => ({ kind: "delete-migration", id }) as const),
    ]);
    for (const old of surplus) this.#forget(old);
    this.#byId.set(record.id, session);
    this.announce(session, "created");
    return session;
  }

  async delete(session: Session): Promise<void> {
    const { id } = session;
    await this.deps.recorder.commit([{ kind: "delete-migration", id }]);
    this.#forget(session);
    this.announce(session, "deleted");
    session.tell();
  }

  /**
   * Durable when it resolves, together with what else belongs to it.
   * @param what of the event; null: none
   */
  change(
    session: Session,
    change: SessionChange,
    what: string | null,
    more: readonly Change[] = [],
  ): Promise<void> {
    return session.changes.run(async () => {
      const { recorder, bootId } = this.deps;
      const { version } = session.record;
      const record = { ...session.record, ...change, version: version + 1, bootId };
      const rounds = session.unsavedRounds;
      session.unsavedRounds = [];
      try {
        await recorder.commit([
          { kind: "put-migration", migration: record },
          ...roundsChange(session.id, rounds),
          ...more,
        ]);
      } catch (error) {
        session.unsavedRounds = [...rounds, ...session.unsavedRounds];
        throw error;
      }
      if (!session.isEnded) this.#countEnd(session, record.state);
      // What else has become of it while the disk worked stays.
      const now = session.record;
      session.record = { ...now, ...change, version: now.version + 1, bootId };
      if (what !== null) this.announce(session, what);
      session.tell();
    });
  }

  /** In force at once; on disk with the next batch, or before, with another change. */
  changeLater(session: Session, change: SessionChange, what: string): void {
    const { version } = session.record;
    session.record = { ...session.record, ...change, version: version + 1 };
    this.announce(session, what);
    this.saveLater(session);
    session.tell();
  }

  get totals(): Readonly<Record<Direction, MigrationTotals>> {
    const { outgoing, incoming } = this.#totals;
    return { outgoing: { ...outgoing }, incoming: { ...incoming } };
  }

  /** What a session has sent or taken so far. */
  countTraffic(session: Session, traffic: Traffic): void {
    const totals = this.#totals[session.record.direction];
    for (const kind of ["pagesSent", "pagesZero", "pagesDuplicate", "bytes"] as const) {
      totals[kind] += Math.max(0, traffic[kind] - session.counted[kind]);
    }
    session.counted = traffic;
  }

  countRound({ record: { direction } }: Session): void {
    this.#totals[direction].rounds += 1;
  }

  #countEnd({ record: { direction } }: Session, state: string): void {
    if (state === "completed" || state === "failed" || state === "cancelled") {
      this.#totals[direction][state] += 1;
    }
  }

  async rounds(session: Session): Promise<readonly RoundRecord[]> {
    const stored = await this.deps.store.readMigrationRounds(session.id);
    const own = new Set(session.rounds.map(({ round }) => round));
    return [...stored.map(roundOf).filter(({ round }) => !own.has(round)), ...session.rounds];
  }

  /** Progress and rounds of a session go to disk with the next batch. */
  saveLater(session: Session): void {
    this.#unsaved.add(session);
    if (this.#cancelTimer !== null) return;
    this.#cancelTimer = this.deps.clock.timer(ROUND_FLUSH_MS, () => {
      this.#cancelTimer = null;
      void this.flush();
    });
  }

  async flush(): Promise<void> {
    const sessions = [...this.#unsaved];
    this.#unsaved.clear();
    const known = sessions.filter(({ id }) => this.#byId.has(id));
    // All at once, so that they share one transaction. A refused write was logged; the next change
    // of its session carries it.
    await Promise.all(known.map((session) => this.change(session, {}, null).catch(() => {})));
  }

  announce(session: Session, what: string, more: JsonObject = {}): void {
    const { id, direction, state, point, vmId, vmUuid, peer, failure } = session.record;
    const data = { direction, state, point, vmId, vmUuid, peer, failure, ...more };
    this.deps.events.announce(`migration.${what}`, `migrations/${id}`, data);
  }

  #forget(session: Session): void {
    this.#byId.delete(session.id);
    this.#onForgotten(session);
  }

  #surplus(): readonly Session[] {
    const count = this.#byId.size + 1;
    if (count <= MIGRATIONS_KEPT) return [];
    const ended = this.all().filter(({ isEnded }) => isEnded);
    if (count > MIGRATIONS_ASKED_KEPT) return ended.slice(0, count - MIGRATIONS_ASKED_KEPT);
    return ended.filter((one) => !this.#mayBeAsked(one)).slice(0, count - MIGRATIONS_KEPT);
  }

  /** A source that hasn't heard yet how its migration ended asks until it has. */
  #mayBeAsked({ record: { direction, endedAt } }: Session): boolean {
    if (direction === "outgoing" || endedAt === null) return false;
    return this.deps.clock.nowMs() - Date.parse(endedAt) < MIGRATION_ASKED_MS;
  }
}

function roundsChange(migrationId: string, rounds: readonly RoundRecord[]): readonly Change[] {
  if (rounds.length === 0) return [];
  const records = rounds.map((round) => roundRecordOf(migrationId, round));
  return [{ kind: "put-migration-rounds", rounds: records }];
}
