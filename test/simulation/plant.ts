// A defect planted into one VM from outside.
import type { Machine } from "../../src/vmm/machine.js";
import type { PlantName } from "./plants.table.js";

/**
 * Overrides methods of this VM's objects; everything else of the process stays as it is. Called
 * once vCPUs exist.
 */
export type Planting = (machine: Machine) => void;

export interface Plant {
  readonly name: PlantName;
  readonly apply: Planting;
}

/** Which command's context is in its step. */
export function running(machine: Machine, ...commands: readonly string[]): boolean {
  return commands.includes(machine.kvm.vm.sched.current?.label ?? "");
}
