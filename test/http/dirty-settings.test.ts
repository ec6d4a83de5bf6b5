// Goal: settings of dirty tracking as a caller sees them: catalogue, creation, changes, replay and
// another life of the service.
// Method: the compiled service on a random port; it is stopped and started again on its records.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { POLICIES } from "../../src/kvm/dirty/policy.table.js";
import { SEED_BUGS } from "../../src/kvm/dirty/seed-bug.table.js";
import { DIAGNOSTICS } from "../../src/machine/dirty/diagnostics.js";
import { FAULT_KINDS } from "../../src/machine/dirty/faults.js";
import { DIRTY_MODEL } from "../../src/machine/dirty/model.table.js";
import { jsonClient } from "../support/json-client.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

let service: RealService;
let dataDir: { path: string; remove(): Promise<void> };
const call = jsonClient(() => service);

beforeAll(async () => {
  dataDir = await temporary("dirty-settings");
  service = await startReal({ dataDir: dataDir.path });
});
afterAll(async () => {
  await service.stop();
  await dataDir.remove();
});

async function create(body: object): Promise<string> {
  const made = await call("POST", "/v1/vms", body);
  expect([made.status, made.body.detail]).toEqual([201, undefined]);
  return made.location;
}

const settingsOf = async (vm: string) => (await call("GET", `${vm}/dirty-settings`)).body;
const ASKED = { "hdbss.enableBy": "ioctl-v2", "hardware.lookahead": 8, "hardware.vhe": false };

describe("GET /v1/dirty-settings", () => {
  it("lists every row of every table with its sentence", async () => {
    const { body } = await call("GET", "/v1/dirty-settings");
    const keys = body.settings.map(({ key }: { key: string }) => key);
    expect(keys).toEqual([...Object.keys(DIRTY_MODEL), ...Object.keys(POLICIES)]);
    const sync = body.settings.find(({ key }: { key: string }) => key === "hdbss.sync");
    expect(sync).toEqual({
      key: "hdbss.sync",
      of: "kvm",
      says: POLICIES["hdbss.sync"].says,
      values: ["wait-drain", "request-nowait", "request-wait-ack", "kick-async"],
      range: null,
      default: "wait-drain",
      changeable: "always",
      source: "H2, S1",
    });
    const size = body.settings.find(({ key }: { key: string }) => key === "hdbss.size");
    expect(size).toMatchObject({ values: null, range: { min: -1, max: 9 }, default: 0 });
    const b12 = { name: "B12", ...SEED_BUGS.B12 };
    expect(body.seedBugs).toHaveLength(Object.keys(SEED_BUGS).length);
    expect(body.seedBugs).toContainEqual(b12);
    expect(body.faultKinds).toHaveLength(Object.keys(FAULT_KINDS).length);
    expect(body.diagnostics).toHaveLength(Object.keys(DIAGNOSTICS).length);
  });

  it("has the same settings in the document, each with its sentence and values", async () => {
    const { body } = await call("GET", "/openapi.json");
    const { properties } = body.components.schemas.DirtySettingsGiven;
    expect(Object.keys(properties)).toHaveLength(
      Object.keys(DIRTY_MODEL).length + Object.keys(POLICIES).length,
    );
    expect(properties["hdbss.sync"].enum).toEqual(POLICIES["hdbss.sync"].values);
    expect(properties["hdbss.sync"].description).toContain(POLICIES["hdbss.sync"].says);
    expect(properties["hardware.lookahead"]).toMatchObject({ minimum: 0, maximum: 512 });
  });
});

describe("POST /v1/vms with dirty", () => {
  it("takes settings and defects, and tells them back", async () => {
    const vm = await create({ dirty: { settings: ASKED, seedBugs: ["B12", "D4"] } });
    const { body } = await call("GET", vm);
    expect(body.definition.dirty).toEqual({ settings: ASKED, seedBugs: ["B12", "D4"] });
    const now = await settingsOf(vm);
    expect(now.settings).toMatchObject({ ...ASKED, "hdbss.sync": "wait-drain" });
    expect(now.seedBugs).toEqual(["B12", "D4"]);
  });

  it("leaves a VM that asks for nothing as it always was", async () => {
    const vm = await create({});
    expect((await call("GET", vm)).body.definition).not.toHaveProperty("dirty");
    expect((await settingsOf(vm)).seedBugs).toEqual([]);
  });

  it.each([
    [{ settings: { "hdbss.sync": "never" } }, "/dirty/settings/hdbss.sync", /wait-drain, request/],
    [{ settings: { "hdbss.size": 10 } }, "/dirty/settings/hdbss.size", /9/],
    [{ settings: { "hardware.vhe": "no" } }, "/dirty/settings/hardware.vhe", /boolean/],
    [{ settings: { "hdbss.nope": 1 } }, "/dirty/settings/hdbss.nope", /not a known field/],
    [{ seedBugs: ["B10"] }, "/dirty/seedBugs/0", /B1, B2/],
    [{ seedBugs: ["B1", "B1"] }, "/dirty/seedBugs", /unique|duplicate/],
  ])("refuses %j", async (dirty, pointer, detail) => {
    const { status, body } = await call("POST", "/v1/vms", { dirty });
    expect([status, body.code]).toEqual([400, "validation"]);
    expect(body.errors[0].pointer).toBe(pointer);
    expect(body.detail).toMatch(detail);
  });
});

