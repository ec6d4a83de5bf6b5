// Goal: memory over HTTP: objects, ranges, guest-physical memory, memslots, dirty logs, rings.
// Method: supertest over fake services; every answer is checked against the document.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { KvmError, ServiceError } from "../../src/base/errors.js";
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
const OCTETS = "application/octet-stream";

describe("memory objects", () => {
  it("creates with defaults", async () => {
    const answer = await face
      .call("post", `${vm}/memory-objects`)
      .send({ size: "4096" })
      .expect(201);
    expect(answer.headers["location"]).toBe(`${vm}/memory-objects/1`);
    expect(lastArgs()).toEqual({
      size: 4096n,
      userspaceAddr: null,
      backing: "ram",
      hugePages: true,
    });
  });

  it("answers 507 beyond the budget", async () => {
    const error = new KvmError("ENOMEM", "mmap", "The budget is used up.");
    face.control.refuse("createMemoryObject", error);
    const answer = await face.call("post", `${vm}/memory-objects`).send({ size: "0x1000" });
    expect(answer.body).toMatchObject({ status: 507, errno: "ENOMEM" });
  });

  it("knows which exist", async () => {
    await face.call("get", `${vm}/memory-objects/1`).expect(200);
    const none = await face.call("get", `${vm}/memory-objects/2`);
    expect(none.body).toMatchObject({ status: 404, code: "memory-object-not-found" });
  });

  it("serves ranges", async () => {
    const url = `${vm}/memory-objects/1/content`;
    const part = await face.call("get", url).set("range", "bytes=16-31").expect(206);
    expect(part.headers["content-range"]).toBe("bytes 16-31/2097152");
    expect(part.body).toHaveLength(16);
    const tail = await face.call("get", url).set("range", "bytes=-8").expect(206);
    expect(tail.headers["content-range"]).toBe("bytes 2097144-2097151/2097152");
    const open = await face.call("get", url).set("range", "bytes=2097150-").expect(206);
    expect(open.body).toHaveLength(2);
    const whole = await face.call("get", url).expect(200);
    expect(whole.body).toHaveLength(2097152);
    expect(whole.headers["accept-ranges"]).toBe("bytes");
    await face.call("get", url).set("range", "lines=1-2").expect(200);
  });

  it.each(["bytes=9-3", "bytes=2097152-", "bytes=-0", "bytes=x", "bytes=0-1,4-5", "bytes=-"])(
    "can't serve %s",
    async (range) => {
      const answer = await face.call("get", `${vm}/memory-objects/1/content`).set("range", range);
      expect(answer.body).toMatchObject({ status: 416, code: "range-not-satisfiable" });
      expect(answer.headers["content-range"]).toBe("bytes */2097152");
    },
  );

  it("streams what is larger than a piece, and refuses what no answer can hold", async () => {
    const huge = {
      id: 1,
      userspaceAddr: 0n,
      size: 9n * 2n ** 20n,
      backing: "unbacked" as const,
      hugePages: true,
    };
    face.control.answer("listMemoryObjects", [huge]);
    const answer = await face.call("get", `${vm}/memory-objects/1/content`).expect(200);
    expect(answer.body).toHaveLength(9 * 2 ** 20);
    expect(answer.headers["content-length"]).toBe(String(9 * 2 ** 20));
    face.control.answer("listMemoryObjects", [{ ...huge, size: 2n ** 60n }]);
    const refused = await face.call("get", `${vm}/memory-objects/1/content`);
    expect(refused.body).toMatchObject({ status: 422, code: "range-required" });
    face.control.answer("listMemoryObjects", [{ ...huge, size: 2n ** 60n }]);
    const end = await face
      .call("get", `${vm}/memory-objects/1/content`)
      .set("range", "bytes=1152921504606846975-")
      .expect(206);
    expect(end.headers["content-range"]).toContain("1152921504606846975/1152921504606846976");
  });

  it("reads and writes as JSON", async () => {
    const url = `${vm}/memory-objects/1/content`;
    const read = await face
      .call("get", `${url}?offset=0x10&length=3`)
      .set("accept", "application/json")
      .expect(200);
    expect(read.body).toEqual({ offset: "0x10", base64: "q6ur" });
    await face.call("put", url).send({ offset: "8", base64: "AQID" }).expect(204);
    expect(lastArgs()).toMatchObject({ offset: 8n, bytes: new Uint8Array([1, 2, 3]) });
    const bad = await face.call("put", url).send({ offset: "8", base64: "AQI" });
    expect(bad.body.errors[0].pointer).toBe("/base64");
  });

  it("writes bytes into memory of their own", async () => {
    const url = `${vm}/memory-objects/1/content`;
    await face.call("put", `${url}?offset=0x8`).type(OCTETS).send(Buffer.from("abc")).expect(204);
    const { bytes } = lastArgs() as { bytes: Uint8Array };
    expect(bytes.buffer.byteLength).toBe(3);
    const nowhere = await face.call("put", url).type(OCTETS).send(Buffer.from("abc"));
    expect(nowhere.body.errors[0].pointer).toBe("/query/offset");
  });

  it("reads and writes by guest-physical address", async () => {
    const read = await face.call("get", `${vm}/physical-memory?gpa=0x4000&length=5`).expect(200);
    expect(read.body).toEqual(Buffer.alloc(5, 0xcd));
    await face
      .call("put", `${vm}/physical-memory?gpa=16384`)
      .type(OCTETS)
      .send(Buffer.from("x"))
      .expect(204);
    expect(lastArgs()).toMatchObject({ gpa: 16384n });
    face.control.refuse("readPhysicalMemory", new ServiceError("gpa-not-mapped", "A hole."));
    await face.call("get", `${vm}/physical-memory?gpa=0x0&length=1`).expect(409);
    await face.call("get", `${vm}/physical-memory?gpa=0x0&length=4294967295`).expect(413);
  });
});

