// Goal: every operation of the document answers as documented: a happy call, an unknown VM, an
// unknown field, an unknown query name, a method that is not offered.
// Method: requests are made from the document's own examples; every answer is checked against it.
import type { Test } from "supertest";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Face, openFace } from "../support/http.js";

type Json = Record<string, unknown>;
type Method = "get" | "put" | "post" | "patch" | "delete";

interface Op {
  readonly id: string;
  readonly method: Method;
  readonly path: string;
  readonly op: Json;
}

interface Parameter {
  readonly $ref?: string;
  readonly name: string;
  readonly in: string;
  readonly required: boolean;
  readonly schema: { readonly examples?: readonly unknown[] };
}

const OCTETS = "application/octet-stream";

let face: Face;
let operations: readonly Op[] = [];

async function readDocument(): Promise<readonly Op[]> {
  const document = (await fetch(`${face.origin}/openapi.json`).then((r) => r.json())) as Json;
  return Object.entries(document["paths"] as Record<string, Json>).flatMap(([path, item]) =>
    Object.entries(item).map(([method, op]) => ({
      id: String((op as Json)["operationId"]),
      method: method as Method,
      path,
      op: op as Json,
    })),
  );
}

beforeAll(async () => {
  face = await openFace();
  operations = await readDocument();
});
afterAll(() => face.close());

/** Names in paths that exist in the fake services. */
async function namesOf(op: Op): Promise<Record<string, string>> {
  const vm = (await face.vm()).split("/").at(-1) ?? "";
  const names: Record<string, string> = { vm, n: "0", slot: "0", index: "3", harvest: "h1" };
  names["line"] = "0:0:0";
  names["cap"] = op.path.startsWith("/v1/host") ? "10" : "KVM_CAP_NR_MEMSLOTS";
  names["code"] = "destructive-read";
  names["id"] = "1";
  names["fault"] = "1";
  names["kind"] = op.path.includes("irqchip") ? "dist" : "v3-dist";
  if (op.path.includes("/eventfds/")) {
    const made = await face.call("post", "/v1/eventfds").send({ count: "0x5" });
    names["id"] = made.body.id;
  }
  if (op.path.includes("/ioeventfds/")) {
    const body = { eventfd: "efd_x", addr: "0x1000", len: 4 };
    const made = await face.call("post", `/v1/vms/${vm}/ioeventfds`).send(body);
    names["id"] = made.body.id;
  }
  if (op.path.includes("/irqfds/")) {
    const made = await face
      .call("post", `/v1/vms/${vm}/irqfds`)
      .send({ eventfd: "efd_x", gsi: 42 });
    names["id"] = made.body.id;
  }
  if (op.path.includes("{run}")) {
    const made = await face.call("post", `/v1/vms/${vm}/vcpus/0/runs`);
    names["run"] = made.body.id;
  }
  if (op.path.includes("{image}")) {
    names["image"] = "hello.flat";
    const put = face.call("put", "/v1/images/hello.flat");
    await put.set("content-type", OCTETS).send(Buffer.from([1, 2, 3]));
  }
  if (op.path.includes("{experiment}")) {
    const workload = { vcpus: 1, bytesPerVcpu: 4096, storesPerRound: 1, rounds: 1 };
    const body = { workload, strategies: [{ tracking: "dbm" }] };
    const made = await face.call("post", "/v1/experiments").send(body);
    names["experiment"] = made.body.id;
  }
  if (op.path.includes("{migration}")) {
    const body = { vmId: vm, peer: "local" };
    const made = await face.call("post", "/v1/migrations").send(body);
    names["migration"] = op.path.includes("incoming") ? "mig_in" : made.body.id;
  }
  if (op.path.includes("{snapshot}")) {
    const made = await face.call("post", `/v1/vms/${vm}/snapshots`).send({ name: "x" });
    names["snapshot"] = made.body.id;
  }
  if (op.path.endsWith("/autosnapshot")) {
    const body = { everySeconds: 60, keep: 2, differential: true };
    await face.call("put", `/v1/vms/${vm}/autosnapshot`).send(body);
  }
  names["sha256"] = "0".repeat(64);
  if (op.path.endsWith("/gdb") && op.method !== "post") {
    await face.call("post", `/v1/vms/${vm}/gdb`).send({ listen: "unix" });
  }
  if (op.id === "getVmDirtyRate") await face.call("post", `/v1/vms/${vm}/dirty-rate`);
  if (op.path.endsWith("/qmp") && op.method !== "post") {
    await face.call("post", `/v1/vms/${vm}/qmp`).send({ listen: "unix" });
  }
  if (op.id === "startVm") await face.call("post", `/v1/vms/${vm}:stop`);
  return names;
}

