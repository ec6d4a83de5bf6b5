// Owns: KVM_RUN: enter the guest, leave it, handle the exit, until userspace has to act. VM thread.
// @source arch/arm64/kvm/arm.c (kvm_arch_vcpu_ioctl_run), mmio.c by behaviour; kvm-uapi.md 8.4
import { assert } from "../base/assert.js";
import { ServiceError } from "../base/errors.js";
import { type A64Engine, EC, type HostCpu, type Stop } from "../machine/index.js";
import {
  armWakeUp,
  hasPendingInterrupt,
  isAsleep,
  outputLines,
  shouldNotifyUser,
} from "./device-lines.js";
import { hypercall } from "./firmware/hypercalls.js";
import { SYSTEM_EVENT } from "./firmware/smccc.table.js";
import { showGic } from "./id-regs.js";
import type { Mmu } from "./mmu.js";
import { hasPmu } from "./pmu.js";
import { POINT } from "./preemption.table.js";
import { type Op, Waitable } from "./sched/scheduler.js";
import { KVM_MP_STATE } from "./uapi/flags.js";
import type { MmioExit, RunOutcome, Vcpu } from "./vcpu.js";
import { SERROR_ISS_DEFAULT } from "./vcpu-events.js";
import { applyReset } from "./vcpu-init.js";
import type { Vm } from "./vm.js";

/** What KVM_EXIT_ARM_NISV tells of a syndrome: CM, WnR, FSC. */
const NISV_ISS = 0x17fn;
/** What KVM_EXIT_ARM_SEA tells: EC, IL, FnV, EA, CM, WnR, FSC. */
const SEA_ESR = 0xfe00_077fn;
const GPA_VALID = 1n;

/** What an exit counts for in a slice, in accesses: about what it takes of this machine's time. */
const EXIT_COST = 16;

export interface RunArgs {
  readonly immediateExit: boolean;
  /** Answer to the MMIO load that the last run left with; null when there was none. */
  readonly mmioData: Uint8Array | null;
}

const INTERRUPTED: RunOutcome = { errno: "EINTR", exitReason: "KVM_EXIT_INTR" };

export class RunLoop {
  readonly #vm: Vm;
  readonly #mmu: Mmu;
  /** Why the guest was left last; read in the step in which it was set. */
  #stop: Stop = "slice";
  /** Aborts since the guest was entered that took no exit. */
  #answered = 0;
  /** The last exit was a WFE: its turn is over. */
  #spins = false;
  /** vCPUs that wait for a host CPU, longest first: one that gave its own up goes to the end. */
  readonly #queue: Vcpu[] = [];
  /** Since when, in ticks. */
  readonly #queuedAt = new Map<Vcpu, bigint>();

  constructor(vm: Vm, mmu: Mmu) {
    this.#vm = vm;
    this.#mmu = mmu;
  }

  /**
   * KVM_RUN of one vCPU; accepted at once, so that a kick that follows finds it running.
   * @throws ServiceError "vcpu-running" when the vCPU is in RUN already; KvmError EIO
   */
  run(vcpu: Vcpu, args: RunArgs): Op<RunOutcome> {
    const vm = this.#vm;
    vm.checkAlive("KVM_RUN");
    if (vcpu.running) {
      throw new ServiceError(
        "vcpu-running",
        `vCPU ${vcpu.id} is in KVM_RUN already; kick it first`,
      );
    }
    vcpu.running = true;
    if (isReadyToRun(vcpu)) this.#beginRunning();
    return this.#run(vcpu, args);
  }

