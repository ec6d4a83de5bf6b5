// Goal: kill -9 at any moment loses nothing that was acknowledged, invents nothing, and the service
// says truthfully what became of what ran.
// Method: the real process is killed at random moments while clients change VMs; after each restart
// their books are compared with what is there. CRASH_ROUNDS and CRASH_SEED lengthen it.
import { afterAll, beforeAll, expect, it } from "vitest";
import { systemClock } from "../../src/base/clock.js";
import { Prng } from "../../src/base/prng.js";
import { freePort, type RealService, startReal, temporary } from "../support/real-service.js";
import { Client } from "./client.js";
import { Follower, type Message } from "./follower.js";
import { type Known, type Shape, shapeText } from "./ledger.js";

const ROUNDS = Number(process.env["CRASH_ROUNDS"] ?? 4);
const SEED = BigInt(process.env["CRASH_SEED"] ?? systemClock.nowMs());
const WORK_MS_MIN = 150;
const WORK_MS_MAX = 1200;
const ROUND_MS = 20_000;
/** Until an event that was told is surely seen by a follower. */
const FOLLOW_MS = 5000;

let folder: Awaited<ReturnType<typeof temporary>>;
let port: number;
let service: RealService;
let client: Client;
const prng = new Prng(SEED);
/** Every event that any follower has seen, by id. */
const history = new Map<number, string>();

const start = async () => {
  service = await startReal({ dataDir: folder.path, port });
  await client.connect(service.origin);
};

beforeAll(async () => {
  folder = await temporary("crash");
  port = await freePort();
  client = new Client(prng);
  await start();
});
afterAll(async () => {
  await client?.close();
  await service?.stop();
  await folder?.remove();
});

async function listed(): Promise<
  Map<string, { name: string; state: string; stateReason: string }>
> {
  const { items } = (await client.caller.get("/v1/vms?limit=1000")).json;
  return new Map(items.map((vm: { id: string }) => [vm.id, vm]));
}

/** Every creation whose answer was lost, asked again with its key. */
async function settleCreations(): Promise<void> {
  for (const creation of client.creations) {
    const before = await listed();
    const named = () => [...before].filter(([, { name }]) => name === creation.body.name);
    const headers = { "idempotency-key": creation.key };
    const {
      status,
      json,
      headers: got,
    } = await client.caller.json("POST", "/v1/vms", creation.body, headers);
    const isReplay = got["idempotency-replayed"] === "true";
    if (creation.id !== null) {
      expect({ status, isReplay, id: json.id }).toEqual({
        status: 201,
        isReplay: true,
        id: creation.id,
      });
    } else if (status === 409) {
      expect(json.code).toBe("outcome-unknown");
      expect(named().length).toBeLessThanOrEqual(1);
      for (const [id] of named()) client.know(id, creation.body.name);
    } else {
      expect(status).toBe(201);
      if (isReplay) expect(before.has(json.id)).toBe(true);
      else expect(named()).toEqual([]);
      client.know(json.id, creation.body.name);
    }
  }
  client.creations.length = 0;
}

/** What was acknowledged is there and says what it lost; what is there was asked for. */
async function compareList(): Promise<void> {
  const found = await listed();
  for (const vm of [...client.vms.values()]) {
    const there = found.get(vm.id);
    if (there === undefined) {
      expect(vm.stateUnderWay, `${vm.name} is missing`).toBe("deleted");
      client.vms.delete(vm.id);
      continue;
    }
    const states = vm.state === "stopped" ? ["stopped"] : ["lost"];
    if (vm.stateUnderWay === "stopped") states.push("stopped");
    expect(states, vm.name).toContain(there.state);
    expect([vm.name, vm.nameUnderWay]).toContain(there.name);
    for (const word of ["memory", "vCPU state", "dirty log", "start it"]) {
      expect(there.stateReason).toContain(word);
    }
    if (there.state === "lost") expect(there.stateReason).toContain("ended unexpectedly");
    Object.assign(vm, { name: there.name, nameUnderWay: null, stateUnderWay: null });
    vm.state = "stopped";
  }
  const orphans = [...found.keys()].filter((id) => !client.vms.has(id));
  const asked = new Set(client.creations.filter(({ id }) => id === null).map((c) => c.body.name));
  for (const id of orphans) expect(asked).toContain(found.get(id)?.name);
}

async function shapeOf(at: string): Promise<Shape> {
  const get = async (path: string) =>
    (await client.caller.get(`${at}${path}?limit=1000`)).json.items;
  const { kvm } = (await client.caller.get(at)).json;
  const slots = (await get("/memslots")) as (Shape["slots"][number] & { slot: number })[];
  return {
    manual: kvm.manualDirtyLogProtect,
    objects: (await get("/memory-objects")).map(({ size }: { size: string }) => size),
    vcpus: (await get("/vcpus")).map(({ id }: { id: number }) => id),
    slots: Object.fromEntries(
      slots.map(({ slot, guestPhysAddr, memorySize, flags }) => [
        slot,
        { guestPhysAddr, memorySize, flags },
      ]),
    ),
  };
}

/** Started anew, a VM has the parts that were acknowledged, no run and an empty memory. */
async function compareStarted(vm: Known): Promise<void> {
  const at = `/v1/vms/${vm.id}`;
  const started = await client.caller.json("POST", `${at}:start`);
  expect(started.json, started.text).toMatchObject({ state: "active", stateReason: null });
  const shape = await shapeOf(at);
  const allowed = [vm.shape, vm.shapeUnderWay ?? vm.shape].map(shapeText);
  expect(allowed).toContain(shapeText(shape));
  Object.assign(vm, { shape, shapeUnderWay: null, state: "active" });
  for (const n of shape.vcpus) {
    const vcpu = (await client.caller.get(`${at}/vcpus/${n}`)).json;
    expect(vcpu).toMatchObject({ state: "idle", retired: 0, program: { kind: "none" } });
    expect((await client.caller.get(`${at}/vcpus/${n}/runs`)).json.items).toEqual([]);
    const run = await client.caller.get(`${at}/vcpus/${n}/runs/run_1-1`);
    expect(["run-gone", "run-not-found"]).toContain(run.json.code);
  }
}

