// Goal: register frames answer the guest and userspace as KVM's do, each with its own view.
// Method: accesses as MMIO exits make them, beside attributes of the device.
import { describe, expect, it } from "vitest";
import { CPU, DIST, GROUP, REDIST, u32, World } from "./world.js";

const SGI = 0x1_0000;
const SPI_BASE = 0x80;
const R = {
  CTLR: 0x0,
  TYPER: 0x4,
  IIDR: 0x8,
  IGROUPR: 0x80,
  ISENABLER: 0x100,
  ICENABLER: 0x180,
  ISPENDR: 0x200,
  ICPENDR: 0x280,
  ISACTIVER: 0x300,
  ICACTIVER: 0x380,
  IPRIORITYR: 0x400,
  ITARGETSR: 0x800,
  ICFGR: 0xc00,
  SGIR: 0xf00,
  CPENDSGIR: 0xf10,
  SPENDSGIR: 0xf20,
  ICPIDR2: 0xfe8,
  IROUTER: 0x6000,
  PIDR2: 0xffe8,
};

function ready(options: ConstructorParameters<typeof World>[0]): World {
  const world = new World(options);
  world.map();
  return world;
}

describe.each(["v2", "v3"] as const)("the distributor of a GIC%s", (model) => {
  it("says what it is, and can't be told otherwise", () => {
    const world = ready({ model, vcpus: 3, nrIrqs: 96 });
    const typer = model === "v2" ? 2 | (2 << 5) : 2 | (9 << 19);
    for (const [offset, value] of [
      [R.TYPER, typer],
      [R.IIDR, 0x4b00_343b],
      [model === "v2" ? R.ICPIDR2 : R.PIDR2, model === "v2" ? 0x2b : 0x3b],
    ] as const) {
      expect(world.load(DIST + offset)).toBe(value);
      for (const garbage of [0, 0xffff_ffff, 0xa5a5_5a5a]) {
        world.store(DIST + offset, garbage);
        world.store(DIST + offset, garbage & 0xff, 1);
      }
      expect(world.load(DIST + offset)).toBe(value);
    }
  });

  it("reads as zero and ignores: what isn't there, other widths, misaligned ones", () => {
    const world = ready({ model, nrIrqs: 64 });
    world.store(DIST + R.ISENABLER + 8, 0xffff_ffff);
    expect(world.load(DIST + R.ISENABLER + 8)).toBe(0);
    expect(world.load(DIST + 0x40)).toBe(0);
    world.store(DIST + R.ISENABLER + 4, 0xff, 1);
    world.store(DIST + R.ISENABLER + 4, 0xffff, 2);
    expect(world.load(DIST + R.ISENABLER + 4)).toBe(0);
    world.store(DIST + R.ISENABLER + 4, 0xf0);
    expect(world.load(DIST + R.ISENABLER + 4, 1)).toBe(0);
    expect(world.load(DIST + R.ISENABLER + 4, 8)).toBe(0);
    expect(world.load(DIST + R.ISENABLER + 4)).toBe(0xf0);
  });

  it("enables, pends and activates by sets and clears", () => {
    const world = ready({ model });
    for (const [set, clear] of [
      [R.ISENABLER, R.ICENABLER],
      [R.ISPENDR, R.ICPENDR],
      [R.ISACTIVER, R.ICACTIVER],
    ] as const) {
      world.store(DIST + set + 4, 0x0000_00f1);
      world.store(DIST + set + 4, 0x0000_0f00);
      expect(world.load(DIST + set + 4)).toBe(0xff1);
      expect(world.load(DIST + clear + 4)).toBe(0xff1);
      world.store(DIST + clear + 4, 0x0000_00f0);
      expect(world.load(DIST + set + 4)).toBe(0xf01);
      world.store(DIST + clear + 4, 0xffff_ffff);
      expect(world.load(DIST + clear + 4)).toBe(0);
    }
  });

  it("priorities by byte and word, five bits of each", () => {
    const world = ready({ model });
    const at = DIST + R.IPRIORITYR + 32;
    world.store(at, 0xffff_ffff);
    expect(world.load(at)).toBe(0xf8f8_f8f8);
    world.store(at + 1, 0x17, 1);
    expect(world.load(at)).toBe(0xf8f8_10f8);
    expect([0, 1, 2, 3].map((byte) => world.load(at + byte, 1))).toEqual([0xf8, 0x10, 0xf8, 0xf8]);
  });

  it("a level line stays pending where the latch is cleared; ICFGR changes neither", () => {
    const world = ready({ model });
    const bit = 1 << 8;
    world.store(DIST + R.ICFGR + 8, 0);
    world.inject(null, 40, true);
    expect(world.load(DIST + R.ISPENDR + 4)).toBe(bit);
    world.store(DIST + R.ICPENDR + 4, bit);
    expect(world.load(DIST + R.ISPENDR + 4)).toBe(bit);
    world.store(DIST + R.ICFGR + 8, 2 << 16);
    expect(world.load(DIST + R.ICFGR + 8)).toBe(2 << 16);
    expect(world.load(DIST + R.ISPENDR + 4)).toBe(0);
    world.store(DIST + R.ICFGR + 8, 0);
    expect(world.load(DIST + R.ISPENDR + 4)).toBe(bit);
    world.inject(null, 40, false);
    expect(world.load(DIST + R.ISPENDR + 4)).toBe(0);
  });

  it("the group of revision 1 and before is 0 in a GICv2", () => {
    const world = ready({ model });
    const reset = model === "v2" ? 0 : 0xffff_ffff;
    expect(world.load(DIST + R.IGROUPR + 4)).toBe(reset);
    world.store(DIST + R.IGROUPR + 4, 0xf);
    expect(world.load(DIST + R.IGROUPR + 4)).toBe(0xf);
    world.set(GROUP.DIST, BigInt(R.IIDR), u32(0x4b00_143b));
    world.store(DIST + R.IGROUPR + 4, 0xff);
    expect(world.load(DIST + R.IGROUPR + 4)).toBe(model === "v2" ? 0 : 0xff);
  });
});

