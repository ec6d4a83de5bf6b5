// Goal: VMs over HTTP: creation, lists, entity tags, long polls, verbs.
// Method: supertest over fake services; every answer is checked against the document.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KvmError, ServiceError } from "../../src/base/errors.js";
import { type Face, openFace } from "../support/http.js";

let face: Face;
beforeEach(async () => {
  face = await openFace();
});
afterEach(() => face.close());

describe("POST /v1/vms", () => {
  it("applies every default", async () => {
    const answer = await face.call("post", "/v1/vms").expect(201);
    expect(answer.headers["location"]).toBe(`/v1/vms/${answer.body.id}`);
    expect(answer.headers["etag"]).toMatch(/^"1-[0-9a-f]+"$/);
    expect(answer.body.definition).toEqual({
      type: "0x0",
      pageSize: 4096,
      hostCpus: 0,
      seed: "0x1",
      clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
      dirtyTracking: "write-protect",
    });
    expect(answer.body.kvm.ipaBits).toBe(40);
  });

  it("takes type as it is, and ipaBits as sugar for it", async () => {
    const type = await face.call("post", "/v1/vms").send({ type: "4294967340" }).expect(201);
    expect(type.body.definition.type).toBe("0x10000002c");
    const sugar = await face.call("post", "/v1/vms").send({ ipaBits: 48 }).expect(201);
    expect(sugar.body.definition.type).toBe("0x30");
    const both = await face.call("post", "/v1/vms").send({ ipaBits: 48, type: "0x30" });
    expect(both.body).toMatchObject({ status: 400, code: "validation" });
  });

  it("gives KVM's refusal its errno", async () => {
    const answer = await face.call("post", "/v1/vms").send({ ipaBits: 20 });
    expect(answer.body).toMatchObject({
      status: 422,
      code: "kvm-errno",
      errno: "EINVAL",
      errnoValue: 22,
      ioctl: "KVM_CREATE_VM",
      type: "/problems/kvm-errno",
    });
  });

  it("only validates when asked to", async () => {
    const answer = await face.call("post", "/v1/vms").send({ validateOnly: true }).expect(200);
    expect(answer.body).toEqual({ valid: true });
    expect((await face.call("get", "/v1/vms")).body.items).toEqual([]);
  });

  it("takes the definition from a log that it replays", async () => {
    const log = { version: 1, definition: {}, entries: [] };
    await face.call("post", "/v1/vms").send({ inputs: { log } }).expect(201);
    const both = await face.call("post", "/v1/vms").send({ inputs: { log }, seed: "0x2" });
    expect(both.body.errors).toEqual([
      { pointer: "/seed", detail: "comes from the log in inputs" },
    ]);
  });

  it("is refused while the service drains", async () => {
    face.control.drained = true;
    const answer = await face.call("post", "/v1/vms");
    expect(answer.body).toMatchObject({ status: 503, code: "draining" });
    expect(answer.headers["retry-after"]).toBe("5");
  });
});

describe("GET /v1/vms", () => {
  it("pages with a cursor and a Link that keeps the filter", async () => {
    for (let i = 0; i < 5; i++) {
      await face.vm({ name: `vm-${i}`, labels: { parity: i % 2 === 0 ? "even" : "odd" } });
    }
    const first = await face.call("get", "/v1/vms?limit=2&label=parity%3Deven").expect(200);
    expect(first.body.items.map((vm: { name: string }) => vm.name)).toEqual(["vm-0", "vm-2"]);
    const link = /^<([^>]+)>; rel="next"$/.exec(String(first.headers["link"]))?.[1] ?? "";
    const second = await face.call("get", link).expect(200);
    expect(second.body.items.map((vm: { name: string }) => vm.name)).toEqual(["vm-4"]);
    expect(second.body.nextCursor).toBeNull();
    expect(second.headers["link"]).toBeUndefined();
  });

  it("matches all labels and the state", async () => {
    await face.vm({ labels: { a: "1", b: "2" } });
    const path = await face.vm({ labels: { a: "1", b: "3=4" } });
    const all = await face.call("get", "/v1/vms?label=a%3D1&label=b%3D3%3D4");
    expect(all.body.items).toHaveLength(1);
    await face.call("post", `${path}:stop`).expect(200);
    const stopped = await face.call("get", "/v1/vms?state=stopped");
    expect(stopped.body.items).toHaveLength(1);
    expect(stopped.body.items[0].kvm).toBeUndefined();
  });
});

