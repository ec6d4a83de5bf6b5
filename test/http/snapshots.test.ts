// Goal: snapshots of running VMs through the whole service: taken, chained, restored, after a crash
// too.
// Method: the compiled service as a process, killed with SIGKILL; a client's VM and a board whose
// guest stores without end.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestImage } from "../support/board.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

const OCTETS = { "content-type": "application/octet-stream" };
const JSON_TYPE = { "content-type": "application/json" };
const WAIT = { prefer: "wait=60" };
const WAIT_MS = 60_000;
const SIZE = 2 ** 20;

let service: RealService;
let dataDir: { path: string; remove(): Promise<void> };

beforeAll(async () => {
  dataDir = await temporary("snapshots");
  service = await startReal({ dataDir: dataDir.path });
  await call("PUT", "/v1/images/stores", guestImage("stores"));
}, WAIT_MS);
afterAll(async () => {
  await service.stop();
  await dataDir.remove();
});

type Body = Record<string, unknown>;

async function call(method: string, path: string, body?: unknown, headers = {}) {
  const isBytes = body instanceof Uint8Array;
  const answer = await fetch(`${service.origin}${path}`, {
    method,
    headers: { ...(body === undefined ? {} : isBytes ? OCTETS : JSON_TYPE), ...headers },
    ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
  });
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const isJson = answer.headers.get("content-type")?.includes("json") === true;
  const json = (isJson ? JSON.parse(Buffer.from(bytes).toString()) : {}) as Body;
  return { status: answer.status, body: json, bytes, headers: answer.headers };
}

async function ok(method: string, path: string, body?: unknown, headers = {}): Promise<Body> {
  const answer = await call(method, path, body, headers);
  expect([method, path, answer.status < 300, answer.body]).toEqual([
    method,
    path,
    true,
    answer.body,
  ]);
  return answer.body;
}

const snap = (vm: string, body: object) => ok("POST", `${vm}/snapshots`, body, WAIT);
const pathOf = ({ id }: Body) => `/v1/vms/${id}`;
const kill = async (): Promise<void> => {
  await service.crash();
  service = await startReal({ dataDir: dataDir.path });
};

/** A VM whose client is the VMM: one object in one slot, one vCPU. */
async function clientVm(): Promise<string> {
  const vm = pathOf(await ok("POST", "/v1/vms", { name: "mine", labels: { a: "b" } }));
  const object = await ok("POST", `${vm}/memory-objects`, { size: `0x${SIZE.toString(16)}` });
  const slot = { guestPhysAddr: "0x40000000", memorySize: object["size"] };
  await ok("PUT", `${vm}/memslots/0`, { ...slot, userspaceAddr: object["userspaceAddr"] });
  await ok("PUT", `${vm}/vcpus/0`);
  return vm;
}

const AT = "gpa=0x40000000";
const write = (vm: string, bytes: Uint8Array) => ok("PUT", `${vm}/physical-memory?${AT}`, bytes);
const read = async (vm: string) =>
  (await call("GET", `${vm}/physical-memory?${AT}&length=${SIZE}`)).bytes;