describe("GICv2", () => {
  const attr = (cpu: number, offset: number): bigint => (BigInt(cpu) << 32n) | BigInt(offset);

  it("banks private registers; targets are the vCPUs that exist", () => {
    const world = ready({ model: "v2", vcpus: 3 });
    world.store(DIST + R.ISENABLER, 1 << 20, 4, 1);
    expect([0, 1, 2].map((n) => world.load(DIST + R.ISENABLER, 4, n))).toEqual([
      0xffff, 0x10_ffff, 0xffff,
    ]);
    expect([0, 1, 2].map((n) => world.load(DIST + R.ITARGETSR, 4, n))).toEqual([
      0x0101_0101, 0x0202_0202, 0x0404_0404,
    ]);
    world.store(DIST + R.ITARGETSR, 0);
    expect(world.load(DIST + R.ITARGETSR)).toBe(0x0101_0101);
    world.store(DIST + R.ITARGETSR + 32, 0xffff_ffff);
    expect(world.load(DIST + R.ITARGETSR + 32)).toBe(0x0707_0707);
    world.store(DIST + R.ITARGETSR + 34, 6, 1);
    expect(world.load(DIST + R.ITARGETSR + 32)).toBe(0x0706_0707);
    expect(world.vgic.dist.irq(null, 34)?.target?.index).toBe(1);
    world.store(DIST + R.ITARGETSR + 34, 0, 1);
    expect(world.vgic.dist.irq(null, 34)?.target?.index).toBe(0);
    expect(world.load(DIST + R.ICFGR)).toBe(0xaaaa_aaaa);
    expect(world.load(DIST + R.ICFGR + 4)).toBe(0);
    world.store(DIST + R.ICFGR + 4, 0xffff_ffff);
    expect(world.load(DIST + R.ICFGR + 4)).toBe(0);
  });

  it("SGIs by SGIR: list, all but oneself, oneself, nobody", () => {
    const sources = (filter: number, list: number) => {
      const world = ready({ model: "v2", vcpus: 3 });
      world.store(DIST + R.SGIR, (filter << 24) | (list << 16) | 3, 4, 1);
      return [0, 1, 2].map((n) => world.load(DIST + R.SPENDSGIR + 3, 1, n));
    };
    expect(sources(0, 0b101)).toEqual([2, 0, 2]);
    expect(sources(1, 0)).toEqual([2, 0, 2]);
    expect(sources(2, 0)).toEqual([0, 2, 0]);
    expect(sources(3, 7)).toEqual([0, 0, 0]);
  });

  it("senders of an SGI by CPENDSGIR and SPENDSGIR; ISPENDR has no say", () => {
    const world = ready({ model: "v2", vcpus: 2 });
    world.store(DIST + R.SPENDSGIR, 0x0000_0300);
    expect(world.load(DIST + R.ISPENDR)).toBe(2);
    world.store(DIST + R.ICPENDR, 2);
    expect(world.load(DIST + R.ISPENDR)).toBe(2);
    world.store(DIST + R.CPENDSGIR + 1, 1, 1);
    expect(world.load(DIST + R.CPENDSGIR)).toBe(0x200);
    world.store(DIST + R.CPENDSGIR + 1, 2, 1);
    expect(world.load(DIST + R.ISPENDR)).toBe(0);
    world.store(DIST + R.ISPENDR, 2);
    expect(world.load(DIST + R.ISPENDR)).toBe(0);
  });

  it("userspace: ISPENDR reads the line and clears nothing; groups after IIDR (T54, M4)", () => {
    const world = ready({ model: "v2", vcpus: 2 });
    world.store(DIST + R.ICFGR + 8, 0);
    world.inject(null, 40, true);
    world.store(DIST + R.ISPENDR + 4, 1 << 9);
    expect(world.word(GROUP.DIST, attr(0, R.ISPENDR + 4))).toBe(3 << 8);
    world.set(GROUP.DIST, attr(0, R.ISPENDR + 4), u32(0));
    expect(world.word(GROUP.DIST, attr(0, R.ISPENDR + 4))).toBe(3 << 8);
    world.set(GROUP.DIST, attr(0, R.ICPENDR + 4), u32(3 << 8));
    expect(world.word(GROUP.DIST, attr(0, R.ISPENDR + 4))).toBe(1 << 8);
    world.set(GROUP.DIST, attr(1, R.ISPENDR), u32(1 << 2));
    expect(world.load(DIST + R.SPENDSGIR, 4, 1)).toBe(0x02_0000);
    world.set(GROUP.DIST, attr(1, R.ICPENDR), u32(1 << 2));
    expect(world.load(DIST + R.SPENDSGIR, 4, 1)).toBe(0);
    world.set(GROUP.DIST, attr(0, R.IGROUPR + 4), u32(0xff));
    expect(world.load(DIST + R.IGROUPR + 4)).toBe(0);
    world.set(GROUP.DIST, attr(0, R.IIDR), u32(0x4b00_243b));
    world.set(GROUP.DIST, attr(0, R.IGROUPR + 4), u32(0xff));
    expect(world.load(DIST + R.IGROUPR + 4)).toBe(0xff);
  });

  it("userspace's view of the CPU interface has VMPriMask at the bottom", () => {
    const world = ready({ model: "v2", vcpus: 2 });
    const set = (offset: number, value: number) =>
      world.set(GROUP.CPU, attr(1, offset), u32(value));
    const get = (offset: number) => world.word(GROUP.CPU, attr(1, offset));
    set(0x00, 0x3ff);
    expect(get(0x00)).toBe(0x21f);
    set(0x04, 0x1e);
    expect(get(0x04)).toBe(0x1e);
    expect(world.vgic.dist.cpus[1]!.vmcr >>> 24).toBe(0xf0);
    set(0x08, 4);
    set(0x1c, 5);
    expect(get(0x08)).toBe(4);
    set(0x00, 1);
    set(0x1c, 6);
    expect([get(0x08), get(0x1c)]).toEqual([4, 6]);
    set(0xd0, 0x10);
    set(0xd4, 0x10);
    expect([get(0xd0), get(0xd4), get(0xfc)]).toEqual([0x10, 0, 0x04b2_043b]);
    // IAR is none of userspace's.
    expect(get(0x0c)).toBe(0);
    expect(CPU).toBeGreaterThan(DIST);
  });
});

