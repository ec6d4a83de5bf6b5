// Goal: every value of every policy of HDBSS does what its sentence says, and loses no page.
// Method: a round of stores, GETs and switches per value, and one look at what sets it apart.
import { describe, expect, it } from "vitest";
import { POLICIES } from "../../src/kvm/index.js";
import { twice } from "../support/dirty-case.js";
import { HdbssVm, HW_DIRTY, hdbssVm, LOG, range } from "./hdbss-world.js";

const PAGES = 700;
const all = range(0, PAGES);

const VALUES = Object.entries(POLICIES).flatMap(([key, { values }]) =>
  key.startsWith("hdbss.") && Array.isArray(values)
    ? values.map((value) => [key, String(value)] as const)
    : [],
);

/** Turns HDBSS on the way that the policy has it. */
function turnOn(vm: HdbssVm, key: string, value: string): void {
  if (value.startsWith("auto") || (key === "hdbss.capShape" && value !== "arm-specific")) return;
  const isV2 = value === "ioctl-v2";
  const size = value === "bytes" ? 8192n : 1n;
  vm.call("enableCap", { cap: HW_DIRTY, flags: 0, args: isV2 ? [1n] : [size, 1n] });
}

describe.each(VALUES)("%s %s", (key, value) => {
  it.each(["round-robin", "seeded"] as const)("loses no page, %s", (schedule) => {
    const vm = new HdbssVm({ [key]: value }, null, { schedule });
    vm.vcpu(0);
    vm.vcpu(1);
    turnOn(vm, key, value);
    const { slot } = vm.slot(0, PAGES, { flags: LOG });
    for (let round = 0; round < 3; round++) {
      vm.dirtyPages(0, all);
      vm.dirtyPages(1, range(0, 600));
      expect(vm.dirty(0)).toEqual(all);
      vm.dirtyPages(1, [round, 699]);
      expect(vm.dirty(0)).toEqual([round, 699]);
    }
    vm.setFlags(slot, 0);
    vm.dirtyPages(0, [1, 2]);
    vm.setFlags(slot, LOG);
    vm.dirtyPages(1, [2, 3]);
    // An index that is kept over a put may hold a store from before the log.
    const kept = value === "preserve-index-on-put" ? [1] : [];
    expect(vm.dirty(0)).toEqual([...kept, 2, 3]);
  });

  it("loses no page of vCPUs that go on running", () => {
    const vm = new HdbssVm({ [key]: value }, null, { schedule: "seeded" });
    vm.vcpu(0);
    vm.vcpu(1);
    vm.slot(0, PAGES, { flags: LOG });
    const runs = [vm.spin(0, PAGES), vm.spin(1, 300)];
    vm.pumpAccesses(0, 200);
    turnOn(vm, key, value);
    const seen = new Set<number>();
    for (let n = 0; n < 6; n++) {
      vm.pumpAccesses(0, 100);
      for (const page of vm.dirty(0)) seen.add(page);
    }
    vm.pumpAccesses(0, PAGES);
    for (const vcpu of [0, 1]) vm.stop(vcpu);
    for (const run of runs) vm.finish(run);
    for (const page of vm.dirty(0)) seen.add(page);
    expect(seen.size).toBe(PAGES);
    expect(vm.dirty(0)).toEqual([]);
    for (const { hdbss } of vm.kvm.vm.vcpus) expect(hdbss?.index ?? 0).toBe(0);
    expect(vm.kvm.vm.host.diagnostics.counts).toEqual({});
  });
});

