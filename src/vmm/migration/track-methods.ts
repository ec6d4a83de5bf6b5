// Owns: the ways in which the vmm learns of dirty pages: what each needs of a VM, and the VM's
// settings that it borrows while it is in force. VM thread.
import { ServiceError } from "../../base/errors.js";
import {
  enableCap,
  hdbssArgs,
  isLogging,
  isReadOnly,
  KVM_DIRTY_LOG,
  KVM_MEM,
  type Kvm,
  type Memslot,
  type Op,
  whyNoHacdbs,
  whyNoHdbss,
} from "../../kvm/index.js";
import type { TrackingMethod } from "./commands.js";
import { stretchesOf } from "./track-pages.js";

const KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;

export interface Recipe {
  /** What takes bits out of a slot's bitmap: GET itself, CLEAR after it, or a deferred CLEAR. */
  readonly clear: "get" | "clear" | "defer";
  readonly hdbss: boolean;
  /** "kept": as the VM has it. */
  readonly hacdbs: "kept" | "off" | "on";
}

export const RECIPES: Readonly<Record<TrackingMethod, Recipe>> = {
  "hdbss+hacdbs": { clear: "clear", hdbss: true, hacdbs: "on" },
  hdbss: { clear: "clear", hdbss: true, hacdbs: "off" },
  "manual-protect": { clear: "clear", hdbss: false, hacdbs: "kept" },
  bitmap: { clear: "get", hdbss: false, hacdbs: "kept" },
  ring: { clear: "get", hdbss: false, hacdbs: "kept" },
  "async-run": { clear: "defer", hdbss: true, hacdbs: "on" },
};

/** The best first; "async-run" is an experiment, and only for who asks for it. */
const BEST: readonly TrackingMethod[] = ["hdbss+hacdbs", "hdbss", "manual-protect", "bitmap"];

export const METHODS = Object.keys(RECIPES) as readonly TrackingMethod[];

/** Whether pages of a slot can become dirty in a way that KVM would log. */
export function canLog({ vm }: Kvm, slot: Pick<Memslot, "userspaceAddr" | "npages" | "flags">) {
  const flags = KVM_MEM.READONLY | KVM_MEM.GUEST_MEMFD;
  if ((slot.flags & flags) !== 0) return false;
  return !touchesDevice(vm, slot);
}

function touchesDevice(vm: Kvm["vm"], slot: Pick<Memslot, "userspaceAddr" | "npages">): boolean {
  const stretches = stretchesOf(vm.mm, slot, vm.pageSize);
  return stretches.some(({ object }) => object.backing === "device");
}

/** What keeps a VM from being tracked by any method. */
function whyNone(kvm: Kvm): string | null {
  const { vm } = kvm;
  for (const slot of vm.slots.list()) {
    if (slot.guestMemfd !== null) return `slot ${slot.id} has a guest_memfd, which can't be logged`;
    if (isReadOnly(slot) || !touchesDevice(vm, slot)) continue;
    const stretches = stretchesOf(vm.mm, slot, vm.pageSize);
    if (stretches.every(({ object }) => object.backing === "device")) continue;
    return `slot ${slot.id} covers a device's pages beside memory, and can't be logged`;
  }
  const { dirtyRingBytes, dirtyRingWithBitmap } = vm.caps;
  if (dirtyRingBytes === 0 || dirtyRingWithBitmap || vm.vgic.dist?.hasIts !== true) return null;
  return "its dirty rings have no bitmap beside them, which the tables of its ITS need";
}

/** @returns one clause, or null: the VM can be tracked so */
export function whyNotMethod(kvm: Kvm, method: TrackingMethod, hasBoard: boolean): string | null {
  const none = whyNone(kvm);
  if (none !== null) return none;
  const { vm } = kvm;
  const hasRings = vm.caps.dirtyRingBytes !== 0;
  const { clear, hdbss, hacdbs } = RECIPES[method];
  if (method === "ring" && !hasRings) {
    return "it was built without dirty rings, which come before the first vCPU";
  }
  if (hasRings && (clear === "defer" || (!hdbss && method !== "ring"))) {
    return "it records in dirty rings, for good";
  }
  if (clear === "defer" && !hasBoard) {
    return "KVM_EXIT_CLEANED ends KVM_RUN, which is its client's: only a board's vCPUs can take it";
  }
  const why = hdbss ? whyNoHdbss(vm) : null;
  return why ?? (hacdbs === "on" ? whyNoHacdbs(vm, kvm.hacdbs) : null);
}

