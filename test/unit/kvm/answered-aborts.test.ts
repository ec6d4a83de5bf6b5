// Goal: a store's abort that KVM answers without leaving the guest leaves what an exit leaves.
// Method: the same guest in a VM that is alone and in one whose scheduler could come between, where
// every abort is an exit; compared by counters, syndrome, registers, dirty pages and traces.
import { describe, expect, it } from "vitest";
import { TRACE_CATEGORY_NAMES, traceMask } from "../../../src/base/trace.table.js";
import * as a64 from "../../support/a64.js";
import { BASE, Inline, type InlineOptions } from "../../support/inline.js";

const K4 = 4096;
const UART = 0x900_0000n;
const PSCI_FEATURE = 4n;
const FIRST = 32;
const PAGES = 600;
const PC = 0x6030_0000_0010_0040n;
const LOG = 1;
const DIRTY_LOG_RING_ACQ_REL = 223;

/** Stores to PAGES pages, four times each, then a look at the device; for ever. */
function guest(options: InlineOptions, ring = false) {
  const vm = new Inline(options);
  if (ring) vm.enable(DIRTY_LOG_RING_ACQ_REL, 4096n); // tidy: bytes of the smallest ring
  const { slot } = vm.slot(0, FIRST + PAGES + 1);
  vm.vcpu();
  vm.call("vcpuInit", { vcpu: 0, target: 5, features: [PSCI_FEATURE] });
  const words = [
    ...a64.mov(3, BigInt(BASE + FIRST * K4)),
    ...a64.mov(4, BigInt(PAGES)),
    ...a64.mov(5, BigInt(K4)),
    a64.str(4, 3),
    a64.str(4, 3, 8),
    0x8b05_0063,
    a64.subs(4, 4, 1),
    a64.bne(-4),
    ...a64.mov(6, UART),
    a64.ldrw(7, 6),
  ];
  const bytes = a64.bytesOf([...words, a64.b(-words.length)]);
  vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes });
  const value = new Uint8Array(8);
  new DataView(value.buffer).setBigUint64(0, BigInt(BASE), true);
  vm.call("setOneReg", { vcpu: 0, reg: PC, value });
  return { vm, slot };
}

/** Everything that a round of the guest leaves. */
function round(vm: Inline) {
  const run = vm.run(0, { mmioData: [0, 0, 0, 0] });
  const { a64: engine } = vm.kvm.vm.vcpus[0]!;
  const names = ["exits", "s2WriteFaults", "s2MapFaults", "s2Retries", "tlbiLocal", "dirtyMarked"];
  return {
    reason: run.exitReason,
    retired: vm.kvm.vm.instructions,
    counters: names.map((name) => vm.counter(name)),
    esr: engine!.esr,
    far: engine!.far,
  };
}

const PAGE_NUMBERS = Array.from({ length: PAGES }, (_, i) => FIRST + i);

describe.each([{}, { translation: null }])("tiers %j", (tiers) => {
  it("counters, syndrome, registers and dirty pages are those of exits", () => {
    const found = (["round-robin", "seeded"] as const).map((schedule) => {
      const { vm, slot } = guest({ ...tiers, schedule });
      const all: unknown[] = [round(vm)];
      vm.setFlags(slot, LOG);
      for (let turn = 0; turn < 3; turn++) {
        all.push(vm.dirty(0).filter((page) => page >= FIRST));
        all.push(round(vm));
      }
      all.push(vm.dirty(0));
      expect(vm.counter("s2WriteFaults")).toBeGreaterThanOrEqual(3 * PAGES);
      expect(vm.dirty(0)).toEqual([]);
      return { all, steps: vm.kvm.vm.sched.steps, faults: vm.counter("s2WriteFaults") };
    });
    const [alone, shared] = found;
    expect(alone!.all).toEqual(shared!.all);
    expect(alone!.all.at(-1)).toEqual(PAGE_NUMBERS);
    // Or both took exits, and nothing was compared.
    expect(alone!.steps).toBeLessThan(alone!.faults);
    expect(shared!.steps).toBeGreaterThan(shared!.faults);
  });
});

it("a trace tells them as exits, and its being on changes nothing", () => {
  const ends = [false, true].map((isTraced) => {
    const { vm, slot } = guest({});
    vm.run();
    vm.setFlags(slot, LOG);
    if (isTraced) vm.call("startTrace", { categories: traceMask(TRACE_CATEGORY_NAMES) });
    vm.run(0, { mmioData: [0, 0, 0, 0] });
    const text = Buffer.from(vm.call("readTrace", {})).toString();
    const { traceEvents } = JSON.parse(text) as {
      traceEvents: { name: string; args: { ipa?: string } }[];
    };
    if (isTraced) vm.call("stopTrace", {});
    const faults = traceEvents.filter(({ name }) => name === "kvm_guest_fault");
    const exits = traceEvents.filter(({ name }) => name === "kvm_exit");
    return { faults, exits, digest: vm.digest(), steps: vm.kvm.vm.sched.steps };
  });
  const [off, on] = ends;
  expect(on!.digest).toBe(off!.digest);
  // The page of the code, those of the stores, and the device.
  expect(on!.faults.length).toBe(PAGES + 1);
  expect(on!.exits.length).toBe(PAGES + 1);
  expect(new Set(on!.faults.map(({ args }) => args.ipa)).size).toBe(PAGES + 1);
});

it("a dirty ring that fills up still ends the run", () => {
  const { vm, slot } = guest({}, true);
  vm.run();
  vm.setFlags(slot, LOG);
  const { exitReason } = vm.run(0, { mmioData: [0, 0, 0, 0] });
  expect(exitReason).toBe("KVM_EXIT_DIRTY_RING_FULL");
  expect(vm.counter("ringPushed")).toBeLessThan(PAGES);
});
