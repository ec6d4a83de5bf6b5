// Goal: a run stops after exactly its budget, wherever that is, and PC tells where it goes on.
// Method: both tiers on the flat machine of the vectors; code that crosses pages, loops, is far.
import { beforeEach, describe, expect, it } from "vitest";
import { END, FlatMachine } from "../../../vectors/flat-machine.js";

const BASE = 0x4008_0000;
const PAGE = 0x1000; // tidy: the core's own granule
const ADD_X0_1 = 0x9100_0400;
const SUBS_X1_1 = 0xf100_0421;
/** B.NE by a number of instructions. */
const bne = (by: number): number => (0x5400_0001 | ((by & 0x7ffff) << 5)) >>> 0;
const b = (by: number): number => (0x1400_0000 | (by & 0x3ff_ffff)) >>> 0;
const RET = 0xd65f_03c0;
const BL = (by: number): number => (0x9400_0000 | (by & 0x3ff_ffff)) >>> 0;

describe.each([
  ["tier 0", null],
  ["tier 1", {}],
] as const)("%s", (_tier, translation) => {
  let machine: FlatMachine;
  beforeEach(() => {
    machine = new FlatMachine(translation);
    machine.reset();
    for (let n = 0; n < 31; n++) machine.setX(n, 0n);
  });

  function code(at: number, words: readonly number[]): void {
    for (const [i, word] of words.entries()) machine.writeWord(at + 4 * i, word);
    machine.pc = BigInt(at);
    machine.translate();
  }

  it("stops after any number of instructions of a loop, and goes on", () => {
    code(BASE, [ADD_X0_1, SUBS_X1_1, bne(-2), END]);
    machine.setX(1, 100n);
    let total = 0;
    for (const budget of [1, 2, 3, 5, 7, 50, 111]) {
      expect(machine.run(budget)).toBe(budget);
      total += budget;
      expect(machine.x(0)).toBe(BigInt(Math.ceil(total / 3)));
      expect(machine.pc).toBe(BigInt(BASE + 4 * (total % 3)));
    }
    expect(machine.run(1000)).toBe(300 - total);
    expect(machine.pc).toBe(BigInt(BASE + 12));
  });

  it("counts no instruction for a page's end or a first decoding", () => {
    const at = BASE + PAGE - 8;
    code(at, [ADD_X0_1, ADD_X0_1, ADD_X0_1, ADD_X0_1, END]);
    expect(machine.run(2)).toBe(2);
    expect(machine.pc).toBe(BigInt(BASE + PAGE));
    expect(machine.x(0)).toBe(2n);
    expect(machine.run(1)).toBe(1);
    expect(machine.run(10)).toBe(1);
    expect(machine.x(0)).toBe(4n);
  });

  it("branches out of the page, back, and over its end", () => {
    code(BASE, [BL(PAGE), ADD_X0_1, b(PAGE / 2), END]);
    code(BASE + 4 * PAGE, [ADD_X0_1, RET]);
    code(BASE + 8 + 2 * PAGE, [ADD_X0_1, END]);
    machine.pc = BigInt(BASE);
    expect(machine.run(100)).toBe(6);
    expect(machine.x(0)).toBe(3n);
    expect(machine.x(30)).toBe(BigInt(BASE + 4));
    expect(machine.problem).toBeNull();
  });

  it("runs the same code at two addresses, each with its own PC", () => {
    for (const at of [BASE, BASE + 16 * PAGE]) {
      code(at, [BL(1), END]);
      machine.run(1);
      expect(machine.x(30)).toBe(BigInt(at + 4));
    }
  });

  it("leaves at an undefined word with PC on it and nothing retired", () => {
    code(BASE, [ADD_X0_1, 0x0000_0000]);
    expect(machine.run(10)).toBe(1);
    expect(machine.problem).toBe("UNDEFINED");
    expect(machine.pc).toBe(BigInt(BASE + 4));
  });
});
