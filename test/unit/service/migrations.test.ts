// Goal: a session is durable, one at a time, truthful after any end, and decides with its points
// where the VM may run.
// Method: a fake engine and a fake runtime; a crash is a copy of the store's files.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  DEFAULT_PARAMETERS,
  type Passport,
  type RoundRecord,
} from "../../../src/migration/index.js";
import { STATE_VERSIONS } from "../../../src/runtime/index.js";
import type { MigrationConfig } from "../../../src/service/migration/open.js";
import { FAILURE, FakeEngine, type FakeSource } from "../../support/fake-engine.js";
import { passport } from "../../support/passport.js";
import { refusalOf, spec, type TestService, testService } from "../../support/services.js";

const PEER = { name: "b", url: "http://127.0.0.1:1", token: null, certificatePin: null, ca: null };

let engine: FakeEngine;
let config: Partial<MigrationConfig>;
let t: TestService;

beforeEach(async () => {
  engine = new FakeEngine();
  config = { instance: "a", peers: [PEER], engine };
  t = await testService({ migration: config });
});
afterEach(() => t.remove());

async function madeVm(more: Parameters<typeof spec>[0] = {}): Promise<string> {
  const vm = await t.services.vms.create(spec(more));
  if (vm === null) throw new Error("no VM");
  return vm.id;
}

const create = (vmId: string, peer = "b") =>
  t.services.migrations.create({ vmId, peer, parameters: {} });

