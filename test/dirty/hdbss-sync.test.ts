// Goal: GET and CLEAR see every entry that was appended before them, whatever the vCPUs are doing.
// Method: the cases of dirty-tracking 10 about the sync; stores are counted by the engine itself.
import { expect, it } from "vitest";
import { twice } from "../support/dirty-case.js";
import { type HdbssVm, hdbssVm, range } from "./hdbss-world.js";

const PAGES = 400;

/** vCPU 0 spins over the slot; every page of it is writable-clean before. */
function spinning(on: string | null, settings = {}) {
  const vm = hdbssVm(PAGES, { settings, on, vcpus: 2 });
  vm.dirtyPages(0, range(0, PAGES));
  vm.dirty(0);
  const run = vm.spin(0, PAGES);
  return { vm, run };
}

/** Pages stored to, as far as the engine got in its first round. */
function stored(vm: HdbssVm, before: number): number[] {
  const { engine } = vm.kvm.vm.vcpuById(0)!;
  return range(0, Math.min(PAGES, engine.retired - before));
}

twice(
  "T-38",
  "GET while a vCPU dirties pages tells of all that it stored to before",
  (_on, bug) => {
    const { vm, run } = spinning(bug);
    const { engine } = vm.kvm.vm.vcpuById(0)!;
    const before = engine.retired;
    vm.pumpUntil(() => engine.retired > before);
    const early = stored(vm, before);
    const first = vm.dirty(0);
    expect(first).toEqual(expect.arrayContaining(early));
    vm.pumpAccesses(0, PAGES);
    vm.stop(0);
    vm.finish(run);
    expect(vm.dirty(0)).toEqual(range(0, PAGES));
  },
  { bug: ["B8", "hdbss.sync=request-nowait"] },
);

it("T-38: without the wait, pages are late by one GET, never lost", () => {
  for (const sync of ["request-nowait", "kick-async", "request-wait-ack", "wait-drain"]) {
    const { vm, run } = spinning(null, { "hdbss.sync": sync });
    vm.pumpAccesses(0, 10);
    const seen = new Set<number>();
    for (let n = 0; n < 3; n++) {
      vm.pumpAccesses(0, 10);
      for (const page of vm.dirty(0)) seen.add(page);
    }
    vm.pumpAccesses(0, PAGES);
    vm.stop(0);
    vm.finish(run);
    for (const page of vm.dirty(0)) seen.add(page);
    expect([...seen].sort((a, b) => a - b)).toEqual(range(0, PAGES));
  }
});

twice(
  "T-39",
  "the sync covers vCPUs in the guest, in the kernel, blocked, and outside of KVM_RUN",
  (_on, bug) => {
    const vm = hdbssVm(PAGES, { on: bug, vcpus: 4 });
    vm.dirtyPages(0, range(0, PAGES));
    vm.dirty(0);
    // Outside of KVM_RUN: a run that ended.
    vm.dirtyPages(3, range(300, 310));
    // Blocked: a run of a vCPU that is stopped.
    vm.dirtyPages(2, range(200, 205));
    vm.call("setMpState", { vcpu: 2, mpState: 5 });
    vm.beginRun(2);
    // In the kernel: a run that stands in an abort, after three appends. Its page is new.
    vm.slot(1, 8, { gpa: 0x9000_0000 });
    vm.list(1, [
      ...range(100, 103).map((page) => write(vm.gpa(page))),
      ...range(0, 8).map((page) => write(0x9000_0000 + page * vm.page)),
      ...Array.from({ length: 30_000 }, () => write(0x9000_0000)),
    ]);
    vm.beginRun(1);
    vm.pumpUntil(() => vm.kvm.vm.vcpuById(1)!.engine.retired === 3);
    // In the guest.
    vm.pattern(
      0,
      { base: vm.gpa(0), bytes: 50 * vm.page, count: 0 },
      { pattern: "sequential", stride: vm.page },
    );
    vm.beginRun(0);
    vm.pumpAccesses(0, 50);
    expect(vm.kvm.vm.vcpuById(0)!.isInGuest).toBe(true);
    const { vcpus } = vm.kvm.vm;
    expect(vcpus.map(({ running, cpu }) => [running, cpu !== null])).toEqual([
      [true, true],
      [true, true],
      [true, false],
      [false, false],
    ]);
    const pages = [...range(0, 50), ...range(100, 103), ...range(200, 205), ...range(300, 310)];
    expect(vm.dirty(0)).toEqual(pages);
  },
  { bug: "B9" },
);

const write = (at: number) => ({ op: "write", address: BigInt(at), length: 8, value: 1n }) as const;

it("T-39: a vCPU that keeps its index over a put is drained where it lies", () => {
  const vm = hdbssVm(PAGES, { settings: { "hdbss.flushAt": "preserve-index-on-put" } });
  vm.dirtyPages(0, range(0, PAGES));
  vm.dirty(0);
  vm.dirtyPages(0, [1, 2, 3]);
  expect(vm.buffer(0)?.index).toBe(3);
  expect(vm.counter("hdbssDrainedEntries")).toBe(0);
  vm.dirtyPages(0, [4]);
  expect(vm.buffer(0)?.index).toBe(4);
  expect(vm.dirty(0)).toEqual([1, 2, 3, 4]);
  expect(vm.buffer(0)?.index).toBe(0);
});

function drainsAll(_on: boolean, bug: string | null): void {
  const settings = { "hardware.weakHdbssOrdering": true };
  const vm = hdbssVm(PAGES, { settings, on: bug });
  vm.dirtyPages(0, range(0, 40));
  vm.dirty(0);
  for (const [first, end] of [
    [0, 20],
    [20, 40],
    [5, 9],
  ] as const) {
    vm.dirtyPages(0, range(first, end));
    expect(vm.dirty(0)).toEqual(range(first, end));
  }
}

twice("T-21", "a drain waits for entries that are on their way", drainsAll, { bug: "B12" });
twice("T-40", "GET tells of entries that were on their way", drainsAll, { bug: "B12" });

twice(
  "T-44",
  "entries of a slot that is gone are dropped as their vCPU is scheduled out",
  (_on, bug) => {
    const vm = hdbssVm(PAGES, { on: bug, vcpus: 2 });
    vm.dirtyPages(0, range(0, 50));
    vm.dirty(0);
    const run = vm.spin(0, 50);
    vm.pumpAccesses(0, 50);
    vm.deleteSlot(0);
    vm.stop(0);
    vm.finish(run);
    expect(vm.diagnosed("slot-used-after-free")).toBe(0);
    expect(vm.buffer(0)?.index).toBe(0);
    vm.slot(0, 50, { flags: 1 });
    expect(vm.dirty(0)).toEqual([]);
  },
  { bug: "B16" },
);
