// Owns: what becomes of sessions that a restart of their host has cut off. The VM's memory is gone
// here, so what counts is the journal, and the peer. HTTP thread, or inline.
import type { Clock } from "../base/clock.js";
import { Once, type Resolution } from "./control.js";
import { failureOf, MigrationError } from "./failure.js";
import { Notes } from "./notes.js";
import {
  type Journal,
  type Peer,
  PeerError,
  type PeerStatus,
  SESSION_ABORTED,
  SESSION_READY,
  type Verdict,
} from "./ports.js";
import { FOR_EVER, retry } from "./retry.js";
import {
  Patience,
  type Settling,
  saysAborted,
  untilHeard,
  verdictOf,
  whyUnsettled,
} from "./settle.js";
import type { CommitPoint, Failure, MigrationState } from "./types.js";

/** What the journal says of a session. */
export interface Kept {
  readonly state: MigrationState;
  readonly point: CommitPoint;
  /** The peer's name for it; null: nobody had answered. */
  readonly peerSession: string | null;
}

export interface ResumeSpec {
  readonly kept: Kept;
  readonly journal: Journal;
  readonly clock: Clock;
}

/** Pages may follow a VM that runs at the target. */
const LACKS_PAGES: ReadonlySet<MigrationState> = new Set([
  "postcopy-active",
  "postcopy-paused",
  "postcopy-recover",
]);

/** Who has the VM in the end. "lost": its only copy died with this host. */
export type ResumeOutcome = "moved" | "lost";

const isReadyThere = (error: unknown): boolean =>
  error instanceof PeerError && error.code === SESSION_READY;

/** An outgoing session after a restart of the source. */
export class ResumedSource {
  readonly notes: Notes;
  readonly resolution = new Once<Resolution>();
  readonly #spec: ResumeSpec;
  readonly #peer: Peer;
  readonly #during: MigrationState;

  constructor(spec: ResumeSpec, peer: Peer) {
    this.#spec = spec;
    this.#peer = peer;
    this.#during = spec.kept.state;
    const { kept, journal, clock } = spec;
    this.notes = new Notes(journal, clock, kept.state, kept.point);
  }

  get status(): PeerStatus {
    return this.notes.status;
  }

  get verdict(): Verdict {
    const { state, point } = this.notes;
    // Whether the target lacks pages isn't known yet.
    return LACKS_PAGES.has(state) ? "undecided" : verdictOf(state, point);
  }

  /** @returns why an operator's word isn't taken, or null */
  whyNotResolve(_resolution: Resolution): string | null {
    return this.notes.isEnded ? "The migration has ended." : null;
  }

  /** @returns why it isn't taken, or null */
  resolve(resolution: Resolution): string | null {
    const why = this.whyNotResolve(resolution);
    if (why === null) this.resolution.set(resolution);
    return why;
  }

  /** Runs until it is settled; never rejects. */
  async run(): Promise<ResumeOutcome> {
    const { kept, clock } = this.#spec;
    const session = kept.peerSession;
    // The VM ran on here after it was called off, or the target was never told enough.
    if (session === null) return this.#lost("before the target had answered");
    const settling = { peer: this.#peer, session, notes: this.notes, clock };
    const parts: Settling = { ...settling, resolution: this.resolution };
    if (kept.point === "aborted") return this.#lost("after the migration was called off", parts);
    if (LACKS_PAGES.has(kept.state)) return this.#afterPostcopy(parts);
    // Released or not: it may have died before the target had everything.
    return this.ask(parts);
  }

  /** Pages that had not followed the VM are gone: whether the target lacks any decides. */
  async #afterPostcopy(parts: Settling): Promise<ResumeOutcome> {
    const patience = new Patience(parts.clock, this.resolution);
    while (patience.resolved === null) {
      try {
        const status = await patience.orResolved(parts.peer.status(parts.session));
        if (status !== null) {
          const { state, point } = status;
          const isWhole = state === "completed" || (state === "device" && point === "ready");
          if (isWhole) return this.release(parts);
          const when = "in post-copy, before all pages had followed";
          return this.#lost(when, parts, point === "running");
        }
      } catch (error) {
        this.notes.pass(this.notes.state, whyUnsettled(error, parts));
      }
      await patience.wait();
    }
    return this.#resolvedAsLost(patience.resolved);
  }

