// Goal: named bad requests, each told as the problem it is, none of them changing anything.
// Method: the real service; all that can be seen of a VM is compared around each case.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RealService, startReal, temporary } from "../support/real-service.js";
import { type Answer, Caller, told } from "./caller.js";
import { type Json, type Operation, operationsOf } from "./document.js";
import { World } from "./world.js";

const U64_MAX = "0xffffffffffffffff";
const U32_MAX = 0xffff_ffff;
const EIB = "0x1000000000000000";
const OCTETS = { "content-type": "application/octet-stream" };

let folder: Awaited<ReturnType<typeof temporary>>;
let service: RealService;
let caller: Caller;
let operations: readonly Operation[];
let world: World;
let at: string;

beforeAll(async () => {
  folder = await temporary("requests");
  const env = { MEMORY_BUDGET_MIB: "512", INPUT_LOG_ENTRIES: "0" };
  service = await startReal({ dataDir: folder.path, env });
  caller = await Caller.open(service.origin);
  operations = operationsOf((await caller.get("/openapi.json")).json);
  world = await World.build(caller, "manual");
  at = `/v1/vms/${world.vm}`;
});
afterAll(async () => {
  await caller?.close();
  await service?.stop();
  await folder?.remove();
});

/** Makes the request and sees that it is refused so, and that nothing moved. */
async function refused(request: () => Promise<Answer>, expected: object): Promise<Answer> {
  const before = await world.look();
  const answer = await request();
  expect(answer.json).toMatchObject(expected);
  expect(answer.status).toBeGreaterThanOrEqual(400);
  expect(await world.look()).toBe(before);
  return answer;
}

describe("sizes beyond everything", () => {
  it("refuses a slot of 1 EiB, wherever it begins", async () => {
    for (const guestPhysAddr of ["0x0", EIB, "0xf000000000000000"]) {
      for (const flags of [0, 1, 2]) {
        const body = { guestPhysAddr, memorySize: EIB, userspaceAddr: "0x100000000000", flags };
        const request = () => caller.json("PUT", `${at}/memslots/7`, body);
        await refused(request, { status: 422, errno: "EINVAL" });
      }
    }
  });

  it("refuses memory of 1 EiB, real or computed", async () => {
    for (const backing of ["ram", "unbacked"]) {
      const request = () => caller.json("POST", `${at}/memory-objects`, { size: EIB, backing });
      await refused(request, { status: 507, errno: "ENOMEM" });
    }
  });

  it("refuses more memory than the budget without taking any of it", async () => {
    for (const size of ["0x20000000", "0x40000000", "0xe0000000"]) {
      const request = () => caller.json("POST", `${at}/memory-objects`, { size });
      await refused(request, { status: 507 });
    }
  });

  it("refuses a bitmap whose length does not fit its pages", async () => {
    const path = `${at}/memslots/0/dirty-log/clears`;
    const wrong = { status: 400, code: "bitmap-length" };
    for (const [numPages, length] of [
      [256, 0],
      [256, 31],
      [256, 33],
      [256, 40],
      [1, 0],
      [U32_MAX, 32],
    ]) {
      const query = `firstPage=0x0&numPages=${numPages}`;
      const body = Buffer.alloc(length ?? 0, 0xff);
      await refused(
        () => caller.send({ method: "POST", path: `${path}?${query}`, headers: OCTETS, body }),
        wrong,
      );
      const json = { firstPage: "0x0", numPages, base64: body.toString("base64") };
      await refused(() => caller.json("POST", path, json), wrong);
    }
  });

  it("refuses to clear outside the slot", async () => {
    const path = `${at}/memslots/0/dirty-log/clears`;
    for (const [firstPage, numPages] of [
      ["0x1", 64],
      ["0x40", 256],
      ["0x140", 0],
      [U64_MAX, 64],
      ["0xffffffffffffffc0", 64],
      ["0x0", 320],
    ]) {
      const body = { firstPage, numPages, ranges: [[0, 1]] };
      const request = () => caller.json("POST", path, { ...body, ranges: [] });
      await refused(request, { status: 422, errno: "EINVAL" });
    }
  });

  it("refuses more labels than a VM may have, also one by one", async () => {
    const some = (from: number, n: number) =>
      Object.fromEntries(Array.from({ length: n }, (_x, i) => [`l${from + i}`, "x"]));
    await caller.json("PATCH", at, { labels: some(0, 60) });
    await refused(() => caller.json("PATCH", at, { labels: some(60, 60) }), { status: 400 });
    await refused(() => caller.json("POST", "/v1/vms", { labels: some(0, 65) }), { status: 400 });
  });
});

