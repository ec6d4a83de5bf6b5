// Owns: the state of one vCPU as KVM keeps it. VM thread.
//
//   idle ──RUN──▶ running ──exit──▶ idle
//                 running ──STOPPED, or no host CPU──▶ blocked ──wake──▶ running
import type { ErrnoName } from "../base/errno.table.js";
import type { Saved } from "../base/saved.js";
import type { A64Engine, GuestEngine, Host, HostCpu } from "../machine/index.js";
import { SyntheticEngine } from "../machine/index.js";
import { copyOf, type HdbssBuffer } from "./dirty/hdbss-buffer.js";
import type { DirtyRing } from "./dirty-ring.js";
import type { ResetState } from "./firmware/guest.js";
import { applyGuestDebug, type GuestDebug } from "./guest-debug.js";
import { Waitable } from "./sched/scheduler.js";
import type { ExitReason } from "./uapi/exit.table.js";
import { KVM_MP_STATE } from "./uapi/flags.js";

export interface MmioExit {
  readonly physAddr: bigint;
  readonly data: Uint8Array;
  readonly len: number;
  readonly isWrite: boolean;
}

export interface ArmSea {
  /** Bit 0: gpa is valid. */
  readonly flags: bigint;
  readonly esr: bigint;
  readonly gva: bigint;
  readonly gpa: bigint;
}

/** The window of a deferred CLEAR. */
export interface CleanedPages {
  readonly slot: number;
  readonly firstPage: number;
  readonly numPages: number;
}

/** What KVM_RUN left in struct kvm_run, and its errno. */
export interface RunOutcome {
  readonly errno: ErrnoName | null;
  readonly exitReason: ExitReason;
  readonly mmio?: MmioExit;
  /** KVM_EXIT_SYSTEM_EVENT. */
  readonly systemEvent?: { readonly type: number; readonly data: readonly bigint[] };
  /** KVM_EXIT_HYPERCALL; the arguments are in X1 to X17. */
  readonly hypercall?: { readonly nr: bigint; readonly flags: bigint };
  readonly armNisv?: { readonly esrIss: bigint; readonly faultIpa: bigint };
  readonly armSea?: ArmSea;
  /** KVM_EXIT_DEBUG; far is a watchpoint's. */
  readonly debug?: { readonly hsr: bigint; readonly far: bigint };
  readonly memoryFault?: { readonly flags: bigint; readonly gpa: bigint; readonly size: bigint };
  /** KVM_EXIT_CLEANED: these pages may be copied now. */
  readonly cleaned?: CleanedPages;
}

export class Vcpu {
  readonly id: number;
  /** Creation order, from 0. */
  readonly index: number;
  /** Produces accesses until the vCPU is initialised for guest code. */
  readonly synthetic: SyntheticEngine;
  /** There from KVM_ARM_VCPU_INIT on. */
  a64: A64Engine | null = null;
  /** features[0] of KVM_ARM_VCPU_INIT without POWER_OFF; null: not initialised. */
  features: number | null = null;
  /** A PSCI CPU_ON that comes before the next look at the registers. */
  resetState: ResetState | null = null;
  /** In WFI until something is pending. */
  waitsForInterrupt = false;
  /** KVM_ARM_VCPU_PMU_V3_INIT was done. */
  pmuCreated = false;
  /** KVM_ARM_VCPU_PMU_V3_IRQ: INTID of its PMU's interrupt; null: it has none. */
  pmuIrq: number | null = null;
  /** IPA of the stolen-time record, or null. */
  pvtimeIpa: bigint | null = null;
  /** KVM_SET_GUEST_DEBUG, while it is enabled. */
  guestDebug: GuestDebug | null = null;
  /** KVM_SET_SIGNAL_MASK: bit n - 1 is signal n; null: none is set. */
  signalMask: bigint | null = null;
  /** What it waited for host CPUs so far, and how much of that its record has. */
  runDelayNs = 0;
  lastSteal = 0;
  /** Pages that it made dirty while they logged, by fault or in hardware. */
  dirtied = 0;
  /** What a throttle kept it from running. */
  throttledNs = 0;
  ring: DirtyRing | null = null;
  hdbss: HdbssBuffer | null = null;
  /** VCPU_REQUEST bits, served before the guest is entered. */
  requests = 0;
  /** Its turn ended inside of the guest: nothing reaches it but an IPI, or its next exit. */
  isInGuest = false;
  /** Scheduler step from which on an IPI has arrived; -1 for none. */
  ipiStep = -1;
  /** First gfn that a rescan still has to look at; -1 for no rescan. */
  rescanFrom = -1;
  mpState: number = KVM_MP_STATE.RUNNABLE;
  /** In WFE until the event stream, an event or an interrupt. */
  waitsForEvent = false;
  /** kvm_run.s.regs.device_irq_level: what userspace saw last; without an in-kernel chip only. */
  deviceIrqLevel = 0;
  /** kvm_run.exit_reason as the last run left it. */
  lastExit: ExitReason | null = null;
  /** An MMIO exit that the next run completes. */
  pendingMmio: MmioExit | null = null;
  running = false;
  /** Handling an exit: it holds what it looked up, so whoever needs a CPU takes another's. */
  isExiting = false;
  /** Exits by what became of them; GET_STATS_FD of the vCPU. */
  readonly stats = {
    exits: 0,
    mmioExitUser: 0,
    mmioExitKernel: 0,
    signalExits: 0,
    hvcExit: 0,
    wfeExit: 0,
    wfiExit: 0,
  };
  /** kvm_run.immediate_exit together with a signal. */
  kicked = false;
  cpu: HostCpu | null = null;
  readonly wait: Waitable;

