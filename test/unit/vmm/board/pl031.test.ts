// Goal: the clock is a PL031 to the register: it counts, matches, interrupts, halts with the board
// Method: registers by hand on the bus of a board inline, whose time is moved by the test.
import { describe, expect, it } from "vitest";
import { ManualClock } from "../../../../src/base/clock.js";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";

const BASE = 0x901_0000;
const DR = 0;
const MR = 4;
const LR = 8;
const CR = 0xc;
const IMSC = 0x10;
const RIS = 0x14;
const MIS = 0x18;
const ICR = 0x1c;
const SPIN = a64.bytesOf([a64.WFI, a64.b(-1)]);

function board(clock = new ManualClock(5_000_000_000_500)) {
  const wall = { clock: { mode: "wall", nsPerInstruction: 1, idle: "jump" } as const, time: clock };
  const vm = InlineBoard.with(SPIN, { board: { rtc: true }, vm: wall });
  const { devices, interrupts } = vm.instance.machine.board!.hardware;
  const read = (at: number, bytes = 4) =>
    [...(devices.readAt(BASE + at, bytes) ?? [])].reduceRight((sum, byte) => sum * 256 + byte, 0);
  const write = (at: number, value: number) =>
    devices.writeAt(BASE + at, new Uint8Array(Uint32Array.of(value).buffer));
  const line = () => new Map((interrupts.save().data as { levels: [number, boolean][] }).levels);
  return { vm, clock, read, write, line: () => line().get(2) };
}

describe("PL031", () => {
  it("has the ID bytes of the part, and reads at any width", () => {
    const { read } = board();
    const ids = [0x31, 0x10, 0x14, 0, 0x0d, 0xf0, 0x05, 0xb1];
    expect(ids.map((_, i) => read(0xfe0 + 4 * i))).toEqual(ids);
    expect([read(CR), read(CR, 1), read(CR, 2), read(0x20)]).toEqual([1, 1, 1, 0]);
    expect(read(DR, 2)).toBe(5_000_000_000 % 65_536);
  });

  it("counts seconds, and goes on from what is loaded", () => {
    const { read, write, clock } = board();
    expect(read(DR)).toBe(5_000_000_000 % 2 ** 32);
    clock.advance(499);
    expect(read(DR)).toBe(5_000_000_000 % 2 ** 32);
    clock.advance(1);
    expect(read(DR)).toBe(5_000_000_001 % 2 ** 32);
    write(LR, 0xffff_ffff);
    expect([read(DR), read(LR)]).toEqual([0xffff_ffff, 0xffff_ffff]);
    clock.advance(1000);
    expect(read(DR)).toBe(0);
    for (const at of [DR, RIS, MIS, CR]) write(at, 0x77);
    expect([DR, RIS, MIS, CR].map((at) => read(at))).toEqual([0, 0, 0, 1]);
  });

  it("interrupts when the counter matches; any store to ICR clears it", () => {
    const { vm, read, write, line, clock } = board();
    vm.act("start");
    write(IMSC, 0xff);
    expect(read(IMSC)).toBe(1);
    write(MR, read(DR) + 2);
    clock.advance(1400);
    vm.pump(10);
    expect([read(RIS), line()]).toEqual([0, false]);
    clock.advance(200);
    vm.pump(10);
    expect([read(RIS), read(MIS), line()]).toEqual([1, 1, true]);
    write(IMSC, 0);
    expect([read(RIS), read(MIS), line()]).toEqual([1, 0, false]);
    write(IMSC, 1);
    write(ICR, 0x8000_0000);
    expect([read(RIS), line()]).toEqual([0, false]);
    // It matches at once.
    write(MR, read(DR));
    expect([read(RIS), line()]).toEqual([1, true]);
    vm.act("reset");
    expect([read(RIS), read(IMSC), line()]).toEqual([0, 0, false]);
  });

  it("brings nothing to a paused board, and what was due at once when it goes on", () => {
    const { vm, read, write, clock } = board();
    vm.act("start");
    write(MR, read(DR) + 1);
    vm.act("pause");
    clock.advance(5000);
    vm.pump(10);
    expect(read(RIS)).toBe(0);
    vm.act("resume");
    expect(read(RIS)).toBe(1);
  });

  it("has the seed's time in a virtual clock, the same in every run", () => {
    const at = (seed: bigint) => {
      const vm = InlineBoard.with(SPIN, { board: { rtc: true }, vm: { seed } });
      return vm.instance.machine.board!.hardware.devices.readAt(BASE, 4);
    };
    expect(at(7n)).toEqual(at(7n));
    expect(at(7n)).not.toEqual(at(8n));
    const virtual = InlineBoard.with(SPIN, { board: { rtc: true } });
    const { devices } = virtual.instance.machine.board!.hardware;
    const seconds = () => new DataView(devices.readAt(BASE, 4)!.buffer).getUint32(0, true);
    const before = seconds();
    virtual.act("start");
    const word = new Uint8Array(Uint32Array.of(before + 3).buffer);
    devices.writeAt(BASE + MR, word);
    // The guest sleeps for ever: time jumps to the match.
    virtual.pump(200);
    expect(seconds()).toBe(before + 3);
    expect(devices.readAt(BASE + RIS, 4)![0]).toBe(1);
  });
});
