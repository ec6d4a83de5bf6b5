// Owns: the generic timer of a PE: conditions and lines, from its registers and a counter.
// VM thread.
// @source Arm ARM D12 (generic timer); kvm-uapi.md 10
import type { PeRegisters } from "./registers.js";

/** Ticks per second: one per nanosecond, so that virtual time is exact. */
export const COUNTER_HZ = 1_000_000_000n;

export const TIMERS = {
  virtual: { ctl: "CNTV_CTL_EL0", cval: "CNTV_CVAL_EL0" },
  physical: { ctl: "CNTP_CTL_EL0", cval: "CNTP_CVAL_EL0" },
} as const;
export type TimerName = keyof typeof TIMERS;

export const CTL = { ENABLE: 1n, IMASK: 2n, ISTATUS: 4n } as const;
const MASK_64 = 2n ** 64n - 1n;

/** CNTx_CTL as it reads: ISTATUS is there even when the timer is off. */
export function readControl(registers: PeRegisters, name: TimerName, counter: bigint): bigint {
  const { ctl, cval } = TIMERS[name];
  const value = registers.get(ctl) & (CTL.ENABLE | CTL.IMASK);
  return counter >= registers.get(cval) ? value | CTL.ISTATUS : value;
}

/** CNTx_TVAL: what is left, 32 bits. */
export function readTval(registers: PeRegisters, name: TimerName, counter: bigint): bigint {
  return (registers.get(TIMERS[name].cval) - counter) & 0xffff_ffffn;
}

export function writeTval(
  registers: PeRegisters,
  name: TimerName,
  counter: bigint,
  value: bigint,
): void {
  registers.set(TIMERS[name].cval, (counter + BigInt.asIntN(32, value)) & MASK_64);
}
