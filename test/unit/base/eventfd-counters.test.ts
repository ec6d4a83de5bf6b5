// Goal: counters behave as Linux eventfds and an index never reaches another counter.
// Method: edges of the count, references against close, reuse of a small table, one real thread.
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import { EVENTFD_COUNT_MAX, EventfdCounters } from "../../../src/base/eventfd-counters.js";

const U64_MAX = 2n ** 64n - 1n;

describe("count", () => {
  test("a write that would pass 2^64-2 would block and changes nothing", () => {
    const table = EventfdCounters.create(4);
    const fd = table.create(0n);
    expect(table.write(fd, EVENTFD_COUNT_MAX)).toBe("ok");
    expect(table.write(fd, 1n)).toBe("would-block");
    expect(table.write(fd, 0n)).toBe("ok");
    expect(table.peek(fd)).toBe(EVENTFD_COUNT_MAX);
    expect(table.take(fd)).toBe(EVENTFD_COUNT_MAX);
    expect(table.take(fd)).toBe(0n);
  });

  test("a signal saturates at 2^64-1 and then writes block, even of zero", () => {
    const table = EventfdCounters.create(4);
    const fd = table.create(EVENTFD_COUNT_MAX);
    table.signal(fd);
    expect(table.peek(fd)).toBe(U64_MAX);
    table.signal(fd, 7n);
    expect(table.peek(fd)).toBe(U64_MAX);
    expect(table.write(fd, 0n)).toBe("would-block");
  });
});

describe("a semaphore", () => {
  test("gives 1 to each reader and keeps the rest", () => {
    const table = EventfdCounters.create(4);
    const [fd, plain] = [table.create(2n, true), table.create(2n)];
    expect(table.write(fd, 2n)).toBe("ok");
    expect([table.take(fd), table.take(fd), table.peek(fd)]).toEqual([1n, 1n, 2n]);
    expect([table.take(fd, 3n), table.take(fd)]).toEqual([2n, 0n]);
    expect(table.take(plain)).toBe(2n);
  });

  test("gives 1 to a hook for each signal, and 1 when it is taken off", () => {
    const table = EventfdCounters.create(4);
    const fd = table.create(0n, true);
    let wakes = 0;
    const hook = { wake: () => wakes++, hungUp: () => {} };
    expect(table.hook(fd, hook, false)).toBe("zero");
    table.write(fd, 5n);
    expect([wakes, table.peek(fd)]).toEqual([1, 4n]);
    table.signal(fd);
    expect([wakes, table.peek(fd)]).toEqual([2, 4n]);
    table.unhook(fd, hook);
    expect(table.peek(fd)).toBe(3n);
  });

  test("that is freed leaves an ordinary counter", () => {
    const table = EventfdCounters.create(1);
    table.close(table.create(1n, true));
    const fd = table.create(3n);
    expect(table.take(fd)).toBe(3n);
  });
});

describe("life", () => {
  test("a closed counter lives while it is referred to", () => {
    const table = EventfdCounters.create(4);
    const fd = table.create(3n);
    expect(table.get(fd)).toBe(true);
    table.close(fd);
    expect(table.isOpen(fd)).toBe(false);
    expect(table.get(fd)).toBe(false);
    table.signal(fd);
    expect(table.peek(fd)).toBe(4n);
    table.put(fd);
    expect(() => table.signal(fd)).toThrow(AssertionFailed);
    expect(table.live()).toBe(0);
  });

  test("closing twice is one close", () => {
    const table = EventfdCounters.create(4);
    const fd = table.create(0n);
    table.get(fd);
    table.close(fd);
    table.close(fd);
    expect(table.peek(fd)).toBe(0n);
  });

  test("a stale index does not reach the counter that reused its entry", () => {
    const table = EventfdCounters.create(1);
    const old = table.create(9n);
    table.close(old);
    const fresh = table.create(0n);
    expect(fresh).not.toBe(old);
    expect(table.isOpen(old)).toBe(false);
    expect(table.get(old)).toBe(false);
    expect(() => table.peek(old)).toThrow(AssertionFailed);
    expect(table.peek(fresh)).toBe(0n);
  });

  test("a full table answers -1 until an entry is free", () => {
    const table = EventfdCounters.create(3);
    const held = [table.create(0n), table.create(0n), table.create(0n)];
    expect(table.create(0n)).toBe(-1);
    table.close(held[1]!);
    expect(table.create(1n)).toBeGreaterThan(-1);
    expect(table.create(0n)).toBe(-1);
  });

  test("foreign numbers are no descriptors", () => {
    const table = EventfdCounters.create(2);
    for (const index of [-1, 1, 2, 0.5, 2 ** 60, Number.NaN]) {
      expect(table.isOpen(index)).toBe(false);
      expect(table.get(index)).toBe(false);
    }
  });
});

describe("claims and waiting", () => {
  test("one exclusive waiter at a time, released by its owner only", () => {
    const table = EventfdCounters.create(2);
    const fd = table.create(0n);
    expect(table.claimExclusive(fd, 5)).toBe(true);
    expect(table.claimExclusive(fd, 6)).toBe(false);
    table.releaseExclusive(fd, 6);
    expect(table.claimExclusive(fd, 6)).toBe(false);
    table.releaseExclusive(fd, 5);
    expect(table.claimExclusive(fd, 6)).toBe(true);
  });

  test("a thread that sleeps on the wait word wakes when another signals", async () => {
    const table = EventfdCounters.create(2);
    const fd = table.create(0n);
    const { words, at } = table.waitWord(fd);
    const worker = new Worker(
      `const { workerData: d, parentPort } = require("node:worker_threads");
       const words = new Int32Array(d.buffer, d.offset, d.length);
       parentPort.postMessage("ready");
       parentPort.postMessage(Atomics.wait(words, d.at, d.seen, 5000));`,
      {
        eval: true,
        workerData: {
          buffer: words.buffer,
          offset: words.byteOffset,
          length: words.length,
          at,
          seen: words[at],
        },
      },
    );
    const heard: string[] = [];
    await new Promise<void>((resolve, reject) => {
      worker.on("error", reject);
      worker.on("message", (message: string) => {
        heard.push(message);
        if (message === "ready") table.signal(fd);
        else resolve();
      });
    });
    expect(["ok", "not-equal"]).toContain(heard[1]);
  });
});
