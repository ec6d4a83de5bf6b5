// Goal: no request, however odd, gets an undocumented answer or a 5xx that is not allowed.
// Method: fast-check draws requests from the document's own schemas; every answer is checked.
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Fuzz } from "../support/fuzz.js";
import { type Face, openFace } from "../support/http.js";

type Json = Record<string, unknown>;

let face: Face;
let document: Json;
beforeAll(async () => {
  face = await openFace();
  document = (await fetch(`${face.origin}/openapi.json`).then((r) => r.json())) as Json;
});
afterAll(() => face.close());

/** A long poll that nothing ends would only cost time. */
const withoutWait = (url: string) => url.replace(/wait=[0-9]+/g, "wait=0");

const ALLOWED = [501, 503, 507];
const RUNS_PER_OPERATION = 25;

it("answers every drawn request as documented", async () => {
  const fuzz = new Fuzz(document);
  const vm = (await face.vm()).split("/").at(-1) ?? "";
  const eventfd = (await face.call("post", "/v1/eventfds").send({})).body.id as string;
  const names = { vm: [vm, vm, vm, "vm_nobody"], id: ["1", eventfd], cap: ["10", "KVM_CAP_X"] };
  for (const [path, item] of Object.entries(document["paths"] as Record<string, Json>)) {
    for (const [method, op] of Object.entries(item)) {
      // A stream would wait, and these end the VM that the others use.
      const { operationId } = op as { operationId: string };
      if (["deleteVm", "stopVm"].includes(operationId)) continue;
      const requests = fuzz.request(path, method, op as Json, names);
      await fc.assert(
        fc.asyncProperty(requests, async ({ url, method: verb, headers, body }) => {
          const answer = await fetch(`${face.origin}${withoutWait(url)}`, {
            method: verb,
            headers: { ...headers, prefer: "wait=0" },
            body: body as never,
          });
          const bytes = Buffer.from(await answer.arrayBuffer());
          const isJson = answer.headers.get("content-type")?.includes("json") === true;
          expect(answer.status < 500 || ALLOWED.includes(answer.status), String(bytes)).toBe(true);
          face.contract.check(verb, url, {
            status: answer.status,
            headers: Object.fromEntries(answer.headers),
            body: isJson ? JSON.parse(bytes.toString()) : bytes,
            text: bytes.toString(),
          });
        }),
        { numRuns: RUNS_PER_OPERATION, seed: 7 },
      );
    }
  }
}, 120_000);
