// Goal: sessions that have ended give way, but none of a VM that arrived and whose source may still
// ask how that ended; and what has given way leaves nothing behind.
// Method: a fake engine over a real store that is filled beforehand; time goes on by hand.
import { afterEach, expect, it } from "vitest";
import { ManualClock, timestamp } from "../../../src/base/clock.js";
import {
  MIGRATION_ASKED_MS,
  MIGRATIONS_ASKED_KEPT,
  MIGRATIONS_KEPT,
} from "../../../src/service/limits.js";
import type { MigrationRecord } from "../../../src/store/index.js";
import { FakeEngine } from "../../support/fake-engine.js";
import { passport } from "../../support/passport.js";
import { type TestService, testService } from "../../support/services.js";
import { testStores } from "../../support/store.js";

let t: TestService;
const clock = new ManualClock();
afterEach(() => t.remove());

function ended(seq: number, direction: "incoming" | "outgoing", at: string): MigrationRecord {
  return {
    ...{ id: `mig_${seq}`, seq, direction, vmId: `vm_${seq}`, vmUuid: `u-${seq}`, vmName: null },
    ...{ peer: "b", peerSession: `far_${seq}`, state: "completed", point: "running" },
    ...{ cancelRequested: false, parameters: {}, progress: null, decision: null, failure: null },
    ...{ resolution: null, statistics: null, startedAt: at, endedAt: at, createdAt: at },
    ...{ version: 1, bootId: "then" },
  };
}

/** A host that has had so many sessions, the even ones incoming, all ended now. */
async function after(count: number): Promise<void> {
  const stores = await testStores();
  const store = await stores.open();
  const now = timestamp(clock);
  const changes = Array.from({ length: count }, (_, at) => {
    const direction = at % 2 === 0 ? ("incoming" as const) : ("outgoing" as const);
    return { kind: "put-migration" as const, migration: ended(at + 1, direction, now) };
  });
  await store.commit(changes);
  await store.close();
  t = await testService({ clock, stores, migration: { instance: "a", engine: new FakeEngine() } });
}

let offers = 0;
const offer = async (given = passport({ uuid: `new-${++offers}` }, `new_${offers}`)) =>
  (await t.services.incoming.offer(given, {})).offer.session;

const known = async () => {
  const filter = { direction: null, state: null, vmId: null, limit: 100_000, cursor: null };
  const { items } = await t.services.migrations.list(filter);
  return new Set(items.map(({ id }) => id));
};

it("the oldest outgoing ones go at once, incoming ones after a day", async () => {
  await after(MIGRATIONS_KEPT);
  await offer();
  const left = await known();
  expect([left.has("mig_1"), left.has("mig_2"), left.has("mig_4")]).toEqual([true, false, true]);
  expect(left.size).toBe(MIGRATIONS_KEPT);
  clock.advance(MIGRATION_ASKED_MS);
  await offer();
  expect((await known()).has("mig_1")).toBe(false);
});

it("where there are far too many the oldest of all go", async () => {
  await after(MIGRATIONS_ASKED_KEPT);
  await offer();
  const left = await known();
  expect([left.has("mig_1"), left.has("mig_2"), left.size]).toEqual([
    ...[false, true, MIGRATIONS_ASKED_KEPT],
  ]);
});

it("an offer of one that was deleted is a new one: nothing is kept of it", async () => {
  await after(0);
  const given = passport();
  const first = await offer(given);
  await t.services.incoming.abort(first, "no longer", false);
  await expect(offer(given)).rejects.toMatchObject({ code: "session-aborted" });
  await t.services.migrations.delete(first);
  const second = await offer(given);
  expect(second).not.toBe(first);
  // The same offer again is the same session, as ever.
  expect(await offer(given)).toBe(second);
});