  constructor(id: number, index: number, host: Host) {
    this.id = id;
    this.index = index;
    this.synthetic = new SyntheticEngine(host);
    this.wait = new Waitable(`vcpu-${id}`);
  }

  get engine(): GuestEngine {
    return this.a64 ?? this.synthetic;
  }

  /** Affinity as KVM gives it by the vCPU's id: 16 in a cluster. */
  get mpidr(): bigint {
    const { id } = this;
    const aff2 = id >>> 12; // tidy: bits of the affinity
    return BigInt((id & 0xf) | (((id >>> 4) & 0xff) << 8) | (aff2 << 16));
  }

  save(): Saved {
    const data = {
      id: this.id,
      mpState: this.mpState,
      lastExit: this.lastExit,
      pendingMmio: this.pendingMmio,
      running: this.running,
      kicked: this.kicked,
      cpu: this.cpu?.index ?? null,
      stats: { ...this.stats },
      features: this.features,
      resetState: this.resetState,
      waitsForInterrupt: this.waitsForInterrupt,
      waitsForEvent: this.waitsForEvent,
      deviceIrqLevel: this.deviceIrqLevel,
      pmuCreated: this.pmuCreated,
      pmuIrq: this.pmuIrq,
      pvtimeIpa: this.pvtimeIpa,
      guestDebug: this.guestDebug,
      signalMask: this.signalMask,
      runDelayNs: this.runDelayNs,
      lastSteal: this.lastSteal,
      dirtied: this.dirtied,
      throttledNs: this.throttledNs,
      engine: this.synthetic.save(),
      a64: this.a64?.save() ?? null,
      ring: this.ring?.save() ?? null,
      hdbss: this.hdbss === null ? null : copyOf(this.hdbss),
      requests: this.requests,
      isInGuest: this.isInGuest,
      ipiStep: this.ipiStep,
      rescanFrom: this.rescanFrom,
    };
    return { kind: `vcpu-${this.index}`, version: 1, data };
  }

  /** Restores an idle vCPU; its ring and program exist already. */
  load(saved: Saved): void {
    const data = saved.data as {
      mpState: number;
      lastExit: ExitReason | null;
      pendingMmio: MmioExit | null;
      stats: Vcpu["stats"];
      features: number | null;
      resetState: ResetState | null;
      waitsForInterrupt: boolean;
      waitsForEvent: boolean;
      deviceIrqLevel: number;
      pmuCreated: boolean;
      pmuIrq: number | null;
      pvtimeIpa: bigint | null;
      guestDebug: GuestDebug | null;
      signalMask: bigint | null;
      runDelayNs: number;
      lastSteal: number;
      dirtied: number;
      throttledNs: number;
      engine: Saved;
      a64: Saved | null;
      ring: Saved | null;
      hdbss: HdbssBuffer | null;
      requests: number;
      rescanFrom: number;
    };
    this.mpState = data.mpState;
    this.lastExit = data.lastExit;
    this.pendingMmio = data.pendingMmio;
    Object.assign(this.stats, data.stats);
    this.features = data.features;
    this.resetState = data.resetState;
    this.waitsForInterrupt = data.waitsForInterrupt;
    this.waitsForEvent = data.waitsForEvent;
    this.deviceIrqLevel = data.deviceIrqLevel;
    this.pmuCreated = data.pmuCreated;
    this.pmuIrq = data.pmuIrq;
    this.pvtimeIpa = data.pvtimeIpa;
    this.guestDebug = data.guestDebug;
    applyGuestDebug(this);
    this.signalMask = data.signalMask;
    this.runDelayNs = data.runDelayNs;
    this.lastSteal = data.lastSteal;
    this.dirtied = data.dirtied;
    this.throttledNs = data.throttledNs;
    this.synthetic.load(data.engine);
    if (data.a64 !== null) this.a64?.load(data.a64);
    if (data.ring !== null) this.ring?.load(data.ring);
    this.hdbss = data.hdbss === null ? null : copyOf(data.hdbss);
    this.requests = data.requests;
    this.rescanFrom = data.rescanFrom;
  }
}
