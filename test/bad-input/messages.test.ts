// Goal: messages that are broken below HTTP's surface are refused with a problem or a closed
// connection, change nothing, and cost the service nothing.
// Method: raw sockets against the real service; the VM is looked at after each.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type RealService, startReal, temporary } from "../support/real-service.js";
import { Caller } from "./caller.js";
import { exchange, head, unread } from "./raw.js";
import { World } from "./world.js";

const JSON_TYPE = "Content-Type: application/json";
const OCTETS = "Content-Type: application/octet-stream";
const CHUNKED = "Transfer-Encoding: chunked";
const SMALL_BODY_MIB = 1;

let folder: Awaited<ReturnType<typeof temporary>>;
let service: RealService;
let caller: Caller;
let world: World;
let before: string;

beforeAll(async () => {
  folder = await temporary("messages");
  const env = { BINARY_BODY_MIB: String(SMALL_BODY_MIB), JSON_BODY_KIB: "64" };
  service = await startReal({ dataDir: folder.path, env });
  caller = await Caller.open(service.origin);
  world = await World.build(caller, "legacy");
});
beforeEach(async () => {
  before = await world.look();
});
afterAll(async () => {
  await caller?.close();
  await service?.stop();
  await folder?.remove();
});

async function expectUnchanged(): Promise<void> {
  expect((await world.look()) === before).toBe(true);
}

const contentPath = () => `/v1/vms/${world.vm}/memory-objects/1/content?offset=0x0`;

describe("a body that is cut", () => {
  const slot = () => `/v1/vms/${world.vm}/memslots/9`;
  const text = '{"guestPhysAddr":"0x10000000","memorySize":"0x1000","memoryObjectId":1}';

  it.each(["half-close", "destroy"] as const)("by Content-Length, then %s", async (then) => {
    const lines = [JSON_TYPE, "Content-Length: 71", "Idempotency-Key: cut"];
    const answer = await exchange(
      service.port,
      [head("PUT", slot(), ...lines), text.slice(0, 30)],
      then,
    );
    if (then === "half-close") expect(answer).toMatchObject({ status: 400, code: "body-cut" });
    await expectUnchanged();
  });

  it.each(["half-close", "destroy"] as const)("in the middle of a chunk, then %s", async (then) => {
    for (const type of [JSON_TYPE, OCTETS]) {
      const answer = await exchange(
        service.port,
        [head("PUT", contentPath(), type, CHUNKED), `40\r\n${"x".repeat(20)}`],
        then,
      );
      if (then === "half-close") expect(answer.status).toBe(400);
    }
    await expectUnchanged();
  });

  it("between chunks, without the last one", async () => {
    const pieces = [head("PUT", contentPath(), OCTETS, CHUNKED), "4\r\nabcd\r\n"];
    const answer = await exchange(service.port, pieces, "half-close");
    expect(answer.status).toBe(400);
    await expectUnchanged();
  });

  it("frees its Idempotency-Key", async () => {
    const path = `/v1/vms/${world.vm}/coalesced-zones`;
    const lines = [JSON_TYPE, "Content-Length: 50", "Idempotency-Key: again"];
    await exchange(service.port, [head("POST", path, ...lines), '{"addr"'], "destroy");
    const body = { addr: "0x0", size: 0 };
    const answer = await caller.json("POST", path, body, { "idempotency-key": "again" });
    expect(answer.status).toBe(201);
  });
});

describe("malformed framing", () => {
  const framings: readonly (readonly [name: string, lines: string[], body: string])[] = [
    ["a chunk size that is no number", [CHUNKED], "zz\r\nabcd\r\n0\r\n\r\n"],
    ["a negative chunk size", [CHUNKED], "-4\r\nabcd\r\n0\r\n\r\n"],
    ["a chunk size beyond 64 bits", [CHUNKED], "ffffffffffffffffff\r\nabcd\r\n0\r\n\r\n"],
    ["a chunk longer than its size", [CHUNKED], "2\r\nabcd\r\n0\r\n\r\n"],
    ["a size without its line end", [CHUNKED], "4abcd\r\n0\r\n\r\n"],
    ["both framings at once", [CHUNKED, "Content-Length: 4"], "4\r\nabcd\r\n0\r\n\r\n"],
    ["two lengths", ["Content-Length: 4", "Content-Length: 5"], "abcde"],
    ["a length that is no number", ["Content-Length: four"], "abcd"],
    ["a negative length", ["Content-Length: -4"], "abcd"],
    ["an unknown transfer coding", ["Transfer-Encoding: zip"], "abcd"],
    ["an obsolete line fold", ["X-A: b\r\n c: d", "Content-Length: 0"], ""],
    ["a space before a colon", ["X-A : b", "Content-Length: 0"], ""],
    ["a NUL in a header", ["X-A: b\u0000c", "Content-Length: 0"], ""],
  ];

  it.each(framings)("refuses %s", async (_name, lines, body) => {
    const answer = await exchange(
      service.port,
      [head("PUT", contentPath(), OCTETS, ...lines), body],
      "half-close",
    );
    expect(answer.text).toContain("application/problem+json");
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.status).toBeLessThan(500);
    await expectUnchanged();
  });

  it("serves no request that was smuggled behind a refused one", async () => {
    const hidden = head("DELETE", `/v1/vms/${world.vm}`);
    const lines = [CHUNKED, "Content-Length: 6", OCTETS];
    const pieces = [head("PUT", contentPath(), ...lines), `0\r\n\r\n${hidden}`];
    const answer = await exchange(service.port, pieces, "half-close");
    expect(answer.text.match(/^HTTP\/1\.1 /gm)).toHaveLength(1);
    await expectUnchanged();
  });
});

