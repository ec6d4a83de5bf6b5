// Goal: a board goes on elsewhere at the instruction where it was held, as if nothing had happened.
// Method: a guest with timers, SGIs and LPIs is moved; it and its twin that stayed run on for the
// same stretches of virtual time, and are compared after each: registers, memory, console, devices.
import { describe, expect, it } from "vitest";
import { ManualClock } from "../../../../src/base/clock.js";
import type { BoardDefinition } from "../../../../src/vmm/definition.js";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";
import * as v5 from "../../../support/gicv5-board.js";
import { gicr, gic as gicV5 } from "../../../support/gicv5-code.js";
import { mrsIcc, msrIcc } from "../../../support/irq-code.js";
import * as its from "../../../support/its-code.js";
import {
  align,
  differingPages,
  displace,
  expectSameState,
  letGo,
  move,
  take,
} from "../../../support/moved.js";

const IMAGE_AT = 0x4008_0000n;
const VECTORS = 0x800;
const IRQ = VECTORS + 0x280;
const SECOND = 0xc00;
const DATA = 0x4010_0000n;
const GICD = 0x800_0000n;
const GICC = 0x801_0000n;
const GICR = 0x80a_0000n;
const GICR_BYTES = 0x2_0000n;
const UART = 0x900_0000n;
const CPU_ON = 0xc400_0003n;
const PERIOD = 997n;
const DEVICE = 2;
const EVENT = 20;

type Gic = "none" | "v2" | "v3" | "its" | "v5";
const VERSIONS = { v2: 2, v3: 3, its: 3, v5: 5 } as const;
/** What an IPI is on a GICv5, and an SPI that nobody raises. */
const IPI = v5.lpi(5);
const TABLE = 0x4030_0000n;

const store = (address: bigint, value: bigint): number[] => [
  ...a64.mov(1, address),
  ...a64.mov(2, value),
  a64.strw(2, 1),
];
const icc = (name: Parameters<typeof msrIcc>[0], value: bigint): number[] => [
  ...a64.mov(2, value),
  msrIcc(name, 2),
];

function setUpGic(gic: Gic, cpu: bigint): number[] {
  if (gic === "none") return [];
  if (gic === "v2") {
    return [
      ...store(GICD, 1n),
      ...store(GICD + 0x100n, 0x0800_ffffn),
      ...store(GICC + 4n, 0xf0n),
      ...store(GICC, 1n),
    ];
  }
  if (gic === "v5") {
    const ipi = [...v5.enable(IPI, 0), ...v5.makeLevel(40), ...v5.enable(v5.spi(40), 0)];
    return [...(cpu === 0n ? [...v5.enableIrs(TABLE), ...ipi] : []), ...v5.enableCpu()];
  }
  const frame = GICR + cpu * GICR_BYTES + 0x1_0000n;
  return [
    ...store(GICD, 0x12n),
    ...store(frame + 0x80n, 0xffff_ffffn),
    ...store(frame + 0x100n, 0x0800_ffffn),
    ...icc("ICC_PMR_EL1", 0xf0n),
    ...icc("ICC_IGRPEN1_EL1", 1n),
  ];
}

/** An event of the ITS that is LPI 8192 of the first vCPU. */
function setUpIts(): number[] {
  const commands = [
    its.COMMAND.mapDevice(DEVICE),
    its.COMMAND.mapCollection(3, 0),
    its.COMMAND.mapEvent(DEVICE, EVENT, its.LPI, 3),
  ];
  return [
    ...its.enableLpis(0),
    ...its.setUpTables(),
    ...its.turn(true),
    ...its.setProperty(its.LPI, true),
    ...commands.flatMap((command, n) => its.issue(n * its.COMMAND_BYTES, command)),
  ];
}

/** Counts in X11, notes INTID and time, arms the timer anew. */
function handler(gic: Gic): number[] {
  const ways = {
    v2: { take: [...a64.mov(13, GICC), a64.ldrw(10, 13, 0xc)], end: a64.strw(10, 13, 0x10) },
    v3: { take: [mrsIcc(10, "ICC_IAR1_EL1")], end: msrIcc("ICC_EOIR1_EL1", 10) },
    // CDDI ignores VALID.
    v5: {
      take: [gicr(10, "CDIA"), gicV5("GSB_ACK", 31), gicV5("CDEOI", 31)],
      end: gicV5("CDDI", 10),
    },
  };
  const { take, end } = ways[gic === "v2" || gic === "v5" ? gic : "v3"];
  return [
    ...take,
    a64.add(11, 11, 1),
    a64.str(10, 21),
    a64.str(11, 21, 8),
    a64.mrs(12, "CNTVCT_EL0"),
    a64.str(12, 21, 16),
    ...a64.mov(14, PERIOD),
    a64.msr("CNTV_TVAL_EL0", 14),
    end,
    a64.ERET,
  ];
}

