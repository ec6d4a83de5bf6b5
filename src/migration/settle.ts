// Owns: coming to one truth with the peer after a session was released or went wrong, however long
// it takes. HTTP thread, or inline.
import type { Clock } from "../base/clock.js";
import type { Once, Resolution } from "./control.js";
import { failureOf, MigrationError } from "./failure.js";
import { RETRY_FIRST_MS, RETRY_LAST_MS } from "./limits.js";
import type { Notes } from "./notes.js";
import { type Peer, PeerError, SESSION_ABORTED, type Verdict } from "./ports.js";
import { pause } from "./retry.js";
import { type CommitPoint, ENDED, type Failure, type MigrationState } from "./types.js";

/** Of a PeerError: the peer has no session of this name. */
const SESSION_UNKNOWN = "migration-not-found";

/** What a source says of a session to a target that asks. */
export function verdictOf(state: MigrationState, point: CommitPoint): Verdict {
  // Only a VM whose pages were still to follow is released and has no good end.
  if (point === "released") return state === "failed" ? "lost" : "released";
  return point === "aborted" || ENDED.has(state) ? "aborted" : "undecided";
}

export function saysAborted(error: unknown): boolean {
  return error instanceof PeerError && error.code === SESSION_ABORTED;
}

/** Pauses that grow, and end early when an operator settles it. */
export class Patience {
  readonly #clock: Clock;
  readonly #resolution: Once<Resolution>;
  #pauseMs = RETRY_FIRST_MS;

  constructor(clock: Clock, resolution: Once<Resolution>) {
    this.#clock = clock;
    this.#resolution = resolution;
  }

  get resolved(): Resolution | null {
    return this.#resolution.value;
  }

  async wait(): Promise<void> {
    await Promise.race([pause(this.#clock, this.#pauseMs), this.#resolution.happened]);
    this.#pauseMs = Math.min(this.#pauseMs * 2, RETRY_LAST_MS);
  }

  /** @returns null as soon as an operator settles it, whatever the call is doing */
  async orResolved<T>(call: Promise<T>): Promise<T | null> {
    return Promise.race([call, this.#resolution.happened.then(() => null)]);
  }
}

export interface Settling {
  readonly peer: Peer;
  /** The peer's name for the session. */
  readonly session: string;
  readonly notes: Notes;
  readonly clock: Clock;
  readonly resolution: Once<Resolution>;
}

/** What the session tells while the target hasn't said what became of it. */
export function whyUnsettled(error: unknown, { session, notes }: Settling): Failure {
  if (!(error instanceof PeerError) || error.code !== SESSION_UNKNOWN) {
    return failureOf(error, notes.state, "source");
  }
  const detail =
    `The target doesn't know session ${session} any more: it can't say whether the VM runs ` +
    "there. Look for it, and settle this with :resolve.";
  const forgotten = new MigrationError("target", "session-forgotten", detail, { cause: error });
  return failureOf(forgotten, notes.state, "source");
}

/** Where the VM ends up, once its source has released it. */
export type Outcome = "target" | "never-runs" | Resolution;

/** Tells the target that the VM is its own, until it has heard. */
export async function untilHeard(settling: Settling): Promise<Outcome> {
  const { peer, session, notes, clock, resolution } = settling;
  const patience = new Patience(clock, resolution);
  let told: string | null = null;
  for (;;) {
    if (patience.resolved !== null) return patience.resolved;
    try {
      const heard = await patience.orResolved(peer.commit(session).then(() => true));
      if (heard === true) return "target";
    } catch (error) {
      if (saysAborted(error)) return "never-runs";
      const failure = whyUnsettled(error, settling);
      if (failure.code !== told) notes.pass(notes.state, failure);
      told = failure.code;
    }
    await patience.wait();
  }
}

/**
 * Calls the session off before the VM goes on here: durably, by the target's word, or by that of an
 * operator.
 */
export async function untilCalledOff(settling: Settling, why: string): Promise<void> {
  const { peer, session, notes, clock, resolution } = settling;
  const patience = new Patience(clock, resolution);
  while (patience.resolved === null) {
    try {
      await notes.reach("aborted");
      return;
    } catch {
      // The journal is out of order; the target's word is as good.
    }
    try {
      await peer.abort(session, why);
      return;
    } catch (error) {
      if (saysAborted(error)) return;
    }
    await patience.wait();
  }
}
