// Owns: sessions of VMs that arrive, as their sources ask for them. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import { Gate } from "../../base/gate.js";
import { newId } from "../../base/ids.js";
import {
  type CommitPoint,
  type DataPlane,
  DEFAULT_PARAMETERS,
  type MigrationParameters,
  type MovingVm,
  type Offer,
  type Passport,
  PeerError,
  type PeerStatus,
  SESSION_ABORTED,
  SESSION_READY,
  STREAM_VERSIONS,
  type TargetHost,
} from "../../migration/index.js";
import type { Runtime } from "../../runtime/index.js";
import type { JsonObject } from "../../store/index.js";
import type { Attachment, EventfdAttachments } from "../eventfd-attachments.js";
import type { Eventfds } from "../eventfd-service.js";
import type { Images } from "../image-service.js";
import { ARRIVAL_TURN_MS, ARRIVALS_AT_ONCE } from "../limits.js";
import type { VmEntry } from "../vm-entry.js";
import type { VmRegistry } from "../vm-registry.js";
import type { Vms } from "../vm-service.js";
import type { Engine } from "./engine-port.js";
import { Journalist, type PointEffect } from "./journal.js";
import { ramBytes, streamOf } from "./passport.js";
import type { PeerBook } from "./peer-book.js";
import { LOCAL } from "./peers.js";
import type { Session, SessionBook } from "./session-book.js";
import { stateReasons } from "./state-reasons.js";
import type { IncomingService, Preflight, Reason } from "./types.js";
import type { VmMoves } from "./vm-moves.js";

export interface IncomingDeps {
  readonly book: SessionBook;
  readonly registry: VmRegistry;
  readonly vms: Vms;
  readonly images: Images;
  readonly moves: VmMoves;
  readonly peers: PeerBook;
  readonly engine: Engine;
  readonly plane: DataPlane;
  readonly runtime: Runtime;
  readonly eventfds: Eventfds;
  readonly attachments: EventfdAttachments;
  /** A source that says nothing for so long is asked. */
  readonly silenceMs: number;
}

interface Made {
  readonly session: Session;
  /** Settled. */
  readonly offer: Promise<Offer>;
}

export class Incoming implements IncomingService {
  readonly #deps: IncomingDeps;
  /**
   * Of this life, by source and its session: the same offer again is the same session, for as long
   * as the book has it.
   */
  readonly #bySource = new Map<string, Promise<Made>>();
  readonly #arrivals = new Gate(ARRIVALS_AT_ONCE);
  #isClosing = false;