/** Work with every kind of state; a byte for the console now and then, and a sleep. */
function work(tell: readonly number[]): number[] {
  const loop = [
    a64.add(5, 5, 1),
    a64.madd(6, 6, 5, 5),
    a64.ubfx(7, 6, 8, 5),
    a64.addReg(8, 19, 7, 12), // tidy: a shift
    a64.str(6, 8),
    a64.ldxr(15, 20),
    a64.add(15, 15, 1),
    a64.stxr(16, 15, 20),
    a64.dup(3, 6),
    a64.strq(3, 22),
    a64.subs(9, 9, 1),
  ];
  const tail = [...tell, ...a64.mov(9, 40n)];
  return [...loop, a64.bne(-loop.length), ...tail, a64.b(-(loop.length + 1 + tail.length))];
}

function prologue(gic: Gic, cpu: bigint): number[] {
  const data = DATA + cpu * 0x30_0000n;
  return [
    ...a64.mov(1, IMAGE_AT + BigInt(VECTORS)),
    a64.msr("VBAR_EL1", 1),
    ...a64.mov(1, 3n << 20n),
    a64.msr("CPACR_EL1", 1),
    ...setUpGic(gic, cpu),
    ...[19, 20, 21, 22].flatMap((x, n) => a64.mov(x, data + BigInt(n) * 0x4_0000n)),
    ...a64.mov(28, UART),
    ...a64.mov(9, 40n),
    ...a64.mov(1, 1n),
    a64.msr("PMCR_EL0", 1),
    ...a64.mov(1, 0x8000_0000n),
    a64.msr("PMCNTENSET_EL0", 1),
    ...a64.mov(1, PERIOD),
    a64.msr("CNTV_TVAL_EL0", 1),
    ...a64.mov(1, 1n),
    a64.msr("CNTV_CTL_EL0", 1),
  ];
}

function image(gic: Gic, vcpus: number): Uint8Array {
  const open = gic === "none" ? [] : [a64.daifclr(2)];
  const letter = [a64.ubfx(17, 6, 4, 4), a64.add(17, 17, 97), a64.strb(17, 28)];
  const sleep = gic === "none" ? [] : [a64.WFI];
  const sgi =
    gic === "v2"
      ? store(GICD + 0xf00n, 0x0001_0005n)
      : gic === "none"
        ? []
        : gic === "v5"
          ? v5.doV5("CDPEND", IPI | v5.PENDING)
          : icc("ICC_SGI1R_EL1", (5n << 24n) | 1n);
  const on =
    vcpus === 1
      ? []
      : [
          ...a64.mov(0, CPU_ON),
          ...a64.mov(1, 1n),
          ...a64.mov(2, IMAGE_AT + BigInt(SECOND)),
          ...a64.mov(3, 5n),
          a64.HVC,
        ];
  const first = [
    ...prologue(gic, 0n),
    ...(gic === "its" ? setUpIts() : []),
    ...on,
    ...open,
    ...work([...letter, ...sleep]),
  ];
  const second = [...prologue(gic, 1n), ...open, ...work(sgi)];
  const bytes = new Uint8Array(0x1800);
  if (first.length * 4 > VECTORS) bytes.set(a64.bytesOf(first), 0x1000);
  const entry = first.length * 4 > VECTORS ? [a64.b(0x1000 / 4)] : first;
  bytes.set(a64.bytesOf(entry), 0);
  bytes.set(a64.bytesOf(handler(gic)), IRQ);
  bytes.set(a64.bytesOf(second), SECOND);
  return bytes;
}

function build(gic: Gic, vcpus: number, more: Partial<BoardDefinition> = {}): InlineBoard {
  const board = {
    vcpus,
    rtc: true as const,
    ...(gic === "none" ? {} : { gic: VERSIONS[gic] }),
    ...(gic === "its" ? { its: true as const } : {}),
    ...more,
  };
  return InlineBoard.with(image(gic, vcpus), { board });
}

