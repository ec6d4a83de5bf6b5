// Goal: T-80: whatever policies, faults and interleavings come together, no dirty page is lost
// where none may be, and rules 1 to 5 hold. Method: the short form of `npm run sim` over every mode
// with HDBSS and HACDBS, some seeds replayed; the long form is in test/simulation/README.md.
import { describe, expect, it } from "vitest";
import {
  type Baseline,
  catchPlant,
  modesNamed,
  plantsNamed,
  runCampaign,
} from "../simulation/campaign.js";
import { DIRTY_MODES } from "../simulation/modes.table.js";
import { Pairs } from "../simulation/pairs.js";

const PER_MODE = 12;
const PER_GUEST_MODE = 3;

describe("random operations, policies and faults", () => {
  it.each(DIRTY_MODES)("T-80: $name", ({ name, hasGuests }) => {
    const count = hasGuests ? PER_GUEST_MODE : PER_MODE;
    const common = { firstSeed: 1, count, pageSize: null, part: 0, of: 1 } as const;
    const never = Number.POSITIVE_INFINITY;
    const forever = { endMs: never, nowMs: () => 0, faultsWanted: never };
    const campaign = { ...common, ...forever, modes: modesNamed(name) };
    const { totals, failures } = runCampaign(campaign, new Pairs());
    expect(failures).toEqual([]);
    const total = totals.get(name);
    expect(total).toMatchObject({ interleavings: count, lostPages: 0 });
    expect(total?.replays).toBeGreaterThan(0);
    // A simulation in which HDBSS logs nothing would pass too.
    expect(total?.appends).toBeGreaterThan(0);
  });
});

describe("a planted defect is caught", () => {
  const baseline: Baseline = new Map();

  it.each([
    ["hdbss-drain-drops-last", "hdbss-legacy-software"],
    ["hacdbs-skips-first", "hdbss-legacy-poll"],
    ["hacdbs-rollback-forgets", "hdbss-manual-irq"],
  ])("T-80 with %s: %s", (name, modeName) => {
    const [row] = plantsNamed(name);
    const [mode] = modesNamed(modeName);
    const result = catchPlant(row!, mode!, baseline);
    expect(result.seeds).not.toBeNull();
    expect(result.withoutPlant).toBeNull();
  });
});
