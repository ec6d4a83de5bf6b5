// Owns: running HACDBS on a host CPU: which CPU, its stage 2, a batch from start to end. VM thread.
//
//   borrow a CPU ─ VTCR, VTTBR, HCR.VM ─ ISB ─ CONS = 0, BR = array | EN ─ wait ─ BR = 0 ─ DSB
//                                                  ▲ INDEX + 1, ERR = 0 ◀── error at an entry
// @source dirty-tracking.md 5.2, 5.3, 6
import type { Saved } from "../../base/saved.js";
import {
  BR_EN,
  decodeCons,
  ERR_REASON,
  encodeCons,
  HCR_VM,
  type HostCpu,
} from "../../machine/index.js";
import type { Op } from "../sched/scheduler.js";
import type { Vm } from "../vm.js";
import { Completion } from "./completion.js";
import { interruptOf } from "./discovery.js";
import type { EntryArray } from "./entry-array.js";

export interface BatchResult {
  /** Entries before this one are dealt with: clean, or in `refused`. */
  readonly done: number;
  /** Hardware was started: it may have cleaned beyond `done` too. */
  readonly isStarted: boolean;
  /** INDEX at the first error, or at the end. */
  readonly firstIndex: number;
  /** Entries that hardware could not clean, and that software is to. */
  readonly refused: readonly number[];
}

const NOT_STARTED: BatchResult = { done: 0, isStarted: false, firstIndex: 0, refused: [] };

export class Hacdbs {
  /** Entries that are in no bitmap, and not clean for sure. */
  inFlight = 0;
  /** D20: an array as its last user left it; 0 for none. */
  slab = 0;
  readonly #vm: Vm;
  /** CPUs whose HACDBSIRQ is not set up: kvm_hacdbs_cpu_down(). */
  readonly #down = new Set<number>();

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** Whether the policy wants it here; whether it can be had is another question. */
  get isWanted(): boolean {
    const use = this.#vm.policies["hacdbs.use"];
    return use === "with-dbm" || (use === "with-hdbss" && this.#vm.isHdbssOn);
  }

  /** kvm_arch_dirty_clear_enabled(). */
  get isUsable(): boolean {
    const cpu = this.#candidate();
    return cpu !== null && this.isUsableOn(cpu);
  }

  /** The same for one CPU. */
  isUsableOn(cpu: HostCpu): boolean {
    const { host, isManaged } = this.#vm;
    const { model } = host;
    const isThere = model["hardware.hacdbs"] && model["hardware.vhe"];
    return isThere && isManaged && this.isEligible(cpu);
  }

  /** Whether this CPU's state is IDLE, not OFF: modes with an interrupt need one. */
  isEligible(cpu: HostCpu): boolean {
    return !this.#usesIrq || this.#hasIrq(cpu);
  }

  get #usesIrq(): boolean {
    const mode = this.#vm.policies["hacdbs.completion"];
    return mode === "irq-wfi" || mode === "irq-or-poll";
  }

