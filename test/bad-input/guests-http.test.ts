// Goal: bad guests over HTTP: logs, kicks and DELETE are answered in time, a good VM in the same
// service goes on, and the service lives.
// Method: some of bad-guests.ts at once in the real service.
import { afterAll, beforeAll, expect, it } from "vitest";
import { systemClock } from "../../src/base/clock.js";
import { Prng } from "../../src/base/prng.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";
import { reg } from "../support/registers.js";
import { BAD_GUESTS, BASE, type BadGuest, RAM_PAGES, ROM, ROM_PAGES } from "./bad-guests.js";
import { Caller } from "./caller.js";

const PAGE = 4096;
/** Generous: a starved machine is not what this is about. */
const ANSWER_MS = 10_000;
const CHOSEN = [
  "random bytes as code",
  "every system instruction at EL0",
  "vectors that call themselves",
  "stores to its own tables",
  "code that rewrites itself all the time",
  "WFI for ever",
  "a storm of hypercalls",
  "a storm of TLB invalidations",
];

let folder: Awaited<ReturnType<typeof temporary>>;
let service: RealService;
let caller: Caller;

beforeAll(async () => {
  folder = await temporary("guests");
  service = await startReal({ dataDir: folder.path });
  caller = await Caller.open(service.origin);
});
afterAll(async () => {
  await caller?.close();
  await service?.stop();
  await folder?.remove();
});

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

async function made(method: string, path: string, body?: unknown) {
  const answer = await caller.json(method, path, body);
  expect(answer.status, `${path}: ${answer.text}`).toBeLessThan(300);
  return answer.json;
}

async function newVm(): Promise<string> {
  const { id } = await made("POST", "/v1/vms", {});
  const at = `/v1/vms/${id}`;
  for (const [slot, gpa, pages, flags] of [
    [0, BASE, RAM_PAGES, 1],
    [1, ROM, ROM_PAGES, 2],
  ] as const) {
    const size = hex(pages * PAGE);
    const { id: memoryObjectId } = await made("POST", `${at}/memory-objects`, { size });
    const place = { guestPhysAddr: hex(gpa), memorySize: size, memoryObjectId, flags };
    await made("PUT", `${at}/memslots/${slot}`, place);
  }
  await made("PUT", `${at}/vcpus/0`);
  return at;
}

/** @returns path of the VM, whose vCPU runs the guest */
async function begin(guest: BadGuest): Promise<string> {
  const at = await newVm();
  for (const [gpa, bytes] of guest.memory(new Prng(1n))) {
    const base64 = Buffer.from(bytes).toString("base64");
    await made("PUT", `${at}/physical-memory`, { gpa: hex(gpa), base64 });
  }
  await made("POST", `${at}/vcpus/0/initializations`, { target: 5, features: [4] });
  for (const [id, value] of [[reg.PC, BigInt(BASE)] as const, ...guest.registers]) {
    await made("PUT", `${at}/vcpus/0/registers/${hex(id)}`, { value: hex(value) });
  }
  await made("POST", `${at}/vcpus/0/runs`);
  return at;
}

async function timed<T>(act: () => Promise<T>): Promise<T> {
  const begun = systemClock.monotonicMs();
  const value = await act();
  expect(systemClock.monotonicMs() - begun).toBeLessThan(ANSWER_MS);
  return value;
}

/** Stores to each page of a slot, by a synthetic vCPU, to the end. */
async function goodRun(at: string): Promise<void> {
  const pattern = { kind: "pattern", pattern: "sequential", base: hex(BASE) };
  const program = { ...pattern, bytes: hex(RAM_PAGES * PAGE), count: 5000, seed: "0x1" };
  await made("PUT", `${at}/vcpus/0/program`, program);
  const { id } = await made("POST", `${at}/vcpus/0/runs`);
  const ended = await caller.get(`${at}/vcpus/0/runs/${id}?wait=20`);
  expect(ended.json).toMatchObject({ state: "exited", result: { exitReason: "KVM_EXIT_HLT" } });
}

it("bad guests at once keep nobody waiting but themselves", { timeout: 180_000 }, async () => {
  const good = await newVm();
  const vms = await Promise.all(CHOSEN.map((name) => begin(BAD_GUESTS[name]!)));
  for (let round = 0; round < 3; round++) {
    await timed(() => goodRun(good));
    for (const at of vms) {
      const log = await timed(() => caller.get(`${at}/memslots/0/dirty-log`));
      expect(log.status).toBeLessThan(500);
      const run = (await caller.get(`${at}/vcpus/0/runs`)).json.items.at(-1);
      const path = `${at}/vcpus/0/runs/${run.id}`;
      await timed(async () => {
        if (run.state === "running") await caller.send({ method: "DELETE", path });
        const { json } = await caller.get(`${path}?wait=20`);
        expect(json.state).toBe("exited");
      });
      await made("POST", `${at}/vcpus/0/runs`);
    }
  }
  for (const at of vms) {
    const gone = await timed(() => caller.send({ method: "DELETE", path: at }));
    expect(gone.status).toBe(204);
  }
  await timed(() => goodRun(good));
  expect((await caller.get("/readyz")).status).toBe(200);
  expect(service.output()).not.toMatch(/"level":(50|60)/);
});
