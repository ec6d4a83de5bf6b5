// Goal: the policy ends what can end, sees early what can't, and says why. Method: guests of known
// working set and rate over a link of known bandwidth, as in the baselines of guest-payloads.md 9.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RoundFigures } from "../../../src/migration/estimate.js";
import { type Choice, decide, firstPagesToLeave } from "../../../src/migration/policy.js";
import { DEFAULT_PARAMETERS, type MigrationParameters } from "../../../src/migration/types.js";

const PAGE = 4096; // tidy: the guest's page size
const MIB = 2 ** 20;

interface Guest {
  /** Pages that it rewrites, and how many of them a second. */
  readonly workingSet: number;
  readonly rate: number;
  /** Other pages that hold something. */
  readonly idle: number;
}

interface Link {
  readonly bytesPerSecond: number;
}

/**
 * Distinct pages that `writes` touch: the guest goes round in its working set. Some of them were
 * unsent anyhow: as many as their share of it.
 */
function dirtied({ workingSet }: Guest, writes: number, unsent: number): number {
  const overlap = workingSet === 0 ? 0 : Math.min(1, unsent / workingSet);
  return Math.round(Math.min(workingSet, writes) * (1 - overlap));
}

interface Run {
  readonly choices: readonly Choice[];
  readonly elapsedMs: number;
  /** From the first round that says so. */
  readonly notConvergingAt: number | null;
}

/** Rounds until the policy wants something else than another one. */
function run(guest: Guest, link: Link, parameters: Partial<MigrationParameters>, most = 60): Run {
  const all = { ...DEFAULT_PARAMETERS, ...parameters };
  const rounds: RoundFigures[] = [];
  const choices: Choice[] = [];
  let pages = guest.idle + guest.workingSet;
  let leave = firstPagesToLeave(all, PAGE);
  let throttlePercent = 0;
  let elapsedMs = 0;
  let withinLimitMs: number | null = null;
  while (choices.length < most) {
    const pagesUnsent = Math.min(pages, leave);
    const pagesSent = pages - pagesUnsent;
    const bytes = pagesSent * PAGE;
    const durationMs = (bytes * 1000) / link.bytesPerSecond;
    elapsedMs += durationMs;
    const rate = guest.rate * (1 - throttlePercent / 100);
    const pagesLeft = pagesUnsent + dirtied(guest, (rate * durationMs) / 1000, pagesUnsent);
    const traffic = { pagesSent, pagesZero: 0, pagesDuplicate: 0, bytes };
    rounds.push({ ...traffic, durationMs, pagesLeft, pagesUnsent, throttlePercent });
    const situation = { parameters: all, rounds, pageSize: PAGE, elapsedMs, withinLimitMs };
    const choice = decide(situation);
    if (choice.predictedDowntimeMs <= all.downtimeMs) withinLimitMs ??= elapsedMs;
    choices.push(choice);
    const { action } = choice.decision;
    if (action !== "next-round" && action !== "throttle") break;
    throttlePercent = choice.throttlePercent;
    pages = pagesLeft;
    leave = choice.pagesToLeave;
  }
  const at = choices.findIndex(({ decision }) => !decision.isConverging);
  return { choices, elapsedMs, notConvergingAt: at < 0 ? null : at + 1 };
}

const actionOf = ({ choices }: Run) => choices.at(-1)?.decision.action;
const guest = (mib: number, rate: number): Guest => ({
  workingSet: (mib * MIB) / PAGE,
  rate,
  idle: 13_600,
});
/** 128 MiB a second, as the baselines have it; and about what a loopback gives. */
const LIMITED = { bytesPerSecond: 128 * MIB };
const FAST = { bytesPerSecond: 500 * MIB };
/** Unpaced, the guest of the baselines writes millions of pages a second. */
const MAX = 2_700_000;

