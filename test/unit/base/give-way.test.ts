// Goal: how urgent a thread of this process is, told from outside and by itself.
// Method: a worker that says who it is, and what the system says of it.
import { readFileSync } from "node:fs";
import { platform } from "node:os";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { NICE, urge } from "../../../dist/base/give-way.js";

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

function nicenessOf(thread: unknown): number {
  const stat = readFileSync(`/proc/self/task/${thread}/stat`, "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16]);
}

describe.skipIf(platform() !== "linux")("a thread", () => {
  it("knows its name, and gives way", async () => {
    const thread = await ask("systemThread");
    expect(thread).not.toBe(process.pid);
    await ask("giveWay", NICE.vm);
    expect(nicenessOf(thread)).toBe(NICE.vm);
  });

  // Who is no superuser may only ever become less urgent.
  const isSuperuser = process.getuid?.() === 0;

  it.skipIf(!isSuperuser)("is urged by another, until it gives way again", async () => {
    const thread = Number(await ask("systemThread"));
    await ask("giveWayUntil", NICE.spare, NICE.vm);
    expect(nicenessOf(thread)).toBe(NICE.spare);
    urge(thread);
    expect(nicenessOf(thread)).toBe(NICE.awaited);
    await ask("giveWay", NICE.vm);
    expect(nicenessOf(thread)).toBe(NICE.vm);
  });

  it("that is no thread of this process isn't touched", () => {
    const before = nicenessOf(process.pid);
    urge(0);
    urge(1);
    expect(nicenessOf(process.pid)).toBe(before);
  });
});
