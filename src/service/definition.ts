// Owns: a VM's definition as the store keeps it. HTTP thread.
import { hex } from "../base/hex.js";
import type { VmDefinition } from "../runtime/index.js";
import type { JsonObject } from "../store/index.js";

/** @returns the definition with its u64 as "0x…". */
export function definitionToJson(definition: VmDefinition): JsonObject {
  return { ...definition, type: hex(definition.type), seed: hex(definition.seed) };
}

/** Reads what definitionToJson wrote; nobody else writes it, so it is not checked again. */
export function definitionFromJson(json: JsonObject): VmDefinition {
  const stored = json as unknown as Omit<VmDefinition, "type" | "seed"> & {
    readonly type: string;
    readonly seed: string;
  };
  return { ...stored, type: BigInt(stored.type), seed: BigInt(stored.seed) };
}
