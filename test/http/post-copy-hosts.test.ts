// Goal: a guest that runs while its pages follow over a slow wire finds every stamp, and when a
// host dies meanwhile both say that the VM is lost.
// Method: the compiled service as two processes; a guest that stamps 16 MiB and checks its stamps.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stampingGuest } from "../support/stamping-guest.js";
import { type Json, type Migration, type Name, TwoHosts, until } from "../support/two-hosts.js";

const STAMPING = { data: 0x4100_0000, count: 0x4080_0000, pagesLog2: 12 };
const LAP = 2 ** STAMPING.pagesLog2;
const RATE = 6_000_000;
const SLOW = { bandwidthBytesPerSecond: RATE, postcopyBandwidthBytesPerSecond: RATE };
/** A minute, so that no machine is done with it before it was looked at. */
const TRICKLE = { postcopyBandwidthBytesPerSecond: 250_000 };
const POST_COPY = { peer: "host-b", strategy: "post-copy", parameters: TRICKLE };

/** Two laps of the guest are much on a machine that others use. */
const LONG_MS = 120_000;

let hosts: TwoHosts;
beforeAll(async () => {
  hosts = await TwoHosts.start("post-copy");
});
afterAll(() => hosts.stop());

/** Its count, and bad stamps. */
async function stamps(host: Name, vm: string): Promise<[bigint, bigint]> {
  const path = `${vm}/physical-memory?gpa=0x${STAMPING.count.toString(16)}&length=16`;
  const answer = await hosts.fetch(host, path);
  expect(answer.status).toBe(200);
  const view = new DataView(await answer.arrayBuffer());
  return [view.getBigUint64(0, true), view.getBigUint64(8, true)];
}

const stamped = (host: Name, vm: string, least: bigint) =>
  until(async () => ((await stamps(host, vm))[0] >= least ? true : null), `stamped ${least}`);

async function stamping(): Promise<string> {
  const vm = await hosts.boot("host-a", "stamping", stampingGuest(STAMPING), { memoryMiB: 64 });
  await stamped("host-a", vm, BigInt(2 * LAP));
  return vm;
}

async function arrived(id: string): Promise<Migration> {
  const { peerSession } = await hosts.get("host-a", `/v1/migrations/${id}`);
  return (await hosts.get("host-b", `/v1/migrations/${peerSession}`)) as Migration;
}

