// Goal: dirty pages as a caller sees them while the host tracks: rates of a guest that stores all
// the time, the one owner of the log, throttles.
// Method: the compiled service in this process on a random port; test/guest/stores on a board.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestImage } from "../support/board.js";
import { jsonClient } from "../support/json-client.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

const WAIT_MS = 20_000;
const OCTETS = { accept: "application/octet-stream" };

let service: RealService;
let dataDir: { path: string; remove(): Promise<void> };
const call = jsonClient(() => service);
let vm: string;

beforeAll(async () => {
  dataDir = await temporary("tracking");
  service = await startReal({ dataDir: dataDir.path });
  await call("PUT", "/v1/images/stores", guestImage("stores"));
  const board = { image: "stores", memoryMiB: 64, vcpus: 4 };
  const made = await call("POST", "/v1/vms", { board });
  expect([made.status, made.body.detail]).toEqual([201, undefined]);
  vm = made.location;
  await call("POST", `${vm}:start`);
});
afterAll(async () => {
  await service.stop();
  await dataDir.remove();
});

async function until(what: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + WAIT_MS; performance.now() < end; ) {
    if (await what()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("it did not happen in time");
}

const tracking = async () => (await call("GET", `${vm}/dirty-tracking/consumers`)).body;
const throttle = async (percent: number, dirtyLimitPagesPerSecond: number) =>
  (await call("PUT", `${vm}/throttle`, { percent, dirtyLimitPagesPerSecond })).body;
const rate = async (periodMs: number) =>
  (await call("POST", `${vm}/dirty-rate`, { periodMs })).body;

describe("a dirty rate", () => {
  it("is measured, kept, and leaves nothing behind", async () => {
    expect((await call("GET", `${vm}/dirty-rate`)).body.code).toBe("dirty-rate-not-found");
    const measured = await rate(300);
    expect(measured).toMatchObject({ method: "hdbss+hacdbs" });
    expect(measured.durationMs).toBeGreaterThanOrEqual(299);
    expect(measured.pages).toBeGreaterThan(10);
    expect(measured.pagesPerSecond).toBeCloseTo((measured.pages * 1000) / measured.durationMs, 3);
    expect(measured.mibPerSecond).toBeCloseTo(measured.pagesPerSecond / 256, 3);
    expect(measured.vcpus.map(({ vcpu }: { vcpu: number }) => vcpu)).toEqual([0, 1, 2, 3]);
    expect((await call("GET", `${vm}/dirty-rate`)).body).toEqual(measured);
    expect(await tracking()).toMatchObject({ owner: "none", method: null, consumers: [] });
  });

  it("of a VM that isn't there, or for too long, is refused", async () => {
    expect((await call("POST", "/v1/vms/vm_none/dirty-rate")).body.code).toBe("vm-not-found");
    expect((await call("POST", `${vm}/dirty-rate`, { periodMs: 10_001 })).status).toBe(400);
  });
});

describe("while the host tracks", () => {
  it("its consumer's pages can be looked at, and the client's log is 409 with a link", async () => {
    const running = rate(2500);
    await until(async () => (await tracking()).owner === "vmm");
    const name = `${vm.slice("/v1/".length)}/dirty-rate`;
    expect((await tracking()).consumers).toMatchObject([{ name }]);
    const refused = await call("GET", `${vm}/memslots/0/dirty-log`);
    expect([refused.status, refused.body]).toMatchObject([
      409,
      { code: "dirty-log-owned", owner: "vmm", consumers: [name], links: [`${vm}/dirty-rate`] },
    ]);
    expect((await call("POST", `${vm}/dirty-rate`)).body.code).toBe("dirty-rate-running");
    const query = `consumer=${encodeURIComponent(name)}`;
    const pages = await call("GET", `${vm}/dirty-pages?${query}`);
    expect(pages.body).toMatchObject({ consumer: name });
    const bits = await call("GET", `${vm}/dirty-pages?${query}&memoryObject=1`, undefined, OCTETS);
    expect([bits.status, bits.bytes.length % 8]).toEqual([200, 0]);
    const missing = await call("GET", `${vm}/dirty-pages?${query}`, undefined, OCTETS);
    expect(missing.body.code).toBe("validation");
    expect((await call("GET", `${vm}/dirty-pages?consumer=none`)).body.code).toBe(
      "consumer-not-found",
    );
    expect((await running).pages).toBeGreaterThan(10);
    // Settings that were borrowed have not become the VM's.
    const { settings } = (await call("GET", `${vm}/dirty-settings`)).body;
    expect(settings["hacdbs.use"]).toBe("with-hdbss");
    expect((await call("GET", `${vm}/memslots`)).body.items[0].flags).toBe(0);
  });

  it("a client that logs itself can't be measured", async () => {
    const made = await call("POST", "/v1/vms", {});
    const own = made.location;
    const object = (await call("POST", `${own}/memory-objects`, { size: "0x10000" })).body;
    const slot = { flags: 1, guestPhysAddr: "0x0", memorySize: "0x10000" };
    const put = await call("PUT", `${own}/memslots/0`, { ...slot, memoryObjectId: object.id });
    expect(put.status).toBeLessThan(300);
    expect((await call("POST", `${own}/dirty-rate`, { periodMs: 1 })).body).toMatchObject({
      status: 409,
      code: "dirty-log-owned",
      owner: "client",
    });
    await call("DELETE", own);
  });
});

describe("a throttle", () => {
  it("is set, told of, and takes time from every vCPU", async () => {
    const before = await throttle(90, 0);
    expect(before).toMatchObject({ percent: 90, dirtyLimitPagesPerSecond: 0 });
    await rate(500);
    const { body: after } = await call("GET", `${vm}/throttle`);
    for (const { vcpu, throttledUs } of after.vcpus) {
      expect(throttledUs).toBeGreaterThan(before.vcpus[vcpu].throttledUs + 100_000);
    }
    expect(await throttle(0, 0)).toMatchObject({ percent: 0 });
  });

  it("a dirty limit bounds each vCPU's rate", async () => {
    const before = await throttle(0, 50);
    const { pages } = await rate(2000);
    const { vcpus } = await throttle(0, 0);
    // Each of the four had 100 pages in that time, and may overdraw.
    expect(pages).toBeLessThan(1000);
    const held = vcpus.map(
      ({ throttledUs }: { throttledUs: number }, at: number) =>
        throttledUs - before.vcpus[at].throttledUs,
    );
    expect(Math.min(...held)).toBeGreaterThan(0);
  });

  it("of more than 99 percent is refused", async () => {
    const body = { percent: 100, dirtyLimitPagesPerSecond: 0 };
    expect((await call("PUT", `${vm}/throttle`, body)).status).toBe(400);
  });
});