  /** kvm_finalize_sys_regs: what no device has decided by now stays as it is without one. */
  #beginRunning(): void {
    const vm = this.#vm;
    if (!vm.hasRun && !vm.irqchipInKernel) showGic(vm, "none");
    vm.hasRun = true;
  }

  *#run(vcpu: Vcpu, args: RunArgs): Op<RunOutcome> {
    const vm = this.#vm;
    try {
      if (!isReadyToRun(vcpu)) {
        return { errno: "EINVAL", exitReason: vcpu.lastExit ?? "KVM_EXIT_UNKNOWN" };
      }
      const errno = vm.vgic.firstRun();
      if (errno !== null) return { errno, exitReason: vcpu.lastExit ?? "KVM_EXIT_UNKNOWN" };
      applyReset(vcpu);
      this.#completeMmio(vcpu, args.mmioData);
      if (args.immediateExit) {
        return { errno: "EINTR", exitReason: vcpu.lastExit ?? "KVM_EXIT_UNKNOWN" };
      }
      let credit = 0;
      for (;;) {
        if (vm.sched.contended || credit <= 0) {
          yield credit <= 0 ? POINT["guest-slice"] : POINT["run-entry"];
          credit = vm.sched.sliceBudget(vcpu.engine.sliceMax);
        }
        if (vcpu.requests !== 0 && vm.hdbss?.hasNoticed(vcpu)) yield* vm.hdbss.serve(vcpu);
        // Work that was put off is done before a guest goes on.
        if (vm.jobs.length > 0) vm.jobs.drain();
        if (vm.asyncClean?.hasRefused === true) yield* vm.asyncClean.cleanRefused();
        if (vm.ringReaper !== null && !vcpu.kicked && this.#ringIsFull(vcpu)) {
          yield* this.#reap(vcpu, vm.ringReaper);
          continue;
        }
        const wait = this.#entry(vcpu);
        if (vm.trace.isOn && wait !== null) vm.trace.leave(vcpu, "IRQ");
        if (wait instanceof Waitable) {
          yield wait;
          continue;
        }
        let outcome = wait;
        if (outcome === null) {
          credit -= this.#guest(vcpu, credit);
          if (this.#stop === "slice" || this.#stop === "line") continue;
          vcpu.isExiting = true;
          outcome = yield* this.#exit(vcpu);
          vcpu.isExiting = false;
          if (this.#spins) credit = 0;
          this.#spins = false;
          if (outcome === null) continue;
        }
        vcpu.lastExit = outcome.exitReason;
        if (!vm.irqchipInKernel) vcpu.deviceIrqLevel = outputLines(vcpu);
        vcpu.pendingMmio = outcome.mmio ?? null;
        if (vm.trace.isOn) traceUserspaceExit(vm, vcpu, outcome);
        return outcome;
      }
    } finally {
      vm.timers.disarm(vcpu);
      vm.throttle.leave(vcpu);
      vm.missing?.leave(vcpu);
      this.#leaveQueue(vcpu);
      vm.putVcpu(vcpu);
      vcpu.running = false;
      vcpu.isExiting = false;
      vcpu.kicked = false;
      vm.runEnded.wake();
    }
  }

  /** The MMIO of the last exit is completed by the next run, before anything else. */
  #completeMmio(vcpu: Vcpu, data: Uint8Array | null): void {
    const pending = vcpu.pendingMmio;
    vcpu.pendingMmio = null;
    if (pending === null || !vcpu.engine.hasPending) return;
    const loaded = pending.isWrite ? null : loadBytes(pending, data);
    const { trace } = this.#vm;
    if (trace.isOn && loaded !== null) trace.mmio(vcpu, "read", pending.physAddr, loaded);
    vcpu.engine.completeWithoutMemory(loaded);
    this.#vm.instructions++;
  }

  /** Requests, checked before each entry. @returns an exit, what to wait for, or null to enter */
  #entry(vcpu: Vcpu): RunOutcome | Waitable | null {
    const vm = this.#vm;
    const { values } = vm.counters;
    if (vcpu.kicked) {
      values.signalExits++;
      vcpu.stats.signalExits++;
      // A signal ends a WFI: the next run goes on behind it.
      vcpu.waitsForInterrupt = false;
      vcpu.waitsForEvent = false;
      return INTERRUPTED;
    }
    const cleaned = vm.asyncClean?.takeNotice() ?? null;
    if (cleaned !== null) return { errno: null, exitReason: "KVM_EXIT_CLEANED", cleaned };
    const isSuspended = vcpu.mpState === KVM_MP_STATE.SUSPENDED;
    if (isSuspended && hasPendingInterrupt(vm, vcpu)) {
      const systemEvent = { type: SYSTEM_EVENT.WAKEUP, data: [] };
      return { errno: null, exitReason: "KVM_EXIT_SYSTEM_EVENT", systemEvent };
    }
    if (vcpu.mpState !== KVM_MP_STATE.RUNNABLE) {
      vm.putVcpu(vcpu);
      if (isSuspended) armWakeUp(vm, vcpu);
      return vcpu.wait;
    }
    if (isAsleep(vm, vcpu)) {
      vm.putVcpu(vcpu);
      armWakeUp(vm, vcpu);
      return vcpu.wait;
    }
    vm.timers.disarm(vcpu);
    vcpu.waitsForInterrupt = false;
    vcpu.waitsForEvent = false;
    if (vm.throttle.holds(vcpu)) {
      vm.putVcpu(vcpu);
      return vcpu.wait;
    }
    if (vm.missing?.holds(vcpu) === true) {
      vm.putVcpu(vcpu);
      return vcpu.wait;
    }
    applyReset(vcpu);
    if (shouldNotifyUser(vm, vcpu)) {
      if (vm.trace.isOn) vm.trace.lines(vcpu, outputLines(vcpu), vm.timerPpis);
      return INTERRUPTED;
    }
    if (this.#ringIsFull(vcpu)) {
      values.dirtyRingExits++;
      if (vm.trace.isOn) vm.trace.add("kvm_dirty_ring_exit", vcpu.id, {});
      return { errno: null, exitReason: "KVM_EXIT_DIRTY_RING_FULL" };
    }
    return vcpu.cpu === null && !this.#takeCpu(vcpu) ? vm.cpuFree : null;
  }

  /** Runs the guest until it leaves or its credit is used up. @returns what it cost */
  #guest(vcpu: Vcpu, credit: number): number {
    const vm = this.#vm;
    const cpu = loadedCpu(vcpu);
    vm.vgic.flush(vcpu, cpu);
    if (vm.trace.isOn) vm.trace.enter(vcpu);
    const before = vcpu.engine.retired;
    const dirtied = cpu.hardwareDirtied;
    const appended = cpu.hdbss.appends;
    // Those that sleep wake at their tick, not at the end of somebody's slice.
    const untilWake = vm.timers.instructionsLeft;
    const deferred = vm.asyncClean?.isPending === true ? vm.asyncClean : null;
    deferred?.enter(vcpu, cpu);
    const budget = Math.min(credit, untilWake, vm.throttle.instructionsLeft);
    this.#answered = 0;
    this.#stop =
      vcpu.a64 === null
        ? vcpu.engine.execute(cpu, budget)
        : vcpu.a64.execute(cpu, budget, () => this.#isRelaxed(vcpu, cpu));
    const retired = vcpu.engine.retired - before;
    // What comes of the guest's doing now happens after it.
    vm.instructions += retired;
    vm.vgic.fold(vcpu, cpu);
    deferred?.ran(vcpu, cpu);
    vm.counters.values.hwDirtied += cpu.hardwareDirtied - dirtied;
    vcpu.dirtied += cpu.hardwareDirtied - dirtied;
    vm.counters.values.hdbssAppends += cpu.hdbss.appends - appended;
    vcpu.isInGuest = this.#stop === "slice";
    if (this.#stop === "slice" && this.#queue.length > 0) vm.putVcpu(vcpu);
    if (vm.trace.isOn && vcpu.cpu === null) vm.trace.leave(vcpu, "IRQ");
    if (this.#stop === "line") return retired + EXIT_COST * this.#answered;
    return this.#stop === "slice" ? credit : retired + EXIT_COST * (1 + this.#answered);
  }

  /** A store's abort, which may be handled without an exit; it counts as one all the same. */
  #isRelaxed(vcpu: Vcpu, cpu: HostCpu): boolean {
    const { trace, counters } = this.#vm;
    const { ipa } = cpu.fault;
    if (!this.#mmu.relaxAtOnce(vcpu, cpu.fault)) return false;
    counters.values.exits++;
    vcpu.stats.exits++;
    this.#answered++;
    if (!trace.isOn) return true;
    trace.leave(vcpu, "TRAP");
    trace.fault(vcpu, ipa);
    trace.enter(vcpu);
    return true;
  }

  /** Handles an exit from the guest. @returns null to enter it again */
  *#exit(vcpu: Vcpu): Op<RunOutcome | null> {
    const vm = this.#vm;
    vm.counters.values.exits++;
    vcpu.stats.exits++;
    vm.vgic.exited(vcpu);
    if (vm.isHdbssOn) vm.hdbss?.exited(vcpu);
    if (vm.trace.isOn) vm.trace.leave(vcpu, "TRAP");
    if (this.#stop === "done") return { errno: null, exitReason: "KVM_EXIT_HLT" };
    if (this.#stop === "trap") return this.#trap(vcpu, vm);
    // A copy: the CPU may be another vCPU's by the next step.
    const { kind, level, ipa, isWrite, hdbssf } = loadedCpu(vcpu).fault;
    if (vm.trace.isOn) vm.trace.fault(vcpu, ipa);
    // The seed may take what HDBSS's own write ended in for the guest's.
    const isBlamed = kind === "external-abort" && vm.seedBugs.has("B15");
    if (hdbssf && vm.hdbss !== null && !isBlamed) return vm.hdbss.handleFault(vcpu, kind);
    if (isBlamed && vcpu.a64 === null) return this.#mmio(vcpu, ipa);
    if ((kind === "address-size" || isBlamed) && vcpu.a64 !== null) {
      vcpu.a64.injectExternalAbort(vcpu.a64.current.kind === "execute");
      return null;
    }
    const handled = yield* this.#mmu.handleAbort(vcpu, { kind, level, ipa, isWrite, hdbssf });
    if (handled.kind === "exit") return handled.outcome;
    if (handled.kind === "mmio") return this.#mmio(vcpu, ipa);
    if (handled.kind === "absent") {
      vm.missing?.wait(vcpu, handled.pa);
      return null;
    }
    if (vm.sched.contended) yield POINT["abort-marked"];
    return null;
  }

  /** handle_exit by exception class. */
  #trap(vcpu: Vcpu, vm: Vm): RunOutcome | null {
    const { a64 } = vcpu;
    assert(a64 !== null, "only guest code traps");
    const ec = Number(a64.esr >> 26n);
    if (ec === EC.hvc64 || ec === EC.smc64) {
      const isSmc = ec === EC.smc64;
      if (!isSmc) vcpu.stats.hvcExit++;
      if (vm.trace.isOn) traceCall(vm, a64, vcpu.id);
      // SMCCC reserves every other immediate of SMC; KVM doesn't look at HVC's.
      if (isSmc && (a64.esr & 0xffffn) !== 0n) {
        a64.pe.registers.setX(0, 2n ** 64n - 1n);
        return null;
      }
      return hypercall(vm, vcpu, a64.pe.registers, isSmc);
    }
    if (DEBUG_CLASSES.has(ec)) return debugExit(a64, ec);
    if (ec === EC.dataAbortLower || ec === EC.instructionAbortLower) return sea(vm, a64);
    if (ec === EC.sysreg) {
      vm.vgic.trap(vcpu, a64.esr);
      return null;
    }
    // kvm_handle_wfx. WFI waits. KVM lets a WFE alone where nobody else wants the CPU: it waits for
    // the event stream; without one what it waits for may be no event here, and it gives its turn.
    if (ec !== EC.wfx) return null;
    const isWfe = (a64.esr & 1n) !== 0n;
    if (vm.trace.isOn) {
      const fields = { vcpu_pc: a64.pe.registers.pc, is_wfe: isWfe };
      vm.trace.add("kvm_wfx_arm64", vcpu.id, fields);
    }
    if (isWfe) vcpu.stats.wfeExit++;
    else vcpu.stats.wfiExit++;
    vcpu.waitsForInterrupt = !isWfe;
    vcpu.waitsForEvent = isWfe && a64.pe.ticksToEvent() !== null;
    this.#spins = isWfe && !vcpu.waitsForEvent;
    if (this.#spins && this.#queue.length > 0) vm.putVcpu(vcpu);
    return null;
  }

  /** io_mem_abort: devices first, then userspace. */
  #mmio(vcpu: Vcpu, ipa: number): RunOutcome | null {
    const vm = this.#vm;
    const { engine, a64 } = vcpu;
    if (a64 !== null) {
      // Code and tables must be memory: the guest gets an external abort.
      if (a64.current.kind === "execute" || a64.current.walk) {
        a64.injectExternalAbort(a64.current.kind === "execute");
        return null;
      }
      if (!a64.isDescribed) return undescribed(vm, a64.esr, ipa);
    }
    const { isWrite, length } = engine.current;
    const physAddr = BigInt(ipa);
    const data = isWrite ? engine.storeBytes() : new Uint8Array(length);
    const type = isWrite ? "write" : "read-unsatisfied";
    const store = isWrite ? data : null;
    const direct = vm.passthrough?.(ipa, length, store) ?? null;
    // What is mapped into the guest is nobody's exit.
    if (vm.trace.isOn && direct === null) vm.trace.mmio(vcpu, type, physAddr, data);
    const loaded = direct ?? vm.vgic.mmio(vcpu, ipa, length, store);
    if (loaded !== null || (isWrite && vm.bus.write(physAddr, data))) {
      vm.counters.values.mmioExitKernel++;
      vcpu.stats.mmioExitKernel++;
      engine.completeWithoutMemory(isWrite ? null : loaded);
      vm.instructions++;
      return null;
    }
    vm.counters.values.mmioExitUser++;
    vcpu.stats.mmioExitUser++;
    const mmio: MmioExit = { physAddr, data, len: length, isWrite };
    return { errno: null, exitReason: "KVM_EXIT_MMIO", mmio };
  }

  /** kvm_dirty_ring_check_request: the request stays until a reset has made room. */
  #ringIsFull(vcpu: Vcpu): boolean {
    const { ring } = vcpu;
    if (ring === null || !ring.softFullRequested) return false;
    if (ring.isSoftFull()) return true;
    ring.softFullRequested = false;
    return false;
  }

  /** The ring is reaped outside of the guest, and off the CPU: others may have to drain there. */
  *#reap(vcpu: Vcpu, reaper: () => Op<void>): Op<void> {
    const { counters, trace } = this.#vm;
    counters.values.dirtyRingExits++;
    if (trace.isOn) trace.add("kvm_dirty_ring_exit", vcpu.id, {});
    this.#leaveQueue(vcpu);
    this.#vm.putVcpu(vcpu);
    yield* reaper();
  }

  /** First come, first served: a vCPU whose turn lasts must not take back what it gave up. */
  #takeCpu(vcpu: Vcpu): boolean {
    const vm = this.#vm;
    const place = this.#queue.indexOf(vcpu);
    const ahead = place < 0 ? this.#queue.length : place;
    const loaded = vm.vcpus.filter((other) => other.cpu !== null).length;
    const free = vm.host.cpus.length - vm.borrowed.size - loaded;
    const cpu = free > ahead && !vm.isHalted ? vm.freeCpu() : undefined;
    if (cpu === undefined) {
      if (place < 0) this.#queue.push(vcpu);
      if (place < 0) this.#queuedAt.set(vcpu, vm.ticks());
      return false;
    }
    if (place >= 0) this.#queue.splice(place, 1);
    const since = this.#queuedAt.get(vcpu);
    if (since !== undefined) vcpu.runDelayNs += Number(vm.ticks() - since);
    this.#queuedAt.delete(vcpu);
    vm.loadVcpu(vcpu, cpu);
    vm.pvTime?.update(vcpu);
    return true;
  }

  #leaveQueue(vcpu: Vcpu): void {
    const place = this.#queue.indexOf(vcpu);
    if (place < 0) return;
    this.#queue.splice(place, 1);
    this.#queuedAt.delete(vcpu);
    this.#vm.cpuFree.wake();
  }
}

