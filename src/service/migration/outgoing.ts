// Owns: sessions of VMs that leave: queue, start, end, and what becomes of the VM. HTTP thread.
import { ServiceError, toRefusal } from "../../base/errors.js";
import { Gate } from "../../base/gate.js";
import { newId } from "../../base/ids.js";
import {
  type CommitPoint,
  type DataPlane,
  DEFAULT_PARAMETERS,
  type Failure,
  type MigrationParameters,
  type MovedEventfd,
  type Passport,
  type ResumeSpec,
} from "../../migration/index.js";
import type { JsonObject } from "../../store/index.js";
import type { EventfdAttachments } from "../eventfd-attachments.js";
import { MIGRATIONS_QUEUED_MAX, SETUPS_AT_ONCE } from "../limits.js";
import type { VmEntry } from "../vm-entry.js";
import type { VmRegistry } from "../vm-registry.js";
import type { Engine, SourceRun } from "./engine-port.js";
import { type AtPoint, Journalist, type PointEffect } from "./journal.js";
import { passportEventfds, passportOf } from "./passport.js";
import type { PeerBook } from "./peer-book.js";
import { LOCAL } from "./peers.js";
import type { Session, SessionBook } from "./session-book.js";
import type { MigrationRequest } from "./types.js";
import type { VmMoves } from "./vm-moves.js";

export interface OutgoingDeps {
  readonly book: SessionBook;
  readonly registry: VmRegistry;
  readonly moves: VmMoves;
  readonly peers: PeerBook;
  readonly engine: Engine;
  readonly plane: DataPlane;
  readonly attachments: EventfdAttachments;
  /** Sessions that run at once. */
  readonly runningMax: number;
}

/** Milliseconds that sessions get to end when the service does. */
const CLOSE_MS = 5_000;

export class Outgoing {
  readonly #deps: OutgoingDeps;
  /** Sessions that wait, in order. */
  readonly #queue: Session[] = [];
  readonly #running = new Map<Session, Promise<void>>();
  /** Eventfds that have gone with a VM's state. */
  readonly #moved = new WeakMap<Session, readonly MovedEventfd[]>();
  /** By peer: sessions that are being set up. */
  readonly #departures = new Map<string, Gate>();
  #isClosing = false;

  constructor(deps: OutgoingDeps) {
    this.#deps = deps;
  }

  /** From 1; null: it doesn't wait. */
  position(session: Session): number | null {
    const at = this.#queue.indexOf(session);
    return at < 0 ? null : at + 1;
  }

