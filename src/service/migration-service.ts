// Owns: the use cases of migrations: ask, look, change, end, settle. HTTP thread.

import { timestamp } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import {
  DEFAULT_PARAMETERS,
  type LiveParameters,
  PeerError,
  type Verdict,
  verdictOf,
} from "../migration/index.js";
import type { JsonObject } from "../store/index.js";
import type { Engine, SourceRun } from "./migration/engine-port.js";
import type { Incoming } from "./migration/incoming.js";
import { completed, type Outgoing } from "./migration/outgoing.js";
import type { PeerBook } from "./migration/peer-book.js";
import { sourceReasons } from "./migration/preflight.js";
import type { Session, SessionBook } from "./migration/session-book.js";
import type {
  MigrationCounts,
  MigrationFilter,
  MigrationParameters,
  MigrationRequest,
  MigrationResource,
  MigrationService,
  PeerResource,
  Preflight,
  Resolution,
  RoundRecord,
} from "./migration/types.js";
import type { Page } from "./page.js";
import type { VmRegistry } from "./vm-registry.js";

interface Deps {
  readonly book: SessionBook;
  readonly registry: VmRegistry;
  readonly peers: PeerBook;
  readonly engine: Engine;
  readonly outgoing: Outgoing;
  readonly incoming: Incoming;
}

export class Migrations implements MigrationService {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  peers(): readonly PeerResource[] {
    return this.#deps.peers.list();
  }

  async create(request: MigrationRequest): Promise<MigrationResource> {
    const { registry, engine, outgoing, peers } = this.#deps;
    const entry = registry.require(request.vmId);
    // What is asked first gives the most telling refusal.
    entry.requireHandle();
    entry.refuseWhileMoving();
    peers.require(request.peer);
    const parameters = completed(request);
    const [first] = await sourceReasons(entry, parameters, engine.supportsPostcopy);
    if (first?.code === "migration-in-progress") entry.refuseWhileMoving();
    if (first !== undefined) {
      throw new ServiceError("migration-refused", first.detail, { reason: first.code });
    }
    return this.#resource(await outgoing.create(request));
  }

  async preflight(request: MigrationRequest): Promise<Preflight> {
    const { registry, engine, outgoing, peers } = this.#deps;
    const entry = registry.require(request.vmId);
    entry.requireHandle();
    const peer = peers.require(request.peer);
    const reasons = await sourceReasons(entry, completed(request), engine.supportsPostcopy);
    const passport = await outgoing.passport(entry, "preflight");
    const there = await peer.check(passport).catch(peerRefusal);
    return {
      ...there,
      possible: there.possible && reasons.length === 0,
      reasons: [...reasons, ...there.reasons],
    };
  }

  async get(id: string): Promise<MigrationResource> {
    return this.#resource(this.#deps.book.require(id));
  }

