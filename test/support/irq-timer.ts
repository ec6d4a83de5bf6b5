// Owns: guest code that arms a timer and notes what its interrupt found. Test process.
import * as a64 from "./a64.js";
import { letIn } from "./irq-code.js";
import type { HttpCpu } from "./irq-http.js";

export const TIMERS = [
  {
    name: "virtual",
    intid: 27,
    attr: "0x0",
    control: "CNTV_CTL_EL0",
    cval: "CNTV_CVAL_EL0",
    tval: "CNTV_TVAL_EL0",
    count: "CNTVCT_EL0",
    /** KVM_REG_ARM_TIMER_CNT. */
    countId: "0x603000000013df1a",
  },
  {
    name: "physical",
    intid: 30,
    attr: "0x1",
    control: "CNTP_CTL_EL0",
    cval: "CNTP_CVAL_EL0",
    tval: "CNTP_TVAL_EL0",
    count: "CNTPCT_EL0",
    /** KVM_REG_ARM_PTIMER_CNT. */
    countId: "0x603000000013df01",
  },
] as const;

export type Timer = (typeof TIMERS)[number];

const [LOG, TAKEN, SCRATCH] = [20, 21, 23];
const IMASK = 2n;
/** Where the handler's notes begin, behind the first INTID. */
const NOTES = 8;

/** Notes INTID, CTL, counter and CVAL, then turns the timer off. */
export function onTimer({ control, count, cval }: Timer): number[] {
  const notes = [control, count, cval].flatMap((register, n) => [
    a64.mrs(SCRATCH, register),
    a64.stur(SCRATCH, LOG, NOTES - 4 + 8 * (n + 1)),
  ]);
  const off = [...a64.mov(SCRATCH, IMASK), a64.msr(control, SCRATCH), a64.ISB];
  return [a64.stur(TAKEN, LOG, NOTES - 4), ...notes, ...off];
}

/** What the handler noted last. */
export async function readings(cpu: HttpCpu): Promise<bigint[]> {
  const view = await cpu.vm.memory(cpu.places.log + NOTES, 32);
  return [0, 8, 16, 24].map((at) => view.getBigUint64(at, true));
}

/** By CVAL or TVAL, so far from now; then it is on. */
export function arm(timer: Timer, by: "cval" | "tval", delta: bigint): number[] {
  const value =
    by === "tval"
      ? a64.mov(2, delta)
      : [a64.mrs(2, timer.count), ...a64.mov(3, delta), a64.addReg(2, 2, 3)];
  return [...value, a64.msr(timer[by], 2), ...a64.mov(2, 1n), a64.msr(timer.control, 2), a64.ISB];
}

/** Arms it and sleeps until it fires; X0: how many interrupts came. */
export function armed(timer: Timer, by: "cval" | "tval", delta: bigint, log: number): number[] {
  return [...arm(timer, by, delta), ...slept(log)];
}

export function slept(log: number): number[] {
  const count = [...a64.mov(1, BigInt(log)), a64.subReg(0, 0, 1), a64.lsr(0, 0, 2)];
  return [a64.WFI, ...letIn(log, 16), ...count];
}
