// Goal: an eventfd's count is never lost with a reply, and ids resolve as descriptors would.
// Method: the service over a fake counter table with room for three.
import { afterEach, beforeEach, expect, it } from "vitest";
import { U64_MAX } from "../../../src/base/hex.js";
import { refusalOf, spec, type TestService, testService } from "../../support/services.js";

let t: TestService;
beforeEach(async () => {
  t = await testService();
});
afterEach(() => t.remove());

const NONE = { key: null, after: null };

it("peeks, waits, writes and reads each count once", async () => {
  const { eventfds } = t.services;
  const { id } = await eventfds.create(0n, false);
  expect(id).toMatch(/^efd_/);
  expect(await refusalOf(eventfds.read(id, NONE))).toBe("EAGAIN");
  const waiting = eventfds.get(id, 10_000);
  await eventfds.write(id, 2n, true);
  expect(await waiting).toMatchObject({ id, count: 2n });
  expect(await eventfds.write(id, 3n, true)).toMatchObject({ count: 5n });
  expect(await eventfds.read(id, NONE)).toEqual({ id: "r1", value: 5n, repeated: false });
  expect(await eventfds.read(id, NONE)).toEqual({ id: "r1", value: 5n, repeated: true });
  await eventfds.write(id, 1n, true);
  expect(await refusalOf(eventfds.read(id, { key: "k", after: null }))).toBe(
    "harvest-unacknowledged",
  );
  expect(await eventfds.read(id, { key: null, after: "r1" })).toMatchObject({ value: 1n });
  expect(await refusalOf(eventfds.read(id, { key: null, after: "r2" }))).toBe("EAGAIN");
  expect(await refusalOf(eventfds.write(id, U64_MAX, true))).toBe("EINVAL");
});

it("a semaphore gives 1 at a time, once each", async () => {
  const { eventfds } = t.services;
  const { id } = await eventfds.create(2n, true);
  const read = (after: string) => eventfds.read(id, { key: null, after });
  expect(await read("r0")).toMatchObject({ id: "r1", value: 1n, repeated: false });
  expect(await read("r0")).toMatchObject({ id: "r1", value: 1n, repeated: true });
  expect(await eventfds.get(id, 0)).toMatchObject({ count: 1n, isSemaphore: true });
  expect(await read("r1")).toMatchObject({ id: "r2", value: 1n });
  expect(await refusalOf(read("r2"))).toBe("EAGAIN");
});

it("lists in pages, ends with EMFILE, and forgets what is deleted", async () => {
  const { eventfds } = t.services;
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push((await eventfds.create(BigInt(i), false)).id);
  expect(await refusalOf(eventfds.create(0n, false))).toBe("EMFILE");
  const first = await eventfds.list(2, null);
  const second = await eventfds.list(2, first.nextCursor);
  expect([...first.items, ...second.items].map((e) => e.id)).toEqual(ids);
  expect(second.nextCursor).toBeNull();
  const [gone] = ids;
  await eventfds.delete(gone ?? "", true);
  expect(await refusalOf(eventfds.get(gone ?? "", 0))).toBe("eventfd-not-found");
});

it("resolves an id to a counter, to no descriptor, or to another kind of one", async () => {
  const { eventfds } = t.services;
  const { id } = await eventfds.create(0n, false);
  const vm = await t.services.vms.create(spec());
  expect(eventfds.resolve(id)).toEqual({ index: 0, isEventfd: true });
  expect(eventfds.resolve(null)).toEqual({ index: -1, isEventfd: true });
  expect(eventfds.resolve("efd_x")).toEqual({ index: -1, isEventfd: true });
  expect(eventfds.resolve(vm?.id ?? "").isEventfd).toBe(false);
  expect(eventfds.resolve(vm?.id ?? "").index).not.toBe(-1);
});

it("host facts: capacity, what is left, capability numbers by name", () => {
  const { host } = t.services;
  expect(host.facts()).toMatchObject({ apiVersion: 12, allocatable: { vms: 1_000 } });
  expect(host.capabilityNumber("KVM_CAP_USER_MEMORY")).toBe(3);
  expect(host.capabilityNumber("4294967295")).toBe(4_294_967_295);
  for (const text of ["4294967296", "KVM_CAP_NONE", "", "-1", "0x3"]) {
    expect(host.capabilityNumber(text)).toBeNull();
  }
});
