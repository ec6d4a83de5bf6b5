// Owns: sending rounds of pages, and what they came to: figures, records, progress. HTTP thread, or
// inline.
import type { Clock } from "../base/clock.js";
import type { DirtyPages, MemoryMap } from "../runtime/index.js";
import { bytesOf, NO_PAGES } from "./dirty-pages.js";
import type { RoundFigures } from "./estimate.js";
import { PROGRESS_MS } from "./limits.js";
import { type Choice, decide } from "./policy.js";
import type { Journal, Outgoing, PushTraffic } from "./ports.js";
import type { Decision, MigrationParameters, RoundRecord, Traffic } from "./types.js";

const NOTHING: Traffic = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0, bytes: 0 };
const NOTHING_PUSHED: PushTraffic = { ...NOTHING, pagesRequested: 0, pagesPushed: 0 };
const NOTHING_SENT = { ...NOTHING, unsent: NO_PAGES };

function sum(first: Traffic, second: Traffic): Traffic {
  return {
    pagesSent: first.pagesSent + second.pagesSent,
    pagesZero: first.pagesZero + second.pagesZero,
    pagesDuplicate: first.pagesDuplicate + second.pagesDuplicate,
    bytes: first.bytes + second.bytes,
  };
}

/** Somebody has said :start-postcopy: pages that are left follow the VM. */
function asked(choice: Choice): Choice {
  const { action, why, isConverging } = choice.decision;
  if (action === "cancel" || action === "force") return choice;
  const said = `${why}; post-copy was asked for`;
  return { ...choice, decision: { action: "postcopy", why: said, isConverging } };
}

/** A round that is over, before anybody knows what it left. */
interface Sent {
  readonly traffic: Traffic;
  readonly startMs: number;
  readonly durationMs: number;
  readonly pagesDirty: number;
  /** What it had no need to send. */
  readonly unsent: DirtyPages;
}

/** What keeps vCPUs from running, or from writing. */
type Slowed = Pick<RoundRecord, "throttlePercent" | "dirtyLimitPagesPerSecond">;

const FREE: Slowed = { throttlePercent: 0, dirtyLimitPagesPerSecond: 0 };

/** What there is to send once a round is over. */
export interface Remains {
  /** Those that the round didn't send among them. */
  readonly pages: DirtyPages;
  /** That the guest has written meanwhile; some of them may have been unsent anyhow. */
  readonly dirtied: number;
}

export class Rounds {
  readonly #outgoing: Outgoing;
  readonly #memory: MemoryMap;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #beganMs: number;
  readonly #figures: RoundFigures[] = [];
  #total = NOTHING;
  #notedMs = Number.NEGATIVE_INFINITY;
  #withinLimitMs: number | null = null;
  #slowed = FREE;
  /** Known before the round that it belongs to. */
  #downtimeMs: number | null = null;
  #recorded = 0;
  #last: RoundRecord | null = null;
  /** The newest one before the switchover; where there was none, the first push after it. */
  #switching: RoundRecord | null = null;
  /** Post-copy: the push under way. */
  #push: { readonly startMs: number } | null = null;
  /** Of pages that follow the VM, those that the push has to send. */
  #pagesToPush = 0;
  #choice: Choice | null = null;
  #pushed: PushTraffic | null = null;

  constructor(
    outgoing: Outgoing,
    memory: MemoryMap,
    parts: { readonly journal: Journal; readonly clock: Clock; readonly beganMs: number },
  ) {
    this.#outgoing = outgoing;
    this.#memory = memory;
    this.#journal = parts.journal;
    this.#clock = parts.clock;
    this.#beganMs = parts.beganMs;
  }

  get elapsedMs(): number {
    return this.#clock.monotonicMs() - this.#beganMs;
  }

  /** No round is over yet. */
  get isFirst(): boolean {
    return this.#recorded === 0;
  }

  /** In force from now on. */
  set slowed(slowed: Slowed) {
    this.#slowed = slowed;
  }

  get slowed(): Slowed {
    return this.#slowed;
  }

