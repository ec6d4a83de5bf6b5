// Owns: one incoming session, from the offer until the VM runs here or never will. HTTP thread, or
// inline.
//
//   setup ─ built, held ─▶ active ─ finish ─▶ ready ─ commit, or the source asked ─▶ completed
//     │                      │                │          └ pages follow ─▶ postcopy-active ─┘
//     └──────────────────────┴────────────────┘ abort, or the source asked: failed, cancelled
//
// Whatever comes is done one after the other. Each call may be repeated.
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { MemoryMap } from "../runtime/index.js";
import { Arriving } from "./arriving.js";
import { Once, type Resolution } from "./control.js";
import { failureOf, MigrationError } from "./failure.js";
import { Following } from "./following.js";
import { RETRY_FIRST_MS, RETRY_LAST_MS, SILENCE_LAST_MS, SILENCE_MS } from "./limits.js";
import { Notes } from "./notes.js";
import {
  type DataPlane,
  type Demanding,
  type Incoming,
  type Journal,
  type MadeEventfd,
  type MovingVm,
  PeerError,
  type PeerStatus,
  SESSION_ABORTED,
  SESSION_READY,
  type SourceVoice,
  type TargetHost,
} from "./ports.js";
import { pause, retry } from "./retry.js";
import { type ArrivedState, arrivedState } from "./state.js";
import { Stopwatch } from "./stopwatch.js";
import type {
  CommitPoint,
  Failure,
  MigrationParameters,
  MigrationState,
  Offer,
  Passport,
  Traffic,
} from "./types.js";

export interface TargetSpec {
  readonly session: string;
  readonly passport: Passport;
  readonly parameters: MigrationParameters;
  /** Versions of the page stream that this host can read. */
  readonly streams: readonly number[];
  readonly host: TargetHost;
  readonly dataPlane: DataPlane;
  readonly journal: Journal;
  readonly clock: Clock;
  /** Null: this host has no way to ask the source. */
  readonly source: SourceVoice | null;
  /** A source that says nothing for so long is asked. */
  readonly silenceMs?: number;
}

/** After the last page: its source waits for the word that it has come. */
const CLOSE_LATER_MS = 2_000;

/** What has arrived and is loaded. */
interface Arrival {
  readonly bytes: Uint8Array;
  readonly state: ArrivedState;
}

const NOTHING: Traffic = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0, bytes: 0 };
const refused = (code: string, detail: string) => new PeerError(code, detail, false);
const later = (code: string, detail: string) => new PeerError(code, detail, true);

function isSame(first: Uint8Array, second: Uint8Array): boolean {
  return first.length === second.length && first.every((byte, at) => byte === second[at]);
}

/** @throws PeerError when both sides can't have the same memory */
function checkShape({ memory }: Passport, map: MemoryMap): void {
  const here = map.blocks.filter(({ backing }) => backing !== "device");
  const text = (blocks: Passport["memory"]) =>
    blocks.map(({ object, bytes }) => `${object}: ${bytes}`).join(", ");
  const [theirs, ours] = [text(memory), text(here)];
  if (theirs === ours) return;
  const detail = `Memory objects differ: bytes there ${theirs || "none"}, here ${ours || "none"}.`;
  throw refused("shape-mismatch", detail);
}

export class TargetSession {
  readonly notes: Notes;
  readonly #spec: TargetSpec;
  #queue: Promise<unknown> = Promise.resolve();
  #offered: Promise<Offer> | null = null;
  #vm: MovingVm | null = null;
  #incoming: (Incoming & Demanding) | null = null;
  #memory: MemoryMap | null = null;
  /** Post-copy: pages may still be absent. */
  #following: Following | null = null;
  #arrival: Arrival | null = null;
  #digest: string | null = null;
  #heardMs: number;
  /** What has come; null before anything can. */
  #arriving: Arriving | null = null;
  readonly #stopwatch: Stopwatch;
  #committed: () => void = () => {};
  readonly #readied = new Once<true>();
  /** Post-copy: every page is here, which isn't on disk yet. */
  #isEnding = false;

