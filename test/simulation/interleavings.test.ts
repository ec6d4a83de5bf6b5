// Goal: no dirty page is ever lost, under every tracking mode. Method: a short `npm run sim`:
// seeded interleavings against the oracle, a sample of them replayed from their commands.
import { afterAll, describe, expect, it } from "vitest";
import { modesNamed, newTotals, runCampaign } from "./campaign.js";
import { PLAIN_MODES } from "./modes.table.js";
import { Pairs } from "./pairs.js";
import { REGRESSIONS } from "./regressions.table.js";
import { runOne } from "./simulation.js";

const PER_MODE = 20;
const PER_GUEST_MODE = 8;
const pairs = new Pairs();

describe("seeded interleavings", () => {
  it.each(PLAIN_MODES)("lose no page: $name", ({ name, hasGuests }) => {
    const count = hasGuests ? PER_GUEST_MODE : PER_MODE;
    const modes = modesNamed(name);
    const { totals, failures } = runCampaign(
      {
        modes,
        firstSeed: 1,
        count,
        pageSize: null,
        part: 0,
        of: 1,
        endMs: Number.POSITIVE_INFINITY,
        nowMs: () => 0,
        faultsWanted: Number.POSITIVE_INFINITY,
      },
      pairs,
    );
    expect(failures).toEqual([]);
    const total = totals.get(name) ?? newTotals();
    expect(total.interleavings).toBe(count);
    expect(total.lostPages).toBe(0);
    expect(total.replays).toBeGreaterThan(0);
    // A simulation in which nothing happens would pass too.
    if (hasGuests) expect(total.changed).toBeGreaterThan(count * 10);
    else expect(total.stores).toBeGreaterThan(count * 100);
    expect(total.acquired).toBeGreaterThan(count * 10);
  });

  it.each(REGRESSIONS)("still hold: $mode seed $seed, $found", ({ mode: name, seed }) => {
    const [mode] = modesNamed(name);
    expect(mode).toBeDefined();
    const common = { seed, pageSize: null, plant: null, pairs: null, isReplayed: true };
    expect(runOne({ mode: mode!, ...common }).failure).toBeNull();
  });

  afterAll(() => {
    const never = pairs.never();
    const missing = never.length === 0 ? "" : `; never: ${never.join(", ")}`;
    console.log(`preemption pairs met: ${pairs.rows().length - never.length}${missing}`);
  });
});
