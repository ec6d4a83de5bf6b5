// Goal: dirty hardware as a caller sees it: buffers as JSON and bytes, cleaning, faults as a
// resource and in the history, diagnostics; and that a replay injects the same faults.
// Method: the compiled service on a random port, synthetic vCPUs, HDBSS on.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { jsonClient } from "../support/json-client.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

let service: RealService;
let dataDir: { path: string; remove(): Promise<void> };
const call = jsonClient(() => service);

beforeAll(async () => {
  dataDir = await temporary("dirty-hardware");
  service = await startReal({ dataDir: dataDir.path });
});
afterAll(async () => {
  await service.stop();
  await dataDir.remove();
});

const OCTETS = { accept: "application/octet-stream" };
const HARVESTS = "memslots/0/dirty-log/harvests";
const KEEP = { settings: { "hdbss.flushAt": "preserve-index-on-put" } };

/** Creates a VM with a slot that logs, a vCPU and HDBSS; every page was stored to and harvested. */
async function create(): Promise<string> {
  const made = await call("POST", "/v1/vms", { dirty: KEEP });
  const vm = made.location;
  await call("POST", `${vm}/memory-objects`, { size: "0x200000" });
  const slot = { guestPhysAddr: "0x40000000", memorySize: "0x200000", memoryObjectId: 1, flags: 1 };
  await call("PUT", `${vm}/memslots/0`, slot);
  await call("PUT", `${vm}/vcpus/0`, {});
  const cap = `${vm}/capabilities/KVM_CAP_ARM_HW_DIRTY_STATE_TRACK`;
  expect((await call("PUT", cap, { args: ["0", "1"] })).status).toBe(200);
  await stores(vm, 512);
  expect((await harvest(vm)).count).toBe(512);
  return vm;
}

async function stores(vm: string, count: number): Promise<void> {
  const window = { base: "0x40000000", bytes: "0x200000", count };
  const program = { kind: "pattern", pattern: "sequential", ...window };
  await call("PUT", `${vm}/vcpus/0/program`, program);
  const run = await call("POST", `${vm}/vcpus/0/runs`, undefined, { prefer: "wait=10" });
  expect(run.body.result.exitReason).toBe("KVM_EXIT_HLT");
}

const harvested = new Map<string, string>();

/** Acknowledges the harvest before it. */
async function harvest(vm: string) {
  const after = harvested.get(vm);
  const path = `${vm}/${HARVESTS}${after === undefined ? "" : `?after=${after}`}`;
  const { body } = await call("POST", path, undefined, { accept: "application/json" });
  expect(body.repeated).toBe(false);
  harvested.set(vm, body.id);
  return body;
}

describe("a vCPU's buffer over HTTP", () => {
  it("is paged, and the same as bytes", async () => {
    const vm = await create();
    await stores(vm, 5);
    const path = `${vm}/vcpus/0/hdbss`;
    const { body } = await call("GET", `${path}?from=3&limit=3`);
    expect(body.prod).toEqual({ raw: "0x5", index: 5, fsc: 0, fscName: "NONE" });
    expect(body.nextFrom).toBe(6);
    const raws = ["0x40003007", "0x40004007", "0x0"];
    expect(body.entries.map(({ raw }: { raw: string }) => raw)).toEqual(raws);
    const { bytes, type } = await call("GET", `${path}?from=3&limit=3`, undefined, OCTETS);
    expect(type).toBe("application/octet-stream");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const words = [0, 8, 16].map((at) => `0x${view.getBigUint64(at, true).toString(16)}`);
    expect([bytes.length, words]).toEqual([24, raws]);
    const last = await call("GET", `${path}?from=511`);
    expect([last.body.entries.length, last.body.nextFrom]).toEqual([1, null]);
    expect((await call("GET", `${vm}/vcpus/9/hdbss`)).body.code).toBe("vcpu-not-found");
    expect((await harvest(vm)).ranges).toEqual([[0, 5]]);
  });
});