describe("guests of the baselines, with 300 ms of downtime", () => {
  it.each([
    ["idle", guest(0.1, 0), LIMITED, 2],
    ["W128 4 k", guest(128, 4_000), LIMITED, 3],
    ["W128 16 k", guest(128, 16_000), LIMITED, 6],
    ["W128 28 k", guest(128, 28_000), LIMITED, 16],
    ["W256 16 k", guest(256, 16_000), LIMITED, 8],
    ["idle, unlimited", guest(0.1, 0), FAST, 2],
    ["W128 48 k, unlimited", guest(128, 48_000), FAST, 5],
    ["W128 max, unlimited", guest(128, MAX), FAST, 3],
  ])("%s converges", (_, one, link, rounds) => {
    const limit = link === LIMITED ? LIMITED.bytesPerSecond : 0;
    const result = run(one, link, { bandwidthBytesPerSecond: limit });
    expect(actionOf(result)).toBe("switchover");
    expect(result.choices.length).toBeLessThanOrEqual(rounds);
    expect(result.notConvergingAt).toBeNull();
  });

  it.each([
    ["W128 48 k", guest(128, 48_000)],
    ["W128 max", guest(128, MAX)],
    ["W256 48 k", guest(256, 48_000)],
    ["W256 max", guest(256, MAX)],
  ])("%s doesn't, and that is said within five rounds", (_, one) => {
    const result = run(one, LIMITED, { bandwidthBytesPerSecond: LIMITED.bytesPerSecond }, 12);
    expect(actionOf(result)).toBe("next-round");
    expect(result.notConvergingAt).toBeLessThanOrEqual(5);
    expect(result.choices.at(-1)?.decision.why).toMatch(/not converging.*no time limit ends it/);
  });

  it.each([
    ["28 k", guest(128, 28_000)],
    ["48 k", guest(128, 48_000)],
    ["max", guest(128, MAX)],
  ])("%s converges by throttling, sooner than the 40 rounds of QEMU", (_, one) => {
    const limits = { bandwidthBytesPerSecond: LIMITED.bytesPerSecond, autoConverge: true };
    const result = run(one, LIMITED, limits);
    expect(actionOf(result)).toBe("switchover");
    expect(result.choices.length).toBeLessThanOrEqual(15);
  });

  it("forces, cancels or goes over to post-copy when the time is over", () => {
    const one = guest(128, MAX);
    const limit = { bandwidthBytesPerSecond: LIMITED.bytesPerSecond, timeoutMs: 4_000 };
    const over = (onTimeout: MigrationParameters["onTimeout"]) =>
      run(one, LIMITED, { ...limit, onTimeout });
    expect(actionOf(over("force"))).toBe("force");
    expect(actionOf(over("cancel"))).toBe("cancel");
    expect(actionOf(over("postcopy"))).toBe("postcopy");
    expect(over("force").choices.at(-1)?.decision.why).toContain(
      "the time limit of 4000 ms is over",
    );
    const hybrid = run(one, LIMITED, { ...limit, timeoutMs: 0, strategy: "hybrid" });
    expect(actionOf(hybrid)).toBe("postcopy");
    expect(hybrid.choices.length).toBeLessThanOrEqual(5);
  });
});

