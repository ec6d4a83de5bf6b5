// Goal: what surrounds the resources: idempotency, health, drain, metrics, problems, documents.
// Method: supertest over fake services; every answer is checked against the document.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Face, openFace } from "../support/http.js";

let face: Face;
beforeEach(async () => {
  face = await openFace();
});
afterEach(() => face.close());

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("Idempotency-Key", () => {
  it("replays the first answer", async () => {
    const post = (body: object) =>
      face.call("post", "/v1/vms").set("idempotency-key", "k1").send(body);
    const first = await post({ name: "a" }).expect(201);
    const second = await post({ name: "a" }).expect(201);
    expect(second.body).toEqual(first.body);
    expect(second.headers["location"]).toBe(first.headers["location"]);
    expect(second.headers["etag"]).toBe(first.headers["etag"]);
    expect(second.headers["idempotency-replayed"]).toBe("true");
    expect((await face.call("get", "/v1/vms")).body.items).toHaveLength(1);
    expect((await post({ name: "b" })).body).toMatchObject({
      status: 422,
      code: "idempotency-mismatch",
    });
  });

  it("frees the key of a refused request", async () => {
    const post = (ipaBits: number) =>
      face.call("post", "/v1/vms").set("idempotency-key", "k2").send({ ipaBits });
    await post(20).expect(422);
    await post(40).expect(201);
  });

  it("is not claimed by a request without the documented shape", async () => {
    const post = (body: object) =>
      face.call("post", "/v1/vms").set("idempotency-key", "k3").send(body);
    await post({ nope: 1 }).expect(400);
    await post({}).expect(201);
  });

  it("tells apart the bytes of a body", async () => {
    const vm = await face.vm();
    const url = `${vm}/memslots/0/dirty-log/clears?firstPage=0&numPages=64`;
    const post = (fill: number) =>
      face
        .call("post", url)
        .set("idempotency-key", "k4")
        .type("application/octet-stream")
        .send(Buffer.alloc(8, fill));
    await post(1).expect(200);
    await post(1).expect(200);
    await post(2).expect(422);
  });

  it.each(["", "x".repeat(256), "a b"])("refuses the key %j", async (key) => {
    const answer = await face.call("post", "/v1/vms").set("idempotency-key", key);
    expect(answer.body).toMatchObject({ status: 400, code: "idempotency-key" });
  });
});

describe("health", () => {
  it("tells alive from ready", async () => {
    await face.call("get", "/livez?probe=1").expect(200, { status: "ok" });
    await face.call("get", "/readyz").expect(200);
    face.control.ready = false;
    const answer = await face.call("get", "/readyz");
    expect(answer.body).toMatchObject({ status: 503, code: "not-ready" });
    expect(answer.body.checks.store.ok).toBe(false);
    expect((await face.call("get", "/version").expect(200)).body.kvmApiVersion).toBe(12);
  });

  it("ends waits when it drains, and refuses when it closes", async () => {
    const vm = await face.vm();
    const run = await face.call("post", `${vm}/vcpus/0/runs`);
    const waiting = [
      face.call("get", `${run.headers["location"]}?wait=30`).then((a) => a.body.state),
      face.call("get", `${vm}?wait=30&untilState=failed`).then((a) => a.body.state),
    ];
    await pause(50);
    face.api.lifecycle.drain();
    expect(await Promise.all(waiting)).toEqual(["running", "active"]);
    expect((await face.call("get", "/readyz")).body.detail).toContain("draining");
    await face.call("get", vm).expect(200);
    face.api.lifecycle.close();
    const late = await face.call("get", vm);
    expect(late.body).toMatchObject({ status: 503, code: "draining" });
    await face.call("get", "/livez").expect(200);
  });
});

describe("metrics", () => {
  it("counts requests by operation, under names that keep the rules", async () => {
    await face.call("get", "/v1/vms/nobody");
    const { text } = await face.call("get", "/metrics").expect(200);
    expect(text).toContain('route="/v1/vms/:vm",status="404"} 1');
    expect(text).toContain("tidemark_vms_active 1");
    for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
      expect(name).toMatch(/^(tidemark|process)_[a-z_]+$/);
      expect(name?.endsWith("_total"), name).toBe(type === "counter");
      expect(name).not.toMatch(/_(ms|millis|kib|mib|us)(_|$)/);
    }
  });
});

describe("problems and documents", () => {
  it("has a page for every type", async () => {
    const list = await face.call("get", "/problems").expect(200);
    for (const { code, page } of list.body.items) {
      expect(page.length, code).toBeGreaterThan(5);
      expect((await face.call("get", `/problems/${code}`)).body.code).toBe(code);
    }
    const text = await face.call("get", "/problems/validation").set("accept", "text/plain");
    expect(text.text).toMatch(/^400 validation: /);
    await face.call("get", "/problems/nobody").expect(404);
  });

  it("serves Swagger without anything from elsewhere", async () => {
    const page = await fetch(`${face.origin}/docs`);
    const html = await page.text();
    expect(page.status).toBe(200);
    expect(html).not.toMatch(/(src|href)="https?:/);
    expect(page.headers.get("content-security-policy")).toContain("default-src 'self'");
    expect(page.headers.get("content-security-policy")).not.toContain("upgrade-insecure");
    for (const [, path] of html.matchAll(/(?:src|href)="([^"]+)"/g)) {
      const asset = await fetch(new URL(path ?? "", `${face.origin}/docs`));
      expect(asset.status, path).toBe(200);
      await asset.arrayBuffer();
    }
    const document = await fetch(`${face.origin}/docs/json`).then((r) => r.json());
    expect(document).toEqual(await fetch(`${face.origin}/openapi.json`).then((r) => r.json()));
    expect((await fetch(face.origin, { redirect: "manual" })).headers.get("location")).toBe(
      "/docs",
    );
  });
});
