// Goal: contexts take turns, wait and wake as told, and KVM's locks hold what they promise.
// Method: small generators that write down when they ran; the observer sees every step.
import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import { MEETING_PAIRS, POINT, POINT_NAMES } from "../../../src/kvm/index.js";
import { Mutex, RwLock, Srcu } from "../../../src/kvm/sched/locks.js";
import { type Op, Scheduler, Waitable } from "../../../src/kvm/sched/scheduler.js";

const HERE = POINT["ioctl-start"];

/** A scheduler with a diary; each named operation writes what it does. */
function setUp(seed: bigint | null = null) {
  const sched = new Scheduler(seed);
  const diary: string[] = [];
  const add = (name: string, op: Op<unknown>, isVcpu = false) =>
    sched.add(name, isVcpu, op, (outcome) => {
      diary.push(outcome.ok ? `${name}=${String(outcome.value)}` : `${name}!`);
    });
  const run = (max = 1000) => {
    for (let n = 0; n < max && sched.step(); n++);
  };
  return { sched, diary, add, run };
}

describe("Scheduler", () => {
  function* count(diary: string[], name: string, times: number): Op<string> {
    for (let n = 0; n < times; n++) {
      diary.push(`${name}${n}`);
      yield HERE;
    }
    return "end";
  }

  it("gives every context its turns, and answers each once", () => {
    const { diary, add, run, sched } = setUp();
    for (const name of ["a", "b", "c"]) add(name, count(diary, name, 200), name !== "a");
    run();
    for (const name of ["a", "b", "c"]) {
      expect(diary.filter((line) => line.startsWith(name)).length).toBe(201);
      expect(diary).toContain(`${name}=end`);
    }
    // Nobody waits for another's end.
    expect(diary.indexOf("b0")).toBeLessThan(diary.indexOf("a=end"));
    expect(diary.indexOf("c0")).toBeLessThan(diary.indexOf("b=end"));
    expect([sched.contexts.length, sched.step(), sched.runnable]).toEqual([0, false, false]);
  });

  it("is seeded: the same seed gives the same order, another seed another", () => {
    const order = (seed: bigint) => {
      const { diary, add, run } = setUp(seed);
      for (const name of ["a", "b", "c"]) add(name, count(diary, name, 30));
      run();
      return diary.join();
    };
    expect(order(1n)).toBe(order(1n));
    expect(new Set([1n, 2n, 3n].map(order)).size).toBe(3);
  });

  it.each([null, 4n])("lets an urgent context go first (seed %s)", (seed) => {
    const { diary, add, sched } = setUp(seed);
    for (const name of ["a", "b", "c"]) add(name, count(diary, name, 50), true);
    const hurried = add("z", count(diary, "z", 50), true);
    for (let i = 0; i < 20; i++) {
      hurried.urgent = true;
      diary.length = 0;
      sched.step();
      expect(diary[0]).toMatch(/^z/);
      // Drawn choices are to preempt it again; in turns it keeps going until it is out.
      expect(hurried.urgent).toBe(seed === null);
    }
  });

  it("does not run what waits until it is woken; waking is only a hint", () => {
    const { diary, add, run, sched } = setUp();
    const door = new Waitable("door");
    let isOpen = false;
    function* guest(): Op<string> {
      while (!isOpen) {
        diary.push("knock");
        yield door;
      }
      return "in";
    }
    const context = add("g", guest());
    context.urgent = true;
    run();
    expect([diary, sched.runnable]).toEqual([["knock"], false]);
    door.wake();
    run();
    expect(diary).toEqual(["knock", "knock"]);
    isOpen = true;
    run();
    expect(diary.length).toBe(2);
    door.wake();
    run();
    expect(diary.at(-1)).toBe("g=in");
    expect(door.waiting.size).toBe(0);
  });

  it("hands a throw to its own context and goes on with the others", () => {
    const { diary, add, run } = setUp();
    function* bad(): Op<void> {
      yield HERE;
      throw new Error("no");
    }
    add("bad", bad());
    add("good", count(diary, "g", 3));
    run();
    expect(diary).toContain("bad!");
    expect(diary).toContain("good=end");
  });

  it("shows the observer who moved where, and counts steps", () => {
    const { add, run, sched } = setUp();
    const seen: [string, number, number][] = [];
    sched.observer = (moved, others) => seen.push([moved.label, moved.point, others.length]);
    function* two(): Op<void> {
      yield POINT["before-tlbi"];
    }
    add("x", two());
    run();
    expect(seen).toEqual([
      ["x", POINT["before-tlbi"], 1],
      ["x", POINT["before-tlbi"], 0],
    ]);
    expect(sched.steps).toBe(2);
  });

  it("is restored only from a state with nothing under way", () => {
    const { add, run, sched } = setUp(3n);
    function* one(): Op<void> {
      yield HERE;
    }
    add("x", one());
    const busy = sched.save();
    expect(() => new Scheduler(3n).load(busy)).toThrow(AssertionFailed);
    run();
    const other = new Scheduler(9n);
    other.load(sched.save());
    expect(other.save()).toEqual(sched.save());
    expect(other.sliceBudget(4000)).toBe(sched.sliceBudget(4000));
  });
});

