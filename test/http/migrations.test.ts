// Goal: every route of migrations answers as documented, and each refusal with its own problem.
// Method: the HTTP face over services in maps; every answer is checked against the document.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Face, openFace } from "../support/http.js";

const ROOT = "/v1/migrations";
const MERGE_PATCH = "application/merge-patch+json";
const OCTETS = "application/octet-stream";

let face: Face;
let vmId: string;

beforeAll(async () => {
  face = await openFace();
  vmId = (await face.vm()).split("/").at(-1) ?? "";
});
afterAll(() => face.close());

const post = (url: string, body?: object) => face.call("post", url).send(body);

async function made(): Promise<string> {
  const answer = await post(ROOT, { vmId, peer: "local" }).expect(202);
  return String(answer.headers["location"]);
}

describe("/v1/migrations", () => {
  it("takes a job, with where it is and its tag", async () => {
    const body = { vmId, peer: "local", strategy: "stop-and-copy", parameters: { channels: 4 } };
    const answer = await post(ROOT, body).expect(202);
    expect(answer.headers["location"]).toBe(`${ROOT}/${answer.body.id}`);
    expect(answer.headers["etag"]).toMatch(/^"1-/);
    expect(answer.headers["retry-after"]).toBe("1");
    expect(answer.body.parameters).toMatchObject({ strategy: "stop-and-copy", channels: 4 });
    expect(answer.body.links).toMatchObject({ vm: `/v1/vms/${vmId}` });
  });

  it("waits for the end where that is preferred, and no longer than asked", async () => {
    const asked = face.call("post", ROOT).set("prefer", "wait=1").send({ vmId, peer: "local" });
    const answer = await asked.expect(202);
    expect(answer.headers["preference-applied"]).toBe("wait=1");
    const url = String(answer.headers["location"]);
    const waiting = face.call("get", `${url}?wait=30`).then(({ body }) => body.state);
    await post(`${url}:cancel`).expect(200);
    expect(await waiting).toBe("cancelled");
  });

  it("is a dry run with validateOnly", async () => {
    const answer = await post(ROOT, { vmId, peer: "local", validateOnly: true }).expect(200);
    expect(answer.body).toMatchObject({ possible: false, reasons: [{ code: "uuid-taken" }] });
  });

  it.each([
    [{ peer: "local" }, 400, "validation"],
    [{ vmId: "vm_no", peer: "local" }, 404, "vm-not-found"],
    [{ vmId: "@", peer: "http://evil.example" }, 422, "peer-unknown"],
    [{ vmId: "@", peer: "local", strategy: "teleport" }, 400, "validation"],
    [{ vmId: "@", peer: "local", parameters: { channels: 9 } }, 400, "validation"],
    [{ vmId: "@", peer: "local", parameters: { strategy: "hybrid" } }, 400, "validation"],
  ])("refuses %j", async (body, status, code) => {
    const given = "vmId" in body && body.vmId === "@" ? { ...body, vmId } : body;
    const answer = await post(ROOT, given).expect(status);
    expect(answer.body.code).toBe(code);
  });

  it("lists by state, reads one, its rounds and its picture", async () => {
    const url = await made();
    const { body } = await face.call("get", `${ROOT}?state=active&limit=5`).expect(200);
    expect(body.items.length).toBeGreaterThan(0);
    expect((await face.call("get", `${ROOT}?state=gone`)).status).toBe(400);
    const one = await face.call("get", url).expect(200);
    expect(one.body.progress.bytesTotal).toBe(49_152);
    const { items } = (await face.call("get", `${url}/rounds`).expect(200)).body;
    expect(items[0].decision.why).toContain("12 KiB");
    const chart = await face.call("get", `${url}/chart.svg`).buffer(true).expect(200);
    expect(chart.headers["content-type"]).toContain("image/svg+xml");
    const svg = chart.text ?? Buffer.from(chart.body).toString();
    expect(svg).toContain("switchover");
    for (const path of ["", "/rounds", "/chart.svg", "/verdict"]) {
      const answer = await face.call("get", `${ROOT}/mig_no${path}`).expect(404);
      expect(answer.body.code).toBe("migration-not-found");
    }
  });

  it("changes limits by a merge patch at the version that was read", async () => {
    const url = await made();
    const patch = (body: object, tag: string | null = null) => {
      const call = face.call("patch", url).set("content-type", MERGE_PATCH);
      return (tag === null ? call : call.set("if-match", tag)).send(JSON.stringify(body));
    };
    const changed = await patch({ downtimeMs: 5 }, '"1-0"').expect(200);
    expect(changed.body.parameters.downtimeMs).toBe(5);
    expect(changed.headers["etag"]).toMatch(/^"2-/);
    expect((await patch({ downtimeMs: 6 }, '"1-0"').expect(412)).body.code).toBe(
      "precondition-failed",
    );
    expect((await patch({ channels: 2 }).expect(400)).body.code).toBe("validation");
    const plain = face.call("patch", url).send({ downtimeMs: 7 });
    expect((await plain.expect(415)).body.code).toBe("unsupported-media-type");
  });

  it("takes its verbs, until it has ended", async () => {
    const url = await made();
    for (const verb of ["continue", "start-postcopy", "recover"]) {
      await post(`${url}:${verb}`).expect(200);
    }
    const word = { runsOn: "source", reason: "host-b burnt down" };
    const resolved = await post(`${url}:resolve`, word).expect(200);
    expect(resolved.body.resolution).toMatchObject(word);
    expect((await post(`${url}:cancel`).expect(409)).body.code).toBe("migration-ended");
    expect((await post(`${url}:resolve`, { runsOn: "moon", reason: "" })).status).toBe(400);
    await face.call("delete", url).expect(204);
    await face.call("delete", url).expect(404);
  });

  it("is followed as a stream until it ends", async () => {
    const url = await made();
    const answer = await fetch(`${face.origin}${url}`, {
      headers: { accept: "text/event-stream" },
    });
    expect(answer.headers.get("content-type")).toContain("text/event-stream");
    await post(`${url}:continue`).expect(200);
    await post(`${url}:cancel`).expect(200);
    const text = await answer.text();
    const events = [...text.matchAll(/^event: (\S+)$/gm)].map(([, name]) => name);
    expect(events[0]).toBe("migration");
    expect(events.at(-1)).toBe("migration.ended");
    expect(text).toContain('"state":"cancelled"');
    const none = await fetch(`${face.origin}${ROOT}/mig_no`, {
      headers: { accept: "text/event-stream" },
    });
    expect(none.status).toBe(404);
  });

  it("needs scopes of its own", async () => {
    const { createHash } = await import("node:crypto");
    const digest = createHash("sha256").update("reader").digest();
    const row = { name: "reader", scopes: new Set(["vm:read", "vm:write"]), digest };
    const guarded = await openFace({ tokens: [row] });
    try {
      const get = await fetch(`${guarded.origin}${ROOT}`, {
        headers: { authorization: "Bearer reader" },
      });
      expect(get.status).toBe(403);
      expect(((await get.json()) as { scope: string }).scope).toBe("migration:read");
      const offer = await fetch(`${guarded.origin}/v1/incoming-migrations/mig_in:commit`, {
        method: "POST",
        headers: { authorization: "Bearer reader" },
      });
      expect(((await offer.json()) as { scope: string }).scope).toBe("migration:write");
    } finally {
      await guarded.close();
    }
  });
});

describe("/v1/incoming-migrations", () => {
  it("answers an offer, again the same, and a dry run", async () => {
    const { body: document } = await face.call("get", "/openapi.json");
    const { requestBody } = document.paths["/v1/incoming-migrations"].post;
    const { example } = requestBody.content["application/json"];
    const first = await post("/v1/incoming-migrations", example).expect(201);
    const again = await post("/v1/incoming-migrations", example).expect(200);
    expect(again.body).toEqual(first.body);
    const dry = await post("/v1/incoming-migrations", { ...example, validateOnly: true });
    expect([dry.status, dry.body.possible]).toEqual([200, true]);
    const strange = { ...example, passport: { version: 2 } };
    expect((await post("/v1/incoming-migrations", strange).expect(400)).body.code).toBe(
      "validation",
    );
  });

  it("takes state, commit and abort of a session, and refuses with the engine's word", async () => {
    const at = "/v1/incoming-migrations/mig_in";
    await face.call("get", at).expect(200);
    const send = (bytes: number[], query = "") =>
      face
        .call("post", `${at}:finish${query}`)
        .set("content-type", OCTETS)
        .send(Buffer.from(bytes));
    expect((await send([1], "?digest=d1").expect(200)).body).toEqual({ digest: "d1" });
    expect((await send([1]).expect(200)).body).toEqual({ digest: null });
    const refused = await send([]).expect(409);
    expect(refused.body).toMatchObject({ code: "session-refused", reason: "state-mismatch" });
    await post(`${at}:commit`).expect(200);
    await post(`${at}:abort`, { why: "x", unlessReady: true }).expect(200);
    expect((await post("/v1/incoming-migrations/mig_no:commit").expect(404)).body.code).toBe(
      "migration-not-found",
    );
  });

  it("takes images by their hash", async () => {
    const put = (name: string, bytes: number[]) =>
      face
        .call("put", `/v1/incoming-images/${"0".repeat(64)}?name=${name}`)
        .set("content-type", OCTETS)
        .send(Buffer.from(bytes));
    await put("hello", [1]).expect(204);
    expect((await put("hello", []).expect(422)).body.code).toBe("image-hash");
    expect((await put("..%2fetc", [1]).expect(400)).body.code).toBe("validation");
  });
});
