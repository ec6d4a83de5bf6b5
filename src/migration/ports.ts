// Owns: what the engine of a migration needs from outside, as interfaces: the peer, the page
// stream, durable points, time. The service implements them with HTTP, a worker and SQLite, a
// simulation with plain objects in one thread. HTTP thread, or inline.
import type { DirtyPages, MemoryMap, StateCommands, TrackingCommands } from "../runtime/index.js";
import type {
  CommitPoint,
  Decision,
  Failure,
  MigrationParameters,
  MigrationState,
  Offer,
  Passport,
  Progress,
  RoundRecord,
  Statistics,
  Traffic,
} from "./types.js";

type Moving = StateCommands & TrackingCommands;

/** A VM as the engine sees it: a VmHandle. */
export interface MovingVm {
  call<K extends keyof Moving>(
    name: K,
    args: Moving[K][0],
  ): Promise<{ readonly value: Moving[K][1] }>;
}

/** An eventfd of the VM on its way: counters are a host's, so the target makes its own. */
export interface MovedEventfd {
  /** The VM's own number of it. */
  readonly local: number;
  /** By which the source's clients know it; null: none does. */
  readonly name: string | null;
  readonly count: bigint;
  readonly isSemaphore: boolean;
}

/** Eventfds as a VM's thread tells of them. */
export type SavedEventfds = StateCommands["saveState"][1]["eventfds"];
export type MadeEventfd = NonNullable<StateCommands["loadState"][0]["eventfds"]>[number];

/** What the target's service does for one session. */
export interface TargetHost {
  /**
   * Builds the VM, held.
   * @throws ServiceError or KvmError: why this host can't have it
   */
  build(passport: Passport, parameters: MigrationParameters): Promise<MovingVm>;
  /**
   * Finds the eventfds that come with the VM by their names, and makes those that this host lacks,
   * each with its count. `discard` ends those that were made.
   * @throws ServiceError or KvmError: why this host can't have them
   */
  eventfds(moved: readonly MovedEventfd[]): Promise<readonly MadeEventfd[]>;
  /** The VM is this host's: it goes on, if it ran at the source. */
  release(wasRunning: boolean): Promise<void>;
  /** The VM that was built goes, and its memory. May be repeated. */
  discard(why: string): Promise<void>;
  /** The VM has run here, and ends: pages that it lacks will never come. */
  lose(why: string): Promise<void>;
}

/** The source as the target asks it. */
export interface SourceVoice {
  /** @throws PeerError */
  verdict(): Promise<Verdict>;
}

/** What of a session is kept. What returns a promise is durable when it resolves. */
export interface Journal {
  state(state: MigrationState, failure: Failure | null): Promise<void>;
  /** On disk with the next write: for a state that no restart asks for. */
  passed(state: MigrationState, failure: Failure | null): void;
  point(point: CommitPoint): Promise<void>;
  /** The peer's name for the session: whom to ask after a crash. Durable before any page goes. */
  peer(session: string): Promise<void>;
  /** A round that is over; again with the same number: more is known of it. */
  round(record: RoundRecord): void;
  progress(progress: Progress): void;
  decided(decision: Decision): void;
  statistics(statistics: Statistics): void;
}

export interface PeerStatus {
  readonly state: MigrationState;
  readonly point: CommitPoint;
  readonly failure: Failure | null;
}

/**
 * The target as the source talks to it, beside the page stream. Every call may be repeated: a
 * second one with the same arguments has no further effect.
 * @throws PeerError
 */
export interface Peer {
  readonly name: string;
  offer(passport: Passport, parameters: MigrationParameters): Promise<Offer>;
  status(session: string): Promise<PeerStatus>;
  /**
   * State of the devices and vCPUs, after which the target is ready: durable when it resolves.
   * @param digest of all memory; null: not verified
   * @returns the target's digest
   */
  finish(session: string, state: Uint8Array, digest: string | null): Promise<string | null>;
  /** The source has released the VM: the target runs it. */
  commit(session: string): Promise<void>;
  /**
   * The target never runs it by this session.
   * @param unlessReady refuses with SESSION_READY instead, where the target has everything
   */
  abort(session: string, why: string, unlessReady?: boolean): Promise<void>;
}

/**
 * What the source says when the target asks, until it is told. "lost": it was released, and the
 * source has died with pages that the target may lack (post-copy).
 */
export type Verdict = "undecided" | "released" | "aborted" | "lost";

/** Code of a peer that will never run the VM by this session: whoever has it may go on. */
export const SESSION_ABORTED = "session-aborted";

/** Code of a target that has everything, for a source that has lost its own. */
export const SESSION_READY = "session-ready";

/** A peer that can't be reached, or refuses. */
export class PeerError extends Error {
  override readonly name = "PeerError";
  readonly code: string;
  /** Whether trying again may help: nobody answered, or not yet. */
  readonly isTransient: boolean;
  /** Whether it was the peer that said so: then the way to it is fine. */
  readonly isAnswer: boolean;

