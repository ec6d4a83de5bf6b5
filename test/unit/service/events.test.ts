// Goal: the history has ids that only grow, never repeat after any restart, and admits its gaps.
// Method: an event log over a real store with a manual clock, so that batches wait for the test.
import { afterEach, beforeEach, expect, it } from "vitest";
import { ManualClock } from "../../../src/base/clock.js";
import { silentLog } from "../../../src/base/log.js";
import { EventLog } from "../../../src/service/event-log.js";
import { DEFAULT_LIMITS } from "../../../src/service/limits.js";
import { Recorder } from "../../../src/service/recorder.js";
import type { Store } from "../../../src/store/index.js";
import { type TestStores, testStores } from "../../support/store.js";

let stores: TestStores;
let store: Store;
const clock = new ManualClock(Date.UTC(2026, 10, 20));
beforeEach(async () => {
  stores = await testStores();
  store = await stores.open();
});
afterEach(() => stores.remove());

const open = (afterCrash: boolean, limits = {}, on = store) =>
  EventLog.open(
    {
      store: on,
      recorder: new Recorder(on, silentLog),
      clock,
      limits: { ...DEFAULT_LIMITS, ...limits },
    },
    afterCrash,
  );

const announce = (log: EventLog, count: number) => {
  for (let i = 0; i < count; i++) log.announce("test", `t/${i}`, { i });
};
const ids = async (log: EventLog, after: number, limit = 1_000) =>
  (await log.list(after, limit)).items.map((event) => event.id);

it("counts up by one and is read from memory before any batch", async () => {
  const log = await open(false);
  expect(await log.list(0, 10)).toEqual({ items: [], gap: false });
  announce(log, 3);
  expect(await ids(log, 0)).toEqual([1, 2, 3]);
  expect(await ids(log, 1, 1)).toEqual([2]);
  expect(await store.eventRange()).toEqual({ oldest: 0, newest: 0 });
  clock.advance(100);
  await log.flush();
  expect(await store.eventRange()).toEqual({ oldest: 1, newest: 3 });
});

it("goes on with the next id after a goodbye, and with a far one after a crash", async () => {
  const log = await open(false);
  announce(log, 3);
  await log.flush();
  announce(log, 2); // ids 4 and 5 were told to followers, and die with the process
  const clean = await open(false);
  expect(clean.newest()).toBe(3);
  const crashed = await open(true);
  announce(crashed, 1);
  expect(crashed.newest()).toBeGreaterThan(5 + 1);
  expect(await crashed.list(5, 10)).toMatchObject({ gap: true, items: [{ subject: "t/0" }] });
  expect(await crashed.list(1, 2)).toMatchObject({ gap: false, items: [{ id: 2 }, { id: 3 }] });
  expect(await crashed.list(1, 10)).toMatchObject({ gap: true });
  expect(await crashed.list(crashed.newest(), 10)).toEqual({ items: [], gap: false });
});

it("publishes in order of id, whatever is written first", async () => {
  const log = await open(false);
  const heard: string[] = [];
  log.subscribe((event) => heard.push(`${event.id} ${event.type}`));
  const first = log.reserve("first", "t", {});
  const second = log.reserve("second", "t", {});
  log.announce("third", "t", {});
  second.publish();
  expect(heard).toEqual([]);
  await store.commit([{ kind: "add-events", events: [second.event] }]);
  expect(await ids(log, 0)).toEqual([]);
  first.void();
  expect(heard).toEqual(["1 server.record-refused", "2 second", "3 third"]);
  await log.flush();
  expect((await store.readEvents(0, 10)).map((event) => event.type)).toEqual([
    "server.record-refused",
    "second",
    "third",
  ]);
});

it("joins store and memory, and tells what was dropped from both", async () => {
  const log = await open(false, { eventsInMemory: 10, events: 500 });
  for (let k = 0; k < 4; k++) {
    announce(log, 250);
    await log.flush();
  }
  announce(log, 5);
  const { items, gap } = await log.list(0, 2_000);
  expect(gap).toBe(true);
  expect(items.map((event) => event.id)).toEqual(Array.from({ length: 505 }, (_, i) => i + 501));
  expect(log.oldest()).toBe(501);
  expect((await log.list(600, 2_000)).gap).toBe(false);
  expect((await log.list(600, 2_000)).items).toHaveLength(405);
  expect(await log.list(5_000, 10)).toEqual({ items: [], gap: true });
});

it("keeps events while the store refuses them", async () => {
  let isRefusing = true;
  const flaky: Store = {
    ...store,
    commit: (changes) =>
      isRefusing ? Promise.reject(new Error("disk full")) : store.commit(changes),
    eventRange: () => store.eventRange(),
    readEvents: (after, limit) => store.readEvents(after, limit),
  };
  const log = await open(false, { eventsInMemory: 10 }, flaky);
  announce(log, 700);
  await log.flush();
  expect(await ids(log, 0)).toHaveLength(700);
  isRefusing = false;
  clock.advance(2_000);
  await log.flush();
  expect(await store.eventRange()).toEqual({ oldest: 1, newest: 700 });
});
