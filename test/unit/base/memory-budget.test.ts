// Goal: the budget never grants more than it has and gets back exactly what a VM had charged.
// Method: book through several accounts of one buffer, also from threads at the same time.
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import { MemoryBudget } from "../../../src/base/memory-budget.js";

describe("MemoryBudget", () => {
  test("grants to the last byte and not one more", () => {
    const budget = MemoryBudget.create(1000);
    expect(budget.charge(600)).toBe(true);
    expect(budget.charge(401)).toBe(false);
    expect(budget.charge(400)).toBe(true);
    expect(budget.charge(1)).toBe(false);
    expect(budget.charge(0)).toBe(true);
    budget.release(400);
    expect(budget.usedBytes()).toBe(600);
    expect(budget.totalBytes()).toBe(1000);
  });

  test("refuses sizes beyond any memory instead of failing", () => {
    const budget = MemoryBudget.create(1000);
    expect(budget.charge(2 ** 60)).toBe(false);
    expect(budget.charge(Number.POSITIVE_INFINITY)).toBe(false);
    expect(budget.usedBytes()).toBe(0);
  });

  test("releasing more than was charged is a bug", () => {
    const budget = MemoryBudget.create(1000);
    budget.charge(5);
    expect(() => budget.release(6)).toThrow(AssertionFailed);
  });

  test("accounts share the budget and give back what they hold when closed", () => {
    const budget = MemoryBudget.create(1000);
    const a = budget.account()!;
    const b = new MemoryBudget(budget.shared, budget.account()!.accountIndex);
    expect(a.accountIndex).not.toBe(b.accountIndex);
    expect(a.charge(700)).toBe(true);
    expect(b.charge(301)).toBe(false);
    expect(b.charge(300)).toBe(true);
    expect([budget.usedBytes(), a.chargedBytes(), b.chargedBytes()]).toEqual([1000, 700, 300]);
    a.closeAccount();
    expect(budget.usedBytes()).toBe(300);
    expect(budget.account()!.accountIndex).toBe(a.accountIndex);
  });

  test("runs out of accounts with null, not with an exception", () => {
    const budget = MemoryBudget.create(10);
    let last = budget.account();
    for (let i = 0; last !== null && i < 10_000; i++) last = budget.account();
    expect(last).toBeNull();
  });

  test("threads that book at once never pass the total", async () => {
    const budget = MemoryBudget.create(1000);
    // Of bookings of 400 bytes two fit; each thread counts those it sees granted at a time.
    const source = `
      const { workerData, parentPort } = require("node:worker_threads");
      import(workerData.module).then(({ MemoryBudget }) => {
        const account = new MemoryBudget(workerData.shared, workerData.account);
        let over = 0, granted = 0;
        // On a busy machine the others may be done before this one was granted anything.
        for (let i = 0; i < 3000 || granted === 0; i++) {
          if (!account.charge(400)) continue;
          granted++;
          if (Atomics.add(workerData.held, 0, 1) >= 2) over++;
          Atomics.sub(workerData.held, 0, 1);
          account.release(400);
        }
        parentPort.postMessage({ over, granted });
      });`;
    const held = new Int32Array(new SharedArrayBuffer(4));
    const module = new URL("../../../dist/base/memory-budget.js", import.meta.url).href;
    const accounts = [0, 1, 2, 3].map(() => budget.account()!.accountIndex);
    const results = await Promise.all(
      accounts.map(
        (account) =>
          new Promise<{ over: number; granted: number }>((resolve, reject) => {
            const workerData = { module, shared: budget.shared, account, held };
            const worker = new Worker(source, { eval: true, workerData });
            worker.once("message", resolve);
            worker.once("error", reject);
          }),
      ),
    );
    expect(results.every((r) => r.granted > 0)).toBe(true);
    expect(results.map((r) => r.over)).toEqual([0, 0, 0, 0]);
    expect(budget.usedBytes()).toBe(0);
  });
});
