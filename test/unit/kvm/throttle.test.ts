// Goal: a throttle takes from each vCPU the share of time that was asked for, a dirty limit the
// pages beyond the quota; kicks get through, and nothing depends on chance.
// Method: endless patterns in a virtual clock, where shares are exact to the instruction.
import { describe, expect, it } from "vitest";
import { ManualClock } from "../../../src/base/clock.js";
import { BASE, Inline, MIB } from "../../support/inline.js";

const MS = 1_000_000;
const K4 = 4096;
const NAME = "migrations/m1";

/** vCPUs that load from one page without end; an instruction is as long as it has to be. */
function busy(vcpus: number, options = {}): Inline {
  const vm = new Inline({
    clock: { mode: "virtual", nsPerInstruction: 1000, idle: "jump" },
    ...options,
  });
  vm.slot(0, 64);
  for (let id = 0; id < vcpus; id++) {
    vm.vcpu(id);
    vm.pattern(id, { base: BASE + id * K4, bytes: K4, count: 0 }, { writePercent: 0 });
  }
  return vm;
}

const nowNs = (vm: Inline): number => vm.call("describe", {}).virtualNs;
const retired = (vm: Inline, vcpu: number): number => vm.call("describeVcpu", { vcpu }).retired;
const held = (vm: Inline, vcpu: number) =>
  vm.call("describeThrottle", {}).vcpus?.find((each) => each.vcpu === vcpu)?.throttledNs ?? 0;

function until(vm: Inline, ns: number): void {
  vm.pumpUntil(() => vm.kvm.vm.virtualNs >= ns);
}

describe("a share", () => {
  it.each([
    [20, 2.5],
    [50, 10],
    [75, 30],
    [99, 990],
  ])("of %d percent holds a vCPU for %d ms after each 10 ms, exactly", (percent, heldMs) => {
    const vm = busy(1);
    vm.call("setThrottle", { percent, dirtyLimit: 0 });
    vm.beginRun(0);
    const periodNs = (10 + heldMs) * MS;
    for (const periods of [1, 2, 5]) {
      until(vm, periods * periodNs);
      expect(nowNs(vm)).toBe(periods * periodNs);
      expect(retired(vm, 0)).toBe((periods * 10 * MS) / 1000);
      expect(held(vm, 0)).toBe((periods - 1) * heldMs * MS);
      vm.pump(1);
      expect(held(vm, 0)).toBe(periods * heldMs * MS);
    }
    expect(vm.counter("throttledUs")).toBe(5 * heldMs * 1000);
  });

  it.each(["round-robin", "seeded"] as const)(
    "holds all vCPUs at once, more than there are host CPUs, scheduled %s",
    (schedule) => {
      const vm = busy(3, { hostCpus: 2, schedule });
      vm.call("setThrottle", { percent: 80, dirtyLimit: 0 });
      for (const id of [0, 1, 2]) vm.beginRun(id);
      until(vm, 500 * MS);
      const sum = [0, 1, 2].reduce((all, id) => all + retired(vm, id), 0);
      expect(sum).toBe((100 * MS) / 1000);
      for (const id of [0, 1, 2]) {
        expect(retired(vm, id)).toBeGreaterThan(sum / 5);
        // Whoever waited for a CPU when the hold began is held too, but not from its beginning.
        expect(held(vm, id)).toBeGreaterThan(300 * MS);
      }
    },
  );

  it("lets a kick through at once, and ends with the setting", () => {
    const vm = busy(1);
    vm.call("setThrottle", { percent: 99, dirtyLimit: 0 });
    const run = vm.beginRun(0);
    until(vm, 10 * MS);
    vm.pump(1);
    expect(vm.call("describeVcpu", { vcpu: 0 }).state).toBe("blocked");
    const before = nowNs(vm);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run).errno).toBe("EINTR");
    expect(nowNs(vm)).toBe(before);
    vm.beginRun(0);
    vm.pump(1);
    vm.call("setThrottle", { percent: 0, dirtyLimit: 0 });
    vm.pump(1);
    expect(nowNs(vm)).toBe(before + 500 * 1000);
  });

  it("asked for again goes on where it is", () => {
    const vm = busy(1);
    vm.call("setThrottle", { percent: 50, dirtyLimit: 0 });
    vm.beginRun(0);
    until(vm, 9 * MS);
    vm.call("setThrottle", { percent: 50, dirtyLimit: 0 });
    until(vm, 20 * MS);
    expect(retired(vm, 0)).toBe(10_000);
  });

  it("in a wall clock is a share of real time", () => {
    const time = new ManualClock();
    const vm = busy(1, { clock: { mode: "wall", nsPerInstruction: 1, idle: "jump" }, time });
    vm.call("setThrottle", { percent: 50, dirtyLimit: 0 });
    vm.beginRun(0);
    const counts: number[] = [];
    for (let ms = 0; ms < 40; ms++) {
      const before = retired(vm, 0);
      vm.pump(4);
      counts.push(retired(vm, 0) - before);
      time.advance(1);
    }
    const isRunning = counts.map((count) => count > 0);
    const expected = Array.from({ length: 40 }, (_, ms) => Math.floor(ms / 10) % 2 === 0);
    expect(isRunning).toEqual(expected);
    expect(vm.instance.msToSleep()).toBeLessThanOrEqual(10);
  });

  it("leaves a VM alone whose vCPUs sleep: its clock stands still", () => {
    const vm = busy(1);
    vm.call("setThrottle", { percent: 50, dirtyLimit: 1 });
    vm.call("setMpState", { vcpu: 0, mpState: 5 });
    vm.beginRun(0);
    vm.pump(100);
    expect(nowNs(vm)).toBe(0);
    expect(held(vm, 0)).toBe(0);
  });
});

