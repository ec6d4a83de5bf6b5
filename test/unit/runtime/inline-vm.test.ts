// Goal: the VM's side of the door keeps order, stamps, log, replay and eventfds right.
// Method: the fake instance inline, so every step is chosen; digests show any difference.
import { describe, expect, test } from "vitest";
import { EventfdCounters } from "../../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../../src/base/memory-budget.js";
import type { VmNews } from "../../../src/runtime/handle.js";
import { MISCHIEF } from "../../support/fake-instance.mjs";
import { definition, inlineVm, now, pattern, RUN } from "./support.js";

const assign = (index: number, flags = 0) => ({
  datamatch: 0n,
  addr: 0x1000n,
  len: 8,
  fd: { index, isEventfd: true },
  flags,
});

describe("calls", () => {
  test("answer with value and stamp; a run answers at its exit", async () => {
    const vm = inlineVm();
    await now(vm, vm.call("setProgram", pattern(2500)));
    const run = vm.call("run", RUN);
    expect(vm.pump(2)).toBe("runnable");
    const seen = await now(vm, vm.call("describe", {}));
    expect(seen.value).toMatchObject({ steps: 2, instructions: 2000, replaying: false });
    expect(seen.stamp).toMatchObject({ step: 2, instructions: 2000 });
    expect(vm.pump(10)).toBe("idle");
    expect((await run).value.exitReason).toBe("KVM_EXIT_HLT");
    expect((await run).stamp).toMatchObject({ seq: 1, instructions: 0 });
  });

  test("refusals cross the door as themselves", async () => {
    const vm = inlineVm();
    const size = {
      size: 2n ** 40n,
      userspaceAddr: null,
      backing: "ram",
      hugePages: false,
    } as const;
    await expect(now(vm, vm.call("createMemoryObject", size))).rejects.toMatchObject({
      name: "KvmError",
      errno: "ENOMEM",
      ioctl: "mmap",
    });
  });

  test("a refused creation gives its account back", () => {
    const budget = MemoryBudget.create(1000);
    const before = budget.account()!.accountIndex;
    expect(() => inlineVm({ budget, definition: { ...definition, type: 99n } })).toThrow(
      "bad type",
    );
    expect(budget.account()!.accountIndex).toBe(before + 1);
  });
});

describe("ends", () => {
  test("closing rejects what waits, returns memory, and is idempotent", async () => {
    const budget = MemoryBudget.create(1000);
    const vm = inlineVm({ budget });
    const memory = { size: 600n, userspaceAddr: null, backing: "ram", hugePages: false } as const;
    await now(vm, vm.call("createMemoryObject", memory));
    expect(budget.usedBytes()).toBe(600);
    const waiting = vm.call("describe", {});
    await Promise.all([vm.close(), vm.close()]);
    await expect(waiting).rejects.toMatchObject({ code: "vm-gone" });
    await expect(vm.call("describe", {})).rejects.toMatchObject({ code: "vm-gone" });
    expect(budget.usedBytes()).toBe(0);
  });

  test("a bug ends this VM only, with news for whoever listens, even late", async () => {
    const budget = MemoryBudget.create(1000);
    const [vm, other] = [inlineVm({ budget }), inlineVm({ budget })];
    const memory = { size: 600n, userspaceAddr: null, backing: "ram", hugePages: false } as const;
    await now(vm, vm.call("createMemoryObject", memory));
    const call = vm.call("createDevice", { type: MISCHIEF.bug, flags: 0 });
    expect(vm.pump(1)).toBe("idle");
    await expect(call).rejects.toMatchObject({ code: "vm-gone" });
    const heard: VmNews[] = [];
    vm.onNews((news) => heard.push(news));
    expect(heard).toHaveLength(1);
    expect(heard[0]).toMatchObject({ kind: "died" });
    await vm.close();
    expect(budget.usedBytes()).toBe(0);
    expect((await now(other, other.call("describe", {}))).value.steps).toBe(0);
  });
});