/** The largest value of a schema's shape. */
function largest(schema: Json): unknown {
  if ("const" in schema) return schema["const"];
  const anyOf = schema["anyOf"] as readonly Json[] | undefined;
  if (anyOf?.[0] !== undefined) return largest(anyOf[0]);
  switch (schema["type"]) {
    case "integer":
    case "number":
      return schema["maximum"] ?? Number.MAX_SAFE_INTEGER;
    case "string":
      return String(schema["pattern"] ?? "").startsWith("^(0x") ? U64_MAX : "ffffffff";
    case "array": {
      const n = Math.max(1, Number(schema["minItems"] ?? 1));
      return Array.from({ length: n }, () => largest((schema["items"] ?? {}) as Json));
    }
    case "object": {
      const properties = Object.entries((schema["properties"] ?? {}) as Record<string, Json>);
      return Object.fromEntries(properties.map(([name, value]) => [name, largest(value)]));
    }
    default:
      return true;
  }
}

describe("2^64 - 1", () => {
  it("everywhere at once is answered as documented, and a refusal changes nothing", async () => {
    const skipped = new Set(["deleteVm", "stopVm", "listEvents"]);
    for (const op of operations.filter(({ id }) => !skipped.has(id))) {
      const path = op.path.replace(/\{(\w+)\}/g, (_all, name: string) => {
        return name === "vm" ? world.vm : String(U32_MAX);
      });
      const query = op.parameters
        .filter((parameter) => parameter.in === "query" && parameter.name !== "wait")
        .map(({ name, schema }) => `${name}=${encodeURIComponent(String(largest(schema)))}`);
      for (const body of op.bodies.length === 0 ? [null] : op.bodies) {
        const isBytes = body?.type === "application/octet-stream";
        const text = body === null ? undefined : JSON.stringify(largest(body.schema));
        const message = {
          method: op.method,
          path: query.length === 0 ? path : `${path}?${query.join("&")}`,
          headers: body === null ? {} : { "content-type": body.type },
          body: isBytes ? Buffer.alloc(64, 0xff) : text,
        };
        const before = await world.look();
        const answer = await caller.send(message);
        if (answer.status < 400) continue;
        expect(await world.look(), told(message, answer)).toBe(before);
      }
    }
  });

  it("in one field at a time of what KVM would take is KVM's to refuse", async () => {
    const good = {
      guestPhysAddr: "0x80000000",
      memorySize: "0x1000",
      userspaceAddr: "0x100000000000",
    };
    for (const name of Object.keys(good)) {
      const body = { ...good, [name]: U64_MAX };
      const request = () => caller.json("PUT", `${at}/memslots/7`, body);
      await refused(request, { status: 422, errno: "EINVAL" });
    }
    const made = await caller.json("PUT", `${at}/memslots/7`, good);
    expect(made.status).toBe(201);
  });

  it("as an eventfd's count, and as what is added to it", async () => {
    const einval = { status: 422, errno: "EINVAL" };
    await refused(() => caller.json("POST", "/v1/eventfds", { count: U64_MAX }), einval);
    const full = await caller.json("POST", "/v1/eventfds", { count: "0xfffffffffffffffe" });
    const writes = `/v1/eventfds/${full.json.id}/writes`;
    await refused(() => caller.json("POST", writes, { value: U64_MAX }), einval);
    await refused(() => caller.json("POST", writes, { value: "0x1" }), { status: 409 });
  });

  it("plus one is no u64", async () => {
    for (const text of ["18446744073709551616", "0x10000000000000000"]) {
      const body = { guestPhysAddr: text, memorySize: "0x1000" };
      const request = () => caller.json("PUT", `${at}/memslots/7`, body);
      await refused(request, { status: 400, code: "validation" });
    }
  });
});

