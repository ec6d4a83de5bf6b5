// Goal: what the kernel's arch_timer checks, over HTTP: virtual and physical timer of each vCPU, by
// CVAL and by TVAL, fire once each time, on their PPI, not before their time. Method: the guest
// arms a timer, sleeps, and its handler writes down INTID, CTL, counter and CVAL.
import { expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { unwire } from "../../support/irq-http.js";
import { serviceOfFile } from "../../support/irq-service.js";
import { armed, onTimer, readings, TIMERS } from "../../support/irq-timer.js";
import { startV3 } from "../../support/irq-v3.js";

const call = serviceOfFile("arch-timer");

const VCPUS = 2;
const ROUNDS = 5;
/** 1 ms of a counter of 1 GHz. */
const PERIOD = 1_000_000n;
const VIRTUAL = { clock: { mode: "virtual", nsPerInstruction: 1 } };
const [ENABLE, ISTATUS] = [1n, 4n];

it.each(TIMERS)("the $name timer fires on its PPI, by CVAL and by TVAL", async (timer) => {
  const onTaken = onTimer(timer);
  const { vm, cpus } = await startV3(call, { vcpus: VCPUS, onTaken, body: VIRTUAL });
  const attribute = `${vm.path}/vcpus/0/attributes/1/${timer.attr}`;
  const intid = Number(unwire((await call("GET", attribute)).body.value));
  expect(intid).toBe(timer.intid);
  for (let round = 0; round < ROUNDS; round++) {
    for (const by of ["cval", "tval"] as const) {
      // All vCPUs at once: each has timers of its own.
      await Promise.all(
        cpus.map(async (cpu) => {
          const start = await cpu.exec(a64.mrs(0, timer.count));
          const taken = await cpu.exec(...armed(timer, by, PERIOD, cpu.places.log));
          expect(taken).toBe(1n);
          const [id, control, count, cval] = await readings(cpu);
          expect(Number(id)).toBe(intid);
          expect(control! & (ENABLE | ISTATUS)).toBe(ENABLE | ISTATUS);
          expect(count!).toBeGreaterThanOrEqual(cval!);
          expect(cval! - start).toBeGreaterThanOrEqual(PERIOD);
        }),
      );
    }
  }
  await vm.delete();
});