  constructor(code: string, detail: string, isTransient: boolean, isAnswer = !isTransient) {
    super(detail);
    this.code = code;
    this.isTransient = isTransient;
    this.isAnswer = isAnswer;
  }
}

/** A round that has ended. */
export interface SentRound extends Traffic {
  /** Pages of it that haven't gone. */
  readonly unsent: DirtyPages;
}

/** Where pages go: one session's connections to the target's data plane. */
export interface Outgoing {
  /**
   * Sends pages as they are now and resolves once the target has what has gone in its memory.
   * @param pages null: every page of every block
   * @param leave the round is over once no more than about so many pages are left; 0: they all go
   * @throws PeerError after reconnecting has failed for `giveUpMs`
   */
  send(
    pages: DirtyPages | null,
    progress: (sent: Traffic) => void,
    leave?: number,
  ): Promise<SentRound>;
  /** The round under way is over with the frames that have been made. */
  endRound(): void;
  /** 0: as fast as it goes. Takes effect at once. */
  limit(bytesPerSecond: number): void;
  /** Digest of all memory, computed beside the VM's thread. */
  digest(): Promise<string>;
  close(): Promise<void>;
}

/** Where pages come from. */
export interface Incoming {
  readonly url: string;
  readonly secret: string;
  /** Bytes taken in so far. */
  readonly received: () => Traffic;
  digest(): Promise<string>;
  close(): Promise<void>;
}

/** What went over the wire in post-copy. */
export interface PushTraffic extends Traffic {
  /** Pages that the target asked for before their turn. */
  readonly pagesRequested: number;
  readonly pagesPushed: number;
}

/** Post-copy at the source, whose VM runs no more. */
export interface Pushing {
  /**
   * The target's copies of these pages are stale: when it resolves they count as absent there.
   * Only before its VM runs.
   */
  discard(pages: DirtyPages): Promise<void>;
  /**
   * Sends what the target lacks while its VM runs: pages that it asks for at once, on a channel of
   * their own, the others in order from the last one asked for. Resolves once it has all of them.
   * @param pages null: what is left after a PeerError
   * @throws PeerError after reconnecting has failed for `giveUpMs`; then it may be called again
   */
  push(pages: DirtyPages | null, progress: (sent: PushTraffic) => void): Promise<PushTraffic>;
}

/** Post-copy at the target, whose VM runs while pages are absent. */
export interface Demanding {
  /**
   * Of each memory object, one bit a page: bit n of word w is page 32 * w + n. It is set, and its
   * word notified, after the page's last byte is in place.
   */
  readonly present: ReadonlyMap<number, Int32Array<SharedArrayBuffer>>;
  /** Where the VM's thread asks for pages: class PageRequests. */
  readonly requests: SharedArrayBuffer;
  /** Asks for a page; again for the same one does nothing. */
  request(object: number, page: number): void;
  /** Resolves when pages have come that were asked for, since the last call, or at the end. */
  arrival(): Promise<void>;
  /** Brings a page at once, where the caller's thread is the one that brings pages. */
  readonly fetch?: (object: number, page: number) => void;
}

/** Sequences of unbacked pages live with the VM: the data plane asks for them and brings them. */
export interface Sequences {
  read(object: number, first: number, count: number): Promise<Uint32Array>;
  write(object: number, pages: Uint32Array, sequences: Uint32Array): Promise<void>;
}

/** Whom a TLS connection to a peer accepts, as its entry in the list of peers says. */
export interface PeerTrust {
  /** Its name there. */
  readonly peer: string;
  /** SHA-256 of its certificate, hex; then nobody has to vouch for it. Null: none is pinned. */
  readonly certificatePin: string | null;
  /** PEM of authorities that take the place of the system's; null: the system's. */
  readonly ca: string | null;
}

export interface OutgoingSpec {
  readonly session: string;
  readonly stream: number;
  readonly url: string;
  readonly secret: string;
  /** Null: a peer without a name, and the system's authorities. */
  readonly trust: PeerTrust | null;
  readonly channels: number;
  readonly compression: MigrationParameters["compression"];
  /** Page content that is kept for compression "delta". */
  readonly deltaCacheBytes: number;
  readonly bandwidthBytesPerSecond: number;
  readonly memory: MemoryMap;
  readonly sequences: Sequences;
}

export interface IncomingSpec {
  readonly session: string;
  readonly stream: number;
  readonly channels: number;
  readonly memory: MemoryMap;
  readonly sequences: Sequences;
  /** Its first word is counted up and notified when a page has come that was asked for. */
  readonly wake?: Int32Array<SharedArrayBuffer>;
}

/** The page streams of this process. */
export interface DataPlane {
  open(spec: OutgoingSpec): Promise<Outgoing & Pushing>;
  accept(spec: IncomingSpec): Promise<Incoming & Demanding>;
  close(): Promise<void>;
}
