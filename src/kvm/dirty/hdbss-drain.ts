// Owns: HDBSS entries on their way into the dirty log: the drain, and what is done when entries
// were lost. VM thread.
//
//   DSB ─ INDEX, FSC ─ SRCU{ entry ─ its pages ─ mark }* ─ FSC ≠ 0: mark everything ─ PROD = 0, ISB
// @source S1 (kvm_flush_hdbss_buffer); dirty-tracking.md 4.4, 4.6, 4.8 (B7, B12 to B14, B16, B22)
import {
  decodeEntry,
  decodeProd,
  ENTRY_BYTES,
  encodeProd,
  entriesOf,
  HDBSS_FSC,
  type HostCpu,
} from "../../machine/index.js";
import type { CounterName } from "../counters.js";
import type { DirtyLog } from "../dirty-log.js";
import { isLogging, type Memslot } from "../memslots.js";
import type { Vcpu } from "../vcpu.js";
import type { Vm } from "../vm.js";
import { type HdbssBuffer, VCPU_REQUEST } from "./hdbss-buffer.js";

type Why = "put" | "request" | "fault" | "exit" | "sync";

const COUNTER_OF: Readonly<Record<Why, CounterName>> = {
  put: "hdbssDrainsPut",
  request: "hdbssDrainsRequest",
  fault: "hdbssDrainsFault",
  exit: "hdbssDrainsExit",
  sync: "hdbssDrainsSync",
};

/** Pages looked at between two looks at a ring's room; a ring keeps as many back. */
const RESCAN_PAGES = 64;

export class HdbssDrain {
  readonly #vm: Vm;
  readonly #log: DirtyLog;

  constructor(vm: Vm, log: DirtyLog) {
    this.#vm = vm;
    this.#log = log;
  }

  /** The vCPU is out of the guest, and loaded on `cpu`. */
  live(vcpu: Vcpu, cpu: HostCpu, why: Why): void {
    const { seedBugs, host } = this.#vm;
    const buffer = vcpu.hdbss;
    if (buffer === null) return;
    if (!buffer.isLive) {
      // The registers are another buffer's, or nobody's.
      if (!seedBugs.has("B7")) return;
      host.diagnostics.report("hdbss-index-not-owned", `vCPU ${vcpu.id}, CPU ${cpu.index}`);
    }
    if (!seedBugs.has("B12")) cpu.dsb();
    const { index, fsc } = decodeProd(cpu.mrs("HDBSSPROD_EL2"));
    if (index === 0 && fsc === HDBSS_FSC.NONE) return;
    const kept = this.#consume(vcpu, buffer, index, why);
    if (fsc !== HDBSS_FSC.NONE && !seedBugs.has("B14")) this.lost(vcpu, fsc);
    cpu.msr("HDBSSPROD_EL2", encodeProd(kept, HDBSS_FSC.NONE));
    cpu.isb();
  }

  /** The vCPU isn't loaded: what its last put has left in memory. */
  parked(vcpu: Vcpu, why: Why): void {
    const buffer = vcpu.hdbss;
    if (buffer === null || (buffer.index === 0 && buffer.fsc === HDBSS_FSC.NONE)) return;
    const { fsc } = buffer;
    buffer.index = this.#consume(vcpu, buffer, buffer.index, why);
    // The copy of the registers is older than this.
    buffer.raw = null;
    buffer.fsc = HDBSS_FSC.NONE;
    if (fsc !== HDBSS_FSC.NONE && !this.#vm.seedBugs.has("B14")) this.lost(vcpu, fsc);
  }

  /** @returns entries that stay, moved to the front: the ring had no room for them */
  #consume(vcpu: Vcpu, buffer: HdbssBuffer, index: number, why: Why): number {
    const vm = this.#vm;
    const { values } = vm.counters;
    const { u32 } = vm.host.memory;
    const count = vm.seedBugs.has("B7") ? index : Math.min(index, entriesOf(buffer.sz));
    values[COUNTER_OF[why]]++;
    const epoch = vm.srcu.readLock();
    let kept = 0;
    for (let slot = 0; slot < count; slot++) {
      const at = (buffer.pa + slot * ENTRY_BYTES) / 4;
      const lo = u32[at]!;
      const hi = u32[at + 1]!;
      const { valid, level, ipa } = decodeEntry(lo, hi);
      if (!valid || level === null) {
        values.hdbssInvalidSlots++;
      } else if (this.#hasRoom(vcpu)) {
        this.#mark(vcpu, buffer, ipa, level);
        values.hdbssDrainedEntries++;
      } else {
        const to = (buffer.pa + kept++ * ENTRY_BYTES) / 4;
        u32[to] = lo;
        u32[to + 1] = hi;
      }
    }
    vm.srcu.readUnlock(epoch);
    return kept;
  }

