// Every row of plants.table.ts with the way it is planted.
import type { Plant, Planting } from "../plant.js";
import { PLANTS, type PlantName } from "../plants.table.js";
import { GUEST_PLANTS } from "./guests.js";
import { HARDWARE_PLANTS } from "./hardware.js";
import { LOG_PLANTS } from "./log.js";
import { RING_PLANTS } from "./rings.js";
import { SEED_PLANTS } from "./seeds.js";
import { SLOT_PLANTS } from "./slots.js";
import { TLB_PLANTS } from "./tlb.js";

/** A row without a planting, or a planting without a row, does not compile. */
const PLANTINGS: { readonly [name in PlantName]: Planting } = {
  ...TLB_PLANTS,
  ...LOG_PLANTS,
  ...SLOT_PLANTS,
  ...RING_PLANTS,
  ...GUEST_PLANTS,
  ...HARDWARE_PLANTS,
  ...SEED_PLANTS,
};

/** @returns undefined for a name that the table does not have */
export function plantByName(name: string): Plant | undefined {
  const row = PLANTS.find((plant) => plant.name === name);
  return row === undefined ? undefined : { name: row.name, apply: PLANTINGS[row.name] };
}
