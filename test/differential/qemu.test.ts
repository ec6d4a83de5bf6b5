// Goal: random blocks end as under QEMU.
// Method: a short form of `npm run differential -- --qemu`, where qemu-aarch64 is installed; and
// QEMU gets an instruction that means something else, which the comparison must find.
import { describe, expect, it } from "vitest";
import { missing, programVersion } from "../../tools/debian.mjs";
import { compareWithQemu, QEMU } from "./qemu.js";
import { failureLines } from "./report.js";

const INSTRUCTIONS = 60_000;

/** EOR of shifted X registers becomes ORR. */
function orrForEor(word: number): number {
  return (word & 0xff20_0000) >>> 0 === 0xca00_0000 ? (word ^ 0x6000_0000) >>> 0 : word;
}

describe(QEMU, () => {
  if (programVersion(QEMU) === null) {
    it("is not installed", (context) => context.skip(missing(QEMU)));
    return;
  }
  it("agrees", () => {
    const seed = 20_262n;
    const { failure, instructions } = compareWithQemu(
      { seed, instructions: INSTRUCTIONS },
      () => {},
    );
    expect(failure, failure === null ? "" : failureLines(failure, seed).join("\n")).toBe(null);
    expect(instructions).toBeGreaterThanOrEqual(INSTRUCTIONS);
  });

  it("differs in a register where it executes something else", () => {
    const { failure } = compareWithQemu(
      { seed: 1n, instructions: 10 * INSTRUCTIONS, plant: orrForEor },
      () => {},
    );
    expect(failure?.smallDifferences.some((text) => /^x\d/.test(text))).toBe(true);
  });
});
