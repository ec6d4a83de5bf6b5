// Goal: vCPUs and runs over HTTP: creation, programs, long polls, Prefer, kicks.
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
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("vCPUs", () => {
  it("is created under the client's number, once", async () => {
    const answer = await face.call("put", `${vm}/vcpus/511`).send({}).expect(201);
    expect(answer.headers["location"]).toBe(`${vm}/vcpus/511`);
    face.control.refuse("createVcpu", new KvmError("EEXIST", "KVM_CREATE_VCPU", "It exists."));
    const again = await face.call("put", `${vm}/vcpus/511`);
    expect(again.body).toMatchObject({ status: 409, errno: "EEXIST", ioctl: "KVM_CREATE_VCPU" });
  });

  it("is listed page by page", async () => {
    const first = await face.call("get", `${vm}/vcpus?limit=1`).expect(200);
    expect(first.body.items).toHaveLength(1);
    expect(first.headers["link"]).toContain("limit=1&cursor=");
  });

  it("is 404 when the path names none", async () => {
    face.control.refuse("describeVcpu", new ServiceError("vcpu-not-found", "None."));
    expect((await face.call("get", `${vm}/vcpus/3`)).body.code).toBe("vcpu-not-found");
  });

  it("takes any u32 as MP state and leaves the judgement to KVM", async () => {
    await face.call("put", `${vm}/vcpus/0/mp-state`).send({ mpState: 4294967295 }).expect(200);
    await face.call("put", `${vm}/vcpus/0/mp-state`).send({ mpState: 4294967296 }).expect(400);
  });
});

describe("disassembly", () => {
  it("begins at the PC unless an address is given", async () => {
    const answer = await face.call("get", `${vm}/vcpus/0/disassembly`).expect(200);
    expect(lastArgs()).toMatchObject({ vcpu: 0, address: null, count: 16 });
    const nop = { address: "0x40080000", word: "0xd503201f", text: "nop" };
    expect(answer.body).toEqual({ items: [nop], nextCursor: null });
    await face.call("get", `${vm}/vcpus/0/disassembly?address=0xffff800008000000&count=2`);
    expect(lastArgs()).toMatchObject({ address: 0xffff_8000_0800_0000n, count: 2 });
  });

  it("is at most 1024 instructions, and refused while the vCPU runs", async () => {
    await face.call("get", `${vm}/vcpus/0/disassembly?count=1025`).expect(400);
    face.control.refuse("disassemble", new ServiceError("vcpu-running", "It runs."));
    const refused = await face.call("get", `${vm}/vcpus/0/disassembly`).expect(409);
    expect(refused.body.code).toBe("vcpu-running");
  });
});

describe("programs", () => {
  it("completes a pattern with defaults of its VM", async () => {
    const pattern = { kind: "pattern", pattern: "zipf", base: "0x0", bytes: "0x100000" };
    await face.call("put", `${vm}/vcpus/0/program`).send(pattern).expect(200);
    expect(lastArgs()["program"]).toEqual({
      kind: "pattern",
      pattern: "zipf",
      base: 0n,
      bytes: 0x10_0000n,
      count: 0,
      writePercent: 100,
      length: 8,
      stride: 4096,
      skew: 100,
      seed: 1n,
    });
  });

  it("takes a list of accesses larger than other bodies", async () => {
    const access = { op: "write", address: "0xffffffffffffffff", length: 8, value: "0x2a" };
    const accesses = Array.from({ length: 20_000 }, () => access);
    await face
      .call("put", `${vm}/vcpus/0/program`)
      .send({ kind: "accesses", accesses })
      .expect(200);
    const wrong = { kind: "accesses", accesses: [{ ...access, length: 9 }] };
    const answer = await face.call("put", `${vm}/vcpus/0/program`).send(wrong);
    expect(JSON.stringify(answer.body.errors)).toContain("/accesses/0/length");
  });

  it("gives back the loads", async () => {
    const answer = await face.call("get", `${vm}/vcpus/0/program?from=5&limit=10`).expect(200);
    expect(answer.body).toMatchObject({ from: 5, loads: ["0x2a"] });
  });
});

describe("runs", () => {
  const runs = () => `${vm}/vcpus/0/runs`;

  it("is accepted, then waited for", async () => {
    const started = await face.call("post", runs()).expect(202);
    expect(started.body).toMatchObject({ state: "running", result: null, kickRequested: false });
    expect(started.headers["retry-after"]).toBe("1");
    const location = String(started.headers["location"]);
    const waiting = face.call("get", `${location}?wait=20`).then((a) => a.body);
    await pause(50);
    face.control.exitRun(started.body.id);
    expect((await waiting).result).toEqual({
      errno: null,
      errnoValue: 0,
      exitReason: "KVM_EXIT_MMIO",
      mmio: { physAddr: "0x9000000", len: 4, isWrite: true, data: "01020304" },
      deviceIrqLevel: 0,
      retired: 1,
      program: { completed: 1, finished: false },
    });
    expect((await face.call("get", runs())).body.items).toHaveLength(1);
  });

  it("answers the exit at once when Prefer says how long to wait", async () => {
    const answer = await face
      .call("post", runs())
      .set("prefer", "respond-async, wait=20")
      .send({ immediateExit: true })
      .expect(200);
    expect(answer.headers["preference-applied"]).toBe("wait=20");
    expect(answer.body.result).toMatchObject({ errno: "EINTR", errnoValue: 4 });
  });

  it("answers 202 when the exit does not come in time, and caps the wait", async () => {
    const answer = await face.call("post", runs()).set("prefer", "wait=1").expect(202);
    expect(answer.headers["preference-applied"]).toBe("wait=1");
    const busy = await face.call("post", runs());
    expect(busy.body).toMatchObject({ status: 409, code: "vcpu-running", runId: answer.body.id });
    await face.call("get", `${answer.headers["location"]}?wait=61`).expect(400);
  });

  it("is kicked by DELETE, again and again", async () => {
    const started = await face.call("post", runs());
    const location = String(started.headers["location"]);
    const kicked = await face.call("delete", location).expect(200);
    expect(kicked.body).toMatchObject({ state: "exited", kickRequested: true });
    await face.call("delete", location).expect(200);
    await face.call("delete", `${runs()}/run_nobody`).expect(404);
  });

  it("is kicked by the vCPU", async () => {
    expect((await face.call("post", `${vm}/vcpus/0/kicks`).expect(202)).body.run).toBeNull();
    await face.call("post", runs());
    const kicked = await face.call("post", `${vm}/vcpus/0/kicks`).expect(202);
    expect(kicked.body.run.result.errno).toBe("EINTR");
  });

  it.each(["", "a", "a0a1a2a3a4a5a6a7a8", "xx"])("refuses mmioData %j", async (mmioData) => {
    await face.call("post", runs()).send({ mmioData }).expect(400);
  });
});
