// Goal: VMs go through their states with every answer durable and every refusal without effect.
// Method: the service over a real store and a fake runtime.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KvmError } from "../../../src/base/errors.js";
import { encodeInputLog } from "../../../src/runtime/index.js";
import {
  DEFINITION,
  refusalOf,
  spec,
  type TestService,
  testService,
} from "../../support/services.js";

let t: TestService;
beforeEach(async () => {
  t = await testService();
});
afterEach(() => t.remove());

const eventTypes = async () => (await t.services.events.list(0, 100)).items.map((e) => e.type);
const made = async (more = {}) => {
  const vm = await t.services.vms.create(spec(more));
  if (vm === null) throw new Error("no VM");
  return vm;
};

describe("create", () => {
  it("answers a VM that a crash does not take", async () => {
    const vm = await made({ name: "one", labels: { a: "b" }, uuid: "A".repeat(8) });
    expect(vm.id).toMatch(/^vm_[A-Za-z0-9_-]{16}$/);
    expect(vm).toMatchObject({ state: "active", version: 1, uuid: "aaaaaaaa", labels: { a: "b" } });
    const after = await t.afterKill();
    expect(await after.services.vms.get(vm.id)).toMatchObject({
      name: "one",
      definition: DEFINITION,
      state: "lost",
    });
  });

  it("builds and closes for validateOnly, and lets the runtime refuse", async () => {
    expect(await t.services.vms.create(spec({ validateOnly: true, uuid: "u" }))).toBeNull();
    expect(t.runtime.live()).toBe(0);
    t.runtime.refuse = new KvmError("EINVAL", "KVM_CREATE_VM", "bad type");
    expect(await refusalOf(t.services.vms.create(spec({ uuid: "u" })))).toBe("EINVAL");
    t.runtime.refuse = null;
    await made({ uuid: "u" });
    expect(await eventTypes()).toEqual(["server.started", "vm.created"]);
  });

  it("keeps uuids unique, also among VMs that are just being created", async () => {
    const both = await Promise.allSettled([
      t.services.vms.create(spec({ uuid: "u" })),
      t.services.vms.create(spec({ uuid: "U" })),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await refusalOf(made({ uuid: "u" }))).toBe("uuid-taken");
  });

  it("leaves nothing when the record can't be written", async () => {
    t.refuse.add("put-vm");
    expect(await refusalOf(made({ uuid: "u" }))).toBe("store-unavailable");
    expect(t.runtime.live()).toBe(0);
    expect(t.services.readiness().ready).toBe(false);
    t.refuse.clear();
    await made({ uuid: "u" });
    expect(t.services.readiness().ready).toBe(true);
    expect(await eventTypes()).toEqual(["server.started", "server.record-refused", "vm.created"]);
  });

  it("is refused beyond the limit and while draining", async () => {
    const small = await testService({ limits: { vmRecords: 1 } });
    const two = [small.services.vms.create(spec()), small.services.vms.create(spec())];
    const ends = await Promise.allSettled(two);
    expect(ends.filter(({ status }) => status === "rejected")).toHaveLength(1);
    expect(await refusalOf(small.services.vms.create(spec()))).toBe("vm-limit");
    small.services.drain();
    expect(await refusalOf(small.services.vms.create(spec()))).toBe("draining");
    expect(small.services.readiness()).toMatchObject({ ready: false });
    await small.remove();
  });

  it("closes a VM whose thread was ready only after draining began", async () => {
    let open = () => {};
    t.runtime.gate = new Promise((resolve) => {
      open = resolve;
    });
    const creating = t.services.vms.create(spec());
    const closing = t.services.close();
    open();
    expect(await refusalOf(creating)).toBe("draining");
    await closing;
    expect(t.runtime.live()).toBe(0);
  });
});

describe("list", () => {
  it("pages in order of creation, filters by state and label", async () => {
    for (let i = 0; i < 5; i++) await made({ name: `n${i}`, labels: { odd: String(i % 2) } });
    const all = { state: null, labels: [], limit: 2, cursor: null };
    const first = await t.services.vms.list(all);
    expect(first.items.map((vm) => vm.name)).toEqual(["n0", "n1"]);
    const second = await t.services.vms.list({ ...all, limit: 3, cursor: first.nextCursor });
    expect(second.items.map((vm) => vm.name)).toEqual(["n2", "n3", "n4"]);
    expect(second.nextCursor).toBeNull();
    const odd = await t.services.vms.list({ ...all, labels: [["odd", "1"]], state: "active" });
    expect(odd.items.map((vm) => vm.name)).toEqual(["n1", "n3"]);
    expect(odd.nextCursor).toBeNull();
    const inherited = await t.services.vms.list({ ...all, labels: [["toString", "x"]] });
    expect(inherited.items).toEqual([]);
    expect(await refusalOf(t.services.vms.list({ ...all, cursor: "zzz" }))).toBe("cursor-invalid");
  });
});

describe("patch and delete", () => {
  it("merge, count versions and honour If-Match", async () => {
    const { id } = await made({ labels: { a: "1", b: "2" } });
    const patched = await t.services.vms.patch(id, { name: "x", labels: { a: null, c: "3" } }, 1);
    expect(patched).toMatchObject({ version: 2, name: "x", labels: { b: "2", c: "3" } });
    expect(await t.services.vms.patch(id, { labels: { b: "2" } }, 2)).toMatchObject({ version: 2 });
    expect(await refusalOf(t.services.vms.patch(id, { name: "y" }, 1))).toBe("precondition-failed");
    expect(await refusalOf(t.services.vms.delete(id, 1))).toBe("precondition-failed");
    await t.services.vms.delete(id, 2);
    expect(await refusalOf(t.services.vms.get(id))).toBe("vm-not-found");
    expect(t.runtime.live()).toBe(0);
    expect(await eventTypes()).toEqual([
      "server.started",
      "vm.created",
      "vm.updated",
      "vm.deleted",
    ]);
    const again = await t.restart();
    expect(await refusalOf(again.services.vms.get(id))).toBe("vm-not-found");
    await again.services.close();
  });

  it("keep the VM, and what commands did meanwhile, when the store refuses", async () => {
    const { id } = await made();
    t.refuse.add("delete-vm");
    const deleting = refusalOf(t.services.vms.delete(id, null));
    const adding = t.services.vms.command(id, "createVcpu", { id: 0 }).catch(() => null);
    expect(await deleting).toBe("store-unavailable");
    await adding;
    t.refuse.clear();
    expect(await t.services.vms.get(id)).toMatchObject({ state: "active" });
    await t.services.vms.command(id, "createVcpu", { id: 1 });
    expect((await t.store.loadVms())[0]?.shape.vcpus.at(-1)?.vcpuId).toBe(1);
  });

  it("delete once when asked twice at the same time", async () => {
    const { id } = await made();
    const ends = await Promise.all([1, 2].map(() => refusalOf(t.services.vms.delete(id, null))));
    expect(ends.sort()).toEqual(["no refusal", "vm-not-found"]);
  });
});

describe("command", () => {
  it("does not wait for a run, nor for a change of the record", async () => {
    const { id } = await made();
    await t.services.vms.command(id, "createVcpu", { id: 0 });
    const run = t.services.vms.command(id, "run", {
      vcpu: 0,
      immediateExit: false,
      mmioData: null,
    });
    await t.services.vms.command(id, "describe", {});
    t.runtime.latest.exit(0);
    expect((await run).value.exitReason).toBe("KVM_EXIT_MMIO");
  });

  it("passes KvmError through and refuses where there is no thread", async () => {
    const { id } = await made();
    t.runtime.latest.refuse.set("describe", new KvmError("EIO", "KVM_CREATE_VM", "dead"));
    expect(await refusalOf(t.services.vms.command(id, "describe", {}))).toBe("EIO");
    expect(await refusalOf(t.services.vms.command("vm_x", "describe", {}))).toBe("vm-not-found");
    await t.services.vms.stop(id);
    expect(await refusalOf(t.services.vms.command(id, "describe", {}))).toBe("vm-not-active");
  });

  it("answers store-unavailable when the record fails, and writes it later", async () => {
    const { id } = await made();
    t.refuse.add("put-part");
    t.refuse.add("put-shape");
    const adding = t.services.vms.command(id, "createVcpu", { id: 3 });
    expect(await refusalOf(adding)).toBe("store-unavailable");
    expect(t.services.readiness().checks["store"]?.ok).toBe(false);
    t.refuse.clear();
    await t.services.vms.command(id, "createVcpu", { id: 4 });
    expect(t.services.readiness().ready).toBe(true);
    const [stored] = await t.store.loadVms();
    expect(stored?.shape.vcpus.map(({ vcpuId }) => vcpuId)).toEqual([3, 4]);
  });
});

describe("stop, death and start", () => {
  it("stop keeps the record, start builds it anew, both idempotent", async () => {
    const { id } = await made();
    const stopped = await t.services.vms.stop(id);
    expect(stopped).toMatchObject({ state: "stopped", version: 2 });
    expect(stopped.stateReason).toContain("dirty log");
    expect(await t.services.vms.stop(id)).toEqual(stopped);
    const [a, b] = await Promise.all([t.services.vms.start(id), t.services.vms.start(id)]);
    expect(a).toEqual(b);
    expect(a).toMatchObject({ state: "active", stateReason: null, version: 3 });
    expect(t.runtime.live()).toBe(1);
  });

  it("a thread's death makes the VM failed, with the reason's first line", async () => {
    const { id } = await made();
    t.runtime.latest.tell({ kind: "died", reason: "assertion: a bit is lost.\n  at secret" });
    expect(await refusalOf(t.services.vms.command(id, "describe", {}))).toBe("vm-not-active");
    await t.store.drained();
    const failed = await t.services.vms.get(id);
    expect(failed).toMatchObject({ state: "failed", version: 2 });
    expect(failed.stateReason).toContain("assertion: a bit is lost. ");
    expect(failed.stateReason).not.toContain("secret");
    expect(t.runtime.live()).toBe(0);
    expect(await t.services.vms.start(id)).toMatchObject({ state: "active" });
    expect(await eventTypes()).toEqual(["server.started", "vm.created", "vm.failed", "vm.started"]);
  });

  it("a start that is refused leaves everything as it was", async () => {
    const { id } = await made();
    await t.services.vms.command(id, "createVcpu", { id: 0 });
    const stopped = await t.services.vms.stop(id);
    t.runtime.refuse = new KvmError("ENOMEM", "KVM_CREATE_VM", "over budget");
    expect(await refusalOf(t.services.vms.start(id))).toBe("ENOMEM");
    t.runtime.refuse = null;
    t.refuse.add("put-vm");
    expect(await refusalOf(t.services.vms.start(id))).toBe("store-unavailable");
    expect(await t.services.vms.get(id)).toEqual(stopped);
    expect(t.runtime.live()).toBe(0);
  });

  it("close() stops every VM and the next life knows that it was a goodbye", async () => {
    const { id } = await made();
    const again = await t.restart();
    const vm = await again.services.vms.get(id);
    expect(vm.state).toBe("stopped");
    expect(vm.stateReason).toContain("The service was stopped.");
    const { items } = await again.services.events.list(0, 100);
    expect(items.map((e) => e.id)).toEqual(items.map((_, i) => i + 1));
    expect(items.at(-1)).toMatchObject({ type: "server.started", data: { afterCrash: false } });
    await again.services.close();
  });
});

describe("replay", () => {
  it("takes the log's definition and records what the VM became", async () => {
    const definition = { ...DEFINITION, seed: 5n };
    const stamp = { seq: 0, step: 0, instructions: 0, virtualNs: 0, cut: false };
    const args = { cap: 168, flags: 0, args: [1n] };
    const log = {
      version: 1,
      definition,
      entries: [{ stamp, command: { name: "enableCap", args } }],
      truncated: false,
    } as const;
    const vm = await made({ replay: encodeInputLog(log) });
    expect(vm.definition.seed).toBe(5n);
    expect(t.runtime.replays).toEqual([log]);
    const fake = t.runtime.latest;
    await fake.call("createMemoryObject", {
      size: 4096n,
      userspaceAddr: null,
      backing: "ram",
      hugePages: false,
    });
    await fake.call("createVcpu", { id: 9 });
    const replayed = new Promise<void>((resolve) => {
      t.services.events.subscribe((event) => {
        if (event.type === "vm.replayed") resolve();
      });
    });
    fake.tell({ kind: "replay-finished", diverged: null });
    await replayed;
    const [stored] = await t.store.loadVms();
    expect(stored?.shape).toMatchObject({
      capabilities: [{ cap: 168, args: [1n], tentative: true }],
      memoryObjects: [{ objectId: 1, size: 4096n }],
      vcpus: [{ ordinal: 0, vcpuId: 9 }],
    });
    await t.services.vms.stop(vm.id);
    await t.services.vms.start(vm.id);
    expect(t.runtime.latest.names()).toEqual(["enableCap", "createMemoryObject", "createVcpu"]);
  });

  it("refuses what is no log before anything starts", async () => {
    expect(await refusalOf(made({ replay: { version: 2 } }))).toMatch(/input-log/);
    expect(t.runtime.vms).toHaveLength(0);
  });
});
