// Goal: a board moves between two hosts with its console, its uuid and its memory, and both say
// the truth about it; what stands in the way is told beforehand.
// Method: the compiled service as two processes that have each other in their lists, with tokens.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestImage } from "../support/board.js";
import { type Json, type Migration, type Name, TwoHosts, until } from "../support/two-hosts.js";

const LONG_MS = 150_000;

let hosts: TwoHosts;
beforeAll(async () => {
  hosts = await TwoHosts.start("migration");
});
afterAll(() => hosts.stop());

const call = (host: Name, method: string, path: string, body?: unknown) =>
  hosts.call(host, method, path, body);
const get = (host: Name, path: string) => hosts.get(host, path);
const ended = (host: Name, id: string) => hosts.reached(host, id);
const move = (from: Name, vm: string, body: Json) => hosts.move(from, vm, body);

const consoleOf = async (host: Name, vm: string) =>
  (await call(host, "GET", `${vm}/console?offset=0`)).text;

const says = (host: Name, vm: string, text: string) =>
  until(async () => ((await consoleOf(host, vm)).includes(text) ? true : null), `says ${text}`);

const boot = (host: Name, image: string): Promise<string> =>
  hosts.boot(host, image, guestImage(image), { labels: { team: "migration" } });

/** A migration that sends pages and takes its time. */
async function beginSlowly(from: Name, vm: string, peer: Name) {
  const parameters = { bandwidthBytesPerSecond: 1000 };
  const id = await hosts.begin(from, vm, { peer, parameters });
  const there = await until(async () => {
    const { state, peerSession } = (await get(from, `/v1/migrations/${id}`)) as Migration;
    return state === "active" ? String(peerSession) : null;
  }, "active");
  return { id, there };
}