describe("GICv3", () => {
  const rd = (vcpu: number): number => REDIST + vcpu * 0x2_0000;

  it("CTLR: ARE and DS are fixed, group 1 is the one that there is", () => {
    const world = ready({});
    expect(world.load(DIST + R.CTLR)).toBe(0x50);
    world.store(DIST + R.CTLR, 0xffff_ffff);
    expect(world.load(DIST + R.CTLR)).toBe(0x52);
    world.store(DIST + R.CTLR, 1);
    expect(world.load(DIST + R.CTLR)).toBe(0x50);
  });

  it("private interrupts live in redistributors, reached by any vCPU", () => {
    const world = ready({ vcpus: 2 });
    world.store(DIST + R.ISENABLER, 0xffff_ffff);
    expect(world.load(DIST + R.ISENABLER)).toBe(0);
    world.store(rd(1) + SGI + R.ISENABLER, 1 << 27, 4, 0);
    expect(world.load(rd(1) + SGI + R.ISENABLER, 4, 1)).toBe(0x0800_ffff);
    expect(world.load(rd(0) + SGI + R.ISENABLER)).toBe(0xffff);
    expect(world.load(rd(0) + SGI + SPI_BASE)).toBe(0xffff_ffff);
    world.store(rd(0) + SGI + R.IPRIORITYR + 27, 0xa0, 1);
    expect(world.load(rd(0) + SGI + R.IPRIORITYR + 24)).toBe(0xa000_0000);
    expect(world.load(rd(0) + SGI + R.IPRIORITYR + 32)).toBe(0);
    expect(world.load(rd(0) + SGI + R.ICFGR)).toBe(0xaaaa_aaaa);
    expect(world.load(rd(0) + SGI + R.ISENABLER + 4)).toBe(0);
    world.store(rd(1) + SGI + R.ISPENDR, 1 << 5);
    expect(world.vgic.dist.cpus[1]!.apList).toHaveLength(0);
    world.store(DIST + R.CTLR, 2);
    expect(world.vgic.dist.cpus[1]!.apList.map(({ intid }) => intid)).toEqual([5]);
  });

  it("TYPER by word and double word; WAKER, PIDR2, LPIs without an ITS", () => {
    const world = ready({ vcpus: 2 });
    expect(world.load(rd(1) + 8)).toBe(0x110);
    expect(world.load(rd(1) + 12)).toBe(1); // tidy: an offset
    expect(world.load(rd(1) + 8, 8)).toBe(2 ** 32 + 0x110);
    expect(world.load(rd(0) + 8)).toBe(0);
    world.store(rd(0) + 0x14, 2);
    expect(world.load(rd(0) + 0x14)).toBe(0);
    expect(world.load(rd(0) + R.PIDR2)).toBe(0x3b);
    expect(world.load(rd(0))).toBe(6);
    world.store(rd(0), 1);
    expect(world.load(rd(0))).toBe(6);
  });

  it("IROUTER keeps Aff2 to Aff0, by double word or the lower half", () => {
    const world = ready({ vcpus: 18 });
    const at = DIST + R.IROUTER + 8 * 40;
    world.store(at, 2n ** 64n - 1n, 8);
    expect(world.load(at, 8)).toBe(0xff_ffff);
    expect(world.vgic.dist.irq(null, 40)?.target).toBeNull();
    world.store(at, 0x101);
    expect(world.vgic.dist.irq(null, 40)?.target?.index).toBe(17);
    world.store(at + 4, 0xff);
    expect(world.load(at, 8)).toBe(0x101);
    expect(world.load(at + 4)).toBe(0);
    expect(world.load(DIST + R.IROUTER + 8 * 5, 8)).toBe(0);
  });

  it("userspace: ISPENDR is the latch alone, LEVEL_INFO the line (T52, T53)", () => {
    const world = ready({ nrIrqs: 64 });
    const word = (offset: number) => world.word(GROUP.DIST, BigInt(offset));
    world.store(DIST + R.ICFGR + 8, 0);
    world.inject(null, 40, true);
    expect(word(R.ISPENDR + 4)).toBe(0);
    expect(world.word(GROUP.LEVEL, 32n)).toBe(1 << 8);
    expect(world.load(DIST + R.ISPENDR + 4)).toBe(1 << 8);
    world.set(GROUP.DIST, BigInt(R.ISPENDR + 4), u32(3));
    expect(word(R.ISPENDR + 4)).toBe(3);
    world.set(GROUP.DIST, BigInt(R.ISPENDR + 4), u32(1));
    expect(word(R.ISPENDR + 4)).toBe(1);
    world.set(GROUP.DIST, BigInt(R.ICPENDR + 4), u32(0xffff_ffff));
    expect(word(R.ISPENDR + 4)).toBe(1);
    expect(word(R.ICPENDR + 4)).toBe(0);
  });

  it("userspace: LEVEL_INFO raises lines of PPIs and SPIs, of SGIs never", () => {
    const world = ready({});
    world.store(DIST + R.CTLR, 2);
    world.store(rd(0) + SGI + R.ISENABLER, 0xffff_ffff);
    world.set(GROUP.LEVEL, 0n, u32(0x0010_0001));
    expect(world.word(GROUP.LEVEL, 0n)).toBe(0x0010_0000);
    expect(world.vgic.dist.cpus[0]!.apList.map(({ intid }) => intid)).toEqual([20]);
    // Kept for what is an edge now, but not told.
    world.set(GROUP.LEVEL, 32n, u32(1));
    expect(world.word(GROUP.LEVEL, 32n)).toBe(0);
    world.store(DIST + R.ICFGR + 8, 0);
    expect(world.word(GROUP.LEVEL, 32n)).toBe(1);
    world.set(GROUP.LEVEL, 992n, u32(1));
    expect(world.word(GROUP.LEVEL, 992n)).toBe(0);
  });

  it("STATUSR is what userspace set, and what a guest writes clears it", () => {
    const world = ready({});
    for (const [group, guest] of [
      [GROUP.DIST, DIST],
      [GROUP.REDIST, rd(0)],
    ] as const) {
      world.set(group, 0x10n, u32(0xff));
      expect(world.load(guest + 0x10)).toBe(0xf);
      world.store(guest + 0x10, 3);
      expect(world.word(group, 0x10n)).toBe(0xc);
    }
  });

  it("what was pending while the distributor was off comes when it is on (T58)", () => {
    const world = ready({});
    world.store(DIST + R.ISENABLER + 4, 1 << 8);
    world.inject(null, 40);
    expect(world.vgic.dist.cpus[0]!.apList).toHaveLength(0);
    world.store(DIST + R.CTLR, 2);
    expect(world.vgic.dist.cpus[0]!.apList.map(({ intid }) => intid)).toEqual([40]);
  });

  it("a target that isn't there keeps it pending until there is one (T59)", () => {
    const world = ready({ vcpus: 2 });
    world.store(DIST + R.CTLR, 2);
    world.store(DIST + R.ISENABLER + 4, 1 << 8);
    world.store(DIST + R.IROUTER + 8 * 40, 7);
    world.inject(null, 40);
    expect(world.load(DIST + R.ISPENDR + 4)).toBe(1 << 8);
    expect(world.vgic.dist.cpus.map(({ apList }) => apList.length)).toEqual([0, 0]);
    world.store(DIST + R.IROUTER + 8 * 40, 1);
    expect(world.vgic.dist.cpus.map(({ apList }) => apList.length)).toEqual([0, 1]);
  });
});