describe("PATCH /v1/vms/{vm}/dirty-settings", () => {
  it("changes what may change always, null being the default", async () => {
    const vm = await create({ dirty: { settings: { "hdbss.size": 4 } } });
    const settings = { "hacdbs.completion": "irq-wfi", "hdbss.size": null };
    const path = `${vm}/dirty-settings`;
    const changed = await call("PATCH", path, { settings, seedBugs: ["D20"] });
    expect(changed.status).toBe(200);
    expect(changed.body).toEqual(await settingsOf(vm));
    expect(changed.body.settings).toMatchObject({ ...settings, "hdbss.size": 0 });
    expect(changed.body.seedBugs).toEqual(["D20"]);
    const kept = await call("PATCH", path, { settings: { "hdbss.size": 2 } });
    expect(kept.body.seedBugs).toEqual(["D20"]);
    const { body } = await call("GET", vm);
    expect(body.version).toBe(3);
    expect(body.definition.dirty).toEqual({
      settings: { "hacdbs.completion": "irq-wfi", "hdbss.size": 2 },
      seedBugs: ["D20"],
    });
  });

  it("refuses what is fixed by creation or the first vCPU, all or nothing", async () => {
    const vm = await create({});
    const path = `${vm}/dirty-settings`;
    const early = await call("PATCH", path, { settings: { "hdbss.sizeUnit": "bytes" } });
    expect(early.status).toBe(200);
    expect((await call("PUT", `${vm}/vcpus/0`)).status).toBe(201);
    const settings = { "hdbss.size": 3, "hdbss.sizeUnit": "order" };
    const late = await call("PATCH", path, { settings });
    expect(late.status).toBe(409);
    expect(late.body).toMatchObject({ code: "setting-fixed", setting: "hdbss.sizeUnit" });
    expect(late.body.detail).toBe("hdbss.sizeUnit can only change while the VM has no vCPU.");
    const never = await call("PATCH", path, { settings: { "hardware.hdbss": false } });
    expect([never.status, never.body.detail]).toEqual([
      409,
      "hardware.hdbss can only be given when the VM is created.",
    ]);
    const { settings: now } = await settingsOf(vm);
    expect(now).toMatchObject({ "hdbss.size": 0, "hdbss.sizeUnit": "bytes" });
    const wrong = await call("PATCH", path, { settings: { "hdbss.sync": "never" } });
    expect([wrong.status, wrong.body.code]).toEqual([400, "validation"]);
    expect(wrong.body.detail).toMatch(/^\/settings\/hdbss\.sync must be one of wait-drain, /);
    const same = await call("PATCH", path, { settings: { "hardware.hdbss": true } });
    expect(same.status).toBe(200);
  });
});

describe("what lasts", () => {
  it("replays definition and changes", async () => {
    const vm = await create({ dirty: { settings: ASKED, seedBugs: ["B12"] } });
    await call("PATCH", `${vm}/dirty-settings`, {
      settings: { "hardware.zeroAhead": true },
      seedBugs: ["B13"],
    });
    const log = (await call("GET", `${vm}/inputs`)).body;
    expect(log.definition.dirty).toEqual({ settings: ASKED, seedBugs: ["B12"] });
    const again = await create({ inputs: { log } });
    await expect
      .poll(async () => (await call("GET", again)).body.kvm.replaying, { timeout: 10_000 })
      .toBe(false);
    expect(await settingsOf(again)).toEqual(await settingsOf(vm));
    const [one, two] = [await call("GET", `${vm}/digest`), await call("GET", `${again}/digest`)];
    expect(two.body).toEqual(one.body);
    await expect
      .poll(async () => (await call("GET", again)).body.definition.dirty?.seedBugs)
      .toEqual(["B13"]);
    log.definition.dirty.settings["hdbss.sync"] = "never";
    const refused = await call("POST", "/v1/vms", { inputs: { log } });
    expect([refused.status, refused.body.code]).toEqual([422, "bad-input-log"]);
    expect(refused.body.detail).toMatch(/^definition\.dirty is wrong: hdbss\.sync must be one of/);
  });

  it("survives stop, start, and another life of the service", async () => {
    const vm = await create({ dirty: { settings: ASKED, seedBugs: ["B12"] } });
    await call("PATCH", `${vm}/dirty-settings`, { settings: { "clear.mode": "async-run" } });
    const before = await settingsOf(vm);
    await call("POST", `${vm}:stop`);
    expect((await call("GET", `${vm}/dirty-settings`)).body.code).toBe("vm-not-active");
    await call("POST", `${vm}:start`);
    expect(await settingsOf(vm)).toEqual(before);
    await service.crash();
    service = await startReal({ dataDir: dataDir.path });
    const record = (await call("GET", vm)).body;
    expect([record.state, record.definition.dirty]).toEqual([
      "lost",
      { settings: { ...ASKED, "clear.mode": "async-run" }, seedBugs: ["B12"] },
    ]);
    await call("POST", `${vm}:start`);
    expect(await settingsOf(vm)).toEqual(before);
  });
});