  /** What the guest has missed, now that the target's word is heard. */
  set downtimeMs(ms: number | null) {
    if (this.#switching === null) this.#downtimeMs = ms;
    else this.#journal.round({ ...this.#switching, downtimeMs: ms });
  }

  /**
   * @param pages null: all of them
   * @param leave it is over with so many of them left
   */
  async send(pages: DirtyPages | null, leave = 0): Promise<Sent> {
    const { pageSize } = this.#memory;
    const startMs = this.elapsedMs;
    const pagesDirty = pages === null ? bytesOf(this.#memory) / pageSize : pages.pages;
    const note = (traffic: Traffic) => this.#progress(traffic, pagesDirty);
    const sending =
      pages?.pages === 0 ? NOTHING_SENT : this.#outgoing.send(pages, (sent) => note(sent), leave);
    const { unsent, ...traffic } = await sending;
    this.#total = sum(this.#total, traffic);
    return { traffic, startMs, durationMs: this.elapsedMs - startMs, pagesDirty, unsent };
  }

  /** One round: what is known now, and then what somebody has found meanwhile. */
  async sendBoth(pages: DirtyPages, more: Promise<DirtyPages>): Promise<Sent> {
    if (pages.pages === 0) return this.send(await more);
    const first = await this.send(pages);
    const second = await this.send(await more);
    const { startMs } = first;
    return {
      ...{ startMs, durationMs: this.elapsedMs - startMs, unsent: second.unsent },
      traffic: sum(first.traffic, second.traffic),
      pagesDirty: first.pagesDirty + second.pagesDirty,
    };
  }

  /** What comes after a round that left these pages. */
  decide(
    sent: Sent,
    { pages: left, dirtied }: Remains,
    parameters: MigrationParameters,
    isPostcopyAsked = false,
  ): Choice {
    const { traffic, durationMs, unsent } = sent;
    const pagesLeft = left.pages;
    const { throttlePercent } = this.#slowed;
    const pagesUnsent = unsent.pages;
    this.#figures.push({ ...traffic, durationMs, pagesLeft, pagesUnsent, throttlePercent });
    const { pageSize } = this.#memory;
    const elapsedMs = this.elapsedMs;
    const situation = { parameters, rounds: this.#figures, pageSize, elapsedMs };
    const decided = decide({ ...situation, withinLimitMs: this.#withinLimitMs });
    const choice = isPostcopyAsked ? asked(decided) : decided;
    if (choice.predictedDowntimeMs <= parameters.downtimeMs) this.#withinLimitMs ??= elapsedMs;
    this.#choice = choice;
    this.record(sent, dirtied, choice.decision, choice.predictedDowntimeMs);
    this.#notedMs = Number.NEGATIVE_INFINITY;
    this.#progress(NOTHING, pagesLeft);
    return choice;
  }

  /**
   * Keeps a round.
   * @param dirtied pages that the guest wrote while it was sent
   * @param predictedDowntimeMs null: nothing to predict, the guest is held
   */
  record(
    sent: Sent,
    dirtied: number,
    decision: Decision,
    predictedDowntimeMs: number | null,
  ): void {
    const record = this.#keep(sent, dirtied, decision, predictedDowntimeMs);
    this.#switching = record;
    this.#journal.decided(decision);
  }

  #keep(
    sent: Omit<Sent, "unsent">,
    dirtied: number,
    decision: Decision,
    predictedDowntimeMs: number | null,
  ): RoundRecord {
    const { traffic, startMs, durationMs, pagesDirty } = sent;
    const perSecond = (amount: number) =>
      durationMs === 0 ? 0 : Math.round((amount * 1000) / durationMs);
    const record: RoundRecord = {
      ...traffic,
      round: ++this.#recorded,
      startMs,
      durationMs,
      pagesDirty,
      dirtyPagesPerSecond: perSecond(dirtied),
      bytesPerSecond: perSecond(traffic.bytes),
      ...this.#slowed,
      predictedDowntimeMs,
      downtimeMs: this.#downtimeMs,
      decision,
    };
    this.#downtimeMs = null;
    this.#last = record;
    this.#journal.round(record);
    return record;
  }

  /** @param pages that the round has to send altogether */
  #progress(sent: Traffic, pages: number): void {
    const now = this.#clock.monotonicMs();
    if (now - this.#notedMs < PROGRESS_MS) return;
    this.#notedMs = now;
    const { pageSize } = this.#memory;
    const pagesLeft = Math.max(pages - sent.pagesSent - sent.pagesZero, 0);
    this.#journal.progress({
      ...sum(this.#total, sent),
      bytesTotal: bytesOf(this.#memory),
      bytesRemaining: pagesLeft * pageSize,
      round: this.#recorded + 1,
      bytesPerSecond: this.#last?.bytesPerSecond ?? 0,
      dirtyPagesPerSecond: this.#last?.dirtyPagesPerSecond ?? 0,
      throttlePercent: this.#slowed.throttlePercent,
      predictedDowntimeMs: this.#choice?.predictedDowntimeMs ?? null,
      pagesRequested: this.#pushed?.pagesRequested ?? 0,
      pagesPushed: this.#pushed?.pagesPushed ?? 0,
    });
  }

  /** Post-copy: pages follow the VM, which nothing here slows down. @param pages null: the rest */
  beginPush(pages: DirtyPages | null): void {
    if (pages !== null) this.#pagesToPush = pages.pages;
    this.#push = { startMs: this.elapsedMs };
    this.#slowed = FREE;
  }

  /** Post-copy: what has followed the VM in this push so far. */
  pushed(sent: PushTraffic): void {
    this.#pushed = sent;
    this.#progress(sent, this.#pagesToPush);
  }

  /** Keeps the push as a round. @param why it was cut; null: all pages are there */
  endPush(why: unknown): void {
    if (this.#push === null) return;
    const { startMs } = this.#push;
    const { pagesRequested, pagesPushed, ...traffic } = this.#pushed ?? NOTHING_PUSHED;
    const pagesDirty = this.#pagesToPush;
    const pages = traffic.pagesSent + traffic.pagesZero;
    const cut = why instanceof Error ? why.message : String(why);
    const decision: Decision = {
      action: "push",
      why:
        why === null
          ? `${pages} pages followed the VM, ${pagesRequested} of them because it waited for them`
          : `the push was cut: ${cut}; ${pages} of ${pagesDirty} pages had gone`,
      isConverging: this.#last?.decision.isConverging ?? true,
    };
    const sent = { traffic, startMs, durationMs: this.elapsedMs - startMs, pagesDirty };
    const record = this.#keep(sent, 0, decision, null);
    this.#switching ??= record;
    this.#push = null;
    this.#pagesToPush = Math.max(0, pagesDirty - pages);
    this.#total = sum(this.#total, traffic);
    this.#pushed = { ...NOTHING, pagesRequested, pagesPushed };
  }

  /** Whatever was noted last, everything that went over the wire. @param why the session ends */
  end(why: string): void {
    this.endPush(why);
    this.#notedMs = Number.NEGATIVE_INFINITY;
    this.#progress(this.#pushed ?? NOTHING, 0);
  }
}
