// Owns: migrations as the service shows them: resources, requests, what a peer may ask. Types only.
// HTTP thread.
import type {
  CommitPoint,
  Decision,
  Direction,
  Failure,
  LiveParameters,
  MigrationParameters,
  MigrationState,
  Offer,
  Passport,
  PeerStatus,
  Progress,
  RoundRecord,
  Statistics,
  Traffic,
  Verdict,
} from "../../migration/index.js";
import type { Page } from "../page.js";

export type {
  MigrationParameters,
  MigrationState,
  Offer,
  Passport,
  PeerStatus,
  RoundRecord,
  Verdict,
} from "../../migration/index.js";

/** What an operator settled by hand. */
export interface Resolution {
  readonly runsOn: "source" | "target";
  readonly reason: string;
  /** RFC 3339, UTC. */
  readonly at: string;
}

/** One side's session; `version` is its ETag. */
export interface MigrationResource {
  readonly id: string;
  readonly direction: Direction;
  readonly vmId: string;
  readonly vmUuid: string;
  readonly vmName: string | null;
  readonly peer: string;
  readonly peerSession: string | null;
  readonly state: MigrationState;
  /** One sentence: why it waits or failed. */
  readonly stateReason: string | null;
  /** Place in the queue, from 1; null: it doesn't wait. */
  readonly queuePosition: number | null;
  readonly point: CommitPoint;
  readonly cancelRequested: boolean;
  readonly parameters: MigrationParameters;
  readonly progress: Progress | null;
  readonly decision: Decision | null;
  readonly failure: Failure | null;
  readonly resolution: Resolution | null;
  readonly statistics: Statistics | null;
  readonly version: number;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

export interface MigrationRequest {
  readonly vmId: string;
  /** A configured peer, or "local". */
  readonly peer: string;
  readonly parameters: Partial<MigrationParameters>;
}

/** Why a migration would be refused. */
export interface Reason {
  readonly side: "source" | "target";
  readonly code: string;
  readonly detail: string;
}

export interface Preflight {
  readonly possible: boolean;
  readonly reasons: readonly Reason[];
  /** Bytes of guest memory. */
  readonly memoryBytes: number;
  /** Images that the target lacks and is sent first. */
  readonly missingImages: readonly string[];
}

export interface MigrationFilter {
  readonly direction: Direction | null;
  readonly state: MigrationState | null;
  readonly vmId: string | null;
  readonly limit: number;
  readonly cursor: string | null;
}

/** A host that VMs may move to and come from, without its secrets. */
export interface PeerResource {
  readonly name: string;
  readonly url: string;
  /** Whether its certificate must have a given digest. */
  readonly isPinned: boolean;
}

/** Sessions of both directions. ServiceError "migration-not-found". */
export interface MigrationService {
  peers(): readonly PeerResource[];
  /**
   * Queued and durable when it resolves.
   * @throws ServiceError "vm-not-found", "vm-not-active", "peer-unknown", "migration-in-progress",
   * "migration-refused", "validation", "draining"
   */
  create(request: MigrationRequest): Promise<MigrationResource>;
  /** What create would say, and the target, without doing it. */
  preflight(request: MigrationRequest): Promise<Preflight>;
  get(id: string): Promise<MigrationResource>;
  list(filter: MigrationFilter): Promise<Page<MigrationResource>>;
  rounds(id: string): Promise<readonly RoundRecord[]>;
  /** @throws ServiceError "precondition-failed", "migration-ended", "migration-side" */
  adjust(
    id: string,
    change: Partial<LiveParameters>,
    ifMatch: number | null,
  ): Promise<MigrationResource>;
  /** Best effort, idempotent. @throws ServiceError "migration-committed", "migration-ended" */
  cancel(id: string): Promise<MigrationResource>;
  /** Out of pre-switchover. @throws ServiceError "migration-state" */
  proceed(id: string): Promise<MigrationResource>;
  /** @throws ServiceError "migration-state" */
  startPostcopy(id: string): Promise<MigrationResource>;
  /** @throws ServiceError "migration-state" */
  recover(id: string): Promise<MigrationResource>;
  /** Settles by hand a session whose peer never returns. @throws ServiceError "migration-ended" */
  resolve(id: string, runsOn: Resolution["runsOn"], reason: string): Promise<MigrationResource>;
  /** Of an ended one. @throws ServiceError "migration-not-ended" */
  delete(id: string): Promise<void>;
  /** Told of every change, progress too. @returns the end of it */
  subscribe(id: string, listener: () => void): () => void;
  /** What this side says when the target of its session asks. */
  verdict(id: string): Promise<Verdict>;
  /** For metrics. */
  counts(): MigrationCounts;
}

export interface MigrationCounts {
  readonly states: readonly {
    readonly direction: Direction;
    readonly state: MigrationState;
    readonly count: number;
  }[];
  readonly totals: Readonly<Record<Direction, MigrationTotals>>;
  /** Outgoing ones whose guest dirties memory faster than it is sent. */
  readonly notConverging: number;
  /** Of all that leave: still to be sent, as known now. */
  readonly bytesRemaining: number;
}

/** What one direction's sessions did since the service started. */
export interface MigrationTotals extends Traffic {
  readonly rounds: number;
  /** Ended ones, by how. */
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
}

/** What a peer asks for as the source. Every call may be repeated. */
export interface IncomingService {
  /** What `offer` would say. */
  check(passport: Passport): Promise<Preflight>;
  /**
   * Builds the VM, held. The same session again gives the same offer.
   * @throws ServiceError "peer-unknown", "images-missing", "uuid-taken", "migration-version" and
   * what building refuses
   */
  offer(
    passport: Passport,
    parameters: Partial<MigrationParameters>,
  ): Promise<{ readonly offer: Offer; readonly isNew: boolean }>;
  status(id: string): Promise<PeerStatus>;
  /** @returns the digest of this side's memory, if one was given */
  finish(id: string, state: Uint8Array, digest: string | null): Promise<string | null>;
  /** @throws ServiceError "session-aborted": it was ready, and this service has ended since */
  commit(id: string): Promise<PeerStatus>;
  /** @throws ServiceError "session-running"; "session-ready" with `unlessReady` */
  abort(id: string, why: string, unlessReady: boolean): Promise<PeerStatus>;
  /** An image that a passport names. @throws ServiceError "image-hash" */
  putImage(sha256: string, name: string, bytes: Uint8Array): Promise<void>;
}
