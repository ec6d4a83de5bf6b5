// Goal: a VM takes a thread that waited for it, which has practised what a migration does.
// Method: real threads with the compiled engine, and the practice by itself.
import { afterEach, expect, test } from "vitest";
import { systemClock } from "../../../dist/base/clock.js";
import { NICE } from "../../../dist/base/give-way.js";
import { silentLog } from "../../../dist/base/log.js";
import { createRuntime } from "../../../dist/runtime/index.js";
import { practise } from "../../../dist/runtime/practice.js";
import { SpareThreads, WORKER_FILE } from "../../../dist/runtime/spare-threads.js";
import { createInstance } from "../../../dist/vmm/index.js";
import { MAY_URGE, nicenesses } from "../../support/niceness.js";
import { definition } from "./support.js";

const MIB = 2 ** 20;
const WAIT_MS = 60_000;
const POLL_MS = 20;

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

function spares(count: number) {
  const threads = new SpareThreads(count, systemClock, { tier0: null }, WORKER_FILE);
  closing.push(() => threads.close());
  return threads;
}

async function taken(threads: SpareThreads) {
  while (threads.ready === 0) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  const thread = threads.take();
  if (thread === null) throw new Error("no thread waits");
  return thread;
}

test("what is practised works", async () => {
  await expect(practise(createInstance)).resolves.toBeUndefined();
});

test(
  "a thread waits, is taken, and another one takes its place",
  async () => {
    const threads = spares(1);
    const first = await taken(threads);
    expect(threads.take()).toBeNull();
    const second = await taken(threads);
    expect(second.worker.threadId).not.toBe(first.worker.threadId);
    // It ends as a VM's thread does that was told to before it had a VM.
    const ended = new Promise((resolve) => first.worker.once("exit", resolve));
    first.control.end();
    expect(await ended).toBe(0);
    await second.worker.terminate();
  },
  WAIT_MS,
);

test("none is kept unless somebody wants some", async () => {
  const threads = spares(0);
  await new Promise((resolve) => setTimeout(resolve, 100 * POLL_MS));
  expect(threads.take()).toBeNull();
});

test(
  "a VM in such a thread is like any other",
  async () => {
    const options = { memoryBudgetBytes: 1000 * MIB, inputLogEntries: 10, maxVms: 2 };
    const deps = { clock: systemClock, log: silentLog };
    const answers: unknown[] = [];
    for (const spareThreads of [0, 1]) {
      const runtime = createRuntime({ ...options, spareThreads }, deps);
      closing.push(() => runtime.close());
      // Whether it has one by now makes no difference.
      if (spareThreads > 0) await new Promise((resolve) => setTimeout(resolve, 300 * POLL_MS));
      const vm = await runtime.start(definition);
      await vm.call("createVcpu", { id: 0 });
      answers.push((await vm.call("describe", {})).value);
      await vm.close();
      expect(runtime.usage().vms).toBe(0);
    }
    expect(answers[1]).toEqual(answers[0]);
  },
  WAIT_MS,
);

test(
  "a thread that practises gives way to VMs, and one whose VM is held is as urgent as requests",
  async () => {
    const before = new Set(nicenesses().keys());
    const threadsOf = (niceness: number) =>
      [...nicenesses()].filter(([task, nice]) => !before.has(task) && nice === niceness).length;
    const some = (count: number) => (nicenesses().size === 0 ? 0 : count);
    const threads = spares(1);
    const practising = MAY_URGE ? NICE.spare : NICE.vm;
    while (threadsOf(practising) < some(1)) await new Promise((go) => setTimeout(go, POLL_MS));
    const spare = await taken(threads);
    spare.control.end();
    await new Promise((resolve) => spare.worker.once("exit", resolve));
    await threads.close();
    const options = { memoryBudgetBytes: 1000 * MIB, inputLogEntries: 10, maxVms: 2 };
    const runtime = createRuntime(options, { clock: systemClock, log: silentLog });
    closing.push(() => runtime.close());
    const vm = await runtime.start(definition);
    expect(threadsOf(NICE.vm)).toBe(some(1));
    await vm.call("holdVm", { hold: true, why: "test" });
    expect(threadsOf(NICE.vm)).toBe(MAY_URGE ? 0 : some(1));
    await vm.call("holdVm", { hold: false, why: "test" });
    expect(threadsOf(NICE.vm)).toBe(some(1));
    await vm.close();
  },
  WAIT_MS,
);