describe("two hosts", () => {
  it("say beforehand what stands in the way, and what will be sent first", async () => {
    const vm = await boot("host-a", "hello");
    const vmId = vm.split("/").at(-1);
    const dry = { vmId, peer: "host-b", validateOnly: true };
    const { status, body } = await call("host-a", "POST", "/v1/migrations", dry);
    expect([status, body["reasons"]]).toEqual([200, []]);
    expect(body["possible"]).toBe(true);
    expect(body["missingImages"]).toHaveLength(1);
    const bad = { ...dry, strategy: "post-copy", parameters: { verify: true } };
    const refused = (await call("host-a", "POST", "/v1/migrations", bad)).body;
    expect(refused["possible"]).toBe(false);
    const nobody = await call("host-a", "POST", "/v1/migrations", { vmId, peer: "host-c" });
    expect([nobody.status, nobody.body["code"]]).toEqual([422, "peer-unknown"]);
    expect((await call("host-a", "DELETE", vm)).status).toBe(204);
  });

  it("move a guest in the middle of its work, there and back", async () => {
    const vm = await boot("host-a", "hello");
    await says("host-a", vm, "type a line\n");
    const before = await consoleOf("host-a", vm);
    const { uuid } = await get("host-a", vm);
    const there = await move("host-a", vm, { peer: "host-b", parameters: { verify: true } });
    expect([there.state, there.failure]).toEqual(["completed", null]);
    expect(there.point).toBe("released");
    const gone = await get("host-a", vm);
    expect(gone["state"]).toBe("migrated");
    expect((gone["links"] as Json)["migration"]).toBe(`/v1/migrations/${there.id}`);
    const started = await call("host-a", "POST", `${vm}:start`);
    expect([started.status, started.body["code"]]).toEqual([409, "vm-migrated"]);
    const arrived = (await get("host-b", `/v1/migrations/${there["peerSession"]}`)) as Migration;
    expect(arrived).toMatchObject({ state: "completed", point: "running", direction: "incoming" });
    const here = `/v1/vms/${arrived.vmId}`;
    expect(await get("host-b", here)).toMatchObject({
      ...{ state: "active", uuid, name: "hello-guest", labels: { team: "migration" } },
    });
    expect(await consoleOf("host-b", here)).toBe(before);
    const back = await move("host-b", here, { peer: "host-a", strategy: "stop-and-copy" });
    expect([back.state, back.failure]).toEqual(["completed", null]);
    const home = (await get("host-a", `/v1/migrations/${back["peerSession"]}`)) as Migration;
    const now = `/v1/vms/${home.vmId}`;
    // What it left behind when it went away gave way.
    expect((await call("host-a", "GET", vm)).status).toBe(404);
    await call("host-a", "POST", `${now}/console`, { text: "moved twice\n" });
    await says("host-a", now, "moved twice");
  });

  it("keep the figures of every round, and draw them", async () => {
    const list = (await get("host-a", "/v1/migrations?direction=outgoing")) as {
      items: Migration[];
    };
    const { id } = list.items.at(-1) ?? { id: "" };
    const found = await get("host-a", `/v1/migrations/${id}`);
    expect((found["progress"] as Json)["bytesTotal"]).toBeGreaterThan(0);
    expect((found["statistics"] as Json)["downtimeMs"]).toBeGreaterThan(0);
    const { items } = (await get("host-a", `/v1/migrations/${id}/rounds`)) as { items: Json[] };
    expect(items.length).toBeGreaterThan(1);
    for (const round of items) expect((round["decision"] as Json)["why"]).not.toBe("");
    const chart = await call("host-a", "GET", `/v1/migrations/${id}/chart.svg`);
    expect(chart.text).toMatch(/^<svg/);
    for (const text of ["switchover", "predicted downtime", "real downtime"]) {
      expect(chart.text).toContain(`>${text}</text>`);
    }
    expect(items.at(-1)).toMatchObject({
      downtimeMs: (found["statistics"] as Json)["downtimeMs"],
    });
    const metrics = (await call("host-a", "GET", "/metrics")).text;
    expect(metrics).toMatch(/tidemark_migrations\{direction="outgoing",state="completed"\} [1-9]/);
    expect(metrics).toMatch(/tidemark_migration_bytes_total [1-9]/);
  });

  it("move a VM within a host, too", async () => {
    const vm = await boot("host-b", "hello");
    await says("host-b", vm, "\n");
    const moved = await move("host-b", vm, { peer: "local" });
    expect([moved.state, moved.failure]).toEqual(["completed", null]);
    const there = (await get("host-b", `/v1/migrations/${moved["peerSession"]}`)) as Migration;
    const now = `/v1/vms/${there.vmId}`;
    await call("host-b", "POST", `${now}/console`, { text: "same house\n" });
    await says("host-b", now, "same house");
  });

  it("fail with the reason when the other is gone, and the VM goes on", async () => {
    const vm = await boot("host-a", "hello");
    await says("host-a", vm, "\n");
    await hosts.crash("host-b");
    const failed = await move("host-a", vm, { peer: "host-b" });
    expect(failed.state).toBe("failed");
    expect(failed.failure).toMatchObject({ side: "wire", code: "peer-unreachable" });
    await call("host-a", "POST", `${vm}/console`, { text: "still here\n" });
    await says("host-a", vm, "still here");
    await hosts.start("host-b");
  });

  it(
    "kill -9 of the target: the VM goes on, and both sides say what happened",
    async () => {
      const vm = await boot("host-a", "hello");
      await says("host-a", vm, "\n");
      const { id, there } = await beginSlowly("host-a", vm, "host-b");
      await hosts.crash("host-b");
      await hosts.start("host-b");
      const failed = await ended("host-a", id);
      expect([failed.state, failed.failure?.["side"]]).toEqual(["failed", "wire"]);
      await call("host-a", "POST", `${vm}/console`, { text: "not my end\n" });
      await says("host-a", vm, "not my end");
      const lost = (await get("host-b", `/v1/migrations/${there}`)) as Migration;
      expect(lost).toMatchObject({ state: "failed", point: "aborted" });
      expect(lost.failure).toMatchObject({ side: "target" });
      expect((await call("host-b", "GET", `/v1/vms/${lost.vmId}`)).status).toBe(404);
    },
    LONG_MS,
  );

  it(
    "kill -9 of the source: its VM is lost and says so, the target's half goes",
    async () => {
      const vm = await boot("host-a", "hello");
      await says("host-a", vm, "\n");
      const { id, there } = await beginSlowly("host-a", vm, "host-b");
      await hosts.crash("host-a");
      await hosts.start("host-a");
      const failed = await ended("host-a", id);
      expect([failed.state, failed.failure?.["code"]]).toEqual(["failed", "host-restarted"]);
      expect(await get("host-a", vm)).toMatchObject({ state: "lost" });
      const gone = await ended("host-b", there);
      expect(gone.state).not.toBe("completed");
      expect((await call("host-b", "GET", `/v1/vms/${gone.vmId}`)).status).toBe(404);
      expect((await call("host-a", "POST", `${vm}:start`)).status).toBe(200);
    },
    LONG_MS,
  );
});