function elsewhere(gic: Gic, vcpus: number): InlineBoard {
  const board = build(gic, vcpus);
  displace(board);
  return board;
}

/** An LPI that is pending when the board is held. */
function interrupt(vm: InlineBoard): void {
  const msi = { addressLo: its.DOORBELL, addressHi: 0, data: EVENT, flags: 1, devid: DEVICE };
  expect(vm.call("signalMsi", msi)).toEqual({ delivered: 1 });
}

function expectSame(twin: InlineBoard, moved: InlineBoard): void {
  expectSameState(twin, moved);
  expect(moved.console()).toBe(twin.console());
}

/** The pending table: what is restored is taken out of it, as KVM does. */
const CONSUMED = "object 0 at 0x240000";

function expectSameMemory(twin: InlineBoard, moved: InlineBoard): void {
  expect(differingPages(twin, moved).filter((page) => page !== CONSUMED)).toEqual([]);
}

/** Both for the same stretches of time, compared after each. */
function runOn(twin: InlineBoard, moved: InlineBoard, stretches: readonly bigint[]): void {
  for (const [n, ns] of stretches.entries()) {
    const [a, b] = [twin, moved].map((vm) => vm.call("runBoard", { ns }));
    expect(b).toEqual(a);
    expect([n, moved.kvm.vm.instructions]).toEqual([n, twin.kvm.vm.instructions]);
    expectSame(twin, moved);
    expectSameMemory(twin, moved);
  }
}

const STRETCHES = [1n, 1n, 1n, 2n, 3n, 7n, 50n, 333n, 1000n, 5000n];
const ALL: readonly (readonly [Gic, number])[] = [
  ...(["none", "v2", "v3", "its", "v5"] as const).flatMap((gic) =>
    [1, 2].map((n) => [gic, n] as const),
  ),
];

describe.each(ALL)("a board with gic %s and %i vCPUs", (gic, vcpus) => {
  it("goes on at the instruction where it was held, and so does it the second time", () => {
    let twin = build(gic, vcpus);
    twin.call("runBoard", { ns: 20_011n });
    expect(twin.kvm.vm.vcpus.filter(({ mpState }) => mpState === 0)).toHaveLength(vcpus);
    for (const until of [0n, 6007n]) {
      twin.call("runBoard", { ns: until });
      if (gic === "its") interrupt(twin);
      const moved = move(twin, elsewhere(gic, vcpus));
      expect(take(moved)).toEqual(take(twin));
      const lpi = moved.kvm.vm.vgic.dist?.lpis.get(its.LPI);
      if (gic === "its") expect(lpi).toMatchObject({ pendingLatch: true, enabled: true });
      expectSame(twin, moved);
      expectSameMemory(twin, moved);
      align(twin, moved);
      expect([letGo(twin), letGo(moved)]).toEqual([{ wasRunning: false }, { wasRunning: false }]);
      runOn(twin, moved, STRETCHES);
      twin.instance.close();
      twin = moved;
    }
    expect(twin.console().length).toBeGreaterThan(5);
    // The handler's count of interrupts.
    const count = twin.call("readPhysicalMemory", { gpa: DATA + 0x8_0008n, length: 1 });
    if (gic !== "none") expect(count[0]).toBeGreaterThan(10);
  });
});

/** A queue of one buffer, and a second that the driver has not told of yet. */
function useQueue(vm: InlineBoard, at: number, bytes: readonly number[], flags: number): void {
  const base = 0xa00_0000 + 0x200 * at;
  const desc = 0x4040_0000 + 0x1_0000 * at;
  const poke = (address: number, data: readonly number[]) =>
    vm.call("writePhysicalMemory", { gpa: BigInt(address), bytes: Uint8Array.from(data) });
  poke(desc + 0x100, bytes);
  const rows = [desc + 0x100, 0, bytes.length, flags, desc + 0x200, 0, 512, 0x2_0001];
  const words = Uint32Array.of(...rows, desc + 0x400, 0, 1, 2);
  poke(desc, [...new Uint8Array(words.buffer)]);
  poke(desc + 64, [0, 0, 1, 0, 0, 0]);
  const queue = at === 1 ? 1 : 0;
  for (const [offset, value] of [
    [0x28, 4096],
    [0x30, queue],
    [0x38, 4],
    [0x3c, 4096],
    [0x40, desc / 4096],
    [0x70, 7],
    [0x50, queue],
  ] as const) {
    vm.toDevice(base + offset, value);
  }
  // The same chain again, not notified.
  poke(desc + 66, [2, 0]);
}