describe("memslots", () => {
  const region = { guestPhysAddr: "0x0", memorySize: "0x200000", userspaceAddr: "0x7f0000000000" };

  it("tells created, changed and deleted apart", async () => {
    const created = await face.call("put", `${vm}/memslots/1`).send(region).expect(201);
    expect(created.headers["location"]).toBe(`${vm}/memslots/1`);
    await face.call("put", `${vm}/memslots/0`).send(region).expect(200);
    await face
      .call("put", `${vm}/memslots/0`)
      .send({ ...region, memorySize: "0x0" })
      .expect(204);
  });

  it("takes flags as a word or by name", async () => {
    const named = { ...region, flags: ["KVM_MEM_READONLY", "KVM_MEM_LOG_DIRTY_PAGES"] };
    const answer = await face.call("put", `${vm}/memslots/0`).send(named).expect(200);
    expect(answer.body).toMatchObject({
      flags: 3,
      flagNames: ["KVM_MEM_LOG_DIRTY_PAGES", "KVM_MEM_READONLY"],
    });
    await face
      .call("put", `${vm}/memslots/0`)
      .send({ ...region, flags: 4294967295 })
      .expect(200);
    expect(lastArgs()["flags"]).toBe(4294967295);
  });

  it("resolves a memory object, and wraps like C", async () => {
    const body = {
      guestPhysAddr: "0x0",
      memorySize: "0x1000",
      memoryObjectId: 1,
      offset: "0x1000",
    };
    await face.call("put", `${vm}/memslots/0`).send(body).expect(200);
    expect(lastArgs()["userspaceAddr"]).toBe(0x7f00_0000_1000n);
    const far = { ...body, offset: "0xffffffffffffffff" };
    await face.call("put", `${vm}/memslots/0`).send(far).expect(200);
    expect(lastArgs()["userspaceAddr"]).toBe(0x7eff_ffff_ffffn);
    const unknown = await face.call("put", `${vm}/memslots/0`).send({ ...body, memoryObjectId: 9 });
    expect(unknown.body).toMatchObject({ status: 422, code: "memory-object-unknown" });
  });

  it("refuses what says the address twice, or not at all", async () => {
    const twice = await face.call("put", `${vm}/memslots/0`).send({ ...region, memoryObjectId: 1 });
    expect(twice.body.errors[0].pointer).toBe("/memoryObjectId");
    const { userspaceAddr: _address, ...none } = region;
    const missing = await face.call("put", `${vm}/memslots/0`).send(none);
    expect(missing.body.errors[0].pointer).toBe("/userspaceAddr");
    await face
      .call("put", `${vm}/memslots/0`)
      .send({ guestPhysAddr: "0x0", memorySize: "0x0" })
      .expect(204);
  });

  it("uses the second form for a guest_memfd", async () => {
    await face
      .call("put", `${vm}/memslots/0`)
      .send({ ...region, guestMemfdId: 1 })
      .expect(201);
    expect(face.control.calls.at(-1)?.name).toBe("setUserMemoryRegion2");
    await face
      .call("put", `${vm}/memslots/0`)
      .send({ ...region, region2: true })
      .expect(201);
    expect(lastArgs()).toMatchObject({ guestMemfd: -1, guestMemfdOffset: 0n });
  });

  it("lists by address, page by page", async () => {
    const first = await face.call("get", `${vm}/memslots?limit=1`).expect(200);
    expect(first.body.items[0].slot).toBe(0);
    const second = await face.call("get", `${vm}/memslots?limit=1&cursor=${first.body.nextCursor}`);
    expect(second.body.items[0].slot).toBe(3);
    expect(second.body.nextCursor).toBeNull();
  });

  it("answers 404 for a slot that the path names and KVM does not have", async () => {
    await face.call("get", `${vm}/memslots/7`).expect(404);
    const einval = new KvmError("EINVAL", "KVM_SET_USER_MEMORY_REGION", "No such slot.");
    face.control.refuse("setUserMemoryRegion", einval);
    const answer = await face.call("delete", `${vm}/memslots/7`);
    expect(answer.body).toMatchObject({ status: 404, errno: "EINVAL" });
    face.control.refuse("setUserMemoryRegion", einval);
    await face.call("put", `${vm}/memslots/7`).send(region).expect(422);
  });
});