describe("names", () => {
  it.each([
    "__proto__",
    "constructor",
    "..",
    "../host",
    "%2e%2e",
    "..%2fhost",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%5c..%5c",
    "%00",
    "vm_%00",
    "x".repeat(64),
    "x".repeat(65),
    "x".repeat(300),
    "%F0%9F%99%82",
    "%ff",
    "%zz",
    "vm_*",
    "vm_' OR 1=1 --",
  ])("of nothing: %.40s", async (name) => {
    const segment = name.includes(" ") ? encodeURIComponent(name) : name;
    for (const path of [
      `/v1/vms/${segment}`,
      `${at}/capabilities/${segment}`,
      `/v1/eventfds/${segment}`,
    ]) {
      const answer = await refused(() => caller.get(path), {});
      expect([400, 404, 414], path).toContain(answer.status);
    }
  });

  it("that poison prototypes are refused in bodies and mean nothing elsewhere", async () => {
    const headers = { "content-type": "application/json" };
    for (const body of [
      '{"__proto__":{"name":"x"}}',
      '{"labels":{"__proto__":"x"}}',
      '{"constructor":{"prototype":{"name":"x"}}}',
      '{"inputs":{"log":{"__proto__":{"version":1}}}}',
    ]) {
      const request = () => caller.send({ method: "POST", path: "/v1/vms", headers, body });
      await refused(request, { status: 400 });
    }
    for (const query of ["__proto__=1", "constructor=1", "__proto__[limit]=1", "limit[]=1"]) {
      await refused(() => caller.get(`/v1/vms?${query}`), { status: 400 });
    }
    const labels = { constructor: "a", toString: "b", hasOwnProperty: "c" };
    const made = await caller.json("POST", "/v1/vms", { labels });
    expect(made.json.labels).toEqual(labels);
    const found = await caller.get("/v1/vms?label=constructor=a&label=toString=b");
    expect(found.json.items).toHaveLength(1);
    expect((await caller.get("/v1/vms?label=valueOf=")).json.items).toEqual([]);
    await caller.send({ method: "DELETE", path: `/v1/vms/${made.json.id}` });
  });

  it("given twice in a query are refused", async () => {
    for (const path of [
      `${at}/stage2?ipa=0x0&ipa=0x1000`,
      `${at}/memslots?limit=1&limit=2`,
      `${at}/physical-memory?gpa=0x0&length=8&length=9`,
      `${at}/vcpus/0/program?from=0&from=0`,
      "/v1/events?after=1&after=2",
    ]) {
      await refused(() => caller.get(path), { status: 400, code: "validation" });
    }
  });
});

describe("bodies", () => {
  it.each(["null", " null ", "[]", "0", '""', "true"])("that are no object: %s", async (body) => {
    const headers = { "content-type": "application/json" };
    for (const path of ["/v1/vms", "/v1/eventfds", `${at}/vcpus/0/runs`]) {
      const request = () => caller.send({ method: "POST", path, headers, body });
      await refused(request, { status: 400, code: "validation" });
    }
  });

  it.each([100, 5000, 500_000])("nested %i levels deep", async (depth) => {
    const deep = "[".repeat(depth) + "]".repeat(depth);
    for (const body of [deep, `{"labels":${deep}}`, `{"inputs":{"log":{"x":${deep}}}}`]) {
      for (const more of [{}, { "idempotency-key": `deep-${depth}` }]) {
        const headers = { "content-type": "application/json", ...more };
        const request = () => caller.send({ method: "POST", path: "/v1/vms", headers, body });
        await refused(request, { status: 400, code: "validation" });
      }
    }
  });

  it("with a hundred thousand unknown fields are refused as quickly as with one", async () => {
    const fields = Array.from({ length: 100_000 }, (_x, i) => [`k${i}`, 1]);
    const wide = Object.fromEntries(fields);
    const answer = await refused(() => caller.json("POST", "/v1/vms", wide), { status: 400 });
    expect(answer.json.errors.length).toBeLessThan(100);
    expect(answer.json.errors[0].pointer).toBe("/k0");
  });

  it("starting what runs already changes nothing, whatever is bound to it", async () => {
    const before = await world.look();
    expect((await caller.json("POST", `${at}:start`)).status).toBe(200);
    expect(await world.look()).toBe(before);
  });
});

