// The seeds' defects, as they are switched on over HTTP. Those that random runs can't tell from
// correct code have a numbered case alone (test/dirty):
//
//   B2        costs memory only, at pages larger than 4 KiB
//   B8, B9    are late, not lost, like hdbss.sync request-nowait, which runs draw as a safe value
//   B19       leaves TLB copies whose pages are in a log already: what protects them flushes them
//   B20       marks a device's pages: there is no device memory here, and nothing would be lost
//   D15       costs precision: blocks stay whole, and each is reported as a whole
//   D16       is seen only if the array's page next holds words that look like entries
//   D18       is between two VMs: the next load of a vCPU of this one programs the same stage 2
import type { SeedBug } from "../../../src/kvm/index.js";
import type { Planting } from "../plant.js";

const seed =
  (bug: SeedBug): Planting =>
  ({ kvm: { vm } }) => {
    vm.seedBugs.add(bug);
  };

export const SEED_PLANTS = {
  "seed-B1": seed("B1"),
  "seed-B3": seed("B3"),
  "seed-B4": seed("B4"),
  "seed-B5": seed("B5"),
  "seed-B6": seed("B6"),
  "seed-B7": seed("B7"),
  "seed-B12": seed("B12"),
  "seed-B13": seed("B13"),
  "seed-B14": seed("B14"),
  "seed-B15": seed("B15"),
  "seed-B16": seed("B16"),
  "seed-B17": seed("B17"),
  "seed-B18": seed("B18"),
  "seed-B22": seed("B22"),
  "seed-D1": seed("D1"),
  "seed-D2": seed("D2"),
  "seed-D4": seed("D4"),
  "seed-D5": seed("D5"),
  "seed-D7": seed("D7"),
  "seed-D8": seed("D8"),
  "seed-D9": seed("D9"),
  "seed-D10": seed("D10"),
  "seed-D11": seed("D11"),
  "seed-D12": seed("D12"),
  "seed-D13": seed("D13"),
  "seed-D14": seed("D14"),
  "seed-D17": seed("D17"),
  "seed-D19": seed("D19"),
  "seed-D20": seed("D20"),
} as const satisfies Readonly<Record<string, Planting>>;
