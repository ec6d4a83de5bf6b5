// Goal: everything that replays, replays: numbers from a seed, digests, and a clock that is told.
// Method: fixed seeds against fixed values, distributions in coarse bins, order of timers.
import { describe, expect, it } from "vitest";
import { ManualClock, systemClock, timestamp } from "../../../src/base/clock.js";
import { newId, newUuid } from "../../../src/base/ids.js";
import { mix32, Prng } from "../../../src/base/prng.js";
import { Digest, digestOf } from "../../../src/base/saved.js";

describe("Prng", () => {
  it("gives the same numbers for the same seed, others for another", () => {
    const draw = (seed: bigint) => {
      const prng = new Prng(seed);
      return Array.from({ length: 8 }, () => prng.u32());
    };
    expect(draw(1n)).toEqual(draw(1n));
    expect(draw(1n)).not.toEqual(draw(2n));
    expect(draw(0n).some((word) => word !== 0)).toBe(true);
    expect(draw(1n << 63n)).not.toEqual(draw(0n));
  });

  it("goes on from a copied state", () => {
    const one = new Prng(9n);
    one.u64();
    const two = new Prng(0n);
    two.state.set(one.state);
    expect([two.u32(), two.u64(), two.below(10)]).toEqual([one.u32(), one.u64(), one.below(10)]);
  });

  it("stays below its bound, also a bound above 2^32, and reaches both ends", () => {
    const prng = new Prng(3n);
    const small = Array.from({ length: 2000 }, () => prng.below(7));
    expect([...new Set(small)].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    const wide = Array.from({ length: 200 }, () => prng.below(2 ** 45));
    expect(wide.every((n) => Number.isSafeInteger(n) && n >= 0 && n < 2 ** 45)).toBe(true);
    expect(Math.max(...wide)).toBeGreaterThan(2 ** 44);
    expect(prng.below(1)).toBe(0);
  });

  it("fills bins evenly", () => {
    const prng = new Prng(11n);
    const bins = new Array<number>(16).fill(0);
    for (let i = 0; i < 16_000; i++) bins[Math.floor(prng.fraction() * 16)]!++;
    for (const count of bins) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it("mixes each of its three words", () => {
    const seen = new Set<number>();
    for (let a = 0; a < 10; a++) {
      for (let b = 0; b < 10; b++) for (let c = 0; c < 10; c++) seen.add(mix32(a, b, c));
    }
    expect(seen.size).toBe(1000);
  });
});

describe("Digest", () => {
  const of = (value: unknown) => digestOf([{ kind: "k", version: 1, data: value }]);

  it("is 64-bit FNV-1a over bytes", () => {
    // Published vectors of FNV-1a: the offset basis, "a" and "foobar".
    const hash = (text: string) => {
      const digest = new Digest();
      digest.bytes(new TextEncoder().encode(text));
      return digest.hex();
    };
    expect(hash("")).toBe("cbf29ce484222325");
    expect(hash("a")).toBe("af63dc4c8601ec8c");
    expect(hash("foobar")).toBe("85944171f73967e8");
  });

  it("does not look at the order of keys, but at everything else", () => {
    expect(of({ a: 1, b: 2n })).toBe(of({ b: 2n, a: 1 }));
    const different = [
      { a: 1 },
      { a: 2 },
      { a: 1n },
      { a: "1" },
      { a: null },
      { a: [1] },
      { a: [1, 1] },
      { b: 1 },
      { a: new Uint8Array([1]) },
      { a: new Uint8Array([1, 0]) },
      { a: true },
    ];
    expect(new Set(different.map(of)).size).toBe(different.length);
  });
});

describe("clocks", () => {
  it("fires timers in order of their due time, at that time, and only once", () => {
    const clock = new ManualClock(100);
    const fired: string[] = [];
    const at = (ms: number, name: string) =>
      clock.timer(ms, () => fired.push(`${name}@${clock.nowMs()}`));
    at(30, "c");
    at(10, "a");
    const cancel = at(20, "never");
    clock.timer(15, () => at(5, "late"));
    cancel();
    clock.advance(25);
    expect(fired).toEqual(["a@110", "late@120"]);
    clock.advance(100);
    expect(fired).toEqual(["a@110", "late@120", "c@130"]);
    expect(clock.monotonicMs()).toBe(225);
  });

  it("sleeps until it is moved", async () => {
    const clock = new ManualClock();
    let awake = false;
    const sleeping = clock.sleep(5).then(() => {
      awake = true;
    });
    await clock.yieldToLoop();
    expect(awake).toBe(false);
    clock.advance(5);
    await sleeping;
    expect(timestamp(clock)).toBe("1970-01-01T00:00:00.005Z");
  });

  it("has a system clock that goes forward", async () => {
    const before = systemClock.monotonicMs();
    await systemClock.sleep(2);
    await systemClock.yieldToLoop();
    expect(systemClock.monotonicMs()).toBeGreaterThan(before);
    let fired = false;
    systemClock.timer(0, () => {
      fired = true;
    })();
    await systemClock.sleep(2);
    expect(fired).toBe(false);
  });
});

it("names never repeat", () => {
  const ids = new Set(Array.from({ length: 100 }, () => newId("vm")));
  expect(ids.size).toBe(100);
  for (const id of ids) expect(id).toMatch(/^vm_[A-Za-z0-9_-]{16}$/);
  expect(newUuid()).toMatch(
    /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
});