describe("media types", () => {
  it.each([
    "text/plain",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/vnd.tidemark+json",
    "application/jsonx",
    "json",
    ";",
    "*/*",
  ])("refuses a body of type %s", async (type) => {
    const message = {
      method: "POST",
      path: "/v1/vms",
      headers: { "content-type": type },
      body: "{}",
    };
    const answer = await refused(() => caller.send(message), { status: 415 });
    expect(answer.json.accepts).toEqual(["application/json"]);
  });

  it("refuses what it can't answer in", async () => {
    for (const accept of ["image/png", "text/html", "application/json;q=0", "nonsense"]) {
      const path = `${at}/memslots/0/dirty-log`;
      const message = { method: "GET", path, headers: { accept } };
      const isOctetsFine = accept === "application/json;q=0";
      const expected = { status: 406, code: "not-acceptable" };
      if (!isOctetsFine) await refused(() => caller.send(message), expected);
    }
  });
});

describe("Idempotency-Key", () => {
  const key = (name: string) => ({ "idempotency-key": `${name}-${world.vm}` });

  it("used again for another request is refused, for the same one replayed", async () => {
    const path = `${at}/memory-objects`;
    const first = await caller.json("POST", path, { size: "0x1000" }, key("a"));
    expect(first.status).toBe(201);
    const again = await caller.json("POST", path, { size: "0x1000" }, key("a"));
    expect(again.text).toBe(first.text);
    expect(again.headers["location"]).toBe(first.headers["location"]);
    expect(again.headers["idempotency-replayed"]).toBe("true");
    const mismatch = { status: 422, code: "idempotency-mismatch" };
    await refused(() => caller.json("POST", path, { size: "0x2000" }, key("a")), mismatch);
    await refused(() => caller.json("POST", "/v1/eventfds", {}, key("a")), mismatch);
    await refused(() => caller.json("POST", `${path}?x=1`, { size: "0x1000" }, key("a")), {
      status: 400,
    });
  });

  it("sent many times at once makes one thing", async () => {
    const send = () => caller.json("POST", "/v1/vms", { name: "once" }, key("many"));
    const answers = await Promise.all(Array.from({ length: 20 }, send));
    const made = answers.filter(({ status }) => status === 201);
    const others = answers.filter(({ status }) => status !== 201);
    expect(made.length).toBeGreaterThan(0);
    expect(new Set(made.map(({ json }) => json.id)).size).toBe(1);
    for (const { json } of others) expect(json.code).toBe("idempotency-running");
    const { items } = (await caller.get("/v1/vms?limit=1000")).json;
    const once = items.filter(({ name }: { name: string }) => name === "once");
    expect(once).toHaveLength(1);
    await caller.send({ method: "DELETE", path: `/v1/vms/${once[0].id}` });
  });

  it.each(["", " ", "k".repeat(256), "with space", "é"])(
    "malformed is refused: '%.20s'",
    async (text) => {
      const headers = { "idempotency-key": text };
      const request = () => caller.json("POST", "/v1/eventfds", {}, headers);
      const before = await world.look();
      const answer = await request();
      if (text.trim() === "") return; // An empty header may count as none.
      expect(answer.json).toMatchObject({ status: 400, code: "idempotency-key" });
      expect(await world.look()).toBe(before);
    },
  );

  it("of a refused request is free again", async () => {
    const path = `${at}/coalesced-zones`;
    const bad = await caller.json("POST", path, { addr: "0x0", size: 2, pio: 2 }, key("free"));
    expect(bad.status).toBe(422);
    const good = await caller.json("POST", path, { addr: "0x0", size: 2 }, key("free"));
    expect(good.status).toBe(201);
  });
});
