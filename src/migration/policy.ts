// Owns: what comes after a round, from the figures of all rounds so far. Pure. Any thread.
//
//   within the limit ─▶ switchover        time is over ─▶ onTimeout: cancel, force, postcopy
//   gains nothing    ─▶ throttle, or post-copy (hybrid)      else ─▶ next round
import { type Estimate, estimate, type RoundFigures } from "./estimate.js";
import {
  FINISH_DIRTY_SHARE,
  FINISH_SHARE,
  LEAVE_SHARE,
  PACED_SHARE,
  SHORT_DOWNTIME_MS,
  SHORTEN_MS,
  SHORTEN_SHARE,
  STALLED_RATIO,
  STATE_MS,
  THROTTLE_RATIO,
} from "./limits.js";
import type { Action, Decision, MigrationParameters } from "./types.js";

export interface Situation {
  readonly parameters: MigrationParameters;
  /** Ended ones, the newest last; at least one. */
  readonly rounds: readonly RoundFigures[];
  readonly pageSize: number;
  readonly elapsedMs: number;
  /** Elapsed when a switchover was within the limit first; null: not yet. */
  readonly withinLimitMs: number | null;
}

export interface Choice {
  readonly decision: Decision;
  /** From now on. */
  readonly throttlePercent: number;
  readonly predictedDowntimeMs: number;
  readonly bytesPerSecond: number;
  /** Bytes that the remaining pages will take. */
  readonly bytesLeft: number;
  /** A round that comes next is over with so many of its pages left. */
  readonly pagesToLeave: number;
}

interface Facts extends Estimate {
  readonly predictedMs: number;
  readonly left: string;
}

const mib = (bytes: number): string => `${(bytes / 1_048_576).toFixed(1)} MiB`;