function urlOf(op: Op, names: Record<string, string>, query: Record<string, string> = {}): string {
  const path = op.path.replace(/\{(\w+)\}/g, (_all, name: string) => names[name] ?? "0");
  const all = new URLSearchParams(query);
  for (const parameter of (op.op["parameters"] ?? []) as Parameter[]) {
    if (parameter.in === "query" && parameter.required && !all.has(parameter.name)) {
      all.set(parameter.name, String(parameter.schema.examples?.[0] ?? "0"));
    }
  }
  const search = all.toString();
  return search === "" ? path : `${path}?${search}`;
}

/** Media type and example of the structured body, if the operation takes one. */
function bodyOf(op: Op): { type: string; example: unknown } | null {
  const content = ((op.op["requestBody"] ?? {}) as Json)["content"] as Record<string, Json>;
  const found = Object.entries(content ?? {}).find(([type]) => type.endsWith("json"));
  return found === undefined ? null : { type: found[0], example: found[1]["example"] };
}

/** The example, of a VM that exists. */
function happyBody(op: Op, names: Record<string, string>): unknown {
  const example = bodyOf(op)?.example as Json | undefined;
  return example?.["vmId"] === undefined ? example : { ...example, vmId: names["vm"] };
}

function send(op: Op, url: string, body: unknown): Test {
  const call = face.call(op.method, url);
  const given = bodyOf(op);
  if (given === null) {
    const takesBytes = JSON.stringify(op.op["requestBody"] ?? {}).includes(OCTETS);
    return takesBytes ? call.set("content-type", OCTETS).send(Buffer.from([1, 2])) : call;
  }
  return call.set("content-type", given.type).send(JSON.stringify(body));
}

const isNotYet = (op: Op) => (op.op["tags"] as string[]).includes("not-yet");

describe("every operation", () => {
  it("is documented with id, tag, summary, description, an example and its problems", () => {
    expect(operations.length).toBeGreaterThan(100);
    const ids = new Set(operations.map(({ id }) => id));
    expect(ids.size).toBe(operations.length);
    for (const { id, op } of operations) {
      expect(op["summary"], id).toMatch(/^[A-Z]/);
      expect(String(op["description"]).length, id).toBeGreaterThan(10);
      const responses = op["responses"] as Record<string, Json>;
      expect(responses["4XX"], id).toBeDefined();
      expect(JSON.stringify(op), id).toMatch(/"examples?"/);
    }
  });

  it("answers a happy call", async () => {
    for (const op of operations) {
      const names = await namesOf(op);
      const answer = await send(op, urlOf(op, names), happyBody(op, names));
      const expected = isNotYet(op) ? [501] : [200, 201, 202, 204];
      expect(expected, `${op.id}: ${answer.text}`).toContain(answer.status);
    }
  });

  it("knows that a VM is unknown", async () => {
    for (const op of operations.filter(({ path }) => path.includes("{vm}"))) {
      const names = { ...(await namesOf(op)), vm: "vm_nobody" };
      const answer = await send(op, urlOf(op, names), bodyOf(op)?.example);
      expect(answer.status, `${op.id}: ${answer.text}`).toBe(404);
      expect(answer.body.code, op.id).toBe("vm-not-found");
    }
  });

  it("refuses an unknown field", async () => {
    for (const op of operations) {
      const body = bodyOf(op);
      if (body === null || isNotYet(op)) continue;
      const names = await namesOf(op);
      const before = face.control.calls.length;
      const answer = await send(op, urlOf(op, names), { ...(body.example as Json), zzz: 1 });
      expect(answer.status, `${op.id}: ${answer.text}`).toBe(400);
      expect(JSON.stringify(answer.body.errors), op.id).toContain("zzz");
      expect(face.control.calls.length, op.id).toBe(before);
    }
  });

  it("refuses an unknown query name", async () => {
    for (const op of operations) {
      if (isNotYet(op) || (op.op["security"] as unknown[]).length === 0) continue;
      const url = urlOf(op, await namesOf(op), { zzz: "1" });
      const answer = await send(op, url, bodyOf(op)?.example);
      expect(answer.status, `${op.id}: ${answer.text}`).toBe(400);
    }
  });

  it("was met with every status that a happy call can have", () => {
    const met = new Set([...face.contract.seen].map((line) => line.split(" ")[0]));
    const missing = operations.map(({ id }) => id).filter((id) => !met.has(id));
    expect(missing).toEqual([]);
  });
});