describe("locks", () => {
  /** Takes `lock`, stays for two steps, leaves. */
  function* visit(
    diary: string[],
    name: string,
    lock: () => Op<void>,
    unlock: () => void,
  ): Op<string> {
    yield* lock();
    diary.push(`+${name}`);
    yield HERE;
    yield HERE;
    diary.push(`-${name}`);
    unlock();
    return name;
  }

  it.each([null, 1n, 2n, 3n])("Mutex: one at a time (seed %s)", (seed) => {
    const { diary, add, run } = setUp(seed);
    const mutex = new Mutex("m");
    for (const name of ["a", "b", "c"]) {
      add(
        name,
        visit(
          diary,
          name,
          () => mutex.lock(),
          () => mutex.unlock(),
        ),
      );
    }
    run();
    const holds = diary.filter((line) => /^[+-]/.test(line));
    for (let i = 0; i < 6; i += 2) expect(holds[i]!.slice(1)).toBe(holds[i + 1]!.slice(1));
    expect(mutex.held).toBe(false);
    expect(() => mutex.unlock()).toThrow(AssertionFailed);
  });

  it.each([null, 1n, 2n, 3n, 4n])("RwLock: readers together, a writer alone (seed %s)", (seed) => {
    const { diary, add, run } = setUp(seed);
    const lock = new RwLock("rw");
    const inside = { readers: 0, writers: 0, together: 0 };
    function* reader(): Op<void> {
      yield* lock.readLock();
      inside.readers++;
      inside.together = Math.max(inside.together, inside.readers);
      expect(inside.writers).toBe(0);
      // Longer than a turn.
      for (let n = 0; n < 8; n++) yield HERE;
      inside.readers--;
      lock.readUnlock();
    }
    function* writer(): Op<void> {
      yield* lock.writeLock();
      inside.writers++;
      expect([inside.readers, inside.writers, lock.writeHeld]).toEqual([0, 1, true]);
      yield HERE;
      inside.writers--;
      lock.writeUnlock();
    }
    for (let i = 0; i < 6; i++) add(`r${i}`, reader(), true);
    for (let i = 0; i < 3; i++) add(`w${i}`, writer());
    for (let i = 6; i < 9; i++) add(`r${i}`, reader(), true);
    run();
    expect(diary.filter((line) => line.endsWith("=undefined")).length).toBe(12);
    expect(inside.together).toBeGreaterThan(1);
    expect(() => lock.readUnlock()).toThrow(AssertionFailed);
    expect(() => lock.writeUnlock()).toThrow(AssertionFailed);
  });

  it("RwLock: a stream of readers does not keep a writer out", () => {
    const { add, sched } = setUp();
    const lock = new RwLock("rw");
    let written = false;
    function* reader(): Op<void> {
      for (;;) {
        yield* lock.readLock();
        yield HERE;
        lock.readUnlock();
      }
    }
    function* writer(): Op<void> {
      yield* lock.writeLock();
      written = true;
      lock.writeUnlock();
    }
    for (let i = 0; i < 4; i++) add(`r${i}`, reader(), true);
    for (let i = 0; i < 20; i++) sched.step();
    add("w", writer());
    for (let i = 0; i < 200 && !written; i++) sched.step();
    expect(written).toBe(true);
  });

  it("Srcu: waits for the readers from before, not for those that come after", () => {
    const { diary, add, run } = setUp();
    const srcu = new Srcu("srcu");
    const before = srcu.readLock();
    function* writer(): Op<string> {
      yield* srcu.synchronize();
      return "over";
    }
    add("w", writer());
    run();
    const after = srcu.readLock();
    expect(diary).toEqual([]);
    srcu.readUnlock(before);
    run();
    expect(diary).toEqual(["w=over"]);
    srcu.readUnlock(after);
    expect(() => srcu.readUnlock(after)).toThrow(AssertionFailed);
    add("x", writer());
    run();
    expect(diary.at(-1)).toBe("x=over");
  });
});

describe("preemption points", () => {
  it("are numbered by their names, and pairs name only those", () => {
    expect(POINT_NAMES.map((name) => POINT[name])).toEqual(POINT_NAMES.map((_, i) => i));
    for (const pair of MEETING_PAIRS) {
      for (const name of pair) expect(POINT_NAMES).toContain(name);
    }
    const keys = MEETING_PAIRS.map((pair) => pair.join());
    expect(new Set(keys).size).toBe(keys.length);
  });
});
