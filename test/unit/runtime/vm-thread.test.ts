// Goal: a VM in a thread answers fast, moves large bytes, and ends whatever it does.
// Method: the compiled door and loop around the fake instance, in real threads.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../../dist/base/clock.js";
import { silentLog } from "../../../dist/base/log.js";
import { createRuntime } from "../../../dist/runtime/index.js";
import { startVmThread } from "../../../dist/runtime/vm-thread.js";
import type { VmNews } from "../../../src/runtime/handle.js";
import { MISCHIEF } from "../../support/fake-instance.mjs";
import { definition, pattern, RUN } from "./support.js";

const WORKER = new URL("../../support/fake.worker.mjs", import.meta.url);
const MIB = 2 ** 20;

function runtimeOf(maxVms = 8) {
  return createRuntime(
    { memoryBudgetBytes: 1000 * MIB, inputLogEntries: 1000, maxVms },
    {
      clock: systemClock,
      log: silentLog,
      startVm: (request, parts) => startVmThread(request, parts, WORKER),
    },
  );
}

let runtime = runtimeOf();
beforeEach(() => {
  runtime = runtimeOf();
});
afterEach(() => runtime.close());

const ram = (size: number) => ({
  size: BigInt(size),
  userspaceAddr: null,
  backing: "ram" as const,
  hugePages: false,
});

const assign = (index: number) => ({
  datamatch: 0n,
  addr: 0x1000n,
  len: 8,
  fd: { index, isEventfd: true },
  flags: 0,
});

describe("a thread's VM", () => {
  test("answers while it runs, and a kick ends its run at once", async () => {
    const vm = await runtime.start(definition);
    await vm.call("setProgram", pattern(0));
    const run = vm.call("run", RUN);
    const first = await vm.call("describe", {});
    // Two reads may be answered between the same two steps; a later one sees progress.
    let later = first;
    while (later.value.instructions === first.value.instructions) {
      later = await vm.call("describe", {});
    }
    await vm.call("kick", { vcpu: 0 });
    expect((await run).value.exitReason).toBe("KVM_EXIT_INTR");
    await vm.close();
  });

  test("moves large arguments and results instead of copying them", async () => {
    const vm = await runtime.start(definition);
    const bytes = new Uint8Array(MIB);
    const small = new Uint8Array(8);
    await vm.call("writeMemoryObject", { id: 1, offset: 0n, bytes });
    await vm.call("writeMemoryObject", { id: 1, offset: 0n, bytes: small });
    expect([bytes.length, small.length]).toEqual([0, 8]);
    const read = await vm.call("readMemoryObject", { id: 1, offset: 9n, length: 64 * MIB });
    expect(read.value.length).toBe(64 * MIB);
    expect(read.value.at(-1)).toBe(9);
    // A view of a part stays whole on this side.
    const part = new Uint8Array(MIB).subarray(1);
    await vm.call("writeMemoryObject", { id: 1, offset: 0n, bytes: part });
    expect(part.length).toBe(MIB - 1);
    await vm.close();
  });

  test("a log recorded under load replays to the same digest", async () => {
    const vm = await runtime.start(definition);
    const fd = runtime.eventfds.create(0n, false);
    await vm.call("ioeventfd", assign(fd));
    await vm.call("setProgram", pattern(0));
    const run = vm.call("run", RUN);
    for (let i = 0; i < 200; i++) {
      await vm.call("describe", {});
      await vm.call("writeMemoryObject", { id: i, offset: 0n, bytes: new Uint8Array([i]) });
    }
    await vm.call("kick", { vcpu: 0 });
    await run;
    const { value } = await vm.call("digest", {});
    const log = await vm.inputLog();
    expect(log.entries.some((entry) => entry.stamp.cut)).toBe(true);
    await vm.close();

    const again = await runtime.start(definition, log);
    const news = await new Promise<VmNews>((resolve) => again.onNews(resolve));
    expect(news).toEqual({ kind: "replay-finished", diverged: null });
    expect((await again.call("digest", {})).value.digest).toBe(value.digest);
    await again.close();
    await runtime.eventfds.close(fd, true);
  });

  test("its eventfd signals wake a waiter on the HTTP thread", async () => {
    const vm = await runtime.start(definition);
    const fd = runtime.eventfds.create(0n, false);
    const waiting = runtime.eventfds.changed(fd, 10_000);
    await vm.call("ioeventfd", assign(fd));
    await waiting;
    expect(runtime.eventfds.take(fd)).toBe(1n);
    await vm.close();
    await runtime.eventfds.close(fd, true);
  });
});

