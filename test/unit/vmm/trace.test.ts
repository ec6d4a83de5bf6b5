// Goal: a trace holds what a VM did under Linux's names, opens in a reader of Chrome's format, and
// changes nothing.
// Method: guests with known exits; the file's bytes parsed and held against the format's rules.
import { describe, expect, it } from "vitest";
import { TRACE_EVENTS_MAX } from "../../../src/base/limits.js";
import { TRACE_CATEGORY_NAMES, traceMask } from "../../../src/base/trace.table.js";
import * as a64 from "../../support/a64.js";
import { guestImage, InlineBoard } from "../../support/board.js";
import { Guest, OFF } from "../../support/guest.js";
import { BASE, Inline, type InlineOptions } from "../../support/inline.js";

const ALL = traceMask(TRACE_CATEGORY_NAMES);
const UART = 0x900_0000n;
const K4 = 4096;

interface Row {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur?: number;
  readonly id?: number;
  readonly cat?: string;
  readonly s?: string;
  readonly args: Record<string, unknown>;
}

function bytes(vm: Inline): string {
  return Buffer.from(vm.call("readTrace", {})).toString();
}
function rows(vm: Inline): readonly Row[] {
  return (JSON.parse(bytes(vm)) as { traceEvents: Row[] }).traceEvents;
}
const named = (all: readonly Row[], name: string) => all.filter((row) => row.name === name);

/** What any reader of the format relies on. */
function check(all: readonly Row[]): void {
  const open = new Map<number, string>();
  const tracks = new Set(all.filter((r) => r.name === "thread_name").map((r) => r.tid));
  let last = 0;
  for (const row of all) {
    expect(tracks.has(row.tid)).toBe(true);
    expect(["M", "X", "i", "b", "e"]).toContain(row.ph);
    if (row.ph === "M") continue;
    expect(row.ts).toBeGreaterThanOrEqual(last);
    last = row.ts;
    if (row.ph === "X") expect(row.dur).toBeGreaterThanOrEqual(0);
    if (row.ph === "i") expect(row.s).toBe("t");
    if (row.ph === "b") open.set(row.id!, row.name);
    if (row.ph === "e") {
      expect(open.get(row.id!)).toBe(row.name);
      open.delete(row.id!);
    }
  }
  expect(open.size).toBe(0);
}

/** A store to a device, a load from it, a WFI that an interrupt is pending for, power off. */
function exits(options: InlineOptions = {}): Guest {
  const vm = new Guest(options);
  vm.boot(0, [
    ...a64.mov(0, UART),
    ...a64.mov(1, 0x48n),
    a64.strb(1, 0),
    a64.ldrw(2, 0, 0x18),
    a64.WFI,
    ...a64.powerOff(),
  ]);
  return vm;
}

function runAll(vm: Guest): void {
  vm.irq(1);
  expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
  expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
  expect(vm.run(0, { mmioData: [0x90, 0, 0, 0] })).toMatchObject(OFF);
}

