// Goal: too much of everything is bounded in memory and time, and the service survives it: ten
// thousand slots, a thousand VMs asked for at once, a VM deleted under load, readers that don't.
// Method: the real service with small limits; its peak memory is read from the system.
// LOAD_VMS=1000 lets it really run that many.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/base/clock.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";
import { type Answer, Caller } from "./caller.js";
import { unread } from "./raw.js";

const VMS_MAX = Number(process.env["LOAD_VMS"] ?? 24);
const VMS_ASKED = 1000;
/** A VM's thread is about 12 MiB; half as much again, and the process itself. */
const PEAK_MIB = 600 + VMS_MAX * 18;
const MS_PER_VM = 2000;
const LONG_MS = 120_000;
const BUDGET_MIB = 1024;

let folder: Awaited<ReturnType<typeof temporary>>;
let service: RealService;
let caller: Caller;
let restingBytes: number;

beforeAll(async () => {
  folder = await temporary("load");
  const env = { MEMORY_BUDGET_MIB: String(BUDGET_MIB), MAX_VMS: String(VMS_MAX) };
  service = await startReal({ dataDir: folder.path, env });
  caller = await Caller.open(service.origin);
  restingBytes = (await caller.get("/v1/host")).json.allocatable.memoryBytes;
});
afterAll(async () => {
  await caller?.close();
  await service?.stop();
  await folder?.remove();
});

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Counts answers by status and code. */
function tally(answers: readonly Answer[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status, json } of answers) {
    const name = status < 400 ? String(status) : `${status} ${json.errno ?? json.code}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** n requests, `width` at a time. */
async function many(n: number, width: number, send: (i: number) => Promise<Answer>) {
  const answers: Answer[] = [];
  let next = 0;
  const lane = async () => {
    while (next < n) answers.push(await send(next++));
  };
  await Promise.all(Array.from({ length: width }, lane));
  return answers;
}

async function newVm(): Promise<string> {
  const answer = await caller.json("POST", "/v1/vms", {});
  expect(answer.status, answer.text).toBe(201);
  return String(answer.headers["location"]);
}

async function made(method: string, path: string, body?: unknown): Promise<Answer> {
  const answer = await caller.json(method, path, body);
  expect(answer.status, `${path}: ${answer.text}`).toBeLessThan(300);
  return answer;
}

/** A VM whose vCPUs store without end over a logged GiB. */
async function busyVm(vcpus: number): Promise<string> {
  const at = await newVm();
  const cap = `${at}/capabilities/KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`;
  await made("PUT", cap, { args: ["0x1"] });
  await made("POST", `${at}/memory-objects`, { size: hex(2 ** 32), backing: "unbacked" });
  const slot = { guestPhysAddr: "0x0", memorySize: hex(2 ** 32), memoryObjectId: 1, flags: 1 };
  await made("PUT", `${at}/memslots/0`, slot);
  for (let n = 0; n < vcpus; n++) {
    await made("PUT", `${at}/vcpus/${n}`);
    const program = {
      kind: "pattern",
      pattern: "uniform",
      base: "0x0",
      bytes: hex(2 ** 32),
      count: 0,
    };
    await made("PUT", `${at}/vcpus/${n}/program`, { ...program, seed: hex(n + 1) });
    await made("POST", `${at}/vcpus/${n}/runs`);
  }
  return at;
}

async function expectAtRest(): Promise<void> {
  const host = (await caller.get("/v1/host")).json;
  expect(host.allocatable).toEqual({ memoryBytes: restingBytes, vms: VMS_MAX });
  expect((await caller.get("/readyz")).status).toBe(200);
  expect(service.output()).not.toMatch(/"level":(50|60)/);
}

describe("a VM", () => {
  it(
    "holds ten thousand slots, lists them, and is built anew with them",
    async () => {
      const at = await newVm();
      await made("POST", `${at}/memory-objects`, { size: hex(2 ** 28), backing: "unbacked" });
      const slots = await many(10_000, 32, (i) => {
        const place = { guestPhysAddr: hex(i * 0x4000), offset: hex(i * 0x4000), flags: i % 2 };
        const body = { ...place, memorySize: "0x2000", memoryObjectId: 1 };
        return caller.json("PUT", `${at}/memslots/${i}`, body);
      });
      expect(tally(slots)).toEqual({ "201": 10_000 });
      const seen = new Set<number>();
      for (let cursor: string | null = ""; cursor !== null; ) {
        const more: string = cursor === "" ? "" : `&cursor=${cursor}`;
        const { json } = await caller.get(`${at}/memslots?limit=1000${more}`);
        for (const { slot } of json.items) seen.add(slot);
        cursor = json.nextCursor;
      }
      expect(seen.size).toBe(10_000);
      await made("POST", `${at}:stop`);
      expect((await made("POST", `${at}:start`)).json.kvm.memslotCount).toBe(10_000);
      await caller.send({ method: "DELETE", path: at });
      await expectAtRest();
    },
    LONG_MS,
  );

  it(
    "has bounds on what it may hold",
    async () => {
      const at = await newVm();
      const zones = await many(1010, 16, (i) =>
        caller.json("POST", `${at}/coalesced-zones`, { addr: hex(i * 16), size: 16 }),
      );
      expect(tally(zones)).toEqual({ "201": 1000, "507 ENOSPC": 10 });
      const vcpus = await many(515, 16, (i) => caller.json("PUT", `${at}/vcpus/${i}`));
      expect(tally(vcpus)).toEqual({ "201": 512, "422 EINVAL": 3 });
      await caller.send({ method: "DELETE", path: at });
      await expectAtRest();
    },
    LONG_MS,
  );

  it(
    "deleted while it stores, clears and is asked answers all that was under way",
    async () => {
      for (let round = 0; round < 3; round++) {
        const at = await busyVm(2);
        let deleted = false;
        const codes = new Set<string>();
        const bits = Buffer.alloc(2 ** 32 / 4096 / 8, 0xff);
        const octets = { "content-type": "application/octet-stream" };
        const clears = `${at}/memslots/0/dirty-log/clears?firstPage=0x0&numPages=${2 ** 20}`;
        const requests = [
          { method: "POST", path: clears, headers: octets, body: bits },
          { method: "GET", path: `${at}/memslots/0/dirty-log` },
          { method: "GET", path: `${at}/vcpus/0/runs/run_1-1?wait=30` },
          { method: "POST", path: `${at}/memslots/0/dirty-log/harvests` },
          { method: "GET", path: `${at}/digest` },
          { method: "GET", path: at },
        ];
        const lanes = requests.map(async (request) => {
          while (!deleted) {
            const answer = await caller.send(request);
            codes.add(`${answer.status} ${answer.json?.code ?? ""}`.trim());
          }
        });
        await systemClock.sleep(200 + round * 150);
        const begun = systemClock.monotonicMs();
        const gone = await caller.send({ method: "DELETE", path: at });
        expect(gone.status).toBe(204);
        expect(systemClock.monotonicMs() - begun).toBeLessThan(15_000);
        deleted = true;
        await Promise.all(lanes);
        const allowed = /^(20[01]|404 vm-not-found|410 vm-gone|409 (harvest-unack|vm-not).*)$/;
        expect([...codes].filter((code) => !allowed.test(code))).toEqual([]);
        await expectAtRest();
      }
    },
    LONG_MS,
  );
});

describe("a thousand VMs asked for at once", () => {
  it(
    "are as many as the host may run; the others are refused and nothing is left of them",
    async () => {
      const all = await many(VMS_ASKED, VMS_ASKED, () => caller.json("POST", "/v1/vms", {}));
      const counts = tally(all);
      const others = VMS_ASKED - VMS_MAX;
      expect(counts).toEqual({
        "201": VMS_MAX,
        ...(others > 0 ? { "503 vm-limit": others } : {}),
      });
      expect((await caller.get("/livez")).status).toBe(200);
      const items = (await caller.get("/v1/vms?limit=1000")).json.items as { id: string }[];
      expect(items).toHaveLength(VMS_MAX);
      const refusal = all.find(({ status }) => status === 503);
      if (refusal !== undefined) expect(refusal.headers["retry-after"]).toBeDefined();
      const ends = await many(items.length, 16, (i) =>
        caller.send({ method: "DELETE", path: `/v1/vms/${items[i]?.id}` }),
      );
      expect(tally(ends)).toEqual({ "204": VMS_MAX });
      await expectAtRest();
      expect(service.peakMib()).toBeLessThan(PEAK_MIB);
    },
    LONG_MS + VMS_MAX * MS_PER_VM,
  );

  it("with more memory than there is are refused while others still fit", async () => {
    const vms = await Promise.all([newVm(), newVm(), newVm(), newVm()]);
    const size = hex((BUDGET_MIB / 3) * 2 ** 20 - (((BUDGET_MIB / 3) * 2 ** 20) % 4096));
    const asked = await many(40, 40, (i) =>
      caller.json("POST", `${vms[i % 4]}/memory-objects`, { size }),
    );
    const counts = tally(asked);
    expect(counts["201"]).toBe(2);
    expect(counts["507 ENOMEM"]).toBe(38);
    await Promise.all(vms.map((path) => caller.send({ method: "DELETE", path })));
    await expectAtRest();
  });
});

describe("clients that go away or don't read", () => {
  it("long-polls that are abandoned leave the run as it is", async () => {
    const at = await busyVm(1);
    const run = `${at}/vcpus/0/runs/run_1-1`;
    for (let i = 0; i < 50; i++) {
      const socket = await unread(service.port, `${run}?wait=60`, "\r\n");
      await systemClock.sleep(2);
      socket.destroy();
    }
    expect((await caller.get(run)).json.state).toBe("running");
    const preferring = await unread(service.port, `${at}?wait=60&untilState=stopped`, "\r\n");
    preferring.destroy();
    await caller.send({ method: "DELETE", path: run });
    const ended = await caller.get(`${run}?wait=20`);
    expect(ended.json).toMatchObject({ state: "exited", result: { errno: "EINTR" } });
    await caller.send({ method: "DELETE", path: at });
    await expectAtRest();
  });

  it("event streams that nobody reads cost neither memory nor the others", async () => {
    const stream = "Accept: text/event-stream\r\nLast-Event-ID: 0\r\n\r\n";
    const before = service.peakMib();
    const deaf = await Promise.all(
      Array.from({ length: 40 }, () => unread(service.port, "/v1/events", stream)),
    );
    const at = await newVm();
    const names = await many(150, 8, (i) => caller.json("PATCH", at, { name: `n${i}`.repeat(25) }));
    expect(tally(names)).toEqual({ "200": 150 });
    expect(service.peakMib() - before).toBeLessThan(300);
    const list = await caller.get("/v1/events?after=0&limit=1000");
    expect(list.json.items.length).toBeGreaterThan(150);
    for (const socket of deaf) socket.destroy();
    await caller.send({ method: "DELETE", path: at });
    await expectAtRest();
  });
});

describe("the end", () => {
  it("comes in time although streams are unread, runs go on and polls wait", async () => {
    const at = await busyVm(2);
    const stream = "Accept: text/event-stream\r\nLast-Event-ID: 0\r\n\r\n";
    const sockets = await Promise.all([
      ...Array.from({ length: 10 }, () => unread(service.port, "/v1/events", stream)),
      ...Array.from({ length: 10 }, () => {
        return unread(service.port, `${at}/vcpus/0/runs/run_1-1?wait=60`, "\r\n");
      }),
    ]);
    const begun = systemClock.monotonicMs();
    expect(await service.stop(), service.output()).toBe(0);
    expect(systemClock.monotonicMs() - begun).toBeLessThan(12_000);
    for (const socket of sockets) socket.destroy();
  });
});
