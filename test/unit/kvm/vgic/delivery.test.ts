// Goal: interrupts reach a guest as a GIC has them: which, in which order, how often.
// Method: guests that note the INTIDs they take; injected by KVM's inputs or by themselves.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import {
  CODE,
  CPU,
  DIST,
  GROUP,
  ICC,
  mrs,
  msr,
  NOTES,
  REDIST,
  u32,
  v2Guest,
  v3Guest,
  World,
} from "./world.js";

const GICD = { CTLR: 0, ISENABLER: 0x100, IPRIORITYR: 0x400, ICFGR: 0xc00, SGIR: 0xf00 };
const SGI = 0x1_0000;
const DAIFSET_I = 0xd503_42df;
const OFF = "KVM_EXIT_SYSTEM_EVENT";

/** Words that store a constant. */
const poke = (at: number, value: number): number[] => [
  ...a64.mov(2, BigInt(at)),
  ...a64.mov(3, BigInt(value)),
  a64.strw(3, 2),
];

/** The distributor is on, and the SPIs from 32 on are. */
function open(world: World): void {
  world.map();
  world.store(DIST + GICD.CTLR, world.model === "v3" ? 2 : 1);
  world.store(DIST + GICD.ISENABLER + 4, 0xffff_ffff);
}

const level = (world: World): void => {
  world.store(DIST + GICD.ICFGR + 8, 0);
  world.store(DIST + GICD.ICFGR + 12, 0); // tidy: an offset
};

/** Runs until the guest only waits. */
function settle(world: World, vcpu = 0) {
  const run = world.vm.beginRun(vcpu);
  world.vm.pump(60);
  return run;
}

function stop(world: World, run: ReturnType<typeof settle>, vcpu = 0): void {
  world.vm.call("kick", { vcpu });
  world.vm.finish(run);
}