const text = async (vm: string) => Buffer.from((await read(vm)).subarray(0, 5)).toString("latin1");
const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe("a client's VM", () => {
  let vm = "";
  let full: Body = {};
  let second: Body = {};

  it("is taken in full, then in differences, while it stays as it is", async () => {
    vm = await clientVm();
    await write(vm, Buffer.from("first"));
    full = await snap(vm, { name: "one" });
    expect(full).toMatchObject({ kind: "full", state: "complete", isTracked: true, parent: null });
    expect(full).toMatchObject({ pages: { stored: 1, zero: SIZE / 4096 - 1 }, name: "one" });
    await write(vm, Buffer.from("secnd"));
    second = await snap(vm, { kind: "differential" });
    expect(second).toMatchObject({ parent: full["id"], chain: full["id"], pages: { stored: 1 } });
    expect(second["fileBytes"]).toBeLessThan(100_000);
    await write(vm, Buffer.from("third"));
    expect((await ok("GET", `/v1/snapshots/${full["id"]}`))["isTracked"]).toBe(false);
    const list = await ok("GET", `/v1/snapshots?vm=${vm.split("/").at(-1)}`);
    expect((list["items"] as Body[]).map(({ id }) => id)).toEqual([full["id"], second["id"]]);
    expect(await text(vm)).toBe("third");
  });

  it("refuses what can't be: the client's own log, a wrong parent, deleting a parent", async () => {
    const log = await call("GET", `${vm}/memslots/0/dirty-log`);
    expect([log.status, log.body["code"]]).toEqual([409, "dirty-log-owned"]);
    const from = { kind: "differential", parent: full["id"] };
    const late = await call("POST", `${vm}/snapshots`, from);
    expect([late.status, late.body["code"], late.body["tip"]]).toEqual([
      ...[409, "snapshot-parent", second["id"]],
    ]);
    const used = await call("DELETE", `/v1/snapshots/${full["id"]}`);
    expect([used.status, used.body["code"]]).toEqual([409, "snapshot-in-use"]);
    const unknown = await call("POST", `${vm}/snapshots`, { ...from, parent: "snap_x" });
    expect([unknown.status, unknown.body["code"]]).toEqual([422, "snapshot-unknown"]);
  });

  it("becomes a VM of its own, and goes back itself", async () => {
    const uuid = (await ok("GET", vm))["uuid"];
    const made = await ok("POST", `/v1/snapshots/${full["id"]}:restore`, { name: "again" });
    expect(made).toMatchObject({ name: "again", labels: { a: "b" }, state: "active" });
    expect(made["uuid"]).not.toBe(uuid);
    expect(await text(pathOf(made))).toBe("first");
    await ok("DELETE", pathOf(made));
    const back = await ok("POST", `${vm}:restore`, {});
    expect([back["uuid"], await text(vm)]).toEqual([uuid, "secnd"]);
    await ok("POST", `${vm}:restore`, { snapshot: full["id"] });
    expect(await text(vm)).toBe("first");
    const diff = await call("POST", `${vm}/snapshots`, { kind: "differential" });
    expect([diff.status, diff.body["code"]]).toEqual([409, "snapshot-parent"]);
  });

  it("has its ioeventfds after a restore, and they are listed", async () => {
    const own = pathOf(await ok("POST", "/v1/vms", {}));
    await ok("PUT", `${own}/vcpus/0`);
    const [bell, gone] = [
      await ok("POST", "/v1/eventfds", {}),
      await ok("POST", "/v1/eventfds", {}),
    ];
    const at = (addr: string, eventfd: unknown) =>
      ok("POST", `${own}/ioeventfds`, { eventfd, addr, len: 4, datamatch: "0x2a" });
    const second = await at("0x9000010", gone["id"]);
    const first = await at("0x9000000", bell["id"]);
    const list = async () => (await ok("GET", `${own}/ioeventfds`))["items"] as Body[];
    expect(await list()).toEqual([second, first]);
    const taken = await snap(own, {});
    await ok("DELETE", `${own}/ioeventfds/${second["id"]}`);
    await ok("DELETE", `/v1/eventfds/${gone["id"]}`);
    await ok("POST", `${own}:restore`, {});
    const [one, two] = await list();
    expect([one, two]).toMatchObject([
      { ...first, id: one?.["id"] },
      // Its eventfd was closed meanwhile, and was made anew.
      { ...second, id: two?.["id"], eventfd: expect.not.stringMatching(String(gone["id"])) },
    ]);
    expect((await ok("GET", `/v1/eventfds/${two?.["eventfd"]}`))["count"]).toBe("0x0");
    await ok("DELETE", `${own}/ioeventfds/${one?.["id"]}`);
    expect(await list()).toEqual([two]);
    const again = await call("POST", `${own}/ioeventfds`, {
      ...{ eventfd: bell["id"], addr: "0x9000010", len: 4, datamatch: "0x2a" },
    });
    expect([again.status, again.body["errno"]]).toEqual([409, "EEXIST"]);
    await ok("DELETE", own);
    await ok("DELETE", `/v1/snapshots/${taken["id"]}`);
  });

  it("has its in-kernel devices again by a snapshot, and else says they are gone", async () => {
    const own = pathOf(await ok("POST", "/v1/vms", {}));
    await ok("PUT", `${own}/vcpus/0`);
    await ok("POST", `${own}/devices`, { type: 7 });
    const devices = async () => (await ok("GET", `${own}/devices`))["items"] as Body[];
    const before = await devices();
    expect(before).toMatchObject([{ type: 7 }]);
    const taken = await snap(own, {});
    const stopped = await ok("POST", `${own}:stop`);
    expect(stopped["stateReason"]).toContain("in-kernel devices, interrupt routes");
    await ok("POST", `${own}:start`);
    expect(await devices()).toEqual([]);
    expect((await ok("GET", `${own}/vcpus`))["items"]).toHaveLength(1);
    await ok("POST", `${own}:restore`, {});
    expect(await devices()).toEqual(before);
    await ok("DELETE", own);
    await ok("DELETE", `/v1/snapshots/${taken["id"]}`);
  });

  it("is given whole as a file, which is refused once it was changed", async () => {
    const content = await call("GET", `/v1/snapshots/${second["id"]}/content`);
    expect(content.bytes.length).toBe(second["fileBytes"]);
    expect(hash(content.bytes.subarray(0, -64))).toBe(second["sha256"]);
    const path = join(dataDir.path, "snapshots", `${full["id"]}.tmsnap`);
    const good = readFileSync(path);
    const bad = Buffer.from(good);
    bad[100] = (bad[100] ?? 0) ^ 1;
    writeFileSync(path, bad);
    const broken = await call("POST", `${vm}:restore`, { snapshot: second["id"] });
    expect([broken.status, broken.body["code"]]).toEqual([409, "snapshot-broken"]);
    expect(await text(vm)).toBe("first");
    writeFileSync(path, good);
    await ok("POST", `${vm}:restore`, { snapshot: second["id"] });
    expect(await text(vm)).toBe("secnd");
  });

  it(
    "comes back after SIGKILL, as its reason says, also when only the snapshot is left",
    async () => {
      writeFileSync(join(dataDir.path, "snapshots", "snap_half.tmsnap.partial"), "half");
      await kill();
      const lost = await ok("GET", vm);
      expect(lost["state"]).toBe("lost");
      expect(lost["stateReason"]).toContain(String(second["id"]));
      expect(readdirSync(join(dataDir.path, "snapshots")).sort()).toEqual(
        [`${full["id"]}.tmsnap`, `${second["id"]}.tmsnap`].sort(),
      );
      await ok("POST", `${vm}:restore`);
      expect(await text(vm)).toBe("secnd");
      await ok("DELETE", vm);
      const made = await ok("POST", `/v1/snapshots/${second["id"]}:restore`);
      expect([made["uuid"], await text(pathOf(made))]).toEqual([lost["uuid"], "secnd"]);
      await ok("DELETE", pathOf(made));
      await ok("DELETE", `/v1/snapshots/${second["id"]}`);
      await ok("DELETE", `/v1/snapshots/${full["id"]}`);
      expect(readdirSync(join(dataDir.path, "snapshots"))).toEqual([]);
    },
    WAIT_MS,
  );
});

