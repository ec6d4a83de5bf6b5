// Owns: what the system side of a PE needs of it, and the ways that an instruction may end.
// VM thread.
import type { CpuInterface } from "../../gic/gicv5/cpu-interface.js";
import type { VirtualInterface } from "../../gic/virtual-interface.js";
import type { SystemResult } from "../core.js";
import type { PeDebug } from "./debug.js";
import { EC, esrOf, takeException, VECTOR } from "./exception.js";
import type { Pmu } from "./pmu.js";
import type { PeRegisters } from "./registers.js";

/** What a TLBI reaches. */
export interface TlbiScope {
  /** Address, as Xt has it with its ASID; null: all of the regime, or of an ASID. */
  readonly va: bigint | null;
  readonly isBroadcast: boolean;
  /** Tables above the last level stay cached. */
  readonly isLastLevel: boolean;
}

/** What the system side needs of its PE. */
export interface SystemContext {
  readonly registers: PeRegisters;
  /** Whether an interrupt line is high that PSTATE doesn't mask any more. */
  readonly interruptPending: boolean;
  readonly irqInput: boolean;
  readonly fiqInput: boolean;
  /** The CPU interface behind the ICC registers; null without one. */
  readonly icc: VirtualInterface | null;
  /** The one of GICv5, for a guest that has it. */
  readonly gicv5: CpuInterface | null;
  /** ISS of the SError that waits, or null. */
  serror: number | null;
  readonly debug: PeDebug;
  /** The debug registers changed. */
  debugChanged(): void;
  /** The counter as the guest sees it. */
  counter(which: "virtual" | "physical"): bigint;
  /** SCTLR, TCR, TTBRn or MAIR changed. */
  translationChanged(): void;
  tlbi(scope: TlbiScope): void;
  readonly pmu: Pmu;
  /** Sets the event register for what the event stream did meanwhile. */
  updateEvents(): void;
  /** CNTKCTL_EL1 changed. */
  eventStreamChanged(): void;
  /** SEV: every PE's event register. */
  sendEvent(): void;
  /** AT: fills PAR_EL1. @returns false: stage 2 refused the walk, and the run is left */
  translateAddress(va: bigint, isWrite: boolean, isPrivileged: boolean): boolean;
  /** Leaves to EL2 with this syndrome; PC says where the guest goes on. */
  trap(esr: bigint): void;
}

export const INSTRUCTION_BYTES = 4n;

export function undefinedInstruction({ registers }: SystemContext): SystemResult {
  takeException(registers, VECTOR.sync, registers.pc, { esr: esrOf(EC.unknown, 0) });
  return "jump";
}

/** A trap to EL1 of something that EL0 may not do. */
export function trapToEl1({ registers }: SystemContext, ec: number, iss: number): SystemResult {
  takeException(registers, VECTOR.sync, registers.pc, { esr: esrOf(ec, iss) });
  return "jump";
}

/** Goes on after this instruction, or lets an interrupt in that was waiting for it. */
export function nextUnlessInterrupted(context: SystemContext): SystemResult {
  if (!context.interruptPending) return "next";
  context.registers.pc += INSTRUCTION_BYTES;
  return "leave-retired";
}

/** ISS of a trapped MSR, MRS or system instruction. */
export function sysregIss(word: number): number {
  const [op0, op1] = [(word >>> 19) & 3, (word >>> 16) & 7];
  const crn = (word >>> 12) & 15; // tidy: a bit position
  const [crm, op2] = [(word >>> 8) & 15, (word >>> 5) & 7];
  const rt = word & 31;
  const isRead = (word >>> 21) & 1;
  return (op0 << 20) | (op2 << 17) | (op1 << 14) | (crn << 10) | (rt << 5) | (crm << 1) | isRead;
}

/** Lines out of the PE are looked at between two instructions. */
export function lookAtLines({ registers }: SystemContext): SystemResult {
  registers.pc += INSTRUCTION_BYTES;
  return "leave-retired";
}
