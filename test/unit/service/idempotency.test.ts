// Goal: a request that is sent twice takes effect once, or says that its outcome is not known.
// Method: begin, finish and abandon in every order, also across a crash and past 24 hours.
import { afterEach, beforeEach, expect, it } from "vitest";
import { type Clock, systemClock } from "../../../src/base/clock.js";
import { refusalOf, type TestService, testService } from "../../support/services.js";

let offsetMs = 0;
const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + offsetMs };
const ANSWER = { status: 201, headers: { location: "/v1/vms/vm_1" }, body: '{"id":"vm_1"}' };

let t: TestService;
beforeEach(async () => {
  offsetMs = 0;
  t = await testService({ clock });
});
afterEach(() => t.remove());

it("is new once, then running, then a replay of the same answer", async () => {
  const { idempotency } = t.services;
  const both = await Promise.allSettled([idempotency.begin("k", "f"), idempotency.begin("k", "f")]);
  expect(both[0]).toEqual({ status: "fulfilled", value: { outcome: "new" } });
  expect(both[1]).toMatchObject({ status: "rejected", reason: { code: "idempotency-running" } });
  expect(await refusalOf(idempotency.begin("k", "other"))).toBe("idempotency-mismatch");
  await idempotency.finish("k", ANSWER);
  const replay = { outcome: "replay", answer: ANSWER };
  expect(await Promise.all([1, 2].map(() => idempotency.begin("k", "f")))).toEqual([
    replay,
    replay,
  ]);
  expect(await refusalOf(idempotency.begin("k", "other"))).toBe("idempotency-mismatch");
  const after = await t.afterKill();
  expect(await after.services.idempotency.begin("k", "f")).toEqual(replay);
});

it("is free again when it was abandoned or has expired", async () => {
  const { idempotency } = t.services;
  await idempotency.begin("k", "f");
  const [, again] = await Promise.all([idempotency.abandon("k"), idempotency.begin("k", "g")]);
  expect(again).toEqual({ outcome: "new" });
  await idempotency.finish("k", ANSWER);
  offsetMs = 24 * 3_600_000 - 60_000;
  expect(await idempotency.begin("k", "g")).toMatchObject({ outcome: "replay" });
  offsetMs = 24 * 3_600_000 + 1;
  expect(await idempotency.begin("k", "h")).toEqual({ outcome: "new" });
});

it("says that the outcome is unknown when a crash took it", async () => {
  await t.services.idempotency.begin("k", "f");
  const after = await t.afterKill();
  expect(await refusalOf(after.services.idempotency.begin("k", "f"))).toBe("outcome-unknown");
  expect(await refusalOf(after.services.idempotency.begin("k", "g"))).toBe("idempotency-mismatch");
});

it("claims nothing when the store refuses, and never holds back an answer", async () => {
  const { idempotency } = t.services;
  t.refuse.add("put-idempotency");
  expect(await refusalOf(idempotency.begin("k", "f"))).toBe("store-unavailable");
  t.refuse.clear();
  expect(await idempotency.begin("k", "f")).toEqual({ outcome: "new" });
  t.refuse.add("put-idempotency");
  await idempotency.finish("k", ANSWER);
  expect(await refusalOf(idempotency.begin("k", "f"))).toBe("outcome-unknown");
});
