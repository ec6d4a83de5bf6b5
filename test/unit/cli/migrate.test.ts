// Goal: the line that `tidemark migrate` draws says what the migration's figures say. Method:
// figures by hand, of every shape that the API has.
import { describe, expect, it } from "vitest";
import { progressLine } from "../../../src/cli/migrate.js";

type Migration = Parameters<typeof progressLine>[0];
type Progress = NonNullable<Migration["progress"]>;

const MIB = 2 ** 20;

function line(state: Migration["state"], progress: Partial<Progress> | null): string {
  return progressLine({ state, peer: "host-b", progress } as Migration);
}

const HALF = {
  ...{ bytesTotal: 64 * MIB, bytesRemaining: 32 * MIB, round: 3 },
  ...{ bytesPerSecond: 117.25 * MIB, throttlePercent: 0 },
};

describe("the progress of a migration", () => {
  it("is its state and its peer before anything is counted", () => {
    expect(line("queued", null)).toBe("queued, to host-b");
  });

  it("is a bar, the round, what is left and how fast it goes", () => {
    const bar = `[${"#".repeat(15)}${".".repeat(15)}]`;
    const rest = "round 3, 32.0 MiB left, 117.3 MiB/s";
    expect(line("active", HALF)).toBe(`active ${bar} ${rest}`);
    const slowed = line("active", { ...HALF, throttlePercent: 40 });
    expect(slowed).toBe(`active ${bar} ${rest}, vCPUs slowed by 40 %`);
  });

  it.each([
    [64 * MIB, 0],
    // More than there is: pages that the guest dirtied again.
    [80 * MIB, 0],
    [63 * MIB, 0],
    [61 * MIB, 1],
    [1, 29],
    [0, 30],
  ])("fills its bar with what isn't left: %i bytes of 64 MiB", (bytesRemaining, cells) => {
    const drawn = /\[(#*)(\.*)\]/.exec(line("active", { ...HALF, bytesRemaining }));
    expect([drawn?.[1]?.length, drawn?.[2]?.length]).toEqual([cells, 30 - cells]);
  });

  it("is empty, and no number that isn't one, where the total isn't known yet", () => {
    const begun = { ...HALF, bytesTotal: 0, bytesRemaining: 0, bytesPerSecond: 0, round: 0 };
    const bar = `[${".".repeat(30)}]`;
    expect(line("setup", begun)).toBe(`setup ${bar} round 0, 0.0 MiB left, 0.0 MiB/s`);
  });
});
