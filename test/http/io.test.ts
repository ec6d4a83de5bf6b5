// Goal: eventfds, ioeventfds, irqfds, routing and devices over HTTP.
// Method: supertest over fake services; every answer is checked against the document.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { KvmError } from "../../src/base/errors.js";
import { type Face, openFace } from "../support/http.js";

let face: Face;
let vm: string;
beforeAll(async () => {
  face = await openFace();
});
afterAll(() => face.close());
beforeEach(async () => {
  vm = await face.vm();
});

const lastArgs = () => face.control.calls.at(-1)?.args as Record<string, unknown>;

async function eventfd(count = "0x0"): Promise<string> {
  return (await face.call("post", "/v1/eventfds").send({ count }).expect(201)).body.id;
}

describe("eventfds", () => {
  it("counts, peeks, and gives its count away once", async () => {
    const id = await eventfd("3");
    await face.call("post", `/v1/eventfds/${id}/writes`).send({ value: "0x2" }).expect(200);
    expect((await face.call("get", `/v1/eventfds/${id}`)).body.count).toBe("0x5");
    const read = await face.call("post", `/v1/eventfds/${id}/reads?after=r0`).expect(200);
    expect(read.body).toEqual({ id: "r1", value: "0x5", repeated: false });
    const empty = await face.call("post", `/v1/eventfds/${id}/reads`);
    expect(empty.body).toMatchObject({ status: 409, errno: "EAGAIN", errnoValue: 11 });
    await face.call("delete", `/v1/eventfds/${id}`).expect(204);
    await face.call("get", `/v1/eventfds/${id}`).expect(404);
  });
});

describe("ioeventfds", () => {
  const body = { addr: "0x9000000", len: 4 };
  const one = { eventfd: 0, index: 0, addr: 0x900_0000n, len: 4, datamatch: 0n, flags: 0 };
  type Listed = typeof one | (Omit<typeof one, "index"> & { index: null });
  /** What the VM says that it has, the next time it is asked. */
  const has = (...there: Listed[]) => face.control.answer("listIoeventfds", there);
  const list = async (...there: Listed[]) => {
    has(...there);
    return (await face.call("get", `${vm}/ioeventfds`).expect(200)).body.items;
  };

  it("is assigned, listed and de-assigned by id", async () => {
    const id = await eventfd();
    const made = await face
      .call("post", `${vm}/ioeventfds`)
      .send({ ...body, eventfd: id, datamatch: "7" })
      .expect(201);
    expect(made.body).toMatchObject({ datamatch: "0x7", flags: 1 });
    expect(lastArgs()).toMatchObject({ datamatch: 7n, fd: { index: 0 }, flags: 1 });
    const there = { ...one, datamatch: 7n, flags: 1 };
    expect(await list(there)).toEqual([made.body]);
    has(there);
    await face.call("delete", String(made.headers["location"])).expect(204);
    expect(lastArgs()["flags"]).toBe(5);
    expect(await list()).toEqual([]);
    has();
    await face.call("delete", String(made.headers["location"])).expect(404);
  });

  it("is what the VM has, wherever it came from", async () => {
    const id = await eventfd();
    const first = (await face.call("get", "/v1/eventfds").expect(200)).body.items[0].id;
    const made = await face
      .call("post", `${vm}/ioeventfds`)
      .send({ ...body, addr: "0x9000010", eventfd: id })
      .expect(201);
    const pio = { ...one, index: null, flags: 2 };
    const there = [one, pio, { ...one, addr: 0x900_0010n, index: 1 }];
    const items = await list(...there);
    const place = { addr: "0x9000000", len: 4, datamatch: null };
    expect(items).toEqual([
      made.body,
      { id: items[1].id, ...place, eventfd: first, flags: 0 },
      { id: items[2].id, ...place, eventfd: null, flags: 2 },
    ]);
    expect(await list(...there)).toEqual(items);
    has(...there);
    await face.call("delete", `${vm}/ioeventfds/${items[1].id}`).expect(204);
    expect(lastArgs()).toMatchObject({ addr: 0x900_0000n, fd: { index: 0 }, flags: 4 });
    expect(await list(pio)).toEqual([items[2]]);
  });

  it("is de-assigned by its members, in the query or by flags", async () => {
    const id = await eventfd();
    const make = () =>
      face
        .call("post", `${vm}/ioeventfds`)
        .send({ ...body, eventfd: id })
        .expect(201);
    await make();
    await face.call("delete", `${vm}/ioeventfds?eventfd=${id}&addr=0x9000000&len=4`).expect(204);
    expect(lastArgs()).toMatchObject({ addr: 0x900_0000n, len: 4, fd: { index: 0 }, flags: 4 });
    await make();
    await face
      .call("post", `${vm}/ioeventfds`)
      .send({ ...body, eventfd: id, flags: 4 })
      .expect(204);
    expect(lastArgs()["flags"]).toBe(4);
    const again = await make();
    expect(await list(one)).toEqual([again.body]);
    face.control.refuse("ioeventfd", new KvmError("ENOENT", "KVM_IOEVENTFD", "No match."));
    const none = await face.call("delete", `${vm}/ioeventfds?eventfd=${id}&addr=0&len=4`);
    expect(none.body).toMatchObject({ status: 422, errno: "ENOENT" });
  });

  it("leaves an unknown eventfd to KVM", async () => {
    await face.call("post", `${vm}/ioeventfds`).send({ ...body, eventfd: "bad" });
    expect(lastArgs()["fd"]).toEqual({ index: -1, isEventfd: true });
    face.control.refuse("ioeventfd", new KvmError("EBADF", "KVM_IOEVENTFD", "Not open."));
    const answer = await face.call("post", `${vm}/ioeventfds`).send({ ...body, eventfd: "bad" });
    expect(answer.body).toMatchObject({ status: 422, errno: "EBADF" });
  });

  it("is forgotten with its VM's thread", async () => {
    const id = await eventfd();
    await face.call("post", `${vm}/ioeventfds`).send({ ...body, eventfd: id });
    await face.call("post", `${vm}:stop`).expect(200);
    expect((await face.call("get", `${vm}/ioeventfds`)).body.items).toEqual([]);
  });
});

