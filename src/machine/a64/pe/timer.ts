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

const COUNTER_SPAN = 2n ** 64n;

/** Whether the timer is on and not masked: only then its line can be high. */
export function canFire(registers: PeRegisters, name: TimerName): boolean {
  // Asked at every exit: no BigInt.
  return (registers.low(TIMERS[name].ctl) & CAN_FIRE) === ENABLED;
}
const ENABLED = Number(CTL.ENABLE);
const CAN_FIRE = Number(CTL.ENABLE | CTL.IMASK);

/** Ticks until the condition of a timer that can fire is met; 0 or less: it is. */
export function ticksLeft(registers: PeRegisters, name: TimerName, counter: bigint): bigint {
  return registers.get(TIMERS[name].cval) - counter;
}

/** Ticks until a counter wraps: then a line that is high falls. */
export function ticksToWrap(counter: bigint): bigint {
  return COUNTER_SPAN - counter;
}

const EVNTEN = 1n << 2n;
const EVNTDIR = 1n << 3n;
const EVNTI_SHIFT = 4n;

/**
 * The event stream as a count of edges of the chosen counter bit since the counter was 0.
 * @returns null while the stream is off
 */
export function eventStreamEdges(registers: PeRegisters, counter: bigint): bigint | null {
  const control = registers.get("CNTKCTL_EL1");
  if ((control & EVNTEN) === 0n) return null;
  const bit = (control >> EVNTI_SHIFT) & 0xfn;
  const isFalling = (control & EVNTDIR) !== 0n;
  return (isFalling ? counter : counter + (1n << bit)) >> (bit + 1n);
}

/** Ticks until the next of these edges; null while the stream is off. */
export function ticksToEvent(registers: PeRegisters, counter: bigint): bigint | null {
  const control = registers.get("CNTKCTL_EL1");
  if ((control & EVNTEN) === 0n) return null;
  const period = 2n << ((control >> EVNTI_SHIFT) & 0xfn);
  const first = (control & EVNTDIR) !== 0n ? 0n : period / 2n;
  return period - ((counter - first + period) & (period - 1n));
}
