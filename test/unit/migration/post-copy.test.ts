// Goal: a VM that runs while its pages follow: in which order, what a cut does, and who says that
// it is lost. Method: two simulated hosts without chance, and a guest that checks its stamps.
import { describe, expect, it } from "vitest";
import { TargetSession, whyNot } from "../../../src/migration/index.js";
import { DEFAULT_PARAMETERS } from "../../../src/migration/types.js";
import { BUSY, Pair, QUIET } from "../../support/migration-pair.js";

/** Three hundred milliseconds on a slow wire. */
const LARGE = { pages: [400, 40], hot: 300, rate: 2 };
const SLOW = {
  bandwidthBytesPerSecond: 100_000,
  postcopyBandwidthBytesPerSecond: 100_000,
};
const VIEW = { owner: "none", method: null, methods: [], consumers: [] } as const;

async function running(parameters = {}): Promise<Pair> {
  const pair = new Pair(LARGE);
  await pair.begin({ strategy: "post-copy", ...SLOW, ...parameters });
  await pair.until(() => pair.target.disk.get("in-m1")?.point === "running");
  await pair.until(() => pair.target.vms.some(({ isHeld }) => !isHeld));
  // Until the source has heard of it.
  const heardMs = pair.world.now + 5;
  await pair.until(() => pair.world.now > heardMs);
  return pair;
}

