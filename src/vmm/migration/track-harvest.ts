// Owns: KVM's log read and cleared for the vmm, by bitmap or ring: every page that it takes is
// acquired, so whoever copies it afterwards loses no store. VM thread.
//
//   rings    entries ─ RESET flags ─ KVM_RESET_DIRTY_RINGS, until none is left ─ bitmap beside them
//   bitmap   GET                   (clears)
//   manual   GET ─ CLEAR, window by window
//   async    GET ─ deferred CLEAR, window by window ─ until all of them are CLEANED
// @source virt/kvm/dirty_ring.c, dirty-tracking.md 6.5, 7.2, 7.3, 7.6, 7.7
import { isLogging, KVM_DIRTY_GFN, type Kvm, type Memslot, type Op } from "../../kvm/index.js";
import type { TrackingMethod } from "./commands.js";
import { RECIPES, type Recipe } from "./track-methods.js";

/** Pages of one CLEAR: a bitmap of 8 KiB. */
const WINDOW_PAGES = 65_536;
/** Rounds over the rings while vCPUs go on filling them. */
const ROUNDS_MAX = 4;

/** Told of what was taken. */
export interface Harvested {
  slot(slot: Memslot, bitmap: Uint8Array): void;
  page(slot: Memslot, page: number): void;
}

/**
 * Everything that KVM's log has now. The caller keeps slots from changing.
 * @param isLast GET alone: what isn't cleaned is found again, which is never too little
 */
export function* harvestAll(
  kvm: Kvm,
  method: TrackingMethod,
  to: Harvested,
  isLast = false,
): Op<void> {
  const { vm } = kvm;
  if (vm.caps.dirtyRingBytes !== 0) yield* harvestRings(kvm, to);
  if (!vm.usesDirtyBitmap) return;
  const logs: { slot: Memslot; bitmap: Uint8Array }[] = [];
  for (const slot of vm.slots.list().filter(isLogging)) {
    const { bitmap } = yield* kvm.log.get(slot.id);
    if (!isLast) yield* clearBits(kvm, RECIPES[method], slot, bitmap);
    logs.push({ slot, bitmap });
  }
  if (RECIPES[method].clear === "defer" && !isLast) yield* untilCleaned(kvm);
  for (const { slot, bitmap } of logs) to.slot(slot, bitmap);
}

/** CLEAR of every window with a bit. With rings GET itself clears the bitmap beside them. */
function* clearBits(kvm: Kvm, { clear }: Recipe, slot: Memslot, bitmap: Uint8Array): Op<void> {
  if (!kvm.vm.manualProtect) return;
  for (let first = 0; first < slot.npages; first += WINDOW_PAGES) {
    const pages = Math.min(WINDOW_PAGES, slot.npages - first);
    const bits = bitmap.slice(first / 8, Math.ceil((first + pages) / 64) * 8);
    if (bits.every((byte) => byte === 0)) continue;
    if (clear === "defer") yield* kvm.log.deferClear(slot.id, BigInt(first), pages, bits);
    else yield* kvm.log.clear(slot.id, BigInt(first), pages, bits);
  }
}

/** vCPUs clean as they run; where none is in KVM_RUN, nobody would. */
function* untilCleaned({ vm, log: { deferred } }: Kvm): Op<void> {
  while (deferred.isPending) {
    if (vm.vcpus.some(({ running }) => running)) yield deferred.over;
    else yield* deferred.drainAll();
  }
}

/** Takes entries and resets them until there are none, or as often as running vCPUs deserve. */
export function* harvestRings(kvm: Kvm, to: Harvested): Op<void> {
  for (let round = 0; ; round++) {
    for (const { ring } of kvm.vm.vcpus) if (ring !== null) takeEntries(kvm, ring, to);
    const taken = yield* kvm.rings.reset();
    const isBusy = kvm.vm.vcpus.some(({ running }) => running);
    if (taken === 0 || (isBusy && round >= ROUNDS_MAX)) return;
  }
}

type Ring = NonNullable<Kvm["vm"]["vcpus"][number]["ring"]>;

function takeEntries({ vm }: Kvm, ring: Ring, to: Harvested): void {
  for (let index = ring.harvestIndex; index < ring.dirtyIndex; index++) {
    const { flags, slot: id, offset } = ring.entry(index);
    if (flags !== KVM_DIRTY_GFN.DIRTY) continue;
    ring.setFlags(index, KVM_DIRTY_GFN.RESET);
    const slot = vm.slots.get(id);
    // Of a slot that is gone: its pages were told of when it went.
    if (slot !== undefined && offset < slot.npages) to.page(slot, offset);
  }
  ring.harvestIndex = ring.dirtyIndex;
  ring.servedIndex = ring.dirtyIndex;
}
