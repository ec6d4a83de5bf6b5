// Owns: seeds under which defects of the product were seen, with what they were. Data only. Run with
// every `npm test`. A seed means the same run only until the simulation draws otherwise: then find
// it anew with the plant of the same defect.

export interface RegressionRow {
  readonly mode: string;
  readonly seed: number;
  /** Row of plants.table.ts that brings the defect back. */
  readonly plant: string;
  readonly found: string;
}

export const REGRESSIONS: readonly RegressionRow[] = [
  { mode: "dbm-manual", seed: 58, plant: "dbm-map-takes-back", found: "an overtaken read fault made a leaf clean that hardware had dirtied" },
  { mode: "dbm-manual", seed: 21, plant: "move-protects-again", found: "a moved slot's new mappings were protected, and hardware's record wiped" },
  { mode: "dbm-manual", seed: 426, plant: "munmap-stale-slot", found: "munmap dropped a dirty leaf of a slot whose log was just turned on" },
];
