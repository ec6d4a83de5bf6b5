// Goal: with a vGIC, the interrupts of timers and PMU are chosen and refused as KVM does.
// Method: device attributes of vCPUs, first runs, and a guest whose counter overflows.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { DIST, ICC, msr, NOTES, REDIST, v3Guest, World } from "./world.js";

const [PMU, TIMER] = [0, 1];
const s32 = (value: number) => new Uint8Array(Int32Array.of(value).buffer);
const NONE = new Uint8Array(0);

function set(world: World, group: number, attr: bigint, value: Uint8Array, vcpu = 0) {
  return world.vm.refused("setVcpuAttr", { vcpu, group, attr, value });
}
const get = (world: World, group: number, attr: bigint, vcpu = 0) =>
  world.vm.refused("getVcpuAttr", { vcpu, group, attr });

describe("timers", () => {
  it("two on one PPI: EINVAL by the first run, and the VM lives on", () => {
    const world = new World();
    expect(set(world, TIMER, 1n, s32(27))).toBe(null);
    expect(world.vm.run(0, { immediateExit: true }).errno).toBe("EINVAL");
    expect(set(world, TIMER, 1n, s32(29))).toBe(null);
    expect(world.vm.run(0, { immediateExit: true }).errno).toBe("EINTR");
    expect(set(world, TIMER, 1n, s32(30))).toBe("EBUSY");
  });

  it("on a PPI of the PMU: EINVAL", () => {
    const world = new World({ features: 12n });
    expect(set(world, PMU, 0n, s32(27))).toBe(null);
    expect(set(world, PMU, 1n, NONE)).toBe(null);
    expect(world.vm.run(0, { immediateExit: true }).errno).toBe("EINVAL");
  });
});

describe("the PMU's interrupt", () => {
  it("the same PPI for all vCPUs, or an SPI for each", () => {
    const world = new World({ vcpus: 3, features: 12n });
    expect(get(world, PMU, 0n)).toBe("ENXIO");
    for (const bad of [15, 1020, -1]) expect(set(world, PMU, 0n, s32(bad))).toBe("EINVAL");
    expect(set(world, PMU, 0n, NONE)).toBe("EFAULT");
    expect(set(world, PMU, 1n, NONE)).toBe("ENXIO");
    expect(set(world, PMU, 0n, s32(23))).toBe(null);
    expect(set(world, PMU, 0n, s32(23))).toBe("EBUSY");
    expect(set(world, PMU, 0n, s32(22), 1)).toBe("EINVAL");
    expect(set(world, PMU, 0n, s32(40), 1)).toBe("EINVAL");
    expect(set(world, PMU, 0n, s32(23), 1)).toBe(null);
    expect(world.vm.call("getVcpuAttr", { vcpu: 1, group: PMU, attr: 0n })).toEqual(s32(23));
    const spis = new World({ vcpus: 3, features: 12n });
    expect(set(spis, PMU, 0n, s32(40))).toBe(null);
    expect(set(spis, PMU, 0n, s32(40), 1)).toBe("EINVAL");
    expect(set(spis, PMU, 0n, s32(23), 1)).toBe("EINVAL");
    expect(set(spis, PMU, 0n, s32(41), 1)).toBe(null);
    expect(set(spis, PMU, 0n, s32(900), 2)).toBe(null);
    expect([0, 1, 2].map((n) => set(spis, PMU, 1n, NONE, n))).toEqual([null, null, "EINVAL"]);
    expect(set(spis, PMU, 1n, NONE)).toBe("EBUSY");
  });

  it("INIT comes after the controller's", () => {
    const world = new World({ features: 12n, isInit: false });
    expect(set(world, PMU, 0n, s32(23))).toBe(null);
    expect(set(world, PMU, 1n, NONE)).toBe("ENODEV");
    world.set(4, 0n, NONE);
    expect(set(world, PMU, 1n, NONE)).toBe(null);
  });

  it("without a PMU: ENODEV", () => {
    const world = new World();
    expect(set(world, PMU, 0n, s32(23))).toBe("ENODEV");
    expect(get(world, PMU, 0n)).toBe("ENODEV");
  });

  it("reaches the guest when a counter overflows, and nobody else raises it", () => {
    const world = new World({ features: 12n });
    set(world, PMU, 0n, s32(23));
    set(world, PMU, 1n, NONE);
    world.map();
    world.store(DIST, 2);
    world.store(REDIST + 0x1_0100, 1 << 23);
    world.vm.call("irqLine", { irq: (2 << 24) | 23, level: 1 });
    expect(world.load(REDIST + 0x1_0200)).toBe(0);
    v3Guest(world, 0, {
      count: 1,
      before: [
        ...a64.mov(2, 1n << 31n),
        a64.msr("PMINTENSET_EL1", 2),
        a64.msr("PMCNTENSET_EL0", 2),
        ...a64.mov(2, 2n ** 64n - 256n),
        a64.msr("PMCCNTR_EL0", 2),
        ...a64.mov(2, 1n),
        a64.msr("PMCR_EL0", 2),
        a64.daifclr(2),
        a64.b(0),
      ],
    });
    expect(world.vm.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(world.words64(NOTES(0), 2)).toEqual([23, 0]);
    expect(msr(ICC.PMR, 0)).toBe(0xd518_4600);
  });
});
