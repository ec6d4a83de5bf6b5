// Goal: an input log that somebody changed is refused, or replayed as far as it leads; it breaks
// neither its VM nor the service, and what it made can be deleted.
// Method: the log of a VM that did a little of everything, spoilt in one place at a time; every VM
// that comes of it is looked at until its replay has ended. effort.ts says how long.
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { systemClock } from "../../src/base/clock.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";
import { Caller } from "./caller.js";
import type { Json } from "./document.js";
import { effort } from "./effort.js";
import { spoiltCopy } from "./values.js";
import { KINDS, World } from "./world.js";

const MS_PER_RUN = 5000;
const EFFORT = effort(40, MS_PER_RUN);
/** A replay may be one without end: its VM must still be deletable. */
const REPLAY_MS = 2000;
const POLL_MS = 10;

let folder: Awaited<ReturnType<typeof temporary>>;
let service: RealService;
let caller: Caller;
const logs: Json[] = [];

beforeAll(async () => {
  folder = await temporary("inputs");
  service = await startReal({ dataDir: folder.path, env: { MEMORY_BUDGET_MIB: "512" } });
  caller = await Caller.open(service.origin);
  for (const kind of KINDS.filter((name) => name !== "stopped")) {
    const world = await World.build(caller, kind);
    logs.push((await caller.get(`/v1/vms/${world.vm}/inputs`)).json as Json);
    await world.clear();
  }
});
afterAll(async () => {
  await caller?.close();
  await service?.stop();
  await folder?.remove();
});

/** Waits until it has ended, but not for ever. @returns the VM's last state */
async function replayed(at: string): Promise<string> {
  const end = systemClock.monotonicMs() + REPLAY_MS;
  for (;;) {
    const { state, kvm } = (await caller.get(at)).json;
    if (kvm?.replaying !== true || systemClock.monotonicMs() > end) return state;
    await systemClock.sleep(POLL_MS);
  }
}

it("replays as it was", async () => {
  for (const log of logs) {
    const answer = await caller.json("POST", "/v1/vms", { inputs: { log } });
    expect(answer.status, answer.text).toBe(201);
    const at = String(answer.headers["location"]);
    expect(await replayed(at)).toBe("active");
    await caller.send({ method: "DELETE", path: at });
  }
});

it(
  "is refused or replayed, whatever was changed in it",
  async () => {
    const entries = logs.map((log) => log["entries"] as readonly Json[]);
    const changed = fc.nat({ max: logs.length - 1 }).chain((which) => {
      const all = entries[which] ?? [];
      const one = fc
        .nat({ max: all.length - 1 })
        .chain((at) =>
          spoiltCopy(all[at]).map((entry) => all.map((old, i) => (i === at ? entry : old))),
        );
      const moved = fc.shuffledSubarray([...all]);
      const list = fc
        .oneof(one, one, one, moved)
        .map((next) => ({ ...logs[which], entries: next }));
      return fc.oneof(
        { weight: 4, arbitrary: list },
        { weight: 1, arbitrary: spoiltCopy(logs[which]) },
      );
    });
    const outcomes = new Map<string, number>();
    const property = fc.asyncProperty(changed, async (log) => {
      const answer = await caller.json("POST", "/v1/vms", { inputs: { log } });
      let outcome = `${answer.status} ${answer.json.errno ?? answer.json.code ?? ""}`;
      if (answer.status === 201) {
        const at = String(answer.headers["location"]);
        const state = await replayed(at);
        outcome = `201 ${state}`;
        expect(state, JSON.stringify((await caller.get(at)).json.stateReason)).toBe("active");
        const gone = await caller.send({ method: "DELETE", path: at });
        expect(gone.status).toBe(204);
      }
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    });
    await fc.assert(property, EFFORT.parameters);
    if (EFFORT.isTold) console.log(outcomes);
    expect((await caller.get("/v1/host")).json.allocatable.memoryBytes).toBe(512 * 2 ** 20);
    expect(service.output()).not.toMatch(/"level":(50|60)/);
  },
  EFFORT.timeoutMs,
);