describe("devices of a board", () => {
  const built = (): InlineBoard => {
    const vm = InlineBoard.with(a64.bytesOf([a64.add(1, 1, 1), a64.b(-1)]), {
      firmware: a64.bytesOf([a64.b(0)]),
      disk: new Uint8Array(65_536).fill(3), // tidy: a disk
      board: { rtc: true, pci: true, rng: true, console: "testdev", virtio: "legacy", gic: 3 },
      vm: { budgetBytes: 512 * 2 ** 20 },
    });
    displace(vm);
    return vm;
  };

  it("go on in the middle of what they did: queues, flash, disk, clock, typing", () => {
    let twin = built();
    twin.act("start");
    twin.pump(10);
    twin.act("pause");
    twin.typed("ab");
    useQueue(twin, 0, [1, ...new Array<number>(15).fill(0)], 0x1_0001);
    useQueue(twin, 1, [0x37], 0);
    useQueue(twin, 2, [0], 2);
    twin.toDevice(0x901_0008, 5);
    twin.toDevice(0x901_0004, 9);
    twin.toDevice(0x901_0010, 1);
    // A command of the second bank: its slot has gone, and what it erased is memory.
    twin.toDevice(0x400_0000, 0x20);
    twin.toDevice(0x400_0000, 0xd0);
    twin.call("logBoard", { on: true });
    twin.act("resume");
    twin.pump(10);
    for (let round = 0; round < 2; round++) {
      const moved = built();
      const before = moved.budget.usedBytes();
      move(twin, moved);
      expectSame(twin, moved);
      expect(differingPages(twin, moved)).toEqual([]);
      const slots = (vm: InlineBoard) => vm.call("listMemslots", {}).map(({ slot }) => slot);
      expect(slots(moved)).toEqual(slots(twin));
      // What the guest wrote to its disk is charged here too.
      expect(moved.budget.usedBytes() - before).toBe(16_384); // tidy: bytes of a cluster
      expect([letGo(twin), letGo(moved)]).toEqual([{ wasRunning: true }, { wasRunning: true }]);
      for (const vm of [twin, moved]) {
        vm.act("pause");
        expect(vm.view().state).toBe("paused");
        vm.toDevice(0xa00_0050, 0);
        vm.toDevice(0x400_0000, 0xff);
        expect(vm.fromDevice(0x400_0000)).toBe(0xffff_ffff);
      }
      const disks = [twin, moved].map((vm) => vm.fromDevice(0xa00_0060));
      expect(disks[0]).toBe(disks[1]);
      twin.instance.close();
      twin = moved;
      twin.act("resume");
    }
  });

  it("have their time of day, and a paced clock that neither hurries nor waits", () => {
    const clock = { mode: "virtual" as const, nsPerInstruction: 1, idle: "paced" as const };
    const [here, there] = [new ManualClock(), new ManualClock()];
    here.advance(1_000);
    const code = a64.bytesOf([a64.add(1, 1, 1), a64.b(-1)]);
    const of = (time: ManualClock) =>
      InlineBoard.with(code, { board: { rtc: true }, vm: { clock, time } });
    const twin = of(here);
    twin.act("start");
    here.advance(5);
    twin.pump(400);
    expect(twin.kvm.vm.virtualNs).toBeGreaterThan(4_000_000);
    // A VM that is ahead of real time takes no step.
    here.advance(1);
    const moved = of(there);
    move(twin, moved);
    const time = (vm: InlineBoard) => vm.fromDevice(0x901_0000);
    expect(time(moved)).toBe(time(twin));
    const { virtualNs } = moved.kvm.vm;
    letGo(moved);
    there.advance(2);
    moved.pump(400);
    const ran = moved.kvm.vm.virtualNs - virtualNs;
    expect(ran).toBeGreaterThan(1_000_000);
    expect(ran).toBeLessThan(3_000_000);
  });
});