describe("post-copy", () => {
  it("runs the VM before its pages are there, and ends when all have followed", async () => {
    const pair = await running();
    const [vm] = pair.target.vms;
    expect(vm?.lacks?.()).toBe(true);
    const before = vm?.steps ?? 0;
    await pair.until(() => (vm?.steps ?? 0) > before + 20);
    expect(pair.state).toBe("postcopy-active");
    expect(pair.target.disk.get("in-m1")?.state).toBe("postcopy-active");
    await pair.until(() => pair.state === "completed");
    // Who reads that may use the VM there at once.
    expect(pair.target.disk.get("in-m1")?.state).toBe("completed");
    expect(await pair.end()).toMatchObject({ state: "completed", failure: null });
    await vm?.check();
    // It is told of there as well, until the last page.
    const told = pair.target.progress;
    expect(told.some(({ bytesRemaining }) => bytesRemaining > 0)).toBe(true);
    expect(told.at(-1)).toMatchObject({ bytesRemaining: 0, vcpuWaitMs: 0 });
    expect(pair.target.statistics).toHaveLength(1);
    const [statistics] = pair.source.statistics;
    expect(statistics?.downtimeMs).toBeLessThan((statistics?.totalMs ?? 0) / 4);
    expect(pair.source.vms).toEqual([]);
  });

  it("is said to be over there once a restart of that host would say so, too", async () => {
    const pair = await running();
    let [looks, early] = [0, 0];
    await pair.until(() => {
      const said = pair.target.incoming.get("in-m1")?.status.state;
      const isKept = pair.target.disk.get("in-m1")?.state === "completed";
      looks += 1;
      if (said === "completed" && !isKept) early += 1;
      return pair.state === "completed";
    });
    expect(looks).toBeGreaterThan(10);
    expect(early).toBe(0);
  });

  it("sends what a vCPU waits for before its turn, and counts it", async () => {
    const pair = await running();
    await pair.end();
    const figures = pair.source.progress.at(-1);
    expect(figures?.pagesRequested).toBeGreaterThan(10);
    expect((figures?.pagesRequested ?? 0) + (figures?.pagesPushed ?? 0)).toBe(440);
  });

  it("keeps what followed as a round, with the pause before it", async () => {
    const pair = await running();
    expect(pair.source.rounds).toEqual([]);
    await pair.end();
    const [push, ...others] = pair.source.rounds;
    expect(others).toEqual([]);
    const { downtimeMs, totalMs } = pair.source.statistics[0]!;
    expect(push).toMatchObject({
      round: 1,
      pagesDirty: 440,
      downtimeMs,
      predictedDowntimeMs: null,
    });
    expect(push!.pagesSent + push!.pagesZero).toBe(440);
    expect(push!.startMs).toBeGreaterThan(0);
    expect(push!.durationMs).toBeGreaterThan(totalMs / 2);
    const { bytes, pagesRequested, throttlePercent } = pair.source.progress.at(-1)!;
    expect([push!.bytes, push!.throttlePercent]).toEqual([bytes, throttlePercent]);
    const why = `440 pages followed the VM, ${pagesRequested} of them because it waited for them`;
    expect(push!.decision).toMatchObject({ action: "push", why: expect.stringContaining(why) });
  });

  it("follows pre-copy that doesn't converge", async () => {
    const pair = new Pair(BUSY);
    await pair.begin({ strategy: "hybrid", ...SLOW, downtimeMs: 20 });
    expect(await pair.end()).toMatchObject({ state: "completed" });
    const [decided, push] = pair.source.rounds.slice(-2);
    const { action, why } = decided!.decision;
    expect([action, why]).toEqual(["postcopy", expect.stringContaining("not converging")]);
    expect(push?.decision).toMatchObject({ action: "push", isConverging: false });
    // The guest's pause was between the two.
    const { downtimeMs } = pair.source.statistics[0]!;
    expect([decided!.downtimeMs, push!.downtimeMs]).toEqual([downtimeMs, null]);
    const bytes = pair.source.rounds.reduce((sum, round) => sum + round.bytes, 0);
    expect(pair.source.progress.at(-1)?.bytes).toBe(bytes);
    await pair.target.vms[0]?.check();
  });

  it("follows when the time is over", async () => {
    const pair = new Pair(BUSY);
    await pair.begin({ timeoutMs: 100, onTimeout: "postcopy", ...SLOW, downtimeMs: 20 });
    expect(await pair.end()).toMatchObject({ state: "completed" });
    expect(pair.source.rounds.at(-2)?.decision.why).toContain("time limit of 100 ms is over");
  });

  it("follows when somebody asks for it, also out of a pause", async () => {
    const pair = new Pair(BUSY);
    const session = await pair.begin({ ...SLOW, downtimeMs: 20 });
    expect(session.recover()).toMatch(/Nothing was sent/);
    await pair.until(() => pair.source.rounds.length > 0);
    expect(session.startPostcopy()).toBeNull();
    expect(await pair.end()).toMatchObject({ state: "completed" });
    expect(pair.source.rounds.at(-2)?.decision.why).toContain("post-copy was asked for");
    expect(session.startPostcopy()).toMatch(/not in completed/);

    const paused = new Pair(QUIET);
    const waiting = await paused.begin({ strategy: "post-copy", pauseBeforeSwitchover: true });
    await paused.until(() => paused.state === "pre-switchover");
    expect(waiting.startPostcopy()).toBeNull();
    expect(await paused.end()).toMatchObject({ state: "completed" });
  });

  it("is too late to cancel once the VM is handed over", async () => {
    const pair = await running();
    expect(pair.session?.cancel()).toMatch(/too late/);
    expect(await pair.end()).toMatchObject({ state: "completed" });
  });

  it.each([
    [{ strategy: "post-copy" }, false, /can't wait for pages/],
    [{ strategy: "hybrid" }, false, /can't wait for pages/],
    [{ onTimeout: "postcopy", timeoutMs: 5 }, false, /can't wait for pages/],
    [{ strategy: "post-copy", verify: true }, true, /without verify/],
    [{ onTimeout: "postcopy", timeoutMs: 5, verify: true }, true, /without verify/],
  ] as const)("is refused beforehand: %j where it is %s", (parameters, supportsPostcopy, why) => {
    const methods = [{ method: "bitmap", whyNot: null }] as const;
    const view = { ...VIEW, methods };
    const all = { ...DEFAULT_PARAMETERS, ...parameters };
    expect(whyNot(all, view, { supportsPostcopy })).toEqual([expect.stringMatching(why)]);
    const held = { ...DEFAULT_PARAMETERS, strategy: "post-copy" } as const;
    expect(whyNot(held, VIEW, { supportsPostcopy: true })).toEqual([]);
  });
});

describe("a wire that breaks in post-copy", () => {
  it("pauses both sides, and :recover sends what is missing", async () => {
    const pair = await running();
    const session = pair.session!;
    expect(session.recover()).toMatch(/isn't paused/);
    pair.net.cut(10_000);
    await pair.until(() => pair.state === "postcopy-paused");
    expect(session.status.failure).toMatchObject({ side: "wire", during: "postcopy-active" });
    await pair.until(() => pair.target.disk.get("in-m1")?.state === "postcopy-paused");
    const [vm] = pair.target.vms;
    const stuck = vm?.steps ?? 0;
    const laterMs = pair.world.now + 2_000;
    pair.world.at(2_001, () => {});
    await pair.until(() => pair.world.now > laterMs);
    expect(vm?.steps).toBe(stuck);
    pair.net.heal();
    expect(session.recover()).toBeNull();
    await pair.until(() => pair.state === "postcopy-recover");
    await pair.until(() => pair.state === "postcopy-active");
    expect(await pair.end()).toMatchObject({ state: "completed" });
    await vm?.check();
    const [cut, rest, ...others] = pair.source.rounds;
    expect(others).toEqual([]);
    expect(cut!.decision.why).toMatch(/^the push was cut: The page stream is dead\.; \d+ of 440/);
    const gone = cut!.pagesSent + cut!.pagesZero;
    expect(gone).toBeGreaterThan(0);
    expect(rest).toMatchObject({ round: 2, pagesDirty: 440 - gone });
    expect(rest!.startMs).toBeGreaterThan(cut!.startMs + cut!.durationMs);
    const { bytes } = pair.source.progress.at(-1)!;
    expect(bytes).toBe(cut!.bytes + rest!.bytes);
  });

  it("pauses again where recovering fails", async () => {
    const pair = await running();
    pair.net.cut(20_000);
    await pair.until(() => pair.state === "postcopy-paused");
    expect(pair.session?.recover()).toBeNull();
    await pair.until(() => pair.state === "postcopy-recover");
    await pair.until(() => pair.state === "postcopy-paused");
    pair.net.heal();
    expect(pair.session?.recover()).toBeNull();
    expect(await pair.end()).toMatchObject({ state: "completed" });
  });

  it("may be given up by an operator, but this host's copy is old", async () => {
    const pair = await running();
    pair.net.cut(600_000);
    await pair.until(() => pair.state === "postcopy-paused");
    const session = pair.session!;
    expect(session.resolve({ runsOn: "source", reason: "b burns" })).toMatch(/copy is old/);
    expect(session.resolve({ runsOn: "target", reason: "b burns" })).toBeNull();
    await pair.until(() => session.notes.isEnded);
    expect(session.status).toMatchObject({
      state: "failed",
      failure: { side: "operator", code: "resolved", detail: "b burns" },
    });
    expect(pair.source.rounds.map(({ decision }) => decision.action)).toEqual(["push"]);
    // Its pages are gone with it: the target hears that when it can ask again.
    pair.net.heal();
    await pair.until(() => pair.target.disk.get("in-m1")?.state === "failed");
    expect(pair.target.vms).toEqual([]);
  });
});

describe("a host that dies in post-copy", () => {
  it("takes the VM along: the source with pages that had not followed", async () => {
    const pair = await running();
    pair.source.crash();
    await pair.until(() => pair.source.isSettled && pair.target.isSettled);
    expect(pair.oracle.violations).toEqual([]);
    expect(pair.source.outcomes.get("m1")).toBe("lost");
    expect(pair.source.disk.get("m1")).toMatchObject({
      state: "failed",
      failure: { side: "source", detail: expect.stringContaining("before all pages had followed") },
    });
    expect(pair.target.disk.get("in-m1")).toMatchObject({
      state: "failed",
      failure: { code: "lost-in-postcopy" },
    });
    expect(pair.target.vms).toEqual([]);
  });

  it("takes the VM along: the target, and the source says so", async () => {
    const pair = await running();
    pair.target.crash();
    await pair.until(() => pair.source.isSettled && pair.target.isSettled);
    expect(pair.oracle.violations).toEqual([]);
    for (const kept of [pair.source.disk.get("m1"), pair.target.disk.get("in-m1")]) {
      expect(kept).toMatchObject({ state: "failed", failure: { code: "lost-in-postcopy" } });
      expect(kept?.failure?.detail).toContain("before it was on record that all pages had come");
    }
    expect(pair.source.vms).toEqual([]);
  });

  it("or only the VM's thread: both say so", async () => {
    const pair = await running();
    const session = pair.target.incoming.get("in-m1");
    if (!(session instanceof TargetSession)) throw new Error("it is under way");
    for (const vm of pair.target.vms) vm.end();
    await session.vmDied("A bug of ours.");
    await pair.until(() => pair.source.isSettled && pair.target.isSettled);
    expect(pair.target.disk.get("in-m1")).toMatchObject({
      state: "failed",
      failure: { side: "target", code: "vm-died" },
    });
    expect(pair.source.disk.get("m1")).toMatchObject({
      state: "failed",
      failure: { code: "lost-in-postcopy", detail: "A bug of ours." },
    });
  });

  it("changes nothing any more once all pages are there", async () => {
    const pair = await running();
    const [vm] = pair.target.vms;
    await pair.until(() => vm?.lacks?.() === false);
    pair.source.crash();
    await pair.until(() => pair.source.isSettled && pair.target.isSettled);
    expect(pair.target.disk.get("in-m1")?.state).toBe("completed");
    expect(pair.source.disk.get("m1")?.state).toBe("completed");
    await vm?.check();
  });
});