describe("faults over HTTP", () => {
  it("are armed, listed, hit once, told of, and taken back", async () => {
    const vm = await create();
    const body = { kind: "hdbss-append-gpf", nth: 3, vcpu: 0 };
    const armed = await call("POST", `${vm}/faults`, body);
    expect(armed.status).toBe(201);
    const location = armed.location;
    expect(location).toBe(`${vm}/faults/1`);
    const fault = { ...body, id: 1, times: 1, delay: 0 };
    expect(armed.body).toEqual({ ...fault, seen: 0, hits: 0, isArmed: true });
    await stores(vm, 4);
    expect((await call("GET", location)).body).toEqual({
      ...{ ...fault, seen: 3, hits: 1, isArmed: false },
    });
    // Whatever the lost entry named is in what was marked instead.
    expect((await harvest(vm)).count).toBe(512);
    const id = vm.split("/").at(-1);
    await expect
      .poll(async () => {
        const { items } = (await call("GET", "/v1/events?limit=1000")).body;
        return items.filter(
          (event: { type: string; subject: string }) =>
            event.type === "vm.fault-injected" && event.subject === `vms/${id}`,
        );
      })
      .toMatchObject([{ data: { kind: "hdbss-append-gpf", fault: 1, vcpu: 0, hits: 1 } }]);
    expect((await call("DELETE", location)).status).toBe(204);
    expect((await call("DELETE", location)).body.code).toBe("fault-not-found");
    expect((await call("GET", location)).status).toBe(404);
    expect((await call("GET", `${vm}/faults`)).body.items).toEqual([]);
  });

  it.each([
    [{ kind: "nothing" }, /^\/kind must be one of hdbss-append-abort, /],
    [{ kind: "hdbss-alloc", nth: 0 }, /nth/],
    [{ kind: "hdbss-alloc", delay: 3 }, /^\/delay is for kick-delayed only/],
    [{}, /^\/kind is required/],
  ])("refuse %j", async (body, detail) => {
    const vm = (await call("POST", "/v1/vms", {})).location;
    const refused = await call("POST", `${vm}/faults`, body);
    expect([refused.status, refused.body.code]).toEqual([400, "validation"]);
    expect(refused.body.detail).toMatch(detail);
  });

  it("are injected again by a replay", async () => {
    const vm = await create();
    await call("POST", `${vm}/faults`, { kind: "hdbss-append-abort", nth: 2, times: null });
    await stores(vm, 7);
    await harvest(vm);
    const log = (await call("GET", `${vm}/inputs`)).body;
    const again = (await call("POST", "/v1/vms", { inputs: { log } })).location;
    await expect
      .poll(async () => (await call("GET", `${again}`)).body.kvm.replaying, { timeout: 10_000 })
      .toBe(false);
    const [was, is] = [await call("GET", `${vm}/digest`), await call("GET", `${again}/digest`)];
    expect(is.body).toEqual(was.body);
    const [before, after] = [
      await call("GET", `${vm}/faults`),
      await call("GET", `${again}/faults`),
    ];
    expect(before.body.items[0].hits).toBeGreaterThan(0);
    expect(after.body).toEqual(before.body);
  });
});

describe("diagnostics over HTTP", () => {
  it("name a defect's mistake, and nothing without it", async () => {
    const vm = await create();
    const { items } = (await call("GET", `${vm}/diagnostics`)).body;
    expect(items.every(({ count }: { count: number }) => count === 0)).toBe(true);
    const merge = { seedBugs: ["B3"] };
    expect((await call("PATCH", `${vm}/dirty-settings`, merge)).status).toBe(200);
    await call("PUT", `${vm}/vcpus/1`, {});
    const program = { kind: "pattern", pattern: "sequential", base: "0x40000000" };
    await call("PUT", `${vm}/vcpus/1/program`, { ...program, bytes: "0x200000", count: 4 });
    await call("POST", `${vm}/vcpus/1/runs`, undefined, { prefer: "wait=10" });
    const told = (await call("GET", `${vm}/diagnostics`)).body.items.find(
      ({ kind }: { kind: string }) => kind === "hdbss-write-outside-owned-buffer",
    );
    expect(told).toMatchObject({ says: expect.stringContaining("HDBSS"), count: 4 });
    expect(told.last).toBe("0x18, vCPU 1");
  });
});
