// Owns: what the sessions need of the engine that moves a VM, as interfaces. HTTP thread.
// The engine drives; it tells of everything through the journal, whose points are durable.
import type {
  LiveParameters,
  Offer,
  Peer,
  PeerStatus,
  ResumeSpec,
  SourceSpec,
  TargetSpec,
  Verdict,
} from "../../migration/index.js";

interface Resolution {
  readonly runsOn: "source" | "target";
  readonly reason: string;
}

/** One outgoing session. What returns text says why it isn't done; null: it is. */
export interface SourceRun {
  readonly verdict: Verdict;
  /** Runs it to its end; never rejects. */
  run(): Promise<unknown>;
  cancel(): string | null;
  continue(): string | null;
  startPostcopy(): string | null;
  recover(): string | null;
  adjust(live: Partial<LiveParameters>): void;
  /** Why `resolve` would refuse it now; nothing is done. */
  whyNotResolve(resolution: Resolution): string | null;
  resolve(resolution: Resolution): string | null;
}

/** One incoming session. @throws PeerError */
export interface TargetRun {
  readonly status: PeerStatus;
  offer(): Promise<Offer>;
  finish(state: Uint8Array, digest: string | null): Promise<string | null>;
  commit(): Promise<void>;
  abort(why: string, unlessReady?: boolean): Promise<void>;
  whyNotResolve(resolution: Resolution): string | null;
  resolve(resolution: Resolution): Promise<string | null>;
  vmDied(why: string): Promise<void>;
}

export interface ResumedRun {
  readonly verdict: Verdict;
  /** Runs until it is settled with the peer; never rejects. */
  run(): Promise<unknown>;
  whyNotResolve(resolution: Resolution): string | null;
  resolve(resolution: Resolution): string | null;
}

export interface Engine {
  readonly supportsPostcopy: boolean;
  source(parts: SourceSpec): SourceRun;
  target(parts: TargetSpec): TargetRun;
  resumeSource(parts: ResumeSpec, peer: Peer): ResumedRun;
  /** Where the VM didn't run yet it never will. */
  resumeTarget(parts: ResumeSpec): Promise<unknown>;
}
