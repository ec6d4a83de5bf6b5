// Goal: how urgent a thread of this process is, told from outside and by itself.
// Method: a worker that says who it is, and what the system says of it.
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { NICE, urge } from "../../../dist/base/give-way.js";
import { MAY_URGE, nicenesses } from "../../support/niceness.js";

const MODULE = new URL("../../../dist/base/give-way.js", import.meta.url).href;

/** Obeys calls of the module's functions by name, and answers with what they return. */
const OBEDIENT = `
const { parentPort } = require("node:worker_threads");
import(${JSON.stringify(MODULE)}).then((all) => {
  parentPort.on("message", ([name, args]) => parentPort.postMessage(all[name](...args) ?? null));
});`;

let worker: Worker | null = null;
afterEach(async () => {
  await worker?.terminate();
  worker = null;
});

async function ask(name: string, ...args: readonly number[]): Promise<unknown> {
  worker ??= new Worker(OBEDIENT, { eval: true });
  const port = worker;
  return new Promise((resolve, reject) => {
    port.once("message", resolve);
    port.once("error", reject);
    port.postMessage([name, args]);
  });
}

/** What a thread has that the system has let become so; undefined where it tells nothing. */
const told = (niceness: number) => (nicenesses().size === 0 ? undefined : niceness);

describe("a thread", () => {
  it("knows its name, and gives way", async () => {
    const thread = Number(await ask("systemThread"));
    expect(nicenesses().has(thread)).toBe(thread !== 0);
    expect(thread).not.toBe(process.pid);
    await ask("giveWay", NICE.vm);
    expect(nicenesses().get(thread)).toBe(told(NICE.vm));
  });

  it("is urged by another, and gives way for a while, where it may come back", async () => {
    const thread = Number(await ask("systemThread"));
    await ask("giveWayUntil", NICE.spare, NICE.vm);
    expect(nicenesses().get(thread)).toBe(told(MAY_URGE ? NICE.spare : NICE.vm));
    urge(thread);
    expect(nicenesses().get(thread)).toBe(told(MAY_URGE ? NICE.awaited : NICE.vm));
    await ask("giveWay", NICE.vm);
    expect(nicenesses().get(thread)).toBe(told(NICE.vm));
  });

  it("that is no thread of this process isn't touched", () => {
    const before = nicenesses();
    urge(0);
    urge(1);
    expect(nicenesses().get(process.pid)).toBe(before.get(process.pid));
  });
});
