// Owns: HDBSS on and off for a whole VM: buffers, VTCR_EL2, and vCPUs held outside of the guest
// while both change. VM thread.
//
//   enable    buffers ─ halt ─ VTCR_EL2, flag ─ TLBI ─ resume      (each vCPU loads both anew)
//   disable   halt, drained at the put ─ VTCR_EL2, flag ─ TLBI ─ free ─ resume
// @source dirty-tracking.md 4.2, 4.6, 4.8 (B1, B4 to B6, B19)
import { KvmError } from "../../base/errors.js";
import { entriesOf } from "../../machine/index.js";
import type { DirtyLog } from "../dirty-log.js";
import { ringTakes } from "../dirty-ring.js";
import { isLogging } from "../memslots.js";
import { POINT } from "../preemption.table.js";
import type { Op } from "../sched/scheduler.js";
import type { Vcpu } from "../vcpu.js";
import type { Vm } from "../vm.js";
import { VCPU_REQUEST } from "./hdbss-buffer.js";
import type { HdbssBuffers } from "./hdbss-buffers.js";
import type { HdbssDrain } from "./hdbss-drain.js";
import { hasHdbss } from "./leaf-policy.js";

const ENABLE_CAP = "KVM_ENABLE_CAP";

interface Parts {
  readonly log: DirtyLog;
  readonly buffers: HdbssBuffers;
  readonly drain: HdbssDrain;
}

/** kvm_make_request with kvm_vcpu_kick. */
export function request(vm: Vm, vcpu: Vcpu, bit: number, kicks = true): void {
  vcpu.requests |= bit;
  if (!kicks || !vcpu.isInGuest) return;
  vm.counters.values.ipis++;
  const late = vm.host.faults.hit("kick-delayed", vcpu.id);
  vcpu.ipiStep = vm.sched.steps + (late?.delay ?? 0);
}

export class HdbssMode {
  readonly #vm: Vm;
  readonly #parts: Parts;

  constructor(vm: Vm, parts: Parts) {
    this.#vm = vm;
    this.#parts = parts;
  }