describe("where there is no room", () => {
  it(
    "answers 507, leaves nothing, and tells the next differential of what was dirty",
    async () => {
      const small = await temporary("snapshots-small");
      const large = service;
      service = await startReal({ dataDir: small.path, env: { SNAPSHOTS_MIB: "1" } });
      try {
        const vm = await clientVm();
        const full = await snap(vm, { track: true });
        const noise = Uint8Array.from({ length: SIZE }, (_, at) => (at * 7919) >>> 8);
        await write(vm, noise);
        const differential = { kind: "differential" };
        const refused = await call("POST", `${vm}/snapshots`, differential, WAIT);
        expect([refused.status, refused.body["code"]]).toEqual([507, "disk-full"]);
        expect(readdirSync(join(small.path, "snapshots"))).toEqual([`${full["id"]}.tmsnap`]);
        const { items } = await ok("GET", "/v1/snapshots");
        expect(items).toMatchObject([{}, { state: "failed", problem: "disk-full" }]);
        expect(hash(await read(vm))).toBe(hash(noise));

        await write(vm, new Uint8Array(SIZE / 2));
        const diff = await snap(vm, differential);
        expect(diff).toMatchObject({ parent: full["id"], state: "complete" });
        const memory = hash(await read(vm));
        await write(vm, new Uint8Array(SIZE));
        await ok("POST", `${vm}:restore`, { snapshot: diff["id"] });
        expect(hash(await read(vm))).toBe(memory);
        expect((await call("GET", "/metrics")).bytes.length).toBeGreaterThan(0);
      } finally {
        await service.stop();
        service = large;
        await small.remove();
      }
    },
    WAIT_MS,
  );
});

