// Owns: the memory of HDBSS buffers: from where, how large, whose. VM thread.
// @source dirty-tracking.md 2.1, 4.2, 4.6, 4.8 (B1, B2, B17)
import { SZ_MAX, SZ_UNIT_BYTES } from "../../machine/index.js";
import type { Vcpu } from "../vcpu.js";
import type { Vm } from "../vm.js";
import type { HdbssBuffer } from "./hdbss-buffer.js";

/** Pages of a VM for which order 0 is enough: 2^15. */
const PAGES_OF_ORDER_0 = 2 ** 15;

interface Plan {
  readonly frames: number;
  readonly sz: number;
}

/** The order that KVM picks by itself. */
export function ownOrder(vm: Vm): number {
  if (vm.caps.hdbssBufferBytes !== 0) return Math.log2(vm.caps.hdbssBufferBytes / SZ_UNIT_BYTES);
  const size = vm.policies["hdbss.size"];
  if (size >= 0) return size;
  const pages = vm.slots.list().reduce((sum, slot) => sum + slot.npages, 0);
  const order = Math.floor(Math.log2(Math.max(1, pages) / PAGES_OF_ORDER_0));
  return Math.min(SZ_MAX, Math.max(0, order));
}

export class HdbssBuffers {
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** Whole pages at least, and SZ says exactly what there is. */
  #plan(order: number): Plan {
    const { pageSize, caps, policies, seedBugs } = this.#vm;
    // The seed takes one number for both.
    if (seedBugs.has("B2")) return { frames: 2 ** order, sz: order };
    const isPinned = caps.dirtyRingBytes !== 0 && policies["hdbss.ring"] === "reserve";
    const bytes = isPinned ? pageSize : Math.max(pageSize, SZ_UNIT_BYTES * 2 ** order);
    return { frames: bytes / pageSize, sz: Math.log2(bytes / SZ_UNIT_BYTES) };
  }

  /** Entries that a buffer of this order holds. */
  entries(order: number): number {
    return (SZ_UNIT_BYTES / 8) * 2 ** this.#plan(order).sz;
  }

  /** @returns errno, or null with vcpu.hdbss set */
  allocate(vcpu: Vcpu, order: number): "ENOMEM" | "EINVAL" | null {
    const { host, account, policies, pageSize, counters } = this.#vm;
    if (host.faults.hit("hdbss-alloc", vcpu.id) !== null) return "ENOMEM";
    const { frames, sz } = this.#plan(order);
    const shift = host.faults.hit("hdbss-misaligned", vcpu.id) === null ? 0 : 1;
    const bytes = (frames + shift) * pageSize;
    if (!account.charge(bytes)) return "ENOMEM";
    const start = host.frames.allocate(frames + shift, frames);
    if (start < 0) {
      account.release(bytes);
      return "ENOMEM";
    }
    const pa = start + shift * pageSize;
    if (pa % (frames * pageSize) !== 0) {
      const where = `0x${pa.toString(16)}, ${frames * pageSize} bytes`;
      host.diagnostics.report("hdbss-misaligned-base", where);
      if (policies["hdbss.alignCheck"] === "check") {
        host.frames.release(start, frames + shift);
        account.release(bytes);
        return "EINVAL";
      }
    }
    host.diagnostics.own(pa, frames * pageSize, vcpu.id);
    counters.values.bytesHdbssBuffers += bytes;
    vcpu.hdbss = newBuffer(pa, { pa: start, frames: frames + shift, bytes }, sz);
    return null;
  }

  free(vcpu: Vcpu): void {
    const { host, account, counters, seedBugs } = this.#vm;
    const buffer = vcpu.hdbss;
    if (buffer === null) return;
    if (!buffer.isHeld) {
      this.reportFree(buffer.pa);
      return;
    }
    const { pa, frames, bytes } = buffer.allocated;
    host.frames.release(pa, frames);
    host.diagnostics.disown(buffer.pa);
    account.release(bytes);
    counters.values.bytesHdbssBuffers -= bytes;
    buffer.isHeld = false;
    buffer.isLive = false;
    // The seed zeroes the size and keeps the address.
    if (seedBugs.has("B1")) buffer.sz = 0;
    else vcpu.hdbss = null;
  }

  /** Somebody gives back what isn't theirs. */
  reportFree(pa: number): void {
    this.#vm.host.diagnostics.report("page-freed-twice", `0x${pa.toString(16)}`);
  }
}

function newBuffer(pa: number, allocated: HdbssBuffer["allocated"], sz: number): HdbssBuffer {
  return {
    pa,
    allocated,
    sz,
    index: 0,
    fsc: 0,
    raw: null,
    isLive: false,
    isHeld: true,
    errors: 0,
    staleSlots: null,
  };
}
