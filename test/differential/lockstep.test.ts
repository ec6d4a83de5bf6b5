// Goal: a whole image does the same in both tiers at every stop, memory and stage 2 included.
// Method: phases of the benchmark's image, in the short form that its record was made with; and an
// image of which one word differs, where the first different instruction must be named.
import { describe, expect, it } from "vitest";
import {
  committedImage,
  imageFor,
  PHASES,
  RECORDED_SHIFT,
} from "../../bench/guest/support/image.js";
import * as a64 from "../support/a64.js";
import { lockstep } from "./lockstep.js";
import { LockstepGuest } from "./lockstep-guest.js";

const RAM = 2 ** 28;

function guests(images: readonly [Uint8Array, Uint8Array], ramBytes: number) {
  return (): readonly [LockstepGuest, LockstepGuest] => [
    new LockstepGuest(images[0], { translation: null, ramBytes }),
    new LockstepGuest(images[1], { translation: {}, ramBytes }),
  ];
}

describe("lockstep", () => {
  it("finds tier 1 equal to tier 0 in the benchmark's image", () => {
    const phases = PHASES.filter((name) => !/hot|touch|random/.test(name));
    const work = { phases, repetitions: 1, shift: RECORDED_SHIFT };
    const image = imageFor(work, committedImage());
    const result = lockstep({
      guests: guests([image, image], RAM),
      every: 7919,
      instructions: 6_000_000,
      progress: () => {},
    });
    expect(result.differences, result.culprit ?? "").toEqual([]);
    expect(result.instructions).toBeGreaterThan(1_000_000);
    expect(result.output).toContain("sum");
  });

  it("names the first instruction that does something else", () => {
    const image = (by: number): Uint8Array =>
      a64.bytesOf([
        ...a64.mov(0, 5000n),
        a64.add(1, 1, 3),
        a64.subs(0, 0, 1),
        a64.bne(-2),
        a64.add(2, 1, by),
        a64.add(3, 3, 1),
        ...a64.powerOff(),
      ]);
    const result = lockstep({
      guests: guests([image(1), image(2)], 2 ** 24),
      every: 1000,
      instructions: 100_000,
      progress: () => {},
    });
    expect(result.differences.some((text) => text === "x2 is 0x3a9a, not 0x3a99")).toBe(true);
    expect(result.culprit).toMatch(/^instruction 15002, pc 0x40080010: 0x91000422/);
  });

  it("sees a byte of memory that no register shows", () => {
    const image = (data: number): Uint8Array => a64.bytesOf([...a64.powerOff(), data]);
    const { differences, culprit } = lockstep({
      guests: guests([image(1), image(2)], 2 ** 24),
      every: 1000,
      instructions: 1000,
      progress: () => {},
    });
    expect(differences).toEqual([expect.stringMatching(/of host memory is 2, not 1$/)]);
    expect(culprit).toMatch(/^not found again/);
  });
});