describe("hdbss.enableBy", () => {
  it("auto-first-logging-slot: on with the first log, off with the last", () => {
    const vm = new HdbssVm({ "hdbss.enableBy": "auto-first-logging-slot" });
    vm.vcpu(0);
    const before = vm.memory.frames;
    const first = vm.slot(0, 8).slot;
    expect(vm.kvm.vm.isHdbssOn).toBe(false);
    vm.setFlags(first, LOG);
    expect(vm.kvm.vm.isHdbssOn).toBe(true);
    vm.vcpu(1);
    expect(vm.buffer(1)).not.toBeNull();
    const second = vm.slot(1, 8, { gpa: 0x9000_0000, flags: LOG }).slot;
    vm.setFlags(first, 0);
    expect(vm.kvm.vm.isHdbssOn).toBe(true);
    vm.deleteSlot(second.slot);
    expect(vm.kvm.vm.isHdbssOn).toBe(false);
    expect(vm.counter("bytesHdbssBuffers")).toBe(0);
    expect(vm.memory.frames).toBeGreaterThanOrEqual(before);
    expect(vm.refused("enableCap", { cap: HW_DIRTY, flags: 0, args: [0n, 1n] })).toBe("EINVAL");
  });

  it("auto-first-logging-slot: without memory for buffers write protection goes on", () => {
    const vm = new HdbssVm({ "hdbss.enableBy": "auto-first-logging-slot" });
    vm.vcpu(0);
    vm.arm("hdbss-alloc");
    vm.slot(0, 8, { flags: LOG });
    expect(vm.kvm.vm.isHdbssOn).toBe(false);
    vm.dirtyPages(0, [3]);
    expect(vm.dirty(0)).toEqual([3]);
  });

  it("auto-buffers-at-vcpu-create: buffers for life, a vCPU without one is refused", () => {
    const vm = new HdbssVm({ "hdbss.enableBy": "auto-buffers-at-vcpu-create" });
    vm.vcpu(0);
    const pa = vm.buffer(0)?.pa;
    const { slot } = vm.slot(0, 8, { flags: LOG });
    expect(vm.kvm.vm.isHdbssOn).toBe(true);
    vm.setFlags(slot, 0);
    expect(vm.kvm.vm.isHdbssOn).toBe(false);
    expect(vm.buffer(0)?.pa).toBe(pa);
    const { memory } = vm;
    vm.arm("hdbss-alloc");
    expect(vm.refused("createVcpu", { id: 1 })).toBe("ENOMEM");
    expect(vm.memory).toEqual(memory);
  });

  it("ioctl-v2: a size of 0 is off", () => {
    const vm = new HdbssVm({ "hdbss.enableBy": "ioctl-v2" });
    vm.vcpu(0);
    vm.enable(HW_DIRTY, 2n);
    expect(vm.buffer(0)?.sz).toBe(2);
    vm.enable(HW_DIRTY, 0n);
    expect(vm.kvm.vm.isHdbssOn).toBe(false);
  });
});

it.each([
  ["arm-specific", [1, 0, 0]],
  ["arch-generic", [0, 1, 0]],
  ["none", [0, 0, 0]],
  ["buffer-size-only", [0, 0, 4096]],
])("hdbss.capShape %s is what CHECK_EXTENSION tells", (shape, values) => {
  const vm = new HdbssVm({ "hdbss.capShape": shape });
  const told = [502, 503, 504].map((cap) => vm.call("checkExtension", { cap }));
  expect(told).toEqual(values);
  expect(vm.refused("enableCap", { cap: 503, flags: 0, args: [0n, 1n] })).toBe(
    values[1] === 1 ? null : "EINVAL",
  );
});

it("hdbss.sizeUnit bytes: powers of two from 4096 to 2 MiB", () => {
  const vm = new HdbssVm({ "hdbss.sizeUnit": "bytes" });
  vm.vcpu(0);
  for (const wrong of [0n, 9n, 2048n, 6000n, 2n ** 22n]) {
    expect(vm.refused("enableCap", { cap: HW_DIRTY, flags: 0, args: [wrong, 1n] })).toBe("EINVAL");
  }
  vm.enable(HW_DIRTY, 2n ** 21n, 1n);
  expect(vm.buffer(0)?.sz).toBe(9);
});

it.each([
  [3, 3],
  [-1, 1],
])("hdbss.size %i", (size, sz) => {
  const vm = new HdbssVm({ "hdbss.enableBy": "auto-first-logging-slot", "hdbss.size": size });
  vm.vcpu(0);
  vm.slot(0, 2 ** 16, { backing: "unbacked" });
  vm.slot(1, 8, { gpa: 0x10_0000, flags: LOG });
  expect(vm.buffer(0)?.sz).toBe(sz);
});