  async list(filter: MigrationFilter): Promise<Page<MigrationResource>> {
    const { items, nextCursor } = this.#deps.book.list(filter);
    return { items: items.map((session) => this.#resource(session)), nextCursor };
  }

  async rounds(id: string): Promise<readonly RoundRecord[]> {
    return this.#deps.book.rounds(this.#deps.book.require(id));
  }

  async adjust(
    id: string,
    change: Partial<LiveParameters>,
    ifMatch: number | null,
  ): Promise<MigrationResource> {
    const session = this.#outgoing(id);
    const { version } = session.record;
    if (ifMatch !== null && ifMatch !== version) {
      const why = `The migration has version ${version}, not ${ifMatch}: read it again.`;
      throw new ServiceError("precondition-failed", why, { version });
    }
    refuseEnded(session);
    const parameters = { ...session.record.parameters, ...change } as JsonObject;
    await this.#deps.book.change(session, { parameters }, "adjusted");
    session.source?.adjust(change);
    return this.#resource(session);
  }

  async cancel(id: string): Promise<MigrationResource> {
    const { book, outgoing, incoming } = this.#deps;
    const session = book.require(id);
    if (session.state === "cancelled") return this.#resource(session);
    refuseEnded(session);
    refuseCommitted(session);
    if (!session.record.cancelRequested) {
      await book.change(session, { cancelRequested: true }, "cancel-requested");
    }
    if (session.record.direction === "incoming") {
      await incoming.abort(id, "It was cancelled at the target.", true);
    } else if (!(await outgoing.dequeue(session))) {
      const why = session.source?.cancel() ?? null;
      if (why !== null) throw new ServiceError("migration-committed", why);
    }
    return this.#resource(session);
  }

  async proceed(id: string): Promise<MigrationResource> {
    return this.#act(id, "pre-switchover", (source) => source.continue());
  }

  async startPostcopy(id: string): Promise<MigrationResource> {
    return this.#act(id, null, (source) => source.startPostcopy());
  }

  async recover(id: string): Promise<MigrationResource> {
    return this.#act(id, "postcopy-paused", (source) => source.recover());
  }

  async resolve(
    id: string,
    runsOn: Resolution["runsOn"],
    reason: string,
  ): Promise<MigrationResource> {
    const { book } = this.#deps;
    const session = book.require(id);
    refuseEnded(session);
    const run = session.source ?? session.resumed ?? session.target;
    const word = { runsOn, reason };
    if (run === null) throw wrongState(session, "Nothing of it runs here.");
    const why = run.whyNotResolve(word);
    if (why !== null) throw wrongState(session, why);
    const before = session.record.resolution;
    const resolution = { ...word, at: timestamp(book.deps.clock) };
    // First what was said, then what comes of it: nothing is settled that no record explains.
    await book.change(session, { resolution }, "resolved");
    try {
      const late = await run.resolve(word);
      if (late !== null) throw wrongState(session, late);
    } catch (error) {
      await this.#unsay(session, before);
      if (!(error instanceof PeerError)) throw error;
      throw new ServiceError("store-unavailable", error.message);
    }
    return this.#resource(session);
  }

  /** It wasn't taken after all. On disk with the session's next write where not at once. */
  async #unsay(session: Session, resolution: JsonObject | null): Promise<void> {
    const { book } = this.#deps;
    session.record = { ...session.record, resolution };
    await book.change(session, { resolution }, null).catch(() => {});
  }

  async delete(id: string): Promise<void> {
    const { book } = this.#deps;
    const session = book.require(id);
    if (!session.isEnded) {
      const why = `The migration is ${session.state}: only an ended one can be deleted.`;
      throw new ServiceError("migration-not-ended", why);
    }
    await book.delete(session);
  }

  subscribe(id: string, listener: () => void): () => void {
    const { listeners } = this.#deps.book.require(id);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  async verdict(id: string): Promise<Verdict> {
    const session = this.#outgoing(id);
    const run = session.source ?? session.resumed;
    return run?.verdict ?? verdictOf(session.state, session.point);
  }

  counts(): MigrationCounts {
    const { book } = this.#deps;
    const counted = new Map<string, number>();
    for (const { record, state } of book.all()) {
      const key = `${record.direction} ${state}`;
      counted.set(key, (counted.get(key) ?? 0) + 1);
    }
    const states = [...counted].map(([key, count]) => {
      const [direction, state] = key.split(" ") as [
        MigrationResource["direction"],
        MigrationResource["state"],
      ];
      return { direction, state, count };
    });
    const leaving = book.all().filter(({ record, isEnded }) => {
      return record.direction === "outgoing" && !isEnded;
    });
    const resources = leaving.map((session) => this.#resource(session));
    return {
      states,
      totals: book.totals,
      notConverging: resources.filter(({ decision }) => decision?.isConverging === false).length,
      bytesRemaining: resources.reduce((sum, one) => sum + (one.progress?.bytesRemaining ?? 0), 0),
    };
  }

  /** @param state the only one in which that can be asked for; null: the engine says */
  async #act(
    id: string,
    state: MigrationResource["state"] | null,
    act: (source: SourceRun) => string | null,
  ): Promise<MigrationResource> {
    const session = this.#outgoing(id);
    refuseEnded(session);
    const { source } = session;
    const isRight = source !== null && (state === null || state === session.state);
    const why = isRight
      ? act(source)
      : `The migration is ${session.state}${state === null ? "" : `, not ${state}`}.`;
    if (why === null) return this.#resource(session);
    throw wrongState(session, why);
  }

  /** @throws ServiceError "migration-not-found", "migration-side" */
  #outgoing(id: string): Session {
    const session = this.#deps.book.require(id);
    if (session.record.direction === "outgoing") return session;
    const { peer } = session.record;
    const why = `The VM arrives here: only ${peer}, where it comes from, can say that.`;
    throw new ServiceError("migration-side", why);
  }

  #resource(session: Session): MigrationResource {
    const { record, note, state, point, failure } = session;
    const { bootId: _boot, seq: _seq, direction, ...rest } = record;
    const queuePosition = this.#deps.outgoing.position(session);
    const waits =
      queuePosition === null ? null : `${queuePosition - 1} wait before it, and others run.`;
    return {
      ...rest,
      direction,
      state,
      point,
      failure,
      stateReason: failure?.detail ?? note ?? waits,
      queuePosition,
      // A session of an earlier release lacks what came since.
      parameters: { ...DEFAULT_PARAMETERS, ...record.parameters } as MigrationParameters,
      progress: record.progress as MigrationResource["progress"],
      decision: record.decision as MigrationResource["decision"],
      resolution: record.resolution as Resolution | null,
      statistics: record.statistics as MigrationResource["statistics"],
    };
  }
}

/** @throws ServiceError "peer-unreachable", "peer-certificate", "peer-refused" */
function peerRefusal(error: unknown): never {
  if (!(error instanceof PeerError)) throw error;
  const { code, message } = error;
  if (code === "peer-certificate") throw new ServiceError(code, message);
  throw error.isTransient
    ? new ServiceError("peer-unreachable", message)
    : new ServiceError("peer-refused", message, { reason: code });
}

function wrongState({ state }: Session, why: string): ServiceError {
  return new ServiceError("migration-state", why, { state });
}

function refuseEnded(session: Session): void {
  if (!session.isEnded) return;
  const why = `The migration is ${session.state}: nothing of it goes on.`;
  throw new ServiceError("migration-ended", why, { state: session.state });
}

/** @throws ServiceError "migration-committed" */
function refuseCommitted({ point, record, source }: Session): void {
  if (point === "none" || point === "aborted") return;
  // On disk early, and not in force before its target is ready.
  if (source?.verdict === "undecided") return;
  const why =
    record.direction === "incoming"
      ? "The VM is here and ready: its source decides, and may have let go of it already."
      : "The VM has been handed over: it runs at the target, or will.";
  throw new ServiceError("migration-committed", why, { point });
}
