// Owns: what rounds say of the link and of the guest: bandwidth, bytes of a page, whether it gets
// less. Pure. Any thread.
import { BANDWIDTH_SAMPLE_BYTES, STALLED_RATIO } from "./limits.js";
import type { Traffic } from "./types.js";

/** A round as the policy sees it. */
export interface RoundFigures extends Traffic {
  readonly durationMs: number;
  /** Dirty when it ended: what the next one would send. */
  readonly pagesLeft: number;
  /** Among them those that this one was to send, and had no need to. */
  readonly pagesUnsent: number;
  /** In force while it was sent. */
  readonly throttlePercent: number;
}

export interface Estimate {
  /** Infinity: nothing was sent that could tell. */
  readonly bytesPerSecond: number;
  readonly bytesPerPage: number;
  /** Bytes that the guest dirtied in the newest round to those that it sent. */
  readonly ratio: number;
  /** Of the round before; null where that was the first one, which says nothing of the guest. */
  readonly ratioBefore: number | null;
  readonly isConverging: boolean;
}

/** Zero pages and well packed ones cost next to nothing; a header is never more than this. */
const PAGE_BYTES_MIN = 64;

/**
 * The newest rounds, as many as it takes to tell.
 * @param limit bytes a second that the client allows; 0: none
 */
function bandwidth(rounds: readonly RoundFigures[], pageSize: number, limit: number): number {
  let bytes = 0;
  let content = 0;
  let ms = 0;
  for (const round of rounds.toReversed()) {
    bytes += round.bytes;
    content += round.pagesSent * pageSize;
    ms += round.durationMs;
    // Well packed pages take a processor's time rather than the link's.
    if (Math.max(bytes, content) >= BANDWIDTH_SAMPLE_BYTES) break;
  }
  const measured = bytes === 0 || ms === 0 ? Number.POSITIVE_INFINITY : (bytes * 1000) / ms;
  return limit > 0 ? Math.min(measured, limit) : measured;
}

function pageBytes({ bytes, pagesSent }: Traffic, pageSize: number): number {
  if (pagesSent === 0) return pageSize;
  return Math.min(Math.max(bytes / pagesSent, PAGE_BYTES_MIN), pageSize + PAGE_BYTES_MIN);
}

/** Infinity where nothing was sent and something is left. */
function ratioOf(round: RoundFigures, pageSize: number): number {
  const made = (round.pagesLeft - round.pagesUnsent) * pageBytes(round, pageSize);
  return made <= 0 ? 0 : made / round.bytes;
}

/**
 * The first round sends what was never dirty too, so it tells nothing of the guest. Two rounds in a
 * row that gained nothing do; so does one under a throttle, and four that only went up and down.
 */
function isStalled(rounds: readonly RoundFigures[], pageSize: number): boolean {
  const later = rounds.slice(1);
  const ratios = later.map((round) => ratioOf(round, pageSize));
  const last = ratios.at(-1) ?? 0;
  const before = ratios.at(-2);
  if (last >= STALLED_RATIO) {
    if (before !== undefined && before >= STALLED_RATIO) return true;
    if ((later.at(-1)?.throttlePercent ?? 0) > 0) return true;
  }
  const four = ratios.slice(-4);
  return four.length === 4 && four.reduce((product, ratio) => product * ratio, 1) >= STALLED_RATIO;
}

/** @param rounds ended ones, the newest last */
export function estimate(
  rounds: readonly RoundFigures[],
  pageSize: number,
  limit: number,
): Estimate {
  const last = rounds.at(-1);
  const before = rounds.slice(1).at(-2);
  return {
    bytesPerSecond: bandwidth(rounds, pageSize, limit),
    bytesPerPage: last === undefined ? pageSize : pageBytes(last, pageSize),
    ratio: last === undefined ? 1 : ratioOf(last, pageSize),
    ratioBefore: before === undefined ? null : ratioOf(before, pageSize),
    isConverging: !isStalled(rounds, pageSize),
  };
}