describe("GICv3", () => {
  it("an SPI, once", () => {
    const world = new World();
    v3Guest(world, 0, {
      count: 1,
      before: [...poke(DIST + GICD.CTLR, 2), ...poke(DIST + GICD.ISENABLER + 4, 1 << 8)],
    });
    const run = settle(world);
    expect(run.done).toBe(false);
    world.inject(null, 40);
    expect(world.vm.finish(run).exitReason).toBe(OFF);
    expect(world.words64(NOTES(0), 2)).toEqual([40, 0]);
  });

  it("an SGI to itself, and one to another vCPU", () => {
    const world = new World({ vcpus: 2 });
    const send = (word: bigint) => [...a64.mov(2, word), msr(ICC.SGI1R, 2)];
    v3Guest(world, 1, { count: 9 });
    v3Guest(world, 0, {
      count: 9,
      before: [...poke(DIST + GICD.CTLR, 2), ...send(0x0500_0001n), ...send(0x0600_0002n)],
    });
    const other = settle(world, 1);
    stop(world, settle(world));
    stop(world, other, 1);
    expect([world.words64(NOTES(0), 2), world.words64(NOTES(1), 2)]).toEqual([
      [5, 0],
      [6, 0],
    ]);
  });

  it("SGI0R reaches no SGI of group 1", () => {
    const world = new World();
    open(world);
    const before = [...a64.mov(2, 0x0500_0001n), msr(ICC.SGI0R, 2)];
    v3Guest(world, 0, { count: 1, before });
    stop(world, settle(world));
    expect(world.load(REDIST + SGI + 0x200)).toBe(0);
    world.store(REDIST + SGI + 0x80, ~(1 << 5));
    world.start(0, CODE(0));
    stop(world, settle(world));
    expect(world.load(REDIST + SGI + 0x200)).toBe(1 << 5);
  });

  it("the virtual timer's PPI, which nobody else can raise (T49)", () => {
    const world = new World();
    open(world);
    world.store(REDIST + SGI + 0x100, 1 << 27);
    v3Guest(world, 0, {
      count: 1,
      before: [
        ...a64.mov(2, 3000n),
        a64.msr("CNTV_TVAL_EL0", 2),
        ...a64.mov(2, 1n),
        a64.msr("CNTV_CTL_EL0", 2),
      ],
    });
    world.vm.call("irqLine", { irq: (2 << 24) | 27, level: 1 });
    expect(world.load(REDIST + SGI + 0x200)).toBe(0);
    expect(world.vm.run().exitReason).toBe(OFF);
    expect(world.words64(NOTES(0), 2)).toEqual([27, 0]);
  });

  it("more pending than list registers: every one, by priority, then by INTID", () => {
    const world = new World();
    open(world);
    const intids = Array.from({ length: 12 }, (_, n) => 32 + n);
    for (const intid of intids) world.store(DIST + GICD.IPRIORITYR + intid, (43 - intid) * 8, 1);
    for (const intid of intids) world.inject(null, intid);
    v3Guest(world, 0, { count: intids.length });
    expect(world.vm.run().exitReason).toBe(OFF);
    expect(world.words64(NOTES(0), 13)).toEqual([...intids.toReversed(), 0]);
  });

  it("a masked priority isn't delivered; raising PMR lets it in", () => {
    const world = new World();
    open(world);
    world.store(DIST + GICD.IPRIORITYR + 40, 0xf0, 1);
    world.inject(null, 40);
    v3Guest(world, 0, { count: 1 });
    const run = settle(world);
    expect(run.done).toBe(false);
    stop(world, run);
    const before = [...a64.mov(0, 0xf8n), msr(ICC.PMR, 0)];
    v3Guest(world, 0, { count: 1, before });
    expect(world.vm.run().exitReason).toBe(OFF);
    expect(world.words64(NOTES(0), 1)).toEqual([40]);
  });

  it.each([
    [0x40, [40, 41, 0xf29, 0xf28]],
    [0x80, [40, 0xf28, 41, 0xf29]],
  ])("a handler of priority 0x80 and an SPI of %d", (second, order) => {
    const world = new World();
    open(world);
    world.store(DIST + GICD.IPRIORITYR + 40, 0x80, 1);
    world.store(DIST + GICD.IPRIORITYR + 41, second, 1);
    world.inject(null, 40);
    const note = (rt: number) => [a64.str(rt, 20), a64.add(20, 20, 8)];
    // SPI 40's handler raises 41 and lets interrupts in; each notes 0xf00 + INTID at its end.
    const nested = [
      a64.mrs(10, "ELR_EL1"),
      a64.mrs(11, "SPSR_EL1"),
      ...poke(DIST + 0x204, 1 << 9),
      a64.daifclr(2),
      a64.NOP,
      a64.NOP,
      DAIFSET_I,
      ...a64.mov(1, 40n),
      a64.msr("ELR_EL1", 10),
      a64.msr("SPSR_EL1", 11),
    ];
    const handler = [
      mrs(1, ICC.IAR1),
      ...note(1),
      a64.subs(31, 1, 40),
      a64.bne(1 + nested.length),
      ...nested,
      a64.add(4, 1, 0xf00),
      ...note(4),
      msr(ICC.EOIR1, 1),
      a64.ERET,
    ];
    v3Guest(world, 0, { count: 9, handler });
    stop(world, settle(world));
    expect(world.words64(NOTES(0), 5)).toEqual([...order, 0]);
  });

  it("a level line that stays high comes again; one that falls meanwhile doesn't (T56)", () => {
    const world = new World();
    open(world);
    level(world);
    world.inject(null, 40);
    v3Guest(world, 0, { count: 3 });
    expect(world.vm.run().exitReason).toBe(OFF);
    expect(world.words64(NOTES(0), 4)).toEqual([40, 40, 40, 0]);
    const acked: number[] = [];
    world.vm.kvm.vm.onSpiAcked = (pin) => {
      acked.push(pin);
      world.inject(null, 32 + pin, false);
    };
    v3Guest(world, 0, { count: 9 });
    world.code(NOTES(0), [0, 0, 0, 0, 0, 0]);
    world.vm.call("setMpState", { vcpu: 0, mpState: 0 });
    stop(world, settle(world));
    expect(world.words64(NOTES(0), 2)).toEqual([40, 0]);
    expect(acked).toEqual([8]);
  });

  it("EOImode 1: EOIR drops the priority, DIR deactivates and acks (T27)", () => {
    const world = new World();
    open(world);
    level(world);
    const acked: number[] = [];
    world.vm.kvm.vm.onSpiAcked = (pin) => acked.push(pin);
    world.inject(null, 40);
    const handler = [mrs(1, ICC.IAR1), msr(ICC.EOIR1, 1), mrs(5, ICC.RPR), ...a64.powerOff()];
    const before = [...a64.mov(0, 2n), msr(ICC.CTLR, 0)];
    v3Guest(world, 0, { count: 1, before, handler });
    expect(world.vm.run().exitReason).toBe(OFF);
    expect([world.x(1), world.x(5)]).toEqual([40n, 0xffn]);
    expect(world.load(DIST + 0x304)).toBe(1 << 8);
    expect(acked).toEqual([]);
    world.inject(null, 40, false);
    world.code(CODE(0), [...a64.mov(1, 40n), msr(ICC.DIR, 1), ...a64.powerOff()]);
    world.start(0, CODE(0));
    world.vm.call("setMpState", { vcpu: 0, mpState: 0 });
    expect(world.vm.run().exitReason).toBe(OFF);
    expect(world.load(DIST + 0x304)).toBe(0);
    expect(acked).toEqual([8]);
  });

  it("pending only, it moves with IROUTER; active, it stays (T57)", () => {
    const world = new World({ vcpus: 2 });
    open(world);
    world.inject(null, 40);
    world.store(DIST + 0x304, 1 << 9);
    world.store(DIST + 0x6000 + 8 * 40, 1);
    world.store(DIST + 0x6000 + 8 * 41, 1);
    world.code(CODE(0), a64.powerOff());
    world.start(0, CODE(0));
    world.vm.run();
    const lists = world.vgic.dist.cpus.map(({ apList }) => apList.map(({ intid }) => intid));
    expect(lists).toEqual([[41], [40]]);
  });
});