  #hasIrq(cpu: HostCpu): boolean {
    return !this.#down.has(cpu.index) && interruptOf(this.#vm, cpu.index) !== null;
  }

  cpuDown(index: number): void {
    this.#down.add(index);
  }

  cpuUp(index: number): void {
    this.#down.delete(index);
  }

  /** Where the caller's thread would run now. */
  #candidate(): HostCpu | null {
    const free = this.#vm.freeCpu();
    if (free !== undefined) return free;
    const loaded = this.#vm.vcpus.filter((vcpu) => vcpu.cpu !== null);
    // One that handles an exit comes last: it holds what it looked up.
    const victim = loaded.find((vcpu) => !vcpu.isExiting) ?? loaded[0];
    return victim?.cpu ?? null;
  }

  /** Puts the caller's thread on a CPU; whoever was loaded there is scheduled out. */
  #borrow(): HostCpu | null {
    const vm = this.#vm;
    const cpu = this.#candidate();
    if (cpu === null) return null;
    const victim = vm.vcpus.find((vcpu) => vcpu.cpu === cpu);
    vm.borrowed.add(cpu);
    if (victim !== undefined) vm.putVcpu(victim);
    return cpu;
  }

  #giveBack(cpu: HostCpu): void {
    this.#vm.borrowed.delete(cpu);
    this.#vm.cpuFree.wake();
  }

  /** One array; mmu_lock is held for writing. Eligibility is tested with preemption off: here. */
  *batch(array: EntryArray): Op<BatchResult> {
    const vm = this.#vm;
    const { seedBugs } = vm;
    const cpu = this.#borrow();
    if (cpu === null) return NOT_STARTED;
    try {
      if (!this.isEligible(cpu) && !seedBugs.has("D7")) return NOT_STARTED;
      const vtcr = cpu.mrs("VTCR_EL2");
      const vttbr = cpu.mrs("VTTBR_EL2");
      const hcr = cpu.mrs("HCR_EL2");
      cpu.msr("HCR_EL2", HCR_VM);
      cpu.msr("VTCR_EL2", vm.vtcr);
      cpu.msr("VTTBR_EL2", vm.vttbr);
      if (!seedBugs.has("D17")) cpu.isb();
      array.terminate(seedBugs.has("D20"));
      const result = yield* this.#counted(cpu, array);
      cpu.msr("HACDBSBR_EL2", 0n);
      // What is still being fetched or walked is over before the array changes hands.
      if (!seedBugs.has("D16")) cpu.dsb();
      if (!seedBugs.has("D18")) {
        cpu.msr("VTCR_EL2", vtcr);
        cpu.msr("VTTBR_EL2", vttbr);
      }
      cpu.msr("HCR_EL2", hcr);
      cpu.isb();
      return result;
    } finally {
      this.#giveBack(cpu);
    }
  }

  *#counted(cpu: HostCpu, array: EntryArray): Op<BatchResult> {
    const { values } = this.#vm.counters;
    const { entries, cleaned, alreadyClean, skipped, terminators } = cpu.hacdbs;
    values.hacdbsBatches++;
    const result = yield* this.#run(cpu, array);
    values.hacdbsEntries += cpu.hacdbs.entries - entries;
    values.hacdbsCleaned += cpu.hacdbs.cleaned - cleaned;
    values.hacdbsAlreadyClean += cpu.hacdbs.alreadyClean - alreadyClean;
    values.hacdbsInvalidSkipped += cpu.hacdbs.skipped - skipped;
    values.hacdbsTerminators += cpu.hacdbs.terminators - terminators;
    return result;
  }

  *#run(cpu: HostCpu, array: EntryArray): Op<BatchResult> {
    const vm = this.#vm;
    const { count } = array;
    const start = BigInt(array.pa) | BigInt(array.sz) | BR_EN;
    const completion = new Completion(vm, cpu, count, this.#usesIrq && this.#hasIrq(cpu));
    const refused: number[] = [];
    let firstIndex = -1;
    cpu.msr("HACDBSCONS_EL2", 0n);
    cpu.msr("HACDBSBR_EL2", start);
    for (;;) {
      const isInTime = yield* completion.wait();
      const { index, err } = decodeCons(cpu.mrs("HACDBSCONS_EL2"));
      if (!isInTime) vm.counters.values.hacdbsTimeouts++;
      if (firstIndex < 0) firstIndex = index;
      // By INDEX alone: what the terminator raises is up to the implementation.
      const isAllDone = index >= count;
      const isTakenForDone = vm.seedBugs.has("D10") && completion.isDone && err === ERR_REASON.NOF;
      if (isAllDone || isTakenForDone) {
        return { done: count, isStarted: true, firstIndex, refused };
      }
      this.#countError(err);
      if (!isInTime || !this.#skips(err)) {
        return { done: index, isStarted: true, firstIndex, refused };
      }
      refused.push(index);
      cpu.msr("HACDBSCONS_EL2", encodeCons(index + 1, ERR_REASON.NOF));
      completion.resume();
      cpu.msr("HACDBSBR_EL2", start);
    }
  }

  /** Whether hardware goes on behind an entry with this error. */
  #skips(err: number): boolean {
    const { policies, seedBugs } = this.#vm;
    if (err === ERR_REASON.STRUCTF || seedBugs.has("D12")) return false;
    return policies["clear.onError"] === "skip-and-software";
  }

  #countError(err: number): void {
    const { values } = this.#vm.counters;
    if (err === ERR_REASON.STRUCTF) values.hacdbsErrStructf++;
    else if (err === ERR_REASON.IPAF) values.hacdbsErrIpaf++;
    else if (err === ERR_REASON.IPAHACF) values.hacdbsErrIpahacf++;
  }

  save(): Saved {
    return { kind: "hacdbs-driver", version: 1, data: { down: [...this.#down], slab: this.slab } };
  }

  load(saved: Saved): void {
    const { down, slab } = saved.data as { down: number[]; slab: number };
    this.slab = slab;
    this.#down.clear();
    for (const index of down) this.#down.add(index);
  }
}