  constructor(deps: IncomingDeps) {
    this.#deps = deps;
    deps.book.onForgotten((session) => this.#forget(session));
  }

  async check(passport: Passport): Promise<Preflight> {
    const reasons = [...this.#reasons(passport)];
    const memoryBytes = passport.memory.reduce((sum, { bytes }) => sum + bytes, 0);
    const missingImages = this.#missing(passport);
    return { possible: reasons.length === 0, reasons, memoryBytes, missingImages };
  }

  async offer(
    passport: Passport,
    parameters: Partial<MigrationParameters>,
  ): Promise<{ readonly offer: Offer; readonly isNew: boolean }> {
    const key = keyOf(this.#peerOf(passport), passport.source.session);
    const known = this.#bySource.get(key);
    if (known !== undefined) {
      const made = await known;
      refuseEnded(made.session);
      return { offer: await made.offer, isNew: false };
    }
    this.#refuse(passport);
    const all = { ...DEFAULT_PARAMETERS, ...parameters };
    const making = this.#arrivals.run(() => this.#inTurn(passport, all));
    this.#bySource.set(key, making);
    try {
      const { offer } = await making;
      return { offer: await offer, isNew: true };
    } catch (error) {
      // What a source repeats after a refusal is tried again, as a session of its own.
      this.#bySource.delete(key);
      throw error;
    }
  }

  async status(id: string): Promise<PeerStatus> {
    return statusOf(this.#require(id));
  }

  async finish(id: string, state: Uint8Array, digest: string | null): Promise<string | null> {
    const session = this.#require(id);
    if (session.target === null) throw aborted(session);
    return asRefusal(session.target.finish(state, digest));
  }

  async commit(id: string): Promise<PeerStatus> {
    const session = this.#require(id);
    if (session.target !== null) await asRefusal(session.target.commit());
    else if (session.point !== "running") throw aborted(session);
    return statusOf(session);
  }

  async abort(id: string, why: string, unlessReady: boolean): Promise<PeerStatus> {
    const session = this.#require(id);
    if (session.target !== null) {
      await asRefusal(session.target.abort(why, unlessReady));
    } else if (session.point === "running") {
      throw new ServiceError("session-running", "The VM runs here: too late to abort.");
    }
    return statusOf(session);
  }

  async putImage(sha256: string, name: string, bytes: Uint8Array): Promise<void> {
    await this.#deps.images.receive(sha256, name, bytes);
  }

  /** A session that a restart has cut off: unless its VM ran already, it never will. */
  async resume(session: Session): Promise<void> {
    const { engine, book } = this.#deps;
    const { state, point } = session;
    const { peerSession } = session.record;
    const { clock } = book.deps;
    const kept = { state, point, peerSession };
    await engine.resumeTarget({ kept, journal: this.#journal(session), clock });
  }

  /** The VM that a session brought, or is bringing. */
  entryOf(session: Session): VmEntry | null {
    try {
      return this.#deps.registry.require(session.record.vmId);
    } catch {
      return null;
    }
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    for (const { target, point } of this.#deps.book.all()) {
      if (target === null || point !== "none") continue;
      await target.abort("The target's service ends.").catch(() => {});
    }
  }

  /** Those that came before have their VMs by now, and what is left may not do for this one. */
  async #inTurn(passport: Passport, parameters: MigrationParameters): Promise<Made> {
    this.#refuse(passport);
    const made = await this.#make(passport, parameters);
    await new Promise<void>((resolve) => {
      const cancel = this.#deps.book.deps.clock.timer(ARRIVAL_TURN_MS, resolve);
      const end = () => {
        cancel();
        resolve();
      };
      made.offer.then(end, end);
    });
    return made;
  }

  #peerOf({ source: { instance } }: Passport): string {
    return instance === this.#deps.peers.instance ? LOCAL : instance;
  }

  /** A refused offer may have become a session of its own since. */
  #forget(session: Session): void {
    const { direction, peer, peerSession } = session.record;
    if (direction === "outgoing" || peerSession === null) return;
    const key = keyOf(peer, peerSession);
    this.#bySource.get(key)?.then(
      (made) => {
        if (made.session === session) this.#bySource.delete(key);
      },
      () => {},
    );
  }

  async #make(passport: Passport, parameters: MigrationParameters): Promise<Made> {
    const { book, engine, plane, peers, silenceMs } = this.#deps;
    const { session: peerSession } = passport.source;
    const peer = this.#peerOf(passport);
    const session = await book.add({
      id: newId("mig"),
      direction: "incoming",
      vmId: newId("vm"),
      vmUuid: passport.vm.uuid,
      vmName: passport.vm.name,
      peer,
      peerSession,
      state: "setup",
      point: "none",
      cancelRequested: false,
      parameters: parameters as unknown as JsonObject,
      ...{ progress: null, decision: null, failure: null, resolution: null },
      ...{ statistics: null, startedAt: null, endedAt: null },
    });
    const { clock } = book.deps;
    const target = engine.target({
      session: session.id,
      ...{ passport, parameters, streams: STREAM_VERSIONS, clock, silenceMs },
      journal: this.#journal(session),
      dataPlane: plane,
      host: this.#host(session),
      source: peers.voice(peer, peerSession),
    });
    session.target = target;
    const offer = asRefusal(target.offer());
    offer.then(
      () => {
        const entry = this.entryOf(session);
        if (entry !== null) this.#deps.moves.keepParts(entry);
      },
      () => {},
    );
    return { session, offer };
  }

  #host(session: Session): TargetHost {
    const { moves, attachments } = this.#deps;
    // Within a host the eventfds are the same, and the VM that leaves has its irqfds until it ends.
    const isLocal = session.record.peer === LOCAL;
    const options = { by: isLocal ? "counters" : "names", mayWait: isLocal } as const;
    let attached: Attachment | null = null;
    return {
      build: async (passport): Promise<MovingVm> => {
        const { handle } = await moves.receive(session, passport, (reason) => {
          void session.target?.vmDied(reason).catch(() => {});
        });
        return handle;
      },
      eventfds: async (moved) => {
        attached = await attachments.attach(moved, options);
        return attached.eventfds;
      },
      release: async () => {
        const handle = this.entryOf(session)?.handle ?? null;
        if (handle === null) return;
        // Held, it takes note of what they count.
        await attached?.keep();
        await handle.call("holdVm", { hold: false, why: "It runs here now." });
      },
      discard: async () => {
        await attached?.discard();
        const entry = this.entryOf(session);
        if (entry === null || entry.record.state !== "incoming") return;
        // Whatever the record says: what is on disk of it goes with the point.
        moves.discarded(entry).done();
      },
      lose: async (why) => {
        const entry = this.entryOf(session);
        if (entry !== null) await moves.lost(entry, why);
      },
    };
  }

