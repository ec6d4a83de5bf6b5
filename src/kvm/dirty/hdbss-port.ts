// Owns: HDBSS as the rest of KVM sees it. VM thread.
import type { HostCpu, Stage2Fault } from "../../machine/index.js";
import type { Op } from "../sched/scheduler.js";
import type { RunOutcome, Vcpu } from "../vcpu.js";

export interface HdbssPort {
  /** kvm_vcpu_load_vhe: the CPU's registers become the vCPU's. */
  load(vcpu: Vcpu, cpu: HostCpu): void;
  /** kvm_vcpu_put_vhe: what was appended goes into the log. */
  put(vcpu: Vcpu, cpu: HostCpu): void;
  /** Whether the vCPU knows of its requests: it is in the kernel, or an IPI has arrived. */
  hasNoticed(vcpu: Vcpu): boolean;
  /** check_vcpu_requests. */
  serve(vcpu: Vcpu): Op<void>;
  /** The guest was left. */
  exited(vcpu: Vcpu): void;
  /** A stage-2 abort with HDBSSF. @returns null to enter the guest again */
  handleFault(vcpu: Vcpu, kind: Stage2Fault["kind"]): RunOutcome | null;
  /** kvm_arch_sync_dirty_log. @param how what it waits for; the policy by default */
  sync(how?: "wait-drain"): Op<void>;
  /** Does it with every vCPU outside of the guest, all of their entries in the log. */
  whileHeld(op: () => Op<void>): Op<void>;
  /** A reset made room in rings: what a vCPU out of the guest has still to push goes there. */
  ringsHaveRoom(): void;
  /** A vCPU is being created. @returns errno, or null */
  attach(vcpu: Vcpu): "ENOMEM" | "EINVAL" | null;
  /** Gives a vCPU's buffer back; the vCPU is gone. */
  destroyVcpu(vcpu: Vcpu): void;
  /** KVM_CAP_ARM_HW_DIRTY_STATE_TRACK, whatever it is called. */
  enableCap(flags: number, args: readonly bigint[]): Op<null>;
  /** KVM_CAP_ARM_HDBSS_BUFFER_SIZE. */
  setBufferSize(flags: number, args: readonly bigint[]): void;
  /**
   * Rings are about to come, after the first slots and before any vCPU. @returns the steps if
   * HDBSS has to give way, else null. @throws KvmError EINVAL userspace's HDBSS leaves no room
   */
  ringsCome(bytes: number): Op<null> | null;
  /** A slot that logs is about to become active. */
  loggingStarts(): Op<void>;
  /** The slots have changed. */
  slotsChanged(): Op<void>;
}
