// Goal: eventfds of a VM that comes from elsewhere are found by name or made, stay or end as it
// does, and what they counted is counted once. Method: the real counters below the service, no VM.
import { beforeEach, expect, it } from "vitest";
import { systemClock } from "../../../src/base/clock.js";
import { EVENTFD_COUNT_MAX, EventfdCounters } from "../../../src/base/eventfd-counters.js";
import type { MovedEventfd } from "../../../src/migration/index.js";
import { EventfdOwners } from "../../../src/runtime/eventfd-owners.js";
import { SharedEventfdTable } from "../../../src/runtime/eventfd-table.js";
import { EventfdAttachments } from "../../../src/service/eventfd-attachments.js";
import { Eventfds } from "../../../src/service/eventfd-service.js";
import { refusalOf } from "../../support/services.js";

const ROOM = 3;
const FROM_AFAR = { by: "names", mayWait: false } as const;
const SAME_HOST = { by: "counters", mayWait: true } as const;

let counters: EventfdCounters;
let eventfds: Eventfds;
let attachments: EventfdAttachments;

beforeEach(() => {
  counters = EventfdCounters.create(ROOM);
  const table = new SharedEventfdTable(counters, new EventfdOwners(counters), systemClock);
  eventfds = new Eventfds({ table, clock: systemClock, isOtherDescriptor: () => false });
  attachments = new EventfdAttachments(eventfds);
});

function moved(name: string | null, count = 0n, more: Partial<MovedEventfd> = {}): MovedEventfd {
  return { local: 0, name, count, isSemaphore: false, ...more };
}

const ids = async () => (await eventfds.list(ROOM, null)).items.map(({ id }) => id);
const countOf = async (id: string) => (await eventfds.get(id, 0)).count;

it("makes those that aren't here, by their names, with their counts", async () => {
  const semaphore = moved("efd_b", 2n, { local: 4, isSemaphore: true });
  const wanted = [moved("efd_a", 5n), semaphore];
  const { eventfds: made, keep } = await attachments.attach(wanted, FROM_AFAR);
  expect(made).toEqual([
    { local: 0, fd: eventfds.resolve("efd_a"), mayWait: false },
    { local: 4, fd: eventfds.resolve("efd_b"), mayWait: false },
  ]);
  await keep();
  expect(await eventfds.get("efd_a", 0)).toMatchObject({ count: 5n, isSemaphore: false });
  expect(await eventfds.get("efd_b", 0)).toMatchObject({ count: 2n, isSemaphore: true });
});

it("gives back what went: named there, withdrawn here, counted where it is", async () => {
  const { id } = await eventfds.create(7n, false);
  const { index } = eventfds.resolve(id);
  const gone = attachments.named([
    { local: 1, index, count: 5n },
    { local: 2, index: null, count: 0n },
  ]);
  expect(gone).toEqual([moved(id, 5n, { local: 1 }), moved(null, 0n, { local: 2 })]);
  attachments.moved(gone);
  expect(await countOf(id)).toBe(2n);
  const back = await attachments.attach([moved(id, 9n)], FROM_AFAR);
  // Until the VM is here for good, the others' count is none of its own.
  expect(await countOf(id)).toBe(2n);
  await back.keep();
  expect([await countOf(id), await ids()]).toEqual([11n, [id]]);
});

it("counts no further than an eventfd can", async () => {
  const { id } = await eventfds.create(EVENTFD_COUNT_MAX - 1n, false);
  const here = await attachments.attach([moved(id, 9n)], FROM_AFAR);
  await here.keep();
  expect(await countOf(id)).toBe(EVENTFD_COUNT_MAX);
});

it("within a host takes them as they are, and gives new ones ids of their own", async () => {
  const { id } = await eventfds.create(3n, false);
  const here = await attachments.attach([moved(id, 3n), moved("efd_closed", 2n)], SAME_HOST);
  await here.keep();
  const [, other] = await ids();
  expect(here.eventfds.map(({ mayWait }) => mayWait)).toEqual([true, true]);
  expect([await countOf(id), await countOf(other ?? "")]).toEqual([3n, 2n]);
  expect(other).not.toBe("efd_closed");
});

it("ends what it made for one that comes to nothing, unless another has it too", async () => {
  const [one, two] = [
    await attachments.attach([moved("efd_a"), moved("efd_b")], FROM_AFAR),
    await attachments.attach([moved("efd_b")], FROM_AFAR),
  ];
  await one.discard();
  await one.discard();
  expect(await ids()).toEqual(["efd_b"]);
  await two.keep();
  await two.discard();
  expect(await ids()).toEqual(["efd_b"]);
  const three = await attachments.attach([moved("efd_c")], FROM_AFAR);
  await eventfds.delete("efd_c", true);
  await three.discard();
  expect([await ids(), counters.live()]).toEqual([["efd_b"], 1]);
});

it("makes none where not all can be made, and none under what is no id", async () => {
  const many = ["efd_a", "efd_b", "efd_c", "efd_d"].map((name) => moved(name));
  expect(await refusalOf(attachments.attach(many, FROM_AFAR))).toBe("EMFILE");
  const bad = attachments.attach([moved("efd_a"), moved("../vms/x")], FROM_AFAR);
  expect(await refusalOf(bad)).toBe("state-mismatch");
  expect([await ids(), counters.live()]).toEqual([[], 0]);
});
