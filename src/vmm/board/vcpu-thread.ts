// Owns: the thread of a board's vCPU: KVM_RUN, and who gets its exits. VM thread.
import { KvmError } from "../../base/errors.js";
import type { Kvm, Op, RunOutcome, Vcpu } from "../../kvm/index.js";

/** What becomes of an exit. */
export interface Exits {
  /** The thread is told to end. */
  isHalting(): boolean;
  /** @returns what a load reads */
  mmio(mmio: NonNullable<RunOutcome["mmio"]>): Uint8Array | null;
  /** What a device asked of the memory map is done before its vCPU goes on. */
  settle(): Op<void>;
  systemEvent(vcpu: Vcpu, type: number): void;
  debugged(vcpu: Vcpu, debug: NonNullable<RunOutcome["debug"]>): void;
  ringFull(vcpu: Vcpu): void;
  cleaned(firstPage: bigint): void;
  /** Nobody can emulate what the guest did. */
  crash(vcpu: Vcpu, what: string): void;
}

/** KVM_RUN and its exits, until it is told to end. */
export function* vcpuThread(kvm: Kvm, vcpu: Vcpu, exits: Exits): Op<null> {
  let mmioData: Uint8Array | null = null;
  yield* exits.settle();
  for (;;) {
    // What was emulated is completed before the thread ends.
    if (exits.isHalting() && vcpu.pendingMmio === null) return null;
    let outcome: RunOutcome;
    try {
      outcome = yield* kvm.runs.run(vcpu, { immediateExit: exits.isHalting(), mmioData });
    } catch (error) {
      if (!(error instanceof KvmError)) throw error;
      exits.crash(vcpu, `${error.errno}: ${error.message}`);
      return null;
    }
    mmioData = null;
    if (outcome.errno === "EINTR") continue;
    if (outcome.mmio !== undefined) {
      mmioData = exits.mmio(outcome.mmio);
      yield* exits.settle();
    } else if (outcome.systemEvent !== undefined) exits.systemEvent(vcpu, outcome.systemEvent.type);
    else if (outcome.debug !== undefined) exits.debugged(vcpu, outcome.debug);
    else if (outcome.exitReason === "KVM_EXIT_DIRTY_RING_FULL") exits.ringFull(vcpu);
    else if (outcome.cleaned !== undefined) exits.cleaned(BigInt(outcome.cleaned.firstPage));
    else exits.crash(vcpu, `${outcome.exitReason}, ${outcome.errno ?? "no errno"}`);
  }
}
