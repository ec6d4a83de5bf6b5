// Goal: VMs that arrive hold up nobody for long, leave nothing behind, and are refused in time.
// Method: a fake engine and a fake runtime; a crash is a copy of the store's files.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ManualClock } from "../../../src/base/clock.js";
import { ARRIVAL_TURN_MS } from "../../../src/service/limits.js";
import { FakeEngine } from "../../support/fake-engine.js";
import { passport } from "../../support/passport.js";
import { refusalOf, spec, type TestService, testService } from "../../support/services.js";

let engine: FakeEngine;
let clock: ManualClock;
let t: TestService;

beforeEach(async () => {
  engine = new FakeEngine();
  clock = new ManualClock();
  t = await testService({ clock, migration: { instance: "a", engine } });
});
afterEach(() => t.remove());

const offer = async (given = passport()) =>
  (await t.services.incoming.offer(given, {})).offer.session;

it("one that isn't built in half a minute keeps the next one waiting no more", async () => {
  const target = engine.target.bind(engine);
  vi.spyOn(engine, "target").mockImplementationOnce((parts) => {
    const made = target(parts);
    made.offer = () => new Promise(() => {});
    return made;
  });
  void offer();
  const second = offer(passport({ uuid: "u-2" }, "mig_two"));
  await vi.waitFor(() => expect(engine.targets).toHaveLength(1));
  clock.advance(ARRIVAL_TURN_MS - 1);
  await new Promise((resolve) => setImmediate(resolve));
  expect(engine.targets).toHaveLength(1);
  clock.advance(1);
  expect(await second).toBe(engine.targets[1]?.parts.session);
});

it("after a crash: what arrived for a session that has ended without it is forgotten", async () => {
  const session = await offer();
  const { vmId } = await t.services.migrations.get(session);
  await vi.waitFor(async () => expect(await t.store.loadVms()).toHaveLength(1));
  t.refuse.add("delete-vm");
  await t.services.incoming.abort(session, "no longer", false).catch(() => {});
  const after = await t.afterKill();
  expect(await refusalOf(after.services.vms.get(vmId))).toBe("vm-not-found");
  expect((await after.store.loadVms()).length).toBe(0);
});

it("after a crash: what was ready is gone, what ran is lost, and both say so", async () => {
  const ready = await offer();
  await t.services.incoming.finish(ready, new Uint8Array(4), null);
  const { vmId } = await t.services.migrations.get(ready);
  const half = await offer(passport({ uuid: "u-2" }, "mig_two"));
  const after = await t.afterKill();
  const { incoming, migrations } = after.services;
  for (const id of [ready, half]) {
    expect(await migrations.get(id)).toMatchObject({ state: "failed", point: "aborted" });
    expect(await refusalOf(incoming.commit(id))).toBe("session-aborted");
  }
  expect(await refusalOf(after.services.vms.get(vmId))).toBe("vm-not-found");
  expect((await after.store.loadVms()).length).toBe(0);
});

it("is refused for a uuid, a version, memory and images, and says so beforehand", async () => {
  const { incoming } = t.services;
  await t.services.vms.create(spec({ uuid: "u-1" }));
  expect(await refusalOf(offer())).toBe("uuid-taken");
  expect(await incoming.check(passport())).toMatchObject({
    possible: false,
    reasons: [{ side: "target", code: "uuid-taken" }],
  });
  const fine = { uuid: "u-2" };
  expect(await refusalOf(offer({ ...passport(fine), streams: [99] }))).toBe("migration-version");
  const object = { ordinal: 0, objectId: 1, userspaceAddr: "0x0", hugePages: false };
  const shape = { ...(passport().vm.shape as object) };
  const big = { ...object, size: "0x100000000", backing: "ram" };
  const tooBig = passport({ ...fine, shape: { ...shape, memoryObjects: [big] } });
  expect(await refusalOf(offer(tooBig))).toBe("target-memory");
  const images = [{ sha256: "0".repeat(64), size: 1 }];
  const missing = passport({ ...fine, images });
  await expect(offer(missing)).rejects.toMatchObject({
    code: "images-missing",
    extensions: { missing: ["0".repeat(64)] },
  });
  expect((await incoming.check(missing)).missingImages).toEqual(["0".repeat(64)]);
  expect(await refusalOf(incoming.putImage("0".repeat(64), "x", new Uint8Array(1)))).toBe(
    "image-hash",
  );
  expect(t.runtime.live()).toBe(1);
  await offer(passport(fine));
});