describe("what a decision says", () => {
  const traffic = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0 };

  it("has the figures that it was taken from", () => {
    const sent = { ...traffic, pagesSent: 32_256, bytes: 126 * MIB, durationMs: 1_000 };
    const round = { ...sent, pagesLeft: 3_098, pagesUnsent: 0, throttlePercent: 0 };
    const parameters = { ...DEFAULT_PARAMETERS, bandwidthBytesPerSecond: 126 * MIB };
    const situation = { parameters, rounds: [round], pageSize: PAGE, elapsedMs: 1_000 };
    const { decision } = decide({ ...situation, withinLimitMs: null });
    expect(decision.why).toBe(
      "round 1 left 12.1 MiB dirty, 107 ms at 126.0 MiB/s, within the limit of 300 ms",
    );
  });

  it("finishes a limited round whose rest is small, where the guest is slow", () => {
    const sent = { ...traffic, pagesSent: 12_000, bytes: 12_000 * PAGE };
    const parameters = { ...DEFAULT_PARAMETERS, bandwidthBytesPerSecond: LIMITED.bytesPerSecond };
    const left = (pagesLeft: number, pagesUnsent: number, durationMs = 400) => {
      const round = { ...sent, durationMs, pagesLeft, pagesUnsent, throttlePercent: 0 };
      const situation = { parameters, rounds: [round], pageSize: PAGE, elapsedMs: 500 };
      return decide({ ...situation, withinLimitMs: null });
    };
    const slow = left(2_500, 2_400);
    expect([slow.decision.action, slow.pagesToLeave]).toEqual(["next-round", 0]);
    // A fast one dirties as much again meanwhile; and a long rest takes too long.
    expect(left(2_500, 2_000, 40).decision.action).toBe("switchover");
    expect(left(8_000, 8_000).decision.action).toBe("switchover");
    expect(left(2_500, 0).decision.action).toBe("switchover");
  });

  it("leaves pages to the switchover only where the limit holds rounds back", () => {
    const leaves = (limit: number, durationMs: number) => {
      const sent = { ...traffic, pagesSent: 32_768, bytes: 32_768 * PAGE, durationMs };
      const round = { ...sent, pagesLeft: 30_000, pagesUnsent: 0, throttlePercent: 0 };
      const parameters = { ...DEFAULT_PARAMETERS, bandwidthBytesPerSecond: limit };
      const situation = { parameters, rounds: [round], pageSize: PAGE, elapsedMs: 1_000 };
      return decide({ ...situation, withinLimitMs: null }).pagesToLeave;
    };
    expect(leaves(LIMITED.bytesPerSecond, 1_000)).toBe(8_552);
    expect(leaves(LIMITED.bytesPerSecond, 4_000)).toBe(0);
    expect(leaves(0, 1_000)).toBe(0);
  });

  it("switches over when nothing is dirty, whatever the limit", () => {
    const nothing = { pagesLeft: 0, pagesUnsent: 0, throttlePercent: 0 };
    const round = { ...traffic, bytes: 0, durationMs: 5, ...nothing };
    const parameters = { ...DEFAULT_PARAMETERS, downtimeMs: 1 };
    const situation = { parameters, rounds: [round], pageSize: PAGE, elapsedMs: 5 };
    const { decision } = decide({ ...situation, withinLimitMs: null });
    expect(decision).toMatchObject({ action: "switchover", why: "round 1 left nothing dirty" });
  });

  it("holds for any figures", () => {
    const round = fc.record({
      pagesSent: fc.nat(1_000_000),
      pagesZero: fc.nat(1_000_000),
      pagesDuplicate: fc.nat(1_000),
      bytes: fc.nat(2 ** 31 - 1),
      durationMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
      pagesLeft: fc.nat(1_000_000),
      pagesUnsent: fc.nat(1_000_000),
      throttlePercent: fc.nat(99),
    });
    const live = fc.record({
      strategy: fc.constantFrom("pre-copy" as const, "hybrid" as const),
      bandwidthBytesPerSecond: fc.nat(2 ** 31 - 1),
      downtimeMs: fc.nat(10_000),
      timeoutMs: fc.nat(10_000),
      autoConverge: fc.boolean(),
      throttleMax: fc.integer({ min: 20, max: 99 }),
    });
    fc.assert(
      fc.property(
        fc.array(round, { minLength: 1, maxLength: 8 }),
        live,
        fc.nat(20_000),
        (rounds, some, elapsedMs) => {
          const parameters = { ...DEFAULT_PARAMETERS, ...some };
          const situation = { parameters, rounds, pageSize: PAGE, elapsedMs, withinLimitMs: null };
          const { decision, throttlePercent, predictedDowntimeMs } = decide(situation);
          const now = rounds.at(-1)?.throttlePercent ?? 0;
          expect(decision.why).not.toMatch(/NaN|undefined|Infinity/);
          expect(predictedDowntimeMs).toBeGreaterThanOrEqual(0);
          expect(predictedDowntimeMs).not.toBeNaN();
          if (decision.action === "throttle") {
            expect(parameters.autoConverge).toBe(true);
            expect(throttlePercent).toBeGreaterThan(now);
            expect(throttlePercent).toBeLessThanOrEqual(parameters.throttleMax);
          } else {
            expect(throttlePercent).toBe(now);
          }
          if (decision.action === "switchover" && (rounds.at(-1)?.pagesLeft ?? 0) > 0) {
            expect(predictedDowntimeMs).toBeLessThanOrEqual(parameters.downtimeMs);
          }
          const isOver = parameters.timeoutMs > 0 && elapsedMs >= parameters.timeoutMs;
          if (isOver) expect(["switchover", "cancel"]).toContain(decision.action);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
