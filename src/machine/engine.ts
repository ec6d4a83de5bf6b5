// Owns: what KVM's run loop asks of a guest, whatever kind of engine executes it. VM thread.
import type { Saved } from "../base/saved.js";
import type { HostCpu } from "./host-cpu.js";

/**
 * Why execute() came back: its budget is used up; stage 2 refused an access (cpu.fault tells); an
 * instruction trapped to EL2; an interrupt line out of the PE changed; a synthetic program is over.
 */
export type Stop = "slice" | "abort" | "trap" | "line" | "done";

/** The access that waits for memory or for its emulation. */
export interface PendingAccess {
  readonly isWrite: boolean;
  /** Bytes. */
  readonly length: number;
}

export interface GuestEngine {
  readonly kind: "synthetic" | "a64";
  /** Accesses or instructions of one slice at most. */
  readonly sliceMax: number;
  /** Retired in the engine's life: accesses or instructions. */
  readonly retired: number;
  readonly current: PendingAccess;
  /** Whether an access waits to be tried again or completed. */
  readonly hasPending: boolean;
  execute(cpu: HostCpu, budget: number): Stop;
  /** Bytes of the store that aborted, in memory order. */
  storeBytes(): Uint8Array;
  /** Completes the aborted access without memory. @param loaded null for a store */
  completeWithoutMemory(loaded: Uint8Array | null): void;
  save(): Saved;
  load(saved: Saved): void;
}