describe("sizes", () => {
  it("refuses headers and URLs that are too large", async () => {
    const many = Array.from({ length: 3000 }, (_x, i) => `X-${i}: ${i}`);
    const inputs = [
      head("GET", "/livez", `X-Big: ${"x".repeat(40_000)}`),
      head("GET", "/livez", ...many),
      head("GET", `/v1/vms?cursor=${"x".repeat(40_000)}`),
      head("GET", `/v1/vms/${"x".repeat(40_000)}`),
    ];
    for (const input of inputs) {
      const { status, text } = await exchange(service.port, [input], "half-close");
      expect([414, 431]).toContain(status);
      expect(text).toContain("application/problem+json");
    }
  });

  it("refuses a body over the limit before it is sent", async () => {
    const huge = `Content-Length: ${2 ** 52}`;
    for (const type of [OCTETS, JSON_TYPE]) {
      const started = head("PUT", contentPath(), type, huge, "Connection: close");
      const answer = await exchange(service.port, [started]);
      expect(answer).toMatchObject({ status: 413, code: "body-too-large" });
    }
    await expectUnchanged();
  });

  it("counts a chunked body that never ends", async () => {
    const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
    const pieces = Array.from({ length: 40 }, () => chunk);
    const answer = await exchange(service.port, [
      head("PUT", contentPath(), OCTETS, CHUNKED),
      ...pieces,
    ]);
    // The connection may be reset while we still write, and its answer be lost with it.
    expect([413, null]).toContain(answer.status);
    await expectUnchanged();
  });

  it("takes a body of exactly the limit, in any number of pieces", async () => {
    const bytes = Buffer.alloc(SMALL_BODY_MIB * 2 ** 20, 7);
    const whole = [
      head("PUT", contentPath(), OCTETS, `Content-Length: ${bytes.length}`, "Connection: close"),
    ];
    expect(await exchange(service.port, [...whole, bytes])).toMatchObject({ status: 204 });
    const at = `/v1/vms/${world.vm}/memory-objects/1/content`;
    const read = await caller.send({
      method: "GET",
      path: at,
      headers: { range: "bytes=0-1048575" },
    });
    expect(read.bytes.equals(bytes)).toBe(true);
  });
});

describe("what is no request", () => {
  it.each([
    ["another protocol", "\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc"],
    ["HTTP/2 without agreement", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ["an unknown method", "BREW /v1/vms HTTP/1.1\r\nHost: x\r\n\r\n"],
    ["no Host", "GET /livez HTTP/1.1\r\n\r\n"],
    ["an absolute URL that can't be one", "GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n"],
    ["a tunnel", "CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n"],
    ["a version of the future", "GET /livez HTTP/9.9\r\nHost: x\r\n\r\n"],
  ])("answers or closes on %s", async (_name, text) => {
    const { status } = await exchange(service.port, [text], "half-close");
    expect(status === null || (status >= 400 && status < 500)).toBe(true);
    await expectUnchanged();
  });

  it("waits for no slow sender while others are served", async () => {
    const slow = await Promise.all(
      Array.from({ length: 50 }, () => unread(service.port, "/v1/vms", "Content-Le")),
    );
    expect((await caller.get("/v1/vms")).status).toBe(200);
    for (const socket of slow) socket.destroy();
    await expectUnchanged();
  });

  it("is still well", async () => {
    expect((await caller.get("/readyz")).status).toBe(200);
    expect(service.output()).not.toMatch(/"level":(50|60)/);
  });
});
