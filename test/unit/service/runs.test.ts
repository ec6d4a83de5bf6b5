// Goal: a run is a resource: one active per vCPU, waited for, kicked, and its result kept a while.
// Method: the service over a fake runtime whose runs end when the test says so.
import { afterEach, beforeEach, expect, it } from "vitest";
import { KvmError } from "../../../src/base/errors.js";
import { refusalOf, spec, type TestService, testService } from "../../support/services.js";

const OPTIONS = { immediateExit: false, mmioData: null, timeoutMs: null };

let t: TestService;
let id: string;
beforeEach(async () => {
  t = await testService({ limits: { runsPerVcpu: 3 } });
  id = (await t.services.vms.create(spec()))?.id ?? "";
  await t.services.vms.command(id, "createVcpu", { id: 0 });
});
afterEach(() => t.remove());

const start = (more = {}) => t.services.runs.start(id, 0, { ...OPTIONS, ...more });
const get = (runId: string, waitMs = 0) => t.services.runs.get(id, 0, runId, waitMs);

it("runs until its exit, and a waiter hears of it at once", async () => {
  const run = await start();
  expect(run).toEqual({
    id: "run_1-1",
    vmId: id,
    vcpu: 0,
    state: "running",
    result: null,
    kickRequested: false,
  });
  const waiting = get(run.id, 60_000);
  expect(await get(run.id, 5)).toMatchObject({ state: "running" });
  t.runtime.latest.exit(0, { retired: 7 });
  expect(await waiting).toMatchObject({ state: "exited", result: { errno: null, retired: 7 } });
});

it("refuses a second run of a vCPU, an unknown vCPU and an unknown run", async () => {
  const run = await start();
  const second: unknown = await start().catch((error: unknown) => error);
  expect(second).toMatchObject({ code: "vcpu-running", extensions: { runId: run.id } });
  expect(await refusalOf(t.services.runs.start(id, 1, OPTIONS))).toBe("vcpu-not-found");
  expect(await refusalOf(t.services.runs.list(id, 1))).toBe("vcpu-not-found");
  expect(await refusalOf(get("run_1-2"))).toBe("run-not-found");
  expect(await refusalOf(get("run_2-1"))).toBe("run-not-found");
  expect(await refusalOf(get("x"))).toBe("run-not-found");
});

it("kicks once, by request or by timeout, and never the next run", async () => {
  const first = await start();
  const kicked = await t.services.runs.kick(id, 0, first.id);
  expect(kicked).toMatchObject({ kickRequested: true });
  expect(await get(first.id, 1_000)).toMatchObject({ state: "exited", result: { errno: "EINTR" } });
  const second = await start({ timeoutMs: 20 });
  expect(await t.services.runs.kick(id, 0, first.id)).toMatchObject({ state: "exited" });
  expect(await get(second.id)).toMatchObject({ state: "running", kickRequested: false });
  expect(await get(second.id, 5_000)).toMatchObject({ state: "exited", kickRequested: true });
  expect(await t.services.runs.kick(id, 0, null)).toBeNull();
  const third = await start();
  expect(await t.services.runs.kick(id, 0, null)).toMatchObject({ id: third.id });
});

it("keeps the last results; older ones are gone, not unknown", async () => {
  for (let i = 0; i < 5; i++) {
    const run = await start();
    t.runtime.latest.exit(0);
    await get(run.id, 1_000);
  }
  const kept = (await t.services.runs.list(id, 0)).map((run) => run.id);
  expect(kept).toEqual(["run_1-3", "run_1-4", "run_1-5"]);
  expect(await refusalOf(get("run_1-2"))).toBe("run-gone");
  expect(await refusalOf(get("run_1-6"))).toBe("run-not-found");
  const after = await t.afterKill();
  expect(await refusalOf(after.services.runs.get(id, 0, "run_1-5", 0))).toBe("run-gone");
  await after.services.vms.start(id);
  expect(await refusalOf(after.services.runs.get(id, 0, "run_1-5", 0))).toBe("run-gone");
  expect(await after.services.runs.start(id, 0, OPTIONS)).toMatchObject({ id: "run_2-1" });
});

it("ends with an errno when the run is refused or its VM goes away", async () => {
  t.runtime.latest.refuse.set("run", new KvmError("ENOEXEC", "KVM_RUN", "not initialised"));
  const refused = await start();
  expect(await get(refused.id, 1_000)).toMatchObject({ result: { errno: "ENOEXEC" } });
  t.runtime.latest.refuse.clear();
  const running = await start();
  await t.services.vms.stop(id);
  expect(await get(running.id, 1_000)).toMatchObject({ result: { errno: "EIO" } });
  expect(await refusalOf(start())).toBe("vm-not-active");
  expect(await refusalOf(t.services.runs.kick(id, 0, null))).toBe("vm-not-active");
  await t.services.vms.delete(id, null);
  expect(await refusalOf(get(running.id))).toBe("vm-not-found");
});