  get #isLogging(): boolean {
    return this.#vm.slots.list().some(isLogging);
  }

  /** Buffers belong to vCPUs for life; only the mode changes. */
  get #keepsBuffers(): boolean {
    return this.#vm.policies["hdbss.enableBy"] === "auto-buffers-at-vcpu-create";
  }

  /** Whether a vCPU that comes, or goes on, has a buffer. */
  get wantsBuffers(): boolean {
    return this.#vm.isHdbssOn || (this.#keepsBuffers && hasHdbss(this.#vm));
  }

  /** Gives every vCPU without one a buffer. @throws KvmError ENOMEM, EINVAL; then none is kept */
  #allocate(order: number): void {
    const { vcpus, seedBugs } = this.#vm;
    const made: Vcpu[] = [];
    for (const vcpu of vcpus) {
      if (vcpu.hdbss?.isHeld === true) continue;
      const errno = this.#parts.buffers.allocate(vcpu, order);
      if (errno === null) {
        made.push(vcpu);
        continue;
      }
      // The seed frees whatever has an address, stale ones too.
      for (const one of seedBugs.has("B1") ? vcpus : made) this.#parts.buffers.free(one);
      throw new KvmError(errno, ENABLE_CAP, `vCPU ${vcpu.id}'s buffer can't be had`);
    }
  }

  /** @throws KvmError ENOMEM, EINVAL */
  *enable(order: number): Op<void> {
    const vm = this.#vm;
    this.#checkRings(order);
    this.#allocate(order);
    vm.caps.hdbssOrder = order;
    if (this.#isAsynchronous) {
      this.#turnOn();
      this.#reloadAll();
      return;
    }
    yield* this.#halt();
    try {
      // A vCPU may have come while the others were on their way out.
      this.#allocate(order);
      this.#turnOn();
    } finally {
      this.#resume();
    }
    if (vm.sched.contended) yield POINT["hdbss-switched"];
  }

  *disable(): Op<void> {
    const vm = this.#vm;
    if (!vm.isHdbssOn) return;
    if (vm.seedBugs.has("B5")) for (const { hdbss } of vm.vcpus) if (hdbss) hdbss.isLive = false;
    if (this.#isAsynchronous) {
      this.#disableAtOnce();
      return;
    }
    yield* this.#halt();
    try {
      this.#turnOff();
      for (const vcpu of vm.vcpus) this.retire(vcpu);
    } finally {
      this.#resume();
    }
    if (vm.sched.contended) yield POINT["hdbss-switched"];
  }

  /** Nobody waits for vCPUs: by policy, or because the seed only kicks. */
  get #isAsynchronous(): boolean {
    const { policies, seedBugs } = this.#vm;
    return policies["hdbss.stop"] === "kick-only" || seedBugs.has("B4") || seedBugs.has("B6");
  }

  /** A vCPU that is loaded gives its buffer back at its next put; the seed frees all at once. */
  #disableAtOnce(): void {
    const vm = this.#vm;
    this.#turnOff();
    for (const vcpu of vm.vcpus) {
      const isLoaded = vcpu.cpu !== null;
      if (isLoaded && vm.seedBugs.has("B6") && !vm.seedBugs.has("B4")) {
        this.#parts.drain.live(vcpu, vcpu.cpu!, "sync");
      }
      if (!isLoaded || vm.seedBugs.has("B4") || vm.seedBugs.has("B6")) this.retire(vcpu);
    }
    this.#reloadAll();
  }

  /** HDBSS is off: what the vCPU's buffer still holds goes into the log, and the buffer goes. */
  retire(vcpu: Vcpu): void {
    const { hdbss } = vcpu;
    if (hdbss === null) return;
    if (!this.#vm.seedBugs.has("B5") && !hdbss.isLive) this.#parts.drain.parked(vcpu, "put");
    if (hdbss.index > 0) {
      // A ring had no room for the rest; their pages are writable-dirty, so a scan finds them.
      vcpu.rescanFrom = 0;
      vcpu.requests |= VCPU_REQUEST.RESCAN;
    }
    hdbss.index = 0;
    hdbss.errors = 0;
    if (!this.#keepsBuffers) this.#parts.buffers.free(vcpu);
  }

  #reloadAll(): void {
    const vm = this.#vm;
    for (const vcpu of vm.vcpus) {
      if (vcpu.cpu === null) continue;
      // The seed's kick alone brings the vCPU back with the registers that it had.
      request(vm, vcpu, vm.seedBugs.has("B6") ? 0 : VCPU_REQUEST.RELOAD);
    }
  }

  /** Takes every vCPU out of the guest and off its CPU, and lets none in until #resume. */
  *#halt(): Op<void> {
    const vm = this.#vm;
    vm.isHalted = true;
    for (const vcpu of vm.vcpus) if (vcpu.cpu !== null) request(vm, vcpu, VCPU_REQUEST.HALT);
    if (vm.sched.contended) yield POINT["hdbss-halting"];
    while (vm.vcpus.some(({ cpu }) => cpu !== null)) yield vm.cpuFree;
  }

  *whileHalted(op: () => Op<void>): Op<void> {
    yield* this.#halt();
    try {
      yield* op();
    } finally {
      this.#resume();
    }
  }

  #resume(): void {
    this.#vm.isHalted = false;
    this.#vm.cpuFree.wake();
  }

  #turnOn(): void {
    const vm = this.#vm;
    if (vm.isDbm) this.#keepScanned();
    vm.isHdbssOn = true;
    this.#program(this.#isLogging);
    for (const vcpu of vm.vcpus) this.reserve(vcpu);
  }

  #turnOff(): void {
    const vm = this.#vm;
    vm.isHdbssOn = false;
    vm.asyncClean?.hardwareWent();
    this.#program(this.#isLogging);
    for (const vcpu of vm.vcpus) this.reserve(vcpu);
  }

  /** Until now dirty descriptors were the record; from here on nobody scans for them. */
  #keepScanned(): void {
    const { slots, tables } = this.#vm;
    for (const { dirtyBitmap, baseGfn, npages } of slots.list()) {
      if (dirtyBitmap === null) continue;
      tables.scanDirty(baseGfn, baseGfn + npages, (page) => {
        this.#parts.log.setBit(dirtyBitmap, page - baseGfn);
      });
    }
  }

  #program(logs: boolean): void {
    const vm = this.#vm;
    vm.vtcr = vm.vtcrFor(logs);
    // TLBs may hold what the old mode allowed.
    if (!vm.seedBugs.has("B19")) vm.flushAll();
  }

  /** Leaves room in the vCPU's ring for all that its buffer may hold. */
  reserve({ ring, hdbss }: Vcpu): void {
    if (ring === null) return;
    const { isHdbssOn, policies } = this.#vm;
    const wants = isHdbssOn && hdbss !== null && policies["hdbss.ring"] === "reserve";
    ring.reserved = wants ? entriesOf(hdbss.sz) : 0;
    if (ring.isSoftFull()) ring.softFullRequested = true;
  }

  /** @throws KvmError EINVAL a ring that a full buffer would overflow */
  #checkRings(order: number): void {
    // A vCPU, and so its ring, may come later.
    if (this.fitsRings(this.#vm.caps.dirtyRingBytes, order)) return;
    throw new KvmError("EINVAL", ENABLE_CAP, "the rings have no room for a full buffer");
  }

  /** Whether rings of so many bytes, 0 for none, leave room for a full buffer. */
  fitsRings(bytes: number, order: number): boolean {
    if (bytes === 0 || this.#vm.policies["hdbss.ring"] !== "reserve") return true;
    return ringTakes(bytes, this.#parts.buffers.entries(order));
  }

  /** VTCR_EL2 for VMs that let hardware dirty pages as long as nobody logs. */
  *recompute(logs: boolean): Op<void> {
    const vm = this.#vm;
    if (vm.vtcrFor(logs) === vm.vtcr) return;
    yield* this.#halt();
    this.#program(logs);
    this.#resume();
  }
}