describe("a board", () => {
  it(
    "is held for a moment, goes on, and is restored as it was then",
    async () => {
      const board = { image: "stores", memoryMiB: 64 };
      const vm = pathOf(await ok("POST", "/v1/vms", { board, clock: { mode: "virtual" } }));
      await ok("POST", `${vm}:start`);
      const full = await snap(vm, {});
      expect(full).toMatchObject({ state: "complete", memoryBytes: 64 * SIZE, isTracked: true });
      const diff = await snap(vm, { kind: "differential" });
      expect(diff).toMatchObject({ state: "complete" });
      expect((await ok("GET", `${vm}/board`))["state"]).toBe("running");

      const copies: string[] = [];
      for (let n = 0; n < 2; n++) {
        const restore = { paused: true };
        const made = pathOf(await ok("POST", `/v1/snapshots/${diff["id"]}:restore`, restore));
        expect((await ok("GET", `${made}/board`))["state"]).toBe("paused");
        copies.push(made);
      }
      const memory = await Promise.all(copies.map(async (copy) => hash(await read(copy))));
      expect(memory[0]).toBe(memory[1]);
      const before = (await ok("GET", `${copies[0]}/counters`))["counters"];
      await ok("POST", `${copies[0]}:resume`);
      const again = await ok("POST", `/v1/snapshots/${full["id"]}:restore`);
      expect((await ok("GET", `${pathOf(again)}/board`))["state"]).toBe("running");
      expect((await ok("GET", `${copies[0]}/board`))["state"]).toBe("running");
      expect((await ok("GET", `${copies[0]}/counters`))["counters"]).not.toEqual(before);
      const image = await call("DELETE", "/v1/images/stores");
      expect(image.body["code"]).toBe("image-in-use");
      for (const one of [vm, pathOf(again), ...copies]) await ok("DELETE", one);
      // No VM needs it any more; the snapshots do.
      expect((await call("DELETE", "/v1/images/stores")).body["detail"]).toContain("snap_");
    },
    WAIT_MS,
  );

  it(
    "loses at most its last period in a crash",
    async () => {
      const board = { image: "stores", memoryMiB: 16 };
      const vm = pathOf(await ok("POST", "/v1/vms", { board }));
      await ok("POST", `${vm}:start`);
      const policy = { everySeconds: 1, keep: 2, differential: true };
      expect(await ok("PUT", `${vm}/autosnapshot`, policy)).toMatchObject({
        ...policy,
        latest: null,
      });
      const own = async () => {
        const { items } = await ok("GET", `/v1/snapshots?vm=${vm.split("/").at(-1)}`);
        return (items as Body[]).filter(({ state }) => state === "complete");
      };
      const seen = new Set<unknown>();
      for (const end = performance.now() + WAIT_MS; seen.size < 5 && performance.now() < end; ) {
        const now = await own();
        for (const { id } of now) seen.add(id);
        expect(now.length).toBeLessThan(5);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      expect(seen.size).toBeGreaterThanOrEqual(5);
      await kill();
      const left = await own();
      expect(left.length).toBeGreaterThanOrEqual(2);
      const lost = await ok("GET", vm);
      expect(lost).toMatchObject({ state: "lost" });
      expect(lost["stateReason"]).toContain(String(left.at(-1)?.["id"]));
      await ok("POST", `${vm}:restore`);
      expect((await ok("GET", `${vm}/board`))["state"]).toBe("running");
      expect(await ok("GET", `${vm}/autosnapshot`)).toMatchObject(policy);
      expect((await call("DELETE", `${vm}/autosnapshot`)).status).toBe(204);
      expect((await call("GET", `${vm}/autosnapshot`)).body["code"]).toBe("autosnapshot-not-found");
    },
    2 * WAIT_MS,
  );
});
