// Goal: the real VM behind the real thread entry: it runs, replays to the same digest, and dies
// without taking anything along.
// Method: compiled code as the service starts it; dirty logging under load, then a replay.
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../dist/base/clock.js";
import { silentLog } from "../../../dist/base/log.js";
import { createRuntime, decodeInputLog, encodeInputLog } from "../../../dist/runtime/index.js";
import type { VmHandle, VmNews } from "../../../src/runtime/handle.js";
import { definition, pattern, RUN } from "./support.js";

const MIB = 2 ** 20;
const options = { memoryBudgetBytes: 1000 * MIB, inputLogEntries: 10_000, maxVms: 8 };
const deps = { clock: systemClock, log: silentLog };

let runtime = createRuntime(options, deps);
beforeEach(() => {
  runtime = createRuntime(options, deps);
});
afterEach(() => runtime.close());

const LOGGED = 1;

/** A VM with 16 MiB of logged RAM and one vCPU with an endless pattern over it. */
async function build(vm: VmHandle): Promise<void> {
  const { value } = await vm.call("createMemoryObject", {
    size: BigInt(16 * MIB),
    userspaceAddr: null,
    backing: "ram",
    hugePages: false,
  });
  await vm.call("setUserMemoryRegion", {
    slot: 0,
    flags: LOGGED,
    guestPhysAddr: 0x4000_0000n,
    memorySize: BigInt(16 * MIB),
    userspaceAddr: value.userspaceAddr,
  });
  await vm.call("createVcpu", { id: 0 });
  const { vcpu, program } = pattern(0);
  const window = { base: 0x4000_0000n, bytes: BigInt(16 * MIB) };
  await vm.call("setProgram", { vcpu, program: { ...program, ...window } });
}

test("inputs and reads under load replay to the same digest through JSON", async () => {
  const vm = await runtime.start(definition);
  await build(vm);
  const fd = runtime.eventfds.create(0n, false);
  const at = { datamatch: 0n, addr: 0x100n, len: 4, fd: { index: fd, isEventfd: true }, flags: 0 };
  await vm.call("ioeventfd", at);
  const run = vm.call("run", RUN);
  let after: string | null = null;
  for (let i = 0; i < 20; i++) {
    await Promise.all([vm.call("describe", {}), vm.call("listVcpus", {})]);
    const harvested: { value: unknown } = await vm.call("harvestDirtyLog", {
      slot: 0,
      key: null,
      after,
    });
    after = (harvested.value as { id: string }).id;
    const bytes = new Uint8Array(40_000).fill(i);
    await vm
      .call("writeMemoryObject", { id: 1, offset: BigInt(i * 50_000), bytes })
      .catch(() => {});
    await vm.call("counters", {});
  }
  await vm.call("kick", { vcpu: 0 });
  expect((await run).value).toMatchObject({ errno: "EINTR", exitReason: "KVM_EXIT_INTR" });
  const { value } = await vm.call("digest", {});
  const text = JSON.stringify(encodeInputLog(await vm.inputLog()));
  await vm.close();

  const again = await runtime.start(definition, decodeInputLog(JSON.parse(text)));
  const news = await new Promise<VmNews>((resolve) => again.onNews(resolve));
  expect(news).toEqual({ kind: "replay-finished", diverged: null });
  expect((await again.call("digest", {})).value).toEqual(value);
  expect((await again.call("describe", {})).value.replaying).toBe(false);
  await again.close();
  await runtime.eventfds.close(fd, true);
  expect(runtime.usage()).toMatchObject({ vms: 0, memoryUsedBytes: 0 });
});

test("deleting a VM under load returns its memory", async () => {
  const vm = await runtime.start(definition);
  await build(vm);
  const run = expect(vm.call("run", RUN)).rejects.toMatchObject({ code: "vm-gone" });
  await vm.call("describe", {});
  expect(runtime.usage().memoryUsedBytes).toBeGreaterThan(16 * MIB);
  await vm.close();
  await run;
  expect(runtime.usage()).toMatchObject({ vms: 0, memoryUsedBytes: 0 });
});

test("a bad type is refused by the VM's thread with KVM's errno", async () => {
  const start = runtime.start({ ...definition, type: 255n });
  await expect(start).rejects.toMatchObject({ errno: "EINVAL", ioctl: "KVM_CREATE_VM" });
  expect(runtime.usage()).toMatchObject({ vms: 0, memoryUsedBytes: 0 });
});
