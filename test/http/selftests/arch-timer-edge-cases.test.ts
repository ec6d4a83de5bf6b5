// Goal: what the kernel's arch_timer_edge_cases checks, over HTTP, for both timers: what CVAL and
// TVAL say of one another at their limits, timers in the past and far ahead, a counter that
// userspace moves, masks, and arming anew. Method: one vCPU in virtual time.
import { beforeAll, describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import type { HttpCpu } from "../../support/irq-http.js";
import { serviceOfFile } from "../../support/irq-service.js";
import { arm, armed, onTimer, readings, slept, TIMERS } from "../../support/irq-timer.js";
import { startV3 } from "../../support/irq-v3.js";

const call = serviceOfFile("arch-timer-edge-cases");

const VIRTUAL = { clock: { mode: "virtual", nsPerInstruction: 1 } };
const TVAL_MAX = 0x7fff_ffffn;
const TVAL_MIN = 0x8000_0000n;
const U64_MAX = 2n ** 64n - 1n;
const MS = 1_000_000n;
/** Far from both ends. */
const MIDDLE = 2n ** 62n;
const CTL = { ENABLE: 1n, IMASK: 2n, ISTATUS: 4n } as const;

describe.each(TIMERS)("the $name timer", (timer) => {
  let cpu: HttpCpu;
  beforeAll(async () => {
    const v3 = await startV3(call, { onTaken: onTimer(timer), body: VIRTUAL });
    cpu = v3.cpus[0]!;
  });

  const get = (register: Parameters<typeof a64.mrs>[1]) => cpu.exec(a64.mrs(0, register));
  const set = async (register: Parameters<typeof a64.mrs>[1], value: bigint) => {
    await cpu.exec(...a64.mov(0, BigInt.asUintN(64, value)), a64.msr(register, 0), a64.ISB);
  };
  const now = () => get(timer.count);
  const tval = async () => BigInt.asIntN(32, await get(timer.tval));
  /** The timer is off, the counter is there. */
  const reset = async (count = MIDDLE) => {
    await set(timer.control, 0n);
    await cpu.setRegister(timer.countId, count);
  };
  const taken = async () => (await cpu.take()).length;

  it("has a TVAL that says how far CVAL is, in 32 bits", async () => {
    await reset();
    await set(timer.cval, (await now()) - 1n);
    expect(await tval()).toBeLessThan(0n);
    await set(timer.tval, -1n);
    expect(await get(timer.cval)).toBeLessThan(await now());
    await set(timer.cval, (await now()) + TVAL_MAX + 10n * MS);
    expect(await tval()).toBeLessThanOrEqual(0n);
    await set(timer.cval, (await now()) + 2n * TVAL_MAX + 10n * MS);
    expect(await tval()).toBeLessThanOrEqual(10n * MS);
    expect(await tval()).toBeGreaterThan(0n);
  });

  it("has a CVAL near its end for a TVAL below a small counter, and does not fire", async () => {
    await reset(MS);
    await set(timer.control, CTL.IMASK);
    await cpu.exec(...arm(timer, "tval", BigInt.asUintN(64, -10n * MS)));
    expect(await get(timer.cval)).toBeGreaterThanOrEqual(U64_MAX - 10n * MS);
    expect(await get(timer.control)).toBe(CTL.ENABLE);
    expect(await taken()).toBe(0);
  });

  it("has a TVAL that counts down through 0", async () => {
    await reset();
    await set(timer.tval, 0n);
    expect(await tval()).toBeLessThan(0n);
    await set(timer.tval, 1000n);
    const [first, second] = [await tval(), await tval()];
    expect(second).toBeLessThan(first);
  });

  it("fires after each delay, once, not before its time", async () => {
    await reset();
    for (const delta of [0n, 1n, 10n, MS, 10n * MS, TVAL_MAX - 1n, TVAL_MAX]) {
      for (const by of ["cval", "tval"] as const) {
        expect(await cpu.exec(...armed(timer, by, delta, cpu.places.log))).toBe(1n);
        const [intid, control, count, cval] = await readings(cpu);
        expect(intid).toBe(BigInt(timer.intid));
        expect(control).toBe(CTL.ENABLE | CTL.ISTATUS);
        expect(count!).toBeGreaterThanOrEqual(cval!);
      }
    }
  });

  it("doesn't fire early for a CVAL beyond 31 bits, but at it", async () => {
    await reset();
    const far = 4n * TVAL_MAX;
    await cpu.exec(...arm(timer, "cval", far));
    expect(await get(timer.control)).toBe(CTL.ENABLE);
    expect(await taken()).toBe(0);
    expect(await cpu.exec(...slept(cpu.places.log))).toBe(1n);
    const [, , count, cval] = await readings(cpu);
    expect(count!).toBeGreaterThanOrEqual(cval!);
  });

  it("fires at once in the past", async () => {
    await reset();
    const past = [
      ["cval", 0n],
      ["cval", 1n],
      ["tval", 0n],
      ["tval", -1n],
      ["tval", -10n * MS],
      ["tval", -TVAL_MIN],
    ] as const;
    for (const [by, value] of past) {
      await set(timer[by], value);
      await set(timer.control, CTL.ENABLE);
      expect([by, value, await taken()]).toEqual([by, value, 1]);
    }
  });

  it("fires when userspace moves the counter over it, and not when it moves it back", async () => {
    for (const by of ["cval", "tval"] as const) {
      await reset();
      await cpu.exec(...arm(timer, by, TVAL_MAX));
      expect(await taken()).toBe(0);
      await cpu.setRegister(timer.countId, await get(timer.cval));
      expect(await taken()).toBe(1);
      await reset();
      await cpu.exec(...arm(timer, by, 10_000n));
      await cpu.setRegister(timer.countId, MIDDLE / 2n);
      expect(await get(timer.control)).toBe(CTL.ENABLE);
      expect(await taken()).toBe(0);
    }
  });

  it("is silent while IMASK is set, and fires once without it", async () => {
    await reset();
    await set(timer.cval, 0n);
    await set(timer.control, CTL.ENABLE | CTL.IMASK);
    expect(await get(timer.control)).toBe(CTL.ENABLE | CTL.IMASK | CTL.ISTATUS);
    expect(await taken()).toBe(0);
    await set(timer.control, CTL.ENABLE);
    expect(await taken()).toBe(1);
  });

  it("fires by what it was armed with last", async () => {
    await reset();
    for (const [first, second] of [
      [MS, 10n * MS],
      [10n * MS, MS],
    ] as const) {
      for (const by of ["cval", "tval"] as const) {
        await cpu.exec(...arm(timer, by, first));
        const start = await now();
        expect(await cpu.exec(...armed(timer, by, second, cpu.places.log))).toBe(1n);
        const [, , count, cval] = await readings(cpu);
        expect(count!).toBeGreaterThanOrEqual(cval!);
        expect(cval! - start).toBeGreaterThanOrEqual(second);
        expect(cval! - start).toBeLessThan(second + MS);
      }
    }
  });

  it("fires ten times in a row", async () => {
    await reset();
    for (let n = 0; n < 10; n++) {
      expect(await cpu.exec(...armed(timer, "tval", MS, cpu.places.log))).toBe(1n);
    }
  });
});
