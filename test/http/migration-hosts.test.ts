// Goal: a board moves between two hosts with its console, its uuid and its memory, and both say
// the truth about it; what stands in the way is told beforehand.
// Method: the compiled service as two processes that have each other in their lists, with tokens.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/base/clock.js";
import { guestImage } from "../support/board.js";
import { freePort, type RealService, startReal, temporary } from "../support/real-service.js";

type Json = Record<string, unknown>;
interface Migration extends Json {
  readonly id: string;
  readonly state: string;
  readonly point: string;
  readonly vmId: string;
  readonly failure: Json | null;
}

const TOKEN = "a-token-of-this-test";
const WAIT_MS = 60_000;
const LONG_MS = 150_000;
const POLL_MS = 50;
const names = ["host-a", "host-b"] as const;
type Name = (typeof names)[number];

const hosts = new Map<Name, RealService>();
let folder: { path: string; remove(): Promise<void> };
const ports = new Map<Name, number>();

function configure(name: Name): Record<string, string> {
  const other = names.find((one) => one !== name) ?? name;
  const file = (kind: string) => join(folder.path, `${name}-${kind}`);
  const digest = createHash("sha256").update(TOKEN).digest("hex");
  writeFileSync(file("tokens"), `operator * ${digest}\n`);
  writeFileSync(file("token"), `${TOKEN}\n`);
  const peer = {
    name: other,
    url: `http://127.0.0.1:${ports.get(other)}`,
    tokenFile: file("token"),
  };
  writeFileSync(file("peers.json"), JSON.stringify([peer]));
  return {
    INSTANCE_NAME: name,
    PEERS_FILE: file("peers.json"),
    TOKENS_FILE: file("tokens"),
  };
}

async function start(name: Name): Promise<void> {
  const options = { dataDir: join(folder.path, name), port: ports.get(name) ?? 0 };
  hosts.set(name, await startReal({ ...options, env: configure(name) }));
}

beforeAll(async () => {
  folder = await temporary("migration");
  for (const name of names) ports.set(name, await freePort());
  for (const name of names) await start(name);
});
afterAll(async () => {
  for (const host of hosts.values()) await host.stop();
  await folder.remove();
});

async function call(host: Name, method: string, path: string, body?: unknown) {
  const isBytes = body instanceof Uint8Array;
  const type = isBytes ? "application/octet-stream" : "application/json";
  const answer = await fetch(`${hosts.get(host)?.origin}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${TOKEN}`,
      ...(body === undefined ? {} : { "content-type": type }),
    },
    ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
  });
  const text = await answer.text();
  const isJson = answer.headers.get("content-type")?.includes("json") === true;
  return { status: answer.status, body: (isJson ? JSON.parse(text) : { text }) as Json };
}

const get = async (host: Name, path: string) => (await call(host, "GET", path)).body;

async function until<T>(look: () => Promise<T | null>, what: string): Promise<T> {
  const end = systemClock.monotonicMs() + WAIT_MS;
  while (systemClock.monotonicMs() < end) {
    const found = await look();
    if (found !== null) return found;
    await systemClock.sleep(POLL_MS);
  }
  throw new Error(`never ${what}`);
}

const consoleOf = async (host: Name, vm: string) =>
  String((await get(host, `${vm}/console?offset=0`))["text"] ?? "");

const says = (host: Name, vm: string, text: string) =>
  until(async () => ((await consoleOf(host, vm)).includes(text) ? true : null), `says ${text}`);

async function boot(host: Name, image: string): Promise<string> {
  const put = await call(host, "PUT", `/v1/images/${image}`, guestImage(image));
  expect(put.status).toBeLessThan(300);
  const made = await call(host, "POST", "/v1/vms", {
    name: `${image}-guest`,
    labels: { team: "migration" },
    board: { image, memoryMiB: 16 },
  });
  expect([made.status, made.body]).toEqual([201, made.body]);
  const vm = `/v1/vms/${made.body["id"]}`;
  await call(host, "POST", `${vm}:start`);
  return vm;
}

/** Waits until a session has ended. */
const ended = (host: Name, id: string): Promise<Migration> =>
  until(async () => {
    const found = (await get(host, `/v1/migrations/${id}?wait=5`)) as Migration;
    return ["completed", "failed", "cancelled"].includes(found.state) ? found : null;
  }, "ended");

/** A migration that sends pages and takes its time. */
async function beginSlowly(from: Name, vm: string, peer: Name) {
  const vmId = vm.split("/").at(-1);
  const parameters = { bandwidthBytesPerSecond: 1000 };
  const made = await call(from, "POST", "/v1/migrations", { vmId, peer, parameters });
  expect([made.status, made.body]).toEqual([202, made.body]);
  const id = String(made.body["id"]);
  const there = await until(async () => {
    const { state, peerSession } = (await get(from, `/v1/migrations/${id}`)) as Migration;
    return state === "active" ? String(peerSession) : null;
  }, "active");
  return { id, there };
}

async function move(from: Name, vm: string, body: Json): Promise<Migration> {
  const vmId = vm.split("/").at(-1);
  const made = await call(from, "POST", "/v1/migrations", { vmId, ...body });
  expect([made.status, made.body]).toEqual([202, made.body]);
  return ended(from, String(made.body["id"]));
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
    await says("host-a", vm, "\n");
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
    expect(String(chart.body["text"])).toMatch(/^<svg/);
    const metrics = String((await get("host-a", "/metrics"))["text"]);
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
    await hosts.get("host-b")?.crash();
    const failed = await move("host-a", vm, { peer: "host-b" });
    expect(failed.state).toBe("failed");
    expect(failed.failure).toMatchObject({ side: "wire", code: "peer-unreachable" });
    await call("host-a", "POST", `${vm}/console`, { text: "still here\n" });
    await says("host-a", vm, "still here");
    await start("host-b");
  });

  it(
    "kill -9 of the target: the VM goes on, and both sides say what happened",
    async () => {
      const vm = await boot("host-a", "hello");
      await says("host-a", vm, "\n");
      const { id, there } = await beginSlowly("host-a", vm, "host-b");
      await hosts.get("host-b")?.crash();
      await start("host-b");
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
      await hosts.get("host-a")?.crash();
      await start("host-a");
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