describe("interrupts", () => {
  it("assigns and de-assigns irqfds", async () => {
    const id = await eventfd();
    const body = { eventfd: id, gsi: 32, resampleEventfd: id };
    const made = await face.call("post", `${vm}/irqfds`).send(body).expect(201);
    expect(made.body).toMatchObject({ gsi: 32, flags: 2, resampleEventfd: id });
    const one = `${vm}/irqfds/${made.body.id}`;
    expect(made.headers["location"]).toBe(one);
    // The VM says which there are; those that nobody assigned here come from a log.
    const none = { eventfd: null, gsi: 42, flags: 0, resampleEventfd: null };
    face.control.answer("listIrqfds", [
      { id: 1, eventfd: 0, gsi: 32, flags: 2, resamplefd: 0, index: 0, resampleIndex: 0 },
      { id: 2, eventfd: 1, gsi: 42, flags: 0, resamplefd: null, index: null, resampleIndex: null },
    ]);
    const list = await face.call("get", `${vm}/irqfds`).expect(200);
    expect(list.body.items).toEqual([made.body, { id: list.body.items[1].id, ...none }]);
    expect((await face.call("get", one).expect(200)).body).toEqual(made.body);
    await face.call("delete", `${one}?drain=false`).expect(204);
    expect(lastArgs()).toMatchObject({ flags: 1, gsi: 32, drain: false });
    face.control.answer("listIrqfds", []);
    expect((await face.call("get", one).expect(404)).body).toMatchObject({
      code: "irqfd-not-found",
    });
    await face.call("delete", `${vm}/irqfds?eventfd=${id}&gsi=32`).expect(204);
    expect(lastArgs()).toMatchObject({ flags: 1, gsi: 32 });
    face.control.refuse("irqfd", new KvmError("EAGAIN", "KVM_IRQFD", "No vGIC."));
    const early = await face.call("post", `${vm}/irqfds`).send({ eventfd: id, gsi: 32 });
    expect(early.body).toMatchObject({ status: 409, errno: "EAGAIN" });
  });

  it("replaces the routing table", async () => {
    const entries = [{ gsi: 5, type: 2, addressLo: 1, data: 4294967295 }];
    const answer = await face.call("put", `${vm}/gsi-routing`).send({ entries }).expect(200);
    expect(answer.body.entries[0]).toMatchObject({ irqchip: 0, data: 4294967295, devid: 0 });
    await face.call("put", `${vm}/gsi-routing`).send({ entries: [] }).expect(200);
  });
});

describe("interrupt lines", () => {
  it("have the level that is set, and with status=true KVM's structure comes back", async () => {
    const path = `${vm}/irq-lines/1:0:40`;
    const plain = await face.call("put", path).send({ level: 1 }).expect(200);
    expect(plain.body).toEqual({ level: 1 });
    expect(face.control.calls.at(-1)).toMatchObject({ name: "irqLine" });
    const put = await face.call("put", `${path}?status=true`).send({ level: 0 }).expect(200);
    expect(put.body).toEqual({ level: 0, status: 0x0100_0028 });
    expect(face.control.calls.at(-1)).toMatchObject({
      name: "irqLineStatus",
      args: { irq: 0x0100_0028, level: 0 },
    });
    await face.call("put", `${path}?status=false`).send({ level: 0 }).expect(200);
    expect(face.control.calls.at(-1)).toMatchObject({ name: "irqLine" });
    await face.call("put", `${path}?status=7`).send({ level: 0 }).expect(400);
  });
});

describe("what arm64 hasn't", () => {
  it.each([
    ["put", "memory-attributes", "KVM_SET_MEMORY_ATTRIBUTES"],
    ["post", "vcpus/0/prefaults", "KVM_PRE_FAULT_MEMORY"],
  ] as const)("%s %s is 501 with its ioctl", async (method, path, ioctl) => {
    const answer = await face.call(method, `${vm}/${path}`).send({});
    expect(answer.body).toMatchObject({ status: 501, code: "not-implemented", ioctl });
    const bytes = await face
      .call(method, `${vm}/${path}`)
      .type("application/octet-stream")
      .send(Buffer.alloc(1));
    expect(bytes.status).toBe(501);
  });
});