describe("a trace", () => {
  it("has each exit under its tracepoint's name, with its fields", () => {
    const vm = exits();
    vm.call("startTrace", { categories: ALL });
    runAll(vm);
    const all = rows(vm);
    check(all);
    expect(named(all, "kvm_irq_line").map((r) => r.args)).toEqual([
      { type: "CPU", vcpu_idx: 0, irq_num: 0, level: 1 },
    ]);
    expect(named(all, "kvm_mmio").map((r) => r.args)).toEqual([
      { type: "write", len: 1, gpa: "0x9000000", val: "0x48" },
      { type: "read-unsatisfied", len: 4, gpa: "0x9000018", val: "0x0" },
      { type: "read", len: 4, gpa: "0x9000018", val: "0x90" },
    ]);
    expect(named(all, "kvm_wfx_arm64").map((r) => r.args)).toMatchObject([{ is_wfe: false }]);
    const [call] = named(all, "kvm_hvc_arm64");
    expect(call?.args).toMatchObject({ r0: "0x84000008", imm: 0 });
    const left = named(all, "kvm_exit").map((r) => r.args["esr_ec"]);
    // Instruction abort for the first fetch, two data aborts, WFx, HVC.
    expect(left).toEqual([0x20, 0x24, 0x24, 0x01, 0x16]);
    expect(named(all, "kvm_entry")).toHaveLength(left.length);
    expect(named(all, "guest")).toHaveLength(left.length);
    expect(named(all, "kvm_guest_fault").map((r) => r.args["ipa"])).toEqual([
      `0x${BASE.toString(16)}`,
      "0x9000000",
      "0x9000018",
    ]);
    expect(named(all, "kvm_userspace_exit").map((r) => r.args["reason"])).toEqual([
      "KVM_EXIT_MMIO",
      "KVM_EXIT_MMIO",
      "KVM_EXIT_SYSTEM_EVENT",
    ]);
    expect(named(all, "KVM_RUN").filter((r) => r.ph === "e")).toHaveLength(3);
    // A slice is as long as its instructions take.
    const guest = named(all, "guest").map((r) => r.dur!);
    expect(guest.reduce((sum, us) => sum + us, 0)).toBeGreaterThan(0);
  });

  it("has only the categories that were asked for, and nothing before or after", () => {
    const vm = exits();
    vm.irq(1);
    expect(rows(vm).filter((row) => row.ph !== "M")).toEqual([]);
    const view = vm.call("startTrace", { categories: traceMask(["mmio"]) });
    expect(view).toEqual({ isOn: true, categories: ["mmio"], recorded: 0, dropped: 0 });
    vm.run();
    vm.call("stopTrace", {});
    vm.run();
    vm.run(0, { mmioData: [0] });
    const events = rows(vm).filter((row) => row.ph !== "M");
    expect(events.map((row) => [row.name, row.cat])).toEqual([["kvm_mmio", "mmio"]]);
    expect(vm.call("describeTrace", {})).toMatchObject({ isOn: false, recorded: 1 });
  });

  it("changes nothing in the VM", () => {
    const [plain, traced] = [exits(), exits()];
    traced.call("startTrace", { categories: ALL });
    runAll(plain);
    runAll(traced);
    expect(traced.digest()).toBe(plain.digest());
  });

  it.each([{ schedule: "seeded", seed: 5n }, { translation: null }, {}] as InlineOptions[])(
    "is the same bytes for the same seed and inputs: %o",
    (options) => {
      const files = [1, 2].map(() => {
        const vm = exits(options);
        vm.call("startTrace", { categories: ALL });
        runAll(vm);
        return bytes(vm);
      });
      expect(files[0]).toBe(files[1]);
    },
  );

  it("doesn't depend on the tier", () => {
    const files = [null, {}].map((translation) => {
      const vm = new InlineBoard({ vm: { translation }, board: { vcpus: 2 } });
      vm.call("loadBoard", { image: guestImage("smp"), initrd: null });
      vm.call("startTrace", { categories: traceMask(["mmio", "hypercall"]) });
      vm.act("start");
      vm.until("EXIT: STATUS=1");
      const names = rows(vm).filter((row) => row.tid === 1);
      return names.map((row) => [row.name, row.args]);
    });
    expect(files[0]).toEqual(files[1]);
    expect(files[0]!.length).toBeGreaterThan(20);
  });

  it("keeps the newest events and says how many gave way", () => {
    const vm = new Inline();
    vm.slot(0, 1);
    vm.vcpu();
    const count = TRACE_EVENTS_MAX / 2 + 100;
    vm.call("startTrace", { categories: traceMask(["mmio"]) });
    vm.list(
      0,
      Array.from({ length: count }, () => ({ op: "read", address: UART, length: 1 }) as const),
    );
    vm.run();
    for (let n = 1; n <= count; n++) vm.run(0, { mmioData: [n & 0xff] });
    const view = vm.call("describeTrace", {});
    expect(view).toMatchObject({ recorded: 2 * count, dropped: 200 });
    const all = rows(vm);
    check(all);
    expect(named(all, "kvm_mmio")).toHaveLength(TRACE_EVENTS_MAX);
    expect(all.at(-1)?.args).toMatchObject({
      type: "read",
      val: `0x${(count & 0xff).toString(16)}`,
    });
  });
});

describe("dirty rings in a trace", () => {
  it("push, full and reset", () => {
    const vm = new Inline();
    vm.enable(223, 4096n);
    vm.slot(0, 256, { flags: 1 });
    vm.vcpu();
    vm.call("startTrace", { categories: traceMask(["dirty"]) });
    const pages = Array.from({ length: 200 }, (_, page) => BASE + page * K4);
    expect(vm.store(0, pages).exitReason).toBe("KVM_EXIT_DIRTY_RING_FULL");
    vm.call("readDirtyRing", { vcpu: 0, from: 0, limit: 256 });
    vm.call("harvestDirtyRing", { vcpu: 0, upTo: 192 });
    vm.call("resetDirtyRings", {});
    const all = rows(vm);
    check(all);
    const pushed = named(all, "kvm_dirty_ring_push").map((row) => row.args["offset"]);
    expect(pushed).toEqual(Array.from({ length: 192 }, (_, page) => page));
    expect(named(all, "kvm_dirty_ring_exit")).toHaveLength(1);
    const [reset] = named(all, "kvm_dirty_ring_reset");
    expect(reset?.args).toEqual({ dirty_index: 192, reset_index: 192 });
  });
});