  /** Whether the target has everything decides. */
  async ask(parts: Settling): Promise<ResumeOutcome> {
    const patience = new Patience(parts.clock, this.resolution);
    while (patience.resolved === null) {
      try {
        const isReady = await patience.orResolved(this.#isReady(parts));
        if (isReady === false) return this.#lost("before the target had everything");
        if (isReady === true) return this.release(parts);
      } catch (error) {
        this.notes.pass(this.notes.state, whyUnsettled(error, parts));
      }
      await patience.wait();
    }
    if (patience.resolved.runsOn === "source") return this.#resolvedAsLost(patience.resolved);
    return this.release(parts);
  }

  async #isReady({ peer, session }: Settling): Promise<boolean> {
    const { point } = await peer.status(session);
    if (point === "ready" || point === "running") return true;
    try {
      await peer.abort(session, "The source's host restarted; the VM's memory is gone.", true);
    } catch (error) {
      if (isReadyThere(error)) return true;
      if (!saysAborted(error)) throw error;
    }
    return false;
  }

  /** The target's copy is the only one. */
  async release(parts: Settling): Promise<ResumeOutcome> {
    await retry(parts.clock, FOR_EVER, () => this.notes.reach("released"));
    return this.handOver(parts);
  }

  async handOver(parts: Settling): Promise<ResumeOutcome> {
    const outcome = await untilHeard(parts);
    if (outcome === "never-runs") {
      return this.#lost("and the target lost its copy before it ran");
    }
    if (outcome === "target") {
      await this.notes.end("completed", null);
      return "moved";
    }
    if (outcome.runsOn === "source") return this.#resolvedAsLost(outcome);
    await this.notes.end("completed", this.#word(outcome));
    return "moved";
  }

  #word({ reason }: Resolution): Failure {
    return failureOf(new MigrationError("operator", "resolved", reason), this.#during, "source");
  }

  async #resolvedAsLost(resolution: Resolution): Promise<ResumeOutcome> {
    await retry(this.#spec.clock, FOR_EVER, () => this.notes.reach("aborted"));
    await this.notes.end("failed", this.#word(resolution));
    return "lost";
  }

  /** @param hasRunThere it was lost at the target, whose it was */
  async #lost(when: string, parts?: Settling, hasRunThere = false): Promise<ResumeOutcome> {
    const detail = `The source's host restarted ${when}: the VM's memory is gone.`;
    if (parts !== undefined) {
      // As well as it goes: a target that doesn't hear it will ask.
      const abort = () => parts.peer.abort(parts.session, detail);
      await retry(parts.clock, {}, abort).catch(() => {});
    }
    // Else its record would say for ever that it is the target's.
    if (this.notes.point === "released" && !hasRunThere) await this.notes.callOff();
    const failure = new MigrationError("source", "host-restarted", detail);
    await this.notes.end("failed", failureOf(failure, this.#during, "source"));
    return "lost";
  }
}

/**
 * An incoming session after a restart of the target: where the VM didn't run yet it never will.
 * @returns what to answer the source from now on
 */
export async function resumeTarget({ kept, journal, clock }: ResumeSpec): Promise<EndedTarget> {
  const notes = new Notes(journal, clock, kept.state, kept.point);
  if (kept.point === "running" && LACKS_PAGES.has(kept.state)) {
    const detail =
      "The target's host restarted before it was on record that all pages had come: the VM, " +
      "which ran there, is lost.";
    const failure = new MigrationError("target", "lost-in-postcopy", detail);
    await notes.end("failed", failureOf(failure, kept.state, "target"));
  } else if (kept.point === "running") {
    await notes.end("completed", null);
  } else if (!notes.isEnded) {
    await retry(clock, FOR_EVER, () => notes.reach("aborted"));
    const detail = "The target's host restarted before the VM ran there: its memory is gone.";
    const failure = new MigrationError("target", "host-restarted", detail);
    await notes.end("failed", failureOf(failure, kept.state, "target"));
  }
  return new EndedTarget(notes.status);
}

/** An incoming session that is over, as the source may still ask about it. */
export class EndedTarget {
  readonly status: PeerStatus;

  constructor(status: PeerStatus) {
    this.status = status;
  }

  /** @throws PeerError */
  finish(): never {
    throw this.#gone();
  }

  /** @throws PeerError unless the VM came to run here */
  commit(): void {
    if (this.status.point !== "running") throw this.#gone();
  }

  /** @throws PeerError where it came to run here */
  abort(): void {
    if (this.status.point !== "running") return;
    throw new PeerError("session-running", "The VM runs here: too late to abort.", false);
  }

  #gone(): PeerError {
    const why = this.status.failure?.detail ?? "it has ended";
    return new PeerError(SESSION_ABORTED, `The target has given the session up: ${why}`, false);
  }
}
