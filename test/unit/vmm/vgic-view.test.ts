// Goal: the decoded controller shows what KVM keeps: interrupts with state, target and list, the
// CPU interfaces' fields, where frames are; and looks change nothing.
// Method: an inline VM with a vGIC whose interrupts are injected and whose registers are written.
import { describe, expect, it } from "vitest";
import type { VgicIrqFilter } from "../../../src/vmm/device-commands.js";
import { DIST, GROUP, ICC, iccAttr, REDIST, u32, u64, World } from "../kvm/vgic/world.js";

const ALL: VgicIrqFilter = {
  from: 0,
  to: 65_535,
  vcpu: null,
  state: null,
  after: null,
  limit: 10_000,
};
const GICD = { CTLR: 0n, ISENABLER1: 0x104n, ISPENDR1: 0x204n, IPRIORITYR8: 0x420n } as const;

function world(): World {
  const made = new World({ vcpus: 2, nrIrqs: 96 });
  made.set(GROUP.DIST, GICD.CTLR, u32(0x12));
  made.set(GROUP.DIST, GICD.ISENABLER1, u32(0b1010));
  made.set(GROUP.DIST, GICD.IPRIORITYR8, u32(0xa0b0_c0d0));
  return made;
}

const irqs = ({ vm }: World, filter: Partial<VgicIrqFilter> = {}) =>
  vm.call("listVgicIrqs", { ...ALL, ...filter });
const names = (made: World, filter: Partial<VgicIrqFilter>) =>
  irqs(made, filter).map(({ intid, vcpu }) => (vcpu === null ? `${intid}` : `${intid}@${vcpu}`));

describe("interrupts", () => {
  it("are all there, private ones of each vCPU, in order of INTID", () => {
    const made = world();
    const all = irqs(made);
    expect(all).toHaveLength(2 * 32 + 64);
    expect(all.slice(0, 3).map(({ intid, vcpu, kind }) => [intid, vcpu, kind])).toEqual([
      [0, 0, "sgi"],
      [0, 1, "sgi"],
      [1, 0, "sgi"],
    ]);
    expect(all.at(-1)).toMatchObject({ intid: 95, vcpu: null, kind: "spi", config: "edge" });
    const keys = all.map(({ key }) => key);
    expect(keys).toEqual([...new Set(keys)].sort((a, b) => (a < b ? -1 : 1)));
  });

  it("show what was written and what comes in", () => {
    const made = world();
    made.inject(null, 33);
    made.inject(null, 34);
    expect(irqs(made, { from: 33, to: 33 })).toMatchObject([
      { state: "pending", pendingLatch: true, lineLevel: false, enabled: true, priority: 0xc0 },
    ]);
    expect(irqs(made, { from: 33, to: 33 })[0]).toMatchObject({ list: 0, target: 0, group: 1 });
    // Not enabled, so it waits for nobody.
    expect(irqs(made, { from: 34, to: 34 })).toMatchObject([{ state: "pending", list: null }]);
    made.inject(1, 20);
    expect(irqs(made, { from: 20, to: 20 })).toMatchObject([
      { vcpu: 0, state: "inactive" },
      { vcpu: 1, state: "pending", lineLevel: true, pendingLatch: false, config: "level" },
    ]);
  });

  it("are found by state, vCPU and range", () => {
    const made = world();
    made.inject(null, 33);
    made.inject(null, 34);
    made.inject(1, 20);
    expect(names(made, { state: "pending" })).toEqual(["20@1", "33", "34"]);
    expect(names(made, { state: "queued" })).toEqual(["33"]);
    expect(names(made, { state: "enabled", from: 32 })).toEqual(["33", "35"]);
    expect(names(made, { state: "active" })).toEqual([]);
    expect(names(made, { state: "pending", vcpu: 1 })).toEqual(["20@1"]);
    expect(names(made, { state: "idle", vcpu: 1, from: 16, to: 21 })).toEqual([
      "16@1",
      "17@1",
      "18@1",
      "19@1",
      "21@1",
    ]);
    const { vm } = made;
    expect(vm.refused("listVgicIrqs", { ...ALL, state: "lost" })).toBe("validation");
  });

  it("come page by page", () => {
    const made = world();
    const seen: string[] = [];
    let after: bigint | null = null;
    for (;;) {
      const page = irqs(made, { after, limit: 7, to: 40 });
      seen.push(...page.map(({ intid, vcpu }) => `${intid} ${vcpu}`));
      const last = page.at(-1);
      if (last === undefined) break;
      after = last.key;
    }
    expect(seen).toHaveLength(2 * 32 + 9);
    expect(new Set(seen).size).toBe(seen.length);
  });
});

describe("the controller", () => {
  it("shows frames, distributor and CPU interfaces", () => {
    const made = world();
    made.set(GROUP.SYSREGS, iccAttr(ICC.PMR, 1n), u64(0xf0));
    made.set(GROUP.SYSREGS, iccAttr(ICC.IGRPEN1, 1n), u64(1));
    made.map();
    made.inject(null, 33);
    const view = made.vm.call("describeVgic", {});
    expect(view).toMatchObject({
      model: "v3",
      isInitialized: true,
      isReady: true,
      distributor: { base: BigInt(DIST), cpuBase: null, nrIrqs: 96, enabled: true, lpis: 0 },
    });
    expect(view.redistributorRegions).toMatchObject([
      { index: 0, base: BigInt(REDIST), used: 2, isLegacy: true },
    ]);
    expect(view.cpuInterfaces.map(({ redistributor }) => redistributor?.base)).toEqual([
      BigInt(REDIST),
      BigInt(REDIST + 0x2_0000),
    ]);
    expect(view.cpuInterfaces[1]).toMatchObject({
      vcpu: 1,
      affinity: 1,
      vmcr: { priorityMask: 0xf0, enableGroup1: true, fiqEnable: true, eoiMode: 0 },
      apList: [],
    });
    expect(view.cpuInterfaces[0]!.apList).toEqual([33]);
    const raw = view.cpuInterfaces[1]!.vmcr.raw;
    expect(raw >>> 24).toBe(0xf0);
  });

  it("of a GICv2 has a frame of CPU interfaces, and targets", () => {
    const made = new World({ model: "v2", vcpus: 2, nrIrqs: 64 });
    const view = made.vm.call("describeVgic", {});
    expect(view).toMatchObject({ model: "v2", distributor: { cpuBase: 0x801_0000n } });
    expect(view.redistributorRegions).toEqual([]);
    made.set(GROUP.DIST, 0x828n, u32(2));
    expect(irqs(made, { from: 40, to: 40 })).toMatchObject([{ targets: 2, target: 1, group: 0 }]);
  });

  it("is only looked at", () => {
    const made = world();
    made.inject(null, 33);
    const before = made.vm.instance.digest();
    irqs(made);
    made.vm.call("describeVgic", {});
    expect(made.vm.instance.digest()).toEqual(before);
  });
});
