// Goal: a VM that is snapshotted by itself stays so wherever it moves, and only where it is.
// Method: a fake engine and a fake runtime over a real store; time goes on by hand.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ManualClock } from "../../../src/base/clock.js";
import { FAILURE, FakeEngine } from "../../support/fake-engine.js";
import { passport } from "../../support/passport.js";
import { refusalOf, spec, type TestService, testService } from "../../support/services.js";

const PEER = { name: "b", url: "http://127.0.0.1:1", token: null, certificatePin: null, ca: null };
const POLICY = { everySeconds: 60, keep: 3, differential: false };
const PERIOD_MS = 60_000;
/** More than a busy VM is let alone for. */
const BUSY_MS = 1_000;

let engine: FakeEngine;
let clock: ManualClock;
let t: TestService;

beforeEach(async () => {
  engine = new FakeEngine();
  clock = new ManualClock();
  t = await testService({ clock, migration: { instance: "a", peers: [PEER], engine } });
});
afterEach(() => t.remove());

async function declared(): Promise<string> {
  const vm = await t.services.vms.create(spec());
  await t.services.snapshots.setAutosnapshot(vm?.id ?? "", POLICY);
  return vm?.id ?? "";
}

/** Leaves for b. */
async function leaving(vmId: string) {
  const { id } = await t.services.migrations.create({ vmId, peer: "b", parameters: {} });
  await vi.waitFor(() => expect(engine.sources.at(-1)?.parts.session).toBe(id));
  return { id, source: engine.latest };
}

async function arriving(more: Parameters<typeof passport>[0] = {}) {
  const { session } = (await t.services.incoming.offer(passport(more), {})).offer;
  const { vmId } = await t.services.migrations.get(session);
  await t.services.incoming.finish(session, new Uint8Array(), null);
  return { session, vmId };
}

/** How many were begun, whatever became of them. */
const taken = async (vmId: string) =>
  (await t.services.snapshots.list({ vmId, limit: 100, cursor: null })).items.length;
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));

it("a turn that finds the VM being taken comes when that is over, once", async () => {
  const vmId = await declared();
  let letGo = (): void => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const vm = t.runtime.latest;
  const call = vm.call.bind(vm);
  const spy = vi.spyOn(vm, "call").mockImplementation(async (name, args) => {
    await held;
    return call(name, args);
  });
  const asked = { name: null, kind: "full", parent: null, track: false } as const;
  const making = t.services.snapshots.create(vmId, asked);
  clock.advance(PERIOD_MS);
  clock.advance(PERIOD_MS);
  await settled();
  expect(await taken(vmId)).toBeLessThan(2);
  letGo();
  spy.mockRestore();
  const { id } = await making;
  await t.services.snapshots.outcome(id, PERIOD_MS).catch(() => {});
  clock.advance(BUSY_MS);
  await vi.waitFor(async () => expect(await taken(vmId)).toBe(2));
  clock.advance(BUSY_MS);
  await settled();
  expect(await taken(vmId)).toBe(2);
});

it("its target is told, and one that isn't declared so tells nothing", async () => {
  const { source } = await leaving(await declared());
  expect(source.parts.passport.vm.autosnapshot).toEqual(POLICY);
  await source.end("failed", FAILURE);
  const plain = await t.services.vms.create(spec());
  await t.services.migrations.create({ vmId: plain?.id ?? "", peer: "b", parameters: {} });
  await vi.waitFor(() => expect(engine.sources).toHaveLength(2));
  expect(engine.latest.parts.passport.vm).not.toHaveProperty("autosnapshot");
});

it("what its target was told stays as it is meanwhile", async () => {
  const vmId = await declared();
  const { source } = await leaving(vmId);
  const { snapshots } = t.services;
  const other = snapshots.setAutosnapshot(vmId, { ...POLICY, keep: 9 });
  expect(await refusalOf(other)).toBe("migration-in-progress");
  expect(await refusalOf(snapshots.clearAutosnapshot(vmId))).toBe("migration-in-progress");
  await source.end("failed", FAILURE);
  await vi.waitFor(async () => expect((await t.services.vms.get(vmId)).state).toBe("active"));
  expect(await snapshots.setAutosnapshot(vmId, { ...POLICY, keep: 9 })).toMatchObject({ keep: 9 });
});

it("it is taken where it is: not while it is elsewhere, and again when it is back", async () => {
  const vmId = await declared();
  const { source } = await leaving(vmId);
  await source.parts.journal.point("released");
  clock.advance(2 * PERIOD_MS);
  await settled();
  expect(await taken(vmId)).toBe(0);
  await source.parts.journal.point("aborted");
  clock.advance(PERIOD_MS);
  await vi.waitFor(async () => expect(await taken(vmId)).toBe(1));
});

it("after a restart what is left of it is not taken either", async () => {
  const vmId = await declared();
  const { source } = await leaving(vmId);
  await source.parts.journal.point("released");
  const after = await t.afterKill();
  clock.advance(2 * PERIOD_MS);
  await settled();
  const { items } = await after.services.snapshots.list({ vmId, limit: 9, cursor: null });
  expect(items).toEqual([]);
  expect(await after.store.loadAutosnapshots()).toMatchObject([{ vmId, ...POLICY }]);
});

it("a VM that arrives is what it was, in the write by which it runs here", async () => {
  const { session, vmId } = await arriving({ autosnapshot: POLICY });
  const { snapshots, incoming } = t.services;
  t.refuse.add("put-autosnapshot");
  await incoming.commit(session).catch(() => {});
  expect((await t.services.vms.get(vmId)).state).toBe("incoming");
  t.refuse.clear();
  await incoming.commit(session);
  expect(await snapshots.autosnapshot(vmId)).toMatchObject(POLICY);
  expect(await t.store.loadAutosnapshots()).toMatchObject([{ vmId, ...POLICY }]);
  clock.advance(PERIOD_MS);
  await vi.waitFor(async () => expect(await taken(vmId)).toBe(1));
});

it("one whose source tells nothing isn't", async () => {
  const { session, vmId } = await arriving();
  await t.services.incoming.commit(session);
  expect(await refusalOf(t.services.snapshots.autosnapshot(vmId))).toBe("autosnapshot-not-found");
});

it("when it comes back its source's word counts, and nothing of what was left", async () => {
  const vmId = await declared();
  const { uuid } = await t.services.vms.get(vmId);
  const { source } = await leaving(vmId);
  await source.parts.journal.point("released");
  await source.end("completed");
  const policy = { ...POLICY, everySeconds: 5 };
  const back = await arriving({ uuid, autosnapshot: policy });
  await t.services.incoming.commit(back.session);
  expect(await refusalOf(t.services.vms.get(vmId))).toBe("vm-not-found");
  expect(await t.store.loadAutosnapshots()).toMatchObject([{ vmId: back.vmId, ...policy }]);
});

it("of one that was deleted after it had moved nothing is kept", async () => {
  const vmId = await declared();
  const { source } = await leaving(vmId);
  await source.parts.journal.point("released");
  await source.end("completed");
  await vi.waitFor(() => t.services.vms.delete(vmId, null));
  const next = await leaving(await declared());
  await next.source.parts.journal.point("released");
  await vi.waitFor(async () => expect(await t.store.loadAutosnapshots()).toHaveLength(1));
});