/** Resolves once the engine has the session that was created last. */
async function started(count = 1): Promise<FakeSource> {
  for (let i = 0; i < 200 && engine.sources.length < count; i++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  return engine.latest;
}

/** Resolves once a session is in a state. */
async function until(service: TestService, id: string, state: string) {
  for (let i = 0; i < 500; i++) {
    const migration = await service.services.migrations.get(id);
    if (migration.state === state) return migration;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`never ${state}: ${(await service.services.migrations.get(id)).state}`);
}

const stateOf = async (vmId: string, service = t) => (await service.services.vms.get(vmId)).state;

const ROUND: RoundRecord = {
  ...{ round: 1, startMs: 1, durationMs: 2, pagesDirty: 3, pagesSent: 3, pagesZero: 0 },
  ...{ pagesDuplicate: 0, bytes: 12_345, dirtyPagesPerSecond: 1, bytesPerSecond: 2 },
  ...{ throttlePercent: 0, dirtyLimitPagesPerSecond: 0 },
  ...{ predictedDowntimeMs: 7, downtimeMs: null },
  decision: { action: "next-round", why: "because", isConverging: false },
};
const PROGRESS = {
  ...{ pagesSent: 3, pagesZero: 0, pagesDuplicate: 0, bytes: 12_345, bytesTotal: 9 },
  ...{ bytesRemaining: 1, round: 1, bytesPerSecond: 2, dirtyPagesPerSecond: 1 },
  ...{ throttlePercent: 0, predictedDowntimeMs: 7, pagesRequested: 0, pagesPushed: 0 },
};

const offer = async (given = passport()) =>
  (await t.services.incoming.offer(given, {})).offer.session;

describe("an outgoing migration", () => {
  it("is durable when it is answered, and the VM is one that moves", async () => {
    const vm = await madeVm({ name: "guest" });
    const made = await create(vm);
    expect(made).toMatchObject({ direction: "outgoing", vmId: vm, vmName: "guest", peer: "b" });
    expect(made).toMatchObject({ state: "queued", point: "none", version: 1 });
    expect(made.parameters).toEqual(DEFAULT_PARAMETERS);
    const [record] = await (await (await t.stores.afterKill()).open()).loadMigrations();
    expect(record).toMatchObject({ id: made.id, vmId: vm });
    expect(await t.services.vms.get(vm)).toMatchObject({ state: "active", migrationId: made.id });
    const { parts } = await started();
    expect(parts.passport).toMatchObject({ version: 1, source: { instance: "a" } });
    expect(parts.session).toBe(made.id);
  });

  it("is one at a time, and what its target was told of the VM stays", async () => {
    const vm = await madeVm();
    const { id } = await create(vm);
    const link = `/v1/migrations/${id}`;
    await expect(create(vm)).rejects.toMatchObject({
      code: "migration-in-progress",
      extensions: { migration: link },
    });
    const { vms } = t.services;
    for (const refused of [
      vms.delete(vm, null),
      vms.stop(vm),
      vms.command(vm, "createVcpu", { id: 0 }),
      vms.changeDirty(vm, { settings: {} } as never),
    ]) {
      expect(await refusalOf(refused)).toBe("migration-in-progress");
    }
    await (await started()).end("failed", FAILURE);
    await until(t, id, "failed");
    await vms.command(vm, "createVcpu", { id: 0 });
    expect((await create(vm)).id).not.toBe(id);
  });

  it("waits in a queue that tells its place, and leaves it by a cancel", async () => {
    await t.remove();
    t = await testService({ migration: { ...config, runningMax: 1 } });
    const vms = [await madeVm(), await madeVm(), await madeVm()];
    const ids: string[] = [];
    for (const vm of vms) ids.push((await create(vm)).id);
    const { migrations } = t.services;
    const positions = async () =>
      Promise.all(ids.map(async (id) => (await migrations.get(id)).queuePosition));
    await started();
    expect(await positions()).toEqual([null, 1, 2]);
    expect((await migrations.get(ids[2] ?? "")).stateReason).toContain("1 wait before it");
    expect((await migrations.cancel(ids[1] ?? "")).state).toBe("cancelled");
    expect(await positions()).toEqual([null, null, 1]);
    await engine.latest.end("failed", FAILURE);
    await started(2);
    expect(engine.latest.parts.session).toBe(ids[2]);
    expect(await positions()).toEqual([null, null, null]);
    // A VM whose turn never came is free.
    await t.services.vms.stop(vms[1] ?? "");
  });

  it("refuses what can't be, with the reason", async () => {
    const vm = await madeVm();
    expect(await refusalOf(create("vm_no"))).toBe("vm-not-found");
    expect(await refusalOf(create(vm, "c"))).toBe("peer-unknown");
    t.runtime.latest.assigned.push({});
    await expect(create(vm)).rejects.toMatchObject({
      code: "migration-refused",
      extensions: { reason: "assigned-devices" },
    });
    t.runtime.latest.assigned.pop();
    t.runtime.latest.tracking = { owner: "client", methods: [], consumers: [], method: null };
    await expect(create(vm)).rejects.toThrow("client logs dirty pages");
    const post = { vmId: vm, peer: "b", parameters: { strategy: "post-copy" } as const };
    await expect(t.services.migrations.create(post)).rejects.toThrow("can't wait for pages");
    await t.services.vms.stop(vm);
    expect(await refusalOf(create(vm))).toBe("vm-not-active");
    expect(engine.sources).toEqual([]);
  });

  it("keeps rounds, progress, decision and statistics after a failure and a crash", async () => {
    const vm = await madeVm();
    const { id } = await create(vm);
    const source = await started();
    const { journal } = source.parts;
    await journal.state("setup", null);
    await journal.peer("mig_there");
    await journal.state("active", null);
    journal.round(ROUND);
    const last = { ...ROUND, round: 2, predictedDowntimeMs: null };
    journal.round(last);
    journal.progress({ ...PROGRESS, bytes: 345 });
    journal.progress(PROGRESS);
    journal.decided({ ...ROUND.decision, isConverging: false });
    expect(t.services.migrations.counts()).toMatchObject({
      notConverging: 1,
      bytesRemaining: PROGRESS.bytesRemaining,
    });
    journal.decided(ROUND.decision);
    const statistics = { totalMs: 12, setupMs: 3, downtimeMs: null } as never;
    journal.statistics(statistics);
    journal.round({ ...last, downtimeMs: 14 });
    await source.end("failed", FAILURE);
    const failed = await until(t, id, "failed");
    expect(failed).toMatchObject({
      ...{ state: "failed", failure: FAILURE, stateReason: FAILURE.detail },
      ...{ progress: PROGRESS, decision: ROUND.decision, statistics, peerSession: "mig_there" },
    });
    expect(failed.startedAt).not.toBeNull();
    expect(failed.endedAt).not.toBeNull();
    const rounds = await t.services.migrations.rounds(id);
    expect(rounds).toEqual([ROUND, { ...last, downtimeMs: 14 }]);
    // Traffic counts once, however often it is told.
    expect(t.services.migrations.counts()).toMatchObject({
      states: [{ direction: "outgoing", state: "failed", count: 1 }],
      totals: {
        outgoing: { bytes: 12_345, rounds: 2, completed: 0, failed: 1, cancelled: 0 },
        incoming: { bytes: 0, rounds: 0, completed: 0, failed: 0, cancelled: 0 },
      },
      ...{ notConverging: 0, bytesRemaining: 0 },
    });
    expect(await stateOf(vm)).toBe("active");
    const after = await t.afterKill();
    expect(await after.services.migrations.rounds(id)).toEqual(rounds);
    expect(await after.services.migrations.get(id)).toMatchObject({ statistics, failure: FAILURE });
  });

  it("takes other limits while it runs, at the version that was read", async () => {
    const vm = await madeVm();
    const { id, version } = await create(vm);
    const source = await started();
    const { migrations } = t.services;
    const changed = await migrations.adjust(id, { downtimeMs: 5 }, version);
    expect(changed.parameters.downtimeMs).toBe(5);
    expect(source.adjusted).toEqual([{ downtimeMs: 5 }]);
    expect(await refusalOf(migrations.adjust(id, {}, version))).toBe("precondition-failed");
    await source.end("failed", FAILURE);
    expect(await refusalOf(migrations.adjust(id, {}, null))).toBe("migration-ended");
  });

  it("is cancelled until the VM has been handed over", async () => {
    const vm = await madeVm();
    const { id } = await create(vm);
    const source = await started();
    source.endsByCancel = false;
    const { migrations } = t.services;
    expect(await migrations.cancel(id)).toMatchObject({ cancelRequested: true, state: "queued" });
    source.refusal = "The target has everything.";
    expect(await refusalOf(migrations.cancel(id))).toBe("migration-committed");
    await source.parts.journal.point("released");
    // On disk early; the engine's word counts while its target isn't ready.
    source.refusal = null;
    expect(await migrations.cancel(id)).toMatchObject({ point: "released" });
    source.verdict = "released";
    expect(await refusalOf(migrations.cancel(id))).toBe("migration-committed");
    await source.end("completed");
    expect(await refusalOf(migrations.cancel(id))).toBe("migration-ended");
  });

  it("takes verbs only where they fit", async () => {
    const vm = await madeVm();
    const { id } = await create(vm);
    const { journal } = (await started()).parts;
    const { migrations } = t.services;
    expect(await refusalOf(migrations.proceed(id))).toBe("migration-state");
    await journal.state("pre-switchover", null);
    expect((await migrations.proceed(id)).state).toBe("pre-switchover");
    expect(await refusalOf(migrations.startPostcopy(id))).toBe("migration-state");
    expect(await refusalOf(migrations.recover(id))).toBe("migration-state");
    expect(await refusalOf(migrations.get("mig_no"))).toBe("migration-not-found");
    expect(await refusalOf(migrations.delete(id))).toBe("migration-not-ended");
  });

  it("leaves a record that never runs again, and the uuid to others", async () => {
    const vm = await madeVm({ uuid: "u-1" });
    const { id } = await create(vm);
    const source = await started();
    await source.parts.journal.point("released");
    expect(await t.services.vms.get(vm)).toMatchObject({ state: "migrated", migrationId: id });
    expect(await t.services.migrations.verdict(id)).toBe("undecided");
    source.verdict = "released";
    expect(await t.services.migrations.verdict(id)).toBe("released");
    expect(t.runtime.latest.isClosed).toBe(false);
    const gone = await t.afterKill();
    expect(await stateOf(vm, gone)).toBe("migrated");
    await source.end("completed");
    await until(t, id, "completed");
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    expect(t.runtime.latest.isClosed).toBe(true);
    expect(await t.services.migrations.verdict(id)).toBe("released");
    await expect(t.services.vms.start(vm)).rejects.toMatchObject({
      code: "vm-migrated",
      extensions: { migration: `/v1/migrations/${id}` },
    });
    expect(await refusalOf(t.services.vms.command(vm, "describe", {}))).toBe("vm-migrated");
    expect(await refusalOf(create(vm))).toBe("vm-migrated");
    await madeVm({ uuid: "u-1" });
    await t.services.vms.delete(vm, null);
    await t.services.migrations.delete(id);
    expect(await refusalOf(t.services.migrations.get(id))).toBe("migration-not-found");
  });

  it("runs here again when the target lost it before it ran there", async () => {
    const vm = await madeVm({ uuid: "u-1" });
    await create(vm);
    const { journal } = await started().then(({ parts }) => parts);
    await journal.point("released");
    await journal.point("aborted");
    expect(await stateOf(vm)).toBe("active");
    expect(await refusalOf(madeVm({ uuid: "u-1" }))).toBe("uuid-taken");
  });

  it("changes nothing when a point can't be written", async () => {
    const vm = await madeVm();
    const { id } = await create(vm);
    const { journal } = (await started()).parts;
    t.refuse.add("put-migration");
    await expect(journal.point("released")).rejects.toThrow();
    t.refuse.clear();
    expect(await stateOf(vm)).toBe("active");
    expect((await t.services.migrations.get(id)).point).toBe("none");
    await journal.point("released");
    expect(await stateOf(vm)).toBe("migrated");
  });

  it("fails when it can't begin, and says why", async () => {
    const vm = await madeVm();
    engine.refuse = new Error("no plane");
    const { id } = await create(vm);
    expect(await until(t, id, "failed")).toMatchObject({ failure: { side: "source" } });
    await t.services.vms.stop(vm);
  });

  it("ends with the service: cancelled, or left to the next life when released", async () => {
    const vm = await madeVm();
    const other = await madeVm();
    const { id } = await create(vm);
    await started();
    const released = await create(other);
    await (await started(2)).parts.journal.point("released");
    engine.latest.refusal = "Too late.";
    t = await t.restart();
    expect(await t.services.migrations.get(id)).toMatchObject({ state: "cancelled" });
    expect(await stateOf(vm)).toBe("stopped");
    expect(await stateOf(other)).toBe("migrated");
    expect(engine.resumed).toHaveLength(1);
    expect(engine.resumed[0]?.parts.kept).toMatchObject({ point: "released" });
    expect((await t.services.migrations.get(released.id)).stateReason).toContain("asks b");
  });
});

describe("after a crash of the source", () => {
  it("what never began has failed; the rest asks the target, and its word decides", async () => {
    const vm = await madeVm();
    const { id } = await create(vm);
    const fresh = await t.afterKill();
    expect(await fresh.services.migrations.get(id)).toMatchObject({
      state: "failed",
      failure: { code: "host-restarted", during: "queued" },
    });
    const { journal } = (await started()).parts;
    await journal.state("active", null);
    await journal.peer("mig_there");
    const after = await t.afterKill();
    expect(await stateOf(vm, after)).toBe("lost");
    const run = engine.resumed.at(-1);
    expect(run?.parts.kept).toEqual({ state: "active", point: "none", peerSession: "mig_there" });
    // Until that is known nobody makes another one of its record.
    expect(await refusalOf(after.services.vms.start(vm))).toBe("migration-in-progress");
    expect(await refusalOf(after.services.vms.delete(vm, null))).toBe("migration-in-progress");
    // The target has everything: its copy is the only one.
    await run?.parts.journal.point("released");
    expect(await stateOf(vm, after)).toBe("migrated");
    await run?.parts.journal.state("completed", null);
    expect((await after.services.migrations.get(id)).state).toBe("completed");
  });

  it("released, and its target never got ready: it is lost, and can be started", async () => {
    const vm = await madeVm();
    await create(vm);
    const { journal } = (await started()).parts;
    await journal.peer("mig_there");
    await journal.point("released");
    const after = await t.afterKill();
    expect(await stateOf(vm, after)).toBe("migrated");
    const run = engine.resumed.at(-1);
    await run?.parts.journal.point("aborted");
    await run?.parts.journal.state("failed", FAILURE);
    expect(await stateOf(vm, after)).toBe("lost");
    expect(await after.services.vms.start(vm)).toMatchObject({ state: "active" });
  });

  it("an operator's word goes to the engine, and is kept", async () => {
    const vm = await madeVm();
    const { id } = await create(vm);
    const source = await started();
    const { migrations } = t.services;
    source.refusal = "Cancel it: the VM is still this host's.";
    expect(await refusalOf(migrations.resolve(id, "source", "x"))).toBe("migration-state");
    source.refusal = null;
    expect(source.resolved).toEqual([]);
    // A store that is full: nothing is settled either.
    t.refuse.add("put-migration");
    expect(await refusalOf(migrations.resolve(id, "target", "x"))).toBe("store-unavailable");
    expect(source.resolved).toEqual([]);
    expect((await migrations.get(id)).resolution).toBeNull();
    t.refuse.clear();
    source.late = "It has ended meanwhile.";
    expect(await refusalOf(migrations.resolve(id, "target", "x"))).toBe("migration-state");
    const [unsaid] = await (await (await t.stores.afterKill()).open()).loadMigrations();
    expect(unsaid?.resolution).toBeNull();
    source.late = null;
    const resolved = await migrations.resolve(id, "target", "a burnt down");
    expect(source.resolved.at(-1)).toEqual({ runsOn: "target", reason: "a burnt down" });
    expect(resolved.resolution).toMatchObject({ runsOn: "target", reason: "a burnt down" });
    await source.end("completed");
    expect(await refusalOf(migrations.resolve(id, "source", "x"))).toBe("migration-ended");
  });
});

describe("an incoming migration", () => {
  it("builds the VM, held, which only its source can change", async () => {
    const id = await offer();
    const session = await t.services.migrations.get(id);
    expect(session).toMatchObject({ direction: "incoming", peer: "b", peerSession: "mig_far" });
    expect(session).toMatchObject({ state: "active", vmName: "guest" });
    const { vmId } = session;
    const vm = await t.services.vms.get(vmId);
    expect(vm).toMatchObject({ state: "incoming", uuid: "u-1", labels: { a: "b" } });
    expect(t.runtime.latest.names()).toContain("holdVm");
    const { vms } = t.services;
    for (const refused of [
      vms.start(vmId),
      vms.stop(vmId),
      vms.delete(vmId, null),
      vms.patch(vmId, { name: "x" }, null),
      vms.command(vmId, "describe", {}),
      create(vmId),
    ]) {
      expect(await refusalOf(refused)).toMatch(/^(vm-incoming|migration-in-progress)$/);
    }
    // Nothing of the VM is durable before it is ready.
    expect(await refusalOf((await t.afterKill()).services.vms.get(vmId))).toBe("vm-not-found");
  });

  it("gives the same answer to the same offer, also at the same time", async () => {
    const both = await Promise.all([
      t.services.incoming.offer(passport(), {}),
      t.services.incoming.offer(passport(), {}),
    ]);
    expect(both.map(({ isNew }) => isNew).sort()).toEqual([false, true]);
    expect(both[0]?.offer).toEqual(both[1]?.offer);
    expect(t.runtime.live()).toBe(1);
    expect(await offer(passport({ uuid: "u-2" }, "mig_else"))).not.toBe(both[0]?.offer.session);
  });

  it("runs once its source has let go, with the uuid that it had there", async () => {
    const id = await offer();
    const { vmId } = await t.services.migrations.get(id);
    expect(await t.services.incoming.finish(id, new Uint8Array(4), "d")).toBe("d");
    expect(await t.services.incoming.status(id)).toMatchObject({ point: "ready" });
    expect(await stateOf(vmId)).toBe("incoming");
    expect(await t.services.incoming.commit(id)).toMatchObject({
      state: "completed",
      point: "running",
    });
    expect(await stateOf(vmId)).toBe("active");
    expect(t.runtime.latest.entered.at(-1)).toMatchObject({
      name: "holdVm",
      args: { hold: false },
    });
    expect(await t.services.incoming.commit(id)).toMatchObject({ state: "completed" });
    expect(await refusalOf(madeVm({ uuid: "u-1" }))).toBe("uuid-taken");
    expect(await refusalOf(t.services.incoming.abort(id, "late", false))).toBe("session-running");
    const after = await t.afterKill();
    expect(await after.services.vms.get(vmId)).toMatchObject({ state: "lost", uuid: "u-1" });
  });

  it("disappears when the source keeps the VM", async () => {
    const id = await offer();
    const { vmId } = await t.services.migrations.get(id);
    await t.services.incoming.finish(id, new Uint8Array(4), null);
    expect(await refusalOf(t.services.incoming.abort(id, "x", true))).toBe("session-ready");
    await t.services.incoming.abort(id, "It was cancelled.", false);
    expect(await refusalOf(t.services.vms.get(vmId))).toBe("vm-not-found");
    expect(t.runtime.live()).toBe(0);
    expect(await t.services.incoming.status(id)).toMatchObject({
      state: "cancelled",
      point: "aborted",
    });
    expect(await refusalOf(t.services.incoming.commit(id))).toBe("session-aborted");
    expect(await refusalOf(t.services.incoming.finish(id, new Uint8Array(), null))).toBe(
      "session-aborted",
    );
    expect((await (await t.stores.afterKill()).open().then((s) => s.loadVms())).length).toBe(0);
  });

  it("is cancelled here only while it isn't ready", async () => {
    const id = await offer();
    expect((await t.services.migrations.cancel(id)).state).toBe("cancelled");
    const other = await offer(passport({}, "mig_two"));
    await t.services.incoming.finish(other, new Uint8Array(4), null);
    expect(await refusalOf(t.services.migrations.cancel(other))).toBe("migration-committed");
    expect(await refusalOf(t.services.migrations.adjust(other, {}, null))).toBe("migration-side");
    expect(await refusalOf(t.services.migrations.verdict(other))).toBe("migration-side");
  });

  it("is refused for a state that can't be read or eventfds that can't be made", async () => {
    const { incoming, eventfds } = t.services;
    const said = async (more: Partial<Passport>) =>
      (await incoming.check({ ...passport(), ...more })).reasons.map(({ detail }) => detail);
    const parts = Object.entries(STATE_VERSIONS).map(([kind, version]) => ({ kind, version }));
    expect(await said({ parts })).toEqual([]);
    const [first, ...others] = parts;
    const newer = { ...first!, version: 9 };
    const changed = { parts: [newer, ...others.slice(1), { kind: "new", version: 1 }] };
    const unread = "part shape has version 9, and 1 is known; part new is not known";
    expect(await said(changed)).toEqual([
      `The source's state can't be read here: ${unread}; part vm is missing.`,
    ]);
    expect(await refusalOf(offer({ ...passport(), ...changed }))).toBe("migration-version");
    const { id } = await eventfds.create(0n, false);
    const wanted = (name: string | null) => ({ name, isTrigger: true });
    const fits = [wanted(id), wanted("efd_far"), wanted(null)];
    expect(await said({ eventfds: fits })).toEqual([]);
    const many = { eventfds: [...fits, wanted("efd_one_more")] };
    expect(await said(many)).toEqual([
      "EMFILE: the VM has 3 eventfds that the target lacks, and 2 more can be made there.",
    ]);
    expect(await refusalOf(offer({ ...passport(), ...many }))).toBe("target-eventfds");
    expect(t.runtime.live()).toBe(0);
    await offer({ ...passport(), parts, eventfds: fits });
  });

  it("keeps the numbers of memory objects, by which pages are named", async () => {
    const object = { userspaceAddr: "0x100000000", size: "0x10000", hugePages: false };
    const memoryObjects = [{ ...object, ordinal: 0, objectId: 3, backing: "ram" }];
    const shape = { ...(passport().vm.shape as object), memoryObjects };
    await offer(passport({ shape }));
    const { entered } = t.runtime.latest;
    const made = entered.filter(({ name }) => name === "createMemoryObject");
    expect(made).toHaveLength(3);
    expect(entered.filter(({ name }) => name === "deleteMemoryObject")).toHaveLength(2);
  });

  it("ends when its VM's thread dies", async () => {
    const id = await offer();
    t.runtime.latest.tell({ kind: "died", reason: "out of memory" });
    const { failure } = await until(t, id, "cancelled");
    expect(failure?.detail).toBe("out of memory");
  });
});

describe("a move within the host", () => {
  it("gives the uuid over with the commit; the old record leads to the session", async () => {
    const vm = await madeVm({ uuid: "u-1", name: "guest" });
    const { id } = await create(vm, "local");
    const { peer, passport: own, parameters, journal } = (await started()).parts;
    expect(peer.name).toBe("local");
    const { session } = await peer.offer(own, parameters);
    const { vmId } = await t.services.migrations.get(session);
    expect((await t.services.migrations.get(session)).peer).toBe("local");
    await peer.finish(session, new Uint8Array(4), null);
    await journal.point("released");
    await peer.commit(session);
    await engine.latest.end("completed");
    await until(t, id, "completed");
    expect(await t.services.vms.get(vm)).toMatchObject({ state: "migrated", uuid: "u-1" });
    expect(await t.services.vms.get(vmId)).toMatchObject({ state: "active", uuid: "u-1" });
    expect(await refusalOf(madeVm({ uuid: "u-1" }))).toBe("uuid-taken");
    const after = await t.afterKill();
    expect(await stateOf(vm, after)).toBe("migrated");
    expect(await stateOf(vmId, after)).toBe("lost");
  });

  it("says beforehand what both sides would refuse", async () => {
    const vm = await madeVm();
    const request = { vmId: vm, peer: "local", parameters: {} };
    expect(await t.services.migrations.preflight(request)).toMatchObject({
      possible: true,
      reasons: [],
    });
    t.runtime.maxVms = 1;
    const post = { ...request, parameters: { strategy: "hybrid" } as const };
    const { possible, reasons } = await t.services.migrations.preflight(post);
    expect(possible).toBe(false);
    expect(reasons.map(({ side, code }) => `${side} ${code}`)).toEqual([
      "source migration-refused",
      "target vm-limit",
    ]);
    const far = { ...request, peer: "b" };
    expect(await refusalOf(t.services.migrations.preflight(far))).toBe("peer-unreachable");
    expect(engine.sources).toEqual([]);
  });

  it("is told of as it goes", async () => {
    const vm = await madeVm();
    const { id } = await create(vm);
    const { journal } = (await started()).parts;
    let told = 0;
    const unsubscribe = t.services.migrations.subscribe(id, () => {
      told += 1;
    });
    journal.progress(PROGRESS);
    await journal.state("active", null);
    unsubscribe();
    journal.progress(PROGRESS);
    expect(told).toBe(2);
    const { items } = await t.services.events.list(0, 100);
    const own = items.filter(({ subject }) => subject === `migrations/${id}`);
    expect(own.map(({ type }) => type)).toEqual(["migration.created", "migration.state"]);
  });
});
