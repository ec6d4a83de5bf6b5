// Goal: the simulation notices defects. Method: plant three and expect each caught, and the same
// seeds clean without it; `npm run sim -- --plant all` does so for the whole table.
import { describe, expect, it } from "vitest";
import { type Baseline, catchPlant, modesNamed, plantsNamed } from "./campaign.js";
import { MODES } from "./modes.table.js";
import { plantByName } from "./plants/index.js";
import { PLANTS } from "./plants.table.js";
import { REGRESSIONS } from "./regressions.table.js";

describe("the table of plants", () => {
  it("names modes that exist, and every plant once", () => {
    expect(PLANTS.length).toBeGreaterThanOrEqual(20);
    expect(new Set(PLANTS.map(({ name }) => name)).size).toBe(PLANTS.length);
    const modes = new Set(MODES.map(({ name }) => name));
    for (const plant of PLANTS) {
      expect(plantByName(plant.name)?.name).toBe(plant.name);
      expect(plant.modes.length).toBeGreaterThan(0);
      expect(plant.modes.filter((mode) => !modes.has(mode))).toEqual([]);
    }
    for (const { plant } of REGRESSIONS) expect(plantByName(plant)).toBeDefined();
  });
});

describe("a planted defect is caught", () => {
  const baseline: Baseline = new Map();

  it.each([
    ["clear-no-tlbi", "wp-manual"],
    ["dbm-unmap-drops", "dbm-legacy"],
    ["harvest-not-kept", "wp-legacy"],
  ])("%s in %s", (name, modeName) => {
    const [row] = plantsNamed(name);
    const [mode] = modesNamed(modeName);
    const result = catchPlant(row!, mode!, baseline);
    expect(result.seeds).not.toBeNull();
    expect(result.withoutPlant).toBeNull();
  });
});