const DEBUG_CLASSES: ReadonlySet<number> = new Set([
  EC.breakpointLower,
  EC.softwareStepLower,
  EC.watchpointLower,
  EC.brk64,
]);

function traceUserspaceExit({ trace }: Vm, { id }: Vcpu, { errno, exitReason }: RunOutcome): void {
  trace.add("kvm_userspace_exit", id, { reason: exitReason, errno: errno ?? "" });
}

/** Linux tells HVC alone; an SMC that reaches KVM is told the same way here. */
function traceCall({ trace }: Vm, { esr, pe }: A64Engine, vcpu: number): void {
  const { registers } = pe;
  const fields = { vcpu_pc: registers.pc, r0: registers.x(0), imm: Number(esr & 0xffffn) };
  trace.add("kvm_hvc_arm64", vcpu, fields);
}

/** kvm_handle_guest_debug. */
function debugExit({ esr, far }: A64Engine, ec: number): RunOutcome {
  const debug = { hsr: esr, far: ec === EC.watchpointLower ? far : 0n };
  return { errno: null, exitReason: "KVM_EXIT_DEBUG", debug };
}

function undescribed(vm: Vm, esr: bigint, ipa: number): RunOutcome {
  if (!vm.caps.nisvToUser) return { errno: "ENOSYS", exitReason: "KVM_EXIT_UNKNOWN" };
  const armNisv = { esrIss: esr & NISV_ISS, faultIpa: BigInt(ipa) };
  return { errno: null, exitReason: "KVM_EXIT_ARM_NISV", armNisv };
}

