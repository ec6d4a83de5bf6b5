// Owns: taking exceptions to EL1, returning from them, and syndromes. VM thread.
// @source Arm ARM D1.3 (exceptions), D17.2.37 (ESR_ELx)
import { type PeRegisters, PSTATE_BIT } from "./registers.js";

/** ESR_ELx.EC. */
export const EC = {
  unknown: 0x00,
  wfx: 0x01,
  fpTrap: 0x07,
  illegalState: 0x0e,
  svc64: 0x15,
  hvc64: 0x16,
  smc64: 0x17,
  sysreg: 0x18,
  instructionAbortLower: 0x20,
  instructionAbortSame: 0x21,
  pcAlignment: 0x22,
  dataAbortLower: 0x24,
  dataAbortSame: 0x25,
  spAlignment: 0x26,
  serror: 0x2f,
  breakpointLower: 0x30,
  breakpointSame: 0x31,
  softwareStepLower: 0x32,
  softwareStepSame: 0x33,
  watchpointLower: 0x34,
  watchpointSame: 0x35,
  brk64: 0x3c,
} as const;

/** ESR_ELx.IL: the instruction has 32 bits. */
export const ESR_IL = 1n << 25n;
const EC_SHIFT = 26n;

export function esrOf(ec: number, iss: number): bigint {
  return (BigInt(ec) << EC_SHIFT) | ESR_IL | BigInt(iss);
}

/** Offsets within a group of vectors. */
export const VECTOR = { sync: 0x000, irq: 0x080, fiq: 0x100, serror: 0x180 } as const;
const EL1 = 1 << 2;
const FROM_SP0 = 0x000;
const FROM_SPX = 0x200;
const FROM_LOWER = 0x400;

/**
 * Takes an exception to EL1.
 * @param returns the preferred return address
 */
export function takeException(
  registers: PeRegisters,
  vector: number,
  returns: bigint,
  syndrome?: { readonly esr: bigint; readonly far?: bigint },
): void {
  const from = registers.pstate;
  const isLower = (from & PSTATE_BIT.EL) === 0;
  const group = isLower ? FROM_LOWER : (from & PSTATE_BIT.SP) !== 0 ? FROM_SPX : FROM_SP0;
  registers.set("SPSR_EL1", BigInt(registers.spsr));
  registers.set("ELR_EL1", returns);
  if (syndrome !== undefined) {
    registers.set("ESR_EL1", syndrome.esr);
    if (syndrome.far !== undefined) registers.set("FAR_EL1", syndrome.far);
  }
  registers.pstate = EL1 | PSTATE_BIT.SP | PSTATE_BIT.DAIF;
  registers.pc = registers.get("VBAR_EL1") + BigInt(group + vector);
}

const MODE = 0xf;
const AARCH32 = 1 << 4;
/** Modes that EL1 may return to: EL0t, EL1t, EL1h. */
const MODES: readonly number[] = [0b0000, 0b0100, 0b0101];

/**
 * ERET: PC from ELR, PSTATE from SPSR; an impossible mode sets PSTATE.IL and stays here.
 * @param returnsStepping whether PSTATE.SS is what SPSR says
 */
export function exceptionReturn(
  registers: PeRegisters,
  returnsStepping: (spsr: number, toEl: number) => boolean,
): void {
  const spsr = Number(registers.get("SPSR_EL1"));
  const target = registers.get("ELR_EL1");
  registers.clearExclusive();
  registers.event = true;
  const isIllegal = (spsr & AARCH32) !== 0 || !MODES.includes(spsr & MODE);
  const toEl = isIllegal ? registers.el : (spsr & PSTATE_BIT.EL) >>> 2;
  const ss = returnsStepping(spsr, toEl) ? PSTATE_BIT.SS : 0;
  if (isIllegal) {
    const { pstate } = registers;
    registers.nzcv = spsr >>> 28;
    registers.pstate = (pstate & MODE) | (spsr & PSTATE_BIT.DAIF) | ss | PSTATE_BIT.IL;
  } else registers.spsr = (spsr & ~PSTATE_BIT.SS) | ss;
  registers.pc = target;
}