  /** @throws ServiceError as MigrationService.create, but for what the target says */
  async create(request: MigrationRequest): Promise<Session> {
    const { book, registry, peers } = this.#deps;
    if (this.#isClosing) throw new ServiceError("draining", "The service is ending.");
    const entry = registry.require(request.vmId);
    entry.requireHandle();
    entry.refuseWhileMoving();
    const peer = peers.require(request.peer);
    if (this.#queue.length >= MIGRATIONS_QUEUED_MAX) {
      const why = `${this.#queue.length} migrations wait already: let one end, or cancel it.`;
      throw new ServiceError("migration-limit", why);
    }
    const id = newId("mig");
    // Before the first wait, so that no second request slips in.
    const before = entry.migrationId;
    entry.isMoving = true;
    entry.migrationId = id;
    try {
      const session = await book.add({
        id,
        direction: "outgoing",
        vmId: entry.id,
        vmUuid: entry.record.uuid,
        vmName: entry.record.name,
        peer: peer.name,
        peerSession: null,
        state: "queued",
        point: "none",
        cancelRequested: false,
        parameters: completed(request) as unknown as JsonObject,
        ...{ progress: null, decision: null, failure: null, resolution: null },
        ...{ statistics: null, startedAt: null, endedAt: null },
      });
      this.#queue.push(session);
      this.#pump();
      return session;
    } catch (error) {
      entry.isMoving = false;
      entry.migrationId = before;
      throw error;
    }
  }

  /** Takes a waiting one out of the queue. @returns whether it waited */
  async dequeue(session: Session): Promise<boolean> {
    const at = this.#queue.indexOf(session);
    if (at < 0) return false;
    this.#queue.splice(at, 1);
    await this.#journal(session).state("cancelled", null);
    this.#letGo(session);
    for (const waiting of this.#queue) waiting.tell();
    return true;
  }

  /** Asks what is under way to end; what the target has already goes on with the next life. */
  async close(): Promise<void> {
    this.#isClosing = true;
    for (const session of [...this.#queue]) await this.dequeue(session);
    // In post-copy nothing can be called off any more: pages that don't follow now never will.
    const stopping = [...this.#running].filter(
      ([{ source, state }]) => source?.cancel() === null || state.startsWith("postcopy"),
    );
    const { clock } = this.#deps.book.deps;
    const late = new Promise<void>((resolve) => clock.timer(CLOSE_MS, resolve));
    await Promise.race([Promise.all(stopping.map(([, ended]) => ended)), late]);
  }

  /** Settles what a crash left open; goes on by itself. */
  resume(session: Session): void {
    const { engine, peers, book } = this.#deps;
    const { peer } = session.record;
    const run = engine.resumeSource(this.#resumeParts(session), peers.open(peer));
    session.note = `The service has ended since it began: it asks ${peer} what became of it.`;
    session.resumed = run;
    // Nothing may make another VM of its record before it is known who has it.
    const entry = this.#entryOf(session);
    if (entry?.migrationId === session.id) entry.isMoving = true;
    void run.run().then(
      () => {
        session.resumed = null;
      },
      (error: unknown) => {
        book.deps.log.error({ migration: session.id, err: error }, "No end of a session.");
      },
    );
  }

  #resumeParts(session: Session): ResumeSpec {
    const { state, point } = session;
    const { peerSession } = session.record;
    const { clock } = this.#deps.book.deps;
    return { kept: { state, point, peerSession }, journal: this.#journal(session), clock };
  }

  #pump(): void {
    while (!this.#isClosing && this.#running.size < this.#deps.runningMax) {
      const session = this.#queue.shift();
      if (session === undefined) break;
      const ended = this.#run(session).finally(() => {
        this.#running.delete(session);
        this.#pump();
      });
      this.#running.set(session, ended);
    }
    for (const waiting of this.#queue) waiting.tell();
  }

  /** Never rejects. */
  async #run(session: Session): Promise<void> {
    const journal = this.#journal(session);
    try {
      const run = await this.#start(session, journal);
      session.source = run;
      if (session.record.cancelRequested || this.#isClosing) run.cancel();
      await run.run();
    } catch (error) {
      this.#deps.book.deps.log.error({ migration: session.id, err: error }, "No start.");
      await journal.state("failed", startFailure(error)).catch(() => {});
    }
    session.source = null;
    await this.#settle(session);
  }

  async #start(session: Session, journal: Journalist): Promise<SourceRun> {
    const { engine, plane, peers, book, attachments } = this.#deps;
    const entry = this.#deps.registry.require(session.record.vmId);
    const { handle } = entry;
    if (handle === null) throw new ServiceError("vm-gone", "The VM ended before it moved.");
    const { clock } = book.deps;
    const { supportsPostcopy } = engine;
    const peer = peers.open(session.record.peer);
    const { trust } = peer;
    return engine.source({
      session: session.id,
      ...{ journal, clock, peer, trust, supportsPostcopy },
      dataPlane: plane,
      turn: (act) => this.#departure(session.record.peer).run(act),
      vm: handle,
      eventfds: (saved) => {
        const moved = attachments.named(saved);
        this.#moved.set(session, moved);
        return moved;
      },
      passport: await this.passport(entry, session.id),
      parameters: session.record.parameters as unknown as MigrationParameters,
    });
  }

  /** A target builds VMs one after the other; what waits for that here would only be in the way. */
  #departure(peer: string): Gate {
    const known = this.#departures.get(peer) ?? new Gate(SETUPS_AT_ONCE);
    this.#departures.set(peer, known);
    return known;
  }

  /** What a target is told of a VM. */
  async passport(entry: VmEntry, session: string): Promise<Passport> {
    const { peers, attachments, moves } = this.#deps;
    const { handle } = entry;
    const memory = handle === null ? null : (await handle.call("describeMemory", {})).value;
    const eventfds = handle === null ? [] : await passportEventfds(handle, attachments);
    const source = { instance: peers.instance, session, url: "" };
    return passportOf(entry, { memory, eventfds, source, autosnapshot: moves.declared(entry) });
  }

  #journal(session: Session): Journalist {
    const atPoint: AtPoint = async (point, write) => {
      const entry = this.#entryOf(session);
      if (entry === null) return write(null);
      await entry.changes.run(() => write(this.#effect(entry, session, point)));
    };
    // Who sees that it has ended may delete what is left of the VM, or move it again.
    return new Journalist(this.#deps.book, session, atPoint, () => this.#letGo(session));
  }

  #effect(entry: VmEntry, session: Session, point: CommitPoint): PointEffect | null {
    const { moves } = this.#deps;
    if (point === "released") return moves.released(entry, session);
    // The target lost it before it ran there, or an operator says so.
    if (point !== "aborted" || entry.record.state !== "migrated") return null;
    return moves.backHere(entry);
  }

  #entryOf(session: Session): VmEntry | null {
    try {
      return this.#deps.registry.require(session.record.vmId);
    } catch {
      return null;
    }
  }

  /** The session is over: the VM stays and is free again, or nothing of it is needed any more. */
  async #settle(session: Session): Promise<void> {
    const entry = this.#entryOf(session);
    if (entry === null) return;
    // An ending service leaves it to the next one.
    if (!session.isEnded) return;
    this.#letGo(session);
    if (entry.record.state !== "migrated") return;
    const { handle } = entry;
    entry.handle = null;
    await handle?.close();
    // Within a host they are the same ones.
    const moved = session.record.peer === LOCAL ? [] : (this.#moved.get(session) ?? []);
    this.#deps.attachments.moved(moved);
  }

  #letGo(session: Session): void {
    const entry = this.#entryOf(session);
    if (entry?.migrationId === session.id) entry.isMoving = false;
  }
}

export function completed(request: MigrationRequest): MigrationParameters {
  return { ...DEFAULT_PARAMETERS, ...request.parameters };
}

function startFailure(error: unknown): Failure {
  const { code, detail } = toRefusal(error);
  const first = detail.split("\n")[0] ?? detail;
  return { side: "source", during: "setup", code, detail: first, causes: [] };
}
