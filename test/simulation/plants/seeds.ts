// The seeds' defects, as they are switched on over HTTP. Those that random runs tell from correct
// code; the others cost time, memory or an errno and have a numbered case each (test/dirty).
import type { SeedBug } from "../../../src/kvm/index.js";
import type { Planting } from "../plant.js";

const seed =
  (bug: SeedBug): Planting =>
  ({ kvm: { vm } }) => {
    vm.seedBugs.add(bug);
  };

export const SEED_PLANTS = {
  "seed-B1": seed("B1"),
  "seed-B4": seed("B4"),
  "seed-B5": seed("B5"),
  "seed-B6": seed("B6"),
  "seed-B7": seed("B7"),
  "seed-B12": seed("B12"),
  "seed-B14": seed("B14"),
  "seed-B16": seed("B16"),
  "seed-B18": seed("B18"),
  "seed-D2": seed("D2"),
  "seed-D8": seed("D8"),
  "seed-D10": seed("D10"),
} as const satisfies Readonly<Record<string, Planting>>;