describe("hdbss.alignCheck", () => {
  const misaligned = (value: string) => {
    const vm = new HdbssVm({ "hdbss.alignCheck": value });
    vm.vcpu(0);
    vm.arm("hdbss-misaligned");
    return vm;
  };

  it("check: refuses a base that isn't aligned, and keeps nothing", () => {
    const vm = misaligned("check");
    const { memory } = vm;
    expect(vm.refused("enableCap", { cap: HW_DIRTY, flags: 0, args: [1n, 1n] })).toBe("EINVAL");
    expect(vm.diagnosed("hdbss-misaligned-base")).toBe(1);
    expect(vm.memory).toEqual(memory);
  });

  it.each(["mask", "trust"])("%s: entries land elsewhere, and a diagnostic says so", (value) => {
    const vm = misaligned(value);
    vm.enable(HW_DIRTY, 1n, 1n);
    vm.slot(0, 8, { flags: LOG });
    vm.dirtyPages(0, [1]);
    vm.dirty(0);
    vm.dirtyPages(0, [1]);
    expect(vm.diagnosed("hdbss-write-outside-owned-buffer")).toBe(1);
    const isMasked = (vm.cpu().mrs("HDBSSBR_EL2") & 0x1000n) === 0n;
    expect(isMasked).toBe(value === "mask");
    expect(vm.dirty(0)).toEqual([]);
  });
});

describe("hdbss.flushAt", () => {
  const drains = (value: string) => {
    const vm = hdbssVm(PAGES, { settings: { "hdbss.flushAt": value } });
    vm.dirtyPages(0, all);
    vm.dirty(0);
    vm.dirtyPages(0, all);
    const names = ["Put", "Request", "Fault", "Exit"];
    return names.map((name) => vm.counter(`hdbssDrains${name}`));
  };

  it.each([
    ["put+request+fault", [1, 0, 1, 0]],
    ["every-exit", [0, 0, 0, 2]],
    ["fault-sets-request", [1, 1, 0, 0]],
    ["preserve-index-on-put", [0, 0, 1, 0]],
  ])("%s", (value, expected) => expect(drains(value)).toEqual(expected));
});

it("hdbss.savedState raw-registers keeps what MRS gave", () => {
  const settings = {
    "hdbss.savedState": "raw-registers",
    "hdbss.flushAt": "preserve-index-on-put",
  };
  const vm = hdbssVm(8, { settings });
  vm.dirtyPages(0, [1]);
  vm.dirty(0);
  vm.dirtyPages(0, [1]);
  expect(vm.buffer(0)?.raw).toEqual({ br: BigInt(vm.buffer(0)!.pa), prod: 1n });
  vm.dirtyPages(0, [2]);
  expect(vm.dirty(0)).toEqual([1, 2]);
});

twice(
  "T-36",
  "kick-only comes back before vCPUs have left the guest; stop-all after",
  (_on, policy) => {
    const vm = hdbssVm(64, { on: policy, vcpus: 2, isOff: true });
    vm.spin(0, 64);
    vm.pumpAccesses(0, 100);
    vm.arm("kick-delayed", { delay: 6 });
    vm.enableHdbss();
    expect(vm.cpu().mrs("VTCR_EL2") === vm.kvm.vm.vtcr || vm.cpu().vcpuId === -1).toBe(true);
  },
  { bug: "hdbss.stop=kick-only" },
);

it("hardware goes on where the scan left off, and the other way round", () => {
  const vm = new HdbssVm({}, null, { dirtyTracking: "dbm" });
  vm.vcpu(0);
  vm.slot(0, 64, { flags: LOG });
  vm.dirtyPages(0, range(0, 20));
  vm.dirty(0);
  vm.dirtyPages(0, [3, 4]);
  vm.enableHdbss();
  vm.dirtyPages(0, [5]);
  expect(vm.dirty(0)).toEqual([3, 4, 5]);
  vm.dirtyPages(0, [6]);
  vm.disableHdbss();
  vm.dirtyPages(0, [7]);
  expect(vm.dirty(0)).toEqual([6, 7]);
});

it("a VM with buffers is saved and restored with what they hold", () => {
  const settings = { "hdbss.flushAt": "preserve-index-on-put" };
  const make = () => {
    const vm = hdbssVm(64, { settings, vcpus: 2 });
    vm.dirtyPages(0, range(0, 20));
    vm.dirty(0);
    vm.dirtyPages(0, [3, 4]);
    return vm;
  };
  const vm = make();
  const saved = vm.instance.machine.save();
  const other = make();
  expect(other.dirty(0)).toEqual([3, 4]);
  other.instance.machine.load(saved);
  expect(other.digest()).toBe(vm.digest());
  expect(other.dirty(0)).toEqual([3, 4]);
});
