// Owns: what the vGIC's files need of one another, without a circle. VM thread.
import type { Vm } from "../vm.js";
import type { Delivery } from "./delivery.js";
import type { VgicDist } from "./dist.js";

export interface VgicContext {
  readonly vm: Vm;
  readonly dist: VgicDist;
  readonly delivery: Delivery;
}