describe("ends", () => {
  test("a deaf thread is terminated and exactly its memory comes back", async () => {
    const before = runtime.usage().memoryUsedBytes;
    const [deaf, other] = await Promise.all([runtime.start(definition), runtime.start(definition)]);
    await other.call("createMemoryObject", ram(MIB));
    await deaf.call("createMemoryObject", ram(100 * MIB));
    const fd = runtime.eventfds.create(0n, false);
    await deaf.call("ioeventfd", assign(fd));
    expect(runtime.usage().memoryUsedBytes - before).toBe(101 * MIB);
    const call = deaf.call("createDevice", { type: MISCHIEF.deaf, flags: 0 });
    const refused = expect(call).rejects.toMatchObject({ code: "vm-gone" });
    await deaf.close();
    await refused;
    expect(runtime.usage().memoryUsedBytes - before).toBe(MIB);
    await other.close();
    expect(runtime.usage()).toMatchObject({ vms: 0, memoryUsedBytes: before });
    await runtime.eventfds.close(fd, true);
  });

  test("a bug in one VM is news and leaves the others alone", async () => {
    const [vm, other] = await Promise.all([runtime.start(definition), runtime.start(definition)]);
    await vm.call("createMemoryObject", ram(MIB));
    const news = new Promise<VmNews>((resolve) => vm.onNews(resolve));
    const call = vm.call("createDevice", { type: MISCHIEF.bug, flags: 0 });
    await expect(call).rejects.toMatchObject({ code: "vm-gone" });
    expect(await news).toMatchObject({
      kind: "died",
      reason: expect.stringContaining("an invariant is broken"),
    });
    await vm.close();
    expect(runtime.usage()).toMatchObject({ vms: 1, memoryUsedBytes: 0 });
    expect((await other.call("describe", {})).value.steps).toBe(0);
    await other.close();
  });

  test("a refused creation and a failed one leave nothing behind", async () => {
    const refused = runtime.start({ ...definition, type: 99n });
    await expect(refused).rejects.toMatchObject({ name: "KvmError", errno: "EINVAL" });
    const failed = runtime.start({ ...definition, type: 98n });
    await expect(failed).rejects.toMatchObject({ code: "vm-start-failed" });
    expect(runtime.usage()).toMatchObject({ vms: 0, memoryUsedBytes: 0 });
  });
});

describe("the runtime", () => {
  test("admits as many as it may, all asked for at once", async () => {
    const small = runtimeOf(6);
    const asked = Array.from({ length: 200 }, () => small.start(definition));
    const results = await Promise.allSettled(asked);
    const refused = results.filter((r) => r.status === "rejected").map((r) => r.reason);
    expect(refused).toHaveLength(194);
    expect(new Set(refused.map((e) => e.code))).toEqual(new Set(["vm-limit"]));
    expect(small.usage().vms).toBe(6);
    await small.close();
    expect(small.usage().vms).toBe(0);
    await expect(small.start(definition)).rejects.toMatchObject({ code: "draining" });
  });

  test("closing while VMs start leaves none", async () => {
    const small = runtimeOf(8);
    const asked = Array.from({ length: 8 }, () => small.start(definition));
    const settled = Promise.allSettled(asked);
    await small.close();
    await settled;
    expect(small.usage()).toMatchObject({ vms: 0, memoryUsedBytes: 0 });
  });

  test("refuses a log that can't lead to the VM", async () => {
    const end = { seq: 0, step: 0, instructions: 0, virtualNs: 0, cut: false };
    const log = { version: 1, definition, entries: [], end, truncated: false } as const;
    const bad = [
      runtime.start(definition, { ...log, truncated: true }),
      runtime.start({ ...definition, seed: 8n }, log),
      runtime.start(
        { ...definition, clock: { ...definition.clock, mode: "wall" } },
        { ...log, definition: { ...definition, clock: { ...definition.clock, mode: "wall" } } },
      ),
    ];
    for (const start of bad) await expect(start).rejects.toMatchObject({ code: "bad-input-log" });
  });
});

describe("eventfds", () => {
  test("a wait ends by timeout, by a write, or at once when there is a count", async () => {
    const { eventfds } = runtime;
    const fd = eventfds.create(0n, false);
    await eventfds.changed(fd, 5);
    const waits = [eventfds.changed(fd, 10_000), eventfds.changed(fd, 10_000)];
    await eventfds.write(fd, 2n, true);
    await Promise.all(waits);
    await eventfds.changed(fd, 10_000);
    expect(eventfds.take(fd)).toBe(2n);
    const last = eventfds.changed(fd, 10_000);
    await eventfds.close(fd, true);
    await last;
    await eventfds.changed(fd, 10_000);
  });

  test("a write past the end is refused as overflow", async () => {
    const fd = runtime.eventfds.create(2n ** 64n - 2n, false);
    const refused = expect.objectContaining({ code: "eventfd-overflow" });
    await expect(runtime.eventfds.write(fd, 1n, true)).rejects.toThrow(refused);
    await runtime.eventfds.close(fd, true);
  });
});