describe("entity tags", () => {
  it("answers 304 until KVM or the record changes, whatever the counters do", async () => {
    const path = await face.vm();
    const { etag } = (await face.call("get", path).expect(200)).headers as { etag: string };
    await face.call("get", path).set("if-none-match", etag).expect(304);
    await face.call("get", path).set("if-none-match", `W/${etag}, "x"`).expect(304);
    const view = (await face.call("get", path)).body.kvm;
    const big = { vtcr: BigInt(view.vtcr), vttbr: BigInt(view.vttbr), eagerSplitChunkSize: 0n };
    face.control.answer("describe", { ...view, ...big, instructions: 99, steps: 7 });
    await face.call("get", path).set("if-none-match", etag).expect(304);
    face.control.answer("describe", { ...view, ...big, createdVcpus: 2 });
    await face.call("get", path).set("if-none-match", etag).expect(200);
  });

  it("changes a record only at the version that If-Match names", async () => {
    const path = await face.vm({ labels: { a: "1" } });
    const { etag } = (await face.call("get", path)).headers as { etag: string };
    const type = "application/merge-patch+json";
    const patch = (match: string, body: object) =>
      face.call("patch", path).set("if-match", match).type(type).send(JSON.stringify(body));
    const changed = await patch(etag, { name: "x", labels: { a: null, b: "2" } }).expect(200);
    expect(changed.body).toMatchObject({ name: "x", labels: { b: "2" }, version: 2 });
    const stale = await patch(etag, { name: "y" });
    expect(stale.body).toMatchObject({ status: 412, code: "precondition-failed" });
    await patch(`"7", ${changed.headers["etag"]}`, { name: "y" }).expect(200);
    await patch(`W/${changed.headers["etag"]}`, { name: "z" }).expect(412);
    await patch("*", { name: null }).expect(200);
    await face.call("delete", path).set("if-match", etag).expect(412);
    await face.call("delete", path).expect(204);
    await face.call("delete", path).expect(404);
  });
});

describe("GET /v1/vms/{vm}?wait=", () => {
  it("answers as soon as the state is reached", async () => {
    const path = await face.vm();
    const waiting = face.call("get", `${path}?wait=20&untilState=stopped`).then((a) => a.body);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await face.call("post", `${path}:stop`).expect(200);
    expect(await waiting).toMatchObject({ state: "stopped", kvm: null });
  });

  it("answers the present state at the deadline", async () => {
    const path = await face.vm();
    const answer = await face.call("get", `${path}?wait=1&untilState=failed`).expect(200);
    expect(answer.body.state).toBe("active");
  });

  it("ends with 404 when the VM is deleted", async () => {
    const path = await face.vm();
    const waiting = face.call("get", `${path}?wait=20&untilState=stopped`).then((a) => a.status);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await face.call("delete", path).expect(204);
    expect(await waiting).toBe(404);
  });

  it("needs to know what to wait for", async () => {
    const path = await face.vm();
    await face.call("get", `${path}?wait=1`).expect(400);
  });
});

describe("verbs and states", () => {
  it("starts and stops", async () => {
    const path = await face.vm();
    expect((await face.call("post", `${path}:start`).expect(200)).body.version).toBe(1);
    await face.call("post", `${path}:stop`).expect(200);
    const memslots = await face.call("get", `${path}/memslots`);
    expect(memslots.body).toMatchObject({ status: 409, code: "vm-not-active" });
    const started = await face.call("post", `${path}:start`).expect(200);
    expect(started.body.state).toBe("active");
    await face.call("post", `${path}:frobnicate`).expect(404);
  });

  it("shows no KVM view of a VM that ended in between", async () => {
    const path = await face.vm();
    face.control.refuse("describe", new ServiceError("vm-gone", "It ended."));
    expect((await face.call("get", path).expect(200)).body.kvm).toBeNull();
  });
});

describe("capabilities", () => {
  it("checks by name and by number; an unknown number reads 0", async () => {
    const path = await face.vm();
    const named = await face.call("get", `${path}/capabilities/KVM_CAP_NR_MEMSLOTS`).expect(200);
    expect(named.body).toMatchObject({ number: 10, value: 32767 });
    const unknown = await face.call("get", `${path}/capabilities/4294967295`).expect(200);
    expect(unknown.body).toMatchObject({ name: null, number: 4294967295, value: 0 });
    const nobody = await face.call("get", `${path}/capabilities/KVM_CAP_NOBODY`);
    expect(nobody.body).toMatchObject({ status: 404, code: "capability-not-found" });
    const refused = await face.call("get", "/v1/host/capabilities/131");
    expect(refused.body).toMatchObject({ status: 422, errno: "EINVAL" });
  });

  it("fills args with zeros", async () => {
    const path = await face.vm();
    const answer = await face
      .call("put", `${path}/capabilities/168`)
      .send({ args: ["3"] })
      .expect(200);
    expect(answer.body.args).toEqual(["0x3", "0x0", "0x0", "0x0"]);
    expect(face.control.calls.at(-1)?.args).toEqual({ cap: 168, flags: 0, args: [3n, 0n, 0n, 0n] });
    face.control.refuse("enableCap", new KvmError("E2BIG", "KVM_ENABLE_CAP", "Too big."));
    const refused = await face.call("put", `${path}/capabilities/223`).send({ args: ["0x200000"] });
    expect(refused.body).toMatchObject({ status: 422, errno: "E2BIG", errnoValue: 7 });
  });
});

describe("downloads", () => {
  it("gives statistics as a file or decoded", async () => {
    const path = await face.vm();
    const file = await face.call("get", `${path}/stats`).expect(200);
    expect(file.headers["content-type"]).toBe("application/octet-stream");
    const json = await face.call("get", `${path}/vcpus/0/stats`).set("accept", "application/json");
    expect(json.body).toMatchObject({ id: "kvm-1", stats: [{ name: "exits", values: ["0x2a"] }] });
    await face.call("get", `${path}/stats`).set("accept", "image/png").expect(406);
  });

  it("gives the input log as an attachment", async () => {
    const path = await face.vm();
    const answer = await face.call("get", `${path}/inputs`).expect(200);
    expect(answer.headers["content-disposition"]).toMatch(/^attachment; filename="vm_/);
  });
});