  /** A ring without a bitmap beside it takes only what it has room for. */
  #hasRoom({ ring, id }: Vcpu): boolean {
    const { caps, seedBugs, host } = this.#vm;
    if (caps.dirtyRingBytes === 0 || ring === null || ring.hasRoom) return true;
    if (seedBugs.has("B22")) {
      host.diagnostics.report("ring-overflow", `vCPU ${id}`);
      return true;
    }
    return caps.dirtyRingWithBitmap;
  }

  /** Every page of the leaf that the entry names; pages that no slot has any more are dropped. */
  #mark(vcpu: Vcpu, buffer: HdbssBuffer, ipa: number, level: number): void {
    const { host, seedBugs } = this.#vm;
    const { size, levelSizes } = host.geometry;
    const first = Math.floor(ipa / size);
    const end = first + (seedBugs.has("B13") ? 1 : levelSizes[level]! / size);
    for (let gfn = first; gfn < end; ) {
      const slot = this.#find(buffer, gfn);
      if (slot === undefined) {
        gfn++;
        continue;
      }
      const stop = Math.min(end, slot.baseGfn + slot.npages);
      for (; gfn < stop; gfn++) {
        const ring = vcpu.ring?.hasRoom === true || seedBugs.has("B22") ? vcpu.ring : null;
        this.#log.mark(slot, gfn - slot.baseGfn, ring, vcpu.id);
      }
    }
  }

  #find({ staleSlots }: HdbssBuffer, gfn: number): Memslot | undefined {
    const { slots, seedBugs, host } = this.#vm;
    if (!seedBugs.has("B16") || staleSlots === null) return slots.find(gfn);
    // Without SRCU nothing keeps a slot from being freed between the look-up and its use.
    const stale = staleSlots.find((s) => gfn >= s.baseGfn && gfn < s.baseGfn + s.npages);
    const slot = stale as Memslot | undefined;
    const bitmap = slot?.dirtyBitmap ?? null;
    if (bitmap !== null && slots.get(slot!.id)?.dirtyBitmap !== bitmap) {
      host.diagnostics.report("slot-used-after-free", `slot ${slot!.id}`);
    }
    return slot;
  }

  /** One entry or more never reached memory: nobody knows which page it would have named. */
  lost(vcpu: Vcpu, fsc: number): void {
    const { counters, caps, policies } = this.#vm;
    const { values } = counters;
    if (fsc === HDBSS_FSC.GPF) values.hdbssErrorsGpf++;
    else values.hdbssErrorsAbort++;
    if (caps.dirtyRingBytes !== 0 && !caps.dirtyRingWithBitmap) {
      vcpu.rescanFrom = 0;
      vcpu.requests |= VCPU_REQUEST.RESCAN;
    } else {
      this.#markAll();
    }
    if (vcpu.hdbss === null) return;
    vcpu.hdbss.errors++;
    if (vcpu.hdbss.errors >= policies["hdbss.maxErrors"]) {
      vcpu.requests |= VCPU_REQUEST.FALL_BACK;
    }
  }

  #markAll(): void {
    const { slots, counters } = this.#vm;
    for (const slot of slots.list()) {
      if (!isLogging(slot) || slot.dirtyBitmap === null) continue;
      this.#log.setAll(slot.dirtyBitmap, slot.npages);
      counters.values.hdbssConservativeMarks += slot.npages;
    }
  }

  /** Pushes writable-dirty pages, as many as the ring takes before its soft limit. */
  rescan(vcpu: Vcpu): void {
    const vm = this.#vm;
    const { ring } = vcpu;
    if (ring === null) return;
    for (const slot of vm.slots.list()) {
      const end = slot.baseGfn + slot.npages;
      if (!isLogging(slot) || end <= vcpu.rescanFrom) continue;
      const base = Math.max(slot.baseGfn, vcpu.rescanFrom);
      for (let page = vm.tables.nextMapped(base, end); page < end; ) {
        const stop = Math.min(end, page + RESCAN_PAGES);
        if (ring.isSoftFull()) {
          ring.softFullRequested = true;
          vcpu.rescanFrom = page;
          return;
        }
        vm.tables.scanDirty(page, stop, (dirty) => {
          this.#log.mark(slot, dirty - slot.baseGfn, ring, vcpu.id);
          vm.counters.values.hdbssConservativeMarks++;
        });
        page = vm.tables.nextMapped(stop, end);
      }
    }
    vcpu.rescanFrom = -1;
    vcpu.requests &= ~VCPU_REQUEST.RESCAN;
  }
}
