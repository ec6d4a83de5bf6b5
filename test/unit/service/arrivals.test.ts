// Goal: VMs that arrive hold up nobody for long, and leave nothing behind.
// Method: a fake engine and a fake runtime; a crash is a copy of the store's files.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ManualClock } from "../../../src/base/clock.js";
import { ARRIVAL_TURN_MS } from "../../../src/service/limits.js";
import { FakeEngine } from "../../support/fake-engine.js";
import { passport } from "../../support/passport.js";
import { refusalOf, type TestService, testService } from "../../support/services.js";

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
