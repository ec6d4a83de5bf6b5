// Owns: one outgoing session, from its setup until exactly one host runs the VM. HTTP thread, or
// inline.
//
//   setup ─▶ active: rounds ─▶ [pre-switchover] ─▶ device ─ released ─▶ completed
//     │        │                 │                 └─ released, pages follow ─▶ postcopy-… ─┘
//     └────────┴─────────────────┴─────────────────┘ any failure or cancel: the VM goes on here
//
// Once finish was sent, the target may be ready: the VM goes on here only after that is called off,
// in the journal or by the target's word, so that nobody later takes the target's old copy for it.
import type { Clock } from "../base/clock.js";
import type { DirtyPages, MemoryMap } from "../runtime/index.js";
import { Control, type Resolution } from "./control.js";
import { joinPages, NO_PAGES } from "./dirty-pages.js";
import { failureOf, isTransient, MigrationError, Stopped } from "./failure.js";
import { Notes } from "./notes.js";
import { firstPagesToLeave } from "./policy.js";
import type {
  DataPlane,
  Journal,
  MovedEventfd,
  MovingVm,
  Outgoing,
  Peer,
  PeerStatus,
  PeerTrust,
  Pushing,
  SavedEventfds,
  Verdict,
} from "./ports.js";
import { whyNoPostcopy, whyNot } from "./preflight.js";
import { Push } from "./pushing.js";
import { FOR_EVER, retry } from "./retry.js";
import { type Remains, Rounds } from "./rounds.js";
import { type Settling, untilCalledOff, untilHeard, verdictOf } from "./settle.js";
import { SourceVm } from "./source-vm.js";
import { Stopwatch } from "./stopwatch.js";
import { Switchover } from "./switchover.js";
import type {
  Decision,
  Failure,
  LiveParameters,
  MigrationParameters,
  MigrationState,
  Offer,
  Passport,
} from "./types.js";

export interface SourceSpec {
  readonly session: string;
  readonly passport: Passport;
  readonly parameters: MigrationParameters;
  readonly vm: MovingVm;
  readonly peer: Peer;
  /** Whom its data plane's certificate may be of; null: whom the system trusts. */
  readonly trust: PeerTrust | null;
  readonly dataPlane: DataPlane;
  readonly journal: Journal;
  readonly clock: Clock;
  /** Whether vCPUs of both hosts can wait for pages. */
  readonly supportsPostcopy: boolean;
  /** Sessions are set up in turn, where others are; absent: at once. */
  readonly turn?: <T>(act: () => Promise<T>) => Promise<T>;
  /** What clients call the VM's eventfds. Asked for at the switchover. */
  readonly eventfds: (saved: SavedEventfds) => readonly MovedEventfd[];
}

const noop = (): void => {};

/** What a session has once the target has answered. */
interface Connection {
  readonly memory: MemoryMap;
  readonly outgoing: Outgoing & Pushing;
  readonly rounds: Rounds;
  readonly push: Push;
  readonly switchover: Switchover;
}

/** What is left when the VM switches over. */
interface Left {
  /** Harvested and not sent yet; null: no page has gone. */
  readonly pages: DirtyPages | null;
  readonly isPostcopy: boolean;
}

const AT_ONCE: Decision = {
  action: "postcopy",
  why: "post-copy: the VM moves before its first page",
  isConverging: true,
};

/** Left of a round that nothing of has to go. */
const EVERY_PAGE = Number.MAX_SAFE_INTEGER;

const STOPPED_AT_ONCE: Decision = {
  action: "switchover",
  why: "stop-and-copy: every vCPU was held before the first page",
  isConverging: true,
};

export class SourceSession {
  readonly control: Control;
  readonly vm: SourceVm;
  readonly notes: Notes;
  /** Null before the target has answered. */
  connection: Connection | null = null;
  readonly #spec: SourceSpec;
  readonly #watch: Stopwatch;
  #offering: Promise<Offer> | null = null;
  /** The peer's name for the session, once it has answered. */
  #peerSession: string | null = null;
  #hasPaused = false;
  #isPostcopyAsked = false;
  /** The VM runs at the target, and pages follow. */
  #following: Push | null = null;
  #isCalledOff = false;
  #slowing: Promise<void> = Promise.resolve();
  #cancelDeadline: () => void = () => {};

