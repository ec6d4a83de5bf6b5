// Owns: KVM_RESET_DIRTY_RINGS: takes harvested entries back and makes their pages log again.
// VM thread.
// @source virt/kvm/dirty_ring.c by behaviour; oracle README 4.4
import { KvmError } from "../base/errors.js";
import type { Hacdbs } from "./dirty/hacdbs.js";
import { RingClear } from "./dirty/ring-clear.js";
import type { DirtyLog } from "./dirty-log.js";
import type { RingEntry } from "./dirty-ring.js";
import { isReadOnly } from "./memslots.js";
import { POINT } from "./preemption.table.js";
import type { Op } from "./sched/scheduler.js";
import { KVM_USER_MEM_SLOTS } from "./uapi/flags.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/** Neighbouring entries of one slot, re-armed together: bit n is page offset + n. */
interface Run {
  slot: number;
  offset: number;
  mask: bigint;
}

const WORD_BITS = 64;
const WORD_MASK = (1n << 64n) - 1n;

export class RingReset {
  readonly #vm: Vm;
  readonly #log: DirtyLog;
  readonly #hacdbs: Hacdbs;

  constructor(vm: Vm, log: DirtyLog, hacdbs: Hacdbs) {
    this.#vm = vm;
    this.#log = log;
    this.#hacdbs = hacdbs;
  }

  /**
   * @returns entries taken back, summed over all vCPUs
   * @throws KvmError EINVAL no ring is enabled
   */
  *reset(): Op<number> {
    const vm = this.#vm;
    yield POINT["ioctl-start"];
    if (vm.caps.dirtyRingBytes === 0) {
      throw new KvmError("EINVAL", "KVM_RESET_DIRTY_RINGS", "the VM has no dirty rings");
    }
    yield* vm.slotsLock.lock();
    try {
      yield POINT["slots-lock-taken"];
      let count = 0;
      const array = this.#log.hardware.begin();
      const isHardware = typeof array !== "string";
      const clear = isHardware ? new RingClear(vm, this.#log, this.#hacdbs, array) : null;
      for (const vcpu of vm.vcpus) count += yield* this.#resetOne(vcpu, clear);
      if (clear !== null) yield* clear.finish();
      vm.counters.values.ringReset += count;
      if (count > 0) {
        yield POINT["ring-before-tlbi"];
        this.flush();
        vm.hdbss?.ringsHaveRoom();
      }
      return count;
    } finally {
      vm.slotsLock.unlock();
    }
  }

  *#resetOne(vcpu: Vcpu, clear: RingClear | null): Op<number> {
    const { ring } = vcpu;
    if (ring === null) return 0;
    let count = 0;
    let run: Run | null = null;
    for (let entry = ring.takeHarvested(); entry !== null; entry = ring.takeHarvested()) {
      count++;
      if (run !== null && extend(run, entry)) continue;
      if (run !== null) {
        yield POINT["ring-entry-reset"];
        yield* this.#rearm(run, clear);
      }
      run = { slot: entry.slot, offset: entry.offset, mask: 1n };
    }
    if (run !== null) {
      yield POINT["ring-entry-reset"];
      yield* this.#rearm(run, clear);
    }
    const { trace } = this.#vm;
    if (trace.isOn) {
      const { dirtyIndex, resetIndex } = ring;
      const fields = { dirty_index: dirtyIndex, reset_index: resetIndex };
      trace.add("kvm_dirty_ring_reset", vcpu.id, fields);
    }
    return count;
  }

  /** Re-arms a run; nothing of it when its slot is gone or its last page lies outside. */
  *#rearm(run: Run, clear: RingClear | null): Op<void> {
    const vm = this.#vm;
    if (run.slot >>> 16 !== 0 || run.slot >= KVM_USER_MEM_SLOTS) return;
    const slot = vm.slots.get(run.slot);
    const last = run.offset + run.mask.toString(2).length - 1;
    if (slot === undefined || last >= slot.npages) return;
    const lo = Number(run.mask & 0xffff_ffffn);
    const hi = Number(run.mask >> 32n);
    if (clear !== null && !isReadOnly(slot)) {
      yield* clear.add(slot, run.offset, lo, hi);
      return;
    }
    yield* vm.mmuLock.writeLock();
    try {
      this.#log.protectMasked(slot, run.offset, lo, hi);
    } finally {
      vm.mmuLock.writeUnlock();
    }
  }

  /** kvm_flush_remote_tlbs. */
  flush(): void {
    this.#vm.flushAll();
  }
}

/** Takes an entry into a run when it is near enough, forwards or backwards. */
function extend(run: Run, entry: RingEntry): boolean {
  if (entry.slot !== run.slot) return false;
  const delta = entry.offset - run.offset;
  if (delta >= 0 && delta < WORD_BITS) {
    run.mask |= 1n << BigInt(delta);
    return true;
  }
  // Backwards: only while no bit would be shifted out at the top.
  if (delta < 0 && delta > -WORD_BITS && run.mask << BigInt(-delta) <= WORD_MASK) {
    run.mask = (run.mask << BigInt(-delta)) | 1n;
    run.offset = entry.offset;
    return true;
  }
  return false;
}
