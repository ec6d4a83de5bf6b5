// Goal: a GICv5 decoded shows what KVM keeps of each SPI beside the entry that the hardware works
// on, filters and pages; and looks change nothing.
// Method: a VM whose guest configures, takes and ends SPIs between looks.
import { describe, expect, it } from "vitest";
import type { VgicV5SpiFilter } from "../../../src/vmm/vgic-v5-types.js";
import { isteView } from "../../../src/vmm/vgic-v5-view.js";
import { IRS_REG, lpiOf, spiOf, V5Vm } from "../../support/gicv5-case.js";
import { Inline } from "../../support/inline.js";

const ALL: VgicV5SpiFilter = { from: 0, to: 1023, state: null, after: null, limit: 9999 };
const [EDGE, LEVEL] = [33, 40];

const spis = (vm: V5Vm, filter: Partial<VgicV5SpiFilter> = {}) =>
  vm.call("listVgicV5Spis", { ...ALL, ...filter });
const ids = (vm: V5Vm, filter: Partial<VgicV5SpiFilter>) => spis(vm, filter).map(({ id }) => id);

function world(): V5Vm {
  const vm = new V5Vm({ vcpus: 2, settings: ["vgicV5.spiTracking=seed004"] });
  vm.cpu.claim(EDGE, "edge", 12);
  vm.cpus[1]!.claim(LEVEL, "level", 4);
  return vm;
}

describe("SPIs", () => {
  it("are all there, with the entry of each", () => {
    const vm = world();
    const all = spis(vm);
    expect(all.map(({ id }) => id)).toEqual(Array.from({ length: 64 }, (_, id) => id));
    expect(all[0]).toMatchObject({
      intid: 0x6000_0000,
      state: "inactive",
      config: "edge",
      target: 0,
      iste: { raw: 0, enabled: false, priority: 0, iaffid: 0 },
    });
    expect(all[EDGE]).toMatchObject({ iste: { enabled: true, priority: 12, handling: "edge" } });
    expect(all[LEVEL]).toMatchObject({
      config: "level",
      target: 1,
      iste: { raw: 0x1_200c, enabled: true, priority: 4, handling: "level", iaffid: 1 },
    });
  });

  it("have two states: KVM's and the hardware's", () => {
    const vm = world();
    vm.resampler(LEVEL);
    vm.line(EDGE, 1);
    vm.line(LEVEL, 1);
    expect(spis(vm, { from: EDGE, to: EDGE })[0]).toMatchObject({
      state: "pending",
      pendingLatch: true,
      isListed: true,
      hasNotifier: false,
      iste: { pending: true, active: false },
    });
    expect(vm.cpus[1]!.cdia()).not.toBe(0n);
    const [level] = spis(vm, { from: LEVEL, to: LEVEL });
    expect(level).toMatchObject({ state: "active-and-pending", lineLevel: true, active: true });
    expect(level).toMatchObject({ hasNotifier: true, isListed: true });
    expect(vm.call("describeVgicV5", {})).toMatchObject({
      tracking: "seed004",
      inFlight: [EDGE, LEVEL],
    });
  });

  it("are found by state, in pages", () => {
    const vm = world();
    vm.line(EDGE, 1);
    vm.line(LEVEL, 1);
    vm.cpus[1]!.cdia();
    expect(ids(vm, { state: "pending" })).toEqual([EDGE, LEVEL]);
    expect(ids(vm, { state: "active" })).toEqual([LEVEL]);
    expect(ids(vm, { state: "enabled" })).toEqual([EDGE, LEVEL]);
    expect(ids(vm, { state: "listed" })).toEqual([EDGE, LEVEL]);
    expect(ids(vm, { state: "idle" })).toHaveLength(62);
    expect(ids(vm, { after: 5n, limit: 3 })).toEqual([6, 7, 8]);
    expect(ids(vm, { from: 62 })).toEqual([62, 63]);
    expect(vm.refused("listVgicV5Spis", { ...ALL, state: "lost" })).toBe("validation");
  });

  it("are left as they are by a look", () => {
    const vm = world();
    vm.line(LEVEL, 1);
    const before = vm.kvm.vm.vgic.v5?.save();
    spis(vm);
    vm.call("describeVgicV5", {});
    expect(vm.kvm.vm.vgic.v5?.save()).toEqual(before);
  });
});

describe("the controller", () => {
  it("has an IRS, its table, and CPU interfaces with what KVM offers of PPIs", () => {
    const vm = world();
    vm.cpu.write(IRS_REG.IST_CFGR, 15);
    vm.cpu.write64(IRS_REG.IST_BASER, 0x4030_0001n);
    vm.cpu.enablePpi(27, 3);
    const view = vm.call("describeVgicV5", {});
    expect(view).toMatchObject({
      isInitialized: true,
      isReady: true,
      irs: { base: 0x801_0000n, enabled: true, nrSpis: 64 },
    });
    expect(view.irs.ist).toEqual({
      baser: 0x4030_0001n,
      cfgr: 15,
      isValid: true,
      address: 0x4030_0000n,
      lpiIdBits: 15,
      bytes: 4,
      isTwoLevel: false,
    });
    const [first, second] = view.cpuInterfaces;
    expect([first?.iaffid, second?.iaffid, first?.pcr]).toEqual([0, 1, 31]);
    const timer = first?.ppis.find(({ id }) => id === 27);
    expect(timer).toMatchObject({ enabled: true, level: true, priority: 3, owner: "timer" });
    expect(view.counters.exits).toBeGreaterThan(0);
  });

  it("is none where it is another one, or there is none", () => {
    const vm = new Inline();
    vm.vcpu();
    expect(vm.refused("describeVgicV5", {})).toBe("vgic-not-found");
    vm.call("createDevice", { type: 7, flags: 0 });
    expect(vm.refused("listVgicV5Spis", ALL)).toBe("vgic-not-found");
    expect(() => vm.call("describeVgicV5", {})).toThrow("It is a GICv3.");
  });
});

it("an entry's word is what its fields say", () => {
  expect(isteView(0xffff_ffff)).toEqual({
    raw: 0xffff_ffff,
    pending: true,
    active: true,
    handling: "level",
    enabled: true,
    oneOfN: true,
    hwu: 3,
    priority: 31,
    iaffid: 0xffff,
  });
  // What the kernel's IPIs are at rest. @source gicv5-observed.md 3.1
  expect(isteView(0x1_f808)).toMatchObject({ enabled: true, priority: 31, iaffid: 1 });
  expect([spiOf(7), lpiOf(9)]).toEqual([0x6000_0007, 0x4000_0009]);
});