  constructor(spec: SourceSpec) {
    this.#spec = spec;
    this.control = new Control(spec.parameters);
    this.vm = new SourceVm(spec.session, spec.vm, spec.clock, spec.eventfds);
    this.notes = new Notes(spec.journal, spec.clock, "queued", "none");
    this.#watch = new Stopwatch(spec.clock);
  }

  get status(): PeerStatus {
    return this.notes.status;
  }

  /** What to tell the target when it asks. */
  get verdict(): Verdict {
    if (this.#isCalledOff) return "aborted";
    return verdictOf(this.notes.state, this.notes.point);
  }

  /** @returns why it is too late, or null: it will be cancelled */
  cancel(): string | null {
    if (this.notes.isEnded) return "The migration has ended.";
    return this.control.stop(new Stopped("cancelled", "Cancelled on request."));
  }

  /** @returns why there is nothing to continue, or null */
  continue(): string | null {
    if (!this.control.parameters.pauseBeforeSwitchover) {
      return "This migration doesn't pause before its switchover.";
    }
    this.control.continue();
    return null;
  }

  /** @returns why not, or null */
  startPostcopy(): string | null {
    const { control, notes } = this;
    const why = whyNoPostcopy(control.parameters, this.#spec);
    if (why !== null) return why;
    if (notes.state !== "active" && notes.state !== "pre-switchover") {
      return `Post-copy starts while pages are sent, not in ${notes.state}.`;
    }
    if (control.parameters.strategy === "stop-and-copy" || this.vm.isHeld) {
      return "The VM is held already: it moves with all of its pages.";
    }
    this.#isPostcopyAsked = true;
    this.connection?.outgoing.endRound();
    control.continue();
    return null;
  }

  /** @returns why there is nothing to recover, or null */
  recover(): string | null {
    return this.connection === null ? "Nothing was sent." : this.connection.push.recover();
  }

  adjust(live: Partial<LiveParameters>): void {
    this.control.adjust(live);
    const { connection } = this;
    if (live.bandwidthBytesPerSecond !== undefined && !this.vm.isHeld) {
      connection?.outgoing.limit(live.bandwidthBytesPerSecond);
    }
    if (live.postcopyBandwidthBytesPerSecond !== undefined && connection?.push.isBegun === true) {
      connection.outgoing.limit(live.postcopyBandwidthBytesPerSecond);
    }
    if (live.timeoutMs !== undefined || live.onTimeout !== undefined) this.#armDeadline();
    // A round may last; what is refused now is asked for again after it.
    if (connection !== null) this.#slowAtOnce(connection.rounds).catch(noop);
  }

  /** @returns why an operator's word isn't taken, or null */
  whyNotResolve({ runsOn }: Resolution): string | null {
    if (this.notes.isEnded) return "The migration has ended.";
    if (this.#isCalledOff && runsOn === "target") return "It is being called off.";
    if (!this.#isCalledOff && this.notes.point !== "released") {
      return "Cancel it: the VM is still this host's.";
    }
    const isOld = this.#following !== null && runsOn === "source";
    return isOld ? "It ran at the target: this host's copy is old." : null;
  }

  /**
   * An operator's word for a target that never answers.
   * @returns why it isn't taken, or null
   */
  resolve(resolution: Resolution): string | null {
    const why = this.whyNotResolve(resolution);
    if (why !== null) return why;
    this.#following?.giveUp(resolution.reason);
    this.control.resolution.set(resolution);
    return null;
  }

  /** Runs the session to its end; never rejects. */
  async run(): Promise<MigrationState> {
    let session: string;
    try {
      session = await this.#move();
    } catch (error) {
      return this.#fail(error);
    } finally {
      this.#cancelDeadline();
    }
    return this.#handOver(session);
  }

  /** @returns the peer's name for the session, once the VM is released */
  async #move(): Promise<string> {
    const { control } = this;
    const { turn = (act) => act() } = this.#spec;
    this.#armDeadline();
    const setUp = async () => {
      if (control.isStopped) throw new Stopped("cancelled", "Cancelled while it waited.");
      return this.#watch.time("setupMs", () => this.setup());
    };
    const { offer, connection } = await control.orStopped(turn(setUp));
    const { pages, isPostcopy } = await this.#sendRounds(connection);
    if (isPostcopy) await connection.switchover.runPostcopy(pages);
    else await connection.switchover.run(pages ?? NO_PAGES);
    return offer.session;
  }

  async setup(): Promise<{ readonly offer: Offer; readonly connection: Connection }> {
    const { control, notes, vm } = this;
    await control.orStopped(notes.enter("setup"));
    const reasons = whyNot(control.parameters, await vm.tracking(), this.#spec);
    if (reasons.length > 0) {
      throw new MigrationError("source", "preflight-failed", reasons.join(" "));
    }
    const memory = await control.orStopped(vm.describe());
    const offer = await control.orStopped(this.#offer());
    vm.isPacked = offer.takesPacked === true;
    const keeping = retry(this.#spec.clock, {}, () => this.#spec.journal.peer(offer.session));
    keeping.catch(noop);
    const connection = await this.#connect(offer, memory);
    this.connection = connection;
    await control.orStopped(keeping);
    return { offer, connection };
  }

  #offer(): Promise<Offer> {
    const { peer, passport, clock } = this.#spec;
    const { control } = this;
    const isWorth = (error: unknown) => isTransient(error) && !control.isStopped;
    this.#offering = retry(clock, { isWorth }, () => peer.offer(passport, control.parameters));
    this.#offering.then(({ session }) => {
      this.#peerSession = session;
    }, noop);
    return this.#offering;
  }

  async #connect(offer: Offer, memory: MemoryMap): Promise<Connection> {
    const { trust, dataPlane, journal, clock } = this.#spec;
    const { control, vm } = this;
    const { channels, compression, deltaCacheBytes, bandwidthBytesPerSecond } = control.parameters;
    const { session, stream } = offer;
    const pages = { channels, compression, deltaCacheBytes, bandwidthBytesPerSecond };
    const how = { trust, ...pages };
    const what = { memory, sequences: vm.sequences };
    const opening = dataPlane.open({ session, stream, ...offer.dataPlane, ...how, ...what });
    // Somebody cancelled while it was being opened: nobody else would close it.
    opening.then((late) => (control.isStopped ? late.close() : null)).catch(noop);
    const outgoing = await control.orStopped(opening);
    const watch = this.#watch;
    const rounds = new Rounds(outgoing, memory, { journal, clock, beganMs: watch.beganMs });
    const settling = this.#settling(session);
    const push = new Push({ ...settling, outgoing, rounds });
    const parts = { vm, outgoing, memory, rounds, push, watch, control };
    const switchover = new Switchover({ ...settling, ...parts });
    return { memory, outgoing, rounds, push, switchover };
  }

  #settling(session: string): Settling {
    const { peer, clock } = this.#spec;
    return { peer, session, clock, notes: this.notes, resolution: this.control.resolution };
  }

