// Owns: what the run loop and vcpu_put need of deferred CLEARs. VM thread.
import type { HostCpu } from "../../machine/index.js";
import type { Op } from "../sched/scheduler.js";
import type { CleanedPages, Vcpu } from "../vcpu.js";

export interface DeferredClean {
  readonly isPending: boolean;
  /** Whether an exit has pages for software. */
  readonly hasRefused: boolean;
  /** A vCPU is about to enter the guest. */
  enter(vcpu: Vcpu, cpu: HostCpu): void;
  /** The guest ran. */
  ran(vcpu: Vcpu, cpu: HostCpu): void;
  put(vcpu: Vcpu, cpu: HostCpu): void;
  cleanRefused(): Op<void>;
  takeNotice(): CleanedPages | null;
  /** Nothing is left when it returns; it takes slots_lock. */
  drainAll(): Op<void>;
  /** HDBSS, and HACDBS with it, is off: nobody waits for a deadline. */
  hardwareWent(): void;
}
