// Goal: what a session does in each of its phases, and what it says. Method: two simulated hosts
// without chance: a toy VM, a journal, a network that is cut when a test wants it.
import { describe, expect, it } from "vitest";
import { PeerError, type SourceSession } from "../../../src/migration/index.js";
import { BUSY, Pair, QUIET } from "../../support/migration-pair.js";

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

  it("keeps a record of each round, with its reason", async () => {
    const pair = new Pair({ ...QUIET, rate: 4 });
    await pair.begin({ downtimeMs: 14, bandwidthBytesPerSecond: 200_000 });
    await pair.end();
    const { rounds } = pair.source;
    expect(rounds.map(({ round }) => round)).toEqual(rounds.map((_, at) => at + 1));
    expect(rounds[0]).toMatchObject({ pagesDirty: 40, throttlePercent: 0 });
    expect(rounds[0]?.decision.why).toMatch(/^round 1 left .* dirty, \d+ ms at /);
    expect(rounds.at(-1)).toMatchObject({ predictedDowntimeMs: null });
    for (const { durationMs, bytes, bytesPerSecond } of rounds) {
      if (durationMs > 0) expect(bytesPerSecond).toBe(Math.round((bytes * 1000) / durationMs));
    }
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
