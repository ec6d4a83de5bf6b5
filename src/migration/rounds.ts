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
  #throttlePercent = 0;
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

  /** In force for rounds from now on. */
  set throttlePercent(percent: number) {
    this.#throttlePercent = percent;
  }

  get throttlePercent(): number {
    return this.#throttlePercent;
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

  /**
   * What comes after a round that left these pages.
   * @param left those that it didn't send among them
   */
  decide(
    sent: Sent,
    left: DirtyPages,
    parameters: MigrationParameters,
    isPostcopyAsked = false,
  ): Choice {
    const { traffic, durationMs, unsent } = sent;
    const pagesLeft = left.pages;
    const throttlePercent = this.#throttlePercent;
    const pagesUnsent = unsent.pages;
    this.#figures.push({ ...traffic, durationMs, pagesLeft, pagesUnsent, throttlePercent });
    const { pageSize } = this.#memory;
    const elapsedMs = this.elapsedMs;
    const situation = { parameters, rounds: this.#figures, pageSize, elapsedMs };
    const decided = decide({ ...situation, withinLimitMs: this.#withinLimitMs });
    const choice = isPostcopyAsked ? asked(decided) : decided;
    if (choice.predictedDowntimeMs <= parameters.downtimeMs) this.#withinLimitMs ??= elapsedMs;
    this.#choice = choice;
    this.record(sent, left, choice.decision, choice.predictedDowntimeMs);
    this.#notedMs = Number.NEGATIVE_INFINITY;
    this.#progress(NOTHING, pagesLeft);
    return choice;
  }

  /** Keeps a round. @param predictedDowntimeMs null: nothing to predict, the guest is held */
  record(
    sent: Sent,
    left: DirtyPages,
    decision: Decision,
    predictedDowntimeMs: number | null,
  ): void {
    const { traffic, startMs, durationMs, pagesDirty } = sent;
    const perSecond = (amount: number) =>
      durationMs === 0 ? 0 : Math.round((amount * 1000) / durationMs);
    const record: RoundRecord = {
      ...traffic,
      round: ++this.#recorded,
      startMs,
      durationMs,
      pagesDirty,
      dirtyPagesPerSecond: perSecond(left.pages),
      bytesPerSecond: perSecond(traffic.bytes),
      throttlePercent: this.#throttlePercent,
      predictedDowntimeMs,
      decision,
    };
    this.#last = record;
    this.#journal.round(record);
    this.#journal.decided(decision);
  }

  #recorded = 0;
  /** Post-copy: pages that follow. */
  pagesToPush = 0;
  #last: RoundRecord | null = null;

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
      throttlePercent: this.#throttlePercent,
      predictedDowntimeMs: this.#choice?.predictedDowntimeMs ?? null,
      pagesRequested: this.#pushed?.pagesRequested ?? 0,
      pagesPushed: this.#pushed?.pagesPushed ?? 0,
    });
  }

  /** Post-copy: what has followed the VM so far. */
  pushed(sent: PushTraffic): void {
    this.#pushed = sent;
    this.#progress(sent, this.pagesToPush);
  }

  /** Whatever was noted last, everything that went over the wire. */
  finalProgress(): void {
    this.#notedMs = Number.NEGATIVE_INFINITY;
    this.#progress(this.#pushed ?? NOTHING, 0);
  }
}
