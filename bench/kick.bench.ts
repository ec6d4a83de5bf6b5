// Owns: how soon a kick ends a run: in wall time from the DELETE of the run until whoever waits for
// its exit has it, and inline in accesses that retire after the kick came.
import { Api } from "./support/client.js";
import { GIB, Guest, MIB } from "./support/guest.js";
import { startHost } from "./support/host-process.js";
import { allBits, InlineGuest } from "./support/inline.js";
import { quantile } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

/** One quantum at most (DESIGN 2). */
const ACCESSES_MAX = { on: "figure", at: "most", value: 20_000 } as const;

async function wallTime(context: BenchContext): Promise<void> {
  const host = await startHost(context);
  try {
    const guest = await Guest.create(host.api, { bytes: 4 * GIB });
    const waiting = await Api.open(host.port);
    for (const [what, window] of [
      ["it stores to dirty pages", 4 * MIB],
      ["it faults all the time", 4 * GIB],
    ] as const) {
      const times: number[] = [];
      for (let n = 0; n < (context.quick ? 10 : 300); n++) {
        await guest.program({ pattern: "uniform", bytes: window, count: 0 });
        const run = await guest.start();
        const exited = waiting.json<{ state: string }>("GET", `${run}?wait=30`);
        // Long enough that the wait is in place and the vCPU in the guest.
        await new Promise((resolve) => setTimeout(resolve, 5));
        const start = performance.now();
        await Promise.all([
          guest.api.json("DELETE", run),
          exited.then(() => times.push(performance.now() - start)),
        ]);
        if (n % 50 === 0) await guest.api.bytes("POST", guest.clearPath, allBits(guest.pages));
      }
      for (const [name, q] of [
        ["p50", 0.5],
        ["p99", 0.99],
      ] as const) {
        const figure = quantile(times, q);
        context.report({
          what: `DELETE of a run to its exit, ${what}, ${name}`,
          figure,
          unit: "ms",
        });
      }
    }
    waiting.close();
  } finally {
    await host.end();
  }
}

/**
 * The kick comes while a step is under way, at its very beginning: the worst moment, since it is
 * applied between two steps. Counts what all vCPUs retire from there to the exit.
 */
function accesses(context: BenchContext, vcpus: number, withClear: boolean): void {
  const bytes = GIB;
  const guest = new InlineGuest({ bytes, vcpus });
  const { vm } = guest.instance.machine.kvm;
  let most = 0;
  for (let n = 0; n < (context.quick ? 20 : 300); n++) {
    const runs = Array.from({ length: vcpus }, (_, vcpu) => {
      const window = n % 2 === 0 ? 4 * MIB : bytes;
      guest.stores(vcpu, { bytes: window, count: 0 }, "uniform");
      return guest.beginRun(vcpu);
    });
    const clear = withClear
      ? guest.begin("clearDirtyLog", {
          slot: 1,
          firstPage: 0n,
          numPages: guest.pages,
          bitmap: allBits(guest.pages),
        })
      : null;
    guest.instance.advance(7 + 13 * n, () => false);
    const before = vm.instructions;
    guest.instance.advance(1, () => false);
    const victim = n % vcpus;
    guest.call("kick", { vcpu: victim });
    const run = runs[victim];
    guest.advance(() => run?.done === true);
    most = Math.max(most, vm.instructions - before);
    for (let vcpu = 0; vcpu < vcpus; vcpu++) guest.call("kick", { vcpu });
    guest.advance(() => runs.every((one) => one.done) && (clear?.done ?? true));
  }
  guest.close();
  const who = vcpus === 1 ? "1 vCPU" : `${vcpus} vCPUs`;
  const during = withClear ? ", during a CLEAR" : "";
  const what = `accesses from a kick to the exit, ${who}${during}, most`;
  context.report({ what, figure: most, unit: "accesses", bar: ACCESSES_MAX });
}

export default async function kick(context: BenchContext): Promise<void> {
  await wallTime(context);
  for (const vcpus of [1, 4, 64]) {
    accesses(context, vcpus, false);
    accesses(context, vcpus, true);
  }
}
