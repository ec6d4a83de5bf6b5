// Goal: whatever is wrong with a request is told as a documented problem, never as a 5xx.
// Method: malformed, cut, oversized and mislabelled messages over a real socket.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Face, openFace, sendRaw } from "../support/http.js";

let face: Face;
let vm: string;
beforeAll(async () => {
  face = await openFace({ jsonBodyBytes: 4096, binaryBodyBytes: 64 * 1024 });
  vm = await face.vm();
});
afterAll(() => face.close());

function problemIn(raw: string): { status: number; code: string } {
  const status = Number(raw.split(" ")[1]);
  const body = JSON.parse(raw.slice(raw.indexOf("\r\n\r\n") + 4)) as { code: string };
  return { status, code: body.code };
}

describe("bodies", () => {
  it("refuses what is not JSON", async () => {
    const answer = await face
      .call("post", "/v1/vms")
      .set("content-type", "application/json")
      .send("{nope");
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: "malformed-json", status: 400 });
    expect(answer.headers["content-type"]).toContain("application/problem+json");
  });

  it("refuses a key that would poison a prototype", async () => {
    const answer = await face
      .call("post", "/v1/vms")
      .set("content-type", "application/json")
      .send('{"__proto__": {"name": "x"}}');
    expect(answer.body).toMatchObject({ code: "malformed-json", status: 400 });
  });

  it("names every unknown field and every wrong one by pointer", async () => {
    const answer = await face.call("post", "/v1/vms").send({ nmae: "x", clock: { mode: 5 } });
    expect(answer.status).toBe(400);
    expect(answer.body.code).toBe("validation");
    const pointers = answer.body.errors.map((error: { pointer: string }) => error.pointer);
    expect(pointers).toContain("/nmae");
    expect(pointers).toContain("/clock/mode");
  });

  it("coerces nothing in a body", async () => {
    const answer = await face.call("put", `${vm}/vcpus/0/mp-state`).send({ mpState: "0" });
    expect(answer.body).toMatchObject({ code: "validation", status: 400 });
  });

  it("refuses other media types with the ones it takes", async () => {
    const answer = await face
      .call("post", "/v1/vms")
      .set("content-type", "text/plain")
      .send("hello");
    expect(answer.status).toBe(415);
    expect(answer.body.accepts).toEqual(["application/json"]);
    const patch = await face.call("patch", vm).send({ name: "x" });
    expect(patch.body).toMatchObject({ code: "unsupported-media-type", status: 415 });
  });

  it("refuses a compressed body", async () => {
    const answer = await face
      .call("post", "/v1/vms")
      .set("content-encoding", "gzip")
      .send({ name: "x" });
    expect(answer.status).toBe(415);
  });

  it("refuses a body where none is taken", async () => {
    const answer = await face.call("post", `${vm}/dirty-rings/resets`).send({ all: true });
    expect(answer.status).toBe(415);
  });

  it("refuses a missing body", async () => {
    const answer = await face.call("put", `${vm}/memslots/0`);
    expect(answer.body).toMatchObject({ code: "body-missing", status: 400 });
  });

  it("takes an empty JSON body as none", async () => {
    const answer = await face
      .call("post", "/v1/vms")
      .set("content-type", "application/json")
      .send("");
    expect(answer.status).toBe(201);
  });

  it("refuses more than the limit, announced or chunked", async () => {
    const json = await face.call("post", "/v1/eventfds").send({ count: "0".repeat(5000) });
    expect(json.body).toMatchObject({ code: "body-too-large", status: 413, limitBytes: 4096 });
    const bytes = await face
      .call("put", `${vm}/memory-objects/1/content?offset=0x0`)
      .set("content-type", "application/octet-stream")
      .send(Buffer.alloc(65 * 1024));
    expect(bytes.body).toMatchObject({ code: "body-too-large", limitBytes: 65536 });
    const chunk = `10000\r\n${"x".repeat(65536)}\r\n`;
    const raw = await sendRaw(
      face.port,
      `PUT ${vm}/memory-objects/1/content?offset=0x0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n` +
        "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n" +
        `${chunk}${chunk}0\r\n\r\n`,
    );
    expect(problemIn(raw)).toEqual({ status: 413, code: "body-too-large" });
  });

  it("tells a body that was cut", async () => {
    for (const type of ["application/json", "application/octet-stream"]) {
      const raw = await sendRaw(
        face.port,
        `PUT ${vm}/memory-objects/1/content?offset=0x0 HTTP/1.1\r\nHost: x\r\n` +
          `Content-Type: ${type}\r\nContent-Length: 100\r\n\r\n{"offset": `,
        true,
      );
      expect(problemIn(raw)).toEqual({ status: 400, code: "body-cut" });
    }
  });
});