  async #sendRounds({ rounds, memory }: Connection): Promise<Left> {
    const { control, vm, notes } = this;
    const { strategy, tracking } = control.parameters;
    await control.orStopped(notes.enter("active"));
    // What setup has taken of the time may be all of it.
    this.#armDeadline();
    if (strategy === "stop-and-copy") {
      return { pages: await this.#sendHeld(rounds), isPostcopy: false };
    }
    if (strategy === "post-copy") {
      await this.#pauseOnce();
      this.#spec.journal.decided(AT_ONCE);
      return { pages: null, isPostcopy: true };
    }
    await control.orStopped(vm.track(tracking === "auto" ? null : tracking));
    let pages: DirtyPages | null = null;
    let leave = firstPagesToLeave(control.parameters, memory.pageSize);
    for (;;) {
      const most = this.#isPostcopyAsked ? EVERY_PAGE : leave;
      const sent = await control.orStopped(rounds.send(pages, most));
      const remains = await this.#harvest(sent.unsent);
      const { pages: left } = remains;
      const choice = rounds.decide(sent, remains, control.parameters, this.#isPostcopyAsked);
      const { action, why } = choice.decision;
      if (action === "cancel") throw new Stopped("timeout", why);
      const isPostcopy = action === "postcopy";
      // The time limit has held it: there is no way back to a running guest.
      if (vm.isHeld || action === "force") return { pages: left, isPostcopy };
      pages = left;
      leave = choice.pagesToLeave;
      if (isPostcopy || action === "switchover") {
        if (!(await this.#pauseOnce())) return { pages, isPostcopy };
        // The guest ran on meanwhile, so what comes next is decided anew.
        pages = joinPages(left, await control.orStopped(vm.harvest()));
        if (isPostcopy) return { pages, isPostcopy };
        leave = 0;
      }
      await control.orStopped(this.#slow(rounds, () => choice.throttlePercent));
    }
  }

  async #sendHeld(rounds: Rounds): Promise<DirtyPages> {
    const { control, vm } = this;
    await this.#pauseOnce();
    await control.orStopped(vm.hold());
    await control.orStopped(vm.trackIfPossible());
    // Nobody would see the tables that saving writes into guest memory after their pages have gone.
    if (!vm.isTracked) await control.orStopped(vm.save(false));
    const sent = await control.orStopped(rounds.send(null));
    const { pages, dirtied } = await this.#harvest(sent.unsent);
    rounds.record(sent, dirtied, STOPPED_AT_ONCE, null);
    return pages;
  }

  /** @param unsent pages that the round has left */
  async #harvest(unsent: DirtyPages): Promise<Remains> {
    const harvest = await this.control.orStopped(this.vm.harvest());
    return { pages: joinPages(unsent, harvest), dirtied: harvest.pages };
  }

  /** @returns false where nobody asked for a pause, or it is over already */
  async #pauseOnce(): Promise<boolean> {
    const { control, notes } = this;
    if (!control.parameters.pauseBeforeSwitchover || this.#hasPaused) return false;
    this.#hasPaused = true;
    await control.orStopped(notes.enter("pre-switchover"));
    await control.untilContinued();
    await control.orStopped(notes.enter("active"));
    return true;
  }

  /** What slows vCPUs down already, by the limits as they are now. */
  async #slowAtOnce(rounds: Rounds): Promise<void> {
    const { state } = this.notes;
    const isFree = !this.vm.isHeld && (state === "active" || state === "pre-switchover");
    if (rounds.isFirst || !isFree) return;
    await this.#slow(rounds, () => rounds.slowed.throttlePercent);
  }

  /** From the second round on, one change after the other. @param percent as of its turn */
  #slow(rounds: Rounds, percent: () => number): Promise<void> {
    const slowing = this.#slowing.then(() => this.#setThrottle(rounds, percent()));
    this.#slowing = slowing.catch(noop);
    return slowing;
  }