describe("dirty logs", () => {
  const log = () => `${vm}/memslots/0/dirty-log`;

  it("answers bytes by default, ranges by Accept", async () => {
    const bytes = await face.call("get", log()).expect(200);
    expect(bytes.headers).toMatchObject({
      "content-type": OCTETS,
      "content-length": "64",
      "cache-control": "no-store",
      "tidemark-pages": "512",
    });
    const json = await face.call("get", log()).set("accept", "application/json").expect(200);
    expect(json.body).toEqual({
      npages: 512,
      count: 12,
      ranges: [
        [3, 1],
        [5, 11],
      ],
    });
    await face.call("get", log()).set("accept", "text/html").expect(406);
    const preferred = await face
      .call("get", log())
      .set("accept", "application/octet-stream;q=0.1, application/*");
    expect(preferred.headers["content-type"]).toContain("application/json");
  });

  it("maps KVM's refusals, 404 for the slot of the path", async () => {
    const refuse = async (error: Error) => {
      face.control.refuse("getDirtyLog", error);
      return (await face.call("get", log())).body;
    };
    const ioctl = "KVM_GET_DIRTY_LOG";
    expect(await refuse(new KvmError("ENOENT", ioctl, "x"))).toMatchObject({ status: 404 });
    expect(await refuse(new KvmError("EINVAL", ioctl, "x"))).toMatchObject({ status: 422 });
    expect(await refuse(new KvmError("ENXIO", ioctl, "x"))).toMatchObject({
      status: 409,
      errno: "ENXIO",
      errnoValue: 6,
    });
    const destructive = new ServiceError("destructive-read", "Use harvests.", {
      links: { harvests: `${log()}/harvests` },
    });
    expect(await refuse(destructive)).toMatchObject({ status: 409, code: "destructive-read" });
  });

  it("harvests as a resource", async () => {
    const made = await face.call("post", `${log()}/harvests?after=h0`).expect(201);
    expect(made.headers["location"]).toBe(`${log()}/harvests/h1`);
    expect(made.headers["tidemark-harvest-id"]).toBe("h1");
    expect(made.body).toHaveLength(64);
    expect(lastArgs()).toEqual({ slot: 0, key: null, after: "h0" });
    const again = await face
      .call("get", String(made.headers["location"]))
      .set("accept", "application/json");
    expect(again.body).toMatchObject({ id: "h1", count: 12, repeated: true });
    await face.call("delete", String(made.headers["location"])).expect(204);
  });

  it("repeats a harvest by its key, until it is acknowledged", async () => {
    const post = () => face.call("post", `${log()}/harvests`).set("idempotency-key", `k-${vm}`);
    const first = await post().expect(201);
    const calls = face.control.calls.length;
    const second = await post().expect(201);
    expect(second.body).toEqual(first.body);
    expect(second.headers["idempotency-replayed"]).toBe("true");
    expect(face.control.calls.slice(calls).map(({ name }) => name)).toEqual(["getHarvest"]);
    face.control.refuse("getHarvest", new ServiceError("harvest-not-found", "Gone."));
    const gone = await post();
    expect(gone.body).toMatchObject({ status: 410, code: "harvest-acknowledged" });
    face.control.refuse("getHarvest", new ServiceError("harvest-not-found", "Gone."));
    expect((await post()).status).toBe(410);
  });

  it("clears by bitmap", async () => {
    const url = `${log()}/clears?firstPage=64&numPages=65`;
    const answer = await face.call("post", url).type(OCTETS).send(Buffer.alloc(16, 1)).expect(200);
    expect(answer.body).toEqual({ cleared: 5 });
    expect(lastArgs()).toMatchObject({ slot: 0, firstPage: 64n, numPages: 65 });
    const short = await face.call("post", url).type(OCTETS).send(Buffer.alloc(8));
    expect(short.body).toMatchObject({ status: 400, code: "bitmap-length", expectedBytes: 16 });
    await face.call("post", `${log()}/clears?firstPage=0&numPages=0`).type(OCTETS).expect(200);
    await face.call("post", `${log()}/clears`).type(OCTETS).send(Buffer.alloc(8)).expect(400);
  });

  it("clears by ranges, relative to the first page", async () => {
    const clear = (body: object) => face.call("post", `${log()}/clears`).send(body);
    await clear({
      firstPage: "0x40",
      numPages: 70,
      ranges: [
        [0, 3],
        [9, 20],
        [100, 1],
      ],
    }).expect(200);
    const { bitmap } = lastArgs() as { bitmap: Uint8Array };
    expect([...bitmap.subarray(0, 5)]).toEqual([0b111, 0b1111_1110, 0xff, 0b1_1111, 0]);
    expect(bitmap[12]).toBe(0b1_0000);
    const beyond = await clear({ firstPage: "0x0", numPages: 70, ranges: [[120, 9]] });
    expect(beyond.body.errors[0].pointer).toBe("/ranges/0");
    await clear({ firstPage: "0x0", numPages: 64, base64: "AQAAAAAAAAA=" }).expect(200);
    await clear({ firstPage: "0x0", numPages: 65, base64: "AQAAAAAAAAA=" }).expect(400);
    await clear({ firstPage: "0x0", numPages: 64 }).expect(400);
  });

  it("spends no memory on a window that KVM will refuse", async () => {
    const body = { firstPage: "0x0", numPages: 4294967295, ranges: [[0, 1]] };
    await face.call("post", `${log()}/clears`).send(body).expect(200);
    expect((lastArgs() as { bitmap: Uint8Array }).bitmap).toHaveLength(8);
  });

  it("refuses JSON with too many ranges but not the bytes", async () => {
    const answer = { npages: 2 ** 24, bitmap: new Uint8Array(2 ** 21).fill(0b0101_0101) };
    face.control.answer("getDirtyLog", answer);
    const json = await face.call("get", log()).set("accept", "application/json");
    expect(json.body).toMatchObject({ status: 406, code: "not-acceptable" });
    face.control.answer("getDirtyLog", answer);
    expect((await face.call("get", log()).expect(200)).body).toHaveLength(2 ** 21);
  });
});