describe("GICv2", () => {
  it("an SPI by IAR and EOIR", () => {
    const world = new World({ model: "v2" });
    open(world);
    v2Guest(world, 0, { count: 1 });
    const run = settle(world);
    expect(run.done).toBe(false);
    world.inject(null, 40);
    expect(world.vm.finish(run).exitReason).toBe(OFF);
    expect(world.words64(NOTES(0), 2)).toEqual([40, 0]);
    expect(world.word(GROUP.DIST, 0x304n)).toBe(0);
  });

  it("an SGI of each sender, once (T60)", () => {
    const world = new World({ model: "v2", vcpus: 4 });
    open(world);
    for (const from of [1, 3]) world.store(DIST + GICD.SGIR, (1 << 16) | 5, 4, from);
    v2Guest(world, 0, { count: 2 });
    expect(world.vm.run().exitReason).toBe(OFF);
    expect(world.words64(NOTES(0), 3)).toEqual([5 | (1 << 10), 5 | (3 << 10), 0]);
    expect(world.load(DIST + 0xf20, 4, 0)).toBe(0);
    expect(world.load(DIST + 0x300)).toBe(0);
  });

  it("more pending than list registers", () => {
    const world = new World({ model: "v2" });
    open(world);
    for (let intid = 32; intid < 44; intid++) world.inject(null, intid);
    v2Guest(world, 0, { count: 12 });
    expect(world.vm.run().exitReason).toBe(OFF);
    expect(world.words64(NOTES(0), 13).toSorted((a, b) => a - b)).toEqual([
      0,
      ...Array.from({ length: 12 }, (_, n) => 32 + n),
    ]);
  });

  it("group 1 by AIAR, or by IAR with AckCtl; 1022 where it isn't", () => {
    const world = new World({ model: "v2" });
    open(world);
    world.store(DIST + 0x84, 1 << 8);
    world.inject(null, 40);
    const gicc = (offset: number, rt: number) => a64.ldrw(rt, 19, offset);
    world.code(CODE(0), [
      ...a64.mov(19, BigInt(CPU)),
      ...a64.mov(0, 0xf0n),
      a64.strw(0, 19, 4),
      ...a64.mov(0, 3n),
      a64.strw(0, 19, 0),
      gicc(0x18, 1),
      gicc(0x28, 2),
      gicc(0x0c, 3),
      gicc(0x20, 4),
      gicc(0x14, 5),
      a64.strw(4, 19, 0x24),
      gicc(0x14, 6),
      gicc(0x0c, 7),
      ...a64.powerOff(),
    ]);
    world.start(0, CODE(0));
    expect(world.vm.run().exitReason).toBe(OFF);
    const seen = [1, 2, 3, 4, 5, 6, 7].map((n) => Number(world.x(n)));
    expect(seen).toEqual([1022, 40, 1022, 40, 0, 0xff, 1023]);
    world.inject(null, 40);
    world.code(CODE(0), [
      ...a64.mov(19, BigInt(CPU)),
      ...a64.mov(0, 7n),
      a64.strw(0, 19, 0),
      gicc(0x0c, 3),
      ...a64.powerOff(),
    ]);
    world.start(0, CODE(0));
    world.vm.call("setMpState", { vcpu: 0, mpState: 0 });
    world.vm.run();
    expect(world.x(3)).toBe(40n);
  });

  it("EOImode 1: DIR in the second page, of what has no list register too", () => {
    const world = new World({ model: "v2" });
    open(world);
    // Six are active: two of them find no list register.
    for (let intid = 32; intid < 38; intid++) {
      world.set(GROUP.DIST, 0x304n, u32(1 << (intid - 32)));
    }
    world.code(CODE(0), [
      ...a64.mov(19, BigInt(CPU)),
      ...a64.mov(18, BigInt(CPU + 0x1000)),
      ...a64.mov(0, 0x201n),
      a64.strw(0, 19, 0),
      ...[0, 1, 2, 3, 4, 5].flatMap((n) => [...a64.mov(1, BigInt(32 + n)), a64.strw(1, 18, 0)]),
      ...a64.powerOff(),
    ]);
    world.start(0, CODE(0));
    expect(world.vm.run().exitReason).toBe(OFF);
    expect(world.load(DIST + 0x304)).toBe(0);
  });

  it("a guest has its interface's PMR in eight bits", () => {
    const world = new World({ model: "v2" });
    open(world);
    world.code(CODE(0), [
      ...a64.mov(19, BigInt(CPU)),
      ...a64.mov(0, 0xffn),
      a64.strw(0, 19, 4),
      a64.ldrw(1, 19, 4),
      ...a64.powerOff(),
    ]);
    world.start(0, CODE(0));
    world.vm.run();
    expect(world.x(1)).toBe(0xf8n);
    expect(world.word(GROUP.CPU, 4n)).toBe(0x1f);
  });
});

