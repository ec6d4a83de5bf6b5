// Goal: whatever is asked, of the documented shape or spoilt, the service answers as documented,
// with no 5xx but the allowed ones, and a refusal or a GET changes nothing.
// Method: random requests made from the document's own schemas, against the real service; all that
// can be seen of the host is compared around each of them. effort.ts says how long.
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type RealService, startReal, temporary } from "../support/real-service.js";
import { Caller } from "./caller.js";
import { type Operation, operationsOf } from "./document.js";
import { effort } from "./effort.js";
import { plans } from "./plans.js";
import { KINDS, World } from "./world.js";

const MS_PER_RUN = 10_000;
const EFFORT = effort(40, MS_PER_RUN);
const REQUESTS_MAX = 25;

let folder: Awaited<ReturnType<typeof temporary>>;
let service: RealService;
let caller: Caller;
let operations: readonly Operation[];

beforeAll(async () => {
  folder = await temporary("schemas");
  // Without an input log, whose entries are charged too, a refusal must not cost a byte.
  const env = { MEMORY_BUDGET_MIB: "512", MAX_VMS: "16", INPUT_LOG_ENTRIES: "0" };
  service = await startReal({ dataDir: folder.path, env });
  caller = await Caller.open(service.origin);
  operations = operationsOf((await caller.get("/openapi.json")).json);
});
afterAll(async () => {
  await caller?.close();
  await service?.stop();
  await folder?.remove();
});

it(
  "refuses without a trace and answers as documented",
  async () => {
    const statuses = new Map<string, number>();
    const requests = fc.array(plans(operations), {
      minLength: 5,
      maxLength: REQUESTS_MAX,
      size: "max",
    });
    const property = fc.asyncProperty(fc.constantFrom(...KINDS), requests, async (kind, list) => {
      const world = await World.build(caller, kind);
      try {
        for (const plan of list) {
          const { status } = await world.hit(plan);
          const name = `${plan.op.id} ${Math.floor(status / 100)}xx`;
          statuses.set(name, (statuses.get(name) ?? 0) + 1);
        }
      } finally {
        await world.clear();
      }
    });
    await fc.assert(property, EFFORT.parameters);
    if (EFFORT.isTold) {
      console.log(
        [...statuses]
          .sort()
          .map(([name, n]) => `${name} ${n}`)
          .join("\n"),
      );
    }
    expect(service.isRunning(), service.output()).toBe(true);
  },
  EFFORT.timeoutMs,
);