/** kvm_handle_guest_sea: userspace decides, or the guest gets an SError. */
function sea({ caps, pageSize }: Vm, a64: A64Engine): RunOutcome | null {
  if (!caps.seaToUser) {
    a64.pe.serror = SERROR_ISS_DEFAULT;
    return null;
  }
  const gpa = BigInt(a64.externalIpa - (a64.externalIpa % pageSize));
  const armSea = { flags: GPA_VALID, esr: a64.esr & SEA_ESR, gva: a64.far, gpa };
  return { errno: null, exitReason: "KVM_EXIT_ARM_SEA", armSea };
}

/** kvm_arm_pmu_v3_enable: a PMU that was asked for must be initialised before the first run. */
function isReadyToRun(vcpu: Vcpu): boolean {
  return !hasPmu(vcpu) || vcpu.pmuCreated;
}

function loadedCpu(vcpu: Vcpu): HostCpu {
  assert(vcpu.cpu !== null, "a vCPU in the guest is loaded");
  return vcpu.cpu;
}

/** The bytes of a load: what userspace gave, zeros beyond. */
function loadBytes(pending: MmioExit, data: Uint8Array | null): Uint8Array {
  const bytes = new Uint8Array(pending.len);
  if (data !== null) bytes.set(data.subarray(0, pending.len));
  return bytes;
}