  constructor(spec: TargetSpec) {
    this.#spec = spec;
    this.notes = new Notes(spec.journal, spec.clock, "setup", "none");
    this.#heardMs = spec.clock.monotonicMs();
    this.#stopwatch = new Stopwatch(spec.clock);
  }

  get status(): PeerStatus {
    const { status } = this.notes;
    // A source that reads it gives its copy up: a restart of this host must say the same.
    return this.#isEnding ? { ...status, state: "postcopy-active" } : status;
  }

  get traffic(): Traffic {
    return this.#incoming?.received() ?? NOTHING;
  }

  /** Builds the VM, once. @throws PeerError why this host won't have it */
  offer(): Promise<Offer> {
    this.#hear();
    this.#offered ??= this.#inTurn(() => this.#stopwatch.time("setupMs", () => this.#setup()));
    return this.#offered;
  }

  /** @returns digest of all memory, where the source sent its own */
  finish(state: Uint8Array, digest: string | null): Promise<string | null> {
    this.#hear();
    return this.#inTurn(() => {
      const take = () => this.takeState(state, digest);
      // A repeated call takes no time.
      return this.notes.point === "none" ? this.#stopwatch.time("finishMs", take) : take();
    });
  }

  /** The source has released the VM: it runs here. */
  commit(): Promise<void> {
    this.#hear();
    return this.#inTurn(() => this.takeOver());
  }

  /** @param unlessReady see Peer */
  abort(why: string, unlessReady = false): Promise<void> {
    this.#hear();
    return this.#inTurn(async () => {
      if (this.notes.point === "running") {
        throw refused("session-running", "The VM runs here: too late to abort.");
      }
      if (unlessReady && this.#arrival !== null) {
        // Perhaps the record alone had failed.
        if (this.notes.point === "none") await this.getReady(this.notes.keep("ready"));
        throw refused(SESSION_READY, "The VM is complete here.");
      }
      const failure = failureOf(
        new MigrationError("source", "aborted", why),
        this.#state,
        "target",
      );
      await this.#giveUp("cancelled", failure);
    });
  }

  /**
   * An operator's word for a source that never returns.
   * @returns why it isn't taken, or null
   */
  async resolve(resolution: Resolution): Promise<string | null> {
    return this.#inTurn(async () => {
      const why = this.whyNotResolve(resolution);
      if (why !== null) return why;
      const word = new MigrationError("operator", "resolved", resolution.reason);
      const failure = failureOf(word, this.#state, "target");
      if (resolution.runsOn === "source") await this.#giveUp("failed", failure);
      else await this.takeOver(failure);
      return null;
    });
  }

  /** As of now: what is under way may change it. @returns why it isn't taken, or null */
  whyNotResolve({ runsOn }: Resolution): string | null {
    const { point, isEnded } = this.notes;
    if (isEnded) return "The migration has ended.";
    if (runsOn === "source") return point === "running" ? "The VM runs here." : null;
    return point === "ready" ? null : "The VM isn't complete here.";
  }

  /** The VM's thread ended: nothing of it is left here. */
  async vmDied(why: string): Promise<void> {
    await this.#inTurn(async () => {
      const death = new MigrationError("target", "vm-died", why);
      if (this.notes.point === "running") {
        if (this.#following !== null) await this.#lose(death);
        return;
      }
      await this.#giveUp("failed", failureOf(death, this.#state, "target"));
    });
  }

  get #state(): MigrationState {
    return this.notes.state;
  }

  #hear(): void {
    this.#heardMs = this.#spec.clock.monotonicMs();
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(act);
    this.#queue = result.catch(() => {});
    return result;
  }

  async #setup(): Promise<Offer> {
    const { session, passport, parameters, streams, host, dataPlane, clock, journal } = this.#spec;
    this.#checkOpen();
    try {
      const stream = Math.max(...passport.streams.filter((version) => streams.includes(version)));
      if (!Number.isFinite(stream)) {
        const [theirs, ours] = [passport.streams.join(", "), streams.join(", ")];
        const detail = `No page stream in common: the source has ${theirs}, the target ${ours}.`;
        throw refused("stream-version", detail);
      }
      const vm = await host.build(passport, parameters);
      this.#vm = vm;
      const own = (await vm.call("describeMemory", {})).value;
      checkShape(passport, own);
      const memory = asSent(own, passport);
      this.#memory = memory;
      const { channels } = parameters;
      const sequences = {
        read: async (object: number, first: number, count: number) =>
          (await vm.call("readSequences", { object, first, count })).value,
        write: async (object: number, pages: Uint32Array, values: Uint32Array) => {
          await vm.call("writeSequences", { object, pages, sequences: values });
        },
      };
      const spec = { session, stream, channels, memory, sequences };
      const incoming = await dataPlane.accept(spec);
      this.#incoming = incoming;
      this.#arriving = new Arriving({ incoming, memory, clock, journal });
      this.#arriving.begin();
      await this.notes.enter("active");
      void this.#watch();
      const { url, secret } = incoming;
      return { session, stream, dataPlane: { url, secret }, takesPacked: true };
    } catch (error) {
      const failure = failureOf(error, this.#state, "target");
      await this.#giveUp("failed", failure);
      throw error instanceof PeerError ? error : refused(failure.code, failure.detail);
    }
  }

  /** In turn. Public for those who plant defects. */
  async takeState(bytes: Uint8Array, digest: string | null): Promise<string | null> {
    const { notes } = this;
    this.#checkOpen();
    const vm = this.#vm;
    const incoming = this.#incoming;
    if (vm === null || incoming === null) throw refused("not-set-up", "No VM was offered.");
    if (this.#arrival !== null && !isSame(this.#arrival.bytes, bytes)) {
      throw refused("state-differs", "Another state has been accepted already.");
    }
    if (notes.point !== "none") return this.#digest;
    // The guest waits: nothing more is told until it runs.
    this.#arriving?.pause();
    this.#stopwatch.stateBytes = bytes.length;
    // Loading changes memory: pending tables give up their bits.
    const isLoaded = this.#arrival !== null;
    const mine = isLoaded || digest === null ? this.#digest : await incoming.digest();
    if (mine !== digest) {
      throw refused("digest-mismatch", `Memory differs: ${digest} there, ${mine} here.`);
    }
    this.#digest = mine;
    // The guest waits, so the disk works while the VM loads; a host that dies now has no VM either.
    const keeping = this.notes.keep("ready");
    this.#arrival ??= await this.#load(vm, bytes);
    await this.getReady(keeping);
    return mine;
  }

  /** A VM whose loading has failed is of no use any more. */
  async #load(vm: MovingVm, bytes: Uint8Array): Promise<Arrival> {
    try {
      const state = arrivedState(bytes);
      if (state.lacksPages) await this.#follow(vm);
      const eventfds = await this.#eventfds(state);
      await vm.call("loadState", { parts: state.parts, eventfds });
      return { bytes, state };
    } catch (error) {
      const failure = failureOf(error, this.#state, "target");
      await this.#giveUp("failed", failure);
      throw refused(failure.code, failure.detail);
    }
  }

  /** The VM may need pages from here on. */
  async #follow(vm: MovingVm): Promise<void> {
    const incoming = this.#incoming;
    const memory = this.#memory;
    assert(incoming !== null && memory !== null, "state comes to a VM that was built");
    const { clock } = this.#spec;
    const following = new Following({ vm, incoming, memory, clock });
    await following.begin();
    this.#following = following;
    this.notes.pass("postcopy-active");
    void this.#watchPages(following);
  }

  /** Until every page is here, or none will come any more. */
  async #watchPages(following: Following): Promise<void> {
    const { notes } = this;
    while (!notes.isEnded) {
      const progress = await following.look();
      if (notes.isEnded) return;
      if (progress === "all-here") {
        await this.#inTurn(() => this.#complete());
        return;
      }
      if (notes.point !== "running") continue;
      if (progress === "silent") await this.#askForPages();
      else if (notes.state === "postcopy-paused") notes.pass("postcopy-active", null);
    }
  }

  async #complete(): Promise<void> {
    const { notes } = this;
    const followed = await this.#following?.end();
    if (notes.isEnded) return;
    this.#arriving?.complete(followed ?? undefined);
    if (notes.point !== "running") {
      notes.pass("device");
      return;
    }
    this.#tellFigures();
    this.#isEnding = true;
    await notes.end("completed", notes.status.failure);
    this.#isEnding = false;
    this.#closeLater();
  }

  /** The source may still wait for the word that its last page has come. */
  #closeLater(): void {
    this.#spec.clock.timer(CLOSE_LATER_MS, () => void this.#close());
  }

  async #close(): Promise<void> {
    await this.#incoming?.close().catch(() => {});
    // The data plane's last word may have been on its way.
    this.#arriving?.tell();
  }

  /** What it came to, at the session's end. */
  #tellFigures(): void {
    this.#arriving?.pause();
    this.#arriving?.tell();
    this.#spec.journal.statistics(this.#stopwatch.statistics);
  }

  async #askForPages(): Promise<void> {
    const { source } = this.#spec;
    const { notes } = this;
    let isLost = false;
    try {
      isLost = (await source?.verdict()) === "lost";
    } catch {
      // Whether it comes back nobody knows: vCPUs wait.
    }
    if (isLost) {
      const why = "The source has died while pages were still there: the VM is lost.";
      await this.#inTurn(() => this.#lose(new MigrationError("source", "lost-in-postcopy", why)));
    } else if (notes.state === "postcopy-active" && !notes.isEnded) {
      const why = "No pages come from the source; vCPUs that need one wait.";
      const silence = new MigrationError("wire", "pages-missing", why);
      notes.pass("postcopy-paused", failureOf(silence, notes.state, "target"));
    }
  }

  /** It has run here, and can't go on. */
  async #lose(why: MigrationError): Promise<void> {
    if (this.notes.isEnded || this.#following?.isWhole() === true) return;
    const failure = failureOf(why, this.#state, "target");
    this.notes.close("failed", failure);
    await this.#close();
    this.#tellFigures();
    await this.#spec.host.lose(why.message).catch(() => {});
    void this.notes.end("failed", failure);
  }

  async #eventfds({ eventfds }: ArrivedState): Promise<readonly MadeEventfd[]> {
    return eventfds.length === 0 ? [] : this.#spec.host.eventfds(eventfds);
  }

  async getReady(keeping: Promise<void>): Promise<void> {
    await this.#kept("ready", keeping);
    this.#readied.set(true);
    if (this.#following?.isOver !== false) this.notes.pass("device");
  }

  /** In turn. */
  async takeOver(failure: Failure | null = null): Promise<void> {
    const { notes } = this;
    if (notes.point === "running") return;
    this.#checkOpen();
    const arrival = this.#arrival;
    if (notes.point !== "ready" || arrival === null) {
      throw refused("not-ready", "The VM isn't complete here.");
    }
    this.#committed = this.#stopwatch.start("commitMs");
    // Whoever finds the session after a crash has to know that pages may have been missing.
    if (this.#following?.isOver === false) await this.notes.enter("postcopy-active");
    await this.#kept("running", this.notes.keep("running"));
    await this.run(arrival.state.wasRunning, failure);
  }

  /** What goes wrong from here on is this host's own: no other may have the VM. */
  async run(wasRunning: boolean, failure: Failure | null): Promise<void> {
    let end = failure;
    try {
      await this.#spec.host.release(wasRunning);
    } catch (error) {
      end = failureOf(error, this.#state, "target");
    }
    this.#committed();
    const following = this.#following;
    if (following?.isOver === false) {
      this.notes.pass("postcopy-active", end);
      this.#arriving?.begin();
      return;
    }
    if (following === null) this.#arriving?.complete();
    this.#tellFigures();
    void this.notes.end("completed", end);
    if (following === null) void this.#close();
    else this.#closeLater();
  }

  /** A source that lives says so only once this host is ready; one that died may have before. */
  async #sourceReleased(): Promise<void> {
    if (this.notes.point === "none") {
      // Refused where everything is here after all.
      await this.abort("The source has died before everything was here.", true).catch(() => {});
    }
    if (this.notes.point === "ready") await this.commit();
  }

  /** Released by a source that has died since: only a VM that lacks nothing can go on. */
  async #sourceLost(): Promise<void> {
    const isWhole = this.#following === null || this.#following.isWhole();
    if (isWhole) await this.commit();
    else await this.abort("The source has died while pages were still there.");
  }

  #checkOpen(): void {
    if (!this.notes.isEnded) return;
    const { failure } = this.notes.status;
    const why = failure === null ? "" : `: ${failure.detail}`;
    throw refused(SESSION_ABORTED, `The target has given the session up${why}`);
  }

  async #kept(point: CommitPoint, keeping: Promise<void>): Promise<void> {
    try {
      await keeping;
      this.notes.stand(point);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw later("journal-failed", `The target can't keep that it is ${point}: ${why}`);
    }
  }

  /** The VM never runs here: true from this moment, whatever the journal does. */
  async #giveUp(state: "failed" | "cancelled", failure: Failure): Promise<void> {
    if (this.notes.isEnded) return;
    this.notes.close(state, failure);
    await this.notes.reachAnyway("aborted");
    await this.#close();
    const { clock, host } = this.#spec;
    await retry(clock, {}, () => host.discard(failure.detail)).catch(() => {});
    this.#tellFigures();
    void this.notes.end(state, failure);
  }

  /** Asks the source: at once and again while ready, now and then while it is silent. */
  async #watch(): Promise<void> {
    const { clock, silenceMs = SILENCE_MS } = this.#spec;
    let pauseMs = RETRY_FIRST_MS;
    let received = -1;
    const isOver = () => this.notes.isEnded || this.notes.point === "running";
    const lookMs = Math.min(RETRY_LAST_MS, silenceMs);
    while (!isOver()) {
      const isReady = this.notes.point === "ready";
      if (isReady) await pause(clock, pauseMs);
      else await Promise.race([pause(clock, lookMs), this.#readied.happened]);
      if (isReady) pauseMs = Math.min(pauseMs * 2, RETRY_LAST_MS);
      if (isOver()) return;
      if (this.traffic.bytes !== received) this.#hear();
      received = this.traffic.bytes;
      const silentMs = clock.monotonicMs() - this.#heardMs;
      if (isReady || silentMs >= silenceMs) await this.ask(silentMs);
    }
  }

  async ask(silentMs: number): Promise<void> {
    const { source } = this.#spec;
    try {
      if (source === null) throw later("source-unknown", "No peer of this host is the source.");
      const verdict = await source.verdict();
      if (verdict === "released") await this.#sourceReleased();
      if (verdict === "lost") await this.#sourceLost();
      if (verdict === "aborted") await this.abort("The source says that it has ended the session.");
      // It lives: before it has sent everything there is nothing more to know.
      if (verdict === "undecided" && this.notes.point === "none") this.#hear();
    } catch {
      // Before it is ready, giving up harms nobody: the source has the VM, or nobody has.
      if (this.notes.point !== "none" || silentMs < SILENCE_LAST_MS) return;
      await this.abort("Nothing was heard from the source.").catch(() => {});
    }
  }
}

/** Unbacked pages are checked by what they contain at the source; the state brings it later. */
function asSent(memory: MemoryMap, passport: Passport): MemoryMap {
  const blocks = memory.blocks.map((block) => {
    const sent = passport.memory.find(({ object }) => object === block.object);
    return sent === undefined ? block : { ...block, contentPage: sent.contentPage };
  });
  return { ...memory, blocks };
}