/** Ids never go back, never mean another event, and where some are missing a gap says so. */
function checkEvents(messages: readonly Message[], after: number): void {
  expect(messages[0]?.event).toBe("server.ready");
  let last = after;
  let gap: { after: number; next: number } | null = null;
  for (const { id, event, data } of messages.slice(1)) {
    if (event === "gap") {
      expect(data.after).toBe(last);
      gap = data;
      continue;
    }
    const number = Number(id);
    if (gap === null) expect(number).toBe(last + 1);
    else expect(number).toBe(gap.next);
    expect(number).toBeGreaterThan(last);
    const text = JSON.stringify(data);
    expect(history.get(number) ?? text).toBe(text);
    history.set(number, text);
    last = number;
    gap = null;
  }
}

/** Follows from where a follower was before the crash, until the last event is seen. */
async function replayEvents(after: number): Promise<number> {
  const { newest } = (await client.caller.get("/v1/events?limit=1")).json;
  const follower = new Follower(service.origin, String(after));
  const end = systemClock.monotonicMs() + FOLLOW_MS;
  const isThere = () => Number(follower.seen.at(-1)?.id ?? 0) >= newest;
  while (!isThere() && systemClock.monotonicMs() < end) await systemClock.sleep(20);
  await follower.stop();
  expect(isThere()).toBe(true);
  checkEvents(follower.seen, after);
  return newest;
}

/** The list of events knows every state change that was acknowledged. */
async function checkStateChangesAreToldOf(): Promise<void> {
  const created = new Set<string>();
  for (let after = 0; ; ) {
    const { items } = (await client.caller.get(`/v1/events?after=${after}&limit=1000`)).json;
    if (items.length === 0) break;
    for (const { type, subject } of items) if (type === "vm.created") created.add(subject);
    after = items.at(-1).id;
  }
  for (const id of client.vms.keys()) expect(created).toContain(`vms/${id}`);
}

it(
  "what was acknowledged survives kill -9, round after round",
  async () => {
    let seenUpTo = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const follower = new Follower(service.origin, String(seenUpTo));
      const working = client.work();
      await systemClock.sleep(WORK_MS_MIN + prng.below(WORK_MS_MAX - WORK_MS_MIN));
      await service.crash();
      await Promise.all([working, follower.ended]);
      checkEvents(follower.seen, seenUpTo);
      seenUpTo = Number(follower.seen.at(-1)?.id ?? seenUpTo);

      await start();
      await compareList();
      await settleCreations();
      const known = [...client.vms.values()];
      for (const vm of known) await compareStarted(vm);
      seenUpTo = await replayEvents(seenUpTo);
      await checkStateChangesAreToldOf();
      for (const vm of known.slice(4)) {
        await client.caller.send({ method: "DELETE", path: `/v1/vms/${vm.id}` });
        client.vms.delete(vm.id);
      }
      seenUpTo = await replayEvents(seenUpTo);
      expect(service.output()).not.toMatch(/"level":(50|60)/);
    }
  },
  ROUNDS * ROUND_MS,
);

it(
  "a key that was in flight is told to be so, and a lost answer is not given twice",
  async () => {
    const outcomes = new Set<string>();
    for (let round = 0; round < ROUNDS; round++) {
      const body = { name: `flight-${round}`, labels: {} };
      const key = { "idempotency-key": `flight-${round}` };
      const flying = client.caller
        .sendUnchecked({
          method: "POST",
          path: "/v1/vms",
          headers: { "content-type": "application/json", ...key },
          body: JSON.stringify(body),
        })
        .catch(() => null);
      await systemClock.sleep(prng.below(60));
      await service.crash();
      const answer = await flying;
      await start();
      const again = await client.caller.json("POST", "/v1/vms", body, key);
      const isReplay = again.headers["idempotency-replayed"] === "true";
      outcomes.add(again.status === 201 ? (isReplay ? "replayed" : "new") : again.json.code);
      if (answer !== null) expect([isReplay, again.json.id]).toEqual([true, answer.json.id]);
      const named = [...(await listed()).values()].filter(({ name }) => name === body.name);
      expect(named.length).toBeLessThanOrEqual(1);
      if (again.status === 201) expect(named.length).toBe(1);
    }
    const known = ["replayed", "new", "outcome-unknown"];
    expect(known).toEqual(expect.arrayContaining([...outcomes]));
  },
  ROUNDS * ROUND_MS,
);

it("a goodbye is no crash: nothing is lost, and the events go on without a gap", async () => {
  const { newest } = (await client.caller.get("/v1/events?limit=1")).json;
  const made = await client.caller.json("POST", "/v1/vms", { name: "polite" });
  expect(await service.stop(), service.output()).toBe(0);
  await start();
  const vm = (await client.caller.get(`/v1/vms/${made.json.id}`)).json;
  expect(vm).toMatchObject({ name: "polite", state: "stopped" });
  const follower = new Follower(service.origin, String(newest));
  await systemClock.sleep(500);
  await follower.stop();
  checkEvents(follower.seen, newest);
  const types = follower.seen.map(({ event }) => event);
  expect(types).toEqual(expect.arrayContaining(["vm.created", "server.stopped", "server.started"]));
  expect(types).not.toContain("gap");
});
