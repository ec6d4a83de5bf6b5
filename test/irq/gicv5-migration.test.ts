// Goal: interrupts of a GICv5 travel with a VM, and why the order of a restore is what it is:
// interrupts.md 7.4, 7.5. Method: M1 by the VM's own state; the others restore by attributes, in a
// wrong order and in the right one, into a VM whose guest then takes what is left.
import { describe, expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import { InlineBoard } from "../support/board.js";
import { lpi as lpiWord } from "../support/gicv5-board.js";
import { IRS_REG, lpiOf, spiOf, V5_GROUP, type V5Guest, V5Vm } from "../support/gicv5-case.js";
import { gic } from "../support/gicv5-code.js";
import type { Inline } from "../support/inline.js";
import { builtLike, hold, letGo, move, take } from "../support/moved.js";

const SPI = 40;
const LPI = 9;
const VALID = 1n << 32n;
const SNIPPET_AT = 0x2000;
const TABLE = 0x4030_0000n;

/** Has a moved guest's loop do this, from its stop to its next. */
function execOn(vm: Inline, { id, base, stop }: V5Guest, words: readonly number[]): void {
  const snippet = a64.bytesOf([...words, a64.RET]);
  vm.call("writePhysicalMemory", { gpa: BigInt(base + SNIPPET_AT), bytes: snippet });
  expect(vm.run(id).mmio?.physAddr).toBe(BigInt(stop));
}
const cddi = (intid: number): number[] => [...a64.mov(0, BigInt(intid)), gic("CDDI", 0)];

/** A level SPI that the second vCPU has taken, whose line a resampling irqfd holds high. */
function taken(setting: string) {
  const vm = new V5Vm({ vcpus: 2, settings: [`vgicV5.spiTracking=${setting}`] });
  const cpu = vm.cpus[1]!;
  cpu.claim(SPI);
  const { trigger, resample } = vm.resampler(SPI);
  vm.signal(trigger);
  expect(cpu.cdia()).toBe(VALID | BigInt(spiOf(SPI)));
  cpu.cdeoi();
  return { vm, cpu, resample };
}

describe("M1: an active level of a GICv5 ends on the other host", () => {
  it.each([
    ["exact", 1],
    ["seed004", 0],
    ["seed004-notifier-only", 0],
    ["none", 0],
  ] as const)("and with %s %i hear of it there, nobody here", (setting, acks) => {
    const { vm, cpu, resample } = taken(setting);
    const to = move(vm, builtLike(vm));
    letGo(to);
    expect(to.kvm.vm.vgic.v5?.view()).toEqual({
      ...vm.v5.view(),
      isReady: false,
      cpus: expect.anything(),
    });
    expect(to.kvm.vm.vgic.v5?.saveIst()).toEqual(vm.v5.saveIst());
    // The hardware hears of what is pending before the first run.
    expect(to.kvm.vm.vgic.v5?.spi(SPI)).toEqual({ ...vm.v5.spi(SPI), iste: expect.any(Number) });
    expect(vm.v5.spi(SPI)).toMatchObject({ lineLevel: true, config: "level" });
    execOn(to, cpu, cddi(spiOf(SPI)));
    expect(to.eventfds.peek(resample.index)).toBe(BigInt(acks));
    // Whoever isn't told leaves its line high: the storm goes on there.
    expect(to.kvm.vm.vgic.v5?.spi(SPI)).toMatchObject({ lineLevel: acks === 0 });
    expect(vm.count(resample)).toBe(0);
  });
});

const IRS_WORDS = [IRS_REG.IDR2, IRS_REG.CR0, IRS_REG.IST_CFGR, IRS_REG.IST_BASER];

function restoreIrs(from: V5Vm, to: V5Vm): void {
  for (const offset of IRS_WORDS) {
    to.put(V5_GROUP.IRS_REGS, offset, from.get(V5_GROUP.IRS_REGS, offset));
  }
}
function restoreIst(from: V5Vm, to: V5Vm): void {
  const { spi, lpi } = from.v5.saveIst();
  to.v5.restoreIst(spi, lpi);
}

/** A VM whose state comes by attributes, before its guest has run. */
function restored(from: V5Vm, ...settings: string[]): V5Vm {
  const to = new V5Vm({ init: false, settings });
  to.put(V5_GROUP.ADDR, 6, 0x801_0000);
  to.init();
  restoreIrs(from, to);
  restoreIst(from, to);
  return to;
}

it("M2: a table of a GICv5 has no lines: a level is pending there until its line is driven", () => {
  const from = new V5Vm();
  from.cpu.claim(SPI);
  from.line(SPI, 1);
  const comes = (level: number | null): number[] => {
    const to = restored(from);
    expect(to.spi(SPI)).toMatchObject({ config: "level", lineLevel: false });
    if (level !== null) to.line(SPI, level);
    to.setUp();
    return to.cpu.take(3);
  };
  const storm = [spiOf(SPI), spiOf(SPI), spiOf(SPI)];
  // Nothing re-samples: without a word of whoever drives it there is no end to it.
  expect([comes(1), comes(null), comes(0)]).toEqual([storm, storm, []]);
});

it("M3: LPIs of a GICv5 can't come before IST_BASER says that there are any", () => {
  const from = new V5Vm();
  from.cpu.write(IRS_REG.IST_CFGR, 14);
  from.cpu.write64(IRS_REG.IST_BASER, TABLE | 1n);
  from.cpu.route(lpiOf(LPI));
  from.cpu.pend(lpiOf(LPI), true);
  expect(BigInt(lpiOf(LPI))).toBe(lpiWord(LPI));
  const { spi, lpi } = from.v5.saveIst();
  expect(lpi).toHaveLength(4 * 2 ** 14);
  const to = new V5Vm({ init: false });
  to.put(V5_GROUP.ADDR, 6, 0x801_0000);
  to.init();
  to.put(V5_GROUP.IRS_REGS, IRS_REG.CR0, 1);
  expect(() => to.v5.restoreIst(spi, lpi)).toThrow(/table of LPIs has 0 bytes/);
  restoreIrs(from, to);
  to.v5.restoreIst(spi, lpi);
  to.setUp();
  expect(to.cpu.take()).toEqual([lpiOf(LPI)]);
});

it("M7: an irqfd of a GICv5 comes last, or what it injects is overwritten", () => {
  const from = new V5Vm();
  from.cpu.claim(SPI, "edge");
  const left = (isFirst: boolean): number[] => {
    const to = new V5Vm({ init: false });
    to.put(V5_GROUP.ADDR, 6, 0x801_0000);
    to.init();
    restoreIrs(from, to);
    if (!isFirst) restoreIst(from, to);
    to.irqfd(to.eventfd(1n), SPI);
    if (isFirst) restoreIst(from, to);
    to.setUp();
    return to.cpu.take();
  };
  expect(left(true)).toEqual([]);
  expect(left(false)).toEqual([spiOf(SPI)]);
});

it("is not initialised there where it was not here, and has its number of SPIs and address", () => {
  const twin = new V5Vm({ init: false, nrSpis: 128 });
  twin.put(V5_GROUP.ADDR, 6, 0x900_0000);
  const other = move(twin, builtLike(twin));
  expect(other.call("listDevices", {})).toEqual(twin.call("listDevices", {}));
  expect(other.call("describeVgicV5", {})).toEqual(twin.call("describeVgicV5", {}));
  expect(twin.v5.view()).toMatchObject({ isInitialized: false, nrSpis: 128, irsBase: 0x900_0000n });
});

it("doesn't fit a VM whose controller is another one", () => {
  const board = (gic: 3 | 5) =>
    InlineBoard.with(a64.bytesOf([a64.b(0)]), { board: { gic, vcpus: 1 } });
  const from = board(5);
  hold(from);
  const { parts } = take(from);
  const refused = (to: InlineBoard) => {
    hold(to);
    return to.refused("loadState", { parts });
  };
  expect(refused(board(3))).toBe("state-mismatch");
  const used = board(5);
  used.call("runBoard", { ns: 100n });
  expect(refused(used)).toBe("state-mismatch");
});

describe("an SPI in flight whose table was restored", () => {
  it.each(["seed004", "seed004-notifier-only"])("is on the list of %s there", (setting) => {
    const from = new V5Vm();
    from.cpu.claim(SPI, "edge");
    from.line(SPI, 1);
    expect(from.cpu.cdia()).not.toBe(0n);
    from.cpu.cdeoi();
    const to = restored(from, `vgicV5.spiTracking=${setting}`);
    const { resample } = to.resampler(SPI);
    to.setUp();
    expect([to.v5.inFlight(), to.count(resample)]).toEqual([[SPI], 0]);
    to.cpu.cddi(spiOf(SPI));
    to.cpu.exec();
    expect([to.v5.inFlight(), to.count(resample)]).toEqual([[], 1]);
  });

  it("is acknowledged at its end by exact", () => {
    const { vm: from } = taken("exact");
    const to = restored(from);
    const { trigger, resample } = to.resampler(SPI);
    to.signal(trigger);
    to.setUp();
    to.cpu.cddi(spiOf(SPI));
    expect([to.count(resample), to.spi(SPI).lineLevel]).toEqual([1, false]);
  });

  it("saves as it was restored, to the byte", () => {
    const { vm: from } = taken("exact");
    from.line(41, 1);
    expect(restored(from).v5.saveIst()).toEqual(from.v5.saveIst());
  });
});
