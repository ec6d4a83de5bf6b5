// Goal: a guest finds the PCIe bus by ECAM, places a pci-testdev's bars and runs its tests
// Method: loads and stores by hand on the bus of a board inline, as an enumerating guest does them.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";

const ECAM = 0x3f00_0000;
const TESTDEV = ECAM + (1 << 15);
const MEMORY = 0x1000_0000;
const IO = 0x3eff_0000;
const COMMAND = 4;
const BAR0 = 0x10;
const SPIN = a64.bytesOf([a64.WFI, a64.b(-1)]);
const ONES = 0xffff_ffff;

const board = () => InlineBoard.with(SPIN, { board: { pci: true } });

/** Bars placed and switched on. */
function placed(): InlineBoard {
  const vm = board();
  vm.toDevice(TESTDEV + BAR0, MEMORY + 0x2_0000);
  vm.toDevice(TESTDEV + BAR0 + 4, 0x300);
  vm.toDevice(TESTDEV + COMMAND, 3, 2);
  return vm;
}

function name(vm: InlineBoard, base: number): string {
  const bytes = Array.from({ length: 40 }, (_, i) => vm.fromDevice(base + 16 + i, 1));
  return String.fromCharCode(...bytes.slice(0, bytes.indexOf(0)));
}

describe("PCIe", () => {
  it("has a host bridge and a pci-testdev; nobody else answers", () => {
    const vm = board();
    expect(vm.fromDevice(ECAM)).toBe(0x0008_1b36);
    expect(vm.fromDevice(ECAM + 10, 2)).toBe(0x600);
    expect(vm.fromDevice(TESTDEV)).toBe(0x0005_1b36);
    expect([vm.fromDevice(TESTDEV + 2, 2), vm.fromDevice(TESTDEV + 1, 1)]).toEqual([5, 0x1b]);
    const others = [1 << 12, 2 << 15, 1 << 20].map((at) => vm.fromDevice(ECAM + at));
    expect(others).toEqual([ONES, ONES, ONES]);
    expect(vm.fromDevice(TESTDEV + 0x100)).toBe(0);
    vm.toDevice(ECAM + (2 << 15), 1);
    expect(vm.fromDevice(ECAM + (2 << 15))).toBe(ONES);
  });

  it("tells sizes of bars, keeps what is read-only", () => {
    const vm = board();
    for (const at of [0, 2, 8, BAR0, BAR0 + 4, BAR0 + 8, 0x3c]) vm.toDevice(TESTDEV + at, ONES);
    const words = [0, COMMAND, 8, BAR0, BAR0 + 4, BAR0 + 8, 0x3c];
    expect(words.map((at) => vm.fromDevice(TESTDEV + at))).toEqual([
      ...[0x0005_1b36, 0x547, 0xff_0000, 0xffff_f000, 0xffff_ff01, 0, 0xff],
    ]);
  });

  it("decodes a bar where it was put, while the command says so", () => {
    const vm = placed();
    const bars = () => [vm.fromDevice(MEMORY + 0x2_0000, 1), vm.fromDevice(IO + 0x300, 1)];
    expect(bars()).toEqual([0, 0]);
    const outside = [MEMORY, MEMORY + 0x1_ffff, MEMORY + 0x2_1000, IO + 0x2ff, IO + 0x400];
    expect(outside.map((at) => vm.fromDevice(at, 1))).toEqual([255, 255, 255, 255, 255]);
    vm.toDevice(MEMORY, 1, 1);
    vm.toDevice(TESTDEV + COMMAND, 1, 2);
    expect(bars()).toEqual([255, 0]);
    vm.toDevice(TESTDEV + COMMAND, 2, 2);
    expect(bars()).toEqual([0, 255]);
    expect(vm.view().unassigned.count).toBe(0);
    vm.hardware.devices.reset();
    expect([...bars(), vm.fromDevice(TESTDEV + BAR0 + 4)]).toEqual([255, 255, 1]);
  });

  it("counts the stores of a test, of the right width and data", () => {
    const vm = placed();
    const widths: number[] = [];
    for (const base of [MEMORY + 0x2_0000, IO + 0x300]) {
      for (const test of [0, 1, 2]) {
        vm.toDevice(base, test, 1);
        const width = vm.fromDevice(base + 1, 1);
        const at = base + vm.fromDevice(base + 4);
        const data = vm.fromDevice(base + 8);
        for (let i = 0; i < 3; i++) vm.toDevice(at, data, width);
        vm.toDevice(at, data, width === 1 ? 2 : 1);
        vm.toDevice(at + 0x10, data, width);
        expect(vm.fromDevice(base + 12)).toBe(3);
        vm.toDevice(at, 1, width);
        // One of them looks at what is stored.
        expect(vm.fromDevice(base + 12)).toBe(test === 2 ? 3 : 4);
        widths.push(width);
      }
    }
    expect(widths).toEqual([1, 2, 4, 1, 2, 4]);
    expect(name(vm, MEMORY + 0x2_0000)).toBe("mmio-datamatch-eventfd");
    expect(name(vm, IO + 0x300)).toBe("portio-datamatch-eventfd");
    vm.toDevice(IO + 0x300, 3, 1);
    expect([vm.fromDevice(IO + 0x301, 1), vm.fromDevice(IO + 0x30c)]).toEqual([0, 0]);
  });
});