  #journal(session: Session): Journalist {
    return new Journalist(
      this.#deps.book,
      session,
      async (point, write) => {
        const entry = this.entryOf(session);
        if (entry === null) return write(null);
        await entry.changes.run(() => write(this.#effect(entry, session, point)));
      },
      // What is asked from now on the record answers.
      () => {
        session.target = null;
        const entry = this.entryOf(session);
        if (entry !== null && entry.record.state !== "incoming") this.#deps.moves.isWhole(entry);
      },
    );
  }

  #effect(entry: VmEntry, session: Session, point: CommitPoint): PointEffect | null {
    const { moves } = this.#deps;
    if (point === "ready") return moves.ready(entry);
    if (point === "running") return moves.running(entry, session);
    return point === "aborted" ? moves.discarded(entry) : null;
  }

  #refuse(passport: Passport): void {
    if (this.#isClosing || this.#deps.vms.isDraining) {
      throw new ServiceError("draining", "The service is ending: no VM moves here any more.");
    }
    const [first] = this.#reasons(passport);
    if (first !== undefined) throw new ServiceError(first.code, first.detail);
    const missing = this.#missing(passport);
    if (missing.length === 0) return;
    const why = `Guest images are missing here: PUT them to /v1/incoming-images/{sha256} first.`;
    throw new ServiceError("images-missing", why, { missing });
  }

  *#reasons(passport: Passport): Iterable<Reason> {
    const { version, streams, source, vm } = passport;
    const { registry, runtime, peers, eventfds } = this.#deps;
    const reason = (code: string, detail: string): Reason => ({ side: "target", code, detail });
    if (version !== 1 || streamOf(passport) === null) {
      const said = `version ${version} with page streams ${streams.join(", ")}`;
      yield reason("migration-version", `The source speaks ${said}, which this host does not.`);
    }
    const isLocal = source.instance === peers.instance;
    if (!isLocal && registry.hasUuid(vm.uuid)) {
      yield reason("uuid-taken", `Another VM of the target has the uuid ${vm.uuid}.`);
    }
    yield* stateReasons(passport, eventfds, isLocal);
    const usage = runtime.usage();
    if (usage.vms >= usage.maxVms) {
      yield reason("vm-limit", `The target runs ${usage.vms} VMs, as many as it may.`);
    }
    const bytes = ramBytes(passport);
    const left = usage.memoryBudgetBytes - usage.memoryUsedBytes;
    if (bytes > left) {
      const why = `The VM has ${bytes} bytes of memory, and the target's budget has ${left} left.`;
      yield reason("target-memory", why);
    }
  }

  #missing({ vm }: Passport): readonly string[] {
    const { images } = this.#deps;
    return vm.images.map(({ sha256 }) => sha256).filter((hash) => images.nameOf(hash) === null);
  }

  #require(id: string): Session {
    const session = this.#deps.book.require(id);
    if (session.record.direction === "incoming") return session;
    throw new ServiceError("migration-not-found", `No VM arrives by migration ${id}.`);
  }
}

function keyOf(peer: string, session: string): string {
  return `${peer} ${session}`;
}

function statusOf({ state, point, failure }: Session): PeerStatus {
  return { state, point, failure };
}

function refuseEnded(session: Session): void {
  if (session.isEnded) throw aborted(session);
}

function aborted(session: Session): ServiceError {
  const why = session.failure === null ? "" : `: ${session.failure.detail}`;
  return new ServiceError(SESSION_ABORTED, `Session ${session.id} is ${session.state}${why}`);
}

/** Words of the engine that the source's engine must find again. */
const KEPT_CODES: ReadonlySet<string> = new Set([
  SESSION_ABORTED,
  SESSION_READY,
  "session-running",
]);

/** What the engine refuses, as the HTTP face answers it. */
async function asRefusal<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    const { code, message, isTransient } = error;
    if (KEPT_CODES.has(code)) throw new ServiceError(code, message);
    const row = isTransient ? "session-later" : "session-refused";
    throw new ServiceError(row, message, { reason: code });
  }
}
