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
