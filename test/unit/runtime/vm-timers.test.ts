// Goal: a guest's timer wakes the VM's own thread, in every kind of time, and replays.
// Method: compiled code as the service starts it; a guest that sleeps until its timer.
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../dist/base/clock.js";
import { silentLog } from "../../../dist/base/log.js";
import { createRuntime, decodeInputLog, encodeInputLog } from "../../../dist/runtime/index.js";
import type { VmHandle, VmNews } from "../../../src/runtime/handle.js";
import * as a64 from "../../support/a64.js";
import { PC, X } from "../../support/guest.js";
import { BASE } from "../../support/inline.js";
import { definition, RUN } from "./support.js";

const MIB = 2 ** 20;
const options = { memoryBudgetBytes: 500 * MIB, inputLogEntries: 1000, maxVms: 4 };

let runtime = createRuntime(options, { clock: systemClock, log: silentLog });
beforeEach(() => {
  runtime = createRuntime(options, { clock: systemClock, log: silentLog });
});
afterEach(() => runtime.close());

/** About 63 ms. */
const TICKS = 0x3c0_0000n;
const WORDS = [
  ...a64.mov(0, TICKS),
  ...a64.mov(1, 1n),
  a64.msr("CNTV_TVAL_EL0", 0),
  a64.msr("CNTV_CTL_EL0", 1),
  a64.WFI,
  a64.mrs(2, "CNTVCT_EL0"),
  ...a64.powerOff(),
];

async function boot(vm: VmHandle): Promise<void> {
  const { value } = await vm.call("createMemoryObject", {
    size: BigInt(MIB),
    userspaceAddr: null,
    backing: "ram",
    hugePages: false,
  });
  await vm.call("setUserMemoryRegion", {
    slot: 0,
    flags: 0,
    guestPhysAddr: BigInt(BASE),
    memorySize: BigInt(MIB),
    userspaceAddr: value.userspaceAddr,
  });
  await vm.call("createVcpu", { id: 0 });
  await vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
  await vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: a64.bytesOf(WORDS) });
  const pc = new Uint8Array(BigUint64Array.of(BigInt(BASE)).buffer);
  await vm.call("setOneReg", { vcpu: 0, reg: PC, value: pc });
}

/** Runs the guest to its end. @returns milliseconds of real time, and the counter at the wake-up */
async function sleepOnce(vm: VmHandle): Promise<{ ms: number; woke: bigint }> {
  const start = systemClock.monotonicMs();
  const first = await vm.call("run", RUN);
  const ms = systemClock.monotonicMs() - start;
  expect(first.value).toMatchObject({ errno: "EINTR", deviceIrqLevel: 1 });
  expect((await vm.call("run", RUN)).value.exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
  const { value } = await vm.call("getOneReg", { vcpu: 0, reg: X(2) });
  return { ms, woke: value.value };
}

test.each(["wall", "paced"] as const)("in %s time the thread sleeps until then", async (kind) => {
  const clock = {
    mode: kind === "wall" ? ("wall" as const) : ("virtual" as const),
    nsPerInstruction: 1,
    idle: "paced" as const,
  };
  const vm = await runtime.start({ ...definition, clock });
  await boot(vm);
  const { ms, woke } = await sleepOnce(vm);
  expect(woke).toBeGreaterThanOrEqual(TICKS);
  // Paced time began with the VM, so part of the wait was over before the run.
  if (kind === "wall") expect(ms).toBeGreaterThanOrEqual(Number(TICKS) / 1e6 - 1);
  expect(ms).toBeLessThan(10_000);
  await vm.close();
});

test("in virtual time it jumps, and a replay of the log jumps the same way", async () => {
  const vm = await runtime.start(definition);
  await boot(vm);
  expect((await sleepOnce(vm)).woke).toBe(TICKS + 2n);
  const { value } = await vm.call("digest", {});
  const text = JSON.stringify(encodeInputLog(await vm.inputLog()));
  await vm.close();
  const again = await runtime.start(definition, decodeInputLog(JSON.parse(text)));
  const news = await new Promise<VmNews>((resolve) => again.onNews(resolve));
  expect(news).toEqual({ kind: "replay-finished", diverged: null });
  expect((await again.call("digest", {})).value).toEqual(value);
  await again.close();
});

test("a paced VM's log replays without waiting", async () => {
  const paced = { ...definition, clock: { ...definition.clock, idle: "paced" as const } };
  const vm = await runtime.start(paced);
  await boot(vm);
  await sleepOnce(vm);
  const { value } = await vm.call("digest", {});
  const log = await vm.inputLog();
  await vm.close();
  const again = await runtime.start(paced, log);
  const news = await new Promise<VmNews>((resolve) => again.onNews(resolve));
  expect(news).toEqual({ kind: "replay-finished", diverged: null });
  expect((await again.call("digest", {})).value).toEqual(value);
  await again.close();
});

test("a kick ends a sleep in real time", async () => {
  const vm = await runtime.start({ ...definition, clock: { ...definition.clock, mode: "wall" } });
  await boot(vm);
  // Far away: bit 40 of the ticks.
  const far = new Uint8Array(BigUint64Array.of(1n << 40n).buffer);
  const words = a64.bytesOf([a64.WFI, ...a64.powerOff()]);
  await vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: words });
  await vm.call("setOneReg", { vcpu: 0, reg: 0x6030_0000_0013_df02n, value: far });
  const one = new Uint8Array(BigUint64Array.of(1n).buffer);
  await vm.call("setOneReg", { vcpu: 0, reg: 0x6030_0000_0013_df19n, value: one });
  const run = vm.call("run", RUN);
  await vm.call("describe", {});
  await vm.call("kick", { vcpu: 0 });
  expect((await run).value).toMatchObject({ errno: "EINTR", deviceIrqLevel: 0 });
  await vm.close();
});
