// Owns: what an interrupt costs from its source to its end: irqfd and KVM_IRQ_LINE into a guest
// that sleeps, SGIs between vCPUs, and growth with vCPUs. In the bench's thread, virtual clock.
import { IrqGuest, type IrqGuestOptions } from "./support/irq.js";
import { timed } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

const MS_PER_S = 1000;
type Model = IrqGuestOptions["model"];

/** @returns interrupts/s of the fastest round: it is warm, and nobody else had the CPU */
function rate(context: BenchContext, perRound: number, round: () => void): number {
  const times = Array.from({ length: context.quick ? 4 : 40 }, () => timed(round));
  return (perRound / Math.min(...times)) * MS_PER_S;
}

const roundsOf = ({ quick }: BenchContext) => (quick ? 200 : 1000);

function check(what: string, found: number, wanted: number): void {
  if (found !== wanted) throw new Error(`${what}: ${found} interrupts instead of ${wanted}`);
}

/** Every vCPU's irqfd is signalled, each handler ends its interrupt, each resamplefd says so. */
function irqfd(context: BenchContext, model: Model, vcpus: number): number {
  const guest = new IrqGuest({ model, vcpus, config: "level", work: "nothing" });
  const lines = Array.from({ length: vcpus }, (_, cpu) => guest.resampler(cpu));
  const trips = roundsOf(context);
  let done = 0;
  const figure = rate(context, trips * vcpus, () => {
    for (let n = 0; n < trips; n++) {
      for (const line of lines) line.signal();
      guest.settle();
    }
    done += trips;
  });
  for (const [cpu, line] of lines.entries()) {
    check("resampled", line.acks(), done);
    check("taken", guest.taken(cpu), done);
  }
  guest.close();
  return figure;
}

/** KVM_IRQ_LINE, acknowledged and ended by the guest; no exit to userspace. */
function edge(context: BenchContext, model: Model, vcpus: number): number {
  const guest = new IrqGuest({ model, vcpus, config: "edge", work: "nothing" });
  const trips = roundsOf(context);
  let done = 0;
  const figure = rate(context, trips * vcpus, () => {
    for (let n = 0; n < trips; n++) {
      for (let cpu = 0; cpu < vcpus; cpu++) guest.setLine(cpu, 1);
      guest.settle();
    }
    done += trips;
  });
  for (let cpu = 0; cpu < vcpus; cpu++) check("edges", guest.taken(cpu), done);
  guest.close();
  return figure;
}

/** The handler stores to the device, which exits, and userspace lowers the line. */
function level(context: BenchContext, model: Model): number {
  const guest = new IrqGuest({ model, vcpus: 1, config: "level", work: "device-store" });
  const trips = roundsOf(context);
  let done = 0;
  const figure = rate(context, trips, () => {
    for (let n = 0; n < trips; n++) {
      guest.setLine(0, 1);
      guest.settle();
      guest.serveExit(0, () => guest.setLine(0, 0));
      guest.settle();
    }
    done += trips;
  });
  check("levels", guest.taken(0), done);
  guest.close();
  return figure;
}

/** vCPU to vCPU, round and round; one alone sends to itself. */
function sgi(context: BenchContext, model: Model, vcpus: number): number {
  const hops = roundsOf(context);
  const guest = new IrqGuest({ model, vcpus, config: "edge", work: "next-sgi", hops });
  let done = 0;
  // vCPU 0 takes its SPI first, then each SGI that comes round; it sends on all but the last.
  const figure = rate(context, (hops - 1) * vcpus, () => {
    guest.setLine(0, 1);
    guest.settle();
    guest.serveExit(0, () => {});
    guest.settle();
    done += hops;
  });
  check("SGIs", guest.taken(0), done);
  guest.close();
  return figure;
}

export default function irq(context: BenchContext): void {
  const report = (what: string, figure: number, unit: string, alone?: number) =>
    context.report({
      what,
      figure,
      unit,
      ...(alone === undefined ? {} : { ratio: figure / alone }),
    });
  const trips = "round trips/s";
  for (const model of ["v2", "v3"] as const) {
    const gic = `GIC${model}`;
    report(`KVM_IRQ_LINE, edge, IAR, EOI, ${gic}`, edge(context, model, 1), trips);
    report(`KVM_IRQ_LINE, level, with its device's exit, ${gic}`, level(context, model), trips);
    report(`irqfd to resamplefd, ${gic}`, irqfd(context, model, 1), trips);
    report(`SGI between two vCPUs, there and back, ${gic}`, sgi(context, model, 2) / 2, trips);
  }
  const ways = { "edge, IAR, EOI": edge, "irqfd to resamplefd": irqfd, "SGI to the next": sgi };
  for (const [what, way] of Object.entries(ways)) {
    let alone: number | undefined;
    for (const vcpus of [1, 2, 4, 8]) {
      const figure = way(context, "v3", vcpus);
      report(`${what}, ${vcpus} vCPU${vcpus === 1 ? "" : "s"}`, figure, "interrupts/s", alone);
      alone ??= figure;
    }
  }
}