describe("messages", () => {
  it("answers nonsense", async () => {
    expect(problemIn(await sendRaw(face.port, "NONSENSE\r\n\r\n")).status).toBe(400);
  });

  it("answers headers that are too large", async () => {
    const raw = await sendRaw(
      face.port,
      `GET /livez HTTP/1.1\r\nHost: x\r\nX-Big: ${"x".repeat(20_000)}\r\n\r\n`,
    );
    expect(problemIn(raw)).toEqual({ status: 431, code: "headers-too-large" });
  });

  it("answers a path that can't be decoded", async () => {
    const answer = await face.call("get", "/v1/vms/%zz");
    expect(answer.body).toMatchObject({ code: "bad-url", status: 400 });
  });

  it("answers a path segment that is too long", async () => {
    const answer = await face.call("get", `/v1/vms/${"v".repeat(300)}`);
    expect(answer.body).toMatchObject({ code: "uri-too-long", status: 414 });
  });

  it("knows unknown paths from wrong methods", async () => {
    const unknown = await face.call("get", "/v2/vms");
    expect(unknown.body).toMatchObject({ code: "route-not-found", status: 404 });
    const wrong = await face.call("put", "/v1/vms");
    expect(wrong.body).toMatchObject({ code: "method-not-allowed", status: 405 });
    expect(wrong.headers["allow"]).toBe("GET, HEAD, POST");
  });

  it("says that KVM can't delete a vCPU", async () => {
    const answer = await face.call("delete", `${vm}/vcpus/0`);
    expect(answer.body).toMatchObject({ code: "no-such-operation", status: 405 });
    expect(answer.headers["allow"]).toContain("PUT");
  });

  it("answers HEAD like GET without a body", async () => {
    const answer = await fetch(`${face.origin}/v1/host`, { method: "HEAD" });
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe("");
  });
});

describe("path and query", () => {
  it.each(["5.7", "0x1", "-1", "4294967296", "1e3", "true"])(
    "refuses %s as a slot",
    async (text) => {
      const answer = await face.call("get", `${vm}/memslots/${text}`);
      expect(answer.body).toMatchObject({ code: "validation", status: 400 });
      expect(answer.body.errors[0].pointer).toBe("/path/slot");
    },
  );

  it.each(["limit=0", "limit=1001", "limit=ten", "limit=1&limit=2", "nope=1", "state=gone"])(
    "refuses ?%s",
    async (query) => {
      const answer = await face.call("get", `/v1/vms?${query}`);
      expect(answer.body).toMatchObject({ code: "validation", status: 400 });
      expect(answer.body.errors[0].pointer).toMatch(/^\/query\//);
    },
  );

  it("refuses a field named __proto__ in the query", async () => {
    const answer = await face.call("get", "/v1/vms?__proto__=1");
    expect(answer.body).toMatchObject({ code: "validation", status: 400 });
  });

  it("refuses a u64 beyond 64 bits", async () => {
    const answer = await face.call("get", `${vm}/stage2?ipa=18446744073709551616`);
    expect(answer.body).toMatchObject({ code: "validation", status: 400 });
    await face.call("get", `${vm}/stage2?ipa=18446744073709551615`).expect(200);
    await face.call("get", `${vm}/stage2?ipa=0xffffffffffffffff`).expect(200);
  });

  it("refuses a cursor of nobody's", async () => {
    const answer = await face.call("get", `${vm}/memslots?cursor=nope`);
    expect(answer.body).toMatchObject({ code: "cursor-invalid", status: 400 });
  });
});

describe("tracing", () => {
  it("continues the caller's trace", async () => {
    const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
    const answer = await face
      .call("get", "/v1/vms/nobody")
      .set("traceparent", `00-${traceId}-00f067aa0ba902b7-01`);
    expect(answer.body.traceId).toBe(traceId);
    expect(answer.headers["traceparent"]).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
    expect(answer.headers["x-request-id"]).toBeDefined();
  });

  it("begins one when the header is no trace", async () => {
    const answer = await face.call("get", "/livez").set("traceparent", "nonsense");
    expect(answer.headers["traceparent"]).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  });

  it("logs a line with the trace, and never a token", async () => {
    await face.call("delete", vm).set("authorization", "Bearer secret-token").expect(204);
    const line = face.lines.map((text) => JSON.parse(text)).find((l) => l.status === 204);
    expect(line).toMatchObject({ method: "DELETE", operation: "deleteVm", level: 30 });
    expect(line.traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(face.lines.join("")).not.toContain("secret-token");
  });
});