describe("a dirty limit", () => {
  const PAGES = (8 * MIB) / K4;
  function dirtying(vcpus: number): Inline {
    const vm = new Inline({ clock: { mode: "virtual", nsPerInstruction: 1000, idle: "jump" } });
    vm.slot(0, PAGES);
    for (let id = 0; id < vcpus; id++) vm.vcpu(id);
    vm.call("trackDirty", { consumer: NAME, on: true, method: "bitmap" });
    return vm;
  }
  const dirtied = (vm: Inline, vcpu: number) =>
    vm.call("describeThrottle", {}).vcpus?.find((each) => each.vcpu === vcpu)?.dirtied ?? 0;

  it.each([100, 40, 5])("of %d pages a second is kept by each vCPU that would do more", (limit) => {
    const vm = dirtying(2);
    const base = { base: BASE, bytes: 8 * MIB, count: 0 };
    vm.pattern(0, base, { pattern: "sequential", stride: K4 });
    vm.pattern(1, { ...base, bytes: K4 });
    vm.call("setThrottle", { percent: 0, dirtyLimit: limit });
    for (const id of [0, 1]) vm.beginRun(id);
    until(vm, 20 * 1000 * MS);
    vm.call("harvestDirty", { consumer: NAME });
    const before = dirtied(vm, 0);
    until(vm, 40 * 1000 * MS);
    // A slice may overdraw; what is owed is paid before the next.
    const perSecond = (dirtied(vm, 0) - before) / 20;
    expect(perSecond).toBeGreaterThan(0.5 * Math.min(limit, 2048 / 20));
    expect(perSecond).toBeLessThanOrEqual(limit + 500 / 20);
    expect(held(vm, 0)).toBeGreaterThan(1000 * MS);
    // One that stays within its quota never waits.
    expect(held(vm, 1)).toBe(0);
    expect(dirtied(vm, 1)).toBe(2);
  });

  it("doesn't count while nobody tracks", () => {
    const vm = new Inline();
    vm.slot(0, 256);
    vm.vcpu();
    vm.call("setThrottle", { percent: 0, dirtyLimit: 1 });
    vm.pattern(0, { base: BASE, bytes: MIB, count: 10_000 });
    expect(vm.run(0).exitReason).toBe("KVM_EXIT_HLT");
    expect([dirtied(vm, 0), held(vm, 0)]).toEqual([0, 0]);
  });
});
