// Goal: events, VM attributes and the SMCCC filter over HTTP: bodies become KVM's structures.
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

describe("vCPU events", () => {
  it("are off where a body doesn't name them", async () => {
    const body = { serrorPending: true };
    await face.call("put", `${vm}/vcpus/0/vcpu-events`).send(body).expect(204);
    expect(lastArgs()).toMatchObject({
      serrorPending: true,
      serrorHasEsr: false,
      extDabtPending: false,
      serrorEsr: 0n,
    });
    const answer = await face.call("get", `${vm}/vcpus/0/vcpu-events`).expect(200);
    expect(answer.body.serrorEsr).toBe("0x1d1");
  });
});

describe("several registers", () => {
  const path = () => `${vm}/vcpus/0/registers`;
  const [X1, W] = ["0x6030000000100002", "0x60200000001000d5"];

  it("become bytes of the size that their ids say, in order", async () => {
    const registers = [
      { id: X1, value: "0x102" },
      { id: W, value: "0x1" },
      { id: X1, value: "0x3" },
    ];
    await face.call("patch", path()).send({ registers }).expect(204);
    expect(lastArgs()).toEqual({
      vcpu: 0,
      registers: [
        { reg: BigInt(X1), value: Uint8Array.of(2, 1, 0, 0, 0, 0, 0, 0) },
        { reg: BigInt(W), value: Uint8Array.of(1, 0, 0, 0) },
        { reg: BigInt(X1), value: Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0) },
      ],
    });
  });

  it("name in the problem what was written", async () => {
    const written = { index: 1, register: W, written: [X1] };
    const refused = new KvmError("EBUSY", "KVM_SET_ONE_REG", "No.", "partly-written", written);
    face.control.refuse("setRegs", refused);
    const registers = [{ id: X1, value: "0x1" }];
    const answer = await face.call("patch", path()).send({ registers });
    const { status, body } = answer;
    expect([status, body.status]).toEqual([422, 422]);
    expect(body).toMatchObject({ code: "partly-written", errno: "EBUSY", ...written });
    const before = { index: 0, register: X1 };
    const none = new KvmError("EBUSY", "KVM_SET_ONE_REG", "No.", "kvm-errno", before);
    face.control.refuse("setRegs", none);
    const first = await face.call("patch", path()).send({ registers });
    expect(first.body).toMatchObject({ status: 409, code: "kvm-errno", ...before });
    expect(first.body).not.toHaveProperty("written");
  });

  it("have a documented shape, checked before anything is done", async () => {
    const calls = face.control.calls.length;
    for (const registers of [
      [{ id: X1 }],
      [{ id: "x1", value: "0x1" }],
      [{ id: X1, value: "1" }],
      new Array(1025).fill({ id: X1, value: "0x1" }),
    ]) {
      await face.call("patch", path()).send({ registers }).expect(400);
    }
    expect(face.control.calls.length).toBe(calls);
  });
});

describe("signal masks", () => {
  const path = () => `${vm}/vcpus/0/signal-mask`;

  it("are of 8 bytes where nobody says otherwise, and null is none", async () => {
    const put = await face.call("put", path()).send({ sigset: "512" }).expect(200);
    expect(lastArgs()).toEqual({ vcpu: 0, len: 8, sigset: 512n });
    expect(put.body).toEqual({ sigset: "0x200" });
    const none = await face.call("put", path()).send({ sigset: null, len: 4 }).expect(200);
    expect(lastArgs()).toEqual({ vcpu: 0, len: 4, sigset: null });
    expect(none.body).toEqual({ sigset: null });
    expect((await face.call("get", path()).expect(200)).body).toEqual({ sigset: "0x200" });
    await face.call("put", path()).send({}).expect(400);
  });
});