describe("KVM_IRQ_LINE", () => {
  const line = (type: number, vcpu: number, num: number): number =>
    (((vcpu >> 8) << 28) | (type << 24) | ((vcpu & 0xff) << 16) | num) >>> 0;

  it("refuses what isn't there (T46)", () => {
    const world = new World({ nrIrqs: 64 });
    const refused = (irq: number) => world.vm.refused("irqLine", { irq, level: 1 });
    expect(
      [line(1, 0, 31), line(1, 0, 64), line(2, 0, 15), line(2, 0, 32), line(3, 0, 0)].map(refused),
    ).toEqual(["EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL"]);
    expect(refused(line(0, 0, 0))).toBe("ENXIO");
    expect(refused(line(2, 1, 20))).toBe("EINVAL");
    expect(refused(line(1, 0, 8192))).toBe("EINVAL");
    expect(refused(line(1, 77, 63))).toBe(null);
  });

  it("with a status does the same, gives its structure back, is refused by its name", () => {
    const world = new World({ nrIrqs: 64 });
    const spi = line(1, 0, 40);
    world.vgic.dist.spis[40 - 32]!.config = "level";
    const set = (irq: number, level: number) => world.vm.call("irqLineStatus", { irq, level });
    const isHigh = () => world.vgic.dist.spis[40 - 32]!.lineLevel;
    for (const [level, expected] of [
      [1, true],
      [0, false],
      [0xffff_fffe, true],
      [0xffff_fffe, true],
      [0, false],
    ] as const) {
      expect(set(spi, level)).toEqual({ status: spi, level });
      expect(isHigh()).toBe(expected);
    }
    const why = { ioctl: "KVM_IRQ_LINE_STATUS" };
    expect(() => set(line(1, 0, 31), 1)).toThrow(
      expect.objectContaining({ errno: "EINVAL", ...why }),
    );
    expect(() => set(line(1, 0, 64), 1)).toThrow(
      expect.objectContaining({ errno: "EINVAL", ...why }),
    );
    expect(() => set(line(0, 0, 0), 1)).toThrow(
      expect.objectContaining({ errno: "ENXIO", ...why }),
    );
  });

  it("before INIT: a GICv3 is busy, a GICv2 is initialised (T47)", () => {
    for (const model of ["v2", "v3"] as const) {
      const world = new World({ model, isInit: false });
      const errno = world.vm.refused("irqLine", { irq: line(1, 0, 40), level: 1 });
      expect([errno, world.vgic.isInitialized]).toEqual(
        model === "v3" ? ["EBUSY", false] : [null, true],
      );
    }
  });

  it("PPIs of vCPUs beyond 255 (T48)", () => {
    const world = new World({ vcpus: 300, isBare: true });
    world.vm.call("irqLine", { irq: line(2, 299, 20), level: 1 });
    const high = world.vgic.dist.cpus.filter(({ privateIrqs }) => privateIrqs[20]!.lineLevel);
    expect(high.map(({ index }) => index)).toEqual([299]);
  });
});
