// Goal: what a session does in each of its phases, and what it says. Method: two simulated hosts
// without chance: a toy VM, a journal, a network that is cut when a test wants it.
import { describe, expect, it } from "vitest";
import { PeerError, type SourceSession } from "../../../src/migration/index.js";
import type { DirtyPages } from "../../../src/runtime/index.js";
import { BUSY, Pair, QUIET } from "../../support/migration-pair.js";

const SAVE_MS = 500;

/** Pages of each harvest from now on. */
function harvestsOf({ vm }: Pair): readonly number[] {
  const pages: number[] = [];
  if (vm === null) throw new Error("a migration has a VM");
  const call = vm.call.bind(vm);
  vm.call = async (name, args) => {
    const answer = await call(name, args);
    if (name === "harvestDirty") pages.push((answer.value as DirtyPages).pages);
    return answer;
  };
  return pages;
}

describe("a migration that goes well", () => {
  it("tells where its time went", async () => {
    const pair = new Pair(QUIET);
    await pair.begin({ verify: true });
    expect(await pair.end()).toMatchObject({
      state: "completed",
      point: "released",
      failure: null,
    });
    expect(pair.target.disk.get("in-m1")).toMatchObject({ state: "completed", point: "running" });
    const [statistics] = pair.source.statistics;
    // It is written down while the target loads, so nothing need be left of it.
    const { downtimeMs, totalMs, releaseMs, ...steps } = statistics!;
    for (const ms of Object.values(steps)) expect(ms).toBeGreaterThan(0);
    expect(releaseMs).toBeGreaterThanOrEqual(0);
    expect(downtimeMs).toBeLessThan(totalMs);
    const { holdMs, lastRoundMs, finishMs, commitMs } = statistics!;
    const sum = holdMs! + lastRoundMs! + finishMs! + releaseMs! + commitMs!;
    expect(sum).toBeLessThanOrEqual(downtimeMs!);
    expect(pair.source.vms).toEqual([]);
    expect(pair.target.vms.map(({ isHeld }) => isHeld)).toEqual([false]);
  });

  it("sends what is left while the state is saved, then what saving has written", async () => {
    const pair = new Pair({ ...QUIET, rate: 4 });
    await pair.begin({ downtimeMs: 1000, bandwidthBytesPerSecond: 200_000 });
    if (pair.vm === null) throw new Error("a migration has a VM");
    const call = pair.vm.call.bind(pair.vm);
    const left: number[] = [];
    // As a VM's thread does: one after the other, and saving takes a while.
    pair.vm.call = async (name, args) => {
      const isLast = name === "harvestDirty" && "last" in args && args.last === true;
      if (name === "saveState" || isLast) await pair.world.sleep(SAVE_MS);
      const answer = await call(name, args);
      if (isLast) left.push((answer.value as DirtyPages).pages);
      return answer;
    };
    await pair.end();
    const { lastRoundMs, saveMs } = pair.source.statistics[0]!;
    expect(saveMs).toBeGreaterThanOrEqual(SAVE_MS);
    const last = pair.source.rounds.at(-1)!;
    expect(last.predictedDowntimeMs).toBeNull();
    // It began before anybody knew the state, and its pages are those of both.
    expect(last.durationMs).toBeGreaterThanOrEqual(SAVE_MS);
    expect(lastRoundMs! - last.durationMs).toBeLessThan(SAVE_MS);
    expect(last.pagesDirty).toBeGreaterThan(left[0]!);
    expect(last.pagesSent + last.pagesZero).toBe(last.pagesDirty);
  });

  it("keeps a record of each round, with its reason", async () => {
    const pair = new Pair({ ...QUIET, rate: 4 });
    await pair.begin({ downtimeMs: 14, bandwidthBytesPerSecond: 200_000 });
    await pair.end();
    const { rounds } = pair.source;
    expect(rounds.map(({ round }) => round)).toEqual(rounds.map((_, at) => at + 1));
    expect(rounds[0]).toMatchObject({ pagesDirty: 40, throttlePercent: 0 });
    expect(rounds[0]?.decision.why).toMatch(/^round 1 left .* dirty, \d+ ms at /);
    // What the guest missed stands beside what was predicted.
    const { downtimeMs } = pair.source.statistics[0]!;
    expect(rounds.at(-1)).toMatchObject({ predictedDowntimeMs: null, downtimeMs });
    expect(rounds.slice(0, -1).map((round) => round.downtimeMs)).toEqual(
      rounds.slice(1).map(() => null),
    );
    expect(rounds.at(-2)?.predictedDowntimeMs).toBeGreaterThan(0);
    for (const { durationMs, bytes, bytesPerSecond } of rounds) {
      if (durationMs > 0) expect(bytesPerSecond).toBe(Math.round((bytes * 1000) / durationMs));
    }
  });

  it("counts as dirtied what the guest wrote, not what a limited round left", async () => {
    const pair = new Pair({ pages: [200], hot: 4, rate: 0.2 });
    await pair.begin({ downtimeMs: 60, bandwidthBytesPerSecond: 100_000 });
    const harvests = harvestsOf(pair);
    await pair.end();
    const [first, ...others] = pair.source.rounds;
    expect(first!.pagesSent + first!.pagesZero).toBeLessThan(first!.pagesDirty - 50);
    const rate = (pages: number, ms: number) => (ms === 0 ? 0 : Math.round((pages * 1000) / ms));
    for (const [at, { durationMs, dirtyPagesPerSecond }] of [first!, ...others].entries()) {
      // The last one is sent with every vCPU held.
      const written = at === others.length ? 0 : harvests[at]!;
      expect(dirtyPagesPerSecond).toBe(rate(written, durationMs));
    }
    const shown = pair.source.progress.map(({ dirtyPagesPerSecond }) => dirtyPagesPerSecond);
    expect(shown).toContain(first!.dirtyPagesPerSecond);
  });

  it("is told of at the target, too: what has come, and where its time went", async () => {
    const pair = new Pair({ pages: [200], hot: 4, rate: 0.2 });
    const limit = { bandwidthBytesPerSecond: 20_000, downtimeMs: 100, verify: true };
    await pair.begin(limit);
    await pair.until(() => pair.target.progress.length === 3);
    expect(pair.state).toBe("active");
    const total = 200 * 64;
    for (const [at, one] of pair.target.progress.entries()) {
      expect(one).toMatchObject({ bytesTotal: total, round: 0, predictedDowntimeMs: null });
      expect(one.bytesRemaining).toBe(total - (one.pagesSent - one.pagesDuplicate) * 64);
      expect(one.bytes).toBeGreaterThan(pair.target.progress[at - 1]?.bytes ?? 0);
      expect(one.bytesPerSecond).toBeGreaterThan(15_000);
      expect(one.bytesPerSecond).toBeLessThan(25_000);
    }
    expect(pair.target.statistics).toEqual([]);
    expect((await pair.end())?.state).toBe("completed");
    const last = pair.target.progress.at(-1)!;
    const sent = pair.source.progress.at(-1)!;
    expect(last).toMatchObject({ bytesRemaining: 0, pagesSent: sent.pagesSent + sent.pagesZero });
    const [statistics, ...others] = pair.target.statistics;
    expect(others).toEqual([]);
    const { setupMs, finishMs, commitMs, totalMs, stateBytes, ...unknown } = statistics!;
    for (const ms of [setupMs, finishMs, commitMs]) expect(ms).toBeGreaterThan(0);
    expect(setupMs! + finishMs! + commitMs!).toBeLessThan(totalMs);
    expect(stateBytes).toBe(pair.source.statistics[0]?.stateBytes);
    expect(new Set(Object.values(unknown))).toEqual(new Set([null]));
    // Nothing is told once it is over.
    const told = pair.target.progress.length;
    pair.world.at(5_000, () => {});
    const laterMs = pair.world.now + 4_000;
    await pair.until(() => pair.world.now > laterMs);
    expect(pair.target.progress.length).toBe(told);
  });

  it("tells nothing at the target from the state's coming until the VM runs", async () => {
    const pair = new Pair({ pages: [200], hot: 4, rate: 0.2 });
    await pair.begin({ bandwidthBytesPerSecond: 20_000, downtimeMs: 100, verify: true });
    await pair.until(() => pair.session?.connection?.switchover.isFinishSent === true);
    const told = pair.target.progress.length;
    const isRunning = () => pair.target.vms.some(({ isHeld }) => !isHeld);
    await pair.until(() => pair.target.progress.length > told || isRunning());
    expect(isRunning()).toBe(true);
    await pair.end();
    expect(pair.target.progress.length).toBeGreaterThan(told);
  });

  it("waits before its switchover until somebody says continue", async () => {
    const pair = new Pair(QUIET);
    const session = await pair.begin({ pauseBeforeSwitchover: true });
    await pair.until(() => pair.state === "pre-switchover");
    const waitedMs = pair.world.now + 60_000;
    pair.world.at(60_001, () => {});
    await pair.until(() => pair.world.now > waitedMs);
    expect(pair.state).toBe("pre-switchover");
    expect(pair.vm?.isHeld).toBe(false);
    expect(session.continue()).toBeNull();
    expect((await pair.end())?.state).toBe("completed");
  });

  it("has nothing to continue where nobody asked for a pause", async () => {
    const pair = new Pair(QUIET);
    const session = await pair.begin();
    expect(session.continue()).toMatch(/doesn't pause/);
    await pair.end();
  });
});

describe("a guest that is too fast", () => {
  const slow = { bandwidthBytesPerSecond: 100_000, downtimeMs: 20 };

  it("is moved by force when the time is over, even in the middle of a round", async () => {
    const pair = new Pair(BUSY);
    await pair.begin({ ...slow, timeoutMs: 300, onTimeout: "force" });
    expect((await pair.end())?.state).toBe("completed");
    const statistics = pair.source.statistics[0];
    // Held at the time limit: what was left of the round is downtime.
    expect(statistics!.totalMs - statistics!.downtimeMs!).toBeGreaterThan(280);
    expect(statistics!.totalMs - statistics!.downtimeMs!).toBeLessThan(320);
  });

  it("stays when that is asked for, and the session says why", async () => {
    const pair = new Pair(BUSY);
    await pair.begin({ ...slow, timeoutMs: 300, onTimeout: "cancel" });
    expect(await pair.end()).toMatchObject({
      state: "cancelled",
      failure: { side: "source", code: "timeout", detail: "The time limit of 300 ms is over." },
    });
    expect(pair.vm).toMatchObject({ isHeld: false, isGone: false });
  });

  it.each([
    ["pre-copy", QUIET],
    ["hybrid", QUIET],
    ["post-copy", BUSY],
    ["stop-and-copy", QUIET],
  ] as const)(
    "leaves a pause of %s by post-copy, too, when the time is over",
    async (one, shape) => {
      const pair = new Pair(shape);
      const pause = {
        pauseBeforeSwitchover: true,
        timeoutMs: 2_000,
        onTimeout: "postcopy",
      } as const;
      await pair.begin({ strategy: one, ...pause });
      await pair.until(() => pair.state === "pre-switchover");
      expect(pair.world.now).toBeLessThan(1_000);
      expect(await pair.end()).toMatchObject({ state: "completed", failure: null });
      expect(pair.source.statistics[0]!.totalMs).toBeGreaterThan(2_000);
      expect(pair.source.statistics[0]!.totalMs).toBeLessThan(2_500);
    },
  );

  it("doesn't begin to pause when the time is over", async () => {
    const pair = new Pair(BUSY);
    const pause = { pauseBeforeSwitchover: true, timeoutMs: 300, onTimeout: "postcopy" } as const;
    await pair.begin({ ...slow, ...pause });
    expect(await pair.end()).toMatchObject({ state: "completed" });
    expect(pair.source.statistics[0]!.totalMs).toBeLessThan(1_500);
  });

  it("has its time limit from the beginning: it ends a setup that takes too long", async () => {
    const pair = new Pair(QUIET);
    pair.net.cut(600_000);
    await pair.begin({ timeoutMs: 40, onTimeout: "cancel" });
    await pair.until(() => pair.state === "setup");
    await pair.until(() => pair.source.isSettled);
    expect(pair.source.disk.get("m1")).toMatchObject({
      state: "cancelled",
      failure: { side: "source", code: "timeout", detail: "The time limit of 40 ms is over." },
    });
    expect(pair.source.statistics[0]!.totalMs).toBeLessThan(60);
  });

  it("begins to be forced once pages go, where setup has taken all of the time", async () => {
    const pair = new Pair(BUSY);
    await pair.begin({ ...slow, timeoutMs: 1, onTimeout: "force" });
    expect((await pair.end())?.state).toBe("completed");
    expect(pair.source.statistics[0]!.setupMs).toBeGreaterThan(1);
  });

  it("is slowed down by other limits at once, in the middle of a round", async () => {
    const pair = new Pair(BUSY);
    const session = await pair.begin({ ...slow, autoConverge: true, throttleMax: 60 });
    const vm = pair.vm as unknown as { throttle: { percent: number; dirtyLimit: number } };
    session.adjust({ dirtyLimitPagesPerSecond: 80 });
    await pair.until(() => pair.source.rounds.some(({ throttlePercent }) => throttlePercent > 40));
    expect(vm.throttle.dirtyLimit).toBe(80);
    const ended = pair.source.rounds.length;
    session.adjust({ throttleMax: 30, dirtyLimitPagesPerSecond: 50 });
    await pair.until(() => vm.throttle.percent === 30 && vm.throttle.dirtyLimit === 50);
    session.adjust({ autoConverge: false, dirtyLimitPagesPerSecond: 0 });
    await pair.until(() => vm.throttle.percent === 0 && vm.throttle.dirtyLimit === 0);
    expect(pair.source.rounds.length).toBe(ended);
    await pair.until(() => pair.source.rounds.length > ended + 1);
    expect(pair.source.rounds.at(-1)).toMatchObject({
      throttlePercent: 0,
      dirtyLimitPagesPerSecond: 0,
    });
    expect(session.cancel()).toBeNull();
    expect((await pair.end())?.state).toBe("cancelled");
    expect(vm.throttle).toEqual({ percent: 0, dirtyLimit: 0 });
  });

  it("is slowed down until it fits, and only here", async () => {
    const pair = new Pair(BUSY);
    await pair.begin({ ...slow, downtimeMs: 60, autoConverge: true });
    expect((await pair.end())?.state).toBe("completed");
    const throttles = pair.source.rounds.map(({ throttlePercent }) => throttlePercent);
    expect(Math.max(...throttles)).toBeGreaterThan(50);
    expect(throttles.toSorted((a, b) => a - b)).toEqual(throttles);
    const [moved] = pair.target.vms;
    await moved!.check();
    expect(pair.oracle.violations).toEqual([]);
  });

  it("keeps which limit its vCPUs had in each round", async () => {
    const pair = new Pair(BUSY);
    await pair.begin({ ...slow, timeoutMs: 9_000, dirtyLimitPagesPerSecond: 70 });
    await pair.until(() => pair.source.rounds.length === 3);
    const limits = pair.source.rounds.map((round) => round.dirtyLimitPagesPerSecond);
    expect(limits).toEqual([0, 70, 70]);
    expect((await pair.end())?.failure?.code).toBe("timeout");
    expect(pair.source.rounds.every(({ downtimeMs }) => downtimeMs === null)).toBe(true);
  });

  it("gets other limits while it moves", async () => {
    const pair = new Pair(BUSY);
    const session = await pair.begin(slow);
    await pair.until(() => pair.source.rounds.length === 4);
    expect(pair.source.rounds.at(-1)?.decision.isConverging).toBe(false);
    session.adjust({ bandwidthBytesPerSecond: 0, downtimeMs: 400 });
    expect((await pair.end())?.state).toBe("completed");
  });
});

describe("an end before its time", () => {
  it("is refused once the VM is being handed over", async () => {
    const pair = new Pair(QUIET);
    const session = await pair.begin();
    await pair.until(() => session.status.point === "released");
    expect(session.cancel()).toMatch(/too late to cancel/);
    expect((await pair.end())?.state).toBe("completed");
    expect(session.cancel()).toMatch(/has ended/);
  });

  it("is asked for and then done: both can be seen", async () => {
    const pair = new Pair(BUSY);
    const session = await pair.begin({ bandwidthBytesPerSecond: 50_000 });
    await pair.until(() => pair.state === "active");
    expect(session.cancel()).toBeNull();
    await pair.until(() => pair.state !== "active");
    expect(pair.state).toBe("cancelling");
    expect(await pair.end()).toMatchObject({
      state: "cancelled",
      failure: { side: "operator", during: "active", code: "cancelled" },
    });
    expect(pair.target.disk.get("in-m1")?.state).toBe("cancelled");
    expect(pair.target.statistics).toMatchObject([{ finishMs: null, stateBytes: null }]);
  });
});

describe("a peer that never returns", () => {
  async function released(): Promise<[Pair, SourceSession]> {
    const pair = new Pair(QUIET);
    const session = await pair.begin();
    expect(session.resolve({ runsOn: "source", reason: "too early" })).toMatch(/^Cancel it/);
    await pair.until(() => session.status.point === "released");
    // It had everything, and nobody will ever know more.
    for (const vm of pair.target.vms) vm.end();
    pair.target.crash(false);
    pair.world.at(30_000, () => {});
    const laterMs = pair.world.now + 20_000;
    await pair.until(() => pair.world.now > laterMs);
    expect(session.status).toMatchObject({ state: "device", failure: { side: "wire" } });
    return [pair, session];
  }

  it("is settled by an operator: it runs here", async () => {
    const [pair, session] = await released();
    expect(session.resolve({ runsOn: "source", reason: "B burnt down" })).toBeNull();
    await pair.until(() => pair.source.isSettled);
    expect(pair.source.disk.get("m1")).toMatchObject({
      state: "failed",
      point: "aborted",
      failure: { side: "operator", code: "resolved", detail: "B burnt down" },
    });
    expect(pair.vm).toMatchObject({ isHeld: false, isGone: false });
    expect(session.verdict).toBe("aborted");
  });

  it("is settled by an operator: it runs there", async () => {
    const [pair, session] = await released();
    expect(session.resolve({ runsOn: "target", reason: "seen on B's console" })).toBeNull();
    await pair.until(() => pair.source.isSettled);
    expect(pair.source.disk.get("m1")).toMatchObject({
      state: "completed",
      point: "released",
      failure: { side: "operator", detail: "seen on B's console" },
    });
    expect(pair.vm?.isGone).toBe(true);
  });

  it("fails the session and blames the wire, before there was anything to lose", async () => {
    const pair = new Pair(QUIET);
    await pair.begin();
    pair.target.crash(false);
    await pair.until(() => pair.source.isSettled);
    expect(pair.source.disk.get("m1")).toMatchObject({
      state: "failed",
      failure: { side: "wire", during: "setup", code: "unreachable" },
    });
    expect(pair.vm?.isHeld).toBe(false);
  });
});

describe("errors on their way to the client", () => {
  it("keep side, phase and causes", async () => {
    const { failureOf } = await import("../../../src/migration/failure.js");
    const inner = new Error("no route", { cause: new Error("cable") });
    const error = new PeerError("unreachable", "B: no answer", true);
    error.cause = inner;
    expect(failureOf(error, "active", "source")).toEqual({
      side: "wire",
      during: "active",
      code: "unreachable",
      detail: "B: no answer",
      causes: ["no route", "cable"],
    });
    const refusal = new PeerError("budget", "No memory.", false);
    expect(failureOf(refusal, "setup", "source").side).toBe("target");
    expect(failureOf(new Error("?"), "setup", "target")).toMatchObject({
      side: "target",
      code: "internal",
    });
  });
});
