// Owns: the state of one vCPU as KVM keeps it. VM thread.
//
//   idle ──RUN──▶ running ──exit──▶ idle
//                 running ──STOPPED, or no host CPU──▶ blocked ──wake──▶ running
import type { ErrnoName } from "../base/errno.table.js";
import type { Saved } from "../base/saved.js";
import type { Host, HostCpu } from "../machine/index.js";
import { SyntheticEngine } from "../machine/index.js";
import type { DirtyRing } from "./dirty-ring.js";
import { Waitable } from "./sched/scheduler.js";
import type { ExitReason } from "./uapi/exit.table.js";
import { KVM_MP_STATE } from "./uapi/flags.js";

export interface MmioExit {
  readonly physAddr: bigint;
  readonly data: Uint8Array;
  readonly len: number;
  readonly isWrite: boolean;
}

/** What KVM_RUN left in struct kvm_run, and its errno. */
export interface RunOutcome {
  readonly errno: ErrnoName | null;
  readonly exitReason: ExitReason;
  readonly mmio?: MmioExit;
  readonly memoryFault?: { readonly flags: bigint; readonly gpa: bigint; readonly size: bigint };
}

export class Vcpu {
  readonly id: number;
  /** Creation order, from 0. */
  readonly index: number;
  readonly engine: SyntheticEngine;
  ring: DirtyRing | null = null;
  mpState: number = KVM_MP_STATE.RUNNABLE;
  /** kvm_run.exit_reason as the last run left it. */
  lastExit: ExitReason | null = null;
  /** An MMIO exit that the next run completes. */
  pendingMmio: MmioExit | null = null;
  running = false;
  /** Exits by what became of them; GET_STATS_FD of the vCPU. */
  readonly stats = { exits: 0, mmioExitUser: 0, mmioExitKernel: 0, signalExits: 0 };
  /** kvm_run.immediate_exit together with a signal. */
  kicked = false;
  cpu: HostCpu | null = null;
  readonly wait: Waitable;

  constructor(id: number, index: number, host: Host) {
    this.id = id;
    this.index = index;
    this.engine = new SyntheticEngine(host);
    this.wait = new Waitable(`vcpu-${id}`);
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
      engine: this.engine.save(),
      ring: this.ring?.save() ?? null,
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
      engine: Saved;
      ring: Saved | null;
    };
    this.mpState = data.mpState;
    this.lastExit = data.lastExit;
    this.pendingMmio = data.pendingMmio;
    Object.assign(this.stats, data.stats);
    this.engine.load(data.engine);
    if (data.ring !== null) this.ring?.load(data.ring);
  }
}