  async #setThrottle(rounds: Rounds, percent: number): Promise<void> {
    const { dirtyLimitPagesPerSecond, throttleMax, autoConverge } = this.control.parameters;
    const throttlePercent = autoConverge ? Math.min(percent, throttleMax) : 0;
    const now = rounds.slowed;
    const isSame = throttlePercent === now.throttlePercent;
    if (isSame && dirtyLimitPagesPerSecond === now.dirtyLimitPagesPerSecond) return;
    await this.vm.throttle(throttlePercent, dirtyLimitPagesPerSecond);
    rounds.slowed = { throttlePercent, dirtyLimitPagesPerSecond };
  }

  #armDeadline(): void {
    this.#cancelDeadline();
    const { timeoutMs } = this.control.parameters;
    if (timeoutMs === 0) return;
    const { clock } = this.#spec;
    const leftMs = this.#watch.beganMs + timeoutMs - clock.monotonicMs();
    this.#cancelDeadline = clock.timer(Math.max(leftMs, 0), () => this.#isOver());
  }

  /** Within a round: what can't wait for its end. The policy sees the rest after it. */
  #isOver(): void {
    const { control, notes, vm } = this;
    const { onTimeout, timeoutMs, strategy } = control.parameters;
    const isSettingUp = notes.state === "queued" || notes.state === "setup";
    if (!isSettingUp && notes.state !== "active" && notes.state !== "pre-switchover") return;
    if (onTimeout === "cancel") {
      control.stop(new Stopped("timeout", `The time limit of ${timeoutMs} ms is over.`));
      return;
    }
    // The others are about pages: when those begin to go, the time is looked at again.
    if (isSettingUp) return;
    if (onTimeout === "force") vm.hold().catch(noop);
    // Nobody is waited for any more: neither in a pause nor in the one that would come.
    control.continue();
    // What is left of the round goes without the client's limit now.
    if (strategy !== "stop-and-copy") this.connection?.outgoing.endRound();
  }

  async #fail(error: unknown): Promise<MigrationState> {
    const { notes, vm, connection } = this;
    const failure = failureOf(error, notes.state, "source");
    const isStopped = error instanceof Stopped;
    this.#isCalledOff = true;
    if (isStopped) notes.pass("cancelling");
    const session = this.#peerSession;
    if (connection?.switchover.isFinishSent && session !== null) {
      await untilCalledOff(this.#settling(session), failure.detail);
    }
    await vm.putBack();
    if (vm.heldMs !== null) this.#watch.runsAgain(vm.heldMs);
    await connection?.outgoing.close().catch(noop);
    await this.#abortPeer(failure.detail);
    if (connection?.switchover.isFinishSent && notes.point !== "aborted") {
      // By the target's word: the record says "released" until it says this.
      await retry(this.#spec.clock, FOR_EVER, () => notes.reach("aborted"));
    }
    return this.#end(isStopped ? "cancelled" : "failed", failure);
  }

  /** As well as it goes: a target that doesn't hear it will ask. */
  async #abortPeer(why: string): Promise<void> {
    const { peer, clock } = this.#spec;
    const isWorth = isTransient;
    const aborting = this.#offering
      ?.then(({ session }) => retry(clock, { isWorth }, () => peer.abort(session, why)))
      .catch(noop);
    // An offer that nobody has answered yet isn't waited for.
    if (this.#peerSession !== null) await aborting;
  }

  /** The VM is released: whoever has it by the target's word runs it. */
  async #handOver(session: string): Promise<MigrationState> {
    const watch = this.#watch;
    const outcome = await watch.time("commitMs", () => untilHeard(this.#settling(session)));
    if (outcome === "never-runs") {
      const detail = "The target lost the VM before it ran there, so it goes on here.";
      return this.#takeBack(new MigrationError("target", "target-lost", detail));
    }
    watch.runsAgain(this.vm.heldMs);
    const rounds = this.connection?.rounds;
    if (outcome === "target" && rounds) rounds.downtimeMs = watch.statistics.downtimeMs;
    const isTheirs = outcome === "target" || outcome.runsOn === "target";
    const push = this.connection?.push;
    if (isTheirs && push?.isBegun === true) return this.#follow(push);
    if (outcome === "target") return this.#end("completed", null);
    const word = new MigrationError("operator", "resolved", outcome.reason);
    if (outcome.runsOn === "target") {
      return this.#end("completed", failureOf(word, this.notes.state, "source"));
    }
    // Only the record keeps a later life of this host from handing it over again.
    this.#isCalledOff = true;
    await retry(this.#spec.clock, FOR_EVER, () => this.notes.reach("aborted"));
    return this.#takeBack(word);
  }

  /** Pages follow the VM, which runs at the target. */
  async #follow(push: Push): Promise<MigrationState> {
    this.#following = push;
    try {
      await push.untilAllThere();
    } catch (error) {
      return this.#end("failed", failureOf(error, this.notes.state, "source"));
    }
    return this.#end("completed", null);
  }

  async #takeBack(why: MigrationError): Promise<MigrationState> {
    const failure = failureOf(why, this.notes.state, "source");
    this.#isCalledOff = true;
    // Pages that are still on their way are for nobody.
    if (this.connection?.push.isBegun === true) await this.connection.outgoing.close().catch(noop);
    await this.vm.putBack();
    this.#watch.runsAgain(this.vm.heldMs);
    // Before its end is written, by which the service goes: the VM is here, and nowhere else.
    await this.notes.callOff();
    return this.#end("failed", failure);
  }

  async #end(state: MigrationState, failure: Failure | null): Promise<MigrationState> {
    this.connection?.rounds.end(failure?.detail ?? "the session has ended");
    this.#spec.journal.statistics(this.#watch.statistics);
    await this.notes.end(state, failure);
    await this.connection?.outgoing.close().catch(noop);
    return state;
  }
}