describe("eventfds", () => {
  test("the VM numbers them itself and holds a reference while it refers to one", async () => {
    const eventfds = EventfdCounters.create(16);
    eventfds.create(0n);
    const fd = eventfds.create(0n);
    const vm = inlineVm({ eventfds });
    await now(vm, vm.call("ioeventfd", assign(fd)));
    expect(eventfds.peek(fd)).toBe(1n);
    const log = await now(vm, vm.inputLog());
    expect(log.entries[0]!.command.args).toMatchObject({ fd: { index: 0 } });
    eventfds.close(fd);
    expect(eventfds.live()).toBe(2);
    await vm.close();
    expect(eventfds.live()).toBe(1);
  });

  test("a closed descriptor is -1 to the VM, whatever else refers to it", async () => {
    const eventfds = EventfdCounters.create(16);
    const fd = eventfds.create(0n);
    const vm = inlineVm({ eventfds });
    await now(vm, vm.call("ioeventfd", assign(fd)));
    eventfds.close(fd);
    await expect(now(vm, vm.call("ioeventfd", assign(fd)))).rejects.toMatchObject({
      errno: "EBADF",
    });
  });

  test("a de-assigned counter is let go, also when it was named again meanwhile", async () => {
    const eventfds = EventfdCounters.create(16);
    const fd = eventfds.create(0n);
    const vm = inlineVm({ eventfds });
    await now(vm, vm.call("ioeventfd", assign(fd)));
    const off = vm.call("ioeventfd", assign(fd, 4));
    const on = vm.call("ioeventfd", assign(fd));
    vm.pump(0);
    await Promise.all([off, on]);
    await now(vm, vm.call("ioeventfd", assign(fd, 4)));
    eventfds.close(fd);
    expect(eventfds.live()).toBe(0);
    await vm.close();
  });

  test("two VMs share one counter, each under its own number", async () => {
    const eventfds = EventfdCounters.create(16);
    const [first, fd] = [eventfds.create(0n), eventfds.create(0n)];
    const [a, b] = [inlineVm({ eventfds }), inlineVm({ eventfds })];
    await now(b, b.call("ioeventfd", assign(first)));
    await now(a, a.call("ioeventfd", assign(fd)));
    await now(b, b.call("ioeventfd", assign(fd)));
    expect(eventfds.peek(fd)).toBe(2n);
    await a.close();
    await b.close();
    eventfds.close(fd);
    expect(eventfds.live()).toBe(1);
  });
});

describe("replay", () => {
  async function recorded() {
    const eventfds = EventfdCounters.create(16);
    const vm = inlineVm({ eventfds });
    await now(vm, vm.call("ioeventfd", assign(eventfds.create(0n))));
    await now(vm, vm.call("setProgram", pattern(0)));
    const run = vm.call("run", RUN);
    vm.pump(3);
    const bytes = new Uint8Array([1, 2, 3]);
    const write = vm.call("writeMemoryObject", { id: 1, offset: 0n, bytes });
    vm.pump(2);
    await write;
    await now(vm, vm.call("describe", {}));
    vm.pump(1);
    await now(vm, vm.call("kick", { vcpu: 0 }));
    await run;
    const { value } = await now(vm, vm.call("digest", {}));
    return { log: await now(vm, vm.inputLog()), digest: value.digest };
  }

  test("gives the same digest and takes reads only until it has finished", async () => {
    const { log, digest } = await recorded();
    expect(log.entries.map((e) => e.command.name)).toEqual([
      "ioeventfd",
      "setProgram",
      "run",
      "writeMemoryObject",
      "kick",
    ]);
    const vm = inlineVm({ replay: log });
    const heard: VmNews[] = [];
    vm.onNews((news) => heard.push(news));
    vm.pump(1);
    await expect(now(vm, vm.call("kick", { vcpu: 0 }))).rejects.toMatchObject({
      code: "vm-replaying",
    });
    expect((await now(vm, vm.call("describe", {}))).value.replaying).toBe(true);
    while (vm.pump(1) === "runnable") {}
    expect(heard).toEqual([{ kind: "replay-finished", diverged: null }]);
    expect((await now(vm, vm.call("digest", {}))).value.digest).toBe(digest);
    expect((await now(vm, vm.call("describe", {}))).value.replaying).toBe(false);
    expect((await now(vm, vm.inputLog())).entries.map((e) => e.command)).toEqual(
      log.entries.map((e) => e.command),
    );
  });

  test("goes on as a live VM whose own log replays again", async () => {
    const { log } = await recorded();
    const eventfds = EventfdCounters.create(16);
    const vm = inlineVm({ replay: log, eventfds });
    while (vm.pump(1) === "runnable") {}
    await now(vm, vm.call("ioeventfd", assign(eventfds.create(0n))));
    const longer = await now(vm, vm.inputLog());
    expect(longer.entries.at(-1)!.command.args).toMatchObject({ fd: { index: 1 } });
    const { value } = await now(vm, vm.call("digest", {}));
    const again = inlineVm({ replay: longer });
    while (again.pump(1) === "runnable") {}
    expect((await now(again, again.call("digest", {}))).value.digest).toBe(value.digest);
  });

  test("says where it left the recorded course, and spoils the log", async () => {
    const { log } = await recorded();
    const entries = log.entries.map((entry, i) =>
      i < 4 ? entry : { ...entry, stamp: { ...entry.stamp, instructions: 6001 } },
    );
    const vm = inlineVm({ replay: { ...log, entries } });
    const heard: VmNews[] = [];
    vm.onNews((news) => heard.push(news));
    while (vm.pump(1) === "runnable" && heard.length === 0) {}
    expect(heard[0]).toMatchObject({ kind: "replay-finished" });
    expect((heard[0] as { diverged: string }).diverged).toContain("6001");
    expect((await now(vm, vm.inputLog())).truncated).toBe(true);
  });
});