describe("dirty rings", () => {
  it("reads from the harvest index by default, as JSON or records", async () => {
    const url = `${vm}/vcpus/0/dirty-ring`;
    const json = await face.call("get", url).expect(200);
    expect(json.body.entries).toEqual([{ index: 0, flags: 1, slot: 0, offset: "0x3" }]);
    const records = await face.call("get", `${url}?from=0`).set("accept", OCTETS).expect(200);
    expect(records.body).toEqual(Buffer.from("01000000000000000300000000000000", "hex"));
    expect(records.headers["tidemark-ring-indexes"]).toBe("3, 0, 0, 0");
  });

  it("harvests up to an absolute index", async () => {
    const url = `${vm}/vcpus/0/dirty-ring/harvested`;
    const answer = await face.call("post", url).send({ upTo: 2 }).expect(200);
    expect(answer.body.harvestIndex).toBe(2);
    face.control.refuse("harvestDirtyRing", new ServiceError("ring-index", "It goes back."));
    expect((await face.call("post", url).send({ upTo: 1 })).body.code).toBe("ring-index");
    await face
      .call("put", `${vm}/vcpus/0/dirty-ring/entries/3`)
      .send({ flags: 4294967295 })
      .expect(200);
  });
});

describe("guest_memfd and coalesced zones", () => {
  it("allocates and punches with fallocate's modes", async () => {
    const range = { offset: "0x0", length: "0x1000" };
    await face.call("post", `${vm}/guest-memfds/1/allocations`).send(range).expect(204);
    expect(lastArgs()).toMatchObject({ mode: 1, length: 4096n });
    await face.call("post", `${vm}/guest-memfds/1/holes`).send(range).expect(204);
    expect(lastArgs()["mode"]).toBe(3);
  });

  it("drains the ring, acknowledging the last drain", async () => {
    const answer = await face.call("post", `${vm}/coalesced-ring/drains?after=h0`).expect(200);
    expect(answer.body.entries[0]).toMatchObject({ physAddr: "0x9000000", data: "2a000000" });
    const refusal = new ServiceError("harvest-unacknowledged", "Not yet.", {
      unacknowledged: "h1",
    });
    face.control.refuse("drainCoalescedRing", refusal);
    const refused = await face.call("post", `${vm}/coalesced-ring/drains`);
    expect(refused.body).toMatchObject({ status: 409, unacknowledged: "h1" });
  });
});