describe("memory tags", () => {
  const path = () => `${vm}/mte-tags?gpa=0x40000000&length=0x1000`;

  it("are bytes or base64, both ways", async () => {
    const bytes = await face.call("get", path()).expect(200);
    expect(bytes.headers["content-type"]).toBe("application/octet-stream");
    expect(lastArgs()).toEqual({ ipa: 0x4000_0000n, length: 0x1000n, tags: null });
    const asJson = await face.call("get", path()).accept("application/json").expect(200);
    expect(Buffer.from(asJson.body.base64, "base64")).toEqual(Buffer.alloc(256));
    await face.call("put", path()).send({ base64: "AQI=" }).expect(204);
    expect(lastArgs()["tags"]).toEqual(Uint8Array.of(1, 2));
    const raw = face.call("put", path()).type("application/octet-stream");
    await raw.send(Buffer.from([3])).expect(204);
    expect(lastArgs()["tags"]).toEqual(Uint8Array.of(3));
    await face.call("get", `${vm}/mte-tags?gpa=0x0`).expect(400);
  });

  it("are refused with KVM's errno", async () => {
    const why = new KvmError("EINVAL", "KVM_ARM_MTE_COPY_TAGS", "No MTE.");
    face.control.refuse("copyMteTags", why);
    const answer = await face.call("get", path());
    expect(answer.body).toMatchObject({ status: 422, errno: "EINVAL", errnoValue: 22 });
  });
});

describe("guest debugging", () => {
  it("takes registers as far as they are given, and DELETE turns all off", async () => {
    const body = { control: 0x2_0001, dbgBcr: ["0x1e7"], dbgBvr: ["0x40080000"] };
    await face.call("put", `${vm}/vcpus/0/guest-debug`).send(body).expect(204);
    const none = { wcr: [], wvr: [] };
    expect(lastArgs()).toEqual({
      vcpu: 0,
      control: 0x2_0001,
      bcr: [0x1e7n],
      bvr: [0x4008_0000n],
      ...none,
    });
    await face.call("delete", `${vm}/vcpus/0/guest-debug`).expect(204);
    expect(lastArgs()).toEqual({ vcpu: 0, control: 0, bcr: [], bvr: [], ...none });
    const many = { control: 1, dbgBcr: new Array(17).fill("0x0") };
    await face.call("put", `${vm}/vcpus/0/guest-debug`).send(many).expect(400);
  });
});

describe("attributes of a VM", () => {
  it("a filter range becomes struct kvm_smccc_filter", async () => {
    const body = { base: 0xc600_0000, nrFunctions: 3, action: 2 };
    const answer = await face.call("post", `${vm}/smccc-filters`).send(body).expect(201);
    expect(answer.body).toEqual(body);
    const value = Uint8Array.from([0, 0, 0, 0xc6, 3, 0, 0, 0, 2, ...new Array<number>(15).fill(0)]);
    expect(lastArgs()).toMatchObject({ group: 0, attr: 0n, value });
  });

  it("bytes go through as they are", async () => {
    await face.call("put", `${vm}/attributes/7/0x9`).send({ value: "00fF" }).expect(204);
    expect(lastArgs()).toMatchObject({ group: 7, attr: 9n, value: Uint8Array.of(0, 255) });
    await face.call("put", `${vm}/attributes/7/0x9`).send({ value: "0" }).expect(400);
  });

  it("HEAD asks whether there is one", async () => {
    const path = `${face.origin}${vm}/attributes/0/0`;
    expect((await fetch(path, { method: "HEAD" })).status).toBe(200);
    expect(face.control.calls.at(-1)?.name).toBe("hasVmAttr");
    face.control.refuse("hasVmAttr", new KvmError("ENXIO", "KVM_HAS_DEVICE_ATTR", "None."));
    expect((await fetch(path, { method: "HEAD" })).status).toBe(404);
  });
});

describe("masks of ID registers", () => {
  it("are 192 in hexadecimal", async () => {
    const answer = await face.call("get", `${vm}/register-writable-masks/0`).expect(200);
    expect(answer.body.masks).toHaveLength(192);
    expect(answer.body.masks[0]).toBe("0xf");
  });
});