function ms(value: number): string {
  return value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${Math.ceil(value)} ms`;
}

/** "round 4 left 12.1 MiB dirty, 106 ms at 126.0 MiB/s" */
function sentence(round: number, bytes: number, guess: Estimate, predictedMs: number): string {
  if (bytes === 0) return `round ${round} left nothing dirty`;
  const rate = Number.isFinite(guess.bytesPerSecond) ? ` at ${mib(guess.bytesPerSecond)}/s` : "";
  return `round ${round} left ${mib(bytes)} dirty, ${ms(predictedMs)}${rate}`;
}

/** The client's limit is what holds rounds back. */
function isPaced(
  { bandwidthBytesPerSecond: limit }: MigrationParameters,
  guess: Estimate,
): boolean {
  return limit > 0 && guess.bytesPerSecond >= limit * PACED_SHARE;
}

/**
 * At the switchover the client's limit is lifted, so the real downtime is shorter than it seems.
 * But where hardly anything is left beside what the round could have sent, that may go first.
 */
function isWorthFinishing({ rounds, elapsedMs }: Situation, facts: Facts): boolean {
  const { pagesLeft = 0, pagesUnsent = 0, durationMs = 0 } = rounds.at(-1) ?? {};
  if (pagesUnsent === 0 || durationMs === 0) return false;
  const finishMs = facts.predictedMs - STATE_MS;
  const dirtied = ((pagesLeft - pagesUnsent) * finishMs) / durationMs;
  if (dirtied > pagesLeft * FINISH_DIRTY_SHARE) return false;
  return finishMs <= SHORTEN_MS + elapsedMs * FINISH_SHARE;
}

/** Another round would shorten the downtime by more than it delays the switchover. */
function isWorthARound(situation: Situation, facts: Facts): boolean {
  const { elapsedMs, withinLimitMs, parameters } = situation;
  if (isPaced(parameters, facts)) return isWorthFinishing(situation, facts);
  if (facts.predictedMs <= SHORT_DOWNTIME_MS || facts.ratio > 1 - SHORTEN_SHARE) return false;
  const since = withinLimitMs ?? elapsedMs;
  const allowedMs = SHORTEN_MS + since * SHORTEN_SHARE;
  return elapsedMs - since + facts.predictedMs - STATE_MS <= allowedMs;
}

/**
 * Rounds that no limit holds back go as fast as the last one would, with the guest held: leaving
 * pages to that gains nothing.
 */
function pagesToLeave(parameters: MigrationParameters, guess: Estimate): number {
  if (!isPaced(parameters, guess)) return 0;
  const { downtimeMs } = parameters;
  const bytes = ((downtimeMs - STATE_MS) * guess.bytesPerSecond) / 1000;
  return Math.max(0, Math.floor((bytes * LEAVE_SHARE) / guess.bytesPerPage));
}

/** The same of the first round, before anything is known. */
export function firstPagesToLeave(parameters: MigrationParameters, pageSize: number): number {
  return pagesToLeave(parameters, estimate([], pageSize, parameters.bandwidthBytesPerSecond));
}

function whenReached({ parameters }: Situation, facts: Facts): [Action, string] {
  const { downtimeMs } = parameters;
  return ["switchover", `${facts.left}, within the limit of ${ms(downtimeMs)}`];
}

const OVER: Readonly<Record<MigrationParameters["onTimeout"], [Action, string]>> = {
  cancel: ["cancel", "so it is cancelled"],
  force: ["force", "so it is forced, whatever the downtime"],
  postcopy: ["postcopy", "so the rest follows by post-copy"],
};

/**
 * How much slower vCPUs must get for the next round to leave half of what it sends. A guest that
 * rewrites everything in each round doesn't say how fast it is: its share of time is halved.
 */
function throttle({ parameters, rounds }: Situation, ratio: number): number {
  const now = rounds.at(-1)?.throttlePercent ?? 0;
  const share = (1 - now / 100) * (ratio >= STALLED_RATIO ? 0.5 : THROTTLE_RATIO / ratio);
  const least = now === 0 ? parameters.throttleInitial : now + parameters.throttleIncrement;
  // Rounded up, but not by what arithmetic adds to a whole number.
  const wanted = Math.max(Math.ceil(100 - share * 100 - 1e-9), least);
  return Math.min(wanted, parameters.throttleMax);
}

/** Two rounds in a row left too much, or one under a throttle. */
function needsThrottle({ parameters, rounds }: Situation, facts: Facts): boolean {
  const now = rounds.at(-1)?.throttlePercent ?? 0;
  if (!parameters.autoConverge || now >= parameters.throttleMax) return false;
  if (facts.ratio <= THROTTLE_RATIO || rounds.length === 1) return false;
  return now > 0 || (facts.ratioBefore !== null && facts.ratioBefore > THROTTLE_RATIO);
}

function hope({ parameters }: Situation, facts: Facts): string {
  if (facts.isConverging) return `more than the limit of ${ms(parameters.downtimeMs)}`;
  const { timeoutMs, onTimeout } = parameters;
  const end =
    timeoutMs === 0
      ? "no time limit ends it"
      : `after ${ms(timeoutMs)} ${OVER[onTimeout][1].replace("so ", "")}`;
  return `not converging: the guest dirties memory as fast as it is sent; ${end}`;
}

function choose(situation: Situation, facts: Facts): [Action, string] {
  const { parameters, rounds, elapsedMs } = situation;
  const { timeoutMs, onTimeout, strategy, downtimeMs } = parameters;
  if ((rounds.at(-1)?.pagesLeft ?? 0) === 0) return ["switchover", facts.left];
  const isOver = timeoutMs > 0 && elapsedMs >= timeoutMs;
  if (facts.predictedMs <= downtimeMs) {
    if (isOver || !isWorthARound(situation, facts)) return whenReached(situation, facts);
    return ["next-round", `${facts.left}: another round makes it shorter at little cost`];
  }
  if (isOver) {
    const [action, end] = OVER[onTimeout];
    return [action, `${facts.left}; the time limit of ${ms(timeoutMs)} is over, ${end}`];
  }
  if (strategy === "hybrid" && !facts.isConverging) {
    return ["postcopy", `${facts.left}; not converging, so the rest follows by post-copy`];
  }
  if (needsThrottle(situation, facts)) {
    const percent = throttle(situation, facts.ratio);
    const share = `${Math.round(facts.ratio * 100)} % of what it sent`;
    return ["throttle", `${facts.left}, ${share}: vCPUs are kept from running for ${percent} %`];
  }
  return ["next-round", `${facts.left}, ${hope(situation, facts)}`];
}

export function decide(situation: Situation): Choice {
  const { parameters, rounds, pageSize } = situation;
  const last = rounds.at(-1);
  const guess = estimate(rounds, pageSize, parameters.bandwidthBytesPerSecond);
  const bytesLeft = (last?.pagesLeft ?? 0) * guess.bytesPerPage;
  const predictedDowntimeMs = STATE_MS + (bytesLeft * 1000) / guess.bytesPerSecond;
  const left = sentence(rounds.length, bytesLeft, guess, predictedDowntimeMs);
  const [action, why] = choose(situation, { ...guess, predictedMs: predictedDowntimeMs, left });
  const now = last?.throttlePercent ?? 0;
  const isWithin = predictedDowntimeMs <= parameters.downtimeMs;
  return {
    decision: { action, why, isConverging: guess.isConverging },
    throttlePercent: action === "throttle" ? throttle(situation, guess.ratio) : now,
    predictedDowntimeMs,
    bytesPerSecond: guess.bytesPerSecond,
    bytesLeft,
    pagesToLeave: isWithin ? 0 : pagesToLeave(parameters, guess),
  };
}
