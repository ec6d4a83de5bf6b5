// Owns: a vCPU's dirty ring: struct kvm_dirty_gfn entries as bytes in host memory. VM thread.
//
//   flags: 0 ──push──▶ DIRTY(1) ──userspace──▶ RESET(2) ──reset──▶ 0
//   resetIndex ≤ dirtyIndex; used = dirtyIndex - resetIndex; 64 entries are kept back
// @source virt/kvm/dirty_ring.c by behaviour; oracle README 4.4
import type { Saved } from "../base/saved.js";
import type { Host } from "../machine/index.js";
import { KVM_DIRTY_GFN, KVM_DIRTY_GFN_BYTES, KVM_DIRTY_RING_RSVD_ENTRIES } from "./uapi/flags.js";

export interface RingEntry {
  readonly index: number;
  readonly flags: number;
  readonly slot: number;
  readonly offset: number;
}

/** Whether a ring of so many bytes can keep so many entries back. */
export function ringTakes(bytes: number, entries: number): boolean {
  return bytes / KVM_DIRTY_GFN_BYTES - KVM_DIRTY_RING_RSVD_ENTRIES > entries;
}

export class DirtyRing {
  readonly pa: number;
  /** Entries, a power of two. */
  readonly size: number;
  /** Absolute indexes: they count up without wrap. */
  dirtyIndex = 0;
  resetIndex = 0;
  /** Userspace's own index: entries before it were marked RESET through `harvest`. */
  harvestIndex = 0;
  /** One past the last entry that a read has served. */
  servedIndex = 0;
  /** KVM_REQ_DIRTY_RING_SOFT_FULL. */
  softFullRequested = false;
  /** Entries kept back for a hardware buffer that a drain may push at once. */
  reserved = 0;
  readonly #host: Host;

  constructor(host: Host, pa: number, bytes: number) {
    this.#host = host;
    this.pa = pa;
    this.size = bytes / KVM_DIRTY_GFN_BYTES;
  }

  get #softLimit(): number {
    return this.size - KVM_DIRTY_RING_RSVD_ENTRIES - this.reserved;
  }

  get hasRoom(): boolean {
    return this.dirtyIndex - this.resetIndex < this.size;
  }

  isSoftFull(): boolean {
    return this.dirtyIndex - this.resetIndex >= this.#softLimit;
  }

  #word(index: number): number {
    return (this.pa + (index & (this.size - 1)) * KVM_DIRTY_GFN_BYTES) >>> 2;
  }

  /** Adds an entry; its flags are written last, as the release ordering demands. */
  push(slot: number, offset: number): void {
    const at = this.#word(this.dirtyIndex);
    const words = this.#host.memory.u32;
    words[at + 1] = slot;
    words[at + 2] = offset;
    words[at + 3] = 0;
    words[at] = KVM_DIRTY_GFN.DIRTY;
    this.dirtyIndex++;
    if (this.isSoftFull()) this.softFullRequested = true;
  }

  entry(index: number): RingEntry {
    const at = this.#word(index);
    const words = this.#host.memory.u32;
    const offset = words[at + 3]! * 0x1_0000_0000 + words[at + 2]!;
    return { index, flags: words[at]!, slot: words[at + 1]!, offset };
  }

  setFlags(index: number, flags: number): void {
    this.#host.memory.u32[this.#word(index)] = flags;
  }

  /**
   * Takes back the next harvested entry.
   * @returns it, or null when the next one lacks RESET
   */
  takeHarvested(): RingEntry | null {
    const entry = this.entry(this.resetIndex);
    if ((entry.flags & KVM_DIRTY_GFN.RESET) === 0) return null;
    this.setFlags(this.resetIndex, 0);
    this.resetIndex++;
    this.harvestIndex = Math.max(this.harvestIndex, this.resetIndex);
    return entry;
  }

  save(): Saved {
    const data = {
      pa: this.pa,
      size: this.size,
      dirtyIndex: this.dirtyIndex,
      resetIndex: this.resetIndex,
      harvestIndex: this.harvestIndex,
      servedIndex: this.servedIndex,
      softFullRequested: this.softFullRequested,
      reserved: this.reserved,
    };
    return { kind: "dirty-ring", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as Record<string, number> & { softFullRequested: boolean };
    this.dirtyIndex = data["dirtyIndex"]!;
    this.resetIndex = data["resetIndex"]!;
    this.harvestIndex = data["harvestIndex"]!;
    this.servedIndex = data["servedIndex"]!;
    this.reserved = data["reserved"]!;
    this.softFullRequested = data.softFullRequested;
  }
}
