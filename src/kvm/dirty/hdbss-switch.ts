// Owns: HDBSS and HACDBS as a VMM turns them on for a while: whether it can, and with which
// arguments. VM thread.
// @source dirty-tracking.md 4.2, 4.7 (hdbss.enableBy, hdbss.capShape, hdbss.sizeUnit)
import { SZ_UNIT_BYTES } from "../../machine/index.js";
import { ringTakes } from "../dirty-ring.js";
import type { Vm } from "../vm.js";
import type { Hacdbs } from "./hacdbs.js";
import { HdbssBuffers, ownOrder } from "./hdbss-buffers.js";
import { hasHdbss } from "./leaf-policy.js";

const SWITCH_SHAPES: ReadonlySet<string> = new Set(["arm-specific", "arch-generic"]);

/** KVM turns it on with the first slot that logs, and off with the last. */
function isAutomatic({ policies }: Vm): boolean {
  const by = policies["hdbss.enableBy"];
  return by === "auto-first-logging-slot" || by === "auto-buffers-at-vcpu-create";
}

function orderFor(vm: Vm): number {
  const order = ownOrder(vm);
  // Version 2's size 0 means off.
  return vm.policies["hdbss.enableBy"] === "ioctl-v2" ? Math.max(1, order) : order;
}

/** @returns one clause, or null if HDBSS is on or could be */
export function whyNoHdbss(vm: Vm): string | null {
  const { caps, policies } = vm;
  if (!hasHdbss(vm)) return "the host's CPUs have no HDBSS that KVM could use";
  if (vm.isHdbssOn) return null;
  if (!isAutomatic(vm) && !SWITCH_SHAPES.has(policies["hdbss.capShape"])) {
    return "this VM's KVM shows no capability that turns HDBSS on";
  }
  if (caps.dirtyRingBytes === 0 || policies["hdbss.ring"] !== "reserve") return null;
  const entries = new HdbssBuffers(vm).entries(orderFor(vm));
  if (ringTakes(caps.dirtyRingBytes, entries)) return null;
  return "the dirty rings have no room for a full HDBSS buffer";
}

/** @returns one clause, or null if CLEAR could clean by HACDBS once HDBSS is on */
export function whyNoHacdbs(vm: Vm, hacdbs: Hacdbs): string | null {
  const { model, cpus } = vm.host;
  if (!model["hardware.hacdbs"] || !model["hardware.vhe"]) {
    return "the host's CPUs have no HACDBS that KVM could use";
  }
  if (cpus.some((cpu) => hacdbs.isEligible(cpu))) return null;
  return "KVM knows no interrupt of HACDBS, which this VM's way of completion needs";
}

/** Arguments of the capability. @returns null: KVM does it by itself */
export function hdbssArgs(vm: Vm, isOn: boolean): readonly bigint[] | null {
  if (isAutomatic(vm)) return null;
  const { policies } = vm;
  const order = orderFor(vm);
  const isV2 = policies["hdbss.enableBy"] === "ioctl-v2";
  if (!isOn) return isV2 ? [0n] : [0n, 0n];
  const size = BigInt(policies["hdbss.sizeUnit"] === "order" ? order : SZ_UNIT_BYTES * 2 ** order);
  return isV2 ? [size] : [size, 1n];
}