describe("post-copy between two hosts", () => {
  it("is possible, and with verify isn't", async () => {
    const vm = await stamping();
    const vmId = vm.split("/").at(-1);
    const dry = { vmId, validateOnly: true, ...POST_COPY };
    expect((await hosts.call("host-a", "POST", "/v1/migrations", dry)).body["reasons"]).toEqual([]);
    const verified = { ...dry, parameters: { verify: true } };
    const { body } = await hosts.call("host-a", "POST", "/v1/migrations", verified);
    expect(JSON.stringify(body["reasons"])).toContain("without verify");
    await hosts.call("host-a", "DELETE", vm);
  });

  it(
    "runs the guest there before its pages are, and no stamp is bad",
    async () => {
      const vm = await stamping();
      const id = await hosts.begin("host-a", vm, POST_COPY);
      const active = await hosts.reached("host-a", id, ["postcopy-active"]);
      expect([active.state, active.failure]).toEqual(["postcopy-active", null]);
      const target = await until(async () => {
        const found = await arrived(id);
        return found.point === "running" ? found : null;
      }, "runs");
      const there = `/v1/vms/${target.vmId}`;
      expect(target.state).toBe("postcopy-active");
      // The last pages follow later: it can't be moved on, or stopped.
      const stop = await hosts.call("host-b", "POST", `${there}:stop`);
      expect([stop.status, stop.body["code"]]).toEqual([409, "migration-in-progress"]);
      const [before] = await stamps("host-b", there);
      await stamped("host-b", there, before + 20n);
      const late = await hosts.call("host-a", "POST", `/v1/migrations/${id}:cancel`);
      expect([late.status, late.body["code"]]).toEqual([409, "migration-committed"]);
      await until(async () => {
        const { progress } = await hosts.get("host-a", `/v1/migrations/${id}`);
        return Number((progress as Json)["pagesRequested"]) > 0 ? true : null;
      }, "asked for a page");
      const limits = { postcopyBandwidthBytesPerSecond: RATE };
      const patched = await hosts.call("host-a", "PATCH", `/v1/migrations/${id}`, limits);
      expect(patched.status).toBe(200);
      const done = await hosts.reached("host-a", id);
      expect([done.state, done.failure]).toEqual(["completed", null]);
      const { pagesRequested, pagesPushed } = done["progress"] as Record<string, number>;
      expect(pagesRequested).toBeGreaterThan(0);
      expect((pagesRequested ?? 0) + (pagesPushed ?? 0)).toBe((64 * 2 ** 20) / 4096); // tidy: pages
      const { downtimeMs, totalMs } = done["statistics"] as Record<string, number>;
      expect(downtimeMs).toBeLessThan(totalMs ?? 0);
      const ended = await until(async () => {
        const found = await arrived(id);
        return found.state === "completed" ? found : null;
      }, "completed");
      expect((ended["progress"] as Json)["vcpuWaitMs"]).toBeGreaterThan(0);
      const [now] = await stamps("host-b", there);
      await stamped("host-b", there, now + BigInt(2 * LAP));
      expect((await stamps("host-b", there))[1]).toBe(0n);
      expect((await hosts.get("host-a", vm))["state"]).toBe("migrated");
      expect((await hosts.call("host-b", "DELETE", there)).status).toBe(204);
    },
    LONG_MS,
  );

  it(
    "begins when somebody asks for it, in the middle of pre-copy",
    async () => {
      const vm = await stamping();
      const parameters = { ...SLOW, downtimeMs: 1 };
      const id = await hosts.begin("host-a", vm, { peer: "host-b", parameters });
      await hosts.reached("host-a", id, ["active"]);
      const asked = await hosts.call("host-a", "POST", `/v1/migrations/${id}:start-postcopy`);
      expect([asked.status, asked.body["code"]]).toEqual([asked.status, undefined]);
      const done = await hosts.reached("host-a", id);
      expect([done.state, done.failure]).toEqual(["completed", null]);
      const { items } = (await hosts.get("host-a", `/v1/migrations/${id}/rounds`)) as {
        items: Json[];
      };
      expect(JSON.stringify(items)).toContain("post-copy was asked for");
      const there = `/v1/vms/${(await arrived(id)).vmId}`;
      const [now] = await stamps("host-b", there);
      await stamped("host-b", there, now + BigInt(2 * LAP));
      expect((await stamps("host-b", there))[1]).toBe(0n);
    },
    LONG_MS,
  );

  it("loses the VM with a source that dies, and both say so", async () => {
    const vm = await stamping();
    const id = await hosts.begin("host-a", vm, POST_COPY);
    const target = await until(async () => {
      const found = await arrived(id);
      return found.point === "running" ? found : null;
    }, "runs");
    await hosts.crash("host-a");
    const paused = await hosts.reached("host-b", target.id, ["postcopy-paused"]);
    expect([paused.state, paused.failure]).toMatchObject(["postcopy-paused", { side: "wire" }]);
    await hosts.start("host-a");
    const lost = await hosts.reached("host-b", target.id);
    expect(lost).toMatchObject({ state: "failed", failure: { code: "lost-in-postcopy" } });
    const there = await hosts.get("host-b", `/v1/vms/${target.vmId}`);
    expect(there).toMatchObject({ state: "lost" });
    const source = await hosts.reached("host-a", id);
    expect(source).toMatchObject({ state: "failed", failure: { code: "host-restarted" } });
    expect(source.failure?.["detail"]).toContain("before all pages had followed");
  });
});
