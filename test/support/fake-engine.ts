// Owns: an engine that moves nothing and does what a test says, step by step. Test process.
import type {
  Failure,
  LiveParameters,
  MigrationState,
  Offer,
  PeerStatus,
  ResumeSpec,
  SourceSpec,
  TargetSpec,
  Verdict,
} from "../../src/migration/index.js";
import { PeerError, SESSION_READY } from "../../src/migration/index.js";
import type {
  Engine,
  ResumedRun,
  SourceRun,
  TargetRun,
} from "../../src/service/migration/engine-port.js";

export const FAILURE: Failure = {
  side: "wire",
  during: "active",
  code: "peer-unreachable",
  detail: "The peer can't be reached.",
  causes: ["connect ECONNREFUSED"],
};

/** One outgoing session; a test drives it. */
export class FakeSource implements SourceRun {
  readonly parts: SourceSpec;
  readonly adjusted: Partial<LiveParameters>[] = [];
  verdict: Verdict = "undecided";
  /** What the next verb answers. */
  refusal: string | null = null;
  /** What a resolve answers that came too late. */
  late: string | null = null;
  readonly cancels: string[] = [];
  readonly resolved: unknown[] = [];
  /** Whether a cancel ends it at once. */
  endsByCancel = true;
  #end: () => void = () => {};
  readonly #ended: Promise<void>;

  constructor(parts: SourceSpec) {
    this.parts = parts;
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  run(): Promise<void> {
    return this.#ended;
  }

  async end(state: MigrationState, failure: Failure | null = null): Promise<void> {
    await this.parts.journal.state(state, failure);
    this.#end();
  }

  cancel(): string | null {
    if (this.refusal !== null) return this.refusal;
    this.cancels.push("cancel");
    if (this.endsByCancel) void this.end("cancelled");
    return null;
  }

  continue(): string | null {
    return this.refusal;
  }

  startPostcopy(): string | null {
    return this.refusal ?? "There is no post-copy.";
  }

  recover(): string | null {
    return this.refusal;
  }

  adjust(live: Partial<LiveParameters>): void {
    this.adjusted.push(live);
  }

  whyNotResolve(): string | null {
    return this.refusal;
  }

  resolve(resolution: unknown): string | null {
    this.resolved.push(resolution);
    return this.late;
  }
}

/** One incoming session: it builds, gets ready and runs, and keeps its journal. */
export class FakeTarget implements TargetRun {
  readonly parts: TargetSpec;
  status: PeerStatus = { state: "setup", point: "none", failure: null };
  readonly resolved: unknown[] = [];

  constructor(parts: TargetSpec) {
    this.parts = parts;
  }

  async offer(): Promise<Offer> {
    const { host, passport, parameters, session, journal } = this.parts;
    await host.build(passport, parameters);
    await journal.state("active", null);
    return { session, stream: 1, dataPlane: { url: "http://127.0.0.1:9", secret: "s" } };
  }

  async finish(_state: Uint8Array, digest: string | null): Promise<string | null> {
    await this.#reach("ready");
    return digest;
  }

  async commit(): Promise<void> {
    await this.#reach("running");
    await this.parts.host.release(true);
    await this.parts.journal.state("completed", null);
  }

  async abort(why: string, unlessReady = false): Promise<void> {
    if (unlessReady && this.status.point === "ready") {
      throw new PeerError(SESSION_READY, "It is complete here.", false);
    }
    await this.parts.journal.state("cancelled", { ...FAILURE, detail: why });
    await this.#reach("aborted");
    await this.parts.host.discard(why);
  }

  whyNotResolve(): string | null {
    return null;
  }

  async resolve(resolution: unknown): Promise<string | null> {
    this.resolved.push(resolution);
    return null;
  }

  async vmDied(why: string): Promise<void> {
    await this.abort(why);
  }

  async #reach(point: PeerStatus["point"]): Promise<void> {
    await this.parts.journal.point(point);
    this.status = { ...this.status, point };
  }
}

export class FakeResumed implements ResumedRun {
  readonly parts: ResumeSpec;
  verdict: Verdict = "undecided";
  readonly resolved: unknown[] = [];

  constructor(parts: ResumeSpec) {
    this.parts = parts;
  }

  run(): Promise<void> {
    return new Promise(() => {});
  }

  whyNotResolve(): string | null {
    return null;
  }

  resolve(resolution: unknown): string | null {
    this.resolved.push(resolution);
    return null;
  }
}

export class FakeEngine implements Engine {
  readonly supportsPostcopy = false;
  readonly sources: FakeSource[] = [];
  readonly targets: FakeTarget[] = [];
  readonly resumed: FakeResumed[] = [];
  /** Thrown by the next start of a source. */
  refuse: Error | null = null;

  get latest(): FakeSource {
    const source = this.sources.at(-1);
    if (source === undefined) throw new Error("no session was started");
    return source;
  }

  source(parts: SourceSpec): FakeSource {
    if (this.refuse !== null) throw this.refuse;
    const source = new FakeSource(parts);
    this.sources.push(source);
    return source;
  }

  target(parts: TargetSpec): FakeTarget {
    const target = new FakeTarget(parts);
    this.targets.push(target);
    return target;
  }

  resumeSource(parts: ResumeSpec): FakeResumed {
    const run = new FakeResumed(parts);
    this.resumed.push(run);
    return run;
  }

  async resumeTarget({ kept, journal }: ResumeSpec): Promise<void> {
    if (kept.point === "running") return journal.state("completed", null);
    await journal.point("aborted");
    await journal.state("failed", FAILURE);
  }
}