/** @throws ServiceError "tracking-unavailable" */
export function bestMethod(kvm: Kvm, hasBoard: boolean): TrackingMethod {
  const candidates = kvm.vm.caps.dirtyRingBytes !== 0 ? (["ring"] as const) : BEST;
  const best = candidates.find((method) => whyNotMethod(kvm, method, hasBoard) === null);
  if (best !== undefined) return best;
  throw unavailable("at all", whyNotMethod(kvm, candidates.at(-1) ?? "bitmap", hasBoard));
}

export function unavailable(how: string, why: string | null): ServiceError {
  const detail = `The VM's dirty pages can't be tracked ${how}: ${why ?? "KVM would not"}.`;
  return new ServiceError("tracking-unavailable", detail);
}

/** A VM's settings as they were before the vmm changed them. */
export interface Lent {
  readonly manual: number;
  readonly clearMode: Kvm["vm"]["policies"]["clear.mode"];
  readonly hacdbsUse: Kvm["vm"]["policies"]["hacdbs.use"];
  /** The vmm has turned HDBSS on. */
  readonly turnedOn: boolean;
}

function* setManual({ vm }: Kvm, value: number): Op<void> {
  if (vm.caps.manualDirtyLogProtect === value) return;
  const op = enableCap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, [BigInt(value)]);
  if (op !== null) yield* op;
}

/**
 * Changes what a method needs.
 * @throws KvmError ENOMEM, EINVAL; then everything is as it was
 */
export function* borrow(kvm: Kvm, method: TrackingMethod): Op<Lent> {
  const { vm } = kvm;
  const { clear, hdbss, hacdbs } = RECIPES[method];
  const args = hdbss && !vm.isHdbssOn ? hdbssArgs(vm, true) : null;
  if (args !== null) yield* kvm.hdbss.enableCap(0, args);
  const lent: Lent = {
    manual: vm.caps.manualDirtyLogProtect,
    clearMode: vm.policies["clear.mode"],
    hacdbsUse: vm.policies["hacdbs.use"],
    turnedOn: args !== null,
  };
  yield* setManual(kvm, clear === "get" ? 0 : KVM_DIRTY_LOG.MANUAL_PROTECT_ENABLE);
  vm.policies["clear.mode"] = clear === "defer" ? "async-run" : "sync";
  if (hacdbs === "off") vm.policies["hacdbs.use"] = "off";
  else if (hacdbs === "on" && lent.hacdbsUse === "off") vm.policies["hacdbs.use"] = "with-hdbss";
  return lent;
}

/** Nothing is deferred, and no run will tell of what was. */
function* settleDeferred({ log: { deferred } }: Kvm): Op<void> {
  yield* deferred.drainAll();
  while (deferred.takeNotice() !== null);
}

export function* giveBack(kvm: Kvm, lent: Lent): Op<void> {
  const { vm } = kvm;
  if (vm.policies["clear.mode"] === "async-run") yield* settleDeferred(kvm);
  const args = lent.turnedOn && vm.isHdbssOn ? hdbssArgs(vm, false) : null;
  if (args !== null) yield* kvm.hdbss.enableCap(0, args);
  yield* setManual(kvm, lent.manual);
  vm.policies["clear.mode"] = lent.clearMode;
  vm.policies["hacdbs.use"] = lent.hacdbsUse;
}

/** KVM turns HDBSS on by itself in some VMs, and may fail at that. */
export function isInForce({ vm }: Kvm, method: TrackingMethod): boolean {
  return !RECIPES[method].hdbss || vm.isHdbssOn || !vm.slots.list().some(isLogging);
}
